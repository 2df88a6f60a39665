"""What a meter measures: pulses of any interval of a generated load.

A generated load is a pure function of its seed and of the interval's number, so that a year from now can be
asked for without computing the year. Randomness is a hash of (seed, stream, number), never a running state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import lru_cache
from typing import Protocol

import holidays
import numpy as np
import numpy.typing as npt

from simulator.load.grid import DAY_S, EPOCH_DAY, day_number, local_seconds
from simulator.load.shapes import SHAPES, LoadShape

MAX_PULSES = 4095  # 12 bits (reference 8.2)
CHANNELS = 3
STANDARD_QUANTITIES = (1, 10, 11)  # kWh, kvarh inductive, kvarh capacitive (reference 9.1)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class PulseSource(Protocol):
    """Anything that can say how many pulses each interval of a meter counted."""

    @property
    def interval_s(self) -> int: ...

    @property
    def quantities(self) -> tuple[int, ...]:
        """Code of each channel; a multiple of three of them."""
        ...

    def pulses(self, first: int, count: int) -> Ints:
        """Pulses of intervals `first` .. `first + count - 1`, shape (count, channels), each 0..4095."""
        ...

    def variant(
        self, *, interval_s: int | None = None, quantities: tuple[int, ...] | None = None
    ) -> PulseSource | None:
        """The same load counted in other intervals or on other channels; None where that cannot be."""
        ...

    def load(self, interval: int) -> tuple[float, float]:
        """Mean active (kW) and reactive (kvar, inductive positive) power of one interval."""
        ...


# --- seeded noise ---------------------------------------------------------------------------------------


def uniform(seed: int, stream: int, number: Ints) -> Floats:
    """A number in [0, 1) for each integer: the finalizer of SplitMix64 over seed, stream and integer."""
    key = (seed * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03) & 0xFFFF_FFFF_FFFF_FFFF
    x = number.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def _smooth(seed: int, stream: int, seconds: Ints, period_s: int) -> Floats:
    """Noise in [-1, 1) that wanders over `period_s`: random knots, eased between. `seconds` ascend."""
    knot, rest = np.divmod(seconds, period_s)
    values = 2.0 * uniform(seed, stream, np.arange(knot[0], knot[-1] + 2, dtype=np.int64)) - 1.0
    at = knot - knot[0]
    t = rest / period_s
    t *= t * (3.0 - 2.0 * t)
    out: Floats = values[at] + (values[at + 1] - values[at]) * t
    return out


@lru_cache(maxsize=64)
def _holidays(year: int) -> frozenset[int]:
    return frozenset(day_number(day) for day in holidays.country_holidays("BR", years=year))


def holiday_days(first_day: int, last_day: int) -> frozenset[int]:
    """Day numbers of Brazil's national holidays in the years that the two day numbers lie in."""
    first_year, last_year = (date.fromordinal(n + EPOCH_DAY.toordinal()).year for n in (first_day, last_day))
    return frozenset().union(*(_holidays(year) for year in range(first_year, last_year + 1)))


_STEPS_PER_HOUR = 10


@lru_cache(maxsize=64)
def _tables(shape: LoadShape) -> Floats:
    """The four day types sampled each six minutes, shape (4, 241)."""
    hours = np.arange(24 * _STEPS_PER_HOUR + 1) / _STEPS_PER_HOUR
    kinds = (shape.weekday, shape.saturday, shape.sunday, shape.holiday or shape.sunday)
    corners = [np.array(kind, dtype=np.float64) for kind in kinds]
    return np.stack([np.interp(hours, kind[:, 0], kind[:, 1]) for kind in corners])


def _day_types(days: Ints) -> Ints:
    """0 working day, 1 Saturday, 2 Sunday, 3 national holiday."""
    weekday = (days + 3) % 7  # 1970-01-01 was a Thursday; Monday = 0
    kind = np.clip(weekday - 4, 0, 2)
    off = holiday_days(int(days[0]), int(days[-1]))
    return np.where(np.isin(days, np.fromiter(off, dtype=np.int64)), 3, kind)


@dataclass(frozen=True)
class LoadEvent:
    """Between two wall clock instants the load is held near `kw` whatever the shape says."""

    start: datetime
    end: datetime
    kw: float


@dataclass(frozen=True)
class GeneratedLoad:
    """A consumer's load as a meter with this constant counts it.

    Args:
        shape: a name in `SHAPES`.
        peak_kw: what the shape's 1.0 means; a day's highest intervals reach about 1.1 of it.
        kwh_per_pulse: energy of one pulse on every channel.
        seed: of the load. Two meters on one load share it.
        meter_seed: of the rounding to whole pulses, so that two meters on one load differ as real ones do.
        gain: the meter's own calibration.
    """

    shape: str
    peak_kw: float
    kwh_per_pulse: float
    seed: int
    interval_s: int = 300
    meter_seed: int = 0
    gain: float = 1.0
    events: tuple[LoadEvent, ...] = ()

    @property
    def quantities(self) -> tuple[int, ...]:
        """See `PulseSource`."""
        return STANDARD_QUANTITIES

    def variant(
        self, *, interval_s: int | None = None, quantities: tuple[int, ...] | None = None
    ) -> GeneratedLoad | None:
        """See `PulseSource`. Other channels need a `simulator.channels.ChannelLoad`."""
        if quantities not in (None, STANDARD_QUANTITIES):
            return None
        return self if interval_s is None else replace(self, interval_s=interval_s)

    def power(self, first: int, count: int) -> tuple[Floats, Floats]:
        """Mean kW and kvar (inductive positive) of each interval."""
        shape = SHAPES[self.shape]
        number = np.arange(first, first + count, dtype=np.int64)
        middle = number * self.interval_s + self.interval_s // 2
        day_of, second = np.divmod(middle, DAY_S)
        days = np.arange(day_of[0], day_of[-1] + 1, dtype=np.int64)
        which = day_of - days[0]
        at = second * (_STEPS_PER_HOUR / 3600.0)
        step = at.astype(np.int64)
        table, kind = _tables(shape), _day_types(days)[which]
        before = table[kind, step]
        fraction = before + (table[kind, step + 1] - before) * (at - step)
        if shape.cycling:
            on = _smooth(self.seed, 1, middle, shape.cycle_s) > 0.0
            fraction = fraction * (1.0 + shape.cycling * (on - 0.5))
        year_angle = 2.0 * np.pi * ((days % 365.25) - 20.0) / 365.25
        season = 1.0 - shape.summer * (1.0 - np.cos(year_angle)) / 2.0
        mood = 0.03 * (2.0 * uniform(self.seed, 3, days) - 1.0)
        spread = (
            1.0
            + 0.05 * _smooth(self.seed, 2, middle, 4 * DAY_S)
            + mood[which]
            + 0.03 * _smooth(self.seed, 4, middle, 7_200)
            + shape.noise * (2.0 * uniform(self.seed, 5, number) - 1.0)
        )
        kw = np.clip(self.peak_kw * fraction * spread * season[which], 0.0, 1.12 * self.peak_kw)
        for event in self.events:
            forced = (middle >= local_seconds(event.start)) & (middle < local_seconds(event.end))
            kw = np.where(forced, event.kw * (0.996 + 0.008 * uniform(self.seed, 6, number)), kw)
        phi = np.tan(np.arccos(shape.power_factor + 0.02 * _smooth(self.seed, 7, middle, 3_600)))
        kvar = kw * phi - shape.capacitors * self.peak_kw * np.where(kw > 0.0, 1.0, 0.0)
        return kw, kvar

    def pulses(self, first: int, count: int) -> Ints:
        """See `PulseSource`. Rounded by a seeded dither: no bias, and no state carried along."""
        if count <= 0:
            return np.zeros((0, CHANNELS), dtype=np.int64)
        kw, kvar = self.power(first, count)
        energy = np.stack([kw, np.maximum(kvar, 0.0), np.maximum(-kvar, 0.0)], axis=1)
        exact = energy * (self.gain * self.interval_s / 3600.0 / self.kwh_per_pulse)
        number = np.arange(first, first + count, dtype=np.int64)
        dither = np.stack(
            [uniform(self.seed, 10 + 16 * self.meter_seed + c, number) for c in range(CHANNELS)], axis=1
        )
        counted: Ints = np.minimum(np.floor(exact + dither), MAX_PULSES).astype(np.int64)
        return np.where(exact > 0.0, counted, 0)

    def load(self, interval: int) -> tuple[float, float]:
        """See `PulseSource`."""
        kw, kvar = self.power(interval, 1)
        return float(kw[0]), float(kvar[0])
