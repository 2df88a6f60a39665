"""Time to seal a day in the ledger: survey, read, render, hash, record; then to find it all delivered, as the
next run and, each minute, the sensor of ready days do.

Run with SMF_DATABASE_URL naming an empty, migrated database, or without it on the embedded server in a
temporary folder: python tests/benchmarks/bench_ledger.py [UC-DAYS]. Peer of the same run: COPY of the same
values as (uc, timestamp, value, flag) rows into a table with that key.
"""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from ccee import ledger
from ccee.profile import load_profile
from ccee.survey import Standing, survey
from derivation.pending import unsent_days
from sensors import ready_days
from storage.bulk import copy_frame
from storage.database import Database
from storage.settings import DatabaseSettings, Settings
from storage.submission_states import State
from vee.frames import list_column

DAY = date(2026, 11, 20)
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def fill(db: Database, uc_days: int) -> pl.DataFrame:
    values = np.random.default_rng(1).integers(0, 40_000, (uc_days, 288))
    with db.connect() as conn:
        conn.execute("INSERT INTO distributor (code, name) VALUES ('D', 'D')")
        conn.execute("INSERT INTO agent (code, name, distributor_id) SELECT 77001, 'A', id FROM distributor")
        conn.execute(
            "INSERT INTO uc (code, name, agent_id) SELECT lpad(n::text, 15, '0'), 'U', a.id "
            "FROM generate_series(1, %s) n, agent a",
            [uc_days],
        )
        conn.execute("INSERT INTO uc_status SELECT id, '[2025-01-01,)', 'active', '' FROM uc")
        conn.execute("INSERT INTO uc_musd SELECT id, '[2025-01-01,)', 300, NULL FROM uc")
        conn.execute(
            "INSERT INTO uc_day_outcome SELECT id, %s, 'ready', '', 288, 0, 0, 0, 0, 0, '{}', 'b' FROM uc",
            [DAY],
        )
        ids = [number for (number,) in conn.execute("SELECT id FROM uc ORDER BY id")]
        frame = pl.DataFrame(
            {
                "uc_id": ids,
                "numerators": list_column("numerators", values, np.ones_like(values, dtype=np.bool_)),
            }
        ).with_columns(
            day=pl.lit(DAY),
            layer=pl.lit(5),
            interval_s=pl.lit(300),
            denominator=pl.lit(1000),
            origin=pl.lit(bytes([1]) * 288),
            reason=pl.lit(bytes([30]) * 288),
            input_version=pl.lit(1),
            derivation_id=pl.lit(1),
            run_id=pl.lit("b"),
            content_hash=pl.lit(b"x"),
        )
        copy_frame(conn, "series_day", frame)
    with db.connect(autocommit=True) as conn:
        conn.execute("ANALYZE")
    return frame


def copy_rows_s(db: Database, frame: pl.DataFrame) -> float:
    """The peer: one row per interval, with its key."""
    start = datetime(2026, 11, 20, 3, tzinfo=UTC)
    ends = pl.Series("at", [start + timedelta(minutes=5 * (slot + 1)) for slot in range(288)])
    rows = frame.select("uc_id", pl.col("numerators").alias("value")).explode("value")
    rows = rows.with_columns(
        at=pl.concat([ends] * frame.height),
        flag=pl.lit(1, dtype=pl.Int16),
        value=pl.col("value").cast(pl.Float64),
    )
    with db.connect(autocommit=True) as conn:
        conn.execute(
            "CREATE TABLE peer (uc_id bigint, at timestamptz, value float8, flag smallint, "
            "PRIMARY KEY (uc_id, at))"
        )
        if db.has_timescale:
            conn.execute("SELECT create_hypertable('peer', 'at', create_default_indexes => false)")
        started = time.perf_counter()
        with conn.transaction():
            copy_frame(conn, "peer", rows)
        return time.perf_counter() - started


def main(uc_days: int, db: Database) -> None:
    profile = load_profile()
    frame = fill(db, uc_days)
    started = time.perf_counter()
    due = survey(db, profile, DAY)
    surveyed = time.perf_counter()
    done = ledger.record(db, profile, DAY, due, "bench", NOW)
    recorded = time.perf_counter()
    with db.connect(autocommit=True) as conn:
        events = [ledger.Event(item.id, State.ACCEPTED, NOW) for item in done.submissions]
        ledger.append(conn, events)
    appended = time.perf_counter()
    again = survey(db, profile, DAY)
    ended = time.perf_counter()
    unsent = unsent_days(db, DAY, DAY, 4, NOW, profile.musd.default_kw)
    looked = time.perf_counter()
    unchanged = again.filter(pl.col("verdict") == Standing.UNCHANGED).height
    total_s = recorded - started
    peer_s = copy_rows_s(db, frame)
    print(
        f"{uc_days} UC-days, timescale: {db.has_timescale}; "
        f"{len(done.submissions)} sealed, {unchanged} found again, {len(unsent)} shards unsent"
    )
    print(f"  survey               {surveyed - started:6.2f} s")
    print(f"  read, render, record {recorded - surveyed:6.2f} s")
    print(f"  sealed in all        {total_s:6.2f} s  {total_s / peer_s:.2f} of COPY as rows ({peer_s:.2f} s)")
    print(f"  append an event each {appended - recorded:6.2f} s")
    print(f"  survey again         {ended - appended:6.2f} s")
    look_s, days = looked - ended, ready_days.NEWEST_DAYS + ready_days.OLDER_DAYS_PER_LOOK
    print(
        f"  sensor, of one day   {look_s:6.2f} s; of its {days} days {look_s * days / 60:.3f} of its minute"
    )


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    configured = Settings.load()
    with tempfile.TemporaryDirectory() as folder:
        chosen = (
            configured
            if configured.database.url
            else Settings(database=DatabaseSettings(data_dir=Path(folder)))
        )
        with Database.open(chosen) as opened:
            opened.migrate()
            main(count, opened)
