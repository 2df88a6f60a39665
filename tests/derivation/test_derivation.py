"""From stored readings to stored layers, on both databases, without Dagster."""

from __future__ import annotations

import datetime as dt
import random
import signal
import subprocess
import sys
import time
from fractions import Fraction

import polars as pl
import pytest

from derivation.run import derive, history_as_of
from storage import readings
from storage.database import Database
from tests.derivation.world import (
    DAY,
    NOW,
    add_points,
    curve,
    put_history,
    put_readings,
    snapshot,
    with_gap,
)
from vee.calendars import load_calendars
from vee.quality import Origin, Reason

ONE_DAY = dt.timedelta(days=1)


def layers_of(db: Database, uc_id: int, day: dt.date = DAY) -> dict[int, tuple]:
    """Layer -> (version, denominator, numerators, origin, reason), latest version."""
    with db.connect() as conn:
        rows = conn.execute(
            "SELECT layer, version, denominator, numerators, origin, reason FROM series_latest "
            "WHERE uc_id = %s AND day = %s",
            [uc_id, day],
        ).fetchall()
    return {layer: tuple(rest) for layer, *rest in rows}


def outcome_of(db: Database, uc_id: int, day: dt.date = DAY) -> tuple[str, str]:
    with db.connect() as conn:
        row = conn.execute(
            "SELECT state, cause FROM uc_day_outcome WHERE uc_id = %s AND day = %s", [uc_id, day]
        ).fetchone()
    assert row is not None
    return row


@pytest.mark.req("TR-2a", "TR-2b", "X-trace")
def test_measured_day_comes_out_exact_in_every_interval(db: Database) -> None:
    with db.connect() as conn:
        point, lossy = add_points(conn, 2)
        conn.execute(
            "INSERT INTO point_loss (point_id, kind, valid, percent) "
            "SELECT id, 'transformation', '[2026-01-01,)', 2.5 FROM point WHERE uc_id = %s",
            [lossy.uc_id],
        )
    pulses = curve(1)
    put_readings(db, [(point.meter_id, DAY, pulses), (lossy.meter_id, DAY, pulses)])

    summary = derive(db, DAY, DAY, as_of=NOW, run_id="r1")

    assert summary.outcomes == {"ready": 2}
    for uc, factor in ((point, Fraction(1)), (lossy, Fraction(1025, 1000))):
        layers = layers_of(db, uc.uc_id)
        _, denominator, numerators, origin, _ = layers[5]
        exact = [pulse * Fraction(9, 1250) * factor for pulse in pulses]
        assert denominator == 1000
        assert numerators == [int(value * 1000 + Fraction(1, 2)) for value in exact]
        assert set(origin) == {Origin.MEASURED}
        _, denominator, numerators, _, _ = layers[4]
        assert [Fraction(number, denominator) for number in numerators] == exact
    assert summary.layers[0].energy_kwh == 2 * sum(pulses) * Fraction(9, 1250)


@pytest.mark.req("TR-2b")
def test_second_run_writes_nothing(db: Database) -> None:
    with db.connect() as conn:
        points = add_points(conn, 3)
    put_readings(
        db,
        [(points[0].meter_id, DAY, curve(1)), (points[1].meter_id, DAY, with_gap(curve(2), 100, 105))],
    )
    derive(db, DAY, DAY, as_of=NOW, run_id="r1")
    before = snapshot(db)
    with db.connect() as conn:
        stamps = conn.execute("SELECT max(recorded_at), max(run_id) FROM series_day").fetchone()

    again = derive(db, DAY, DAY, as_of=NOW + dt.timedelta(hours=1), run_id="r2")

    assert again.written == 0
    assert snapshot(db) == before
    with db.connect() as conn:
        assert conn.execute("SELECT max(recorded_at), max(run_id) FROM series_day").fetchone() == stamps


@pytest.mark.req("TR-5.6d")
def test_a_moved_clock_flags_its_interval_even_if_already_derived(
    embedded_db: Database,
) -> None:
    db = embedded_db
    with db.connect() as conn:
        (point,) = add_points(conn, 1)
    put_readings(db, [(point.meter_id, DAY, curve(1))])
    derive(db, DAY, DAY, as_of=NOW, run_id="r1")
    before = layers_of(db, point.uc_id)
    with db.connect() as conn:
        conn.execute(
            "INSERT INTO interval_flag (meter_id, day, first_slot, last_slot, flag) "
            "VALUES (%s, %s, 37, 38, 'clock_set')",
            [point.meter_id, DAY],
        )

    derive(db, DAY, DAY, as_of=NOW, run_id="r2")

    with db.connect() as conn:
        told = conn.execute("SELECT rule, first_slot, last_slot, result FROM verdict WHERE rule = 'V09'")
        assert told.fetchall() == [("V09", 37, 38, "alert")]
    assert layers_of(db, point.uc_id) == before


@pytest.mark.req("TR-5.6d")
def test_a_flagged_quarter_hour_flags_three_market_intervals(
    embedded_db: Database,
) -> None:
    db = embedded_db
    with db.connect() as conn:
        points = add_points(conn, 2)
    quarter, usual = points
    schema = {name: kind for name, kind in readings.SCHEMA.items() if name != "version"}
    rows = [
        (quarter.meter_id, 1, DAY, 1, 900, curve(1, 96), [0], [1]),
        (usual.meter_id, 1, DAY, 1, 300, curve(2), [0], [1]),
    ]
    refused = (quarter.meter_id, 1, DAY, 1, 900, [*curve(1, 96)[:-1], 401], [0], [2])
    with db.connect() as conn:
        for batch in (rows, [refused]):
            readings.merge_readings(conn, pl.DataFrame(batch, schema=schema, orient="row"), NOW)
        for point in points:
            conn.execute(
                "INSERT INTO interval_flag (meter_id, day, first_slot, last_slot, flag) "
                "VALUES (%s, %s, 37, 38, 'clock_set')",
                [point.meter_id, DAY],
            )

    derive(db, DAY, DAY, as_of=NOW, run_id="r1")

    with db.connect() as conn:
        told = conn.execute(
            "SELECT uc_id, rule, first_slot, last_slot FROM verdict "
            "WHERE rule IN ('V09', 'V03') ORDER BY 1, 2"
        ).fetchall()
    assert told == [
        (quarter.uc_id, "V03", 285, 287),
        (quarter.uc_id, "V09", 111, 116),
        (usual.uc_id, "V09", 37, 38),
    ]


@pytest.mark.req("X-scale")
def test_chunks_and_shards_do_not_change_the_result(embedded_db: Database) -> None:
    db = embedded_db
    with db.connect() as conn:
        points = add_points(conn, 7)
    put_readings(
        db,
        [
            (point.meter_id, DAY, with_gap(curve(point.uc_id), 40 * number, 40 * number + 4))
            for number, point in enumerate(points)
        ],
    )
    seen = []

    def follow(done: int, total: int) -> None:
        seen.append((done, total))

    derive(db, DAY, DAY, as_of=NOW, run_id="whole", chunk_ucs=2, progress=follow)
    whole = snapshot(db)
    with db.connect() as conn:
        conn.execute("DELETE FROM series_day")
        for table in ("estimate", "verdict", "uc_day_outcome"):
            conn.execute(f"DELETE FROM {table}")

    for shard in range(3):
        derive(db, DAY, DAY, shard, 3, as_of=NOW, run_id=f"shard {shard}")

    assert snapshot(db) == whole
    # Even and odd UCs are stored side by side: 2 and 4, 1 and 3, 6, 5 and 7.
    assert seen == [(2, 7), (4, 7), (5, 7), (7, 7)]


@pytest.mark.req("TR-2e")
def test_gap_of_hours_takes_the_same_weekday_of_closed_months(embedded_db: Database) -> None:
    db = embedded_db
    with db.connect() as conn:
        points = add_points(conn, 2)
    # Friday 2026-11-20 is a national holiday: the Sundays of twelve weeks up to 31 October speak for it.
    first, last = dt.date(2026, 8, 9), dt.date(2026, 10, 31)
    put_history(db, points, first, last)
    derive(db, first, last, as_of=NOW, run_id="history")
    pulses = with_gap(curve(1), 120, 160)
    put_readings(db, [(points[0].meter_id, DAY, pulses)])

    summary = derive(db, DAY, DAY, as_of=NOW, run_id="r1")

    assert summary.methods["A"] >= 1
    assert outcome_of(db, points[0].uc_id) == ("ready", "")
    _, denominator, numerators, origin, reason = layers_of(db, points[0].uc_id)[3]
    sundays = [first + n * ONE_DAY for n in range(84) if (first + n * ONE_DAY).weekday() == 6]
    history = [layers_of(db, points[0].uc_id, day)[3] for day in sundays]
    for slot in (120, 143, 160):
        mean = sum(Fraction(row[2][slot], row[1]) for row in history) / len(history)
        assert Fraction(numerators[slot], denominator) == mean
        assert (origin[slot], reason[slot]) == (Origin.ESTIMATED, Reason.RULE_A_HOLIDAY)


@pytest.mark.req("TR-2e")
def test_late_neighbour_replaces_the_provisional_estimate(embedded_db: Database) -> None:
    """The last hour of a day waits for the first hour of the next: rule A for now, rule B then."""
    db = embedded_db
    with db.connect() as conn:
        (point,) = add_points(conn, 1)
    put_history(db, [point], dt.date(2026, 8, 9), dt.date(2026, 10, 31))
    derive(db, dt.date(2026, 8, 9), dt.date(2026, 10, 31), as_of=NOW, run_id="history")
    put_readings(db, [(point.meter_id, DAY, with_gap(curve(1), 276, 287))])
    derive(db, DAY, DAY, as_of=NOW, run_id="r1")
    assert layers_of(db, point.uc_id)[3][4][280] == Reason.RULE_A_AWAITING_NEIGHBOUR

    put_readings(db, [(point.meter_id, DAY + ONE_DAY, curve(2))], at=NOW + ONE_DAY)
    summary = derive(db, DAY, DAY, as_of=NOW + ONE_DAY, run_id="r2")

    assert summary.written == 1
    version, denominator, numerators, _, reason = layers_of(db, point.uc_id)[3]
    assert (version, reason[280]) == (1, Reason.RULE_B)
    before, after = curve(1)[264 + 4], curve(2)[4]
    assert Fraction(numerators[280], denominator) == Fraction(before + after, 2) * Fraction(9, 1250)


@pytest.mark.req("TR-2b", "X-trace")
def test_delivered_day_gets_a_version_beside_the_old_one(db: Database) -> None:
    with db.connect() as conn:
        (point,) = add_points(conn, 1)
    put_readings(db, [(point.meter_id, DAY, with_gap(curve(1), 100, 103))])
    derive(db, DAY, DAY, as_of=NOW, run_id="r1")
    with db.connect() as conn:
        conn.execute(
            "INSERT INTO submission (agent_id, uc_id, day, version, series_version, profile, body_sha256, "
            "body_bytes, cause, run_id) "
            "SELECT agent_id, id, %s, 1, 1, 'p', '\\x00', 1, 'first', 'r1' FROM uc WHERE id = %s",
            [DAY, point.uc_id],
        )
    put_readings(db, [(point.meter_id, DAY, curve(1))], at=NOW)

    derive(db, DAY, DAY, as_of=NOW, run_id="r2")

    with db.connect() as conn:
        versions = conn.execute(
            "SELECT version, run_id, count(*), min(input_version) FROM series_day GROUP BY 1, 2 ORDER BY 1"
        ).fetchall()
    assert [(version, run, count) for version, run, count, _ in versions] == [(1, "r1", 5), (2, "r2", 5)]
    assert set(layers_of(db, point.uc_id)[5][3]) == {Origin.MEASURED}


@pytest.mark.req("TR-2b")
def test_uc_that_cannot_be_computed_is_set_aside_and_the_others_go_on(embedded_db: Database) -> None:
    db = embedded_db
    with db.connect() as conn:
        points = add_points(conn, 4)
        # An energy per pulse of 2^62 kWh times a count does not fit 64 bits.
        conn.execute(
            "UPDATE installation SET pulse_energy_num = %s WHERE meter_id = %s", [2**62, points[1].meter_id]
        )
    put_readings(db, [(point.meter_id, DAY, curve(point.uc_id)) for point in points])

    summary = derive(db, DAY, DAY, as_of=NOW, run_id="r1")

    assert summary.outcomes == {"ready": 3, "held": 1}
    assert outcome_of(db, points[1].uc_id) == ("held", "arithmetic")
    with db.connect() as conn:
        rows = conn.execute("SELECT stage, uc_id, day FROM quarantine").fetchall()
    assert rows == [("arithmetic", points[1].uc_id, DAY)]


@pytest.mark.req("TR-2b")
def test_unexpected_fault_of_one_uc_is_narrowed_down(
    embedded_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = embedded_db
    with db.connect() as conn:
        points = add_points(conn, 9)
    put_readings(db, [(point.meter_id, DAY, curve(point.uc_id)) for point in points])
    from derivation import run as derivation

    honest = derivation.compute

    def fails_for_one(facts, days, settings, reader):
        if points[4].uc_id in facts.registry["uc_id"].to_list():
            raise ValueError("percent 'abc' is not a number")
        return honest(facts, days, settings, reader)

    monkeypatch.setattr(derivation, "compute", fails_for_one)

    summary = derive(db, DAY, DAY, as_of=NOW, run_id="r1")

    assert summary.outcomes == {"ready": 8, "held": 1}
    assert outcome_of(db, points[4].uc_id) == ("held", "arithmetic")
    with db.connect() as conn:
        (reason,) = conn.execute("SELECT reason FROM quarantine").fetchone()
    assert reason == "ValueError: percent 'abc' is not a number"
    monkeypatch.setattr(derivation, "compute", honest)
    assert derive(db, DAY, DAY, as_of=NOW, run_id="r2").outcomes == {"ready": 9}


@pytest.mark.req("TR-2b")
def test_suspended_uc_is_not_expected_and_unread_one_is_incomplete(embedded_db: Database) -> None:
    db = embedded_db
    with db.connect() as conn:
        active, suspended, captive = add_points(conn, 3)
        conn.execute("UPDATE uc_status SET status = 'suspended' WHERE uc_id = %s", [suspended.uc_id])
        conn.execute("UPDATE uc_status SET status = 'captive' WHERE uc_id = %s", [captive.uc_id])
    put_readings(db, [(suspended.meter_id, DAY, curve(1))])

    derive(db, DAY, DAY, as_of=NOW, run_id="r1")

    assert outcome_of(db, suspended.uc_id) == ("not_expected", "suspended")
    state, _ = outcome_of(db, active.uc_id)
    assert state == "incomplete"
    with db.connect() as conn:
        row = conn.execute("SELECT 1 FROM uc_day_outcome WHERE uc_id = %s", [captive.uc_id]).fetchone()
    assert row is None, "nothing is expected of a captive UC, and nothing came"


@pytest.mark.req("TR-2e")
def test_one_date_of_closed_history_for_a_closed_month() -> None:
    known = load_calendars()
    # While November runs: the day after. From its closing (MS+1du, 2026-12-01) on: that day, for all of it.
    assert history_as_of(dt.date(2026, 11, 10), dt.date(2026, 11, 11), known) == dt.date(2026, 11, 11)
    assert history_as_of(dt.date(2026, 11, 10), dt.date(2026, 11, 25), known) == dt.date(2026, 11, 11)
    for day in (dt.date(2026, 11, 1), dt.date(2026, 11, 30)):
        assert history_as_of(day, dt.date(2026, 12, 20), known) == dt.date(2026, 12, 1)


_CHILD = """
import datetime as dt, sys
from derivation.run import derive
from storage.database import Database
from storage.settings import DatabaseSettings, Settings
from tests.derivation.world import DAY, NOW
with Database.open(Settings(database=DatabaseSettings(url=sys.argv[1]))) as db:
    print("ready", flush=True)
    derive(db, DAY - dt.timedelta(2), DAY, as_of=NOW, run_id="killed", chunk_ucs=6)
    print("done", flush=True)
"""


@pytest.mark.req("X-trace")
def test_killed_at_any_moment_and_run_again_ends_in_the_same_rows(embedded_db: Database) -> None:
    db = embedded_db
    with db.connect() as conn:
        points = add_points(conn, 24)
    put_readings(
        db,
        [
            (point.meter_id, DAY - n * ONE_DAY, with_gap(curve(point.uc_id + 100 * n), 90 + n, 95 + n))
            for point in points
            for n in range(3)
        ],
    )
    began = time.monotonic()
    derive(db, DAY - 2 * ONE_DAY, DAY, as_of=NOW, run_id="undisturbed", chunk_ucs=6)
    whole_s = time.monotonic() - began
    undisturbed = snapshot(db)
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}")
    moments = random.Random(seed)
    unfinished = 0
    for part in range(6):
        with db.connect() as conn:
            for table in ("series_day", "estimate", "verdict", "uc_day_outcome"):
                conn.execute(f"DELETE FROM {table}")
        child = subprocess.Popen([sys.executable, "-c", _CHILD, db.url], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        # From its beginning to beyond its end, whatever the machine's speed.
        time.sleep((part + moments.random()) / 4 * whole_s)
        child.send_signal(signal.SIGKILL)
        unfinished += "done" not in child.stdout.read()
        child.wait()

        derive(db, DAY - 2 * ONE_DAY, DAY, as_of=NOW, run_id="rerun", chunk_ucs=6)

        assert snapshot(db) == undisturbed
    assert unfinished, "no run was killed before its end: the moments are too late"
