"""One entry adds a protocol: a toy from a package of its own is simulated, read, derived and traced."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from audit.trace import trace
from ccee.profile import load_profile
from derivation.run import derive
from protocols.table import PROTOCOLS, ProtocolEntry, catalogues, part, protocol_of
from simulator.load.clock import ClockModel, SettableClock
from simulator.load.curves import GeneratedLoad
from simulator.load.grid import MARKET_ZONE
from simulator.nbr14522.meter import SimulatedMeter
from simulator.nbr14522.spec import MeterSpec
from simulator.wires.serving import Serving
from storage.database import Database
from tests.collector.world import DAY, NOW, add_meter, collect, quick, sessions, stored

SERIAL = "70000001"
ROOT = Path(__file__).resolve().parents[2]
# What sessions of databases that exist already have in their column.
STORED_NAMES = {"nbr14522", "dlms", "ssu", "celesc", "fk7", "public-text", "pulse-csv"}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that holds the package `toy`, which is in the table while the test runs."""
    shutil.copytree(Path(__file__).with_name("toy"), tmp_path / "toy")
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = part("toy:ENTRY")
    monkeypatch.setitem(PROTOCOLS, "toy", entry)
    yield tmp_path
    part.cache_clear()
    for name in [name for name in sys.modules if name == "toy" or name.startswith("toy.")]:
        del sys.modules[name]


def meter() -> SimulatedMeter:
    source = GeneratedLoad("supermarket", 120.0, 0.036, 7)
    return SimulatedMeter(MeterSpec(SERIAL, source, datetime(2026, 9, 1, 10), ClockModel(NOW)))


@pytest.mark.req("X-trace")
def test_a_protocol_of_another_package_is_read_and_traced(embedded_db: Database, toy: Path) -> None:
    db = quick(embedded_db)
    simulated = meter()

    async def work() -> int:
        serve = part(PROTOCOLS["toy"].simulator)
        async with serve(simulated, Serving(SettableClock(NOW), "127.0.0.1", 0, 0.1)) as server:
            with db.connect() as conn:
                conn.execute("INSERT INTO distributor (code, name) VALUES ('D', 'D')")
                conn.execute(
                    "INSERT INTO agent (code, name, distributor_id) SELECT 4711, 'A', id FROM distributor"
                )
                meter_id = add_meter(conn, 1, SERIAL, server.url, "toy-1")
                conn.execute(
                    "INSERT INTO uc_status (uc_id, valid, status) "
                    "SELECT id, '[2026-01-01,)', 'active' FROM uc"
                )
            (summary,) = (await collect(db)).values()
            assert (summary.state, summary.outcome) == ("done", "complete"), summary
            return meter_id

    meter_id = asyncio.run(work())
    first = int((datetime.combine(DAY, datetime.min.time()) - datetime(1970, 1, 1)) // timedelta(minutes=5))
    expected = simulated.spec.source.pulses(first, 288)[:, 0].tolist()
    assert stored(db, meter_id) == expected
    assert sessions(db)[0]["protocol"] == "toy"

    derive(db, DAY, DAY, as_of=NOW, run_id="test")
    end = datetime.combine(DAY, datetime.min.time(), MARKET_ZONE) + timedelta(hours=10)
    found = trace(db, load_profile(), "0000000001", end)
    assert found.reading is not None
    assert found.reading.place is not None
    assert found.reading.place.pulses == found.reading.pulses == expected[119]
    assert found.is_identical

    shown = smf(toy, "trace", "0000000001", f"{end:%Y-%m-%dT%H:%M}", url=db.url)
    assert shown.returncode == 0, shown.stderr
    assert f"toy line in frame 2: {expected[119]} = {expected[119]} pulses" in " ".join(shown.stdout.split())
    document = json.loads(
        smf(toy, "trace", "0000000001", f"{end:%Y-%m-%dT%H:%M}", "--json", url=db.url).stdout
    )
    assert document["reading"]["line"]["pulses"] == expected[119]


def command(toy: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "toy.cli", *words]


def environment(toy: Path, url: str | None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SMF_")}
    more = {} if url is None else {"SMF_DATABASE_URL": url}
    return kept | more | {"PYTHONPATH": os.pathsep.join((str(toy), str(ROOT))), "COLUMNS": "200"}


def smf(toy: Path, *words: str, url: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(toy, *words),
        env=environment(toy, url),
        cwd=toy,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_verbs_of_smf_take_a_protocol_of_another_package(toy: Path) -> None:
    simulating = subprocess.Popen(
        command(toy, "simulate", "toy", SERIAL, "2026-11-21T00:10:00-03:00"),
        env=environment(toy, None),
        cwd=toy,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert simulating.stdout is not None
    try:
        url = json.loads(simulating.stdout.readline())["url"]
        read = smf(toy, "read", "toy", url, DAY.isoformat())
        assert read.returncode == 0, read.stderr
        counts: dict[str, Any] = json.loads(read.stdout)
        assert (counts["serial"], len(counts["pulses"])) == (SERIAL, 288)
    finally:
        simulating.terminate()
        simulating.communicate(timeout=20)
    capture = toy / "reply.txt"
    capture.write_text(f"TOY {SERIAL}\n{DAY} 0 12\nEND\n", encoding="ascii")
    decoded = smf(toy, "decode", "toy", str(capture))
    assert json.loads(decoded.stdout)["pulses"] == 12
    listed = smf(toy, "model", "list", "--protocol", "toy", "--json")
    assert [row["profile"] for row in json.loads(listed.stdout)] == ["toy-1"]


@pytest.mark.parametrize("entry", PROTOCOLS.values(), ids=lambda entry: entry.name)
def test_every_name_of_the_table_is_there(entry: ProtocolEntry) -> None:
    for name in ProtocolEntry.__slots__:
        value = getattr(entry, name)
        if value is not None and name != "name":
            assert part(value) is not None


def test_profiles_belong_to_one_protocol_each() -> None:
    assert set(PROTOCOLS) == STORED_NAMES
    for entry, models in catalogues():
        for name in models.names():
            assert protocol_of(name) is entry
