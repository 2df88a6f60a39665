"""The acquisition contract: what a source states about its readings before they become energy.

One for every protocol and file (requirement X-acquire). A decoder states its columns (`StatedColumn`), turns
what they hold into energy with the functions here, and says what it decided (`Decision`) and what it was
asked for and got (`Coverage`); all of it is one `Statement`, which is kept with the session. Pure and exact:
whole numbers and fractions in, the same out; what cannot be told is missing, and missing is never zero.

Times are naive, as the meter's clock has them. An interval is named by its end: (end - length, end].

Over 500 lines: one contract, read as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from itertools import accumulate, groupby, pairwise
from typing import Any

DAY_S = 86_400
# A changed length of intervals is told from a gap by distances that follow one another and are the same.
_RUN = 3
# No market has longer intervals; rows that are further apart have a gap between them.
_LONGEST_S = 3600
_SHORTEST_S = 60
# How far a wrong total is looked for, in rows: a day of five minutes.
_LOOK = 288


class Holds(StrEnum):
    """What a column holds."""

    INCREMENT = "increment"
    """Energy of the interval."""
    TOTAL = "total"
    """Energy since ever: the interval is what it has grown by."""
    AVERAGE = "average power"
    """Energy of the interval is power x length."""


class Nulls(StrEnum):
    """What a null in a column means."""

    MISSING = "missing"
    ABOVE = "above"


@dataclass(frozen=True, slots=True)
class StatedColumn:
    """What a source states about one column.

    Attributes:
        channel, quantity: of the platform. name: the source's own name of the column.
        unit: as stated; "" for counts of pulses.
        scaler: power of ten of one raw unit; None where the source has none.
        constant: energy of one stored pulse in the unit of energy (Wh, varh, VAh); None: not stated.
        refused: why the column is not used, or "".
    """

    channel: int
    quantity: int
    name: str
    holds: Holds
    unit: str
    scaler: int | None = None
    constant: Fraction | None = None
    refused: str = ""

    def document(self) -> dict[str, Any]:
        """As JSON has it; the constant as a fraction."""
        return {
            "channel": self.channel,
            "quantity": self.quantity,
            "name": self.name,
            "holds": self.holds.value,
            "unit": self.unit,
            "scaler": self.scaler,
            "constant": None if self.constant is None else str(self.constant),
            "refused": self.refused or None,
        }


class Action(StrEnum):
    """What became of a value or of a whole column."""

    REFUSED = "refused"
    MISSING = "missing"
    MARKED = "marked"
    """Taken, and worth a look."""
    CONVERTED = "converted"
    PASSED_OVER = "passed over"
    """Came in between and is no part of the reading."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision, with how often it was taken and what it rests on; `day` where it concerns one."""

    action: Action
    reason: str
    count: int = 1
    detail: Mapping[str, Any] = field(default_factory=dict)
    day: date | None = None

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        day = None if self.day is None else self.day.isoformat()
        return {
            "action": self.action.value,
            "reason": self.reason,
            "count": self.count,
            "day": day,
            **self.detail,
        }


@dataclass(frozen=True, slots=True)
class StatedTotal:
    """Where a running total stood at the first and at the last good row of a session, exact.

    Attributes:
        name: the source's own name of the total. first, last: end of the interval, and the total there, Wh.
        unit_wh: one step of it. modulus_wh: where it begins again at zero; None: nowhere, as far as is known.
        most_w: highest average power that the meter itself can measure, W; None: not known.
    """

    channel: int
    name: str
    first: tuple[datetime, Fraction]
    last: tuple[datetime, Fraction]
    unit_wh: Fraction = Fraction(0)
    modulus_wh: Fraction | None = None
    most_w: Fraction | None = None

    def document(self) -> dict[str, Any]:
        """As JSON has it; energies as fractions."""
        return {
            "channel": self.channel,
            "name": self.name,
            "first": [self.first[0].isoformat(), str(self.first[1])],
            "last": [self.last[0].isoformat(), str(self.last[1])],
        }


@dataclass(frozen=True, slots=True)
class Statement:
    """What a session, or a file, states about its readings.

    Attributes:
        interval_s: length of the intervals as the source states it; None: not stated.
        lengths_s: lengths that the rows have, with how many rows have each.
        time_basis: whose clock, which zone, and which end of the interval a time names.
        status: flags that rows carried, with how many rows carried each.
        questions: what was asked for rows, and what came, in words.
        coverage: None where nothing was asked for by time.
        ratio: product of the ratios of its transformers, as the source states them; None: not stated.
        totals: of columns that are running totals.
    """

    columns: tuple[StatedColumn, ...] = ()
    interval_s: int | None = None
    lengths_s: Mapping[int, int] = field(default_factory=dict)
    time_basis: str = ""
    status: Mapping[str, int] = field(default_factory=dict)
    decisions: tuple[Decision, ...] = ()
    questions: tuple[str, ...] = ()
    coverage: Coverage | None = None
    ratio: Fraction | None = None
    totals: tuple[StatedTotal, ...] = ()

    def document(self) -> dict[str, Any]:
        """As it is kept with the session."""
        return {
            "columns": [column.document() for column in self.columns],
            "interval_s": self.interval_s,
            "lengths_s": {str(length): count for length, count in sorted(self.lengths_s.items())},
            "time_basis": self.time_basis,
            "status": dict(self.status),
            "decisions": [decision.document() for decision in self.decisions],
            "questions": list(self.questions),
            "coverage": None if self.coverage is None else self.coverage.document(),
            "ratio": None if self.ratio is None else str(self.ratio),
            "totals": [total.document() for total in self.totals],
        }


# --- values ------------------------------------------------------------------------------------------------


def energy_of_power(average: Fraction | int, length_s: int) -> Fraction:
    """Energy of an interval from its average power, exact: W x s / 3600 is Wh.

    >>> energy_of_power(1000, 900)
    Fraction(250, 1)
    """
    return Fraction(average) * length_s / 3600


def whole_pulses(energy: Fraction, constant: Fraction) -> int | None:
    """Energy in pulses of `constant`; None where it is no whole number of them."""
    pulses = energy / constant
    return pulses.numerator if pulses.denominator == 1 else None


def is_above(energy_wh: Fraction, length_s: int, most_w: Fraction | None) -> bool:
    """Whether an interval holds more than the physical ceiling lets through.

    Args:
        most_w: highest average power that is possible here, W (var, VA); None: not known.
    """
    return most_w is not None and energy_wh * 3600 > most_w * length_s


def is_all_ones(raw: int, bits: int) -> bool:
    """Whether a word holds nothing but ones, as memory that was never written does.

    >>> is_all_ones(4095, 12), is_all_ones(-1, 32), is_all_ones(254, 8)
    (True, True, False)
    """
    return raw in (-1, (1 << bits) - 1)


# --- times -------------------------------------------------------------------------------------------------


def on_grid(end: datetime, length_s: int, tolerance_s: int) -> datetime | None:
    """The border of the grid that an end is meant to be; None where none is near enough.

    Args:
        length_s: of the interval; it divides a day.
    """
    midnight = datetime.combine(end.date(), datetime.min.time())
    steps = (end - midnight) / timedelta(seconds=length_s)
    border = midnight + round(steps) * timedelta(seconds=length_s)
    return border if abs(end - border) <= timedelta(seconds=tolerance_s) else None


def divides_day(length_s: int) -> bool:
    """Whether intervals of that length fill a day; shorter ones than a minute are none of a meter's."""
    return length_s >= _SHORTEST_S and DAY_S % length_s == 0


def lengths(ends: Sequence[datetime], stated_s: int) -> list[int | None]:
    """Length of the interval of each row, s: rows decide, whatever the source states.

    A distance that four rows in a row keep is a length, and so is the stated one wherever it occurs. Any
    other distance is a gap, and the row behind it has the length of its neighbours. Where no distance is a
    length, the stated one holds, unless every distance is a longer length that intervals may have: rows may
    be so far apart by nature.

    Args:
        ends: in order, each once.
        stated_s: what the source states; 0: nothing.

    Returns:
        None where nothing tells: between two lengths, or with neither rows nor a statement to go by.
    """
    steps = [int((b - a).total_seconds()) for a, b in pairwise(ends)]
    proven: list[int | None] = []
    for step, same in groupby(steps):
        count = len(list(same))
        is_length = divides_day(step) and (count >= _RUN or step == stated_s)
        proven += [step if is_length else None] * count
    if not any(proven):
        is_told = divides_day(stated_s) and not (steps and all(map(_may_be_length, steps)))
        return [stated_s if is_told else None] * len(ends)
    # The first row has no distance before it.
    before = list(accumulate([None, *proven], _known))
    after = list(accumulate([None, *reversed(proven)], _known))[::-1]
    found = []
    for row, own in enumerate([None, *proven]):
        sides = {before[row], after[row]} - {None}
        found.append(own if own is not None else sides.pop() if len(sides) == 1 else None)
    return found


def _may_be_length(step_s: int) -> bool:
    return divides_day(step_s) and step_s <= _LONGEST_S


def _known(before: int | None, own: int | None) -> int | None:
    return before if own is None else own


# --- running totals ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TotalPolicy:
    """What growth of a total is believed.

    Attributes:
        most_w: physical ceiling of the average power, W; None: not known.
        doubling_w: growth that at least doubles the total is believed up to this average power only: what
            comes after a zero, or a register that was never written, is no energy.
    """

    most_w: Fraction | None = None
    doubling_w: Fraction = Fraction(100_000)


@dataclass(frozen=True, slots=True)
class Growth:
    """What a total has grown by from the last good row to this one, in raw units. Rows by their place."""

    since: int
    row: int
    amount: int | Fraction


@dataclass(frozen=True, slots=True)
class Break:
    """Rows of a total that give no interval.

    Attributes:
        rows: whose value is wrong; empty where the total begins again.
        last_good, next_good: rows around them; None at an end. Nothing is told of the time between.
        begins_again: the total goes on from another value at `next_good`.
    """

    rows: tuple[int, ...]
    last_good: int | None
    next_good: int | None
    begins_again: bool = False


def judge_totals(
    ends: Sequence[datetime],
    totals: Sequence[int | Fraction | None],
    wh_of_one: Fraction,
    policy: TotalPolicy,
) -> tuple[list[Growth], list[Break]]:
    """Growth of a running total from each good row to the next good one, and what breaks it.

    A total is compared with the last good row and its span. Rows below it, after which the total is back
    where it was, are wrong; so are rows above, after which it is. A total that stays low begins again.

    Args:
        ends: of the rows, in order. totals: raw; None: missing.
        wh_of_one: energy of one raw unit, Wh (varh, VAh).
    """
    return _Totals(ends, totals, wh_of_one, policy).judged()


class _Totals:
    def __init__(
        self,
        ends: Sequence[datetime],
        totals: Sequence[int | Fraction | None],
        wh_of_one: Fraction,
        policy: TotalPolicy,
    ) -> None:
        self._policy, self._wh_of_one = policy, wh_of_one
        known = [(row, value) for row, value in enumerate(totals) if value is not None]
        self._rows = [row for row, _ in known]
        self._values = [value for _, value in known]
        self._ends = [ends[row] for row in self._rows]
        # Of the values from a place on: whether a total will ever be back.
        self._highest = list(self._values)
        for place in range(len(self._highest) - 2, -1, -1):
            self._highest[place] = max(self._highest[place], self._highest[place + 1])
        self._good, self._bad = list[int](), list[int]()
        self._anew = set[int]()

    def judged(self) -> tuple[list[Growth], list[Break]]:
        place = 0
        while place < len(self._values):
            if self._good and self._values[place] < self._values[self._good[-1]]:
                place = self._fall(place)
                continue
            if self._good and self._is_jump(self._good[-1], place):
                self._anew.add(place)
            self._good.append(place)
            place += 1
        return list(self._growths()), list(self._breaks())

    def _fall(self, place: int) -> int:
        """Decide on a value below the last good one; the place at which to go on."""
        value, last = self._values[place], self._values[self._good[-1]]
        half = Fraction(last - value) / 2
        back = self._back(place, last)
        low = None
        if back is not None and self._values[back] - self._values[back - 1] >= half:
            low = back - place
        high = 0
        while high < min(len(self._good), _LOOK) and self._values[self._good[-1 - high]] > value:
            high += 1
        is_high = high < len(self._good) and self._values[self._good[-1 - high]] <= value
        if is_high:
            base, first = self._good[-1 - high], self._good[-high]
            is_high = self._values[first] - self._values[base] >= half
        if low is not None and (not is_high or low <= high):
            self._bad += range(place, place + low)
            return place + low
        if is_high:
            self._bad += self._good[-high:]
            self._anew -= set(self._good[-high:])
            del self._good[-high:]
            return place
        self._anew.add(place)
        self._good.append(place)
        return place + 1

    def _back(self, place: int, last: int | Fraction) -> int | None:
        """Where the total is back at its last good value."""
        if self._highest[place] < last:
            return None
        far = min(place + 1 + _LOOK, len(self._values))
        return next((later for later in range(place + 1, far) if self._values[later] >= last), None)

    def _is_jump(self, before: int, place: int) -> bool:
        growth = self._values[place] - self._values[before]
        span_s = max(1, abs(int((self._ends[place] - self._ends[before]).total_seconds())))
        energy = growth * self._wh_of_one
        doubles = growth > 0 and growth * 2 >= self._values[place]
        return is_above(energy, span_s, self._policy.most_w) or (
            doubles and is_above(energy, span_s, self._policy.doubling_w)
        )

    def _growths(self) -> Iterator[Growth]:
        for before, place in pairwise(self._good):
            if place not in self._anew:
                amount = self._values[place] - self._values[before]
                yield Growth(self._rows[before], self._rows[place], amount)

    def _breaks(self) -> Iterator[Break]:
        bad, borders = sorted(self._bad), [None, *self._good, None]
        taken = 0
        for before, after in pairwise(borders):
            rows = []
            while taken < len(bad) and (after is None or bad[taken] < after):
                rows.append(self._rows[bad[taken]])
                taken += 1
            begins_again = after is not None and after in self._anew
            if rows or begins_again:
                yield Break(
                    tuple(rows),
                    None if before is None else self._rows[before],
                    None if after is None else self._rows[after],
                    begins_again,
                )


def contradiction(before: tuple[datetime, Fraction], total: StatedTotal, most_w: Fraction | None) -> str:
    """Why a total cannot be the one that stood at `before`, in words, or "".

    Both of its rows are compared: a session may bring rows again that another one brought before.

    Args:
        before: an end, and the total there, Wh, of an earlier session.
        most_w: highest average power that is possible here, W; None: not known.
    """
    for end, energy in (total.first, total.last):
        span_s = int((end - before[0]).total_seconds())
        grown = energy - before[1]
        if span_s < 0:
            span_s, grown = -span_s, -grown
        if grown < 0 and total.modulus_wh is not None:
            grown += total.modulus_wh
        if grown < 0:
            return f"{total.name} falls by {_kwh(-grown)} kWh in {span_s} s"
        limits = [limit for limit in (most_w, total.most_w) if limit is not None]
        # Both ends are cut to whole steps.
        if is_above(grown - total.unit_wh, span_s, min(limits, default=None)):
            return f"{total.name} grows by {_kwh(grown)} kWh in {span_s} s"
    return ""


def _kwh(energy: Fraction) -> str:
    return f"{float(energy / 1000):,.3f}"


# --- coverage ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Period:
    """Time after `start` up to and with `end`."""

    start: datetime
    end: datetime

    def document(self) -> list[str]:
        """As JSON has it: start, end."""
        return [self.start.isoformat(), self.end.isoformat()]


@dataclass(frozen=True, slots=True)
class Coverage:
    """Rows asked against rows got, by time.

    Attributes:
        asked, got: intervals; of those that were asked for.
        missing: periods that were asked for and of which no row came.
        interval_s: length in which they are counted.
    """

    asked: int
    got: int
    missing: tuple[Period, ...]
    interval_s: int

    @property
    def is_complete(self) -> bool:
        return not self.missing

    @property
    def words(self) -> str:
        """For people: asked 288 intervals of 300 s, got 280."""
        return f"asked {self.asked} intervals of {self.interval_s} s, got {self.got}"

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "asked": self.asked,
            "got": self.got,
            "interval_s": self.interval_s,
            "missing": [period.document() for period in self.missing],
        }


def joined(periods: Iterable[Period]) -> tuple[Period, ...]:
    """Periods in order, those that touch or overlap made one."""
    found: list[Period] = []
    for period in sorted(periods, key=lambda one: one.start):
        if found and period.start <= found[-1].end:
            found[-1] = Period(found[-1].start, max(found[-1].end, period.end))
        else:
            found.append(period)
    return tuple(found)


def coverage(asked: Iterable[Period], got: Iterable[Period], interval_s: int) -> Coverage:
    """What came of what was asked for.

    Args:
        asked: what was to be brought. Only whole intervals of the grid count.
        got: the intervals of the rows that came, whatever became of their values.
        interval_s: grid in which both are counted; it divides a day.
    """
    step = timedelta(seconds=interval_s)
    wanted = sorted({end for period in asked for end in _ends(period, step)})
    here, place = joined(got), 0
    missing = []
    for end in wanted:
        while place < len(here) and here[place].end < end:
            place += 1
        if place == len(here) or here[place].start > end - step:
            missing.append(end)
    runs: list[Period] = []
    for end in missing:
        if runs and runs[-1].end == end - step:
            runs[-1] = Period(runs[-1].start, end)
        else:
            runs.append(Period(end - step, end))
    return Coverage(len(wanted), len(wanted) - len(missing), tuple(runs), interval_s)


def _ends(period: Period, step: timedelta) -> Iterator[datetime]:
    """Ends of the grid's intervals that lie wholly in a period."""
    midnight = datetime.combine(period.start.date(), datetime.min.time())
    end = midnight - (midnight - period.start) // step * step + step
    while end <= period.end:
        yield end
        end += step
