"""All sensors, driven tick by tick on an ephemeral instance."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from functools import cache

import dagster as dg
import pytest

from assets.partitions import Partitions
from assets.resources import CceeAccess, Clock, Metering
from derivation.run import derive
from pipelines.definitions import build_defs
from sensors import deadlines, late_data, ready_days
from sensors.ready_days import first_open_day
from storage.database import Database
from tests.dagster_strict import strict_dagster
from tests.derivation.world import DAY, NOW, Point, add_points, curve, put_readings, with_gap
from vee.calendars import load_calendars

pytestmark = strict_dagster(pytest.mark.req("TR-2a"))

PARTITIONS = Partitions(dt.date(2026, 1, 1))
MINUTE = dt.timedelta(minutes=1)


@cache
def definitions() -> dg.Definitions:
    """Built once: each tick brings resources of its own."""
    return build_defs(partitions=PARTITIONS)


class Harness:
    """Ticks of one sensor, with a clock that is set by hand and a cursor that is carried on."""

    def __init__(self, db: Database, sensor: str, instance: dg.DagsterInstance) -> None:
        self.db, self.sensor, self.instance = db, sensor, instance
        self.cursor: str | None = None

    def tick(self, now: dt.datetime) -> list[dg.RunRequest]:
        resources = {
            "metering": Metering(url=self.db.url, data_dir=str(self.db.data_dir)),
            "clock": Clock(at=now.isoformat()),
            "ccee": CceeAccess(),
        }
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            repository_def=definitions().get_repository_def(),
            resources=resources,
        ) as context:
            data = definitions().resolve_sensor_def(self.sensor).evaluate_tick(context)
        self.cursor = data.cursor
        self.told = [str(event.asset_key) for event in data.asset_events]
        assert data.run_requests or data.skip_message or data.asset_events
        return list(data.run_requests or [])

    def partitions(self, now: dt.datetime) -> list[str | None]:
        return [request.partition_key for request in self.tick(now)]

    def materialised(self, day: dt.date, as_of: dt.datetime) -> None:
        """What a run that derived the day leaves in the instance."""
        self.instance.report_runless_asset_event(
            dg.AssetMaterialization(
                "series_ccee", partition=str(PARTITIONS.key(day)), metadata={"as_of": as_of.isoformat()}
            )
        )


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def point(embedded_db: Database) -> Point:
    with embedded_db.connect() as conn:
        (made,) = add_points(conn, 1)
    return made


# --- late data ------------------------------------------------------------------------------------------


def test_readings_after_the_derivation_ask_for_the_day_and_its_neighbours(
    embedded_db: Database, point: Point, instance: dg.DagsterInstance
) -> None:
    sensor = Harness(embedded_db, late_data.NAME, instance)
    now, late = NOW + dt.timedelta(hours=1), DAY - dt.timedelta(days=3)
    for n in (-2, -1, 0, 1):
        sensor.materialised(late + dt.timedelta(days=n), NOW)
    put_readings(embedded_db, [(point.meter_id, late, curve(1))], at=now - 5 * MINUTE)

    asked = sensor.tick(now)

    assert [request.partition_key for request in asked] == ["2026-11-16", "2026-11-17", "2026-11-18"]
    again = sensor.tick(now + MINUTE)
    assert {request.run_key for request in again} <= {request.run_key for request in asked}, "the same keys"
    for n in (-1, 0, 1):
        sensor.materialised(late + dt.timedelta(days=n), now + 2 * MINUTE)
    assert sensor.partitions(now + 3 * MINUTE) == []


def test_day_that_was_never_derived_is_not_late(
    embedded_db: Database, point: Point, instance: dg.DagsterInstance
) -> None:
    sensor = Harness(embedded_db, late_data.NAME, instance)
    put_readings(embedded_db, [(point.meter_id, DAY, curve(1))], at=NOW - 5 * MINUTE)
    assert sensor.partitions(NOW) == []


def test_readings_that_still_come_in_are_waited_for_but_not_for_ever(
    embedded_db: Database, point: Point, instance: dg.DagsterInstance
) -> None:
    sensor = Harness(embedded_db, late_data.NAME, instance)
    sensor.materialised(DAY, NOW)
    begun = NOW + dt.timedelta(hours=1)
    put_readings(embedded_db, [(point.meter_id, DAY, with_gap(curve(1), 10, 287))], at=begun)
    assert sensor.partitions(begun + MINUTE) == []
    # Each minute some more, for half an hour.
    for minute in range(1, 30):
        at = begun + minute * MINUTE
        put_readings(embedded_db, [(point.meter_id, DAY, with_gap(curve(1), 10 + minute, 287))], at=at)
    assert sensor.partitions(begun + 29 * MINUTE + dt.timedelta(seconds=30)) == []
    assert sensor.partitions(begun + 30 * MINUTE) == ["2026-11-20"]


def test_rows_of_a_slow_transaction_are_not_missed(
    embedded_db: Database, point: Point, instance: dg.DagsterInstance
) -> None:
    """A smaller sequence number may become visible after a larger one was seen."""
    sensor = Harness(embedded_db, late_data.NAME, instance)
    sensor.materialised(DAY, NOW)
    sensor.materialised(DAY - dt.timedelta(days=5), NOW)
    now = NOW + dt.timedelta(hours=1)
    slow = embedded_db.connect()
    slow.execute(
        "INSERT INTO touched_day (meter_id, day, touched_at) VALUES (%s, %s, %s)",
        [point.meter_id, DAY - dt.timedelta(days=5), now - 4 * MINUTE],
    )
    put_readings(embedded_db, [(point.meter_id, DAY, curve(1))], at=now - 3 * MINUTE)
    assert sensor.partitions(now) == ["2026-11-20"]
    slow.commit()
    slow.close()

    assert "2026-11-15" in sensor.partitions(now + MINUTE)


def test_cursor_moves_on_once_all_is_old(
    embedded_db: Database, point: Point, instance: dg.DagsterInstance
) -> None:
    sensor = Harness(embedded_db, late_data.NAME, instance)
    put_readings(embedded_db, [(point.meter_id, DAY, curve(1))], at=NOW)
    sensor.tick(NOW + 5 * MINUTE)
    assert sensor.cursor == "0"
    sensor.tick(NOW + 11 * MINUTE)
    with embedded_db.connect() as conn:
        (last,) = conn.execute("SELECT max(seq) FROM touched_day").fetchone()
    assert sensor.cursor == str(last)


@pytest.mark.req("TR-2c", "TR-2f")
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE uc_musd SET musd_kw = 77",
        "DELETE FROM uc_musd",
        "INSERT INTO point_loss (point_id, kind, valid, percent) "
        "SELECT id, 'line', tstzrange(market_day_start(%(day)s::date), NULL), 1.5 FROM point",
        "UPDATE installation SET pulse_energy_num = pulse_energy_num + 1",
    ],
)
def test_day_is_derived_again_when_the_register_changes_what_it_says_of_it(
    embedded_db: Database, point: Point, instance: dg.DagsterInstance, change: str
) -> None:
    """The database looks at its own clock: months that are open now."""
    sensor = Harness(embedded_db, late_data.NAME, instance)
    now = dt.datetime.now(dt.UTC)
    day = now.date() - dt.timedelta(days=2)
    put_readings(embedded_db, [(point.meter_id, day, curve(1))], at=now - 60 * MINUTE)
    derive(embedded_db, day, day, as_of=now - 50 * MINUTE, run_id="r1")
    later = now + 5 * MINUTE
    sensor.materialised(day, now - 50 * MINUTE)
    assert sensor.partitions(later) == []
    with embedded_db.connect() as conn:
        conn.execute(change, {"day": day})
    assert sensor.partitions(later) == [f"{day}"]


# --- delivery -------------------------------------------------------------------------------------------


def submit(
    db: Database, point: Point, state: str, at: dt.datetime, version: int = 1, detail: str = "{}"
) -> None:
    with db.connect() as conn:
        (submission,) = conn.execute(
            "INSERT INTO submission (agent_id, uc_id, day, version, series_version, profile, body_sha256, "
            "body_bytes, cause, run_id) SELECT agent_id, id, %s, %s, %s, 'p', '\\x00', 1, 'first', 'r' "
            "FROM uc WHERE id = %s RETURNING id",
            [DAY, version, version, point.uc_id],
        ).fetchone()
        conn.execute(
            "INSERT INTO submission_event (submission_id, at, state, detail) VALUES (%s, %s, %s, %s)",
            [submission, at, state, detail],
        )


def test_ready_day_is_asked_for_once_and_again_when_it_changes(
    embedded_db: Database, point: Point, instance: dg.DagsterInstance
) -> None:
    sensor = Harness(embedded_db, ready_days.NAME, instance)
    assert sensor.partitions(NOW) == []
    put_readings(embedded_db, [(point.meter_id, DAY, with_gap(curve(1), 100, 101))])
    derive(embedded_db, DAY, DAY, as_of=NOW, run_id="r1")

    assert sensor.partitions(NOW) == ["2026-11-20"]
    assert sensor.partitions(NOW + MINUTE) == [], "the same work is not asked for twice"
    submit(embedded_db, point, "aceito", NOW)
    assert sensor.partitions(NOW + 2 * MINUTE) == []

    put_readings(embedded_db, [(point.meter_id, DAY, curve(1))], at=NOW + 3 * MINUTE)
    derive(embedded_db, DAY, DAY, as_of=NOW + 4 * MINUTE, run_id="r2")
    assert sensor.partitions(NOW + 5 * MINUTE) == ["2026-11-20"]


@pytest.mark.req("TR-2f")
def test_hours_sent_above_the_limit_are_sent_again_under_another_musd(
    embedded_db: Database, point: Point, instance: dg.DagsterInstance
) -> None:
    sensor = Harness(embedded_db, ready_days.NAME, instance)
    put_readings(embedded_db, [(point.meter_id, DAY, curve(1))])
    derive(embedded_db, DAY, DAY, as_of=NOW, run_id="r1")
    submit(embedded_db, point, "aceito", NOW, detail='{"musd_kw": "10", "rejected_hours": [3]}')
    with embedded_db.connect() as conn:
        conn.execute("UPDATE uc_musd SET musd_kw = 10.000")
    assert sensor.partitions(NOW) == []
    with embedded_db.connect() as conn:
        conn.execute("UPDATE uc_musd SET musd_kw = 40")
    assert sensor.partitions(NOW + MINUTE) == ["2026-11-20"]
    assert sensor.partitions(NOW + 2 * MINUTE) == []
    submit(embedded_db, point, "aceito", NOW + MINUTE, 2, detail='{"musd_kw": "40", "rejected_hours": [3]}')
    with embedded_db.connect() as conn:
        conn.execute("UPDATE series_day SET version = 2")
    assert sensor.partitions(NOW + 3 * MINUTE) == []


def test_a_ready_day_of_weeks_ago_is_found_in_its_turn_and_asked_for_once(
    embedded_db: Database, point: Point, instance: dg.DagsterInstance
) -> None:
    sensor = Harness(embedded_db, ready_days.NAME, instance)
    put_readings(embedded_db, [(point.meter_id, DAY, curve(1))])
    derive(embedded_db, DAY, DAY, as_of=NOW, run_id="r1")
    later = NOW + dt.timedelta(days=12)
    # December's second: the days from November's first on are open, four of them new, three looked at a time.
    turns = [sensor.partitions(later + n * MINUTE) for n in range(20)]
    assert [n for n, asked in enumerate(turns) if asked] == [6]
    assert turns[6] == ["2026-11-20"]
    assert "2026-11-20" in sensor.cursor
    # Once its month is closed nothing of it is remembered.
    assert sensor.partitions(later + dt.timedelta(days=20)) == []
    assert "2026-11-20" not in sensor.cursor


@pytest.mark.parametrize("length", range(1, 45))
def test_every_open_day_is_looked_at_in_turn(length: int) -> None:
    first = dt.date(2026, 10, 1)
    last = first + dt.timedelta(days=length - 1)
    seen: set[dt.date] = set()
    older_from = None
    for _ in range(1 + length // ready_days.OLDER_DAYS_PER_LOOK):
        newest, older = ready_days.spans(first, last, older_from)
        assert newest[1] == last
        for begin, end in (newest, older):
            seen |= {begin + dt.timedelta(n) for n in range((end - begin).days + 1)}
        older_from = older[1] + dt.timedelta(days=1)
    assert seen == {first + dt.timedelta(n) for n in range(length)}


@pytest.mark.parametrize("state", ["falha_transitoria", "resultado_desconhecido", "enviando"])
def test_delivery_that_did_not_end_is_taken_up_again_after_a_while(
    embedded_db: Database, point: Point, instance: dg.DagsterInstance, state: str
) -> None:
    sensor = Harness(embedded_db, ready_days.NAME, instance)
    put_readings(embedded_db, [(point.meter_id, DAY, curve(1))])
    derive(embedded_db, DAY, DAY, as_of=NOW, run_id="r1")
    submit(embedded_db, point, state, NOW)
    assert sensor.partitions(NOW + 29 * MINUTE) == []
    assert sensor.partitions(NOW + 31 * MINUTE) == ["2026-11-20"]


def test_rejected_day_waits_for_a_person(
    embedded_db: Database, point: Point, instance: dg.DagsterInstance
) -> None:
    sensor = Harness(embedded_db, ready_days.NAME, instance)
    put_readings(embedded_db, [(point.meter_id, DAY, curve(1))])
    derive(embedded_db, DAY, DAY, as_of=NOW, run_id="r1")
    submit(embedded_db, point, "rejeitado_dado", NOW)
    assert sensor.partitions(NOW + dt.timedelta(hours=5)) == []


def test_day_that_a_run_is_delivering_is_left_to_it(
    embedded_db: Database, point: Point, instance: dg.DagsterInstance
) -> None:
    sensor = Harness(embedded_db, ready_days.NAME, instance)
    put_readings(embedded_db, [(point.meter_id, DAY, curve(1))])
    derive(embedded_db, DAY, DAY, as_of=NOW, run_id="r1")
    job = definitions().resolve_job_def("daily_job")
    run = instance.create_run_for_job(
        job, tags={"dagster/partition": str(PARTITIONS.key(DAY))}, status=dg.DagsterRunStatus.STARTED
    )
    assert sensor.partitions(NOW) == []
    instance.report_run_failed(run)
    assert sensor.partitions(NOW + MINUTE) == ["2026-11-20"]


@pytest.mark.req("TR-2d")
@pytest.mark.parametrize(
    ("today", "first"),
    [
        (dt.date(2026, 11, 11), dt.date(2026, 10, 1)),
        (dt.date(2026, 11, 12), dt.date(2026, 11, 1)),
        (dt.date(2026, 12, 9), dt.date(2026, 11, 1)),
    ],
)
def test_last_month_is_open_until_its_deadline(today: dt.date, first: dt.date) -> None:
    assert first_open_day(today, load_calendars()) == first


# --- deadlines ------------------------------------------------------------------------------------------


@pytest.mark.req("TR-2d")
def test_open_days_are_told_of_before_the_deadline_and_not_at_each_tick(
    embedded_db: Database, point: Point, instance: dg.DagsterInstance
) -> None:
    sensor = Harness(embedded_db, deadlines.NAME, instance)

    def messages() -> int:
        with embedded_db.connect() as conn:
            return conn.execute("SELECT count(*) FROM notification WHERE kind = 'ccee_prazo'").fetchone()[0]

    for day, expected in ((25, 0), (33, 1), (33, 1), (37, 2), (38, 2), (39, 3), (40, 3)):
        now = dt.datetime(2026, 11, 1, 12, tzinfo=dt.UTC) + dt.timedelta(days=day - 1)
        assert sensor.tick(now) == []
        assert messages() == expected, now
