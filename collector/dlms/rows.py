"""Rows of a load profile with the end and the length of their intervals. Pure.

Rows decide how long an interval is (`acquisition.lengths`), and the model how far from its border it may end.
The decoder makes readings of them, the trace finds their octets, and the reader counts them while it asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, tzinfo

from collector.dlms.columns import local_time
from protocols.acquisition import Period, divides_day, joined, lengths, on_grid
from protocols.dlms.errors import RemoteProtocolError
from protocols.dlms.models import DlmsModel, Timestamps
from protocols.dlms.profile import CaptureObject, ProfileRow, decode_rows, row_step_s
from protocols.dlms.transcript import Exchange

OnBad = Callable[[RemoteProtocolError], None]
_MINUTE_S = 60
_MIRROR = datetime.combine(date(5000, 1, 1), time.min)  # the middle of the calendar


@dataclass(slots=True)
class LoadProfile:
    """What was read of one profile object.

    Attributes:
        period_s: as the meter states it; 0: not, or as no length of time.
        answers: to the questions for its rows, in order.
    """

    columns: tuple[CaptureObject, ...] = ()
    period_s: int = 0
    sort_method: int | None = None
    answers: list[Exchange] = field(default_factory=list)

    @property
    def step_s(self) -> int | None:
        """From one row to the next; None where a null clock stands for nothing that is known."""
        return row_step_s(self.period_s, self.sort_method) if self.period_s > 0 else None


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the load profile.

    Attributes:
        end: of its interval, naive, as the meter's clock has it; on the border that it is meant to be.
        told: the same as stated.
        length_s: of its interval; None where nothing tells.
        is_on_grid: its end is near enough to a border.
    """

    answer: Exchange
    profile: ProfileRow
    end: datetime
    told: datetime
    length_s: int | None
    is_on_grid: bool


def profile_rows(
    answer: Exchange, load: LoadProfile, model: DlmsModel, zone: tzinfo, on_bad: OnBad
) -> Iterator[ProfileRow]:
    """Rows of one answer, up to what cannot be told any more."""
    assert answer.value is not None
    try:
        yield from decode_rows(answer.value, load.columns, load.step_s, zone, on_bad, model.clock_rules)
    except RemoteProtocolError as error:
        on_bad(error)


def timed_rows(load: LoadProfile, model: DlmsModel, zone: tzinfo, on_bad: OnBad) -> list[Row]:
    """All rows of all answers, in the order in which they came."""
    found = [
        (answer, row, local_time(row, zone))
        for answer in load.answers
        for row in profile_rows(answer, load, model, zone, on_bad)
    ]
    known = _lengths([told for _, row, told in found if not row.clock.is_invalid], load, model)
    return [_timed(answer, row, told, known, model) for answer, row, told in found]


def _near_minute(told: datetime, model: DlmsModel) -> datetime:
    return on_grid(told, _MINUTE_S, model.grid_tolerance_s) or told


def _lengths(told: Sequence[datetime], load: LoadProfile, model: DlmsModel) -> dict[datetime, int | None]:
    """Length of the interval by its moment: up to it, or from it on where rows are dated with the start."""
    moments = sorted({_near_minute(one, model) for one in told})
    if not moments:
        return {}
    if model.timestamps is Timestamps.END:
        return dict(zip(moments, lengths(moments, load.period_s), strict=True))
    # Of intervals that are named by their start the length is the distance to the next: time runs backwards.
    mirrored = [_MIRROR - (one - _MIRROR) for one in reversed(moments)]
    return dict(zip(reversed(moments), lengths(mirrored, load.period_s), strict=True))


def _timed(
    answer: Exchange,
    row: ProfileRow,
    told: datetime,
    known: dict[datetime, int | None],
    model: DlmsModel,
) -> Row:
    length_s = known.get(_near_minute(told, model))
    if length_s is None or not divides_day(length_s):
        return Row(answer, row, told, told, None, False)
    if model.timestamps is Timestamps.START:
        told += timedelta(seconds=length_s)
    border = on_grid(told, length_s, model.grid_tolerance_s)
    return Row(answer, row, told if border is None else border, told, length_s, border is not None)


def add_row(same: list[Row], row: Row) -> None:
    """Add a row to those of the same end, unless one says the same; a value stands before its null."""
    for number, known in enumerate(same):
        unsaid = known.profile.nulls | row.profile.nulls
        pairs = enumerate(zip(known.profile.values, row.profile.values, strict=True))
        if all(place in unsaid or one == other for place, (one, other) in pairs):
            if len(row.profile.nulls) < len(known.profile.nulls):
                same[number] = row
            return
    same.append(row)


def lengths_s(rows: Iterable[Row]) -> dict[int, int]:
    """Lengths of the intervals, with how many rows have each."""
    return dict(Counter(row.length_s for row in rows if row.length_s is not None))


def periods_of(rows: Iterable[Row]) -> tuple[Period, ...]:
    """Intervals of all rows that came."""
    return joined(
        Period(row.end - timedelta(seconds=row.length_s), row.end) for row in rows if row.length_s is not None
    )
