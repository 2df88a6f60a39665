"""`smf command` and `smf clock` at the shell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli.clock import app as clock
from pipelines.cli.command import app as command
from tests.collector.world import add_meter
from tests.pipelines.cli.command import smf

POLICY = '[default]\nroles = ["engineer"]\n[people]\nana = ["engineer"]\nbruno = ["engineer"]\n'


@pytest.fixture
def shell(embedded_db, tmp_path, monkeypatch):
    """Runs a command line against a database with one meter."""
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    monkeypatch.setenv("SMF_DATABASE_URL", embedded_db.url)
    monkeypatch.setenv("SMF_COLLECTOR_COMMAND_POLICY_PATH", str(path))
    monkeypatch.chdir(tmp_path)
    with embedded_db.connect() as conn:
        conn.execute("INSERT INTO distributor (code, name) VALUES ('D', 'D')")
        conn.execute("INSERT INTO agent (code, name, distributor_id) SELECT 1, 'A', id FROM distributor")
        meter_id = add_meter(conn, 1, "10000001", "tcp://127.0.0.1:1")
        conn.execute(
            "INSERT INTO session (meter_id, collector, purpose, protocol, url, started_at, outcome, drift_s, "
            "round_trip_s) VALUES (%s, 'x', 'missing', 'nbr14522', 'tcp://x:1', now(), 'complete', -75, 1)",
            [meter_id],
        )

    def run(app, *words):
        result = CliRunner().invoke(app, [*words, "--json"])
        return result.exit_code, json.loads(result.stdout)

    return run


@pytest.mark.req("TR-5.7b")
def test_a_command_is_previewed_asked_for_and_approved_by_another(shell):
    code, shown = shell(command, "preview", "10000001", "31", "interval_min=15")
    assert code == 0
    assert shown["hex"][0].startswith("31 00 00 01 15 00")
    code, asked = shell(
        command, "request", "0000000001", "31", "interval_min=15", "--why", "contract", "--as", "ana"
    )
    assert (code, asked["policy"]["needs_approval"]) == (0, True)
    number = str(asked["request_id"])
    code, refused = shell(command, "approve", number, "--as", "ana")
    assert code == 11
    assert "second person" in refused["error"]["remedy"]
    assert shell(command, "approve", number, "--as", "bruno")[0] == 0
    code, (row,) = shell(command, "status", number)
    assert (code, row["state"], row["approved_by"], row["reason"]) == (0, "queued", "bruno", "contract")


@pytest.mark.req("TR-5.7b")
@pytest.mark.parametrize(
    "words",
    [
        ("request", "10000001", "31", "interval_min=15", "--why", "x", "--as", "nobody"),
        ("request", "10000001", "31", "interval_min=15", "--as", "ana"),
        ("request", "10000001", "63", "is_on=1", "--why", "x", "--as", "ana"),
        ("request", "10000001", "31", "minutes=15", "--why", "x", "--as", "ana"),
        ("request", "99999999", "31", "interval_min=15", "--why", "x", "--as", "ana"),
        ("preview", "10000001", "31", "15"),
        ("approve", "77", "--as", "ana"),
        ("status", "77"),
    ],
)
def test_what_cannot_be_done_says_what_to_do(shell, words):
    code, told = shell(command, *words)
    assert code == 11
    assert told["error"]["remedy"]


def test_the_list_names_what_no_source_explains(shell):
    _, rows = shell(command, "list")
    told = {row["command"]: row for row in rows}
    assert told["31"]["refused"] is None
    assert "layout" in told["98/30"]["refused"]
    assert "21" not in told


@pytest.mark.req("TR-5.6d")
def test_clocks_are_listed_and_corrected_on_request(shell):
    code, (row,) = shell(clock, "status")
    assert (code, row["serial"], row["forecast"]["drift_s"]) == (0, "10000001", -75.0)
    code, asked = shell(clock, "correct", "10000001", "--as", "ana")
    assert code == 0
    assert shell(clock, "correct", "10000001", "--as", "ana")[1]["is_new"] is False
    _, (row,) = shell(command, "status", str(asked["request_id"]))
    assert row["command"] == "clock"


@pytest.mark.req("TR-5.6d", "TR-5.12a")
def test_a_dlms_meters_clock_is_corrected_and_set_on_request(shell, embedded_db):
    with embedded_db.connect() as conn:
        conn.execute("UPDATE meter_model SET profile = 'dlms-generic'")
    code, asked = shell(clock, "correct", "10000001", "--as", "ana")
    assert (code, asked["preview"]["hex"]) == (0, ["C3 01 C1 00 08 00 00 01 00 00 FF 06 01 10 00 4B"])
    code, shown = shell(command, "preview", "10000001", "set-clock", "at=now")
    assert code == 0
    assert shown["hex"][0].startswith("C1 01 C1 00 08 00 00 01 00 00 FF 02 00 09 0C")
    words = ("request", "10000001", "set-clock", "at=now", "--why", "two hours slow", "--as", "ana")
    code, asked = shell(command, *words)
    assert (code, asked["policy"]["needs_approval"]) == (0, True)
    code, told = shell(command, "request", "10000001", "30", "clock=now", "--why", "x", "--as", "ana")
    assert code == 11
    assert "clock, set-clock" in told["error"]["remedy"]


def test_the_list_of_a_dlms_model_names_what_it_takes(shell):
    _, rows = shell(command, "list", "--profile", "dlms-idis")
    assert [(row["command"], row["layout"], row["refused"]) for row in rows] == [
        ("clock", None, None),
        ("set-clock", "C", None),
    ]
    assert rows[1]["second_person"]


def test_a_database_that_was_never_migrated_names_the_command(tmp_path: Path) -> None:
    done = smf("trace", "1", "2026-11-30T10:05", url=None, cwd=tmp_path)
    assert done.returncode == 11
    assert "smf db migrate" in done.stderr
    assert "Traceback" not in done.stderr
