"""Writing and reading day vectors, against COPY of a row per interval with its key.

Run: python tests/benchmarks/bench_storage.py [UC-DAYS]. On the embedded server, and on TimescaleDB where
the tests find one. Everything in one run on one machine; what counts are the ratios, not the seconds.
"""

from __future__ import annotations

import datetime as dt
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import adbc_driver_postgresql.dbapi
import numpy as np
import pgpq
import polars as pl
import pyarrow as pa

from storage.bulk import copy_frame, encode_rows, read_frame, table_types
from storage.database import Database
from storage.embedded import SUPERUSER, EmbeddedServer
from storage.readings import SCHEMA as READING_SCHEMA
from storage.readings import merge_readings, read_reading_days
from storage.series import Layer, UcDays, read_layer, write_uc_days
from storage.settings import DatabaseSettings, Settings
from tests.timescale import NotAvailableError, TimescaleServer

DAY = dt.date(2026, 11, 20)
AT = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
SLOTS = 288
# UC-days in one transaction, as the derivation writes them.
CHUNK = 2_000


def pulses(uc_days: int) -> np.ndarray:
    """Counts of a load that follows the day, as a meter delivers them."""
    noise = np.random.default_rng(20261120).integers(0, 60, (uc_days, SLOTS))
    shape = 200 + 150 * np.sin(np.linspace(0, 2 * np.pi, SLOTS))
    return (shape + noise).astype(np.int64)


def vectors(values: np.ndarray, dtype: type[pl.DataType]) -> pl.Series:
    return pl.Series(values.tolist(), dtype=pl.List(dtype))


def layer_frame(values: np.ndarray, factor: int) -> pl.DataFrame:
    rows = len(values)
    return pl.DataFrame(
        {
            "uc_id": np.arange(1, rows + 1),
            "day": pl.Series([DAY] * rows),
            "interval_s": pl.Series([300] * rows, dtype=pl.Int32),
            "denominator": [1_250] * rows,
            "numerators": vectors(values * factor, pl.Int64),
            "origin": [b"\x01" * SLOTS] * rows,
            "reason": [b"\x1e" * SLOTS] * rows,
            "derivation_id": [1] * rows,
            "input_version": pl.Series([1] * rows, dtype=pl.Int32),
        }
    )


def outcomes(rows: int) -> pl.DataFrame:
    return pl.DataFrame({"uc_id": np.arange(1, rows + 1)}).with_columns(
        day=pl.lit(DAY), state=pl.lit("ready"), cause=pl.lit(""), measured=pl.lit(SLOTS), backup=pl.lit(0),
        estimated=pl.lit(0), edited=pl.lit(0), missing=pl.lit(0), energy_kwh=pl.lit("414.720"),
    )  # fmt: skip


def readings(values: np.ndarray) -> pl.DataFrame:
    rows = len(values)
    return pl.DataFrame(
        {
            "meter_id": np.arange(1, rows + 1),
            "channel": [1] * rows,
            "day": [DAY] * rows,
            "version": [1] * rows,
            "quantity_code": [1] * rows,
            "interval_s": [300] * rows,
            "pulses": values.tolist(),
            "source_starts": [[0]] * rows,
            "source_sessions": [[1]] * rows,
        },
        schema=READING_SCHEMA,
    )


class Report:
    def __init__(self, title: str, intervals: int) -> None:
        self._intervals = intervals
        self._peer_s = 0.0
        print(f"\n{title}")

    def timed(self, what: str, work: Callable[[], object], layers: int = 1, *, is_peer: bool = False) -> None:
        started = time.perf_counter()
        work()
        seconds = time.perf_counter() - started
        if is_peer:
            self._peer_s = seconds
        rate = layers * self._intervals / seconds / 1e6
        print(f"  {what:<62} {seconds:7.2f} s {rate:7.2f} M intervals/s  ratio {seconds / self._peer_s:6.3f}")


def copy_rows(db: Database, values: np.ndarray) -> None:
    """The peer: a row per interval with its key, by the same COPY, encoding included."""
    rows = len(values)
    start = np.datetime64("2026-11-20T03:00", "us")
    stamps = start + (np.arange(SLOTS) + 1) * np.timedelta64(300, "s").astype("timedelta64[us]")
    frame = pl.DataFrame(
        {
            "uc_id": np.repeat(np.arange(1, rows + 1), SLOTS),
            "at": np.tile(stamps, rows),
            "value": values.ravel(),
            "flag": np.ones(rows * SLOTS, np.int16),
        }
    ).with_columns(pl.col("at").dt.replace_time_zone("UTC"))
    with db.connect() as conn:
        copy_frame(conn, "interval_row", frame)


def write_layers(db: Database, frames: dict[Layer, pl.DataFrame], rows: int) -> None:
    said = outcomes(rows)
    for start in range(0, rows, CHUNK):
        part = {layer: frame.slice(start, CHUNK) for layer, frame in frames.items()}
        with db.connect() as conn:
            write_uc_days(conn, UcDays(part, said.slice(start, CHUNK)), run_id="benchmark", at=AT)


def merge(db: Database, frame: pl.DataFrame) -> None:
    for start in range(0, frame.height, CHUNK):
        with db.connect() as conn:
            merge_readings(conn, frame.slice(start, CHUNK), AT)


def ingest(db: Database, frame: pl.DataFrame) -> None:
    with adbc_driver_postgresql.dbapi.connect(db.url) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("vector_row", frame.to_arrow(), mode="append")
        connection.commit()


def copy_by_pgpq(db: Database, frame: pl.DataFrame) -> None:
    plain = {"numerators": pa.large_list(pa.int64()), "origin": pa.binary(), "reason": pa.binary()}
    table = frame.to_arrow()
    table = table.cast(pa.schema([pa.field(f.name, plain.get(f.name, f.type)) for f in table.schema]))
    encoder = pgpq.ArrowToPostgresBinaryEncoder(table.schema)
    names = ", ".join(frame.columns)
    statement = f"COPY vector_row ({names}) FROM STDIN (FORMAT binary)"
    with db.connect() as conn, conn.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(encoder.write_header())
        for batch in table.to_batches(max_chunksize=CHUNK):
            copy.write(encoder.write_batch(batch))
        copy.write(encoder.finish())


def prepare(db: Database) -> None:
    db.migrate()
    with db.connect() as conn:
        conn.execute(
            "CREATE TABLE interval_row (uc_id bigint NOT NULL, at timestamptz NOT NULL, value bigint, "
            "flag smallint NOT NULL, PRIMARY KEY (uc_id, at))"
        )
        conn.execute(
            "CREATE TABLE vector_row AS SELECT uc_id, day, interval_s, denominator, numerators, origin, "
            "reason, derivation_id, input_version FROM series_day LIMIT 0"
        )
        conn.execute("ALTER TABLE vector_row ADD PRIMARY KEY (uc_id, day)")
        for column in ("numerators", "origin", "reason"):
            conn.execute(f"ALTER TABLE vector_row ALTER {column} SET STORAGE EXTERNAL")
        if db.has_timescale:
            conn.execute(
                "SELECT create_hypertable('interval_row', by_range('at'), create_default_indexes => false)"
            )


def measure(title: str, db: Database, uc_days: int) -> None:
    prepare(db)
    values = pulses(uc_days)
    frames = {layer: layer_frame(values, int(layer)) for layer in Layer}
    raw = readings(values)
    one = frames[Layer.PRIMARY]
    report = Report(f"{title}: {uc_days:,} UC-days of {SLOTS} intervals", values.size)
    report.timed("COPY of a row per interval with its key", lambda: copy_rows(db, values), is_peer=True)
    with db.connect() as conn:
        types = table_types(conn, "vector_row")

    def encode() -> None:
        for _ in encode_rows(one, types):
            pass

    def copy_one() -> None:
        with db.connect() as conn:
            copy_frame(conn, "vector_row", one)

    for name, work in (
        ("one layer, encoding alone", encode),
        ("one layer, our COPY", copy_one),
        ("one layer, ADBC ingest", lambda: ingest(db, one)),
        ("one layer, pgpq and COPY", lambda: copy_by_pgpq(db, one)),
    ):
        report.timed(name, work)
        with db.connect() as conn:
            conn.execute("TRUNCATE vector_row")
    report.timed("readings merged into an empty table", lambda: merge(db, raw))
    report.timed("the same readings again: nothing to do", lambda: merge(db, raw))
    ids = raw["meter_id"].to_list()
    report.timed("readings read back", lambda: read_reading_days(db, DAY, DAY, meter_ids=ids))
    report.timed("five layers written with outcomes", lambda: write_layers(db, frames, uc_days), 5)
    report.timed("the same five layers again: nothing to do", lambda: write_layers(db, frames, uc_days), 5)
    report.timed("one layer read back", lambda: read_layer(db, Layer.CCEE, DAY, DAY))
    sizes = read_frame(
        db,
        "SELECT sum(pg_total_relation_size(format('%I.%I', schemaname, tablename)::regclass))::bigint "
        "AS octets, tablename ~ 'interval_row|_hyper_3_' AS is_peer FROM pg_tables "
        "WHERE tablename ~ '^(interval_row|series_day|_hyper_(2|3)_.*)$' GROUP BY 2 ORDER BY 2",
    )["octets"].to_list()
    print(
        f"  on disk: five layers {sizes[0] / 1e6:.0f} MB; a row per interval, once, {sizes[1] / 1e6:.0f} MB"
    )


@contextmanager
def embedded() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedServer(Path(folder))
        server.acquire()
        try:
            yield f"postgresql://{SUPERUSER}@/postgres?host={server.socket_dir}"
        finally:
            server.release()


@contextmanager
def timescale() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        server = TimescaleServer(Path(folder) / "timescale")
        url = server.acquire()
        try:
            yield url
        finally:
            server.release()


def main(uc_days: int) -> None:
    for title, running in (("Embedded PostgreSQL", embedded), ("TimescaleDB", timescale)):
        try:
            with running() as url:
                server = Database(url, Settings(database=DatabaseSettings(url=url)))
                server.create_database("smf_benchmark")
                try:
                    measure(title, server.sibling("smf_benchmark"), uc_days)
                finally:
                    with server.connect(autocommit=True) as conn:
                        conn.execute("DROP DATABASE smf_benchmark WITH (FORCE)")
        except NotAvailableError as reason:
            print(f"\n{title}: NOT RUN: {reason}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
