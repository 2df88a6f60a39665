"""`smf read` and `smf collector` as a person types them, against meters on real sockets."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from pipelines.cli import collector as collector_cli
from pipelines.cli.read.app import app as read_cli
from protocols.nbr14522.profile import DEFAULT, GENERIC
from protocols.nbr14522.profiles import P2_GENERIC, P8_GENERIC
from simulator.nbr14522.line import Bus
from simulator.nbr14522.passwords import PasswordRules
from simulator.wires.faultplan import FaultPlan
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
                read_cli,
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
            done = run(read_cli, "nbr14522", server.url)
        assert done.exit_code == 0, done.output
        for words in (f"Meter {SERIAL}", "words_current", "total_pulses", "pulses by day", "complete:"):
            assert words in done.output

    def test_what_a_meter_says_is_no_markup(self):
        with meters_in_thread([meter(installation_code="[/b] [red]UC")]) as (server,):
            done = run(read_cli, "nbr14522", server.url, "--commands", "80")
        assert done.exit_code == 0, done.output
        assert "[/b] [red]UC" in done.output

    def test_a_silent_line_and_a_dead_address_are_told_apart(self, unused_port):
        with meters_in_thread([meter(plan=FaultPlan(silent=True))]) as (server,):
            silent = run(read_cli, "nbr14522", server.url + "?idle_s=0.3")
        assert silent.exit_code == 10
        assert "no ENQ" in silent.output
        dead = run(read_cli, "nbr14522", f"tcp://127.0.0.1:{unused_port}")
        assert dead.exit_code == 10
        assert "the connection" in dead.output

    def test_a_break_names_the_block_and_shows_the_octets(self):
        plan = FaultPlan(drop_first=9, drop_at_block=4)
        with meters_in_thread([meter(plan=plan)]) as (server,):
            done = run(read_cli, "nbr14522", server.url, "--commands", "21,26", "--json")
        told = json.loads(done.stdout)
        assert told["outcome"] == "partial"
        assert told["failed_stage"].startswith("command 26 block")
        assert told["intervals"], "what came before the break is shown"

    @pytest.mark.parametrize("commands", ["20", "29", "21,xx", ""])
    def test_what_changes_a_meter_or_means_nothing_is_refused(self, commands):
        done = run(read_cli, "nbr14522", "tcp://127.0.0.1:9", "--commands", commands)
        assert done.exit_code == 11
        assert "only reads" in done.output

    def test_of_several_meters_on_a_line_the_one_that_the_url_names_is_read(self):
        for profile, query_part, words in (
            (P2_GENERIC, "?address=02", []),
            (P8_GENERIC, "", ["--serial", "1000000-2"]),
        ):
            stations = [meter(f"1000000{n}", profile=replace(profile, address=n)) for n in (1, 2)]
            with meters_in_thread([Bus(stations, FaultPlan())]) as (server,):
                options = ["--profile", profile.name, "--commands", "21", "--json", *words]
                done = run(read_cli, "nbr14522", server.url + query_part, *options)
            assert done.exit_code == 0, done.output
            assert json.loads(done.stdout)["meter_serial"] == "10000002"

    def test_a_serial_that_addresses_no_meter_is_told(self):
        done = run(read_cli, "nbr14522", "tcp://127.0.0.1:9", "--serial", "0123456789")
        assert done.exit_code == 11
        assert "not a serial of eight digits" in done.output


WRITE, READ = "escrita001", "leitura001"


@pytest.mark.req("TR-5.5a", "TR-5.7b")
class TestReadWithPassword:
    @pytest.fixture
    def guarded(self, tmp_path, monkeypatch):
        """A meter that gives its memory only in a session, and a file of passwords."""
        profile = replace(
            DEFAULT,
            name="guarded",
            commands=DEFAULT.commands | {0x11, 0x13},
            password_transform="landis-commercial-sha256",
            password_commands=frozenset({"26"}),
        )
        monkeypatch.setitem(GENERIC, profile.name, profile)
        path = tmp_path / "passwords.toml"
        path.write_text(f'[meters.{SERIAL}]\nread = "{READ}"\n')
        monkeypatch.setenv("SMF_COLLECTOR_METER_PASSWORDS_PATH", str(path))
        return meter(profile=profile, passwords=PasswordRules(WRITE, READ, protected_reads=frozenset({0x26})))

    def read(self, station, *words):
        with meters_in_thread([station]) as (server,):
            words = ("--profile", "guarded", "--commands", "21,26", "--json", *words)
            done = run(read_cli, "nbr14522", server.url, *words)
        for secret in (READ, READ.encode().hex()):
            assert secret not in done.output
        return done.exit_code, json.loads(done.stdout)

    def test_it_is_opened_when_asked_for(self, guarded):
        code, told = self.read(guarded)
        assert [issue["occurrence"] for issue in told["issues"]] == [0x43]
        assert told["intervals"] == []
        code, told = self.read(guarded, "--open-session", "--serial", SERIAL)
        assert (code, told["outcome"]) == (0, "complete"), told
        assert len(told["intervals"]) > 288
        sent = [frame["hex"][:2] for frame in told["frames"] if frame["direction"] == ">"]
        assert sent.count("11") == sent.count("13") == 1
        assert sent[-1] == "26"

    def test_a_wrong_one_is_sent_once_and_told(self, guarded, tmp_path):
        (tmp_path / "passwords.toml").write_text(f'[meters.{SERIAL}]\nread = "errada0001"\n')
        code, told = self.read(guarded, "--open-session", "--serial", SERIAL)
        assert (code, told["failed_stage"]) == (11, "command 11")
        assert "refuses the read password" in told["error"]["message"]
        assert [frame["hex"][:2] for frame in told["frames"] if frame["direction"] == ">"].count("11") == 1
        assert "errada" not in json.dumps(told)

    def test_another_meter_never_gets_it(self, guarded, tmp_path):
        (tmp_path / "passwords.toml").write_text(f'[meters.10000009]\nread = "{READ}"\n')
        code, told = self.read(guarded, "--open-session", "--serial", "10000009")
        assert code == 11
        assert "10000001 answered" in told["error"]["message"]
        assert not [frame for frame in told["frames"] if frame["hex"][:2] in ("11", "13")]

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--profile", "guarded", "--open-session"], "whose password is not said"),
            (["--open-session", "--serial", SERIAL], "protects nothing"),
        ],
    )
    def test_what_is_missing_is_told_before_anything_is_sent(self, guarded, words, message):
        done = run(read_cli, "nbr14522", "tcp://127.0.0.1:9", *words)
        assert done.exit_code == 11
        assert message in done.output


@pytest.mark.req("TR-5.5d", "TR-5.12a")
def test_a_read_on_demand_goes_through_the_queue(embedded_db, monkeypatch):
    monkeypatch.setenv("SMF_DATABASE_URL", embedded_db.url)
    # The command reads by the machine's time, and a clock that is days slow would be held.
    with meters_in_thread([meter(now=datetime.now(UTC))]) as servers:
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
