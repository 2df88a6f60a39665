"""From the rows of a load profile to pulses by interval, and what was decided on the way. Pure.

Each value is an interval's energy, exact, or missing with its reason; see `protocols.acquisition`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from fractions import Fraction
from typing import Any

import numpy as np

from collector.decoded import DayVector
from collector.dlms.columns import Column
from collector.dlms.rows import Row
from collector.work.planning import day_of
from protocols.acquisition import (
    DAY_S,
    Break,
    Holds,
    Nulls,
    StatedTotal,
    TotalPolicy,
    is_above,
    is_all_ones,
    judge_totals,
    whole_pulses,
)
from protocols.dlms.axdr import Data, Tag
from protocols.dlms.models import AllOnes, Channel, DlmsModel
from protocols.dlms.profile import BITS, number_of

_MAX_PULSES = (1 << 31) - 1
_SHOWN_ENDS = 24

OnIssue = Callable[[str, Mapping[str, Any], date | None], None]
"""Gets the reason, the detail and the day of what is not taken."""


@dataclass(slots=True)
class _Grouped:
    """Reasons that a column has for many rows: one of each a day."""

    found: dict[tuple[str, date], list[datetime]] = field(default_factory=dict)

    def add(self, reason: str, end: datetime) -> None:
        self.found.setdefault((reason, day_of(end)), []).append(end)


@dataclass(slots=True)
class Intervals:
    """What a column came to: pulses by end and length of interval, ends whose null was filled, and where a
    running total stood first and last.
    """

    pulses: dict[tuple[datetime, int], int] = field(default_factory=dict)
    filled: list[datetime] = field(default_factory=list)
    total: StatedTotal | None = None


def intervals_of(
    column: Column,
    rows: Sequence[Row],
    model: DlmsModel,
    on_issue: OnIssue,
    most_w: Fraction | None = None,
) -> Intervals:
    """Pulses of one column.

    Args:
        rows: on the grid, good, by their end.
        most_w: average power above which no growth of a total is believed, W, beside the model's; None: none.
    """
    found, grouped = Intervals(), _Grouped()
    values = [_value(column, row, model, found, grouped, on_issue) for row in rows]
    if column.holds is Holds.TOTAL:
        limits = [limit for limit in (_watts(model.most_kw), most_w) if limit is not None]
        policy = TotalPolicy(min(limits, default=None), model.doubling_kw * 1000)
        _take_growth(column, rows, values, model, policy, found, grouped, on_issue)
    else:
        for row, value in zip(rows, values, strict=True):
            if value is not None:
                _take(column, row, value, model, found, grouped, on_issue)
    for (reason, day), ends in grouped.found.items():
        detail = {"ends": [end.isoformat() for end in ends[:_SHOWN_ENDS]], "rows": len(ends)}
        on_issue(reason, detail, day)
    return found


def _value(
    column: Column, row: Row, model: DlmsModel, found: Intervals, grouped: _Grouped, on_issue: OnIssue
) -> int | Fraction | None:
    """What a row says in a column; None: nothing that can be used, and the reason is told."""
    told: Data = row.profile.values[column.place]
    if column.place in row.profile.nulls:
        if model.null_values is Nulls.MISSING or told.tag is Tag.NULL:
            grouped.add(f"column {column.name} is null: missing", row.end)
            return None
        found.filled.append(row.end)
    value = number_of(told)
    if value is None:
        on_issue(f"column {column.name} is no whole number", {}, day_of(row.end))
        return None
    bits = BITS.get(told.tag) if model.all_ones is AllOnes.MISSING else None
    if bits is not None and isinstance(value, int) and is_all_ones(value, bits):
        detail = {"end": row.end.isoformat(), "value": value}
        on_issue(f"column {column.name} is nothing but ones: missing", detail, day_of(row.end))
        return None
    return value


def _take(
    column: Column,
    row: Row,
    amount: int | Fraction,
    model: DlmsModel,
    found: Intervals,
    grouped: _Grouped,
    on_issue: OnIssue,
) -> None:
    """Take the energy of one interval, where it is believed and a whole number of pulses."""
    if row.length_s is None:
        grouped.add("nothing tells how long these intervals of the load profile are", row.end)
        return
    energy = column.energy_wh(amount, row.length_s)
    pulses = whole_pulses(energy, column.pulse_wh)
    detail = {"end": row.end.isoformat(), "value": _shown(amount), "channel": column.channel.channel}
    if pulses is None and column.holds is Holds.AVERAGE:
        least = Fraction(1, (energy / column.pulse_wh).denominator) * column.pulse_wh
        grouped.add(
            f"column {column.name}: average power is no whole number of pulses of {column.pulse_wh} Wh; "
            f'with pulse_wh = "{least}" in the model, and the registry\'s constant to match, it is',
            row.end,
        )
    elif pulses is None and isinstance(amount, Fraction):
        on_issue(f"column {column.name} is no whole number", detail, day_of(row.end))
    elif pulses is None or not 0 <= pulses <= _MAX_PULSES:
        reason = f"column {column.name} is no whole number of pulses, or out of range"
        on_issue(reason, detail, day_of(row.end))
    elif is_above(energy, row.length_s, _watts(model.most_kw)):
        reason = f"column {column.name} is more than the meter can measure"
        on_issue(reason, detail | {"most_kw": str(model.most_kw)}, day_of(row.end))
    else:
        found.pulses[row.end, row.length_s] = pulses


def _watts(kilowatts: Fraction | None) -> Fraction | None:
    return None if kilowatts is None else kilowatts * 1000


def _take_growth(
    column: Column,
    rows: Sequence[Row],
    values: Sequence[int | Fraction | None],
    model: DlmsModel,
    policy: TotalPolicy,
    found: Intervals,
    grouped: _Grouped,
    on_issue: OnIssue,
) -> None:
    """Take what a running total has grown by over exactly one interval."""
    growths, breaks = judge_totals([row.end for row in rows], values, column.scale, policy)
    for growth in growths:
        row, since = rows[growth.row], rows[growth.since]
        span_s = (row.end - since.end).total_seconds()
        if row.length_s is None or span_s == row.length_s:
            _take(column, row, growth.amount, model, found, grouped, on_issue)
    for broken in breaks:
        _tell(column, rows, values, broken, on_issue)
    bad = {row for broken in breaks for row in broken.rows}
    stood = [
        (row.end, value * column.scale)
        for place, (row, value) in enumerate(zip(rows, values, strict=True))
        if value is not None and place not in bad
    ]
    if stood:
        number = column.channel.channel
        found.total = StatedTotal(
            number, column.name, stood[0], stood[-1], column.scale, most_w=policy.most_w
        )


def _tell(
    column: Column,
    rows: Sequence[Row],
    values: Sequence[int | Fraction | None],
    broken: Break,
    on_issue: OnIssue,
) -> None:
    def place(row: int | None) -> dict[str, Any] | None:
        return None if row is None else {"end": rows[row].end.isoformat(), "total": _shown(values[row])}

    lost = [*broken.rows, *([] if broken.next_good is None else [broken.next_good])]
    last = None if broken.last_good is None else values[broken.last_good]
    first = values[lost[0]]
    detail: dict[str, Any] = {
        "end": rows[lost[0]].end.isoformat(),
        "ends": [rows[row].end.isoformat() for row in lost[:_SHOWN_ENDS]],
        "rows": len(lost),
        "last_good": place(broken.last_good),
        "next_good": place(broken.next_good),
        "channel": column.channel.channel,
    }
    if last is not None and first is not None:
        detail["value"] = _shown(first - last)
    if broken.last_good is not None and broken.next_good is not None:
        span = rows[broken.next_good].end - rows[broken.last_good].end
        detail["span_s"] = int(span.total_seconds())
    reason = (
        f"column {column.name} begins again from another value: no interval where it does"
        if broken.begins_again and not broken.rows
        else f"column {column.name} leaves the course of its running total: no interval there, nor behind it"
    )
    on_issue(reason, detail, day_of(rows[lost[0]].end))


def _shown(value: int | Fraction | None) -> int | str | None:
    return str(value) if isinstance(value, Fraction) else value


def vectors_of(column: Column, found: Intervals) -> Iterator[DayVector]:
    """Day vectors of an energy column."""
    return vectors_by_day(column.channel, found)


def vectors_by_day(channel: Channel, found: Intervals) -> Iterator[DayVector]:
    """Day vectors by length of interval; of a day with two lengths, both."""
    days: dict[tuple[date, int], list[datetime]] = {}
    for end, length_s in found.pulses:
        days.setdefault((day_of(end), length_s), []).append(end)
    for (day, length_s), ends in sorted(days.items(), key=lambda entry: (entry[0][0], -len(entry[1]))):
        slots = DAY_S // length_s
        counts, present = np.zeros(slots, np.int32), np.zeros(slots, np.bool_)
        midnight = datetime.combine(day, datetime.min.time())
        for end in ends:
            index = int((end - midnight).total_seconds()) // length_s - 1
            counts[index], present[index] = found.pulses[end, length_s], True
        yield DayVector(channel.channel, day, channel.quantity, length_s, counts, present)
