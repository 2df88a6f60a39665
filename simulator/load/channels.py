"""Loads seen through other channels: whatever quantities a meter's channels are set to, from one load.

Reference 9.1 numbers the quantities. All of them follow from active and reactive power, phase voltage and a
site's own generation, so channels agree with each other: direct minus reverse energy is the load's balance,
apparent energy is what active and reactive give, current is what apparent power and voltage give.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from simulator.load.curves import MAX_PULSES, Floats, GeneratedLoad, Ints, uniform
from simulator.load.grid import DAY_S

PHASES = 3
# Small standing imbalances between the phases, as fractions of the mean; each sums to zero.
VOLTAGE_SKEW = (0.003, -0.005, 0.002)
LOAD_SKEW = (0.03, -0.045, 0.015)
SAG = 0.03
LIGHT_LOAD_VOLTAGE = 1.01
# Highest count of an interval that constants are chosen for: room for a load that grows.
_USUAL_MAX_PULSES = 2_000
_SUNRISE_H, _SUNSET_H = 6.0, 18.0


@dataclass(frozen=True)
class PhaseLoss:
    """Intervals `first` to `stop` - 1 in which the meter has no voltage on a phase (0 to 2): a TP's fuse.

    Its load goes on; the meter counts what the other elements see.
    """

    phase: int
    first: int
    stop: int


@dataclass(frozen=True)
class Electrical:
    """One run of intervals as the meter sees it: mean powers over each (kW, kvar; negative: reverse,
    capacitive), phase volts; `live`: by phase, 0 where it has no voltage."""

    kw: Floats
    kvar: Floats
    volts: Floats
    live: tuple[Floats, ...] = ()

    @property
    def kva(self) -> Floats:
        return np.hypot(self.kw, self.kvar)

    def phase_volts(self, phase: int) -> Floats:
        volts = self.volts * (1.0 + VOLTAGE_SKEW[phase])
        return volts * self.live[phase] if self.live else volts

    def phase_amperes(self, phase: int) -> Floats:
        volts = self.volts * (1.0 + VOLTAGE_SKEW[phase])
        amperes = 1000.0 * self.kva / PHASES * (1.0 + LOAD_SKEW[phase]) / volts
        if not self.live:
            return amperes
        seen = sum((one * (1.0 + LOAD_SKEW[k]) for k, one in enumerate(self.live)), np.zeros_like(volts))
        return np.asarray(amperes * PHASES / np.maximum(seen, 1e-9))

    @property
    def power_factor(self) -> Floats:
        return np.abs(self.kw) / np.maximum(self.kva, 1e-9)

    def reactive(self, *, inductive: bool, reverse: bool) -> Floats:
        kvar = np.maximum(self.kvar if inductive else -self.kvar, 0.0)
        return np.where((self.kw < 0.0) == reverse, kvar, 0.0)


Quantity = Callable[[Electrical], Floats]


def _phase(of: Callable[[Electrical, int], Floats], phase: int) -> Quantity:
    return lambda e: of(e, phase)


QUANTITIES: Mapping[int, Quantity] = MappingProxyType(
    {
        1: lambda e: np.maximum(e.kw, 0.0),
        2: lambda e: np.abs(e.kvar),
        3: lambda e: (np.maximum(e.kw, 0.0) + math.sqrt(3.0) * np.maximum(e.kvar, 0.0)) / 2.0,
        4: lambda e: e.volts**2,
        5: lambda e: e.phase_amperes(0) ** 2,
        8: lambda e: e.volts,
        9: lambda e: 1000.0 * e.kva / PHASES / e.volts,
        10: lambda e: e.reactive(inductive=True, reverse=False),
        11: lambda e: e.reactive(inductive=False, reverse=False),
        14: lambda e: np.maximum(-e.kw, 0.0),
        15: lambda e: e.reactive(inductive=True, reverse=True),
        16: lambda e: e.reactive(inductive=False, reverse=True),
        **{17 + phase: _phase(Electrical.phase_volts, phase) for phase in range(PHASES)},
        **{20 + phase: _phase(Electrical.phase_amperes, phase) for phase in range(PHASES)},
        23: lambda e: e.power_factor,
        25: lambda e: e.kva,
    }
)
"""Code to value; its hours are what the channel counts (kWh of kW, Vh of V). Other codes stand still."""

NAMES: Mapping[str, int] = MappingProxyType(
    {
        "kwh": 1,
        "kvarh": 2,
        "kqh": 3,
        "v2h": 4,
        "i2h": 5,
        "off": 6,
        "vh": 8,
        "ih": 9,
        "kvarh-ind": 10,
        "kvarh-cap": 11,
        "kwh-rev": 14,
        "kvarh-ind-rev": 15,
        "kvarh-cap-rev": 16,
        "vh-a": 17,
        "vh-b": 18,
        "vh-c": 19,
        "ih-a": 20,
        "ih-b": 21,
        "ih-c": 22,
        "pfh": 23,
        "kvah": 25,
    }
)


@dataclass(frozen=True)
class ChannelLoad:
    """A generated load on any channels; a `PulseSource`.

    Args:
        base: gives power; its own constant is not used.
        quantities: code of each channel, a multiple of three of them.
        per_pulse: unit-hours of one pulse of each channel, as numerator and denominator.
        generation_kw: peak of the site's own solar plant: at noon the balance may be reverse.
        phase_voltage_v, rated_kw: the voltage, and the load at which it has sagged most.
        phase_losses: phases that the meter does not see for a time.
    """

    base: GeneratedLoad
    quantities: tuple[int, ...]
    per_pulse: tuple[tuple[int, int], ...]
    generation_kw: float = 0.0
    phase_voltage_v: float = 127.0
    rated_kw: float = 0.0
    phase_losses: tuple[PhaseLoss, ...] = ()

    @property
    def interval_s(self) -> int:
        return self.base.interval_s

    def electrical(self, first: int, count: int) -> Electrical:
        """What the meter sees in intervals `first` .. `first + count - 1`."""
        kw, kvar = self.base.power(first, count)
        if self.generation_kw:
            kw = kw - self._generation(first, count)
        loading = np.abs(kw) / (self.rated_kw or self.base.peak_kw)
        volts = self.phase_voltage_v * (LIGHT_LOAD_VOLTAGE - SAG * np.minimum(loading, 1.2))
        if not self.phase_losses:
            return Electrical(kw, kvar, volts)
        live = self._live(first, count)
        seen = sum((one * (1.0 + LOAD_SKEW[k]) for k, one in enumerate(live)), np.zeros(count)) / PHASES
        return Electrical(kw * seen, kvar * seen, volts, live)

    def _live(self, first: int, count: int) -> tuple[Floats, ...]:
        live = tuple(np.ones(count) for _ in range(PHASES))
        for loss in self.phase_losses:
            live[loss.phase][max(loss.first - first, 0) : max(loss.stop - first, 0)] = 0.0
        return live

    def is_live(self, phase: int, interval: int) -> bool:
        """Whether the meter has voltage on a phase."""
        lost = (one for one in self.phase_losses if one.phase == phase)
        return not any(one.first <= interval < one.stop for one in lost)

    def pulses(self, first: int, count: int) -> Ints:
        """See `PulseSource`."""
        if count <= 0:
            return np.zeros((0, len(self.quantities)), dtype=np.int64)
        seen = self.electrical(first, count)
        number = np.arange(first, first + count, dtype=np.int64)
        hours = self.interval_s / 3600.0
        counted = np.zeros((count, len(self.quantities)), dtype=np.int64)
        for channel, (code, (num, den)) in enumerate(zip(self.quantities, self.per_pulse, strict=True)):
            quantity = QUANTITIES.get(code)
            if quantity is None:
                continue
            exact = quantity(seen) * (hours * self.base.gain * den / num)
            dither = uniform(self.base.seed, 100 + 64 * self.base.meter_seed + code, number)
            counted[:, channel] = np.where(exact > 0.0, np.floor(exact + dither), 0.0)
        return np.minimum(counted, MAX_PULSES)

    def load(self, interval: int) -> tuple[float, float]:
        """See `PulseSource`."""
        seen = self.electrical(interval, 1)
        return float(seen.kw[0]), float(seen.kvar[0])

    def variant(
        self, *, interval_s: int | None = None, quantities: tuple[int, ...] | None = None
    ) -> ChannelLoad:
        """See `PulseSource`. Constants stay with their channels."""
        base = self.base if interval_s is None else replace(self.base, interval_s=interval_s)
        return replace(self, base=base, quantities=quantities or self.quantities)

    def _generation(self, first: int, count: int) -> Floats:
        number = np.arange(first, first + count, dtype=np.int64)
        hour = (number * self.interval_s + self.interval_s // 2) % DAY_S / 3600.0
        height = np.clip((hour - _SUNRISE_H) / (_SUNSET_H - _SUNRISE_H), 0.0, 1.0)
        clouds = 0.75 + 0.25 * uniform(self.base.seed, 90, number * self.interval_s // 900)
        return self.generation_kw * np.sin(np.pi * height) ** 1.3 * clouds


def channel_load(
    load: GeneratedLoad,
    quantities: tuple[int, ...],
    *,
    phase_voltage_v: float = 127.0,
    generation_kw: float = 0.0,
) -> ChannelLoad:
    """The load on these channels, with constants that suit its size."""
    peak_kw = 1.12 * max(load.peak_kw, generation_kw)
    signs = np.array([1.0, 1.0, -1.0, -1.0])
    most = Electrical(
        peak_kw * signs, peak_kw * np.array([1.0, -1.0, 1.0, -1.0]), 1.05 * phase_voltage_v * np.abs(signs)
    )
    hours = load.interval_s / 3600.0
    per_pulse = []
    for code in quantities:
        quantity = QUANTITIES.get(code)
        largest = 0.0 if quantity is None else float(quantity(most).max()) * hours
        per_pulse.append(_round_constant(largest / _USUAL_MAX_PULSES))
    return ChannelLoad(
        load, quantities, tuple(per_pulse), generation_kw, phase_voltage_v, rated_kw=load.peak_kw
    )


def _round_constant(at_least: float) -> tuple[int, int]:
    """The next 1, 2 or 5 times a power of ten, as the two six-digit numbers that a meter states."""
    if at_least <= 0.0:
        return 1, 1
    exponent = max(math.floor(math.log10(at_least)), -5)
    step = next((step for step in (1, 2, 5) if step * 10.0**exponent >= at_least * (1 - 1e-9)), 10)
    if step == 10:
        step, exponent = 1, exponent + 1
    return (step, 10**-exponent) if exponent < 0 else (step * 10**exponent, 1)
