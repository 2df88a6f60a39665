"""`smf read dlms` against the simulated meter: for programs, for people, and when the meter refuses."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from typer.testing import CliRunner

from pipelines.cli.read import dlms as read_dlms
from pipelines.cli.read.app import app
from protocols.dlms.apdu import Mechanism
from protocols.dlms.axdr import NULL, Data, Tag, array, octets, structure
from simulator.dlms.meter import SERIAL, DlmsMeter, DlmsSpec
from simulator.dlms.server import DlmsServer
from tests.collector.world import DAY, MARKET, NOW, meter

pytestmark = pytest.mark.req("TR-5.12a")

PASSWORD = "sesamo-42"


@pytest.fixture
def url(monkeypatch):
    """A meter whose clock is right, served from a thread; it is NOW for the command, too."""
    monkeypatch.setattr(read_dlms, "_now", lambda: NOW)
    spec = DlmsSpec(clients={16: Mechanism.NONE, 3: Mechanism.LLS}, password=PASSWORD.encode())
    server = DlmsServer(DlmsMeter(meter().meter, spec), lambda: NOW)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result()
    yield server.url
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def run(*words):
    return CliRunner().invoke(app, ["dlms", *words])


def test_everything_as_one_document(url):
    result = run(url, "--model", "dlms-generic", "--days", "2", "--objects", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["outcome"], found["meter_serial"], found["issues"]) == ("complete", "10000001", [])
    assert found["clock"]["drift_s"] == 0
    assert found["registers"]["1-0:1.8.0.255"]["unit"] == "Wh"
    listed = {one["obis"]: one for one in found["objects"]}
    assert (listed["1-0:99.1.0.255"]["class"], listed["1-0:99.1.0.255"]["version"]) == (7, 0)
    assert listed["1-0:1.29.0.255"]["object"] == "active_import_increment_p1"
    ends = [datetime.fromisoformat(row["end"]) for row in found["intervals"]]
    assert {later - earlier for earlier, later in pairwise(ends)} == {timedelta(minutes=5)}
    assert all(row["pulses"].keys() == {"1", "2", "3"} for row in found["intervals"])
    assert found["frames"][0]["direction"] == ">"


def test_in_words_for_people(url):
    result = run(url, "--model", "dlms-generic", "--days", "1", "--logs")
    assert result.exit_code == 0, result.output
    assert "Meter 10000001" in result.stdout
    assert "1-0:1.8.0.255" in result.stdout


def test_a_password_comes_from_the_file_of_secrets_and_is_not_shown(url, tmp_path, monkeypatch):
    secrets = tmp_path / "secrets.toml"
    secrets.write_text(f'[models.dlms-nbr16968]\npassword = "{PASSWORD}"\n')
    secrets.chmod(0o600)
    missing = run(url, "--model", "dlms-nbr16968", "--json")
    assert missing.exit_code == 11
    assert "dlms_secrets_path" in missing.stdout
    monkeypatch.setenv("SMF_COLLECTOR_DLMS_SECRETS_PATH", str(secrets))
    result = run(url, "--model", "dlms-nbr16968", "--json")
    assert result.exit_code == 0, result.output
    assert PASSWORD not in result.output
    assert PASSWORD.encode().hex() not in result.output


def test_refusals_say_who_must_act(url, tmp_path, monkeypatch):
    secrets = tmp_path / "secrets.toml"
    secrets.write_text('[models.dlms-nbr16968]\npassword = "another"\n')
    secrets.chmod(0o600)
    monkeypatch.setenv("SMF_COLLECTOR_DLMS_SECRETS_PATH", str(secrets))
    refused = run(url, "--model", "dlms-nbr16968", "--json")
    assert refused.exit_code == 11
    assert json.loads(refused.stdout)["failed_stage"] == "association"
    assert run(url, "--model", "dlms-unknown").exit_code == 11


def test_a_simulated_meter_of_the_command_line_is_read():
    command = [
        *(sys.executable, "-c", "from pipelines.cli.main import main; main()"),
        *("simulate", "dlms", "--hdlc", "--totals", "--json"),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            facts = json.loads(process.stdout.readline())
            result = run(facts["url"], "--model", "dlms-generic-hdlc", "--days", "1", "--json")
        finally:
            process.terminate()
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["meter_serial"], found["issues"]) == (facts["serial"], [])


@pytest.mark.parametrize("listed", [Data(Tag.UINT8, 1), array(structure(NULL, NULL, octets(b"short")))])
def test_a_list_of_objects_that_is_none_is_told_and_costs_nothing_else(url, monkeypatch, listed):
    monkeypatch.setattr(DlmsMeter, "_objects", lambda self: listed)
    result = run(url, "--model", "dlms-generic", "--objects", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["meter_serial"], found["objects"]) == ("10000001", [])
    assert "object list" in found["issues"][0]["reason"]
    assert "not taken object list" in run(url, "--model", "dlms-generic", "--objects").stdout


def test_a_serial_with_brackets_is_shown_as_it_is(url, monkeypatch):
    told = DlmsMeter.get

    def get(self, attribute, *rest):
        is_serial = attribute.obis == SERIAL
        return octets(b"[/b][red]1") if is_serial else told(self, attribute, *rest)

    monkeypatch.setattr(DlmsMeter, "get", get)
    result = run(url, "--model", "dlms-generic")
    assert result.exit_code == 0, result.output
    assert "Meter [/b][red]1" in result.stdout


def test_a_day_alone_is_read_and_one_that_no_meter_has_is_refused(url):
    day, today = DAY, NOW.astimezone(MARKET).date()
    result = run(url, "--model", "dlms-generic", "--first-day", str(day), "--json")
    ends = [row["end"] for row in json.loads(result.stdout)["intervals"]]
    assert (ends[-288], ends[-1]) == (f"{day}T00:05:00", f"{today}T00:00:00")
    for day in (today + timedelta(days=1), "1999-12-31"):
        refused = run(url, "--model", "dlms-generic", "--first-day", str(day), "--json")
        assert refused.exit_code == 11
        assert json.loads(refused.stdout)["error"]["where"] == "--first-day"


def test_a_read_that_lacks_rows_is_partial_and_needs_attention(url):
    """The meter was installed in September: of August it has no rows."""
    result = run(url, "--model", "dlms-generic", "--first-day", "2026-08-20", "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["outcome"]) == (1, "partial")
    assert not [row for row in found["intervals"] if row["end"].startswith("2026-08")]
    assert found["statement"]["coverage"]["got"] == 0
    assert [issue["stage"] for issue in found["issues"]] == ["coverage"]
    told = run(url, "--model", "dlms-generic", "--first-day", "2026-08-20").stdout
    assert "asked 288 intervals of 300 s, got 0" in told


def test_a_clock_that_is_days_slow_is_named(url, monkeypatch):
    monkeypatch.setattr(read_dlms, "_now", lambda: NOW + timedelta(days=30))
    result = run(url, "--model", "dlms-generic", "--days", "2", "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["outcome"]) == (1, "partial")
    assert any("the meter's clock is 30 days" in issue["reason"] for issue in found["issues"])


@pytest.mark.case("F4")
def test_ciphering_without_tables_names_the_remedy(url, monkeypatch, tmp_path, embedded_db):
    with embedded_db.connect() as conn:
        conn.execute("DROP SCHEMA public CASCADE")
        conn.execute("CREATE SCHEMA public")
    secrets = tmp_path / "secrets.toml"
    secrets.write_text(
        '[meters.10000001]\nencryption_key = "000102030405060708090A0B0C0D0E0F"\n'
        'authentication_key = "D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF"\n'
    )
    secrets.chmod(0o600)
    monkeypatch.setenv("SMF_COLLECTOR_DLMS_SECRETS_PATH", str(secrets))
    monkeypatch.setenv("SMF_DATABASE_URL", embedded_db.url)
    result = run(url, "--model", "dlms-nbr16968-remote", "--serial", "10000001", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 11, result.output
    assert "smf db migrate" in found["error"]["remedy"]
