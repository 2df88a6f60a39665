"""`smf run`: what it prints, how it ends, and Dagster's interface started and stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import httpx
import psutil
import pytest
from typer.testing import CliRunner, Result

from pipelines.cli.run import app
from storage.database import Database
from tests.browser import free_port
from tests.dagster_strict import strict_dagster
from tests.derivation.world import AGENT, DAY, add_points, curve, put_readings

pytestmark = strict_dagster(pytest.mark.slow)


@pytest.fixture
def run(embedded_db: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SMF_DATABASE_URL", embedded_db.url)
    monkeypatch.setenv("SMF_DATA_DIR", str(embedded_db.data_dir))
    monkeypatch.setenv("SMF_DAGSTER_FIRST_DAY", "2026-11-01")
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*words: str) -> Result:
        return CliRunner().invoke(app, list(words))

    return invoke


@pytest.mark.parametrize(
    ("words", "where", "remedy"),
    [
        (["daily", "--day", "20/11/2026"], "--day", "write YYYY-MM-DD"),
        (["daily", "--day", "2026-10-31"], "day", "from 2026-11-01 ([dagster] first_day)"),
        (["daily", "--shard", "1"], "--shard", "[dagster] shards is 1"),
        (["history", "--from", "2026-11-20", "--to", "2026-11-19"], "--to", "give the earlier day first"),
        (["closing", "--month", "2026-13"], "month", "write YYYY-MM"),
        (["closing", "--month", "2026-10"], "--month", "from 2026-11"),
    ],
)
def test_wrong_words_name_the_place_and_the_remedy(run, words: list[str], where: str, remedy: str) -> None:
    result = run(*words, "--json")

    error = json.loads(result.stdout)["error"]
    assert (error["actor"], error["where"], result.exit_code) == ("operator", where, 11)
    assert error["remedy"].startswith(remedy)


@pytest.mark.req("TR-2b")
def test_history_prints_one_document_and_nothing_else(run, embedded_db: Database) -> None:
    with embedded_db.connect() as conn:
        points = add_points(conn, 2)
    put_readings(embedded_db, [(points[0].meter_id, DAY, curve(1))])

    result = run("history", "--from", str(DAY), "--to", str(DAY), "--json")

    shown = json.loads(result.stdout)
    assert (result.exit_code, shown["is_success"], shown["failures"]) == (0, True, [])
    layer = next(asset for asset in shown["assets"] if asset["asset"] == "series_ccee")
    assert layer["metadata"]["outcomes"] == {"ready": 1, "incomplete": 1}
    assert {check["check"] for check in shown["checks"]} >= {"missing_is_never_zero", "complete"}


@pytest.mark.req("TR-2d")
def test_closing_says_what_is_missing_and_who_must_act(run, embedded_db: Database) -> None:
    with embedded_db.connect() as conn:
        add_points(conn, 1)
        conn.execute("UPDATE uc_status SET valid = '[2026-11-29,)'")

    result = run("closing", "--month", "2026-11", "--as-of", "2026-12-02T12:00-03:00")

    assert result.exit_code == 0, result.output
    # Derived by the closing itself, from MS+1du on.
    assert "Faltam 2 de 2 dias de UC; 7 dias até 09/12/2026 (MS+7du)." in result.output
    assert "analista" in result.output
    assert "Carregar os 12" in result.output
    for ending in ("html", "xlsx", "pdf"):
        assert f"/fechamento/2026-11.{ending}" in result.output
        assert (embedded_db.data_dir / "closing" / f"2026-11.{ending}").is_file()


@pytest.mark.req("TR-2g")
def test_delivery_without_credentials_fails_and_names_agent_and_variable(
    run, embedded_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SMF_CCEE_CLIENT_ID", raising=False)
    # The run has the real clock: yesterday is always in an open month.
    day = datetime.now(timezone(timedelta(hours=-3))).date() - timedelta(days=1)
    with embedded_db.connect() as conn:
        (point,) = add_points(conn, 1)
    put_readings(embedded_db, [(point.meter_id, day, curve(1))])

    result = run("daily", "--day", str(day))

    assert result.exit_code == 11, result.output
    assert "series_ccee" in result.output
    assert "error ccee_submissions: delivered" in result.output
    assert f"agent {AGENT}, 1 UC-days" in result.output
    assert "SMF_CCEE_CLIENT_ID" in result.output


def test_interface_shows_the_definitions_and_stops_with_its_processes(embedded_db: Database) -> None:
    environment = os.environ | {
        "SMF_DATABASE_URL": embedded_db.url,
        "SMF_DATA_DIR": str(embedded_db.data_dir),
        "SMF_DAGSTER_EVIDENCE_URL": f"http://127.0.0.1:{free_port()}",
        "COLUMNS": "200",
    }
    environment.pop("FORCE_COLOR", None)
    program = "from pipelines.cli.run import app; app()"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", program, "ui", "--port", "3300"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as ui:
        assert ui.stdout is not None
        said = []
        for line in ui.stdout:
            said.append(line)
            if line.startswith("ready"):
                break
        assert said[-1:], "it never said that it is ready"
        assert said[-1].startswith("ready"), "".join(said)
        # Whoever took the port before, it is told which one it is now.
        address = said[-1].split()[1]
        children = psutil.Process(ui.pid).children()
        reply = httpx.post(
            f"{address}/graphql",
            json={
                "query": "{repositoriesOrError{...on RepositoryConnection{nodes{"
                "jobs{name} schedules{name} sensors{name} assetNodes{id}}}}}"
            },
            timeout=60,
        )
        ui.send_signal(signal.SIGINT)
        ui.stdout.read()
        assert ui.wait(60) == 0
    (repository,) = reply.json()["data"]["repositoriesOrError"]["nodes"]
    assert {one["name"] for one in repository["jobs"]} >= {"daily_job", "closing_job", "delivery_job"}
    assert {one["name"] for one in repository["schedules"]} >= {
        "daily_schedule",
        "closing_schedule",
        "freshness_schedule",
    }
    assert {one["name"] for one in repository["sensors"]} >= {"late_data_sensor", "ready_days_sensor"}
    assert len(repository["assetNodes"]) >= 16
    assert len(children) == 3, "webserver, daemon, evidence pages"
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
