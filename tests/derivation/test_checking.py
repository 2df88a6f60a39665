"""The statements about layers: they hold for what derivation made, and each kind of damage breaks its own."""

from __future__ import annotations

import datetime as dt

import pytest

from derivation import checking
from derivation.run import derive
from derivation.window import Window
from storage.database import Database
from tests.derivation.world import DAY, NOW, Point, add_points, curve, put_readings, with_gap

pytestmark = pytest.mark.req("TR-2b")

WINDOW = Window(DAY, DAY, 0, 1)


@pytest.fixture
def points(embedded_db: Database) -> list[Point]:
    """Three derived UCs: whole with losses, a filled gap, nothing read."""
    with embedded_db.connect() as conn:
        made = add_points(conn, 3)
        conn.execute(
            "INSERT INTO point_loss (point_id, kind, valid, percent) "
            "SELECT id, 'transformation', '[2026-01-01,)', 2.5 FROM point WHERE uc_id = %s",
            [made[0].uc_id],
        )
    put_readings(
        embedded_db,
        [(made[0].meter_id, DAY, curve(1)), (made[1].meter_id, DAY, with_gap(curve(2), 100, 105))],
    )
    derive(embedded_db, DAY, DAY, as_of=NOW, run_id="r1")
    return made


def damage(db: Database, statement: str, *parameters: object) -> None:
    with db.connect() as conn:
        assert conn.execute(statement, parameters).rowcount == 1


def test_all_hold_for_what_was_derived(embedded_db: Database, points: list[Point]) -> None:
    found = checking.layers(embedded_db, WINDOW)
    complete = checking.completeness(embedded_db, WINDOW)

    for finding in (found.never_zero, found.by_losses, found.by_rounding, complete):
        assert finding.holds, finding.broken
        assert finding.judged == 3
    assert complete.numbers["ready_uc_days"] == 2
    assert complete.numbers["cause no_history_needs_approval"] == 1
    assert found.never_zero.numbers["intervals_missing_in_primary"] == 288 + 6
    assert found.never_zero.numbers["intervals_missing_in_ccee"] == 288
    lossless = found.by_losses.numbers["energy_estimated_kwh"]
    assert found.by_losses.numbers["energy_adjusted_kwh"] > lossless


@pytest.mark.parametrize("layer", [2, 3, 5])
def test_gap_turned_into_zero_is_seen(embedded_db: Database, points: list[Point], layer: int) -> None:
    damage(
        embedded_db,
        "UPDATE series_day SET numerators = array_fill(0::bigint, ARRAY[288]) "
        "WHERE layer = %s AND uc_id = %s",
        layer,
        points[2].uc_id,
    )
    broken = checking.layers(embedded_db, WINDOW).never_zero.broken
    assert list(broken) == [f"UC id {points[2].uc_id} {DAY}"]


def test_lost_energy_is_seen(embedded_db: Database, points: list[Point]) -> None:
    statement = "UPDATE series_day SET numerators[7] = numerators[7] + 1 WHERE layer = %s AND uc_id = %s"
    damage(embedded_db, statement, checking.ADJUSTED, points[0].uc_id)
    damage(embedded_db, statement, checking.CCEE, points[1].uc_id)

    found = checking.layers(embedded_db, WINDOW)

    assert list(found.by_losses.broken) == [f"UC id {points[0].uc_id} {DAY}"]
    assert list(found.by_rounding.broken) == [f"UC id {points[1].uc_id} {DAY}"]
    assert found.never_zero.holds


def test_day_without_an_outcome_and_ready_day_with_a_gap_are_seen(
    embedded_db: Database, points: list[Point]
) -> None:
    damage(embedded_db, "DELETE FROM uc_day_outcome WHERE uc_id = %s", points[0].uc_id)
    damage(embedded_db, "UPDATE uc_day_outcome SET missing = 1 WHERE uc_id = %s", points[1].uc_id)

    broken = checking.completeness(embedded_db, WINDOW).broken

    assert broken == {
        f"{points[0].uc_code} {DAY}": "nothing says what became of it",
        f"{points[1].uc_code} {DAY}": "ready with 1 intervals missing",
    }


def put_registers(db: Database, meter_id: int, at: dt.datetime, total: int) -> None:
    with db.connect() as conn:
        (session,) = conn.execute(
            "INSERT INTO session (meter_id, collector, purpose, protocol, url, started_at) "
            "VALUES (%s, 'c', 'missing', 'nbr14522', 'tcp://h:1', %s) RETURNING id",
            [meter_id, at],
        ).fetchone()
        conn.execute("UPDATE session SET outcome = 'complete' WHERE id = %s", [session])
        conn.execute(
            "INSERT INTO register_reading (session_id, meter_id, command, channel, at, values) "
            "VALUES (%s, %s, 35, 1, %s, jsonb_build_object('total_pulses', %s::bigint))",
            [session, meter_id, at, total],
        )


@pytest.mark.parametrize(
    ("extra", "holds"), [(0, True), (-1, False), (10**6, False)], ids=["equal", "too little", "too much"]
)
def test_register_against_intervals(
    embedded_db: Database, points: list[Point], extra: int, holds: bool
) -> None:
    # From 01:02 to 23:58: slots 13 to 286 lie wholly between, 12 and 287 are cut.
    start = dt.datetime(2026, 11, 20, 3, tzinfo=dt.UTC)
    gained = sum(curve(1)[13:287])
    put_registers(embedded_db, points[0].meter_id, start + dt.timedelta(minutes=62), 10**10 - 5)
    put_registers(
        embedded_db,
        points[0].meter_id,
        start + dt.timedelta(minutes=23 * 60 + 58),
        (gained - 5 + extra) % 10**10,
    )

    finding = checking.registers(embedded_db, WINDOW)

    assert finding.judged == 1
    assert finding.holds is holds, finding.broken


def test_register_period_with_a_gap_is_not_judged(embedded_db: Database, points: list[Point]) -> None:
    start = dt.datetime(2026, 11, 20, 3, tzinfo=dt.UTC)
    put_registers(embedded_db, points[1].meter_id, start, 0)
    put_registers(embedded_db, points[1].meter_id, start + dt.timedelta(hours=24), 5)

    finding = checking.registers(embedded_db, WINDOW)

    assert (finding.judged, finding.numbers) == (0, {"periods_with_missing_intervals": 1})
