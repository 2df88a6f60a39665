"""Derived series by layer: written by UC-day with all that explains them, read back by layer.

Over 500 lines: one way of a UC-day into its layers.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from faults import DeveloperFault
from storage.bulk import array_literal, copy_frame, joined_octets, one_of, read_frame
from storage.database import Database
from storage.locks import lock_ucs

ACTIVE_ENERGY = 1


class Layer(IntEnum):
    """Layers of `series_day`; each is made from the one before."""

    PRIMARY = 1
    VALIDATED = 2
    ESTIMATED = 3
    ADJUSTED = 4
    CCEE = 5


# What a layer's frame has when it is written, one row per UC-day. PRIMARY also has `input_version` (Int32, of
# the reading_day it was made from); the other layers come from the layer below of the same version.
WRITE_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "uc_id": pl.Int64,
    "day": pl.Date,
    "interval_s": pl.Int32,
    "denominator": pl.Int64,
    "numerators": pl.List(pl.Int64),
    "origin": pl.Binary,
    "reason": pl.Binary,
    "derivation_id": pl.Int64,
}
READ_SCHEMA = {**WRITE_SCHEMA, "version": pl.Int32, "input_version": pl.Int32}

# Tables with the latest word on a UC-day; their frames have these columns (detail: JSON as String, may be
# left out).
_LATEST_TABLES = {
    "verdict": ("uc_id", "day", "rule", "first_slot", "last_slot", "result", "detail"),
    "musd_hour": ("uc_id", "day", "hour", "energy_kwh", "musd_kw", "limit_kwh", "is_rejected"),
    "uc_day_outcome": (
        "uc_id", "day", "state", "cause", "measured", "backup", "estimated", "edited", "missing",
        "energy_kwh", "detail",
    ),
    "uc_day_shape": ("uc_id", "day", "hours_wh", "peak_wh", "longest_run", "marks", "reactive_ratio"),
}  # fmt: skip
_ESTIMATE = ("first_slot", "last_slot", "strategy", "method", "detail", "approved_by")

Octets = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class UcDays:
    """All there is to say about a chunk of UC-days; what is left out, the UC-days do not have.

    Attributes:
        layers: frames of `WRITE_SCHEMA`.
        estimates: uc_id, day, first_slot, last_slot, strategy, method, detail, approved_by.
        verdicts, musd_hours, outcomes, shapes: columns of tables verdict, musd_hour, uc_day_outcome,
            uc_day_shape, without run and time.
    """

    layers: Mapping[Layer, pl.DataFrame]
    outcomes: pl.DataFrame
    estimates: pl.DataFrame = field(default_factory=pl.DataFrame)
    verdicts: pl.DataFrame = field(default_factory=pl.DataFrame)
    musd_hours: pl.DataFrame = field(default_factory=pl.DataFrame)
    shapes: pl.DataFrame = field(default_factory=pl.DataFrame)


@dataclass(frozen=True)
class WriteResult:
    """What became of the UC-days of a chunk.

    Attributes:
        versions: uc_id, day, version, action (insert, replace, append, keep) of those that have series now.
        removed: UC-days without submission whose series went, since there is none any more.
    """

    versions: pl.DataFrame
    removed: int

    def count(self, action: str) -> int:
        return int((self.versions["action"] == action).sum())

    @property
    def written(self) -> int:
        return self.versions.height - self.count("keep")


def derivation(
    conn: psycopg.Connection[Any], layer: str, code_version: str, parameters: Mapping[str, Any]
) -> int:
    """Id of the row that names this layer, code and parameters; made on first need."""
    content = orjson.dumps([layer, code_version, dict(parameters)], option=orjson.OPT_SORT_KEYS, default=str)
    mark = hashlib.sha256(content).digest()
    conn.execute(
        "INSERT INTO derivation (layer, code_version, parameters, hash) VALUES (%s, %s, %s, %s) "
        "ON CONFLICT (hash) DO NOTHING",
        [layer, code_version, Jsonb(orjson.loads(content)[2]), mark],
    )
    row = conn.execute("SELECT id FROM derivation WHERE hash = %s", [mark]).fetchone()
    if row is None:
        raise DeveloperFault("the derivation is not visible", where="storage.series.derivation")
    return int(row[0])


@dataclass(frozen=True)
class Prepared:
    """A chunk with its hashes made: the part of writing that needs no database."""

    batch: UcDays
    layers: Mapping[Layer, pl.DataFrame]


def prepare(batch: UcDays) -> Prepared:
    """Do what can be done before the transaction, and in another thread."""
    return Prepared(batch, _with_hashes(batch.layers))


def write_uc_days(
    conn: psycopg.Connection[Any],
    batch: UcDays | Prepared,
    *,
    run_id: str,
    at: dt.datetime,
    quantity: int = ACTIVE_ENERGY,
) -> WriteResult:
    """Write a chunk of UC-days in the caller's transaction.

    All layers of a UC-day share a version. Content equal to the latest version: nothing is written, whoever
    ran. Different, and the UC-day has no submission: replaced in place. Different and submitted: a new
    version beside the old. Verdicts, MUSD hours and outcomes are the latest word and are replaced where
    they differ. Writers of the same UC wait for each other.
    """
    prepared = batch if isinstance(batch, Prepared) else prepare(batch)
    layers, batch = prepared.layers, prepared.batch
    keys = _keys([*layers.values(), batch.outcomes])
    if keys.is_empty():
        return WriteResult(keys.with_columns(version=pl.lit(0), action=pl.lit("")), 0)
    lock_ucs(conn, keys["uc_id"].unique().to_list())
    plan, removed = _plan(conn, layers, keys, quantity)
    gone = pl.concat([plan.filter(action="replace").select("uc_id", "day", "version"), removed])
    _delete_versions(conn, gone, quantity)
    fresh = plan.filter(pl.col("action") != "keep").select("uc_id", "day", "version")
    stamp = pl.lit(at.astimezone(dt.UTC), pl.Datetime("us", "UTC"))
    _write_layers(conn, layers, fresh, quantity, run_id, stamp)
    if not batch.estimates.is_empty():
        estimates = batch.estimates.select("uc_id", "day", *_ESTIMATE).join(fresh, on=["uc_id", "day"])
        copy_frame(conn, "estimate", estimates)
    latest = (batch.verdicts, batch.musd_hours, batch.outcomes, batch.shapes)
    for table, frame in zip(_LATEST_TABLES, latest, strict=True):
        extra = {} if table == "uc_day_shape" else {"run_id": pl.lit(run_id)}
        if table == "uc_day_outcome":
            extra["updated_at"] = stamp
        _replace_where_different(conn, table, frame, keys, extra)
    return WriteResult(plan, removed.height)


def read_layer(
    db: Database,
    layer: Layer,
    first_day: dt.date,
    last_day: dt.date,
    shard: int = 0,
    shards: int = 1,
    *,
    uc_ids: Sequence[int] | None = None,
    quantity: int = ACTIVE_ENERGY,
) -> pl.DataFrame:
    """Latest version of a layer, in order of UC and day; columns of `READ_SCHEMA`.

    Args:
        shard, shards: UCs with `uc_id % shards == shard`.
        uc_ids: only these, whatever their shard (the way to read the history of a few UCs over many days).
    """
    query, parameters = _latest(READ_SCHEMA, layer, (first_day, last_day), (shard, shards), uc_ids, quantity)
    frame = read_frame(db, query, parameters)
    return frame.select(pl.col(name).cast(kind) for name, kind in READ_SCHEMA.items()).sort("uc_id", "day")


def _latest(
    columns: Iterable[str],
    layer: Layer,
    days: tuple[dt.date, dt.date],
    shard: tuple[int, int],
    uc_ids: Sequence[int] | None,
    quantity: int,
) -> tuple[str, list[Any]]:
    """Query and parameters of the latest versions."""
    parameters: list[Any] = [int(layer), quantity, *days]
    if uc_ids is not None:
        wanted = one_of("s.uc_id", "$5")
        parameters.append(array_literal(uc_ids))
    else:
        wanted = "s.uc_id % $5 = $6"
        parameters += [shard[1], shard[0]]
    query = (
        f"SELECT {', '.join('s.' + name for name in columns)} FROM series_day s "
        f"WHERE s.layer = $1 AND s.quantity = $2 AND s.day BETWEEN $3 AND $4 AND {wanted} "
        "AND NOT EXISTS (SELECT 1 FROM series_day n WHERE n.uc_id = s.uc_id AND n.quantity = s.quantity "
        "AND n.layer = s.layer AND n.day = s.day AND n.day BETWEEN $3 AND $4 AND n.version > s.version)"
    )
    return query, parameters


def _keys(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    parts = [frame.select("uc_id", "day") for frame in frames if not frame.is_empty()]
    return pl.concat(parts).unique().sort("uc_id", "day") if parts else pl.DataFrame(schema=_KEY_SCHEMA)


_KEY_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {"uc_id": pl.Int64, "day": pl.Date}


@dataclass(frozen=True)
class _Content:
    """Values of a layer's rows as octets, their digests, and the lowest layer that has the same ones."""

    keys: pl.DataFrame
    octets: Octets
    digests: list[bytes]
    same_as: npt.NDArray[np.int16]


def _with_hashes(layers: Mapping[Layer, pl.DataFrame]) -> dict[Layer, pl.DataFrame]:
    """Frames of `WRITE_SCHEMA` with `content_hash`, and `same_as`: the lowest layer with the same values.

    Most UC-days are measured whole, and most have no losses: their values are the same from primary to
    adjusted, and need be neither hashed nor sent again.
    """
    hashed: dict[Layer, pl.DataFrame] = {}
    below: _Content | None = None
    for layer, frame in sorted(layers.items()):
        names = [*WRITE_SCHEMA, *(["input_version"] if layer is Layer.PRIMARY else [])]
        chosen = frame.select(names).cast(WRITE_SCHEMA)  # type: ignore[arg-type]  # polars names a narrower mapping
        if chosen.select("uc_id", "day").is_duplicated().any():
            raise DeveloperFault(
                f"a UC-day comes twice in layer {layer.name}", where="storage.series.write_uc_days"
            )
        below = _content(chosen, layer, below)
        hashed[layer] = chosen.with_columns(
            content_hash=_content_hashes(chosen, below.digests),
            same_as=pl.Series(below.same_as, dtype=pl.Int16),
        )
    return hashed


def _content(frame: pl.DataFrame, layer: Layer, below: _Content | None) -> _Content:
    counts = frame["numerators"].list.len().to_numpy()
    for name in ("origin", "reason"):
        if (frame[name].bin.size().to_numpy() != counts).any():
            raise DeveloperFault(f"{name} needs one octet per slot", where="storage.series.write_uc_days")
    keys = frame.select("uc_id", "day")
    digests: list[bytes] = [b""] * frame.height
    same_as = np.full(frame.height, int(layer), np.int16)
    octets: Octets = np.zeros((0, 0), np.uint8)
    for slots in np.unique(counts):
        chosen = np.flatnonzero(counts == slots)
        octets = _content_octets(frame if len(chosen) == frame.height else frame[chosen], int(slots))
        is_same = np.zeros(len(chosen), np.bool_)
        if below is not None and octets.shape == below.octets.shape and keys.equals(below.keys):
            is_same = (octets == below.octets).all(axis=1)
            same_as[is_same] = below.same_as[is_same]
        for at, row, same in zip(chosen.tolist(), octets, is_same.tolist(), strict=True):
            digests[at] = below.digests[at] if same and below else hashlib.sha256(row).digest()
    return _Content(keys, octets, digests, same_as)


def _content_octets(frame: pl.DataFrame, slots: int) -> Octets:
    """Denominator, interval, values, which are NULL, origin and reason: (rows, octets)."""
    rows = frame.height
    values = frame["numerators"].explode(empty_as_null=False)
    head = np.stack([frame[name].to_numpy().astype("<i8") for name in ("denominator", "interval_s")], axis=1)
    numbers = values.fill_null(0).to_numpy().astype("<i8").reshape(rows, slots)
    return np.concatenate(
        [
            head.view(np.uint8).reshape(rows, -1),
            numbers.view(np.uint8).reshape(rows, -1),
            values.is_null().to_numpy().view(np.uint8).reshape(rows, slots),
            joined_octets(frame["origin"]).reshape(rows, slots),
            joined_octets(frame["reason"]).reshape(rows, slots),
        ],
        axis=1,
    )


def _content_hashes(frame: pl.DataFrame, digests: Sequence[bytes]) -> pl.Series:
    """SHA-256 of the values' digest, the derivation and, where it has one, the input version of each row."""
    made_by = [frame["derivation_id"].to_numpy().astype("<i8")]
    if "input_version" in frame.columns:
        made_by.append(frame["input_version"].to_numpy().astype("<i8"))
    heads = np.stack(made_by, axis=1)
    hashes = [
        hashlib.sha256(digest + head.tobytes()).digest() for digest, head in zip(digests, heads, strict=True)
    ]
    return pl.Series(hashes, dtype=pl.Binary)


_STORED = f"""
    SELECT {", ".join(WRITE_SCHEMA)}, input_version, layer::smallint AS layer, version, content_hash
    FROM series_day
    WHERE day BETWEEN $1::date AND $2::date AND quantity = $3 AND uc_id % $4::bigint = $5::bigint
    ORDER BY layer
"""


def untrue_rows(
    db: Database, first_day: dt.date, last_day: dt.date, shard: int = 0, shards: int = 1
) -> tuple[int, list[tuple[int, dt.date, int, int]]]:
    """Rows of all layers and versions whose values are not those that their hash was made of.

    Returns: how many rows were looked at; UC, day, layer and version of those that somebody changed.
    """
    rows = read_frame(db, _STORED, [first_day, last_day, ACTIVE_ENERGY, shards, shard])
    changed: list[tuple[int, dt.date, int, int]] = []
    for layer, part in rows.group_by("layer"):
        frame = part.select(pl.col(name).cast(kind) for name, kind in WRITE_SCHEMA.items())
        if layer[0] == Layer.PRIMARY:
            frame = frame.with_columns(part["input_version"])
        hashes = _content_hashes(frame, _digests(frame))
        wrong = part.filter(hashes != part["content_hash"])
        changed += wrong.select("uc_id", "day", pl.col("layer").cast(pl.Int64), "version").rows()
    return rows.height, sorted(changed)


def _digests(frame: pl.DataFrame) -> list[bytes]:
    """SHA-256 of each row's values."""
    digests: list[bytes] = [b""] * frame.height
    counts = frame["numerators"].list.len().to_numpy()
    for slots in np.unique(counts):
        chosen = np.flatnonzero(counts == slots)
        for at, row in zip(chosen.tolist(), _content_octets(frame[chosen], int(slots)), strict=True):
            digests[at] = hashlib.sha256(row).digest()
    return digests


_TWIN_COLUMNS = ("uc_id", "day", "version", "layer", "input_version", "derivation_id", "content_hash")


def _write_layers(
    conn: psycopg.Connection[Any],
    layers: Mapping[Layer, pl.DataFrame],
    fresh: pl.DataFrame,
    quantity: int,
    run_id: str,
    stamp: pl.Expr,
) -> None:
    """Send each row's values once; the server copies them to the layers that have the same."""
    twins = []
    keys = version = pl.DataFrame()
    for layer, frame in layers.items():
        # Layers have the same UC-days in the same order, nearly always.
        if not frame.select("uc_id", "day").equals(keys):
            keys = frame.select("uc_id", "day")
            version = keys.join(fresh, on=["uc_id", "day"], how="left", maintain_order="left")
        rows = frame.with_columns(version["version"], layer=pl.lit(int(layer), pl.Int16))
        # The large columns are gathered anew only where some rows are not fresh.
        if version["version"].null_count():
            rows = rows.filter(pl.col("version").is_not_null())
        # Upper layers are made from the layer below, which has their own version.
        source = pl.col("input_version" if layer is Layer.PRIMARY else "version").cast(pl.Int32)
        rows = rows.with_columns(input_version=source)
        is_own = pl.col("same_as") == int(layer)
        twins.append(rows.filter(~is_own).select(*_TWIN_COLUMNS, "same_as"))
        own = rows if twins[-1].is_empty() else rows.filter(is_own)
        copy_frame(
            conn,
            "series_day",
            own.drop("same_as").with_columns(
                quantity=pl.lit(quantity, pl.Int16), run_id=pl.lit(run_id), recorded_at=stamp
            ),
        )
    twins = [rows for rows in twins if not rows.is_empty()]
    if not twins:
        return
    _copy_twins(conn, pl.concat(twins), quantity)


def _copy_twins(conn: psycopg.Connection[Any], twins: pl.DataFrame, quantity: int) -> None:
    """Copy the values of layer `same_as` of each UC-day to the rows of `twins` (_TWIN_COLUMNS, `same_as`)."""
    # One row for each row to be copied, so that the server looks it up once: layers as arrays, hashes joined.
    source = ["uc_id", "day", "version", "same_as"]
    grouped = twins.group_by(source).agg(
        "layer", "input_version", "derivation_id", pl.col("content_hash").bin.encode("hex").str.join()
    )
    conn.execute(
        "CREATE TEMPORARY TABLE IF NOT EXISTS pending_twin (uc_id bigint, day date, version integer, "
        "same_as smallint, layer smallint[], input_version integer[], derivation_id bigint[], "
        "content_hash bytea) ON COMMIT DELETE ROWS"
    )
    conn.execute("DELETE FROM pending_twin")
    copy_frame(conn, "pending_twin", grouped.with_columns(pl.col("content_hash").str.decode("hex")))
    values = "quantity, interval_s, denominator, numerators, origin, reason, run_id, recorded_at"
    conn.execute(
        # Row by row through the key; the bounds on day let TimescaleDB leave out chunks.
        "INSERT INTO series_day (uc_id, day, version, layer, input_version, derivation_id, content_hash, "
        f"{values}) SELECT t.uc_id, t.day, t.version, u.layer, u.input_version, u.derivation_id, "
        "substring(t.content_hash FROM 32 * (u.number::int - 1) + 1 FOR 32), "
        f"{', '.join('s.' + n for n in values.split(', '))} FROM pending_twin t CROSS JOIN LATERAL "
        "(SELECT * FROM series_day o WHERE o.uc_id = t.uc_id AND o.quantity = %s AND o.layer = t.same_as "
        "AND o.day = t.day AND o.version = t.version AND o.day BETWEEN %s AND %s LIMIT 1) s "
        "CROSS JOIN LATERAL unnest(t.layer, t.input_version, t.derivation_id) "
        "WITH ORDINALITY AS u (layer, input_version, derivation_id, number)",
        [quantity, twins["day"].min(), twins["day"].max()],
    )


def _plan(
    conn: psycopg.Connection[Any], layers: Mapping[Layer, pl.DataFrame], keys: pl.DataFrame, quantity: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(uc_id, day, version, action) of UC-days with series, and (uc_id, day, version) of those that lose
    theirs.
    """
    offered = pl.concat(
        [
            pl.DataFrame(schema={**_KEY_SCHEMA, "layer": pl.Int16, "content_hash": pl.Binary}),
            *(
                frame.select("uc_id", "day", pl.lit(int(layer), pl.Int16).alias("layer"), "content_hash")
                for layer, frame in layers.items()
            ),
        ]
    )
    stored = _stored(conn, keys, quantity)
    ours = offered.group_by("uc_id", "day").agg(pl.len().alias("offered"))
    theirs = stored.group_by("uc_id", "day").agg(
        pl.len().alias("stored"), pl.col("version").max().alias("latest")
    )
    same = (
        offered.join(stored, on=["uc_id", "day", "layer", "content_hash"])
        .group_by("uc_id", "day")
        .agg(pl.len().alias("same"))
    )
    compared = (
        keys.join(ours, on=["uc_id", "day"], how="left")
        .join(theirs, on=["uc_id", "day"], how="left")
        .join(same, on=["uc_id", "day"], how="left")
        .join(_sealed(conn, keys), on=["uc_id", "day"], how="left")
        .with_columns(
            pl.col("offered", "stored", "same", "latest").fill_null(0), pl.col("sealed").fill_null(False)
        )
    )
    is_same = (pl.col("same") == pl.col("offered")) & (pl.col("same") == pl.col("stored"))
    decided = compared.with_columns(
        action=pl.when(pl.col("stored") == 0)
        .then(pl.lit("insert"))
        .when(is_same)
        .then(pl.lit("keep"))
        .when("sealed")
        .then(pl.lit("append"))
        .otherwise(pl.lit("replace"))
    ).with_columns(
        version=(pl.col("latest") + pl.col("action").is_in(["insert", "append"]).cast(pl.Int32)).cast(
            pl.Int32
        )
    )
    plan = decided.filter(pl.col("offered") > 0).select("uc_id", "day", "version", "action")
    removed = decided.filter((pl.col("offered") == 0) & (pl.col("stored") > 0) & ~pl.col("sealed"))
    return plan, removed.select("uc_id", "day", "version")


def _stored(conn: psycopg.Connection[Any], keys: pl.DataFrame, quantity: int) -> pl.DataFrame:
    """uc_id, day, layer, version, content_hash of the latest version of each UC-day."""
    cursor = conn.cursor(binary=True)
    cursor.execute(
        "SELECT uc_id, day, layer, version, content_hash FROM series_day "
        f"WHERE {one_of('uc_id', '%s')} AND quantity = %s AND day BETWEEN %s AND %s",
        [array_literal(keys["uc_id"].unique()), quantity, keys["day"].min(), keys["day"].max()],
    )
    schema = {**_KEY_SCHEMA, "layer": pl.Int16, "version": pl.Int32, "content_hash": pl.Binary}
    frame = pl.DataFrame(cursor.fetchall(), schema=schema, orient="row")
    return frame.join(keys, on=["uc_id", "day"], how="semi").filter(
        pl.col("version") == pl.col("version").max().over("uc_id", "day")
    )


def _sealed(conn: psycopg.Connection[Any], keys: pl.DataFrame) -> pl.DataFrame:
    rows = conn.execute(
        "SELECT DISTINCT uc_id, day, true FROM submission "
        f"WHERE {one_of('uc_id', '%s')} AND day BETWEEN %s AND %s",
        [array_literal(keys["uc_id"].unique()), keys["day"].min(), keys["day"].max()],
    ).fetchall()
    return pl.DataFrame(rows, schema={**_KEY_SCHEMA, "sealed": pl.Boolean}, orient="row")


def _delete_versions(conn: psycopg.Connection[Any], gone: pl.DataFrame, quantity: int) -> None:
    if gone.is_empty():
        return
    parameters = {
        **{name: array_literal(gone[name]) for name in gone.columns},
        "first": gone["day"].min(),
        "last": gone["day"].max(),
        "quantity": quantity,
    }
    for table, condition in (("series_day", "AND t.quantity = %(quantity)s"), ("estimate", "")):
        # The bounds on day let TimescaleDB leave out chunks.
        conn.execute(
            f"DELETE FROM {table} t USING unnest(%(uc_id)s::text::bigint[], %(day)s::text::date[], "
            "%(version)s::text::int[]) AS k (uc_id, day, version) "
            "WHERE t.uc_id = k.uc_id AND t.day = k.day AND t.version = k.version "
            f"AND t.day BETWEEN %(first)s AND %(last)s {condition}",
            parameters,
        )


def _replace_where_different(
    conn: psycopg.Connection[Any],
    table: str,
    frame: pl.DataFrame,
    keys: pl.DataFrame,
    extra: Mapping[str, pl.Expr],
) -> None:
    """Make the rows of the UC-days `keys` those of `frame`; UC-days that have them already stay as they
    are.
    """
    columns = _LATEST_TABLES[table]
    if not frame.is_empty():
        if "detail" in columns and "detail" not in frame.columns:
            frame = frame.with_columns(detail=pl.lit("{}"))
        frame = frame.select(columns).with_columns(**extra)
    if not _has_rows(conn, table, keys):
        copy_frame(conn, table, frame)
        return
    pending, target = sql.Identifier(f"pending_{table}"), sql.Identifier(table)
    conn.execute(
        sql.SQL("CREATE TEMPORARY TABLE IF NOT EXISTS {} (LIKE {}) ON COMMIT DELETE ROWS").format(
            pending, target
        )
    )
    conn.execute(sql.SQL("DELETE FROM {}").format(pending))
    copy_frame(conn, f"pending_{table}", frame)
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    wanted = sql.SQL("unnest(%s::text::bigint[], %s::text::date[]) AS k (uc_id, day)")
    different = conn.execute(
        sql.SQL(
            "WITH stored AS (SELECT {names} FROM {target} JOIN {wanted} USING (uc_id, day)) "
            "SELECT uc_id, day FROM (SELECT {names} FROM stored EXCEPT SELECT {names} FROM {pending}) a "
            "UNION SELECT uc_id, day FROM (SELECT {names} FROM {pending} EXCEPT SELECT {names} FROM stored) b"
        ).format(names=names, target=target, wanted=wanted, pending=pending),
        [array_literal(keys["uc_id"]), array_literal(keys["day"])],
    ).fetchall()
    if not different:
        return
    parameters = [array_literal(uc_id for uc_id, _ in different), array_literal(day for _, day in different)]
    for statement in (
        "DELETE FROM {target} t USING {wanted} WHERE t.uc_id = k.uc_id AND t.day = k.day",
        "INSERT INTO {target} SELECT p.* FROM {pending} p JOIN {wanted} USING (uc_id, day)",
    ):
        conn.execute(sql.SQL(statement).format(target=target, wanted=wanted, pending=pending), parameters)


def _has_rows(conn: psycopg.Connection[Any], table: str, keys: pl.DataFrame) -> bool:
    found = conn.execute(
        sql.SQL(
            # Through the key, UC by UC: a list of them would be compared with each row of the fleet.
            "SELECT EXISTS (SELECT FROM unnest(%s::text::bigint[]) AS k (uc_id) CROSS JOIN LATERAL "
            "(SELECT FROM {} t WHERE t.uc_id = k.uc_id AND t.day BETWEEN %s AND %s LIMIT 1) f)"
        ).format(sql.Identifier(table)),
        [array_literal(keys["uc_id"].unique()), keys["day"].min(), keys["day"].max()],
    ).fetchone()
    return bool(found and found[0])
