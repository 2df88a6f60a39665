"""Meters that speak by themselves: SSU blocks and CELESC packets of a load, and a line that damages them.

Pure. The load is any `PulseSource`, so the same one can be served over NBR 14522 and over a stream. Times are
the wall clock of the meter, in local seconds.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

import numpy as np

from faults import OperatorFault
from protocols.celesc import encode_packet
from protocols.celesc.catalogue import CelescMeter
from protocols.ssu import ExtendedBlock, Format, MixedBlock, NormalBlock
from protocols.ssu.blocks import MIXED_EPOCH, MIXED_ROTATION
from simulator.load.curves import PulseSource

_CLOSING_SECONDS = 3  # ssu.md 6: the closing block comes three times
_ACTIVE, _INDUCTIVE, _CAPACITIVE = 1, 10, 11
_SEGMENT = "fora_de_ponta"
_PHASE_V = 127.0
# What fits the fields of a mixed block.
_MOST_W, _MOST_A = 3276.7, 65.535
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - local seconds, without zone


class StreamOutput(Protocol):
    """What a meter says: `octets(second)` is what it begins to send in that local second, often nothing."""

    rate_bit_s: int

    def octets(self, second: int) -> bytes: ...


@dataclass
class SsuOutput:
    """One block a second.

    Args:
        pulse_wh: energy of a pulse, tc_ratio: of the current transformers; a mixed block tells both, and
            its powers and currents are those of their secondary side.
        mixed_hour_post: see `SsuSettings.mixed_hour_post`.
    """

    source: PulseSource
    block_format: Format = Format.EXTENDED
    pulse_wh: float = 36.0
    tc_ratio: int = 40
    serial: int = 12_345_678
    mixed_hour_post: str = "own"
    rate_bit_s: int = 110
    _number: int = -1
    _counts: tuple[int, int, int] = (0, 0, 0)
    _power: tuple[float, float] = (0.0, 0.0)

    def octets(self, second: int) -> bytes:
        interval_s = self.source.interval_s
        # The one frame of a mixed block that is known counts down from 899, not from 900 (ssu.md 4).
        ahead = second + (self.block_format is Format.MIXED)
        number, elapsed = divmod(ahead, interval_s)
        if elapsed < _CLOSING_SECONDS:
            return self._block(second, number - 1, interval_s)
        return self._block(second, number, elapsed)

    def _block(self, second: int, number: int, elapsed: int) -> bytes:
        if number != self._number:
            self._number, self._counts = number, _three(self.source, number, 1)
            self._power = self.source.load(number)
        interval_s = self.source.interval_s
        active, inductive, capacitive = (count * elapsed // interval_s for count in self._counts)
        is_capacitive = self._counts[2] > 0
        shared = _Shared(interval_s - elapsed, False, bool(number % 2), is_capacitive, not is_capacitive)
        if self.block_format is Format.MIXED:
            return self._mixed(second, shared, (active, inductive, capacitive, 0, 0, 0))
        if self.block_format is Format.EXTENDED:
            reactive = capacitive if is_capacitive else inductive
            quadrant = 4 if is_capacitive else 1
            return ExtendedBlock(*shared, _SEGMENT, quadrant, True, active, reactive).encode()
        return NormalBlock(*shared, _SEGMENT, "verde", True, active, inductive + capacitive).encode()

    def _mixed(self, second: int, shared: _Shared, counters: tuple[int, int, int, int, int, int]) -> bytes:
        active_w, reactive_var = (_within(one * 1000 / 3 / self.tc_ratio) for one in self._power)
        amps = min(math.hypot(active_w, reactive_var) / _PHASE_V, _MOST_A)
        at = _EPOCH + timedelta(seconds=second)
        rotation = (
            self.serial,
            10_000,
            self.tc_ratio * 10_000,
            round(self.pulse_wh / self.tc_ratio * 10_000),
        )
        place = int((at - MIXED_EPOCH).total_seconds()) % len(MIXED_ROTATION)
        return MixedBlock(
            seconds_left=shared.seconds_left,
            wiring="star",
            meter_time=at,
            rotating_field=MIXED_ROTATION[place],
            rotating_value=rotation[place] if place < len(rotation) else 0,
            voltages_v=(_PHASE_V, _PHASE_V, _PHASE_V),
            currents_a=(amps, amps, amps, 0.0),
            active_powers_w=(active_w, active_w, active_w),
            reactive_powers_var=(reactive_var, reactive_var, reactive_var),
            frequency_hz=60.0,
            bill_toggle=shared.bill_toggle,
            reactive_toggle=shared.reactive_toggle,
            is_capacitive=shared.is_capacitive,
            is_inductive=shared.is_inductive,
            is_reactive_tariff=True,
            segment=_SEGMENT,
            counters=counters,
        ).encode(self.mixed_hour_post)


class _Shared(NamedTuple):
    """What every block begins with, in the order of its fields."""

    seconds_left: int
    bill_toggle: bool
    reactive_toggle: bool
    is_capacitive: bool
    is_inductive: bool


def _within(power: float) -> float:
    """What the field of a power holds."""
    return max(-_MOST_W, min(_MOST_W, power))


@dataclass
class CelescOutput:
    """The packets of a model, one a second in turn; the registers count from local second `begun_s` on."""

    source: PulseSource
    kwh_per_pulse: tuple[int, int]
    meter: CelescMeter
    number: str
    begun_s: int
    start_kwh: int = 0
    digits: int = 5
    rate_bit_s: int = 2400
    _until: int = -1
    _totals: tuple[int, int, int] = (0, 0, 0)
    _running: tuple[int, int, int] = (0, 0, 0)
    _before: tuple[int, int, int] = (0, 0, 0)

    def octets(self, second: int) -> bytes:
        packets = self.meter.packets
        packet = packets[second % len(packets)]
        value = self.registers(second).get(packet.register, 0)
        digits = f"{value % 10**self.digits:06d}"
        return encode_packet(self.number, *packet.code, bytes.fromhex(digits))

    def registers(self, second: int) -> dict[str, int]:
        """Whole kWh and kvarh that the registers show; the load is even within an interval."""
        interval_s = self.source.interval_s
        number, elapsed = divmod(second, interval_s)
        first, early = divmod(self.begun_s, interval_s)
        if number != self._until:
            self._until = number
            self._totals = _three(self.source, first, number - first)
            self._running = _three(self.source, number, 1)
            self._before = _three(self.source, first, 1)
        num, den = self.kwh_per_pulse
        energy = [
            (total * interval_s + now * elapsed - before * early) * num // (den * interval_s)
            for total, now, before in zip(self._totals, self._running, self._before, strict=True)
        ]
        return {
            "active": self.start_kwh + energy[0],
            "inductive": energy[1],
            "capacitive": energy[2],
            "active_reverse": 0,
        }


def _three(source: PulseSource, first: int, count: int) -> tuple[int, int, int]:
    pulses = source.pulses(first, count).sum(axis=0, dtype=np.int64)
    by_code = dict(zip(source.quantities, pulses.tolist(), strict=True))
    return by_code.get(_ACTIVE, 0), by_code.get(_INDUCTIVE, 0), by_code.get(_CAPACITIVE, 0)


@dataclass
class BadLine:
    """Damages octets by chance, the same for the same seed: lost, doubled, changed, strange; cut records.

    Args:
        error_rate: chance of each octet to suffer; cut_rate: of each record to lose its end.
    """

    error_rate: float = 0.0
    cut_rate: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.error_rate <= 1 and 0 <= self.cut_rate <= 1):
            raise OperatorFault(
                "a rate is not within 0 and 1", where="simulated line", remedy="give a share, as 0.01"
            )
        self._rng = random.Random(self.seed)

    def pass_on(self, octets: bytes) -> bytes:
        """What arrives of a record."""
        if not self.error_rate and not self.cut_rate:
            return octets
        if self._rng.random() < self.cut_rate:
            octets = octets[: self._rng.randrange(len(octets) + 1)]
        arrived = bytearray()
        for octet in octets:
            if self._rng.random() >= self.error_rate:
                arrived.append(octet)
                continue
            match self._rng.randrange(4):
                case 0:
                    pass
                case 1:
                    arrived += bytes([octet, octet])
                case 2:
                    arrived.append(octet ^ 1 << self._rng.randrange(8))
                case _:
                    arrived += bytes([self._rng.randrange(256), octet])
        return bytes(arrived)
