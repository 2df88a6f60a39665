"""Who will miss the deadline at the present pace, and who must act on what."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest

from closing.acting import NOT_DELIVERED, NOT_DERIVED, act_by, acting_on
from closing.forecast import Forecast, Outlook, forecast
from vee.calendars import Period, load_calendars
from vee.quality import Cause

pytestmark = pytest.mark.req("TR-2d")

FIRST = dt.date(2026, 11, 1)
LATEST = dt.date(2026, 11, 20)
AS_OF = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
DEADLINE = dt.date(2026, 12, 9)


def month(*ucs: dict[int, int | None]) -> pl.DataFrame:
    """UC-days of November to the 20th, each delivered on its next morning, but for those that a UC names by
    day of the month: delivered so many days before AS_OF, or never.
    """
    rows = []
    for uc_id, late in enumerate(ucs):
        for number in range(20):
            day = FIRST + dt.timedelta(number)
            at: dt.datetime | None = dt.datetime.combine(day + dt.timedelta(1), dt.time(8), dt.UTC)
            if day.day in late:
                ago = late[day.day]
                at = None if ago is None else AS_OF - dt.timedelta(days=ago)
            rows.append((uc_id, day, True, at is not None, at))
    schema = {
        "uc_id": pl.Int64,
        "day": pl.Date,
        "is_due": pl.Boolean,
        "is_delivered": pl.Boolean,
        "first_accepted_at": pl.Datetime("us", "UTC"),
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def outlook(*ucs: dict[int, int | None]) -> Forecast:
    return forecast(month(*ucs), AS_OF, LATEST, DEADLINE)


def test_a_month_without_gaps_has_nothing_to_forecast() -> None:
    assert outlook({}, {}) == Forecast(Outlook.DONE, 0, outlook({}).pace_per_day, None)


def test_a_backlog_that_shrinks_fast_enough_is_in_time() -> None:
    # Fourteen days of one UC were open a week ago, seven came since.
    late = {day: 3 for day in range(1, 8)} | dict.fromkeys(range(8, 14))
    found = outlook(late, {})
    assert (found.outlook, found.backlog) == (Outlook.IN_TIME, 6)
    assert found.pace_per_day == 1
    assert found.done_on == dt.date(2026, 11, 27)
    assert not found.misses


def test_a_backlog_that_shrinks_too_slowly_is_late() -> None:
    late = {1: 3, 2: 3} | dict.fromkeys(range(3, 14))
    found = outlook(late)
    assert (found.outlook, found.backlog) == (Outlook.LATE, 11)
    assert found.done_on is not None
    assert found.done_on > DEADLINE
    assert found.misses


def test_a_uc_of_which_nothing_comes_misses_whatever_others_deliver() -> None:
    silent = dict.fromkeys(range(1, 21))
    recovering = dict.fromkeys(range(1, 11), 2)
    found = outlook(silent, recovering, {})
    assert (found.outlook, found.stuck, found.misses) == (Outlook.STUCK, 20, True)


def test_a_backlog_that_grows_is_never_done() -> None:
    # One old day is open, and the newest five of a UC that still delivered a week's first days.
    found = outlook({3: None} | dict.fromkeys(range(16, 21)))
    assert (found.outlook, found.backlog) == (Outlook.NEVER, 6)
    assert found.pace_per_day < 0


def test_a_young_month_has_no_pace_yet() -> None:
    early = month({2: None}).filter(pl.col("day") <= dt.date(2026, 11, 4))
    at = dt.datetime(2026, 11, 5, 12, tzinfo=dt.UTC)
    found = forecast(early, at, dt.date(2026, 11, 4), DEADLINE)
    assert (found.outlook, found.backlog, found.misses) == (Outlook.TOO_SOON, 1, False)


@pytest.mark.parametrize("cause", [*Cause, NOT_DERIVED, NOT_DELIVERED])
def test_each_cause_says_who_acts_and_what_to_do(cause: str) -> None:
    acting = acting_on(cause)
    assert acting.text_pt
    assert acting.remedy_pt
    assert acting.who_pt
    load_calendars().milestone(acting.milestone)


@pytest.mark.parametrize(
    ("today", "until"),
    [
        (dt.date(2026, 11, 21), dt.date(2026, 12, 1)),
        (dt.date(2026, 12, 2), dt.date(2026, 12, 7)),
        (dt.date(2026, 12, 8), dt.date(2026, 12, 8)),
        (dt.date(2026, 12, 9), dt.date(2026, 12, 9)),
        (dt.date(2026, 12, 10), dt.date(2026, 12, 9)),
    ],
)
def test_a_missed_milestone_gives_way_to_the_next(today: dt.date, until: dt.date) -> None:
    period, known = Period.month(FIRST), load_calendars()
    assert act_by(acting_on(Cause.NO_READING).milestone, period, today, known) == until
