"""From a stream of octets to interval readings, for SSU and CELESC. Pure: same octets, same readings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta, timezone
from typing import Protocol

import numpy as np

from collector.decoded import (
    ClockReading,
    DayVector,
    Decoded,
    Frame,
    Issue,
    MeterContext,
    ParametersRow,
    RegisterRow,
)
from collector.stream_frames import unpack_frames
from collector.stream_profiles import CELESC, SSU, StreamProfile, stream_profile
from faults import DeveloperFault
from protocols.captures import Chunk
from protocols.celesc import CelescStream, Packet, Register, StepKind
from protocols.ssu import BlockFound, IntervalAssembler, IntervalReading, Skipped, SsuStream
from protocols.ssu.blocks import Format

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
# Silence after which a register's last value no longer stands for now (celesc_serial.md 2: 10 to 15 s).
FRESH_S = 15.0
REGISTER_DIGITS_SENT = 6
# In `meter_parameters` and `register_reading`, whose commands are those of NBR 14522, under a code of none.
STREAM_COMMAND = 0


@dataclass(frozen=True, slots=True)
class Slot:
    """One interval of one channel: its end in seconds since 1970, and its pulses."""

    end_s: float
    channel: int
    quantity_code: int
    pulses: int


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


class SsuDecoder:
    """SSU: counters that begin again with each interval (ssu.md 6)."""

    meter_number: str | None = None
    is_stranger = False  # a block names no meter

    def __init__(self, profile: StreamProfile, interval_s: int) -> None:
        if profile.ssu is None:
            raise DeveloperFault("no model", where=profile.name, remedy="name one of the catalogue")
        settings = replace(profile.ssu.settings, interval_s=interval_s)
        self._stream = SsuStream(settings, profile.ssu.formats)
        self._assembler = IntervalAssembler(settings)
        self._newest: BlockFound | None = None
        self._known: set[str] = set()
        self.quality = Quality()
        self.issues: list[Issue] = []

    @property
    def clock_error_s(self) -> float | None:
        """Meter minus receiver: positive when the meter is fast."""
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
                for output in self._assembler.feed(event):
                    if isinstance(output, IntervalReading):
                        slots += self._slots(output, event)
            elif isinstance(event, Skipped):
                self.quality.skipped[event.reason] += event.count
        return slots

    def _slots(self, reading: IntervalReading, found: BlockFound) -> list[Slot]:
        self._known |= reading.pulses.keys()
        if not reading.is_complete:
            detail = {"end_s": reading.end_s, "at_least": reading.pulses}
            self.issues.append(Issue("decode", "an interval's end was not heard", detail))
            return []
        pulses = dict(reading.pulses)
        if found.block.format is not Format.NORMAL:
            # Present since the rollover: a register that showed in no block has counted nothing. R1 is always
            # there, or a site that only feeds in would have no active energy.
            pulses = dict.fromkeys(self._known | {"R1"}, 0) | pulses
        return [Slot(reading.end_s, *SSU_CHANNELS[name], count) for name, count in sorted(pulses.items())]

    def registers(self) -> dict[int, tuple[int, float]]:
        return {}

    def shown(self) -> dict[str, object]:
        if self._newest is None:
            return {}
        block = self._newest.block
        return {
            "format": block.format.value,
            "seconds_left": block.seconds_left,
            **block.registers,
            "segment": block.segment,
            "suspects": ", ".join(block.suspects),
        }


@dataclass
class _Total:
    """A register followed: energy since the first value, and where it stood at interval ends."""

    register: Register
    channel: int
    quantity_code: int
    total: int = 0
    value: int = 0
    at_s: float | None = None
    at_end: tuple[float, int] | None = None


class CelescDecoder:
    """CELESC: registers of whole kWh and kvarh; an interval is the difference at its ends (section 6).

    The value at an interval's end is the last one before it, if not older than `FRESH_S`.
    """

    clock_error_s: float | None = None  # the packet has no clock

    def __init__(self, profile: StreamProfile, interval_s: int, serial: str | None = None) -> None:
        if profile.meter is None:
            raise DeveloperFault("no meter model", where=profile.name, remedy="name one of the catalogue")
        self._meter = profile.meter
        self._interval_s = interval_s
        self._serial = None if serial is None else serial.rjust(10, "0")
        self._stream = CelescStream()
        self._totals: dict[tuple[int, int], _Total] = {}
        self.quality = Quality()
        self.issues: list[Issue] = []
        self.meter_number: str | None = None
        self.unknown: Counter[str] = Counter()
        self._strangers: Counter[str] = Counter()
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
            if packet.meter_number not in self._strangers:
                detail = {"meter_number": packet.meter_number, "expected": self._serial}
                self.issues.append(Issue("decode", "packets of another meter", detail))
            self._strangers[packet.meter_number] += 1
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
        return self._advance(known, packet.meter_number, packet.value, at_s)

    @property
    def is_stranger(self) -> bool:
        return bool(self._strangers) and not self._heard_ours

    def _advance(self, known: _Total, number: str, value: int, at_s: float) -> list[Slot]:
        if value >= known.register.modulus:
            # Beyond five digits: the sixth, which the model may send, is there.
            known.register.modulus = 10**6
        slots = self._close(known, at_s)
        step = known.register.feed(number, value, at_s)
        if step.kind is StepKind.IMPOSSIBLE or step.kind is StepKind.EXCHANGE:
            detail = {"channel": known.channel, "from": known.value, "to": value, "at_s": at_s}
            self.issues.append(Issue("decode", f"a register's step is {step.kind.value}", detail))
            known.at_end = None
        known.total += step.energy or 0
        known.value, known.at_s = value, at_s
        return slots

    def _close(self, known: _Total, at_s: float) -> list[Slot]:
        """Interval ends between the last value and this one; the newest of them is the last value's."""
        if known.at_s is None:
            return []
        end = known.at_s // self._interval_s * self._interval_s + self._interval_s
        if end > at_s:
            return []
        before, known.at_end = known.at_end, None
        if end - known.at_s > FRESH_S:
            return []
        known.at_end = (end, known.total)
        if before is None or before[0] != end - self._interval_s:
            return []
        return [Slot(end, known.channel, known.quantity_code, known.total - before[1])]

    def registers(self) -> dict[int, tuple[int, float]]:
        return {one.channel: (one.value, one.at_s) for one in self._totals.values() if one.at_s is not None}

    def shown(self) -> dict[str, object]:
        values = {f"channel {channel}": value for channel, (value, _) in sorted(self.registers().items())}
        return {"meter_number": self.meter_number, **values, "unknown": dict(self.unknown)}


def new_decoder(profile: StreamProfile, interval_s: int, serial: str | None = None) -> StreamDecoder:
    """The decoder of a profile; `serial` keeps other meters' packets out where packets carry a number."""
    if profile.protocol == SSU:
        return SsuDecoder(profile, interval_s)
    return CelescDecoder(profile, interval_s, serial)


@dataclass(frozen=True)
class StreamSessionDecoder:
    """Decodes stored sessions of one of the protocols, as the drivers do for theirs."""

    name: str

    def decode(self, frames: Sequence[Frame], profile: str, context: MeterContext) -> Decoded:
        """What the stored rows of a session mean. Pure: same rows, same result.

        The profile and interval are those of the session's own head: the registry may have changed since.
        """
        capture = unpack_frames(frames)
        name = capture.facts.get("profile", profile)
        interval_s = round(capture.number("interval_s", 900))
        decoder = new_decoder(stream_profile(name), interval_s, context.serial)
        slots: list[Slot] = []
        for chunk in capture.chunks:
            slots += decoder.feed(chunk)
        last_s = capture.chunks[-1].at_s if capture.chunks else None
        at = None if last_s is None else datetime.fromtimestamp(last_s, context.zone)
        drift_s = decoder.clock_error_s
        return Decoded(
            vectors=day_vectors(slots, interval_s, context.zone),
            registers=tuple(
                RegisterRow(
                    STREAM_COMMAND, channel, datetime.fromtimestamp(at_s, context.zone), {"total": value}
                )
                for channel, (value, at_s) in sorted(decoder.registers().items())
            ),
            parameters=() if at is None else (ParametersRow(STREAM_COMMAND, at, _quality(decoder)),),
            issues=tuple(decoder.issues),
            meter_serial=decoder.meter_number,
            clock=None
            if at is None or drift_s is None
            else ClockReading(at + timedelta(seconds=drift_s), drift_s, 0.0),
            blocks=decoder.quality.good,
            is_held=decoder.is_stranger,
        )


def _quality(decoder: StreamDecoder) -> dict[str, object]:
    quality = decoder.quality
    return {
        "octets": quality.octets,
        "good": quality.good,
        "skipped": dict(quality.skipped),
        "skipped_share": round(quality.skipped_share, 6),
    }


STREAM_DECODERS: Mapping[str, StreamSessionDecoder] = {
    name: StreamSessionDecoder(name) for name in (SSU, CELESC)
}


def day_vectors(slots: Iterable[Slot], interval_s: int, zone: timezone) -> tuple[DayVector, ...]:
    """Slots by channel and day; the interval that ends at 00:00 belongs to the day before."""
    found: dict[tuple[int, date, int], DayVector] = {}
    count = 86_400 // interval_s
    for slot in slots:
        start = datetime.fromtimestamp(slot.end_s - interval_s, zone)
        key = (slot.channel, start.date(), slot.quantity_code)
        if key not in found:
            blank = np.zeros(count, np.int32), np.zeros(count, np.bool_)
            found[key] = DayVector(slot.channel, start.date(), slot.quantity_code, interval_s, *blank)
        index = (start.hour * 3600 + start.minute * 60 + start.second) // interval_s
        found[key].pulses[index] = slot.pulses
        found[key].present[index] = True
    return tuple(found[key] for key in sorted(found))
