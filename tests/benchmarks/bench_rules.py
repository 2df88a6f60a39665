"""All rules over a month of 4,000 UCs, against reading the same vectors and summing them by hour.

    .venv/bin/python -m tests.benchmarks.bench_rules [--points 4000] [--repeat 3]

The peer reads each UC's month of stored vectors over Arrow, in chunks, and adds the intervals of each clock
hour: what anybody who judges them has to do at least. The rules judge the same UC-days, in the same chunks,
as the derivation hands them over: validated values, registry, installations, and a register period a day for
each meter. Both run one after the other in one process; the median of the ratios is what counts (at most 8).
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from simulator.load.curves import GeneratedLoad
from simulator.load.shapes import SHAPES
from storage import readings
from storage.bulk import array_literal, copy_frame, read_frame
from storage.database import Database
from storage.embedded import SUPERUSER, EmbeddedServer
from storage.settings import DatabaseSettings, Settings
from tests.timescale import NotAvailableError, TimescaleServer
from vee.calendars import MARKET_ZONE, day_start, load_calendars
from vee.frames import SERIES_SCHEMA
from vee.quality import Origin, Reason
from vee.rules.engine import Judged, judge
from vee.rules.inputs import REGISTER_SCHEMA, RuleInput

FIRST_DAY, DAYS, SLOTS, PER_HOUR = date(2026, 10, 1), 31, 288, 12
NUM, DEN = 72, 10_000
CHUNK_UCS = 96  # 3,000 UC-days, as the derivation takes them
LIMIT = 8.0
LOADS = 400
I64 = npt.NDArray[np.int64]

_VECTORS = """
    SELECT meter_id, day, pulses FROM reading_day
    WHERE meter_id IN (SELECT unnest($1::text::bigint[])) AND channel = 1
      AND day BETWEEN $2::date AND $3::date
"""


def counts(points: int) -> I64:
    """(points, days, slots) pulses: loads of all kinds, taken in turn."""
    kinds = sorted(SHAPES)
    first = (FIRST_DAY - date(1970, 1, 1)).days * SLOTS
    loads = [
        GeneratedLoad(kinds[n % len(kinds)], 40.0 + n % 60, NUM / DEN, 900 + n).pulses(first, DAYS * SLOTS)[
            :, 0
        ]
        for n in range(min(points, LOADS))
    ]
    return np.resize(np.stack(loads), (points, DAYS, SLOTS)).astype(np.int64)


def fill(db: Database, month: I64) -> None:
    with db.connect() as conn:
        for first in range(0, len(month), 500):
            part = month[first : first + 500].reshape(-1, SLOTS)
            ucs = np.repeat(np.arange(first + 1, first + 1 + len(part) // DAYS), DAYS)
            frame = pl.DataFrame(
                {
                    "meter_id": ucs,
                    "day": [FIRST_DAY + timedelta(n % DAYS) for n in range(len(part))],
                    "pulses": pl.Series(part.astype(np.int32), dtype=pl.Array(pl.Int32, SLOTS)).arr.to_list(),
                }
            ).with_columns(
                channel=1,
                version=1,
                quantity_code=1,
                interval_s=300,
                source_starts=pl.lit([0]),
                source_sessions=pl.lit([1]),
            )
            copy_frame(conn, "reading_day", frame.select(list(readings.SCHEMA)))
    with db.connect(autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE reading_day")


def peer(db: Database, points: int) -> tuple[float, int]:
    """Seconds to read the month of all UCs and add it up by hour, and the sum of all."""
    began, total = time.perf_counter(), 0
    last = FIRST_DAY + timedelta(DAYS - 1)
    with db.connect_arrow() as connection:
        for first in range(1, points + 1, CHUNK_UCS):
            ids = array_literal(range(first, min(first + CHUNK_UCS, points + 1)))
            frame = read_frame(connection, _VECTORS, [ids, FIRST_DAY, last])
            values = (
                frame["pulses"]
                .explode(empty_as_null=True)
                .to_numpy()
                .reshape(-1, SLOTS // PER_HOUR, PER_HOUR)
            )
            total += int(values.sum(axis=2, dtype=np.int64).sum())
    return time.perf_counter() - began, total


def chunks(month: I64) -> Iterator[tuple[pl.DataFrame, RuleInput]]:
    """What the rules are handed; making it is not their work."""
    days = [FIRST_DAY + timedelta(n) for n in range(DAYS)]
    origin, reason = bytes([Origin.MEASURED]) * SLOTS, bytes([Reason.MEASURED_OK]) * SLOTS
    for first in range(0, len(month), CHUNK_UCS):
        part = month[first : first + CHUNK_UCS]
        ucs = np.arange(first + 1, first + 1 + len(part))
        rows = len(part) * DAYS
        key = {"uc_id": np.repeat(ucs, DAYS), "day": days * len(part)}
        numerators = pl.Series(part.reshape(rows, SLOTS) * NUM, dtype=pl.Array(pl.Int64, SLOTS)).arr.to_list()
        series = pl.DataFrame(
            {
                **key,
                "denominator": [DEN] * rows,
                "numerators": numerators,
                "origin": [origin] * rows,
                "reason": [reason] * rows,
            },
            schema=SERIES_SCHEMA,
        )
        musd = np.repeat([40.0 + n % LOADS % 60 for n in range(first, first + len(part))], DAYS)
        registry = pl.DataFrame(
            {**key, "musd_kw": [Decimal(str(value)) for value in musd], "tariff_subgroup": ["A4"] * rows}
        )
        yield (
            series,
            RuleInput(registry, installations(ucs), tables={"registers": registers(part, ucs, days)}),
        )


def installations(ucs: I64) -> pl.DataFrame:
    instant = pl.Datetime("us", "UTC")
    return pl.DataFrame(
        {
            "uc_id": ucs, "role": "main", "valid_from": datetime(2026, 1, 1, tzinfo=UTC), "valid_to": None,
            "pulse_energy_num": NUM, "pulse_energy_den": DEN, "tp_ratio": "1", "tc_ratio": "1",
            "constant_includes_ratios": True,
        },
        schema_overrides={"valid_from": instant, "valid_to": instant},
    )  # fmt: skip


def registers(part: I64, ucs: I64, days: list[date]) -> pl.DataFrame:
    """A period from midnight to midnight for each meter and day."""
    starts = [day_start(day, MARKET_ZONE) for day in [*days, days[-1] + timedelta(1)]]
    sums = part.sum(axis=2).ravel()
    return pl.DataFrame(
        {
            "uc_id": np.repeat(ucs, DAYS), "day": days * len(part), "first_slot": 0, "last_slot": SLOTS - 1,
            "before_at": starts[:-1] * len(part), "at": starts[1:] * len(part), "gained": sums, "inner": sums,
            "inner_missing": 0, "edge": 0, "edge_missing": 0,
        },
        schema=REGISTER_SCHEMA,
    )  # fmt: skip


def rules(month: I64) -> tuple[float, int, int]:
    """Seconds of the rules alone, suspects, and UC-days that no rule had to pass by for want of facts."""
    calendars, seconds, suspects, skipped = load_calendars(), 0.0, 0, 0
    for series, inputs in chunks(month):
        began = time.perf_counter()
        said: Judged = judge(series, inputs, calendars)
        seconds += time.perf_counter() - began
        suspects += said.suspects.height
        skipped += int(said.skipped.filter(pl.col("rule") == "V16")["uc_days"].sum())
    return seconds, suspects, skipped


@contextmanager
def database(folder: Path) -> Iterator[Database]:
    """TimescaleDB where there is one, else the embedded server."""
    timescale = TimescaleServer(folder / "timescale")
    try:
        url = timescale.acquire()
    except NotAvailableError as reason:
        print(f"on the embedded server: {reason}")
        embedded = EmbeddedServer(folder / "embedded", {})
        embedded.acquire()
        try:
            yield from _fresh(f"postgresql://{SUPERUSER}@/postgres?host={embedded.socket_dir}", folder)
        finally:
            embedded.release()
        return
    try:
        yield from _fresh(url, folder)
    finally:
        timescale.release()


def _fresh(url: str, folder: Path) -> Iterator[Database]:
    server = Database(url, Settings(database=DatabaseSettings(url=url, data_dir=folder)))
    server.create_database("bench_rules")
    with server.sibling("bench_rules") as db:
        db.migrate()
        yield db
    with server.connect(autocommit=True) as conn:
        conn.execute("DROP DATABASE IF EXISTS bench_rules WITH (FORCE)")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=4000)
    parser.add_argument("--repeat", type=int, default=3)
    chosen = parser.parse_args()
    month = counts(chosen.points)
    intervals = month.size
    ratios, peers, ours, suspects, skipped = [], [], [], 0, 0
    with (
        tempfile.TemporaryDirectory(prefix="smf-bench-", dir="/var/tmp") as folder,
        database(Path(folder)) as db,
    ):
        fill(db, month)
        for _ in range(chosen.repeat):
            peer_s, total = peer(db, chosen.points)
            assert total == int(month.sum())
            rules_s, suspects, skipped = rules(month)
            peers.append(peer_s)
            ours.append(rules_s)
            ratios.append(rules_s / peer_s)
    ratio = statistics.median(ratios)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{chosen.points:,} UCs, {DAYS} days, {intervals / 1e6:.1f} M intervals, median of {chosen.repeat}")
    for name, seconds in (("read, sum by hour", peers), ("all rules", ours)):
        middle = statistics.median(seconds)
        print(f"  {name:18} {middle:7.2f} s   {intervals / middle / 1e6:6.2f} M intervals/s")
    print(f"  ratio              {ratio:7.2f}     ({min(ratios):.2f} to {max(ratios):.2f}; limit {LIMIT})")
    print(f"  suspects {suspects:,}; {skipped:,} UC-days without history; peak memory {peak_mib:.0f} MiB")
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main())
