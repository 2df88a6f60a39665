"""Verdicts of days join into periods that grow, split and close; each missing interval has its cause."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import pytest

from derivation.run import derive
from storage.database import Database
from tests.derivation.world import DAY, NOW, Point, add_points, curve, put_readings, with_gap

D = [DAY - dt.timedelta(days=5 - n) for n in range(6)]


@pytest.fixture
def point(embedded_db: Database) -> Point:
    with embedded_db.connect() as conn:
        (made,) = add_points(conn, 1)
    return made


def put(db: Database, point: Point, day: dt.date, first: int = 0, last: int = -1) -> None:
    """A day with a gap from slot `first` to `last`; without them, whole. Readings of a slot never go."""
    with db.connect() as conn:
        conn.execute("DELETE FROM reading_day WHERE day = %s", [day])
    put_readings(db, [(point.meter_id, day, with_gap(curve(day.toordinal()), first, last))])


def run(db: Database, *days: dt.date) -> None:
    for day in days:
        derive(db, day, day, as_of=NOW, run_id="r")


def periods(db: Database, rule: str = "V01") -> list[tuple[Any, ...]]:
    with db.connect() as conn:
        return conn.execute(
            "SELECT id, first_day, first_slot, last_day, last_slot, days, slots, state FROM verdict_period "
            "WHERE rule = %s ORDER BY first_day",
            [rule],
        ).fetchall()


def test_a_period_grows_closes_and_splits(embedded_db: Database, point: Point) -> None:
    db = embedded_db
    put(db, point, D[0], 280, 287)
    put(db, point, D[1], 0, 287)
    put(db, point, D[2], 0, 10)
    put(db, point, D[3])
    run(db, D[0])
    assert periods(db) == [(1, D[0], 280, D[0], 287, 1, 8, "open")]
    run(db, D[1])
    assert periods(db) == [(1, D[0], 280, D[1], 287, 2, 296, "open")]
    run(db, D[2])
    assert periods(db) == [(1, D[0], 280, D[2], 10, 3, 307, "open")]
    run(db, D[3])
    assert periods(db) == [(1, D[0], 280, D[2], 10, 3, 307, "closed")]
    # The day in the middle comes late: the first part keeps its number.
    put(db, point, D[1])
    run(db, D[1])
    assert periods(db) == [
        (1, D[0], 280, D[0], 287, 1, 8, "closed"),
        (2, D[2], 0, D[2], 10, 1, 11, "closed"),
    ]
    put(db, point, D[0])
    put(db, point, D[2])
    run(db, D[0], D[2])
    assert periods(db) == []


def test_order_of_days_does_not_matter(embedded_db: Database, point: Point) -> None:
    db = embedded_db
    gaps = {D[0]: (5, 9), D[1]: (0, 287), D[3]: (20, 20), D[4]: (0, 3)}
    for day in D[:5]:
        put(db, point, day, *gaps.get(day, (0, -1)))
    seen = []
    for order in itertools.islice(itertools.permutations(D[:5]), 0, 120, 17):
        with db.connect() as conn:
            for table in (
                "verdict_period",
                "verdict",
                "estimate",
                "uc_day_outcome",
                "series_day",
                "uc_day_shape",
            ):
                conn.execute(f"DELETE FROM {table}")
        run(db, *order)
        seen.append([period[1:] for period in periods(db)])
    assert seen[0] == [
        (D[0], 5, D[1], 287, 2, 293, "closed"),
        (D[3], 20, D[4], 3, 2, 5, "open"),
    ]
    assert all(one == seen[0] for one in seen)


def test_a_second_run_leaves_periods_as_they_were(embedded_db: Database, point: Point) -> None:
    put(embedded_db, point, D[0], 0, 5)
    run(embedded_db, D[0])
    with embedded_db.connect() as conn:
        before = conn.execute("SELECT * FROM verdict_period").fetchall()
    derive(embedded_db, D[0], D[0], as_of=NOW + dt.timedelta(hours=1), run_id="again")
    with embedded_db.connect() as conn:
        assert conn.execute("SELECT * FROM verdict_period").fetchall() == before


def add_session(db: Database, point: Point, outcome: str, error: str | None = None) -> int:
    with db.connect() as conn:
        row = conn.execute(
            "INSERT INTO session (meter_id, collector, purpose, protocol, url, started_at, outcome, error) "
            "VALUES (%s, 'c', 'routine', 'nbr14522', 'tcp://x', %s, %s, %s::jsonb) RETURNING id",
            [point.meter_id, NOW - dt.timedelta(hours=1), outcome, error],
        ).fetchone()
    assert row is not None
    return int(row[0])


def causes(db: Database) -> list[tuple[str, int, int]]:
    run(db, DAY)
    with db.connect() as conn:
        return conn.execute(
            "SELECT detail ->> 'cause', first_slot, last_slot FROM verdict WHERE rule = 'V01' AND day = %s "
            "ORDER BY first_slot",
            [DAY],
        ).fetchall()


@pytest.mark.req("TR-2b")
def test_each_missing_interval_has_its_cause(embedded_db: Database, point: Point) -> None:
    db = embedded_db
    put(db, point, DAY, 100, 150)
    assert causes(db) == [("not_due", 100, 150)]
    add_session(db, point, "failed", '{"actor": "retry"}')
    assert causes(db) == [("no_link", 100, 150)]
    add_session(db, point, "failed", '{"actor": "operator"}')
    assert causes(db) == [("refused", 100, 150)]
    add_session(db, point, "complete")
    assert causes(db) == [("gap", 100, 150)]
    with db.connect() as conn:
        conn.execute(
            "INSERT INTO job_request (kind, meter_id, requested_by, state, result) VALUES "
            "('read', %s, 't', 'done', jsonb_build_object('exhausted_days', jsonb_build_array(%s::text)))",
            [point.meter_id, DAY.isoformat()],
        )
    assert causes(db) == [("overwritten", 100, 150)]
    held: list[int | None] = [None] * 288
    held[110:121] = [7] * 11
    with db.connect() as conn:
        conn.execute(
            "INSERT INTO reading_hold (meter_id, channel, day, quantity_code, interval_s, pulses, "
            "source_starts, source_sessions, reason, rule, held_at) "
            "VALUES (%s, 1, %s, 1, 300, %s, '{0}', '{1}', 'clock', 'V09', %s)",
            [point.meter_id, DAY, held, NOW],
        )
    assert causes(db) == [("overwritten", 100, 109), ("clock", 110, 120), ("overwritten", 121, 150)]
    with db.connect() as conn:
        conn.execute("UPDATE reading_hold SET reason = 'constant'")
    assert [cause for cause, _, _ in causes(db)] == ["overwritten", "rule", "overwritten"]
    # Each cause is a period of its own.
    with db.connect() as conn:
        assert conn.execute(
            "SELECT cause, first_slot, last_slot, slots FROM verdict_period ORDER BY cause"
        ).fetchall() == [("overwritten", 100, 150, 40), ("rule", 110, 120, 11)]


def test_intervals_to_come_are_not_due_and_a_meter_not_there_is_said(
    embedded_db: Database, point: Point
) -> None:
    db = embedded_db
    put(db, point, DAY, 200, 287)
    with db.connect() as conn:
        conn.execute(
            "UPDATE installation SET valid = tstzrange(%s, NULL)",
            [dt.datetime.combine(DAY, dt.time(5, 0), dt.UTC)],
        )
    early = dt.datetime.combine(DAY, dt.time(20, 0), dt.UTC)
    derive(db, DAY, DAY, as_of=early, run_id="r")
    with db.connect() as conn:
        found = conn.execute(
            "SELECT detail ->> 'cause', first_slot, last_slot FROM verdict WHERE rule = 'V01' ORDER BY 2"
        ).fetchall()
    # Installed at 02:00 of the market; it is 17:00.
    assert found == [("no_meter", 0, 23), ("not_due", 200, 287)]
