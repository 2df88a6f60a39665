"""How the rows of a load profile are asked for, and what is done when they do not all come. Pure.

Rows that came are counted by time. A way that brings none, or is refused, gives way to the model's next one:
ranges of time, then rows by number, then the whole buffer. What a meter breaks off it is asked for again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from itertools import pairwise

from collector.dlms.rows import LoadProfile, timed_rows
from collector.work.planning import Span
from faults import OperatorFault
from protocols.acquisition import DAY_S, Period, coverage, divides_day
from protocols.dlms.access import AccessRefused
from protocols.dlms.apdu import Attribute
from protocols.dlms.axdr import Data
from protocols.dlms.client import DlmsClient, Steps
from protocols.dlms.errors import RemoteProtocolError, ServiceRefused
from protocols.dlms.models import Access, DlmsModel, Timestamps
from protocols.dlms.profile import (
    BUFFER,
    ENTRIES_IN_USE,
    LAST_IN_FIRST_OUT,
    PROFILE,
    by_entry,
    by_range,
)
from protocols.dlms.transcript import Exchange

# For the meter's clock, and for rows doubled when it was set.
_SPARE_ROWS = 2
# A meter that breaks off its answers is asked so often for the rest.
_MOST_REST = 64
# A meter that is so slow is not searched for the rows that it has not reached.
_SLOW_S = 900
_TO_THE_NEWEST = (Access.ENTRY, Access.ALL)


class RowReader:
    """Asks for the rows of one load profile.

    Args:
        load: columns, period and order of the profile; takes the answers.
        now: meter time as expected, naive; zone: of the meter.
    """

    def __init__(
        self, client: DlmsClient, model: DlmsModel, load: LoadProfile, now: datetime, zone: timezone
    ) -> None:
        self._client = client
        self._model = model
        self._load = load
        self._now = now
        self._zone = zone
        self._ways = list(model.access)
        self._is_searched = self._is_beside = False
        self._got: set[tuple[datetime, int]] = set()

    def read(self, spans: Sequence[Span] | None) -> Steps[None]:
        """Rows of the spans, or all that there are.

        Raises:
            OperatorFault: the meter refuses every way to its rows.
        """
        if spans is None:
            yield from self._everything()
            return
        for start, end in self._requests(spans):
            if self._missing(start, end) or not self._got:
                yield from self._rows(start, end)
                yield from self._row_before(start)

    def _everything(self) -> Steps[None]:
        try:
            yield from self._ask(0, None)
        except (AccessRefused, ServiceRefused) as refused:
            self._pass(refused)
            try:
                yield from self._newest(None)
            except (AccessRefused, ServiceRefused) as again:
                self._pass(again)
                raise self._no_way() from again

    def _rows(self, start: datetime, end: datetime) -> Steps[None]:
        """Rows after `start` up to `end`, and the one of `start`, by the first way that brings them."""
        waits, last = list(self._ways), None
        while waits:
            way = waits.pop(0)
            before = len(self._got)
            try:
                yield from self._by(way, start, end)
            except (AccessRefused, ServiceRefused) as refused:
                self._pass(refused)
                self._ways.remove(way)
                last = refused
                continue
            missing = self._missing(start, end)
            if not missing or (len(self._got) > before and not self._is_edge(missing, start, end)):
                return
            if self._is_searched:
                return
            if len(self._got) > before:
                # Other ranges bring no more, nor does the whole buffer; rows by number may.
                waits = [other for other in waits if other is Access.ENTRY]
        self._is_searched = True
        if not self._ways:
            raise last if isinstance(last, ServiceRefused) else self._no_way()

    def _row_before(self, start: datetime) -> Steps[None]:
        """The row before the first interval, where rows are further apart than stated, or beside it."""
        step, stated = timedelta(seconds=self._period_s), timedelta(seconds=self._load.period_s)
        way = self._ways[0]
        first = min((end for end, _ in self._got), default=start)
        is_wanted = step > stated or self._is_beside
        if is_wanted and way not in _TO_THE_NEWEST and start < first <= start + step:
            yield from self._range(way, min(start, start + stated - step), start)

    def _is_edge(self, missing: Sequence[Period], start: datetime, end: datetime) -> bool:
        """Whether rows lack at an end of what was asked for: between others the meter has none."""
        return missing[0].start <= start or missing[-1].end >= min(end, self._due)

    def _by(self, way: Access, start: datetime, end: datetime) -> Steps[None]:
        if way is Access.ALL:
            yield from self._ask(0, None)
        elif way is Access.ENTRY:
            yield from self._newest(start)
        else:
            yield from self._range(way, start, end)

    def _range(self, way: Access, start: datetime, end: datetime) -> Steps[None]:
        """Rows by time; where they break off, the rest from the last one on."""
        is_start = self._model.timestamps is Timestamps.START
        shift = timedelta(seconds=self._period_s if is_start else 0)
        first = start
        for _ in range(_MOST_REST):
            before = len(self._got)
            # Asked for on the border, unless rows have shown that they lie beside it.
            beside = timedelta(seconds=self._model.grid_tolerance_s if self._is_beside else 0)
            selection = by_range(
                (first - shift - beside).replace(tzinfo=self._zone),
                (end - shift + beside).replace(tzinfo=self._zone),
                with_deviation=way is not Access.RANGE_UNSPECIFIED,
                with_weekday=way is Access.RANGE_WEEKDAY,
                rules=self._model.clock_rules,
            )
            yield from self._ask(1, selection)
            missing = self._missing(start, end)
            is_broken_off = missing and missing[-1].end >= min(end, self._due) and missing[-1].start > first
            if len(self._got) == before or not is_broken_off:
                return
            first = missing[-1].start

    def _newest(self, start: datetime | None) -> Steps[None]:
        """The newest rows by number from 1 on, however they are sorted; None: all of them."""
        try:
            told = yield from self._client.get(Attribute(PROFILE, self._model.load_profile, ENTRIES_IN_USE))
            held = told.value if type(told.value) is int else 0
        except (AccessRefused, ServiceRefused):
            yield from self._ask(2, by_entry(1))  # up to the last, which only the meter knows
            return
        count = held
        if start is not None:
            count = int((self._now - start).total_seconds() // self._period_s) + _SPARE_ROWS
        is_newest_first = self._load.sort_method == LAST_IN_FIRST_OUT
        first, last = (1, min(count, held)) if is_newest_first else (max(1, held - count + 1), held)
        for _ in range(_MOST_REST):
            if first > last:
                return
            rows = yield from self._ask(2, by_entry(first, last))
            if not rows:
                return
            first += rows

    def _ask(self, selector: int, selection: Data | None) -> Steps[int]:
        """Ask for rows and take them; how many came."""
        attribute = Attribute(PROFILE, self._model.load_profile, BUFFER)
        value = yield from self._client.get(attribute, selector, selection)
        # Only its rows count here; when it came is the record's affair.
        at = self._now.replace(tzinfo=self._zone)
        self._load.answers = [Exchange(attribute, selector, selection, at, at, value)]
        rows = timed_rows(self._load, self._model, self._zone, _pass_over)
        self._is_beside |= any(row.is_on_grid and row.end != row.told for row in rows)
        self._got |= {(row.end, row.length_s or self._period_s) for row in rows}
        return len(value.value) if isinstance(value.value, tuple) else 0

    def _pass(self, refused: AccessRefused | ServiceRefused) -> None:
        """A refusal that another way may not meet.

        Raises:
            Fault: it is one of the moment, or of the meter's health.
        """
        if isinstance(refused, AccessRefused):
            fault = refused.as_fault(
                "the meter cannot give its load profile now:", self._model.load_profile, ""
            )
            if not isinstance(fault, OperatorFault):
                raise fault from refused

    def _no_way(self) -> OperatorFault:
        return OperatorFault(
            "the meter refuses every way to the rows of its load profile",
            where=self._model.load_profile,
            remedy="check the rights of the client in the meter, and `access` of its model",
        )

    # --- what is asked for, and what came ------------------------------------------------------------

    @property
    def _period_s(self) -> int:
        """Length of an interval as far as it is known."""
        usual = usual_step_s([end for end, _ in self._got])
        stated = self._load.period_s
        return usual or (stated if divides_day(stated) else DAY_S)

    @property
    def _due(self) -> datetime:
        """What ended by then is there; of the newest a meter that is a little slow lacks some."""
        return self._now - timedelta(seconds=max(self._period_s, _SLOW_S))

    def _missing(self, start: datetime, end: datetime) -> tuple[Period, ...]:
        """What of the rows that end after `start` has not come, of those that are there by now."""
        step_s = self._period_s
        asked = [Period(start - timedelta(seconds=step_s - 1), min(end, self._due))]
        got = [Period(at - timedelta(seconds=length_s), at) for at, length_s in self._got]
        return coverage(asked, got, step_s).missing

    def _requests(self, spans: Sequence[Span]) -> Iterator[tuple[datetime, datetime]]:
        """Time of each request. One row more before: totals need something to differ from."""
        stated = self._load.period_s
        period = timedelta(seconds=stated if divides_day(stated) else DAY_S)
        most = timedelta(days=self._model.days_per_request)
        for span in spans:
            start, last = span.first_end - period, span.last_end
            while start < last:
                end = min(start + most, last)
                yield start, end
                start = end


def _pass_over(error: RemoteProtocolError) -> None:
    """The decoder says what is wrong with a row."""


def usual_step_s(ends: Sequence[datetime]) -> int | None:
    """The commonest distance of rows in order, s; None: fewer than two rows, or it divides no day."""
    steps = Counter(int((b - a).total_seconds()) for a, b in pairwise(sorted(set(ends))))
    if not steps:
        return None
    step, _ = max(steps.items(), key=lambda entry: (entry[1], -entry[0]))
    return step if divides_day(step) else None
