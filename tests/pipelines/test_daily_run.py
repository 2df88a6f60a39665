"""The daily job end to end: stored readings to receipts and marts, on both databases, no meter sockets."""

from __future__ import annotations

import datetime as dt
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

import dagster as dg
import httpx
import psutil
import pytest
from dagster_postgres import PostgresRunStorage

from assets.partitions import Partitions
from assets.resources import CceeAccess, Clock, Metering
from ccee.profile import load_profile
from ccee.standin.records import Unit
from ccee.standin.rules import StandIn
from ccee.standin.server import Serving, serve_in_thread
from derivation import layers, marts
from pipelines import instance as instance_module
from pipelines.definitions import build_defs
from pipelines.instance import open_instance
from pipelines.runs import BORN_TAG, HOST_TAG, PID_TAG, end_dead_runs, run_closing, run_daily, run_history
from storage.database import Database
from tests.dagster_strict import strict_dagster
from tests.derivation.world import AGENT, DAY, NOW, Point, add_points, curve, put_readings, snapshot, with_gap
from vee.calendars import load_calendars

pytestmark = strict_dagster(pytest.mark.slow)

SECRET = "not-a-real-secret"


@pytest.fixture
def points(db: Database) -> list[Point]:
    """Whole, with half an hour missing, with losses, never read; a fifth is suspended."""
    with db.connect() as conn:
        made = add_points(conn, 5)
        conn.execute(
            "INSERT INTO point_loss (point_id, kind, valid, percent) "
            "SELECT id, 'line', '[2026-01-01,)', 1.2 FROM point WHERE uc_id = %s",
            [made[2].uc_id],
        )
        conn.execute("UPDATE uc_status SET status = 'suspended' WHERE uc_id = %s", [made[4].uc_id])
    put_readings(
        db,
        [
            (made[0].meter_id, DAY, curve(1)),
            (made[1].meter_id, DAY, with_gap(curve(2), 100, 105)),
            (made[2].meter_id, DAY, curve(3)),
        ],
    )
    return made


@pytest.fixture
def standin(points: list[Point]) -> Iterator[Serving]:
    units = [Unit(point.uc_code, AGENT, musd={dt.date.min: Decimal(1000)}) for point in points]
    operator = StandIn(load_profile(), load_calendars(), {AGENT: SECRET}, units, lambda: NOW, None)
    with serve_in_thread(operator) as serving:
        yield serving


@pytest.fixture
def defs(db: Database, standin: Serving, monkeypatch: pytest.MonkeyPatch) -> dg.Definitions:
    monkeypatch.setenv("SMF_CCEE_CLIENT_ID", f"CONCESSIONARIA_{AGENT}")
    monkeypatch.setenv("SMF_CCEE_CLIENT_SECRET", SECRET)
    return defs_at(NOW, db, standin)


@pytest.fixture
def late_defs(defs: dg.Definitions, db: Database, standin: Serving) -> dg.Definitions:
    """After the month's last deadline."""
    return defs_at(dt.datetime(2026, 12, 10, 12, tzinfo=dt.UTC), db, standin)


def defs_at(now: dt.datetime, db: Database, standin: Serving) -> dg.Definitions:
    return build_defs(
        partitions=Partitions(dt.date(2026, 1, 1)),
        resources={
            "metering": Metering(url=db.url, data_dir=str(db.data_dir)),
            "clock": Clock(at=now.isoformat()),
            "ccee": CceeAccess(base_url=standin.base_url),
        },
    )


def assert_columns_are_as_declared(db: Database) -> None:
    """Dagster's pages show names, types and order as the SQL makes them."""
    with db.connect() as conn:
        rows = conn.execute(
            "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = ANY(%s) ORDER BY table_name, ordinal_position",
            [sorted({model.schema for model in marts.project().models})],
        ).fetchall()
    made: dict[str, list[tuple[str, str]]] = {}
    for _, table, column, kind in rows:
        made.setdefault(table, []).append((column, kind))
    declared = {
        model.name: [(column.name, column.kind) for column in model.columns]
        for model in marts.project().models
    }
    assert made == declared


@pytest.mark.req("TR-2a", "TR-2b", "TR-2d", "TR-2g", "X-trace")
def test_a_day_goes_from_readings_to_receipts_and_is_sent_once(
    db: Database, points: list[Point], standin: Serving, defs: dg.Definitions, late_defs: dg.Definitions
) -> None:
    steps: list[tuple[str, str]] = []

    first = run_daily(db, DAY, 0, lambda step: steps.append((step.step, step.state)), defs)

    assert first.is_success, first.failures
    metadata = {asset.asset: asset.metadata for asset in first.assets}
    assert metadata["series_ccee"]["outcomes"] == {"ready": 3, "incomplete": 1, "not_expected": 1}
    assert metadata["ccee_submissions"]["accepted"] == 3
    unread = points[3].uc_code
    linked = f"[{unread}](http://127.0.0.1:3080/rastro/{unread}/2026-11-20)"
    waits = f"| {linked} | UC 4 | 20/11/2026 | Sem histórico para estimar"
    assert waits in metadata["series_ccee"]["not_ready"], metadata["series_ccee"]["not_ready"]
    assert "| 1 | analista | Carregar os 12 meses" in metadata["series_ccee"]["causes"]
    assert f"| {linked} | UC 4 |" in metadata["ccee_submissions"]["not_delivered"]
    assert metadata["ccee_submissions"]["delivered_share"] == 0.75
    assert metadata["ccee_submissions"]["minutes_until_delivered"] > 0
    assert metadata["series_ccee"]["completeness"] == pytest.approx(3 / 5)
    assert f"![Carga de 5 UCs em {DAY:%d/%m/%Y}](http" in metadata["series_ccee"]["dia"]
    drawn = (db.data_dir / "day_pictures" / f"{DAY}.svg").read_text(encoding="utf-8")
    assert f"{DAY:%d/%m/%Y} · 5 UCs" in drawn
    assert "Faltante 576 intervalos" in drawn, "one was never read, one is suspended"
    checks = {check.check: check.is_passed for check in first.checks}
    assert checks["missing_is_never_zero"]
    assert checks["auditors_expectations"]
    assert all(checks.values()), checks
    assert ("ccee_submissions", "done") in steps
    with open_instance(db) as instance:
        run = instance.get_run_by_id(first.run_id)
    assert run is not None
    assert run.remote_job_origin is not None, "no job's page would list it"
    assert run.remote_job_origin.location_name == "smf"
    assert (run.tags["smf/day"], run.tags["smf/month"]) == (f"{DAY}", f"{DAY:%Y-%m}")
    assert (run.tags["smf/cause"], run.tags["smf/points"]) == ("by hand", "5")
    assert run.tags["dagster/partition"] == f"{DAY}"
    for point, number in ((points[0], 1), (points[2], 3)):
        reply = httpx.get(f"{standin.base_url}/__contabilizacao/{point.uc_code}/2026-11", timeout=60)
        shown = json.dumps(json.loads(reply.content))
        assert DAY.isoformat() in shown, f"CCEE has day {number}"
    with db.connect() as conn:
        mart = conn.execute(
            "SELECT uc_code, state, submission_state, estimated, missing FROM marts.uc_day ORDER BY uc_code"
        ).fetchall()
        hours = conn.execute("SELECT count(*), count(energy_kwh) FROM marts.uc_hour").fetchone()
    assert mart == [
        (points[0].uc_code, "ready", "aceito", 0, 0),
        (points[1].uc_code, "ready", "aceito", 6, 0),
        (points[2].uc_code, "ready", "aceito", 0, 0),
        (points[3].uc_code, "incomplete", None, 0, 288),
        (points[4].uc_code, "not_expected", None, 0, 288),
    ]
    assert hours == (5 * 24, 3 * 24), "an hour without a value has no energy, not zero"
    assert_columns_are_as_declared(db)
    assert list((db.data_dir / "dbt").iterdir()) == [], "what dbt compiled for a run that went well is gone"

    before = snapshot(db)
    second = run_daily(db, DAY, 0, lambda step: None, defs)

    assert second.is_success
    metadata = {asset.asset: asset.metadata for asset in second.assets}
    assert metadata["series_ccee"]["uc_days_written"] == 0
    assert (metadata["ccee_submissions"]["sent"], metadata["ccee_submissions"]["unchanged"]) == (0, 3)
    assert snapshot(db) == before

    closing = run_closing(db, DAY.replace(day=1), lambda step: None, defs)

    assert closing.is_success, closing.failures
    (asset,) = closing.assets
    assert asset.metadata["uc_days_delivered"] == 3
    assert "uc_days_final" not in asset.metadata, "the month is open"

    # MS+7du of November is 2026-12-09.
    frozen = run_closing(db, DAY.replace(day=1), lambda step: None, late_defs)

    (asset,) = frozen.assets
    # Due are all 30 days of the 4 UCs in the market, derived or not.
    assert (asset.metadata["uc_days_final"], asset.metadata["uc_days_lost"]) == (3, 117)
    with db.connect() as conn:
        (after,) = conn.execute("SELECT after FROM audit WHERE action = 'closing.certificate'").fetchone()
        assert after["sha256"] == asset.metadata["certificate_sha256"]
        states = conn.execute("SELECT DISTINCT state FROM submission_state").fetchall()
    assert states == [("definitivo",)]


@pytest.mark.req("TR-2d", "TR-2g")
def test_a_delivery_that_could_not_send_is_red_and_names_agent_and_remedy(
    db: Database, points: list[Point], defs: dg.Definitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SMF_CCEE_CLIENT_SECRET")

    outcome = run_daily(db, DAY, 0, lambda step: None, defs)

    assert not outcome.is_success
    (failure,) = outcome.failures
    assert (failure.step, failure.kind) == ("delivery_checks", "OperatorFault")
    assert f"agent {AGENT}, 3 UC-days" in failure.message
    assert "SMF_CCEE_CLIENT_SECRET" in failure.message
    assert {(check.asset, check.check) for check in outcome.checks if not check.is_passed} == {
        ("ccee_submissions", name) for name in ("delivered", "ready_is_sent", "newest_day")
    }
    metadata = {asset.asset: asset.metadata for asset in outcome.assets}
    assert metadata["ccee_submissions"]["ready_not_sent"] == 3
    assert "agent_day" in metadata, "the reports are made all the same"

    monkeypatch.setenv("SMF_CCEE_CLIENT_SECRET", SECRET)
    again = run_daily(db, DAY, 0, lambda step: None, defs)

    assert again.is_success, again.failures
    metadata = {asset.asset: asset.metadata for asset in again.assets}
    assert (metadata["ccee_submissions"]["accepted"], metadata["ccee_submissions"]["ready_not_sent"]) == (
        3,
        0,
    )


@pytest.mark.req("TR-2d", "X-scale")
def test_history_is_one_run_for_many_days_and_sends_nothing(
    db: Database, points: list[Point], standin: Serving, defs: dg.Definitions
) -> None:
    outcome = run_history(db, DAY - dt.timedelta(days=2), DAY, 0, lambda step: None, defs)

    assert outcome.is_success, outcome.failures
    with db.connect() as conn:
        derived = conn.execute("SELECT DISTINCT day FROM uc_day_outcome ORDER BY 1").fetchall()
        assert conn.execute("SELECT count(*) FROM submission").fetchone() == (0,)
    assert [day for (day,) in derived] == [DAY - dt.timedelta(days=n) for n in (2, 1, 0)]
    with open_instance(db) as instance:
        (run,) = instance.get_runs()
        key = dg.AssetKey("series_ccee")
        made = instance.get_materialized_partitions(key)
    assert run.run_id == outcome.run_id
    assert made == {f"{day}" for (day,) in derived}


@pytest.mark.req("X-scale")
def test_shards_make_their_own_part_and_leave_the_others(
    embedded_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = embedded_db
    monkeypatch.setenv("SMF_DAGSTER_SHARDS", "2")
    with db.connect() as conn:
        made = add_points(conn, 3)
    put_readings(db, [(point.meter_id, DAY, curve(point.uc_id)) for point in made])
    settings = replace(db.settings, dagster=replace(db.settings.dagster, shards=2))
    monkeypatch.setattr(db, "settings", settings)
    defs = build_defs(
        partitions=Partitions(dt.date(2026, 1, 1), shards=2),
        resources={
            "metering": Metering(url=db.url, data_dir=str(db.data_dir)),
            "clock": Clock(at=NOW.isoformat()),
        },
    )

    rows = {}
    for shard in (0, 1, 0):
        outcome = run_history(db, DAY, DAY, shard, lambda step: None, defs)
        assert outcome.is_success, outcome.failures
        layer = next(asset for asset in outcome.assets if asset.asset == "series_ccee")
        rows[shard] = layer.metadata["dagster/partition_row_count"]
        with db.connect() as conn:
            ucs = conn.execute("SELECT uc_id FROM marts.uc_day ORDER BY 1").fetchall()
            hours = conn.execute("SELECT count(*) FROM marts.uc_hour").fetchone()

    assert rows == {0: 1, 1: 2}, "UC 2; UCs 1 and 3"
    assert ucs == [(point.uc_id,) for point in made]
    assert hours == (3 * 24,)


@pytest.mark.req("TR-2b")
def test_fault_in_the_layers_stops_the_run_before_anything_is_sent(
    db: Database, points: list[Point], standin: Serving, defs: dg.Definitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = layers.losses.adjust

    def loses_energy(estimated, *arguments, **named):
        return honest(estimated.with_columns(denominator=estimated["denominator"] * 2), *arguments, **named)

    monkeypatch.setattr(layers.losses, "adjust", loses_energy)

    outcome = run_daily(db, DAY, 0, lambda step: None, defs)

    assert not outcome.is_success
    assert {check.check for check in outcome.checks if not check.is_passed} == {"energy_conserved_by_losses"}
    with db.connect() as conn:
        assert conn.execute("SELECT count(*) FROM submission").fetchone() == (0,)


def test_instance_keeps_runs_in_postgresql_apart_from_the_metering_data(db: Database) -> None:
    @dg.asset(pool="ccee_api")
    def touched() -> None: ...

    with open_instance(db) as instance:
        result = dg.materialize([touched], instance=instance)
    assert result.success
    with db.dagster_database().connect() as conn:
        runs = conn.execute("SELECT run_id, status FROM runs").fetchall()
        assert conn.execute("SELECT count(*) FROM event_logs").fetchone() > (0,)
    assert runs == [(result.run_id, "SUCCESS")]
    with db.connect() as conn:
        assert conn.execute("SELECT to_regclass('runs')").fetchone() == (None,)
    written = (db.settings.dagster_home / "dagster.yaml").read_text("utf-8")
    assert "postgresql+psycopg2://" in written
    assert (db.settings.dagster_home / "dagster.yaml").stat().st_mode & 0o077 == 0


def test_run_whose_process_died_is_ended_and_its_place_in_the_pool_is_free(embedded_db: Database) -> None:
    @dg.asset
    def quick() -> None: ...

    job = dg.Definitions([quick], jobs=[dg.define_asset_job("job", [quick])]).resolve_job_def("job")
    with open_instance(embedded_db) as instance:
        gone = {HOST_TAG: socket.gethostname(), PID_TAG: "999999999", BORN_TAG: "1.0"}
        dead = instance.create_run_for_job(job, tags=gone, status=dg.DagsterRunStatus.STARTED)
        other = instance.create_run_for_job(
            job, tags={HOST_TAG: "elsewhere", PID_TAG: "1"}, status=dg.DagsterRunStatus.STARTED
        )
        storage = instance.event_log_storage
        storage.initialize_concurrency_limit_to_default("ccee_api")
        assert storage.claim_concurrency_slot("ccee_api", dead.run_id, "step").is_claimed
        assert len(storage.get_concurrency_info("ccee_api").claimed_slots) == 1

        assert end_dead_runs(instance) == [dead.run_id]

        assert instance.get_run_by_id(dead.run_id).status is dg.DagsterRunStatus.FAILURE
        assert instance.get_run_by_id(other.run_id).status is dg.DagsterRunStatus.STARTED
        assert storage.claim_concurrency_slot("ccee_api", "next", "step").is_claimed


def test_a_start_that_was_killed_among_dagsters_tables_is_made_again(
    embedded_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(url: str) -> None:
        PostgresRunStorage(url, should_autocreate_tables=True)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(instance_module, "DagsterPostgresStorage", half)
        with pytest.raises(KeyboardInterrupt):
            instance_module.write_home(embedded_db)
    with embedded_db.connect() as conn:
        names = "SELECT datname FROM pg_database WHERE starts_with(datname, %s || '_dagster')"
        assert conn.execute(names, [embedded_db.name]).fetchall() == [
            (f"{embedded_db.name}_dagster_unfinished",)
        ]
    for _ in range(2):
        with open_instance(embedded_db) as instance:
            assert instance.get_runs() == []
            assert instance.all_asset_keys() == []
    with embedded_db.connect() as conn:
        assert conn.execute(names, [embedded_db.name]).fetchall() == [(f"{embedded_db.name}_dagster",)]


def test_a_zombie_is_dead_and_a_corrected_clock_kills_nobody(embedded_db: Database) -> None:
    @dg.asset
    def quick() -> None: ...

    job = dg.Definitions([quick], jobs=[dg.define_asset_job("job", [quick])]).resolve_job_def("job")
    killed, own = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE), psutil.Process()
    with open_instance(embedded_db) as instance:
        runs = [
            instance.create_run_for_job(
                job,
                tags={HOST_TAG: socket.gethostname(), PID_TAG: str(pid), BORN_TAG: str(born_s)},
                status=dg.DagsterRunStatus.STARTED,
            )
            for pid, born_s in (
                (killed.pid, psutil.Process(killed.pid).create_time()),
                (own.pid, own.create_time() + 1),
                (own.pid, own.create_time() - 3600),
            )
        ]
        killed.kill()
        # Its end is there to be asked for, and is not asked for.
        os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)
        assert set(end_dead_runs(instance)) == {runs[0].run_id, runs[2].run_id}
    killed.communicate()


@pytest.mark.req("TR-2a", "TR-2g")
def test_several_days_are_one_run(db: Database, points: list[Point], defs: dg.Definitions) -> None:
    before = DAY - dt.timedelta(days=1)
    put_readings(db, [(points[0].meter_id, before, curve(5))])

    outcome = run_daily(db, before, 0, lambda step: None, defs, last_day=DAY)

    assert outcome.is_success, outcome.failures
    metadata = {asset.asset: asset.metadata for asset in outcome.assets}
    assert metadata["ccee_submissions"]["accepted"] == 4
    assert metadata["series_ccee"]["outcomes"]["ready"] == 4
