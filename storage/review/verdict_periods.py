"""Periods of verdicts, kept in step with the verdicts of the UC-days that were just written.

`update_periods` is called in the transaction that wrote verdicts and outcomes. It reads the verdicts of the
days concerned and of the periods around them, has them joined, and writes what differs. A period that is
still there keeps its number and the time it was first seen.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl
import psycopg

from storage.bulk import array_literal, copy_frame

Join = Callable[[pl.DataFrame, Mapping[int, dt.date]], pl.DataFrame]
_JOINED = ["missing", "refused", "held", "suspect"]
_COLUMNS = (
    "uc_id", "rule", "cause", "result", "first_day", "first_slot", "last_day", "last_slot", "days", "slots",
    "evidence", "state",
)  # fmt: skip
_VERDICT_SCHEMA = {
    "uc_id": pl.Int64,
    "day": pl.Date,
    "rule": pl.String,
    "first_slot": pl.Int16,
    "last_slot": pl.Int16,
    "result": pl.String,
    "detail": pl.String,
}

# Periods that a window can change: those that touch it, and open ones, which a later day closes.
_TOUCHED = """
    SELECT p.id, p.uc_id, p.rule, p.cause, p.first_day, p.last_day
    FROM unnest(%(ucs)s::text::bigint[]) AS k (uc_id)
    JOIN verdict_period p ON p.uc_id = k.uc_id
    WHERE p.state = 'open' OR (p.first_day <= %(last)s::date + 1 AND p.last_day >= %(first)s::date - 1)
"""
_VERDICTS = """
    SELECT v.uc_id, v.day, v.rule, v.first_slot, v.last_slot, v.result, v.detail::text
    FROM unnest(%(ucs)s::text::bigint[], %(begins)s::text::date[], %(ends)s::text::date[]) AS k (uc_id, b, e)
    JOIN verdict v ON v.uc_id = k.uc_id AND v.day BETWEEN k.b AND k.e AND v.result = ANY(%(results)s)
"""
_JUDGED = """
    SELECT k.uc_id, (SELECT max(day) FROM uc_day_outcome o WHERE o.uc_id = k.uc_id)
    FROM unnest(%(ucs)s::text::bigint[]) AS k (uc_id)
"""
# A period goes on where one of its UC and rule overlapped it: the oldest of them, and of one that split, into
# its first part; the others are new.
_WRITE = """
    WITH gone AS (
        DELETE FROM verdict_period WHERE id IN (SELECT unnest(%(ids)s::text::bigint[])) RETURNING *
    ), matched AS (
        SELECT n.*, g.id AS old_id, g.opened_at AS old_opened_at, g.changed_at AS old_changed_at,
               (g.result, g.first_day, g.first_slot, g.last_day, g.last_slot, g.days, g.slots, g.evidence,
                g.state)
                   IS NOT DISTINCT FROM (n.result, n.first_day, n.first_slot, n.last_day, n.last_slot, n.days,
                                         n.slots, n.evidence, n.state) AS is_same
        FROM pending_period n
        LEFT JOIN LATERAL (
            SELECT g.* FROM gone g
            WHERE g.uc_id = n.uc_id AND g.rule = n.rule AND g.cause = n.cause
              AND g.first_day <= n.last_day AND g.last_day >= n.first_day
              AND NOT EXISTS (
                  SELECT FROM pending_period e
                  WHERE e.uc_id = n.uc_id AND e.rule = n.rule AND e.cause = n.cause
                    AND e.first_day < n.first_day AND e.last_day >= g.first_day AND e.first_day <= g.last_day)
            ORDER BY g.first_day LIMIT 1
        ) g ON true
    )
    INSERT INTO verdict_period (id, uc_id, rule, cause, result, first_day, first_slot, last_day, last_slot,
        days, slots, evidence, state, opened_at, changed_at)
    OVERRIDING SYSTEM VALUE
    SELECT coalesce(old_id, nextval(pg_get_serial_sequence('verdict_period', 'id'))), uc_id, rule, cause,
           result, first_day, first_slot, last_day, last_slot, days, slots, evidence, state,
           coalesce(old_opened_at, %(at)s), CASE WHEN is_same THEN old_changed_at ELSE %(at)s END
    FROM matched
"""
_DAY = dt.timedelta(days=1)


def update_periods(
    conn: psycopg.Connection[Any], keys: pl.DataFrame, verdicts: pl.DataFrame, join: Join, *, at: dt.datetime
) -> None:
    """Have the periods around the UC-days `keys` follow their verdicts.

    Args:
        verdicts: those that were just written. join: `vee.periods.join_periods`.
    """
    if keys.is_empty():
        return
    first, last = keys["day"].min(), keys["day"].max()
    assert isinstance(first, dt.date)
    assert isinstance(last, dt.date)
    ucs = array_literal(keys["uc_id"].unique())
    touched = conn.execute(_TOUCHED, {"first": first, "last": last, "ucs": ucs}).fetchall()
    reach: dict[int, tuple[dt.date, dt.date]] = {}
    if verdicts.height:
        speaking = verdicts.filter(pl.col("result").is_in(_JOINED))["uc_id"].unique()
        reach = dict.fromkeys(speaking.to_list(), (first - _DAY, last + _DAY))
    for _, uc_id, _, _, begins, ends in touched:
        low, high = reach.get(uc_id, (first - _DAY, last + _DAY))
        reach[uc_id] = min(low, begins), max(high, ends)
    if not reach:
        return
    parameters = {
        "ucs": array_literal(reach),
        "begins": array_literal(low for low, _ in reach.values()),
        "ends": array_literal(high for _, high in reach.values()),
        "results": _JOINED,
    }
    rows = conn.execute(_VERDICTS, parameters).fetchall()
    judged = dict(conn.execute(_JUDGED, parameters).fetchall())
    joined = join(pl.DataFrame(rows, schema=_VERDICT_SCHEMA, orient="row"), judged)
    # Of another rule's verdicts only those near the window were read whole.
    old = {(uc_id, rule, cause, begins, ends) for _, uc_id, rule, cause, begins, ends in touched}
    wanted = [
        (begins <= last + _DAY and ends >= first - _DAY)
        or any(one[:3] == key and one[3] <= ends and one[4] >= begins for one in old)
        for *key_list, begins, ends in joined.select(
            "uc_id", "rule", "cause", "first_day", "last_day"
        ).iter_rows()
        for key in [tuple(key_list)]
    ]
    conn.execute(
        "CREATE TEMPORARY TABLE IF NOT EXISTS pending_period (uc_id bigint, rule text, cause text, "
        "result text, first_day date, first_slot smallint, last_day date, last_slot smallint, days integer, "
        "slots integer, evidence jsonb, state text) ON COMMIT DELETE ROWS"
    )
    conn.execute("DELETE FROM pending_period")
    copy_frame(conn, "pending_period", joined.filter(pl.Series(wanted, dtype=pl.Boolean)).select(_COLUMNS))
    conn.execute(_WRITE, {"ids": array_literal(row[0] for row in touched), "at": at})
