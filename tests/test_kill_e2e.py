"""`smf run daily` killed with SIGKILL at random moments, then run again: the same rows, the same bodies.

Two databases get the same day from the same meters, one undisturbed. Set `SMF_TEST_SEED` to repeat a run.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import orjson
import pytest

from pipelines.demo.job import DEMO_ENVIRONMENT
from pipelines.demo.registry import write_registry
from pipelines.demo.world import World, running_world
from simulator.fleets.demo import demo_fleet
from storage.database import Database
from storage.registry import load_registry
from storage.settings import DatabaseSettings, Settings

# An old meter, one that lost memory, one whose link breaks twice.
POINTS = 3
KILLS = 5
SMF = Path(sys.executable).parent / "smf"
ZONE = timezone(timedelta(hours=-3))


@dataclass
class Side:
    """One database with its own meters and its own stand-in."""

    db: Database
    world: World
    environment: Mapping[str, str]
    journal: Path

    def start(self, day: date) -> subprocess.Popen[bytes]:
        # The run goes by the machine's clock, and so do the meters: none is found slow.
        self.world.set_clock(datetime.now(ZONE))
        return subprocess.Popen(
            [str(SMF), "run", "daily", "--day", day.isoformat(), "--json"],
            env=dict(self.environment),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def finish(self, day: date) -> float:
        """Run to the end; returns the seconds it took."""
        began = time.monotonic()
        process = self.start(day)
        _, said = process.communicate(timeout=400)
        # 1: done, but something needs attention (a fleet without history cannot fill the lost memory).
        assert process.returncode in (0, 1), said.decode()
        return time.monotonic() - began

    def rows(self, day: date) -> dict[str, list[tuple[object, ...]]]:
        """What was read, derived and told of the day, without the times and runs that made it."""
        with self.db.connect() as conn:
            return {
                name: conn.execute(query, {"day": day}).fetchall()
                for name, query in {
                    "readings": "SELECT meter_id, channel, version, pulses FROM reading_day"
                    " WHERE day = %(day)s ORDER BY 1, 2, 3",
                    "series": "SELECT uc_id, layer, day, version, denominator, numerators, origin, reason"
                    " FROM series_day ORDER BY 1, 2, 3, 4",
                    "outcomes": "SELECT uc_id, day, state, cause, measured, estimated, missing, energy_kwh"
                    " FROM uc_day_outcome ORDER BY 1, 2",
                    "told": "SELECT uc_id, day, version, body_sha256, state FROM submission_state"
                    " ORDER BY 1, 2, 3",
                }.items()
            }

    def intervals(self) -> dict[tuple[int, int, date, int], int]:
        """(meter, channel, day, slot) -> pulses: of the day, and of whatever else came with it."""
        with self.db.connect() as conn:
            found = conn.execute("SELECT meter_id, channel, day, pulses FROM reading_latest").fetchall()
        return {
            (meter_id, channel, day, slot): count
            for meter_id, channel, day, pulses in found
            for slot, count in enumerate(pulses)
            if count is not None
        }

    def bodies(self) -> set[str]:
        """Hashes of the bodies that CCEE took; told twice, the same body is one."""
        entries = map(orjson.loads, self.journal.read_bytes().splitlines())
        return {hashlib.sha256(e["body"].encode()).hexdigest() for e in entries if e.get("op") == "day"}


@contextmanager
def side(server: Database, name: str, folder: Path, day: date) -> Iterator[Side]:
    """A database and its meters, whose story is told for `day`."""
    folder.mkdir()
    server.create_database(name)
    url = server.sibling(name).url
    points = demo_fleet(POINTS, day)
    secrets = {point.agent_code: "not-a-real-secret" for point in points}
    journal = folder / "ccee.jsonl"
    try:
        with (
            Database(url, Settings(database=DatabaseSettings(url=url, data_dir=folder))) as db,
            running_world(POINTS, day, 0, journal, secrets) as world,
        ):
            db.migrate()
            load_registry(db, write_registry(points, world.meter_urls, folder / "registry"))
            environment = {
                **{key: value for key, value in os.environ.items() if not key.startswith("SMF_")},
                **DEMO_ENVIRONMENT,
                "SMF_DATABASE_URL": url,
                "SMF_DATA_DIR": str(folder),
                "SMF_CCEE_BASE_URL": world.ccee_url,
                # A dead collector's claims are free again after a moment, not after minutes.
                "SMF_COLLECTOR_LEASE_S": "3",
            }
            for code, secret in secrets.items():
                environment[f"SMF_AGENT_{code}_CLIENT_ID"] = f"CONCESSIONARIA_{code}"
                environment[f"SMF_AGENT_{code}_CLIENT_SECRET"] = secret
            yield Side(db, world, environment, journal)
    finally:
        with server.connect(autocommit=True) as conn:
            for database in (name, f"{name}_dagster"):
                conn.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")


@pytest.mark.slow
@pytest.mark.req("TR-8", "TR-2a")
@pytest.mark.timeout(1200)
def test_killed_at_random_moments_and_run_again_it_ends_as_if_undisturbed(
    embedded_server: Database, tmp_path: Path
) -> None:
    seed = int(os.environ.get("SMF_TEST_SEED", random.SystemRandom().randrange(10**6)))
    print(f"SMF_TEST_SEED={seed}")
    chance = random.Random(seed)
    day = datetime.now(ZONE).date() - timedelta(days=1)
    with side(embedded_server, "undisturbed", tmp_path / "a", day) as calm:
        whole_s = calm.finish(day)
        expected, expected_bodies, read = calm.rows(day), calm.bodies(), calm.intervals()
    assert expected["told"]
    with side(embedded_server, "killed", tmp_path / "b", day) as storm:
        for _ in range(KILLS):
            process = storm.start(day)
            moment_s = chance.uniform(0.1, 1.0) * whole_s
            time.sleep(moment_s)
            process.kill()
            process.communicate()
            print(f"killed after {moment_s:.2f} s of about {whole_s:.2f}")
        storm.finish(day)
        found = storm.rows(day)
        for name, rows in expected.items():
            assert found[name] == rows, name
        # Meters also answer what they measured since; it grows while the test runs, and never changes.
        again = storm.intervals()
        assert {key: again[key] for key in read.keys() & again.keys()} == {
            key: read[key] for key in read.keys() & again.keys()
        }
        assert storm.bodies() == expected_bodies
