"""Frames in and out of the database in bulk.

Writing is binary COPY, encoded with numpy: each row of a batch is laid out at fixed positions of one
matrix, with room for the longest value of each column; what a row does not use (NULLs, shorter values) is
then dropped by a mask. Rows without NULLs, nearly all, are sent as the matrix stands. Measured against
ADBC's ingest and pgpq by tests/benchmarks/bench_storage.py, which prints the figures. Reading hands over
Arrow (`storage.arrow`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
import psycopg
from psycopg import sql

from faults import DeveloperFault
from storage.database import Database

if TYPE_CHECKING:
    from storage.arrow import ArrowConnection

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
# One matrix stays in the processor's cache, more or less: larger batches were slower.
_BATCH_BYTES = 4 << 20
# PostgreSQL counts days and microseconds from 2000-01-01; polars from 1970-01-01.
_EPOCH_DAYS = 10_957
_EPOCH_US = _EPOCH_DAYS * 86_400_000_000
_NUMPY = {"int2": ">i2", "int4": ">i4", "int8": ">i8", "float8": ">f8", "date": ">i4", "timestamptz": ">i8"}
_POLARS = {"int2": pl.Int16, "int4": pl.Int32, "int8": pl.Int64, "float8": pl.Float64}
_ELEMENT_OID = {"_int2": 21, "_int4": 23, "_int8": 20}


def copy_frame(
    conn: psycopg.Connection[Any], table: str, frame: pl.DataFrame, columns: Mapping[str, str] | None = None
) -> int:
    """Append all rows of a frame to a table; returns how many.

    Args:
        conn: its transaction is used; nothing is committed here.
        table: name of the table or temporary table.
        frame: its column names are the table's. int2/4/8 and their arrays take any integer column that
        fits, text and
            jsonb a String, bytea a Binary, numeric a Decimal, integer or String, date a Date, timestamptz a
            Datetime.
        columns: type names by column where the caller knows them; default: asked of the database.
    Raises:
        DeveloperFault: a column the table does not have, or a type that does not fit it.
    """
    if frame.is_empty():
        return 0
    types = columns or table_types(conn, table)
    unknown = [name for name in frame.columns if name not in types]
    if unknown:
        raise DeveloperFault(f"{table} has no column {unknown[0]!r}", where="storage.bulk.copy_frame")
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, frame.columns))
    )
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        for block in encode_rows(frame, {name: types[name] for name in frame.columns}):
            copy.write(block)
    return frame.height


def table_types(conn: psycopg.Connection[Any], table: str) -> dict[str, str]:
    """Type name (pg_type.typname, `_int8` for bigint[]) by column of a table."""
    rows = conn.execute(
        "SELECT a.attname, t.typname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid "
        "WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped",
        [table],
    )
    return dict(rows.fetchall())


def read_frame(
    source: Database | ArrowConnection, query: str, parameters: Sequence[Any] | None = None
) -> pl.DataFrame:
    """Run a query through Arrow.

    Args:
        source: a `Database` (a connection is made for the query) or a connection of `Database.connect_arrow`.
        query: SQL with $1, $2 ... for parameters. numeric comes as text: cast it, or take it as exact text.
        parameters: str, int, float, bool, bytes, dates; for a list of ids see `one_of`.
    Returns:
        Arrays as List, bytea as Binary, timestamptz as Datetime in UTC.
    """
    if isinstance(source, Database):
        with source.connect_arrow() as connection:
            return read_frame(connection, query, parameters)
    return source.read(query, parameters)


def array_literal(values: Iterable[object]) -> str:
    """Whole numbers or dates as the text of an SQL array, for `one_of` and `unnest($1::text::bigint[])`."""
    return "{" + ",".join(map(str, values)) + "}"


def one_of(column: str, parameter: str) -> str:
    """SQL: the column is among the ids of a parameter made by `array_literal`.

    A join, not `= ANY (...)`: where that is not an index condition the text would be read again for each row.
    """
    return f"{column} IN (SELECT unnest({parameter}::text::bigint[]))"


def encode_rows(frame: pl.DataFrame, types: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """The octets of binary COPY for a frame, in blocks: header, rows, trailer."""
    yield _SIGNATURE
    step = max(1, _BATCH_BYTES // max(1, _widest_row(frame)))
    for start in range(0, frame.height, step):
        yield from _encode_batch(frame.slice(start, step), types)
    yield _TRAILER


def _widest_row(frame: pl.DataFrame) -> int:
    width = 2
    for column in frame.iter_columns():
        if isinstance(column.dtype, pl.List):
            width += 24 + 12 * int(_counts(column).max())
        elif column.dtype == pl.Binary:
            width += 4 + int(_parts(column)[0].max())
        else:
            width += 16
    return width


@dataclass
class _Field:
    """One column of a batch, laid out.

    Attributes:
        width: octets of the longest value, without its length.
        lengths: of each value; -1 is NULL.
        fill: writes the values into the (rows, width) slice of the matrix.
        keep: which octets of that slice belong to a value, where some do not; None: all.
    """

    width: int
    lengths: npt.NDArray[np.int32]
    fill: Callable[[Bytes], None]
    keep: Mask | None = None


def _encode_batch(frame: pl.DataFrame, types: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    rows = frame.height
    fields = [_lay_out(column, types[column.name]) for column in frame.iter_columns()]
    width = 2 + sum(4 + field.width for field in fields)
    matrix: Bytes = np.empty((rows, width), np.uint8)
    matrix[:, :2] = np.frombuffer(struct.pack(">h", len(fields)), np.uint8)
    ragged = np.zeros(rows, np.bool_)
    at = 2
    for field in fields:
        matrix[:, at : at + 4] = field.lengths.astype(">i4").view(np.uint8).reshape(rows, 4)
        field.fill(matrix[:, at + 4 : at + 4 + field.width])
        if field.keep is not None:
            ragged |= ~field.keep.all(axis=1)
        at += 4 + field.width
    if not ragged.any():
        yield matrix.data.cast("B")
        return
    yield matrix[~ragged].tobytes()
    rest = np.flatnonzero(ragged)
    keep: Mask = np.ones((len(rest), width), np.bool_)
    at = 2
    for field in fields:
        if field.keep is not None:
            keep[:, at + 4 : at + 4 + field.width] = field.keep[rest]
        at += 4 + field.width
    yield matrix[rest][keep].tobytes()


def _lay_out(column: pl.Series, kind: str) -> _Field:
    try:
        if kind in _ELEMENT_OID:
            return _lay_out_array(column, kind)
        if kind in _NUMPY:
            return _lay_out_fixed(column, kind)
        if kind == "bool":
            return _fixed(column.fill_null(False).to_numpy().astype(np.uint8), column)
        return _lay_out_octets(column, kind)
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise DeveloperFault(
            f"column {column.name!r} of type {column.dtype} does not fit {kind}: {error}",
            where="storage.bulk.copy_frame",
        ) from error


def _lay_out_fixed(column: pl.Series, kind: str) -> _Field:
    if kind == "date":
        values = _plain(column, pl.Date()).astype("datetime64[D]").astype(np.int64) - _EPOCH_DAYS
    elif kind == "timestamptz":
        values = (
            _plain(column, pl.Datetime("us", "UTC")).astype("datetime64[us]").astype(np.int64) - _EPOCH_US
        )
    else:
        values = _plain(column, _POLARS[kind]())
    return _fixed(values.astype(_NUMPY[kind]), column)


def _plain(column: pl.Series, kind: pl.DataType) -> npt.NDArray[Any]:
    """The values as numpy has them, zero for NULL. Each polars operation costs more than a small column's
    values.
    """
    if column.dtype != kind:
        # Strict: a number that does not fit the column is refused here, not wrapped.
        column = column.cast(kind)
    if column.null_count():
        column = column.to_physical().fill_null(0).cast(kind)
    return column.to_numpy()


def _fixed(values: npt.NDArray[Any], column: pl.Series) -> _Field:
    rows, width = len(values), values.dtype.itemsize
    octets = np.ascontiguousarray(values).view(np.uint8).reshape(rows, width)
    lengths = np.full(rows, width, np.int32)
    keep: Mask | None = None
    if column.null_count():
        valid = column.is_not_null().to_numpy()
        lengths[~valid] = -1
        keep = np.repeat(valid[:, None], width, axis=1)

    def fill(out: Bytes) -> None:
        out[:] = octets

    return _Field(width, lengths, fill, keep)


def _lay_out_array(column: pl.Series, kind: str) -> _Field:
    """int2[], int4[] or int8[]: a header of 20 octets, then length and value of each element."""
    if column.null_count():
        raise TypeError("an array column may hold NULL elements, not NULL arrays")
    inner = _POLARS[kind[1:]]
    rows, size = len(column), np.dtype(_NUMPY[kind[1:]]).itemsize
    counts = _counts(column)
    longest = int(counts.max())
    flat = column.explode(empty_as_null=False).cast(inner)
    values = flat.fill_null(0).to_numpy()
    has_nulls = flat.null_count() > 0
    present = flat.is_not_null().to_numpy() if has_nulls else None
    within: Mask | None = None
    if (counts != longest).any():
        within = np.arange(longest) < counts[:, None]
        values = _spread(values, within)
        present = _spread(present, within) if present is not None else None
    values = values.reshape(rows, longest)
    element = np.dtype([("length", ">i4"), ("value", _NUMPY[kind[1:]])])
    width = 20 + longest * element.itemsize
    lengths = (20 + counts * element.itemsize).astype(np.int32)
    keep: Mask | None = None
    header = np.empty((rows, 5), ">i4")
    # One dimension (none if empty), no NULLs, element type, count, first index.
    header[:] = (1, 0, _ELEMENT_OID[kind], 0, 1)
    header[:, 3] = counts
    if present is not None or within is not None:
        shown = np.ones((rows, longest), np.bool_) if present is None else present.reshape(rows, longest)
        here = np.ones((rows, longest), np.bool_) if within is None else within
        nulls = here & ~shown
        header[:, 1] = nulls.any(axis=1)
        lengths -= (nulls.sum(axis=1) * size).astype(np.int32)
        keep = np.ones((rows, width), np.bool_)
        body = keep[:, 20:].reshape(rows, longest, element.itemsize)
        body[:] = here[:, :, None]
        body[:, :, 4:] &= shown[:, :, None]
    if (counts == 0).any():
        header[counts == 0, 0] = 0
        lengths[counts == 0] = 12
        keep = np.ones((rows, width), np.bool_) if keep is None else keep
        keep[counts == 0, 12:] = False

    def fill(out: Bytes) -> None:
        out[:, :20] = header.view(np.uint8).reshape(rows, 20)
        body = np.empty((rows, longest), element)
        body["value"] = values
        body["length"] = size
        if present is not None:
            body["length"][~present.reshape(rows, longest)] = -1
        out[:, 20:] = body.view(np.uint8).reshape(rows, width - 20)

    return _Field(width, lengths, fill, keep)


def _spread(values: npt.NDArray[Any], within: Mask) -> npt.NDArray[Any]:
    """Values of ragged rows at the left of a full matrix."""
    full = np.zeros(within.shape, values.dtype)
    full[within] = values
    return full


def _lay_out_octets(column: pl.Series, kind: str) -> _Field:
    """text, bytea, jsonb, numeric: as many octets as the value has."""
    if kind == "bytea":
        octets = column.cast(pl.Binary)
    elif kind == "text":
        octets = column.cast(pl.String).cast(pl.Binary)
    elif kind == "jsonb":
        octets = (pl.Series([b"\x01"]) + column.cast(pl.String).cast(pl.Binary)).alias(column.name)
    elif kind == "numeric":
        octets = _numeric_octets(column)
    else:
        raise TypeError("no encoder for this type")
    sizes, data = _parts(octets)
    longest = int(sizes.max()) if len(sizes) else 0
    rows = len(octets)
    lengths = sizes.astype(np.int32)
    if column.null_count():
        lengths[octets.is_null().to_numpy()] = -1
    within: Mask | None = None
    if (sizes != longest).any():
        within = np.arange(longest) < sizes[:, None]

    def fill(out: Bytes) -> None:
        if within is None:
            out[:] = data.reshape(rows, longest)
        else:
            out[:] = _spread(data, within)

    return _Field(longest, lengths, fill, within)


def joined_octets(column: pl.Series) -> Bytes:
    """All values of a Binary column one after the other, NULLs left out; not made value by value."""
    return _parts(column)[1]


def _counts(column: pl.Series) -> npt.NDArray[np.int64]:
    """Elements of each list. Not by `_parts`: a collector, which writes lists only, does without pyarrow."""
    return column.list.len().to_numpy().astype(np.int64)


def _parts(column: pl.Series) -> tuple[npt.NDArray[np.int64], Bytes]:
    """How many octets each value of a Binary column has, 0 for NULL; and the octets, joined.

    Taken from Arrow's buffers: asked of polars, each question costs more than the copying of a batch.
    """
    if column.null_count():
        # What lies under a NULL is nobody's.
        sizes = np.zeros(len(column), np.int64)
        known, octets = _parts(column.drop_nulls())
        sizes[column.is_not_null().to_numpy()] = known
        return sizes, octets
    arrow = column.rechunk().to_arrow()
    if not len(arrow):
        return np.zeros(0, np.int64), np.zeros(0, np.uint8)
    _, offsets, data = arrow.buffers()
    bounds = np.frombuffer(offsets, np.int64)[arrow.offset : arrow.offset + len(arrow) + 1]
    octets = np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]]
    return np.diff(bounds), octets


def _numeric_octets(column: pl.Series) -> pl.Series:
    if isinstance(column.dtype, pl.Decimal):
        scale = column.dtype.scale
        encoded = [None if n is None else _encode_scaled(n, scale) for n in column.to_physical().to_list()]
    else:
        encoded = [None if value is None else encode_numeric(Decimal(value)) for value in column.to_list()]
    return pl.Series(encoded, dtype=pl.Binary)


def encode_numeric(value: Decimal) -> bytes:
    """PostgreSQL's binary numeric of an exact value."""
    if not value.is_finite():
        raise TypeError(f"{value} is not a number that numeric can hold exactly")
    sign, digits, exponent = value.as_tuple()
    unscaled = int("".join(map(str, digits)) or "0") * 10 ** max(0, int(exponent))
    return _encode_scaled(-unscaled if sign else unscaled, max(0, -int(exponent)))


def _encode_scaled(unscaled: int, decimals: int) -> bytes:
    """Of `unscaled / 10**decimals`: digits in base 10,000, weight of the first, sign, decimals shown."""
    below, rest = -(-decimals // 4), abs(unscaled) * 10 ** (-decimals % 4)
    groups: list[int] = []
    while rest:
        rest, group = divmod(rest, 10_000)
        groups.append(group)
    weight = len(groups) - 1 - below if groups else 0
    first = next((at for at, group in enumerate(groups) if group), 0)
    shown = groups[first:][::-1]
    sign = 0x4000 if unscaled < 0 else 0
    return struct.pack(f">hhHH{len(shown)}h", len(shown), weight, sign, decimals, *shown)
