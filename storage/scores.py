"""Scores of estimates: runs, what they found, and estimates that gave way to what the meter had.

Rows are only added. A run is a whole: what it found refers to it, and the latest run is what is shown.
`note_replaced` is called in the transaction that writes UC-days, before they are written.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import polars as pl
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from storage.bulk import array_literal, copy_frame, read_frame

Connection = psycopg.Connection[Any]
# (estimates, layer 3 as it is to be) -> uc_id, day of those that give way.
GaveWay = Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame]
# (estimates, layer 3 before, layer 3 as it is to be) -> rows of `estimate_replaced`.
Differences = Callable[[pl.DataFrame, pl.DataFrame, pl.DataFrame], pl.DataFrame]

_LAYER = 3
_KEY_SCHEMA: dict[str, pl.DataType] = {"uc_id": pl.Int64(), "day": pl.Date()}
_ESTIMATE_SCHEMA: dict[str, pl.DataType] = {
    **_KEY_SCHEMA,
    "first_slot": pl.Int16(),
    "last_slot": pl.Int16(),
    "strategy": pl.String(),
    "method": pl.String(),
    "detail": pl.String(),
}
_SERIES_SCHEMA: dict[str, pl.DataType] = {
    **_KEY_SCHEMA,
    "denominator": pl.Int64(),
    "numerators": pl.List(pl.Int64()),
    "origin": pl.Binary(),
    "reason": pl.Binary(),
}
_REPLACED = (
    "uc_id", "day", "first_slot", "last_slot", "strategy", "method", "gap_slots", "estimated_kwh",
    "measured_kwh", "interval_error_kwh",
)  # fmt: skip

# Days that were measured whole and that no rule doubts, with the energy of their hours.
_GOOD_DAYS = """
    SELECT o.uc_id, o.day, s.hours_wh
    FROM unnest($1::text::bigint[]) AS k (uc_id)
    JOIN uc_day_outcome o ON o.uc_id = k.uc_id AND o.day BETWEEN $2::date AND $3::date
        AND o.state = 'ready' AND o.measured > 0
        AND o.backup + o.estimated + o.edited + o.missing = 0
    JOIN uc_day_shape s ON s.uc_id = o.uc_id AND s.day = o.day
    ORDER BY o.uc_id, o.day
"""
# What is missing still, and what was until a late reading came.
_GAPS = """
    SELECT uc_id, day, first_slot, last_slot FROM verdict
    WHERE rule = 'V01' AND result = 'missing' AND day BETWEEN $1::date AND $2::date
      AND detail ->> 'cause' IS DISTINCT FROM 'not_due'
    UNION
    SELECT uc_id, day, first_slot, last_slot FROM estimate_replaced WHERE day BETWEEN $1::date AND $2::date
    ORDER BY 1, 2, 3, 4
"""
# Estimates of the latest version; the words in braces are parameters of either kind of connection.
_ESTIMATES = """
    SELECT e.uc_id, e.day, e.first_slot, e.last_slot, e.strategy, e.method, e.detail::text AS detail
    FROM unnest({ucs}::text::bigint[]) AS k (uc_id)
    JOIN estimate e ON e.uc_id = k.uc_id AND e.day BETWEEN {first}::date AND {last}::date
    WHERE e.version = (
        SELECT max(version) FROM series_day s
        WHERE s.uc_id = e.uc_id AND s.quantity = 1 AND s.layer = 3 AND s.day = e.day
          AND s.day BETWEEN {first}::date AND {last}::date)
    ORDER BY e.uc_id, e.day, e.first_slot
"""
_SERIES = """
    SELECT s.uc_id, s.day, s.denominator, s.numerators, s.origin, s.reason
    FROM unnest(%(ucs)s::text::bigint[], %(days)s::text::date[]) AS k (uc_id, day)
    CROSS JOIN LATERAL (
        SELECT * FROM series_day
        WHERE uc_id = k.uc_id AND quantity = 1 AND layer = 3 AND day = k.day
          AND day BETWEEN %(first)s AND %(last)s
        ORDER BY version DESC LIMIT 1
    ) s
"""
_SCORE_COLUMNS = (
    "source", "strategy", "method", "gap_length", "uc_class", "gaps", "intervals", "measured_kwh",
    "bias_share", "mae_share", "interval_mae_share", "p90_share",
)  # fmt: skip


@dataclass(frozen=True)
class ScoreRun:
    """One run of the score; `hash` is of code version and parameters."""

    id: int
    made_at: dt.datetime
    first_day: dt.date
    last_day: dt.date
    code_version: str
    parameters: Mapping[str, Any]
    hash: str
    shapes_from: str
    shapes: int
    uc_days: int
    gaps: int
    not_filled: int
    replaced: int
    run_id: str


@dataclass(frozen=True)
class NewScoreRun:
    """A run as it is written; attributes as of `ScoreRun`."""

    made_at: dt.datetime
    first_day: dt.date
    last_day: dt.date
    code_version: str
    parameters: Mapping[str, Any]
    shapes_from: str
    shapes: int
    uc_days: int
    gaps: int
    not_filled: int
    replaced: int
    run_id: str


def uc_ids(source: Any) -> list[int]:
    """All UCs, in order. `source`: as `storage.bulk.read_frame` takes it; so below."""
    found: list[int] = read_frame(source, "SELECT id FROM uc ORDER BY id")["id"].to_list()
    return found


def good_days(source: Any, ucs: Sequence[int], first: dt.date, last: dt.date) -> pl.DataFrame:
    """`uc_id, day, hours_wh` of the days measured whole that nobody doubts."""
    found = read_frame(source, _GOOD_DAYS, [array_literal(ucs), first, last])
    kinds = {**_KEY_SCHEMA, "hours_wh": pl.List(pl.Int64())}
    return found.select(pl.col(name).cast(kind) for name, kind in kinds.items())


def stored_gaps(source: Any, first: dt.date, last: dt.date) -> pl.DataFrame:
    """`uc_id, day, first_slot, last_slot` of what was missing, whether or not it came late."""
    return read_frame(source, _GAPS, [first, last])


def estimates(source: Any, ucs: Sequence[int], first: dt.date, last: dt.date) -> pl.DataFrame:
    """`uc_id, day, first_slot, last_slot, strategy, method, detail` of the latest versions, in order."""
    query = _ESTIMATES.format(ucs="$1", first="$2", last="$3")
    found = read_frame(source, query, [array_literal(ucs), first, last])
    return found.select(pl.col(name).cast(kind) for name, kind in _ESTIMATE_SCHEMA.items())


def replaced_since(source: Any, since: dt.datetime, until: dt.datetime) -> pl.DataFrame:
    """Rows of `estimate_replaced` of a time."""
    query = (
        "SELECT uc_id, day, first_slot, last_slot, strategy, method, gap_slots, estimated_kwh::text, "
        "measured_kwh::text, interval_error_kwh::text FROM estimate_replaced "
        "WHERE replaced_at > $1::text::timestamptz AND replaced_at <= $2::text::timestamptz ORDER BY id"
    )
    return read_frame(source, query, [since.isoformat(), until.isoformat()])


def replaced_in(conn: Connection, uc_id: int, day: dt.date, slot: int) -> list[dict[str, Any]]:
    """Estimates of a slot that gave way, the newest first."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            "SELECT first_slot, last_slot, strategy, method, gap_slots, "
            "estimated_kwh::text AS estimated_kwh, "
            "measured_kwh::text AS measured_kwh, (estimated_kwh - measured_kwh)::text AS difference_kwh, "
            "replaced_at, run_id FROM estimate_replaced "
            "WHERE uc_id = %s AND day = %s AND %s BETWEEN first_slot AND last_slot ORDER BY id DESC",
            [uc_id, day, slot],
        ).fetchall()


def note_replaced(
    conn: Connection,
    after: pl.DataFrame,
    gave_way: GaveWay,
    differences: Differences,
    *,
    run_id: str,
    at: dt.datetime,
) -> int:
    """Keep what estimates differ by from what takes their place; call before the UC-days are written.

    Args:
        after: layer 3 as it is to be. gave_way: `vee.scores.replaced.is_now_measured`.
        differences: `vee.scores.replaced.differences`.
    Returns:
        Rows added.
    """
    if after.is_empty():
        return 0
    span: dict[str, Any] = {"first": after["day"].min(), "last": after["day"].max()}
    query = _ESTIMATES.format(ucs="%(ucs)s", first="%(first)s", last="%(last)s")
    rows = conn.execute(query, {**span, "ucs": array_literal(after["uc_id"].unique())}).fetchall()
    if not rows:
        return 0
    estimates = pl.DataFrame(rows, schema=_ESTIMATE_SCHEMA, orient="row")
    keys = gave_way(estimates, after)
    if keys.is_empty():
        return 0
    cursor = conn.cursor(binary=True)
    cursor.execute(_SERIES, {**span, "ucs": array_literal(keys["uc_id"]), "days": array_literal(keys["day"])})
    before = pl.DataFrame(cursor.fetchall(), schema=_SERIES_SCHEMA, orient="row")
    found = differences(
        estimates.join(keys, on=["uc_id", "day"], how="semi"),
        before,
        after.join(keys, on=["uc_id", "day"], how="semi"),
    )
    if found.is_empty():
        return 0
    stamped = [(*row, at, run_id) for row in found.select(_REPLACED).iter_rows()]
    columns = ", ".join((*_REPLACED, "replaced_at", "run_id"))
    marks = ", ".join(["%s"] * (len(_REPLACED) + 2))
    with conn.cursor() as adding:
        adding.executemany(
            f"INSERT INTO estimate_replaced ({columns}) VALUES ({marks}) ON CONFLICT DO NOTHING", stamped
        )
        return adding.rowcount


def write_run(conn: Connection, new: NewScoreRun, found: Mapping[str, pl.DataFrame]) -> int:
    """Write a run down; returns its number.

    Args:
        found: by source, `masked` and `replaced`: the columns of `estimate_score`.
    """
    # What the run's own numbers follow from.
    content = orjson.dumps([new.code_version, dict(new.parameters)], option=orjson.OPT_SORT_KEYS, default=str)
    row = conn.execute(
        "INSERT INTO score_run (made_at, first_day, last_day, code_version, parameters, hash, shapes_from, "
        "shapes, uc_days, gaps, not_filled, replaced, run_id) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id",
        [
            new.made_at, new.first_day, new.last_day, new.code_version, Jsonb(orjson.loads(content)[1]),
            hashlib.sha256(content).digest(), new.shapes_from, new.shapes, new.uc_days, new.gaps,
            new.not_filled, new.replaced, new.run_id,
        ],
    ).fetchone()  # fmt: skip
    assert row is not None
    number = int(row[0])
    for source, scores in found.items():
        stamped = scores.with_columns(score_run_id=pl.lit(number), source=pl.lit(source))
        copy_frame(conn, "estimate_score", stamped.select("score_run_id", *_SCORE_COLUMNS))
    return number


def latest_run(conn: Connection, number: int | None = None) -> ScoreRun | None:
    """The latest run, or the one of that number; None: there is none."""
    row = conn.execute(
        "SELECT id, made_at, first_day, last_day, code_version, parameters, encode(hash, 'hex'), "
        "shapes_from, shapes, uc_days, gaps, not_filled, replaced, run_id FROM score_run "
        "WHERE %(number)s::bigint IS NULL OR id = %(number)s ORDER BY id DESC LIMIT 1",
        {"number": number},
    )
    found = row.fetchone()
    if found is None:
        return None
    return ScoreRun(*(found.values() if isinstance(found, dict) else found))


def strategies_in_use(conn: Connection) -> set[str]:
    """Names of strategies that the registry gives to some UC."""
    return {name for (name,) in conn.execute("SELECT DISTINCT strategy FROM uc_estimation").fetchall()}


def scores_of(conn: Connection, number: int) -> pl.DataFrame:
    """`source` and the columns of SCORE_SCHEMA of a run, in order."""
    with conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        rows = cursor.execute(
            f"SELECT {', '.join(_SCORE_COLUMNS)} FROM estimate_score WHERE score_run_id = %s "
            "ORDER BY source, strategy, method, gap_length, uc_class",
            [number],
        ).fetchall()
    texts = dict.fromkeys(_SCORE_COLUMNS[:5], pl.String())
    counts = dict.fromkeys(_SCORE_COLUMNS[5:7], pl.Int64())
    shares = dict.fromkeys(_SCORE_COLUMNS[7:], pl.Float64())
    return pl.DataFrame(rows, schema={**texts, **counts, **shares}, orient="row")
