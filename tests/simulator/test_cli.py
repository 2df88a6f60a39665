"""`smf simulate nbr14522`: what it says and what it refuses."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest

from protocols.nbr14522.profiles import DEFAULT, P8_GENERIC
from tests.simulator.peers.command import SMF, simulated
from tests.simulator.peers.wire import Carrier, SerialCarrier, Session, TcpCarrier, run


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "pulses.csv"
    rows = [f"2026-11-18T{h:02d}:{m:02d}:00,{100 + h},9.9" for h in range(24) for m in range(0, 60, 5)]
    path.write_text("interval_end_local,pulses,kwh\n" + "\n".join(rows) + "\n")
    return path


@pytest.mark.req("X-sim")
@pytest.mark.parametrize("line", ["tcp", "pty"])
def test_a_csv_is_served_from_the_command_line(recording: Path, line: str) -> None:
    words = ["--pulses", str(recording), "--num", "9", "--den", "1250", "--serial", "00088518"]
    with simulated(*words, *(["--pty"] if line == "pty" else ["--port", "0"])) as facts:
        assert (facts["serial"], facts["memory_words"], facts["faults"]) == ("00088518", 3 * 288, {})

        async def test() -> None:
            url = facts["url"]
            carrier: Carrier = (
                SerialCarrier(url.removeprefix("serial://")) if line == "pty" else await TcpCarrier.open(url)
            )
            session = Session(carrier, DEFAULT)
            parameters = await session.ask(0x21)
            assert parameters.last_interval_end == datetime(2026, 11, 18, 23, 45)
            assert (parameters.constants[0].numerator, parameters.constants[0].denominator) == (9, 1250)
            whole = await session.ask(0x51)
            words = await session.words(0x52, whole.words_current)
            assert words[:, 0].tolist() == [100 + h for h in range(24) for _ in range(12)]
            session.carrier.close()

        run(test)


def test_faults_and_the_instant_are_taken_from_the_command_line() -> None:
    words = ["--load", "school", "--now", "2026-11-21T00:10:00-03:00", "--clock-offset-s", "-95"]
    with simulated(
        *words, "--frozen", "--wait", "2", "--bad-crc-block", "1", "--bad-crc-block", "3"
    ) as facts:
        assert facts["meter_time"] == "2026-11-21T00:08:25"
        assert facts["faults"] == {"wait_count": 2, "bad_crc_blocks": [1, 3]}


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (["--serial", "12"], "--serial"),
        (["--load", "disco"], "--load"),
        (["--profile", "none"], "profile"),
        (["--now", "tomorrow"], "now"),
        (["--pulses", "no-such-file.csv"], "no-such-file.csv"),
    ],
)
def test_bad_arguments_name_place_and_remedy(words: list[str], where: str) -> None:
    done = subprocess.run([*SMF, "--json", *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 11
    error = json.loads(done.stdout)["error"]
    assert (error["where"], bool(error["remedy"])) == (where, True)


SMF_FLEET = [*SMF[:-1], "fleet"]
FLEET = """
[fleet]
now = 2026-11-20T08:00:00-03:00
[[group]]
name = "praia"
count = 4
model = "p8-generic"
per_unit = 2
"""


@pytest.mark.req("X-sim")
def test_a_fleet_file_is_served_from_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(FLEET)
    began_s = time.monotonic()
    with simulated(str(path), command=SMF_FLEET) as first:
        assert (first["group"], first["unit"], first["model"]) == ("praia", "praia-001", "p8-generic")

        async def test() -> None:
            carrier = await TcpCarrier.open(first["url"])
            for serial in ("40000001", "40000002"):
                answer = await Session(carrier, P8_GENERIC, serial).ask(0x21)
                assert answer.meter_serial == serial
                # It goes on from the instant of the file; a meter shows whole seconds.
                went_s = (answer.meter_time - datetime(2026, 11, 20, 8)).total_seconds()
                assert 0 <= went_s <= time.monotonic() - began_s
            carrier.close()

        run(test)


def test_the_demonstration_fleet_is_served_without_a_file() -> None:
    with simulated("--points", "2", command=SMF_FLEET) as first:
        assert (first["scenario"], first["profile"]) == ("old_meter", "old-3ch")


def test_a_wrong_fleet_file_names_key_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(FLEET + "colour = 3")
    done = subprocess.run(
        [*SMF_FLEET, "--json", str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 11
    error = json.loads(done.stdout)["error"]
    assert error["where"] == f"{path}, group 'praia', colour"
    assert "known here" in error["remedy"]
