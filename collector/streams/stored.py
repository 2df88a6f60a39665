"""A stored session of a serial output heard again: its intervals, registers and quality. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone

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
from collector.drivers import WithoutHistory
from collector.streams.decode import Slot, StreamDecoder, Trouble, new_decoder
from collector.streams.frames import unpack_frames
from collector.streams.profiles import CELESC, SSU, stream_profile
from protocols.acquisition import Statement
from protocols.captures import Capture

# In `meter_parameters` and `register_reading`, whose commands are those of NBR 14522, under a code of none.
STREAM_COMMAND = 0


def listen(capture: Capture, profile: str, context: MeterContext) -> tuple[StreamDecoder, list[Slot], int]:
    """A stored session heard again: the decoder, the intervals that it closed, and their length in seconds.

    Args:
        profile: where the session's head names none.
    """
    interval_s = round(capture.number("interval_s", 900))
    name = capture.facts.get("profile", profile)
    decoder = new_decoder(stream_profile(name), interval_s, context.serial, context.zone, capture.facts)
    return decoder, [slot for chunk in capture.chunks for slot in decoder.feed(chunk)], interval_s


@dataclass(frozen=True)
class StreamSessionDecoder(WithoutHistory):
    """Decodes stored sessions of one of the protocols, as the drivers do for theirs."""

    name: str

    def decode(self, frames: Sequence[Frame], profile: str, context: MeterContext) -> Decoded:
        """What the stored rows of a session mean. Pure: same rows, same result.

        The profile and interval are those of the session's own head: the registry may have changed since.
        """
        capture = unpack_frames(frames)
        decoder, slots, interval_s = listen(capture, profile, context)
        last_s = capture.chunks[-1].at_s if capture.chunks else None
        at = None if last_s is None else datetime.fromtimestamp(last_s, context.zone)
        drift_s = decoder.clock_error_s
        disputed = _disputed(slots)
        return Decoded(
            vectors=day_vectors(slots, interval_s, context.zone, disputed),
            registers=tuple(
                RegisterRow(
                    STREAM_COMMAND, channel, datetime.fromtimestamp(at_s, context.zone), {"total": value}
                )
                for channel, (value, at_s) in sorted(decoder.registers().items())
            ),
            parameters=() if at is None else (ParametersRow(STREAM_COMMAND, at, _quality(decoder)),),
            issues=(*decoder.issues, *_told_as_issues(disputed, interval_s, context.zone)),
            meter_serial=decoder.meter_number,
            clock=None
            if at is None or drift_s is None
            else ClockReading(at + timedelta(seconds=drift_s), drift_s, 0.0),
            blocks=decoder.quality.good,
            is_held=decoder.is_stranger,
            statement=_statement(decoder, interval_s),
        )


def _statement(decoder: StreamDecoder, interval_s: int) -> Statement | None:
    """What the stream states; None where nothing of it was understood."""
    if not decoder.quality.good:
        return None
    columns, totals = decoder.stated()
    basis = "the receiver's clock, market time; an interval is named by its end"
    return Statement(columns, interval_s, time_basis=basis, totals=totals)


def _quality(decoder: StreamDecoder) -> dict[str, object]:
    quality = decoder.quality
    return {
        "octets": quality.octets,
        "good": quality.good,
        "skipped": dict(quality.skipped),
        "skipped_share": round(quality.skipped_share, 6),
    }


SSU_DECODER, CELESC_DECODER = StreamSessionDecoder(SSU), StreamSessionDecoder(CELESC)


def _disputed(slots: Iterable[Slot]) -> frozenset[float]:
    """Ends of intervals that were told twice, and differently: nobody knows which is right."""
    first: dict[tuple[float, int], int] = {}
    return frozenset(
        slot.end_s
        for slot in slots
        if first.setdefault((slot.end_s, slot.channel), slot.pulses) != slot.pulses
    )


def _told_as_issues(disputed: Iterable[float], interval_s: int, zone: timezone) -> list[Issue]:
    issues: list[Issue] = []
    trouble = Trouble(zone)
    for end_s in sorted(disputed):
        trouble.tell(
            issues, "an interval was told twice, and differently", end_s - interval_s, {"end_s": end_s}
        )
    return issues


def day_vectors(
    slots: Iterable[Slot], interval_s: int, zone: timezone, without: Container[float] = ()
) -> tuple[DayVector, ...]:
    """Slots by channel and day; the interval that ends at 00:00 belongs to the day before.

    Args:
        without: ends of intervals to leave out.
    """
    found: dict[tuple[int, date, int], DayVector] = {}
    count = 86_400 // interval_s
    for slot in slots:
        if slot.end_s in without:
            continue
        start = datetime.fromtimestamp(slot.end_s - interval_s, zone)
        key = (slot.channel, start.date(), slot.quantity_code)
        if key not in found:
            blank = np.zeros(count, np.int32), np.zeros(count, np.bool_)
            found[key] = DayVector(slot.channel, start.date(), slot.quantity_code, interval_s, *blank)
        index = (start.hour * 3600 + start.minute * 60 + start.second) // interval_s
        found[key].pulses[index] = slot.pulses
        found[key].present[index] = True
    return tuple(found[key] for key in sorted(found))
