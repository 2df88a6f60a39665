"""From stored raw vectors to rendered CCEE bodies and their ledger rows, against a plain COPY.

    .venv/bin/python -m tests.benchmarks.bench_derive [--points 20000] [--repeat 3] [--registers]

The peer writes the same intervals as (uc, timestamp, value, flag) rows into a hypertable with its primary
key, from octets encoded beforehand and in the order of the key, which is its best case. Both run on one
TimescaleDB, one after the other, and the ratio of the medians is what counts (at most 1.0). The derivation
runs in a process of its own, whose peak memory is printed for two sizes of the fleet, and whose processor
time is, too: what the machine does besides hardly changes it. With `--registers` each meter has three
readings of its registers around the day, which rule V06 compares.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from datetime import time as dt_time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import psycopg

from ccee import ledger
from ccee.profile import load_profile
from ccee.survey import Standing, survey
from derivation import run as derivation
from storage import readings
from storage.bulk import copy_frame, encode_rows
from storage.database import Database
from storage.settings import DatabaseSettings, Settings
from tests.derivation.world import DAY, NOW, Point, add_points
from tests.timescale import NotAvailableError, TimescaleServer

SLOTS = 288
# Of the UCs: one in a hundred lacks half an hour, one in ten has transformation losses.
GAP_EVERY, LOSS_EVERY = 100, 10


@contextmanager
def fresh(server: Database, name: str) -> Iterator[Database]:
    with server.connect(autocommit=True) as conn:
        conn.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    server.create_database(name)
    with server.sibling(name) as db:
        db.migrate()
        yield db
    with server.connect(autocommit=True) as conn:
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


def fill(db: Database, points: int, with_registers: bool = False) -> None:
    """Raw vectors of one day."""
    rng = np.random.default_rng(points)
    with db.connect() as conn:
        made = add_points(conn, points)
        conn.execute(
            "INSERT INTO point_loss (point_id, kind, valid, percent) "
            "SELECT id, 'transformation', '[2026-01-01,)', 2.5 FROM point WHERE uc_id %% %s = 0",
            [LOSS_EVERY],
        )
        pulses = rng.integers(0, 900, (points, SLOTS), dtype=np.int32)
        frame = pl.DataFrame(
            {
                "meter_id": [point.meter_id for point in made],
                "pulses": pl.Series(pulses, dtype=pl.Array(pl.Int32, SLOTS)).arr.to_list(),
            }
        ).with_row_index("row")
        with_gap = pl.when(pl.col("row") % GAP_EVERY == 0).then(
            pl.concat_list(
                pl.col("pulses").list.head(100),
                pl.lit([None] * 6, dtype=pl.List(pl.Int32)),
                pl.col("pulses").list.tail(SLOTS - 106),
            )
        )
        rows = frame.with_columns(
            pulses=with_gap.otherwise("pulses"),
            channel=1,
            day=DAY,
            version=1,
            quantity_code=1,
            interval_s=300,
            source_starts=pl.lit([0]),
            source_sessions=pl.lit([1]),
        )
        copy_frame(conn, "reading_day", rows.select(list(readings.SCHEMA)))
        if with_registers:
            fill_registers(conn, made, pulses)
    with db.connect(autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE")


def fill_registers(conn: psycopg.Connection, points: Sequence[Point], pulses: npt.NDArray[np.int32]) -> None:
    """Readings at 06:02 of the day, the day before and the day after; they count what the intervals do."""
    per_day = pulses.sum(axis=1, dtype=np.int64)
    until = pulses[:, :72].sum(axis=1, dtype=np.int64) + pulses[:, 72] // 2
    for number, total in ((-1, until), (0, until + per_day), (1, until + 2 * per_day)):
        at = datetime.combine(DAY + timedelta(number), dt_time(9, 2), UTC)
        conn.execute(
            "INSERT INTO session (meter_id, collector, purpose, protocol, url, started_at, outcome) "
            "SELECT m, 'c', 'routine', 'nbr14522', 'tcp://x', %s, 'complete' FROM unnest(%s::bigint[]) AS m",
            [at, [point.meter_id for point in points]],
        )
        conn.execute(
            "INSERT INTO register_reading (session_id, meter_id, command, channel, at, values) "
            "SELECT s.id, s.meter_id, 35, 1, %s, jsonb_build_object('total_pulses', t.total) "
            "FROM unnest(%s::bigint[], %s::bigint[]) AS t (meter_id, total) "
            "JOIN session s ON s.meter_id = t.meter_id AND s.started_at = %s",
            [at, [point.meter_id for point in points], total.tolist(), at],
        )


def peer(db: Database, points: int) -> tuple[float, float]:
    """Seconds to make the octets of the same intervals, one row each, and seconds of their COPY."""
    rng = np.random.default_rng(points)
    start = np.datetime64("2026-11-20T03:05:00", "us")
    stamps = start + np.arange(SLOTS) * np.timedelta64(300, "s")
    types = {"uc": "int8", "at": "timestamptz", "value": "float8", "flag": "int2"}
    blocks: list[bytes] = []
    frame = pl.DataFrame(
        {
            "uc": np.repeat(np.arange(points), SLOTS),
            "at": pl.Series(np.tile(stamps, points)).dt.replace_time_zone("UTC"),
            "value": rng.integers(0, 900, points * SLOTS) * 0.0072,
            "flag": np.ones(points * SLOTS, np.int16),
        }
    )
    began = time.perf_counter()
    blocks = [bytes(block) for block in encode_rows(frame, types)]
    encoded_s = time.perf_counter() - began
    del frame
    with db.connect() as conn:
        conn.execute(
            "CREATE TABLE plain "
            "(uc bigint, at timestamptz, value float8, flag smallint, PRIMARY KEY (uc, at))"
        )
        conn.execute("SELECT create_hypertable('plain', by_range('at'), create_default_indexes => false)")
        conn.commit()
        began = time.perf_counter()
        with (
            conn.cursor() as cursor,
            cursor.copy("COPY plain (uc, at, value, flag) FROM STDIN (FORMAT binary)") as copy,
        ):
            for block in blocks:
                copy.write(block)
        conn.commit()
        took = time.perf_counter() - began
        assert _one(conn, "SELECT count(*) FROM plain") == points * SLOTS
        conn.execute("DROP TABLE plain")
    return encoded_s, took


def _one(conn: psycopg.Connection, query: str) -> int:
    row = conn.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def ours(url: str, points: int, with_profile: bool) -> None:
    """The child process: derive, render, plan; prints one JSON line."""
    profile = load_profile()
    with Database.open(
        Settings(database=DatabaseSettings(url=url, data_dir=Path(tempfile.gettempdir())))
    ) as db:
        # The driver is imported when it is first used: that belongs to the start of the program.
        db.connect_arrow().close()
        imported = _peak_mib()
        watch = cProfile.Profile()
        if with_profile:
            watch.enable()
        began, cpu = time.perf_counter(), time.process_time()
        summary = derivation.derive(db, DAY, DAY, as_of=NOW, run_id="bench")
        derived, derived_mib = time.perf_counter(), _peak_mib()
        due = survey(db, profile, DAY).filter(pl.col("verdict") == Standing.NEW)
        recorded = ledger.record(db, profile, DAY, due, "bench", NOW)
        ended, used = time.perf_counter(), time.process_time() - cpu
        watch.disable()
        assert summary.outcomes == {"ready": points}, summary.outcomes
        assert len(recorded.submissions) == points, (len(recorded.submissions), recorded.refused)
        if with_profile:
            pstats.Stats(watch, stream=sys.stderr).sort_stats("cumulative").print_stats(45)
            pstats.Stats(watch, stream=sys.stderr).sort_stats("tottime").print_stats(25)
    print(
        json.dumps(
            {
                "derive_s": derived - began,
                "bodies_s": ended - derived,
                "total_s": ended - began,
                "cpu_s": used,
                "before_mib": imported,
                "derived_mib": derived_mib,
                "peak_mib": _peak_mib(),
            }
        )
    )


def _peak_mib() -> float:
    """Of this process since its program began (getrusage would count the parent's size at the fork)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def run(server: Database, points: int, with_profile: bool, with_registers: bool) -> dict[str, float]:
    with fresh(server, "bench_derive") as db:
        fill(db, points, with_registers)
        child = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.benchmarks.bench_derive",
                "--child",
                db.url,
                "--points",
                str(points),
            ]
            + (["--profile"] if with_profile else []),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found: dict[str, float] = json.loads(child.stdout.splitlines()[-1])
        # The database that the derivation just filled serves the peer, too: same server, same state.
        found["encode_s"], found["peer_s"] = peer(db, points)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="print where the time goes, call by call")
    parser.add_argument("--registers", action="store_true", help="meters have registers")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        ours(chosen.child, chosen.points, chosen.profile)
        return 0
    with tempfile.TemporaryDirectory(prefix="smf-bench-", dir="/var/tmp") as folder:
        timescale = TimescaleServer(Path(folder) / "timescale")
        try:
            url = timescale.acquire()
        except NotAvailableError as reason:
            print(f"NOT RUN: {reason}")
            return 1
        try:
            server = Database(url, Settings(database=DatabaseSettings(url=url, data_dir=Path(folder))))
            small = run(server, chosen.points // 4, False, chosen.registers)
            runs = [
                run(server, chosen.points, chosen.profile and n == 0, chosen.registers)
                for n in range(chosen.repeat)
            ]
        finally:
            timescale.release()
    report(chosen.points, small, runs)
    return 0


def report(points: int, small: dict[str, float], runs: list[dict[str, float]]) -> None:
    middle = {key: statistics.median(one[key] for one in runs) for key in runs[0]}

    def line(name: str, seconds: float) -> str:
        return f"  {name:21} {seconds:7.2f} s   {points * SLOTS / seconds / 1e6:.2f} M intervals/s"

    cpu_us = middle["cpu_s"] / points * 1e6
    ratios = [one["total_s"] / one["peer_s"] for one in runs]
    print(f"{points:,} UC-days of {SLOTS} intervals, median of {len(runs)} runs")
    print(line("layers written", middle["derive_s"]))
    print(line("bodies and ledger", middle["bodies_s"]))
    print(line("raw vectors to ledger", middle["total_s"]))
    print(f"  of our process        {middle['cpu_s']:7.2f} s   of processor, {cpu_us:.0f} us a UC-day")
    print(line("plain COPY", middle["peer_s"]))
    print(
        f"  ratio                 {statistics.median(ratios):7.2f}     "
        f"({min(ratios):.2f} to {max(ratios):.2f}; limit 1.0)"
    )
    whole = statistics.median(one["total_s"] / (one["encode_s"] + one["peer_s"]) for one in runs)
    print(f"  with the peer's octets {whole:6.2f}     (made in {middle['encode_s']:.2f} s before its COPY)")
    print(
        f"  peak memory           {middle['peak_mib']:7.0f} MiB for {points:,} UCs, "
        f"{small['peak_mib']:.0f} MiB for {points // 4:,} (limit 2048); layers alone "
        f"{middle['derived_mib']:.0f} and {small['derived_mib']:.0f}, imports {middle['before_mib']:.0f}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
