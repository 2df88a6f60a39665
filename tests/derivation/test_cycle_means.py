"""E5, the mean of the last cycles by tariff post: from stored readings to what CCEE is sent."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from derivation.run import derive
from storage.database import Database
from tests.derivation.sending import sent_day
from tests.derivation.world import NOW, Point, add_points, curve, put_readings, with_gap

# A Thursday; the tests' morning after.
DAY = dt.date(2026, 11, 19)
AT = NOW - dt.timedelta(days=1)
JULY = [dt.date(2026, 7, 1) + dt.timedelta(n) for n in range(7)]
POSTS = {"peak_starts": ["18:00:00", None], "off_peak_starts": ["21:00:00", None]}
FIRST, LAST, PEAK_FROM, PEAK_TO = 200, 230, 216, 252


def month_day(day: dt.date, *, off_peak: int = 100, peak: int = 300) -> list[int | None]:
    """Flat in each post: peak from 18:00 to 21:00 on workdays."""
    height = peak if day.weekday() < 5 else off_peak
    return [height if PEAK_FROM <= slot < PEAK_TO else off_peak for slot in range(288)]


@pytest.fixture
def point(embedded_db: Database) -> Point:
    """A UC by chain-e, with a gap of the day that nothing but E5 fills, and E5 approved."""
    with embedded_db.connect() as conn:
        (made,) = add_points(conn, 1)
        conn.execute("INSERT INTO uc_estimation SELECT id, '[2026-01-01,)', 'chain-e' FROM uc")
        conn.execute(
            "INSERT INTO estimate_approval (uc_id, day, method, approved_by) VALUES (%s, %s, 'E5', 'ana')",
            [made.uc_id, DAY],
        )
    pulses = with_gap([100 + (value or 0) // 4 for value in curve(1)], FIRST, LAST)
    put_readings(embedded_db, [(made.meter_id, DAY, pulses)])
    return made


def put_cycles(db: Database, point: Point) -> None:
    put_readings(db, [(point.meter_id, day, month_day(day)) for day in JULY])
    derive(db, JULY[0], JULY[-1], as_of=AT, run_id="july")


def tell_posts(db: Database, point: Point, at: dt.datetime) -> None:
    with db.connect() as conn:
        row = conn.execute(
            "INSERT INTO session (meter_id, collector, purpose, protocol, url, started_at, outcome) "
            "VALUES (%s, 'c', 'routine', 'nbr14522', 'tcp://x', %s, 'complete') RETURNING id",
            [point.meter_id, at],
        ).fetchone()
        assert row is not None
        conn.execute(
            "INSERT INTO meter_parameters (session_id, meter_id, command, at, values) "
            "VALUES (%s, %s, 33, %s, %s)",
            [row[0], point.meter_id, at, Jsonb(POSTS)],
        )


def outcome(db: Database) -> tuple[Any, ...]:
    derive(db, DAY, DAY, as_of=AT, run_id="r")
    with db.connect() as conn:
        row = conn.execute("SELECT state, cause FROM uc_day_outcome WHERE day = %s", [DAY]).fetchone()
    assert row is not None
    return row


def filled(db: Database, point: Point, folder: Path) -> list[Decimal]:
    body = sent_day(db, point.uc_code, DAY, AT, folder)
    assert body is not None
    assert [slot for slot, (kind, _) in enumerate(body) if kind == "AJUSTADO"] == [*range(FIRST, LAST + 1)]
    return [kwh for _, kwh in body[FIRST : LAST + 1]]


@pytest.mark.req("TR-2e")
def test_each_post_gets_its_own_mean_of_the_last_cycles(
    embedded_db: Database, point: Point, tmp_path: Path
) -> None:
    put_cycles(embedded_db, point)
    tell_posts(embedded_db, point, AT - dt.timedelta(days=30))
    assert outcome(embedded_db) == ("ready", "")
    expected = [Decimal("0.72")] * (PEAK_FROM - FIRST) + [Decimal("2.16")] * (LAST + 1 - PEAK_FROM)
    assert filled(embedded_db, point, tmp_path) == expected
    with embedded_db.connect() as conn:
        rows = conn.execute("SELECT method, approved_by, detail -> 'posts' FROM estimate").fetchall()
    assert rows == [("E5", "ana", 3)]


@pytest.mark.req("TR-2e")
def test_a_meter_that_tells_no_posts_has_one(embedded_db: Database, point: Point, tmp_path: Path) -> None:
    put_cycles(embedded_db, point)
    # What it says later was not so on the day.
    tell_posts(embedded_db, point, AT + dt.timedelta(days=2))
    assert outcome(embedded_db) == ("ready", "")
    peaks = 5 * (PEAK_TO - PEAK_FROM)
    mean = Decimal(7 * 288 * 100 + peaks * 200) / (7 * 288) * Decimal("0.0072")
    assert set(filled(embedded_db, point, tmp_path)) == {mean.quantize(Decimal("0.001"))}


@pytest.mark.req("TR-2e")
def test_without_cycles_e5_is_skipped_and_says_why(embedded_db: Database, point: Point) -> None:
    state, cause = outcome(embedded_db)
    assert (state, cause) == ("incomplete", "no_history_needs_approval")
    with embedded_db.connect() as conn:
        (detail,) = conn.execute("SELECT detail FROM uc_day_outcome WHERE day = %s", [DAY]).fetchone() or ()
    assert "no day known in the 12 cycles before" in str(detail)
    # Nor without a person's approval, whatever is known.
    put_cycles(embedded_db, point)
    with embedded_db.connect() as conn:
        conn.execute("DELETE FROM estimate_approval")
    assert outcome(embedded_db)[1] == "no_history_needs_approval"
