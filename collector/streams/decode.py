"""From a stream of octets to interval readings, for SSU and CELESC. Pure: same octets, same readings."""

from __future__ import annotations

import statistics
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, tzinfo
from fractions import Fraction
from typing import Any, NamedTuple, Protocol

from collector.decoded import (
    Issue,
)
from collector.streams.profiles import SSU, StreamProfile
from faults import DeveloperFault
from protocols.acquisition import Holds, StatedColumn, StatedTotal
from protocols.captures import Chunk
from protocols.celesc import CelescStream, Packet, Register, StepKind, encode_packet
from protocols.celesc.packets import HEAD
from protocols.celesc.totals import max_energy_kwh
from protocols.skipped import SkippedRun
from protocols.ssu import BlockFound, IntervalAssembler, IntervalReading, SsuStream
from protocols.ssu.blocks import Format, MixedBlock, counter_place
from protocols.ssu.intervals import CLOCK_SAMPLES

# Channels and quantity codes as NBR 14522 numbers them (nbr14522.md 9.1), so that a meter that is read in
# another way later continues the same series.
SSU_CHANNELS: Mapping[str, tuple[int, int]] = {
    "active": (1, 1),
    "reactive": (2, 2),
    "R1": (1, 1),
    "R3": (2, 10),
    "R6": (3, 11),
    "R2": (4, 14),
    "R5": (5, 15),
    "R4": (6, 16),
}
CELESC_CHANNELS: Mapping[str, tuple[int, int]] = {
    "active": (1, 1),
    "inductive": (2, 10),
    "capacitive": (3, 11),
    "active_reverse": (4, 14),
}
# What an extended block shows whatever the meter is: direct flow. Those of reverse flow, which most meters do
# not have, have channels once one of them has shown.
DIRECT_REGISTERS = frozenset({"R1", "R3", "R6"})
REVERSE_REGISTERS = frozenset({"R2", "R4", "R5"})
_REVERSE_FACT = "has_reverse"
# Silence after which a register's last value no longer stands for now (celesc_serial.md 2: 10 to 15 s).
FRESH_S = 15.0
REGISTER_DIGITS_SENT = 6
# Blocks with a set unused bit, before they cannot be an accident of a bad line.
SUSPECTS_TOLD = 30
# CELESC's registers: whole kWh and kvarh, their constant is 1 (celesc_serial.md 6).
UNIT_WH = Fraction(1000)
_ACTIVE = frozenset({1, 14})


@dataclass(frozen=True, slots=True)
class Record:
    """A block or a packet as it came.

    Attributes:
        offset: of its first octet in the stream; at_s: arrival of that octet.
        first, count: the octets that carry the value, from 0.
    """

    offset: int
    at_s: float
    octets: bytes
    first: int
    count: int
    value: int


@dataclass(frozen=True, slots=True)
class Slot:
    """One interval of one channel: its end in seconds since 1970, and its pulses.

    Attributes:
        told_by: the record that carries the count, or those of the register at its start and end; none where
            a register has not shown, and so has counted nothing.
    """

    end_s: float
    channel: int
    quantity_code: int
    pulses: int
    told_by: tuple[Record, ...] = field(default=(), compare=False)


@dataclass
class Quality:
    """What became of the octets.

    Attributes:
        good: blocks or packets; skipped: octets by reason; last_good_s: arrival of the newest good one.
    """

    octets: int = 0
    good: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    last_good_s: float | None = None

    @property
    def skipped_share(self) -> float:
        """Of all octets."""
        return sum(self.skipped.values()) / self.octets if self.octets else 0.0


class StreamDecoder(Protocol):
    """Octets in, closed intervals out."""

    quality: Quality
    issues: list[Issue]
    meter_number: str | None

    @property
    def clock_error_s(self) -> float | None:
        """Meter minus receiver; None where the stream tells no time."""

    @property
    def is_stranger(self) -> bool:
        """Whether only another meter was heard."""

    def feed(self, chunk: Chunk) -> list[Slot]: ...

    def registers(self) -> dict[int, tuple[int, float]]:
        """Totals by channel with their arrival; empty where the stream has none."""

    def shown(self) -> dict[str, object]:
        """The newest values, for a person who watches."""

    def stated(self) -> tuple[tuple[StatedColumn, ...], tuple[StatedTotal, ...]]:
        """What the stream states of its channels, and where running totals stood."""

    def facts(self) -> dict[str, object]:
        """What the head of the next session has to tell, so that it can be decoded alone."""


class Trouble:
    """The first trouble of each kind and day, as quarantine keeps it: a line may make thousands of each."""

    def __init__(self, zone: tzinfo | None) -> None:
        self._zone = zone or UTC
        self._told: set[tuple[str, date]] = set()

    def tell(self, issues: list[Issue], reason: str, at_s: float, detail: dict[str, Any]) -> None:
        day = datetime.fromtimestamp(at_s, self._zone).date()
        if (reason, day) not in self._told:
            self._told.add((reason, day))
            issues.append(Issue("decode", reason, detail, day))


class SsuDecoder:
    """SSU: counters that begin again with each interval (ssu.md 6).

    A mixed block also tells the meter's time and, now and then, a serial number. The latter is told and not
    compared with the registry's: one source describes it (section 4).
    """

    is_stranger = False

    def __init__(
        self,
        profile: StreamProfile,
        interval_s: int,
        zone: tzinfo | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        if profile.ssu is None:
            raise DeveloperFault("no model", where=profile.name, remedy="name one of the catalogue")
        settings = replace(profile.ssu.settings, interval_s=interval_s)
        self._stream = SsuStream(settings, profile.ssu.formats)
        self._assembler = IntervalAssembler(settings)
        self._newest: BlockFound | None = None
        self._interval_s = interval_s
        self._suspects = 0
        self._knows_reverse = bool(facts and facts.get(_REVERSE_FACT) == "yes")
        self._zone = zone
        self._trouble = Trouble(zone)
        self._clock_errors: deque[float] = deque(maxlen=CLOCK_SAMPLES)
        self.quality = Quality()
        self.issues: list[Issue] = []
        self.meter_number: str | None = None

    @property
    def clock_error_s(self) -> float | None:
        """Meter minus receiver: positive when the meter is fast. Without a told time, modulo the interval."""
        if self._clock_errors:
            return statistics.median(self._clock_errors)
        slow = self._assembler.clock_error_s
        return None if slow is None else -slow

    def feed(self, chunk: Chunk) -> list[Slot]:
        self.quality.octets += len(chunk.octets)
        self._stream.receive(chunk.octets, chunk.at_s)
        slots: list[Slot] = []
        while (event := self._stream.next_event()) is not None:
            if isinstance(event, BlockFound):
                self.quality.good += 1
                self.quality.last_good_s = event.arrived_at_s
                self._newest = event
                if event.block.suspects:
                    self._note_suspect(event)
                if isinstance(event.block, MixedBlock):
                    self._note_mixed(event.block, event.arrived_at_s)
                for output in self._assembler.feed(event):
                    if isinstance(output, IntervalReading):
                        slots += self._slots(output, event)
            elif isinstance(event, SkippedRun):
                self.quality.skipped[event.reason] += event.count
        return slots

    def _note_suspect(self, found: BlockFound) -> None:
        self._suspects += 1
        if self._suspects == SUSPECTS_TOLD and found.arrived_at_s is not None:
            detail = {"bits": ", ".join(found.block.suspects), "octets": found.octets.hex()}
            reason = "blocks with set unused bits are kept and close no interval"
            self._trouble.tell(self.issues, reason, found.arrived_at_s, detail)

    def _note_mixed(self, block: MixedBlock, arrived_at_s: float | None) -> None:
        if block.rotating_field == "serial_number":
            self.meter_number = str(block.rotating_value)
        if self._zone is not None and arrived_at_s is not None:
            told_s = block.meter_time.replace(tzinfo=self._zone).timestamp()
            self._clock_errors.append(told_s - arrived_at_s)

    def _slots(self, reading: IntervalReading, found: BlockFound) -> list[Slot]:
        if reading.pulses.keys() & REVERSE_REGISTERS:
            self._knows_reverse = True
        if reading.doubt is not None:
            detail = {"end_s": reading.end_s, "at_least": reading.pulses}
            self._trouble.tell(self.issues, reading.doubt.value, reading.end_s - self._interval_s, detail)
            return []
        pulses = dict(reading.pulses)
        if found.block.format is not Format.NORMAL and not reading.has_holes:
            # Present since the rollover: a register that showed in no block has counted nothing.
            known = DIRECT_REGISTERS | (REVERSE_REGISTERS if self._knows_reverse else frozenset())
            pulses = dict.fromkeys(known, 0) | pulses
        return [
            Slot(reading.end_s, *SSU_CHANNELS[name], count, _block_record(reading, name))
            for name, count in sorted(pulses.items())
        ]

    def registers(self) -> dict[int, tuple[int, float]]:
        return {}

    def stated(self) -> tuple[tuple[StatedColumn, ...], tuple[StatedTotal, ...]]:
        """Nothing: the constant of its pulses stands on the meter's plate only (ssu.md 6)."""
        return (), ()

    def facts(self) -> dict[str, object]:
        return {_REVERSE_FACT: "yes"} if self._knows_reverse else {}

    def shown(self) -> dict[str, object]:
        if self._newest is None:
            return {}
        block = self._newest.block
        shown: dict[str, object] = {
            "format": block.format.value,
            "seconds_left": block.seconds_left,
            **block.registers,
            "segment": block.segment,
            "suspects": ", ".join(block.suspects),
        }
        if isinstance(block, MixedBlock):
            shown |= {
                "meter_number": self.meter_number,
                "meter_time": block.meter_time.isoformat(),
                "voltages_v": block.voltages_v,
                "currents_a": block.currents_a,
                "active_powers_w": block.active_powers_w,
                "reactive_powers_var": block.reactive_powers_var,
            }
        return shown


def _block_record(reading: IntervalReading, name: str) -> tuple[Record, ...]:
    found = reading.told_by.get(name)
    if found is None or found.arrived_at_s is None:
        return ()
    first, count = counter_place(found.block, name)
    value = found.block.registers[name]
    return (Record(found.offset, found.arrived_at_s, found.octets, first, count, value),)


@dataclass
class _Total:
    """A register followed: energy since the first value, and where it stood at the last interval's end."""

    register: Register
    channel: int
    quantity_code: int
    total: int = 0
    first: Record | None = None
    last: Record | None = None
    at_end: _AtEnd | None = None


class _AtEnd(NamedTuple):
    end_s: float
    total: int
    record: Record


class CelescDecoder:
    """CELESC: registers of whole kWh and kvarh; an interval is the difference at its ends (section 6).

    The value at an interval's end is the last one before it, if not older than `FRESH_S`.
    """

    clock_error_s: float | None = None  # the packet has no clock

    def __init__(
        self, profile: StreamProfile, interval_s: int, serial: str | None = None, zone: tzinfo | None = None
    ) -> None:
        if profile.meter is None:
            raise DeveloperFault("no meter model", where=profile.name, remedy="name one of the catalogue")
        self._meter = profile.meter
        self._interval_s = interval_s
        self._zone = zone or UTC
        self._trouble = Trouble(zone)
        self._serial = None if serial is None else serial.rjust(10, "0")
        self._stream = CelescStream()
        self._totals: dict[tuple[int, int], _Total] = {}
        self.quality = Quality()
        self.issues: list[Issue] = []
        self.meter_number: str | None = None
        self.unknown: Counter[str] = Counter()
        self._heard_strangers = False
        self._heard_ours = False
        self._codes = {packet.code: packet.register for packet in profile.meter.packets}

    def feed(self, chunk: Chunk) -> list[Slot]:
        self.quality.octets += len(chunk.octets)
        self._stream.receive(chunk.octets, chunk.at_s)
        slots: list[Slot] = []
        while (event := self._stream.next_event()) is not None:
            if isinstance(event, Packet):
                self.quality.good += 1
                self.quality.last_good_s = event.arrived_at_s
                slots += self._packet(event)
            else:
                self.quality.skipped[event.reason] += event.count
        return slots

    def _packet(self, packet: Packet) -> list[Slot]:
        self.meter_number = packet.meter_number
        name = self._codes.get((packet.scope, packet.index))
        at_s = packet.arrived_at_s
        if self._serial not in (None, packet.meter_number):
            self._heard_strangers = True
            detail = {"meter_number": packet.meter_number, "expected": self._serial}
            self._trouble.tell(self.issues, "packets of another meter", at_s or 0.0, detail)
            return []
        self._heard_ours = True
        # Longer data of a known code has another, unconfirmed unit (section 4): told, not used.
        is_register = packet.digits == REGISTER_DIGITS_SENT
        if name is None or packet.value is None or at_s is None or not is_register:
            self.unknown[f"{packet.scope:02X}{packet.index:02X}"] += 1
            return []
        known = self._totals.get((packet.scope, packet.index))
        if known is None:
            register = Register(self._meter.register_digits, self._meter.phases, self._meter.max_current_a)
            known = _Total(register, *CELESC_CHANNELS[name])
            self._totals[packet.scope, packet.index] = known
        octets = encode_packet(packet.meter_number, packet.scope, packet.index, packet.data)
        record = Record(packet.offset, at_s, octets, HEAD + 2, len(packet.data), packet.value)
        return self._advance(known, packet.meter_number, record)

    @property
    def is_stranger(self) -> bool:
        return self._heard_strangers and not self._heard_ours

    def _advance(self, known: _Total, number: str, record: Record) -> list[Slot]:
        if record.value >= known.register.modulus:
            # Beyond five digits: the sixth, which the model may send, is there.
            known.register.modulus = 10**6
        slots = self._close(known, record.at_s)
        step = known.register.feed(number, record.value, record.at_s)
        if step.kind is StepKind.IMPOSSIBLE or step.kind is StepKind.EXCHANGE:
            before = None if known.last is None else known.last.value
            detail = {"channel": known.channel, "from": before, "to": record.value, "at_s": record.at_s}
            self._trouble.tell(self.issues, f"a register's step is {step.kind.value}", record.at_s, detail)
            known.at_end = None
        known.total += step.energy or 0
        known.first = known.first or record
        known.last = record
        return slots

    def _close(self, known: _Total, at_s: float) -> list[Slot]:
        """Interval ends between the last value and this one; the newest of them is the last value's."""
        last = known.last
        if last is None:
            return []
        end = last.at_s // self._interval_s * self._interval_s + self._interval_s
        if end > at_s:
            return []
        before, known.at_end = known.at_end, None
        if end - last.at_s > FRESH_S:
            return []
        known.at_end = _AtEnd(end, known.total, last)
        if before is None or before.end_s != end - self._interval_s:
            return []
        energy = known.total - before.total
        return [Slot(end, known.channel, known.quantity_code, energy, (before.record, last))]

    def registers(self) -> dict[int, tuple[int, float]]:
        return {
            one.channel: (one.last.value, one.last.at_s)
            for one in self._totals.values()
            if one.last is not None
        }

    def stated(self) -> tuple[tuple[StatedColumn, ...], tuple[StatedTotal, ...]]:
        """Its registers, each a column, and where they stood."""
        most_w = Fraction(max_energy_kwh(self._meter.phases, self._meter.max_current_a, 1)) * 1000
        columns, totals = [], []
        for (scope, index), one in sorted(self._totals.items()):
            name, unit = f"{scope:02X}{index:02X}", "kWh" if one.quantity_code in _ACTIVE else "kvarh"
            columns.append(StatedColumn(one.channel, one.quantity_code, name, Holds.TOTAL, unit, 3, UNIT_WH))
            if one.first is not None and one.last is not None:
                first, last = (
                    (self._local(record.at_s), record.value * UNIT_WH) for record in (one.first, one.last)
                )
                modulus_wh = one.register.modulus * UNIT_WH
                totals.append(StatedTotal(one.channel, name, first, last, UNIT_WH, modulus_wh, most_w))
        return tuple(columns), tuple(totals)

    def _local(self, at_s: float) -> datetime:
        return datetime.fromtimestamp(at_s, self._zone).replace(tzinfo=None)

    def facts(self) -> dict[str, object]:
        return {}

    def shown(self) -> dict[str, object]:
        values = {f"channel {channel}": value for channel, (value, _) in sorted(self.registers().items())}
        return {"meter_number": self.meter_number, **values, "unknown": dict(self.unknown)}


def new_decoder(
    profile: StreamProfile,
    interval_s: int,
    serial: str | None = None,
    zone: tzinfo | None = None,
    facts: Mapping[str, str] | None = None,
) -> StreamDecoder:
    """The decoder of a profile.

    Args:
        serial: keeps other meters' packets out where packets carry a number.
        zone: of the meter's clock, where the stream tells its time, and of the days in issues.
        facts: of the head of the session that is decoded.
    """
    if profile.protocol == SSU:
        return SsuDecoder(profile, interval_s, zone, facts)
    return CelescDecoder(profile, interval_s, serial, zone)
