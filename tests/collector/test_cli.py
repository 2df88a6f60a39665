"""`smf read` and `smf collector` as a person types them, against meters on real sockets."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from typer.testing import CliRunner

from pipelines.cli import collector as collector_cli
from pipelines.cli import read as read_cli
from simulator.faultplan import FaultPlan
from tests.collector.world import DAY, meter, meters_in_thread, query, register, truth

SERIAL = "10000001"


def run(app, *words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.req("TR-5.5a")
class TestRead:
    def test_json_holds_answers_intervals_and_frames(self, tmp_path):
        station = meter()
        with meters_in_thread([station]) as (server,):
            done = run(
                read_cli.app,
                "nbr14522",
                server.url,
                "--commands",
                "21,23,51,52",
                "--days",
                2,
                "--json",
                "--out",
                tmp_path,
            )
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert (told["outcome"], told["meter_serial"]) == ("complete", SERIAL)
        assert [answer["code"] for answer in told["answers"]] == ["21", "23", "51"]
        start = datetime.combine(DAY, datetime.min.time())
        pulses = {one["end"]: one["pulses"] for one in told["intervals"]}
        for slot, counts in enumerate(truth(station)):
            end = (start + timedelta(minutes=5 * (slot + 1))).isoformat()
            assert pulses[end] == {str(n + 1): int(count) for n, count in enumerate(counts)}
        assert len((tmp_path / "frames.txt").read_text().splitlines()) == len(told["frames"])
        assert len((tmp_path / "intervals.csv").read_text().splitlines()) == len(pulses) + 1

    def test_tables_for_people(self):
        with meters_in_thread([meter()]) as (server,):
            done = run(read_cli.app, "nbr14522", server.url)
        assert done.exit_code == 0, done.output
        for words in (f"Meter {SERIAL}", "words_current", "total_pulses", "pulses by day", "complete:"):
            assert words in done.output

    def test_a_silent_line_and_a_dead_address_are_told_apart(self, unused_port):
        with meters_in_thread([meter(plan=FaultPlan(silent=True))]) as (server,):
            silent = run(read_cli.app, "nbr14522", server.url + "?idle_s=0.3")
        assert silent.exit_code == 10
        assert "no ENQ" in silent.output
        dead = run(read_cli.app, "nbr14522", f"tcp://127.0.0.1:{unused_port}")
        assert dead.exit_code == 10
        assert "the connection" in dead.output

    def test_a_break_names_the_block_and_shows_the_octets(self):
        plan = FaultPlan(drop_first=9, drop_at_block=4)
        with meters_in_thread([meter(plan=plan)]) as (server,):
            done = run(read_cli.app, "nbr14522", server.url, "--commands", "21,26", "--json")
        told = json.loads(done.stdout)
        assert told["outcome"] == "partial"
        assert told["failed_stage"].startswith("command 26 block")
        assert told["intervals"], "what came before the break is shown"

    @pytest.mark.parametrize("commands", ["20", "29", "21,xx", ""])
    def test_what_changes_a_meter_or_means_nothing_is_refused(self, commands):
        done = run(read_cli.app, "nbr14522", "tcp://127.0.0.1:9", "--commands", commands)
        assert done.exit_code == 11
        assert "only reads" in done.output


@pytest.mark.req("TR-5.5d", "TR-5.12a")
def test_a_read_on_demand_goes_through_the_queue(embedded_db, monkeypatch):
    monkeypatch.setenv("SMF_DATABASE_URL", embedded_db.url)
    with meters_in_thread([meter()]) as servers:
        register(embedded_db, servers)
        done = run(collector_cli.app, "read", SERIAL, "--sequence", "verification", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["state"], told["serial"], told["attempts"]) == ("done", SERIAL, 1)
    assert query(embedded_db, "SELECT priority, requested_by FROM job_request") == [
        (10, "smf collector read")
    ]
    assert run(collector_cli.app, "read", "nobody").exit_code == 11
    assert run(collector_cli.app, "read", SERIAL, "--sequence", "all").exit_code == 11
    status = run(collector_cli.app, "status", "--json")
    assert json.loads(status.stdout)["queue"][0]["state"] == "done"
    assert run(collector_cli.app, "status").exit_code == 0
