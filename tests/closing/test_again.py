"""The month estimated again at its closing, with one window of history (annex 7.2 and our point 4.6)."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from ccee.profile import load_profile
from closing.again import is_time
from closing.document import Closing
from closing.run import close
from derivation.layers import DerivationParameters
from derivation.run import derive
from storage.database import Database
from tests.ccee.conftest import rows
from tests.derivation.world import Point, add_points, curve, put_history, put_readings, with_gap
from vee.calendars import load_calendars

pytestmark = pytest.mark.req("TR-2d", "TR-2g")

NOVEMBER = dt.date(2026, 11, 1)
EARLY, LATE = dt.date(2026, 11, 5), dt.date(2026, 11, 19)
ONE_DAY = dt.timedelta(days=1)
# Three hours: rule A, of the same weekday in closed months.
GAP = (120, 155)


def morning_after(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day + ONE_DAY, dt.time(9), dt.UTC)


def closed_on(db: Database, day: dt.date) -> Closing:
    at = dt.datetime.combine(day, dt.time(12), dt.UTC)
    return close(
        db, NOVEMBER, load_profile(), DerivationParameters(), now=at, as_of=at, run_id=f"close-{day}"
    )


def estimates(db: Database, point: Point) -> dict[tuple[dt.date, int], dict[str, Any]]:
    """By day and version, what went into the estimate of the gap."""
    found = rows(
        db,
        "SELECT day, version, detail FROM estimate WHERE uc_id = %s AND method = 'A' AND first_slot = %s",
        point.uc_id,
        GAP[0],
    )
    return {(day, version): detail for day, version, detail in found}


def sealed(db: Database, point: Point, day: dt.date) -> None:
    """As a delivery leaves it: what CCEE has is never replaced in place."""
    with db.connect() as conn:
        (number,) = conn.execute(
            "INSERT INTO submission (agent_id, uc_id, uc_code, day, version, series_version, profile, "
            "body_sha256, body_bytes, cause, run_id) "
            "SELECT agent_id, id, code, %s, 1, 1, 'p', '\\x00', 1, 'first', 'r' FROM uc WHERE id = %s "
            "RETURNING id",
            [day, point.uc_id],
        ).fetchone()
        conn.execute("INSERT INTO submission_event (submission_id, state) VALUES (%s, 'aceito')", [number])


@pytest.mark.case("E6")
def test_two_gaps_of_a_month_end_with_one_window(embedded_db: Database) -> None:
    """Case E6: gaps of 5 and 19 November, each first estimated on its next morning."""
    db = embedded_db
    with db.connect() as conn:
        (point,) = add_points(conn, 1)
    put_history(db, [point], dt.date(2026, 7, 1), dt.date(2026, 10, 31))
    derive(db, dt.date(2026, 7, 1), dt.date(2026, 10, 31), as_of=morning_after(EARLY), run_id="h")
    days = [NOVEMBER + n * ONE_DAY for n in range(30)]
    put_readings(
        db,
        [
            (point.meter_id, day, with_gap(curve(day.day), *GAP) if day in (EARLY, LATE) else curve(day.day))
            for day in days
        ],
    )
    for day in days:
        derive(db, day, day, as_of=morning_after(day), run_id=f"{day}")
        sealed(db, point, day)
    first = estimates(db, point)
    windows = {day: tuple(detail["window"]) for (day, _), detail in first.items()}
    assert windows[EARLY][1] == "2026-09-30"
    assert windows[LATE][1] == "2026-10-31"

    # The month still runs, or has not reached MS+1du: nothing is made again.
    assert closed_on(db, days[-1]).again is None
    done = closed_on(db, dt.date(2026, 12, 1))

    assert done.again is not None
    assert (done.again.ucs, done.again.uc_days_changed) == (1, 1)
    assert done.again.history_month == dt.date(2026, 10, 1)
    after = estimates(db, point)
    assert set(after) == {(EARLY, 1), (EARLY, 2), (LATE, 1)}, "a delivered version stays beside the new one"
    newest = [after[EARLY, 2], after[LATE, 1]]
    assert len({tuple(one["window"]) for one in newest}) == 1
    assert done.report.whole.days_to_resend == 1
    # Repeated on the next day it finds all as it should be; after MS+7du (9 December) it does nothing.
    again = closed_on(db, dt.date(2026, 12, 2)).again
    assert again is not None
    assert again.uc_days_changed == 0
    assert closed_on(db, dt.date(2026, 12, 10)).again is None


@pytest.mark.parametrize(
    ("today", "is_due"),
    [
        (dt.date(2026, 11, 30), False),
        (dt.date(2026, 12, 1), True),
        (dt.date(2026, 12, 9), True),
        (dt.date(2026, 12, 10), False),
    ],
)
def test_a_month_is_estimated_again_from_ms1_to_ms7(today: dt.date, is_due: bool) -> None:
    assert is_time(NOVEMBER, today, load_calendars()) is is_due
