"""Frames go in by binary COPY and come back by Arrow unchanged."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faults import DeveloperFault
from storage import bulk
from storage.database import Database

_TABLE = """
CREATE TABLE bag (
    id bigint, small smallint, whole integer, flag boolean, x double precision, day date, at timestamptz,
    word text, octets bytea, json jsonb, amount numeric, a2 smallint[], a4 integer[], a8 bigint[]
)
"""
_SCHEMA = {
    "id": pl.Int64,
    "small": pl.Int16,
    "whole": pl.Int32,
    "flag": pl.Boolean,
    "x": pl.Float64,
    "day": pl.Date,
    "at": pl.Datetime("us", "UTC"),
    "word": pl.String,
    "octets": pl.Binary,
    "json": pl.String,
    "amount": pl.String,
    "a2": pl.List(pl.Int16),
    "a4": pl.List(pl.Int32),
    "a8": pl.List(pl.Int64),
}


def integers(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def maybe(values: st.SearchStrategy) -> st.SearchStrategy:
    return st.none() | values


def lists(bits: int) -> st.SearchStrategy:
    return st.lists(maybe(integers(bits)), max_size=6)


words = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8)
amounts = st.decimals(allow_nan=False, allow_infinity=False, places=5).map(
    lambda d: f"{d:f}"
) | st.sampled_from(
    ["0", "10000", "0.0001", "-99999999999999999999.00010", "12345678901234567890", "-0.5", "1E+6", "1E-9"]
)
instants = st.integers(-(10**15), 10**16).map(
    lambda us: dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=us)
)
rows = st.tuples(
    integers(64),
    maybe(integers(16)),
    maybe(integers(32)),
    maybe(st.booleans()),
    maybe(st.floats(allow_nan=False)),
    maybe(st.dates(dt.date(1900, 1, 1))),
    maybe(instants),
    maybe(words),
    maybe(st.binary(max_size=8)),
    maybe(st.sampled_from(['{"a": 1}', "[]", "null", '"é"'])),
    maybe(amounts),
    lists(16),
    lists(32),
    lists(64),
)

# One database for all examples is meant; and a busy machine draws slowly.
_SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=40, deadline=None, suppress_health_check=_SHARED)
@given(st.lists(rows, min_size=1, max_size=12))
def test_every_type_comes_back(db: Database, bag: list[tuple]) -> None:
    """Property: what COPY takes in is what a plain SELECT gives back, NULLs and empty values included."""
    frame = pl.DataFrame(bag, schema=_SCHEMA, orient="row")
    with db.connect() as conn:
        conn.execute(_TABLE.replace("TABLE", "TEMPORARY TABLE", 1))
        assert bulk.copy_frame(conn, "bag", frame) == len(bag)
        found = conn.execute(
            "SELECT id, small, whole, flag, x, day, at, word, octets, json::text, amount, a2, a4, a8 FROM bag"
        ).fetchall()
    expected = [(*row[:10], _shown(row[10]), *row[11:]) for row in bag]
    assert sorted(map(repr, found)) == sorted(map(repr, expected))


def _shown(amount: str | None) -> Decimal | None:
    """1E+6 is 1000000 in SQL, which has no minus zero; the decimals written are kept."""
    if amount is None:
        return None
    value = Decimal(f"{Decimal(amount):f}")
    return value if value else value.copy_abs()


def test_arrow_reads_arrays_and_octets(db: Database) -> None:
    frame = pl.DataFrame(
        {
            "id": [1, 2],
            "a8": [[1, None, 2**62], []],
            "octets": [b"\0\1", b""],
            "day": [dt.date(2026, 11, 20)] * 2,
        },
        schema={"id": pl.Int64, "a8": pl.List(pl.Int64), "octets": pl.Binary, "day": pl.Date},
    )
    with db.connect() as conn:
        conn.execute(_TABLE)
        bulk.copy_frame(conn, "bag", frame)
    found = bulk.read_frame(
        db,
        "SELECT id, a8, octets, day FROM bag WHERE id = ANY($1::text::bigint[]) AND day >= $2 ORDER BY id",
        [bulk.array_literal([1, 2]), dt.date(2026, 11, 1)],
    )
    assert found.equals(frame)


def test_a_large_frame_is_sent_in_blocks(db: Database) -> None:
    """Several batches, some rows with NULLs: nothing is lost at the seams."""
    values = [[None if (i + j) % 997 == 0 else i * 1000 + j for j in range(288)] for i in range(3000)]
    frame = pl.DataFrame({"id": range(3000), "a8": values}, schema={"id": pl.Int64, "a8": pl.List(pl.Int64)})
    with db.connect() as conn:
        conn.execute(_TABLE)
        assert bulk.copy_frame(conn, "bag", frame) == 3000
    assert bulk.read_frame(db, "SELECT id, a8 FROM bag ORDER BY id").equals(frame)


def test_what_does_not_fit_is_refused(embedded_db: Database) -> None:
    with embedded_db.connect() as conn:
        conn.execute(_TABLE)
        with pytest.raises(DeveloperFault, match="no column 'nothing'"):
            bulk.copy_frame(conn, "bag", pl.DataFrame({"nothing": [1]}))
        with pytest.raises(DeveloperFault, match="'small'"):
            bulk.copy_frame(conn, "bag", pl.DataFrame({"small": [70_000]}))
        assert bulk.copy_frame(conn, "bag", pl.DataFrame({"id": []}, schema={"id": pl.Int64})) == 0
