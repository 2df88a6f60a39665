"""Scoring estimates of 1,000 UC-days, against deriving as many once.

    .venv/bin/python -m tests.benchmarks.bench_scores [--points 250] [--uc-days 1000] [--repeat 3]

Both run on one database, one after the other: the score masks good days of the last three weeks, reads twelve
weeks of closed history and estimates each gap by every strategy; the peer derives as many UC-days, measured
whole, as the daily run does. The ratio of the medians is what counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from derivation.run import derive
from derivation.scores.scoring import score_estimates
from storage import readings
from storage.bulk import copy_frame
from storage.database import Database
from storage.settings import ScoreSettings
from tests.benchmarks.bench_rules import database
from tests.derivation.world import DAY, NOW, add_points

SLOTS = 288
# Estimating is done gap by gap with exact fractions, by two strategies; deriving a whole day is vectorised.
LIMIT = 5.0


def fill(db: Database, points: int, days: list[date]) -> None:
    """Loads that follow the hour, so that nothing is suspect."""
    rng = np.random.default_rng(points)
    shape = 150 + 100 * np.sin(np.arange(SLOTS) * 2 * np.pi / SLOTS - 1.5)
    with db.connect() as conn:
        meters = [point.meter_id for point in add_points(conn, points)]
        for day in days:
            pulses = (shape * rng.uniform(0.9, 1.1, (points, SLOTS))).astype(np.int32)
            frame = pl.DataFrame(
                {
                    "meter_id": meters,
                    "pulses": pl.Series(pulses, dtype=pl.Array(pl.Int32, SLOTS)).arr.to_list(),
                }
            ).with_columns(
                channel=1,
                day=day,
                version=1,
                quantity_code=1,
                interval_s=300,
                source_starts=pl.lit([0]),
                source_sessions=pl.lit([1]),
            )
            copy_frame(conn, "reading_day", frame.select(list(readings.SCHEMA)))
    derive(db, days[0], days[-1], as_of=NOW, run_id="history")
    with db.connect(autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE")


def peer(db: Database, days: list[date]) -> float:
    """Seconds to derive these days anew: stored rows are taken away first."""
    with db.connect() as conn:
        conn.execute("DELETE FROM series_day WHERE day BETWEEN %s AND %s", [days[0], days[-1]])
    began = time.perf_counter()
    derive(db, days[0], days[-1], as_of=NOW, run_id="peer")
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=250)
    parser.add_argument("--uc-days", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=3)
    chosen = parser.parse_args()
    days = [DAY - timedelta(n) for n in range(111, -1, -1)]
    wanted = ScoreSettings(uc_days=chosen.uc_days, window_days=20, days=7)
    peers, ours, gaps, worst = [], [], 0, 0.0
    with (
        tempfile.TemporaryDirectory(prefix="smf-bench-", dir="/var/tmp") as folder,
        database(Path(folder)) as db,
    ):
        fill(db, chosen.points, days)
        for number in range(chosen.repeat):
            peers.append(peer(db, days[-max(1, chosen.uc_days // chosen.points) :]))
            began = time.perf_counter()
            made = score_estimates(db, as_of=NOW, run_id=f"bench {number}", chosen=wanted)
            ours.append(time.perf_counter() - began)
            gaps = made.run.gaps
            of_all = made.scores.filter(gap_length="all", uc_class="all")
            worst = float(
                of_all.filter(~pl.col("method").str.starts_with("no_history"))["mae_share"].max() or 0
            )  # type: ignore[arg-type]  # a maximum of Float64
    ratio = statistics.median(ours) / statistics.median(peers)
    print(f"{gaps:,} gaps in {chosen.uc_days:,} UC-days at most, two strategies, median of {chosen.repeat}")
    print(f"  derived once   {statistics.median(peers):7.2f} s")
    print(f"  scored         {statistics.median(ours):7.2f} s; largest error of a method {worst:.2%}")
    print(f"  ratio          {ratio:7.2f}     (limit {LIMIT})")
    return 0 if ratio <= LIMIT and gaps > chosen.uc_days // 2 else 1


if __name__ == "__main__":
    raise SystemExit(main())
