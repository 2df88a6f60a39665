"""The meter simulator that nobody here wrote, in a process and an environment of its own."""

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
from datetime import UTC, datetime
from pathlib import Path

import pytest

from collector.decoded import Frame, MeterContext
from collector.dlms.decode import decode_dlms
from collector.dlms.script import identity, load_profile, registers
from collector.dlms.secrets import Secrets
from collector.dlms.session import DlmsLine, read_dlms, steps
from collector.lines.transports import Timeouts, open_stream, parse_url
from collector.work.planning import Span
from protocols.dlms import models
from protocols.dlms.transcript import Recorded, exchanges
from tests.collector.world import MARKET

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
