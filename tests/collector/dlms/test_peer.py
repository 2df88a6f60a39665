"""A DLMS meter that nobody here wrote (pydlms' simulator, its own process): wrapper, HDLC, password, GMAC."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from collector.decoded import Frame, MeterContext
from collector.dlms import driver as dlms_driver
from collector.dlms.decode import decode_dlms
from collector.dlms.script import discovery, identity, load_profile, registers
from collector.dlms.secrets import Secrets
from collector.dlms.session import DlmsLine, read_dlms, steps
from collector.drain import drain
from collector.lines.transports import Timeouts, open_stream, parse_url
from collector.planning import Span
from collector.worklist import request_missing
from protocols.dlms import apdu, models
from protocols.dlms.apdu import Attribute
from protocols.dlms.axdr import octets
from protocols.dlms.clock import decode_date_time, encode_date_time
from protocols.dlms.transcript import Recorded, exchanges
from simulator.load.clock import SettableClock
from storage.database import Database
from storage.settings import AcquisitionSettings
from tests.collector.dlms.clock_case import passing
from tests.collector.dlms.test_dlms import patient
from tests.collector.world import MARKET, add_meter, collect, query, sessions, stored

pytestmark = pytest.mark.req("TR-5.12a")

REQUIREMENTS = Path(__file__).with_name("pydlms-requirements.txt")
BUILD = Path(__file__).parents[3] / "build"
SERIAL = "PYD0000000001"
PASSWORD = b"12345678"
ENCRYPTION, AUTHENTICATION = "000102030405060708090A0B0C0D0E0F", "D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF"
CLIENTS = ["--client", "32:1:12345678", "--client", "16:0"]
GMAC = ["--key", ENCRYPTION, "--auth-key", AUTHENTICATION, "--client", "1:5", "--client", "16:0"]
# Rows are dated with the start of their period and hold running totals: 1000 + 7 i.
MODELS = """
[models.dlms-peer]
extends = "dlms-generic"
client = 32
authentication = "lls"
timestamps = "start"
answer_s = 30
[models.dlms-peer-hdlc]
extends = "dlms-peer"
framing = "hdlc"
[models.dlms-peer-small]
extends = "dlms-peer"
max_apdu = 128
[models.dlms-peer-entry]
extends = "dlms-peer"
access = ["entry"]
[models.dlms-peer-all]
extends = "dlms-peer"
access = ["all"]
[models.dlms-peer-set]
extends = "dlms-peer"
clock_shift_up_to_s = 0
[models.dlms-peer-set-hdlc]
extends = "dlms-peer-set"
framing = "hdlc"
[models.dlms-peer-gmac]
extends = "dlms-peer"
client = 1
authentication = "gmac"
"""


@pytest.fixture(autouse=True)
def catalogue():
    models.add_catalogue("peer", MODELS)
    yield
    models.remove_catalogue("peer")


@pytest.fixture(scope="session")
def pydlms():
    """The program, installed once; where it cannot be, the tests are skipped, but never in CI."""
    mark = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    home = BUILD / f"pydlms-{mark}"
    BUILD.mkdir(exist_ok=True)
    with home.with_suffix(".lock").open("w") as lock:
        # Two files of tests use it, and two workers may meet here.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "installed").exists():
            _install(home)
    return home / "bin/pydlms"


def _install(home):
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    command = [home / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS]
    # A download may be cut off.
    for pause_s in (0, 5, 20) if os.environ.get("CI") else (0,):
        time.sleep(pause_s)
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode == 0:
            break
    if made.returncode:
        if os.environ.get("CI"):
            pytest.fail(f"pydlms cannot be installed: {made.stderr}")
        # Away from CI a machine may have no package index.
        pytest.skip(f"pydlms cannot be installed: {made.stderr.strip()[-200:]}")
    (home / "installed").touch()


@pytest.fixture
def simulate(pydlms, tmp_path):
    """Starts simulators on free ports; they end with the test."""
    with contextlib.ExitStack() as stack:

        def start(*options):
            # A file and no pipe, which would fill; the system chooses the port, so that nobody is first.
            told = stack.enter_context((tmp_path / "peer.log").open("w+"))
            command = [pydlms, "simulate", "--port", "0", *options]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=told)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return f"tcp://{_listening(Path(told.name), process)}"

        yield start


def _listening(log, process):
    """Host and port that the simulator says it listens on."""
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        if (found := re.search(r"listening on (127\.0\.0\.1:\d+) ", log.read_text())) is not None:
            return found[1]
        time.sleep(0.05)
    pytest.fail(f"the simulator does not listen (exit {process.poll()}): {log.read_text()}")


def visit(url, name, work, password=PASSWORD):
    """(result, what it means, exchanges) of one session without a database."""
    model = models.model_named(name)
    frames = []

    def record(at, is_sent, command, crc_ok, payload):
        frames.append(Frame(len(frames) + 1, at, is_sent, crc_ok is not False, payload))

    async def no_counter(*_):
        raise AssertionError("no counter is needed")

    line = DlmsLine(parse_url(url), model, Timeouts(20, 30, 120), Secrets(password), b"12345678", no_counter)
    result = asyncio.run(
        read_dlms(
            line, steps(lambda client: work(client, model)), record, lambda: datetime.now(UTC), open_stream
        )
    )
    found = decode_dlms(frames, model, MeterContext(1, SERIAL, 1, MARKET))
    assert all(password not in frame.payload for frame in frames)
    heard = list(exchanges(Recorded(frame.at, frame.is_sent, frame.payload) for frame in frames))
    return result, found, heard


def everything(client, model):
    yield from identity(client, model)
    yield from registers(client, model.registers)
    # 2024-05-01 00:00Z to 24:00Z is 21:00 to 21:00 in market time.
    span = Span(datetime(2024, 4, 30, 21, 15), datetime(2024, 5, 1, 21))
    now = datetime.now(MARKET).replace(tzinfo=None)
    yield from load_profile(client, model, [span], now, MARKET)


@pytest.mark.parametrize("name", ["dlms-peer", "dlms-peer-hdlc", "dlms-peer-small", "dlms-peer-all"])
def test_registers_clock_and_profile(simulate, name):
    url = simulate(*CLIENTS, *(["--hdlc"] if name.endswith("hdlc") else []))
    result, found, heard = visit(url, name, everything)
    assert (result.outcome, result.fault) == ("complete", None)
    assert found.meter_serial == SERIAL
    assert found.clock is not None
    assert found.clock.meter_time == datetime(2024, 5, 1, 10, tzinfo=UTC)
    values = {row.channel: row.values for row in found.registers}
    assert values[1] == {"raw": 12345678, "scaler": 0, "unit": 30}
    assert values[2] == {"raw": 4321, "scaler": 0, "unit": 30}
    counts = [int(count) for vector in found.vectors for count in vector.pulses[vector.present]]
    # The first of 96 running totals has nothing to differ from.
    assert counts == [7] * 95
    assert found.last_end == datetime(2024, 5, 1, 21)
    if name == "dlms-peer-small":
        assert max(one.blocks for one in heard) > 5


def test_rows_by_entry(simulate):
    # Counted back from today the whole buffer is asked for: the peer's rows are of 2024.
    _, found, heard = visit(simulate(*CLIENTS), "dlms-peer-entry", everything)
    assert any(one.selector == 2 for one in heard)
    assert sum(int(vector.present.sum()) for vector in found.vectors) == 95


def test_objects_are_discovered(simulate):
    def work(client, model):
        yield from discovery(client)

    _, _, (answer,) = visit(simulate(*CLIENTS), "dlms-peer", work)
    found = [tuple(element[2]) for element in answer.value.plain()]
    assert (1, 0, 99, 1, 0, 255) in found
    assert len(found) >= 11


def test_a_wrong_password_is_the_operators_matter_at_once(simulate):
    result, _, heard = visit(simulate(*CLIENTS), "dlms-peer", everything, password=b"87654321")
    assert (result.outcome, result.failed_stage, result.retries) == ("failed", "association", 0)
    assert result.fault is not None
    assert result.fault.actor.value == "operator"
    assert heard == [], "nothing is asked after it"


def test_a_ciphered_meter_is_collected_and_its_counter_only_grows(simulate, embedded_db, tmp_path):
    secrets = tmp_path / "secrets.toml"
    secrets.write_text(
        f'[models.dlms-peer-gmac]\nencryption_key = "{ENCRYPTION}"\nauthentication_key = "{AUTHENTICATION}"\n'
    )
    secrets.chmod(0o600)
    db = patient(embedded_db, secrets)
    # The peer's clock stands still; a person has looked at it.
    judging = AcquisitionSettings(clock_ceiling_s=1e9, clock_hour_tolerance_s=0.0)
    db = Database(db.url, replace(db.settings, acquisition=judging))
    url = simulate(*GMAC)
    now = datetime(2024, 5, 3, 6, 7, tzinfo=UTC)
    day = date(2024, 5, 1)
    with db.connect() as conn:
        conn.execute("INSERT INTO distributor (code, name) VALUES ('D', 'D')")
        conn.execute("INSERT INTO agent (code, name, distributor_id) SELECT 1, 'A', id FROM distributor")
        meter_id = add_meter(conn, 1, SERIAL, url, "dlms-peer-gmac", since="2024-01-01Z")
        conn.execute(
            "UPDATE installation SET interval_s = 900, pulse_energy_num = 1, pulse_energy_den = 1000"
        )
    counters = []
    for _ in range(2):
        with db.connect() as conn:
            conn.execute("DELETE FROM reading_day")
            conn.execute("UPDATE job_request SET result = NULL")
        summary = asyncio.run(collect(db, [day], now))[SERIAL]
        assert summary.state == "done", summary
        got = stored(db, meter_id, day)
        assert got is not None
        # The peer's rows end at 21:00 of market time.
        assert got == [7] * 84 + [None] * 12
        counters.append(query(db, "SELECT last_used FROM dlms_counter")[0][0])
    assert counters[1] > counters[0]
    assert [row["outcome"] for row in sessions(db)] == ["partial", "partial"]
    kept = query(db, "SELECT payload FROM frame")
    secret = bytes.fromhex(ENCRYPTION)
    assert all(secret not in payload for (payload,) in kept)
    tags = {payload[8] for (payload,) in kept if payload[:2] == b"\0\1"}
    assert {0xC8, 0xCC} <= tags, "services went ciphered"


@pytest.mark.req("TR-5.6d")
@pytest.mark.parametrize(
    ("name", "options", "method", "verdict"),
    [
        ("dlms-peer-set", CLIENTS, "set", "confirmed"),
        ("dlms-peer-set-hdlc", [*CLIENTS, "--hdlc"], "set", "confirmed"),
        # It answers shift_time with success and leaves its clock as it was: only reading back tells.
        ("dlms-peer-hdlc", [*CLIENTS, "--hdlc"], "shift", "mismatch"),
        ("dlms-peer-gmac", GMAC, "shift", "mismatch"),
    ],
)
def test_the_clock_is_corrected_through_the_queue(
    simulate, embedded_db, tmp_path, monkeypatch, name, options, method, verdict
):
    """Two minutes slow, at the beginning of an interval; what is off by days is left to persons."""
    secrets = tmp_path / "secrets.toml"
    secrets.write_text(
        f'[meters.{SERIAL}]\npassword = "{PASSWORD.decode()}"\nencryption_key = "{ENCRYPTION}"\n'
        f'authentication_key = "{AUTHENTICATION}"\n'
    )
    secrets.chmod(0o600)
    db = patient(embedded_db, secrets)
    url = simulate(*options)
    # The meter says 10:00:00 until it is set: time stands still here, too, but for what a command waits.
    clock = SettableClock(datetime(2024, 5, 1, 10, 2, tzinfo=UTC), is_running=False)
    monkeypatch.setattr(dlms_driver, "Tools", passing(clock))
    with db.connect() as conn:
        conn.execute("INSERT INTO distributor (code, name) VALUES ('D', 'D')")
        conn.execute("INSERT INTO agent (code, name, distributor_id) SELECT 1, 'A', id FROM distributor")
        add_meter(conn, 1, SERIAL, url, name, since="2024-01-01Z")
        conn.execute(
            "UPDATE installation SET interval_s = 900, pulse_energy_num = 1, pulse_energy_den = 1000"
        )
    day = date(2024, 4, 30)
    (summary,) = asyncio.run(drain(db, request_missing(db, [day], clock(), "test"), clock, deadline_s=60))
    assert summary.state == "done", summary
    waiting = query(db, "SELECT id FROM job_request WHERE kind = 'command' AND state = 'queued'")
    asyncio.run(drain(db, [request_id for (request_id,) in waiting], clock, deadline_s=60))
    ((asked_by, found, detail),) = query(db, "SELECT requested_by, verdict, detail FROM command_status")
    assert (asked_by, found, detail["method"]) == ("clock rule", verdict, method)
    assert detail["step_s"] == 120
    assert detail["drift_after_s"] == 0 or method == "shift"
    touched = query(db, "SELECT day::text, first_slot, last_slot FROM interval_flag")
    assert touched == [("2024-05-01", 28, 28)]


@pytest.mark.parametrize("largest", [0xFFFF, 26], ids=["whole", "in blocks"])
def test_the_clock_is_set(simulate, monkeypatch, largest):
    """By the protocol core alone; the peer offers no small APDU, so the client is made to believe in one."""
    clock = Attribute(8, "0-0:1.0.0.255", 2)
    offered = apdu.parse_initiate
    monkeypatch.setattr(
        apdu,
        "parse_initiate",
        lambda octets: replace(offered(octets), max_apdu=min(largest, offered(octets).max_apdu or largest)),
    )
    told = datetime(2026, 11, 21, 3, 7, 30, tzinfo=MARKET)

    def work(client, model):
        yield from client.set(clock, octets(encode_date_time(told)))
        yield from client.get(clock)

    result, _, heard = visit(simulate(*CLIENTS), "dlms-peer", work)
    assert (result.outcome, result.fault) == ("complete", None)
    assert (result.answers > 8) == (largest == 26), "seven blocks, each acknowledged"
    seen = decode_date_time(heard[-1].value.value, MARKET).at
    assert seen == told
