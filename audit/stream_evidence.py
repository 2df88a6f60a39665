"""Which octets of which stored rows of a stream (SSU, CELESC) carry one interval.

What belongs here: from the records that gave a count to the rows of the session that hold them. What does
not: finding and believing a record, which `collector.stream_decode` does from the same rows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from audit.evidence import FramePart, Locator
from collector.decoded import Frame, MeterContext
from collector.streams.decode import Record
from collector.streams.frames import is_head, portions, unpack_frames
from collector.streams.stored import listen

_REGISTER_MODULI = (10**5, 10**6)
_COUNTER_MODULI = (1 << 15, 1 << 16)


@dataclass(frozen=True)
class RecordPlace:
    """A block or packet in the stored rows.

    Attributes:
        octets: of the whole record, its check included.
        first_octet: of the value, 1-based in the record; value_octets: those.
        parts: where the whole record stands; several where reads of the line, or rows, cut it.
    """

    at: datetime
    octets: bytes
    first_octet: int
    value_octets: bytes
    value: int
    parts: tuple[FramePart, ...]


@dataclass(frozen=True)
class StreamPlace:
    """What carried one interval of a stream.

    Attributes:
        what: the record's kind in words.
        records: SSU: the block with the interval's last count. CELESC: the packets with the register as it
            stood at the interval's start and end. None where the register showed in no block: it is zero.
        pulses: as these octets alone tell it.
    """

    what: str
    records: tuple[RecordPlace, ...]
    pulses: int


def locate_record(
    protocol: str, frames: Sequence[Frame], profile: str, context: MeterContext, interval_end: datetime
) -> StreamPlace | None:
    """Find what carried an interval of the context's active channel; None where the session does not tell it.

    Args:
        frames: rows of one session, in order.
        profile: of the registry, for a session whose head names none.
        interval_end: naive, in the context's zone.
    """
    _, slots, _ = listen(unpack_frames(frames), profile, context)
    end_s = interval_end.replace(tzinfo=context.zone).timestamp()
    found = [slot for slot in slots if (slot.end_s, slot.channel) == (end_s, context.active_channel)]
    if not found:
        return None
    rows = _Rows(frames)
    records = tuple(rows.place(record, context) for record in found[-1].told_by)
    if protocol == "ssu":
        return StreamPlace("SSU block", records, _counted(records, found[-1].pulses))
    return StreamPlace("CELESC packet", records, _difference(records, found[-1].pulses))


def _counted(records: Sequence[RecordPlace], pulses: int) -> int:
    """The counter, and the turns of it that no octet tells."""
    if not records:
        return 0
    value = records[0].value
    turned = any(pulses > value and (pulses - value) % modulus == 0 for modulus in _COUNTER_MODULI)
    return pulses if turned else value


def _difference(records: Sequence[RecordPlace], pulses: int) -> int:
    start, end = records
    energy = end.value - start.value
    turned = energy < 0 and any(energy + modulus == pulses for modulus in _REGISTER_MODULI)
    return pulses if turned else energy


class _Rows:
    """Stored rows by the place in the stream of what they hold."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._begins: list[int] = []
        self._portions: list[tuple[Frame, int, bytes]] = []
        offset = 0
        for frame in frames:
            if is_head(frame):
                continue
            for _, place, octets in portions(frame.payload):
                self._begins.append(offset)
                self._portions.append((frame, place, octets))
                offset += len(octets)

    def place(self, record: Record, context: MeterContext) -> RecordPlace:
        return RecordPlace(
            at=datetime.fromtimestamp(record.at_s, context.zone),
            octets=record.octets,
            first_octet=record.first + 1,
            value_octets=record.octets[record.first : record.first + record.count],
            value=record.value,
            parts=tuple(self._parts(record.offset, len(record.octets))),
        )

    def _parts(self, offset: int, count: int) -> list[FramePart]:
        found = []
        number = bisect_right(self._begins, offset) - 1
        while count > 0:
            frame, place, octets = self._portions[number]
            skipped = offset - self._begins[number]
            taken = octets[skipped : skipped + count]
            found.append(FramePart(frame.seq, frame.at, place + skipped + 1, taken, frame.payload, False))
            offset, count, number = offset + len(taken), count - len(taken), number + 1
        return found


class RecordLocator:
    """See `audit.evidence.Locator`."""

    key, holder, whole = "stream", "frame", "session's frames"

    def __init__(self, protocol: str) -> None:
        self._protocol = protocol

    def locate(
        self,
        session: Mapping[str, Any],
        frames: Sequence[Frame],
        profile: str,
        context: MeterContext,
        interval_end: datetime,
    ) -> StreamPlace | None:
        return locate_record(self._protocol, frames, profile, context, interval_end)


SSU: Locator = RecordLocator("ssu")
CELESC: Locator = RecordLocator("celesc")
