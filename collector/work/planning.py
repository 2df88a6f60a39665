"""What to ask for, when, and by which commands. Pure: facts in, decisions out.

Expected comes first: the intervals of the days wanted, for the meters installed. What is not present is
missing; the cheapest commands that bring it are chosen in the session itself, because only the meter's answer
to 21 tells where its periods begin (nbr14522.md 3, 8).

Times here are the meter's: naive local datetimes in market time. An interval is named by its end, and the one
that ends at 00:00 belongs to the day before (nbr14522.md 8.3).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from enum import StrEnum

from storage.queue import Priority

WORDS_PER_BLOCK = 166
CHANNELS_PER_GROUP = 3
# What one more block, and one more command with its answer, cost on the line in octets (nbr14522.md 1.3).
BLOCK_OCTETS = 258 + 1
COMMAND_OCTETS = 66 + 258 + 1
# A clock so far off is no drift, and no request that waited for its turn.
_FAR_OFF = timedelta(hours=2)
_EVER = timedelta(days=3650)  # longer than any meter remembers


class SequenceName(StrEnum):
    """What a read request asks for. The three standard ones are the field's verbs (nbr14522.md 2.2)."""

    MISSING = "missing"
    VERIFICATION = "verification"
    RECOVERY = "recovery"
    CLOSING = "closing"
    """The billing data of the closed period, without a reset of ours, and the registers as they stand now."""
    FISCAL_PAGE = "fiscal_page"
    """Instantaneous quantities (14)."""
    WHOLE = "whole"


class ScheduleKind(StrEnum):
    DAILY = "daily"
    HOURLY = "hourly"
    QUARTER_HOURLY = "quarter_hourly"


@dataclass(frozen=True, slots=True)
class Span:
    """Intervals that follow one another without a gap: ends of the first and of the last, both included."""

    first_end: datetime
    last_end: datetime


@dataclass(frozen=True, slots=True)
class Goal:
    """What one session is after.

    Args:
        sequence: which commands; MISSING lets the session choose by `spans`.
        spans: missing intervals, oldest first; empty for the standard sequences.
        with_records: also registers, failures, changes and measurement parameters; a session every quarter
            of an hour leaves them out, since they cost more octets than the memory it came for.
        absent: commands that this meter has answered with 39 before.
        with_all_groups: also the memory of channels 4 to 12; without it only with the records.
        asked_at: by our clock, naive market time; None: not known.
    """

    sequence: SequenceName
    spans: tuple[Span, ...] = ()
    with_records: bool = True
    with_all_groups: bool = False
    absent: frozenset[int] = frozenset()
    asked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """What the answer to 21 or 22 says about the memory. Times naive, meter local.

    Where a period begins follows from its count of words, not from the times of the resets: the memory may
    have begun later than the period.
    """

    now: datetime
    last_end: datetime
    last_reset: datetime | None
    words_current: int
    words_previous: int
    interval_s: int

    def before(self, end: datetime, words: int) -> datetime:
        """Where so many words that end at `end` begin."""
        return end - timedelta(seconds=words // CHANNELS_PER_GROUP * self.interval_s)


class MemoryRead(StrEnum):
    """Ways to read the memory: since the last reset (26), the period before (27), the newest days (51 with a
    limit, 52), all of it (51, 52)."""

    CURRENT = "26"
    PREVIOUS = "27"
    NEWEST_DAYS = "51+52 days"
    WHOLE = "51+52"


@dataclass(frozen=True, slots=True)
class MemoryStep:
    read: MemoryRead
    days: int = 0


def by_the_meters_clock(goal: Goal, facts: MemoryFacts) -> tuple[Span, ...]:
    """The missing intervals under the times that the meter has them, where its clock is far off.

    A meter 30 days slow keeps today under a day of last month. What it brings is held, and not in vain.
    """
    if goal.asked_at is None or abs(facts.now - goal.asked_at) < _FAR_OFF:
        return goal.spans
    interval = timedelta(seconds=facts.interval_s)
    off = round((facts.now - goal.asked_at) / interval) * interval
    return tuple(
        replace(span, first_end=span.first_end + off, last_end=span.last_end + off) for span in goal.spans
    )


def choose_memory(
    spans: Sequence[Span], facts: MemoryFacts, available: Collection[int], max_days: int = 99
) -> tuple[MemoryStep, ...]:
    """The cheapest reads that bring most of what is missing; empty when nothing missing can be there.

    Args:
        spans: missing intervals. facts: from the parameters answered in this session.
        available: command codes as on the wire (0x26 ...) that the meter has.
        max_days: largest day limit of 51 (nbr14522.md 2.1: sources send up to 99).
    """
    wanted = [span for span in spans if span.first_end <= facts.now]
    if not wanted:
        return ()
    best: tuple[int, int, tuple[MemoryStep, ...]] | None = None
    for steps in _candidates(wanted[0].first_end, facts, available, max_days):
        covered = sum(_covered(span, steps, facts) for span in wanted)
        if not covered:
            continue
        cost = sum(_octets(step, facts) for step in steps)
        if best is None or (-covered, cost) < best[:2]:
            best = (-covered, cost, steps)
    return best[2] if best else ()


def _candidates(
    oldest_end: datetime, facts: MemoryFacts, available: Collection[int], max_days: int
) -> Iterable[tuple[MemoryStep, ...]]:
    current = MemoryStep(MemoryRead.CURRENT)
    previous = MemoryStep(MemoryRead.PREVIOUS)
    if 0x26 in available and facts.words_current:
        yield (current,)
    if {0x22, 0x27} <= set(available) and facts.words_previous:
        yield (previous,)
        if 0x26 in available and facts.words_current:
            yield (previous, current)
    if {0x51, 0x52} <= set(available):
        # One day more than the calendar difference: right whether the meter counts a day as 24 hours back
        # from now or as a calendar day (not known, nbr14522_gaps.md 2.1).
        days = (facts.now.date() - day_of(oldest_end)).days + 1
        if days <= max_days:
            yield (MemoryStep(MemoryRead.NEWEST_DAYS, days),)
        yield (MemoryStep(MemoryRead.WHOLE),)


def _covered(span: Span, steps: Sequence[MemoryStep], facts: MemoryFacts) -> int:
    interval = timedelta(seconds=facts.interval_s)
    total = 0
    for step in steps:
        after, until = _reach(step, facts)
        first = max(span.first_end, after + interval)
        last = min(span.last_end, until)
        total += max(0, (last - first) // interval + 1)
    return total


def _reach(step: MemoryStep, facts: MemoryFacts) -> tuple[datetime, datetime]:
    """(after, until]: the interval ends that a read can bring."""
    match step.read:
        case MemoryRead.CURRENT:
            return facts.before(facts.last_end, facts.words_current), facts.last_end
        case MemoryRead.PREVIOUS:
            end = facts.last_reset or facts.before(facts.last_end, facts.words_current)
            return facts.before(end, facts.words_previous), end
        case MemoryRead.NEWEST_DAYS:
            return facts.now - timedelta(days=step.days), facts.now
        case MemoryRead.WHOLE:
            return facts.now - _EVER, facts.now


def _octets(step: MemoryStep, facts: MemoryFacts) -> int:
    match step.read:
        case MemoryRead.CURRENT:
            return COMMAND_OCTETS + _block_octets(facts.words_current)
        case MemoryRead.PREVIOUS:
            return 3 * COMMAND_OCTETS + _block_octets(facts.words_previous)
        case MemoryRead.NEWEST_DAYS:
            words = step.days * (86400 // facts.interval_s) * CHANNELS_PER_GROUP
            return 2 * COMMAND_OCTETS + _block_octets(words)
        case MemoryRead.WHOLE:
            # How much a meter keeps is not known beforehand; at least both periods, and always the last
            # choice.
            return 3 * COMMAND_OCTETS + _block_octets(2 * (facts.words_current + facts.words_previous) + 1)


def _block_octets(words: int) -> int:
    return -(-words // WORDS_PER_BLOCK) * BLOCK_OCTETS


def day_of(interval_end: datetime) -> date:
    """The day an interval belongs to: 00:00 is the last of the day before."""
    return (interval_end - timedelta(microseconds=1)).date()


def day_spans(day: date, interval_s: int, present: Sequence[bool] | None, until: datetime) -> list[Span]:
    """What is missing of one day.

    Args:
        present: per slot, whether it is there; None when nothing is. Another length than the interval's grid
            (the interval was changed) counts as nothing.
        until: intervals that end later are not expected yet.
    """
    interval = timedelta(seconds=interval_s)
    midnight = datetime.combine(day, time.min)
    slots = timedelta(days=1) // interval
    expected = min(slots, (until - midnight) // interval)
    here = present if present is not None and len(present) == slots else (False,) * slots
    if all(here):
        return []
    spans: list[Span] = []
    start: int | None = None
    for slot in range(max(0, expected) + 1):
        missing = slot < expected and not here[slot]
        if missing and start is None:
            start = slot
        elif not missing and start is not None:
            spans.append(Span(midnight + (start + 1) * interval, midnight + slot * interval))
            start = None
    return spans


def joined(spans: Iterable[Span], interval_s: int) -> tuple[Span, ...]:
    """Spans with those that follow one another made one; oldest first."""
    interval = timedelta(seconds=interval_s)
    found: list[Span] = []
    for span in spans:
        if found and found[-1].last_end + interval == span.first_end:
            found[-1] = Span(found[-1].first_end, span.last_end)
        else:
            found.append(span)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class InstalledMeter:
    """A meter in its place, as the registry has it for the time of planning."""

    meter_id: int
    point_code: str
    schedule: ScheduleKind
    interval_s: int
    valid_from: datetime | None
    valid_to: datetime | None
    is_reachable: bool


@dataclass(frozen=True, slots=True)
class MeterDay:
    """What is known of a meter's day: slots present, and whether the meter was asked for all it has."""

    present_slots: int
    is_exhausted: bool


@dataclass(frozen=True, slots=True)
class PlannedRead:
    meter_id: int
    days: tuple[date, ...]
    priority: Priority
    dedup_key: str


def plan_reads(
    installed: Iterable[InstalledMeter],
    known: dict[tuple[int, date], MeterDay],
    days: Sequence[date],
    now: datetime,
    priority: Priority = Priority.RECOVERY,
) -> list[PlannedRead]:
    """Which meters must be read for these days; one request a meter, whatever the number of days.

    Args:
        known: by (meter, day); absent = nothing is present.
        now: naive, meter local. A day that has not begun is not asked for.
    A day that the meter was already asked for completely (`is_exhausted`) is not asked for again: what the
    memory does not hold does not come by asking.
    """
    planned = []
    for meter in installed:
        if not meter.is_reachable:
            continue
        wanted = tuple(
            day for day in sorted(days) if _is_wanted(meter, day, known.get((meter.meter_id, day)), now)
        )
        if wanted:
            planned.append(PlannedRead(meter.meter_id, wanted, priority, dedup_key(meter.meter_id, wanted)))
    return planned


def dedup_key(meter_id: int, days: Sequence[date]) -> str:
    """One open request for the same days of a meter, whoever asks."""
    return f"read:{meter_id}:{days[0].isoformat()}:{days[-1].isoformat()}"


def _is_wanted(meter: InstalledMeter, day: date, known: MeterDay | None, now: datetime) -> bool:
    midnight = datetime.combine(day, time.min)
    end = midnight + timedelta(days=1)
    if (meter.valid_from and meter.valid_from >= end) or (meter.valid_to and meter.valid_to <= midnight):
        return False
    expected = (min(now, end) - midnight) // timedelta(seconds=meter.interval_s)
    if expected <= 0:
        return False
    return known is None or not (known.is_exhausted or known.present_slots >= expected)


_PERIODS = {
    ScheduleKind.DAILY: timedelta(days=1),
    ScheduleKind.HOURLY: timedelta(hours=1),
    ScheduleKind.QUARTER_HOURLY: timedelta(minutes=15),
}


@dataclass(frozen=True, slots=True)
class Windows:
    """When within its period a scheduled read starts: (offset, length) from the start of the period.

    The offset leaves the meter time to close the last interval; the length spreads the fleet, since a cell
    that is asked for all its meters at 00:00 answers none.
    """

    daily: tuple[timedelta, timedelta] = (timedelta(minutes=10), timedelta(hours=4))
    hourly: tuple[timedelta, timedelta] = (timedelta(minutes=2), timedelta(minutes=30))
    quarter_hourly: tuple[timedelta, timedelta] = (timedelta(minutes=1), timedelta(minutes=10))

    def of(self, kind: ScheduleKind) -> tuple[timedelta, timedelta]:
        return {
            ScheduleKind.DAILY: self.daily,
            ScheduleKind.HOURLY: self.hourly,
            ScheduleKind.QUARTER_HOURLY: self.quarter_hourly,
        }[kind]


def due_at(kind: ScheduleKind, point_code: str, at: datetime, windows: Windows) -> datetime:
    """When the point is due in the period that holds `at`; the same for the same point in each period.

    Args:
        at: any time of the period, naive local.
    """
    period = _PERIODS[kind]
    midnight = datetime.combine(at.date(), time.min)
    start = midnight + ((at - midnight) // period) * period
    offset, length = windows.of(kind)
    digest = hashlib.blake2b(point_code.encode(), digest_size=8).digest()
    fraction = int.from_bytes(digest) / 2**64
    return start + offset + timedelta(seconds=int(length.total_seconds() * fraction))


def due_reads(
    installed: Iterable[InstalledMeter], after: datetime, until: datetime, windows: Windows
) -> list[PlannedRead]:
    """The scheduled reads that became due in (after, until], naive local; not longer than one period apart.

    A daily read asks for yesterday, the others for today as far as it goes, and for yesterday in the first
    hour of the day, so that its last intervals come too.
    """
    planned = []
    for meter in installed:
        due = due_at(meter.schedule, meter.point_code, until, windows)
        if not meter.is_reachable or not after < due <= until:
            continue
        today = due.date()
        yesterday = today - timedelta(days=1)
        if meter.schedule is ScheduleKind.DAILY:
            days: tuple[date, ...] = (yesterday,)
        else:
            days = (yesterday, today) if due.hour == 0 else (today,)
        planned.append(PlannedRead(meter.meter_id, days, Priority.ROUTINE, dedup_key(meter.meter_id, days)))
    return planned
