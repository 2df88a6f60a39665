"""Suspects: runs of slots that a rule does not let pass as measured, until somebody decides.

The contract, for whoever derives, decides, lists or shows:

- One row of `suspect` is one run of slots of one UC-day that one rule caught: `id, uc_id, day, rule,
  first_slot, last_slot` (0-based, inclusive), `severity`, `energy_kwh` (at stake), `evidence` (JSON: what was
  compared, with the parameters in force), `state`. Its key holds `values_hash`, the hash of the exact values
  that were judged: a decision is about these values. When other values come in, the old row is withdrawn and
  the new values are another suspect.
- `severity`: `hold` waits for a person, without end; `suspect` waits for a person, or for the rule's time-out
  policy near the deadline. While one of a UC-day is open, the day's outcome is `held`, cause `suspect`,
  and nothing of it is delivered. The values stay in their layers, untouched; their slots carry the reason
  `held_suspect`.
- `state`: `open`; `accepted` (the values are right); `rejected` (they are wrong); `withdrawn` (the rule does
  not say so any more). The derivation opens and withdraws; only a decision accepts or rejects, through
  `decide`, which touches the day so that it derives again by itself. Then:
  accepted: the slots pass as measured, with reason `accepted_suspect`; rejected: the slots are missing, with
  reason `rejected_suspect`, and are estimated like any gap. A decision is undone by setting `open` again.
- A suspect that was accepted or rejected is never touched by a derivation.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from typing import Any

import polars as pl
import psycopg

from faults import OperatorFault
from storage.bulk import array_literal, copy_frame, read_frame

# What a derivation hands over; `evidence` is JSON.
SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "rule": pl.String(),
    "first_slot": pl.Int16(),
    "last_slot": pl.Int16(),
    "severity": pl.String(),
    "values_hash": pl.Binary(),
    "energy_kwh": pl.Decimal(38, 9),
    "evidence": pl.String(),
}
# What it takes into account: decisions that were made.
DECIDED_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "rule": pl.String(),
    "first_slot": pl.Int16(),
    "last_slot": pl.Int16(),
    "values_hash": pl.Binary(),
    "state": pl.String(),
}
_KEY = "uc_id, day, rule, first_slot, last_slot, values_hash"

_DECIDED = f"""
    SELECT {_KEY}, state FROM suspect
    WHERE state IN ('accepted', 'rejected') AND day = ANY($1::text::date[])
      AND uc_id IN (SELECT unnest($2::text::bigint[]))
    ORDER BY {_KEY}
"""

# Rows of a session's own table, `pending_suspect`, against those of the UC-days that were derived.
_INSERT = f"""
    INSERT INTO suspect ({_KEY}, severity, energy_kwh, evidence, opened_at, changed_at, run_id)
    SELECT {_KEY}, severity, energy_kwh, evidence, %(at)s, %(at)s, %(run)s FROM pending_suspect
    ON CONFLICT ({_KEY}) DO UPDATE SET
        severity = excluded.severity, energy_kwh = excluded.energy_kwh, evidence = excluded.evidence,
        run_id = excluded.run_id, state = 'open',
        changed_at = CASE suspect.state WHEN 'open' THEN suspect.changed_at ELSE excluded.changed_at END
    WHERE suspect.state IN ('open', 'withdrawn')
      AND (suspect.state, suspect.severity, suspect.energy_kwh, suspect.evidence)
          IS DISTINCT FROM ('open', excluded.severity, excluded.energy_kwh, excluded.evidence)
"""
_WITHDRAW = """
    UPDATE suspect s SET state = 'withdrawn', changed_at = %(at)s, run_id = %(run)s
    FROM unnest(%(ucs)s::text::bigint[], %(days)s::text::date[]) AS k (uc_id, day)
    WHERE s.uc_id = k.uc_id AND s.day = k.day AND s.state = 'open' AND NOT EXISTS (
        SELECT FROM pending_suspect p
        WHERE p.uc_id = s.uc_id AND p.day = s.day AND p.rule = s.rule AND p.first_slot = s.first_slot
          AND p.last_slot = s.last_slot AND p.values_hash = s.values_hash)
"""
_ANY_OPEN = """
    SELECT EXISTS (
        SELECT FROM suspect WHERE state = 'open' AND day BETWEEN %(first)s AND %(last)s
          AND uc_id IN (SELECT unnest(%(ucs)s::text::bigint[])))
"""


def decided(connection: Any, uc_ids: Collection[int], days: Collection[dt.date]) -> pl.DataFrame:
    """Decisions about these UC-days, DECIDED_SCHEMA. `connection`: as `storage.bulk.read_frame` takes it."""
    found = read_frame(connection, _DECIDED, [array_literal(days), array_literal(uc_ids)])
    return found.select(pl.col(name).cast(kind) for name, kind in DECIDED_SCHEMA.items())


def write_suspects(
    conn: psycopg.Connection[Any], keys: pl.DataFrame, found: pl.DataFrame, *, run_id: str, at: dt.datetime
) -> int:
    """Make the open suspects of the UC-days `keys` those of `found` (SCHEMA), in the caller's transaction.

    Rows that somebody decided stay as they are. Returns how many are handed over.
    """
    ucs, days = keys["uc_id"], keys["day"]
    if keys.is_empty():
        return 0
    if found.is_empty() and not _any_open(conn, ucs, days):
        return 0
    conn.execute(
        "CREATE TEMPORARY TABLE IF NOT EXISTS pending_suspect (uc_id bigint, day date, rule text, "
        "first_slot smallint, last_slot smallint, severity text, values_hash bytea, energy_kwh numeric, "
        "evidence jsonb) ON COMMIT DELETE ROWS"
    )
    conn.execute("DELETE FROM pending_suspect")
    copy_frame(conn, "pending_suspect", found.select(list(SCHEMA)))
    parameters = {"at": at, "run": run_id, "ucs": array_literal(ucs), "days": array_literal(days)}
    conn.execute(_WITHDRAW, parameters)
    conn.execute(_INSERT, parameters)
    return found.height


def _any_open(conn: psycopg.Connection[Any], ucs: pl.Series, days: pl.Series) -> bool:
    row = conn.execute(
        _ANY_OPEN, {"first": days.min(), "last": days.max(), "ucs": array_literal(ucs.unique())}
    ).fetchone()
    return bool(row and row[0])


def decide(
    conn: psycopg.Connection[Any], suspect_ids: Collection[int], state: str, at: dt.datetime
) -> list[tuple[int, dt.date]]:
    """Accept, reject or open again, and touch the days so that they derive again; returns the UC-days.

    Who decided, why, and whether a second person has to agree is the caller's (`editing`), in the same
    transaction.

    Raises:
        OperatorFault: an id that does not exist, or a suspect that its rule has withdrawn.
    """
    if state not in ("accepted", "rejected", "open"):
        raise OperatorFault(
            f"a suspect cannot be set to {state!r}", where="suspect", remedy="use accepted, rejected or open"
        )
    rows = conn.execute(
        "UPDATE suspect SET state = %s, changed_at = %s WHERE id = ANY(%s) AND state <> 'withdrawn' "
        "RETURNING id, uc_id, day",
        [state, at, list(suspect_ids)],
    ).fetchall()
    if absent := sorted(set(suspect_ids) - {row[0] for row in rows}):
        raise OperatorFault(
            f"no suspect {absent[0]} that waits or was decided",
            where="suspect",
            remedy="list them with smf queue; a withdrawn one needs no decision",
        )
    uc_days = sorted({(uc_id, day) for _, uc_id, day in rows})
    touch(conn, uc_days, at)
    return uc_days


def touch(conn: psycopg.Connection[Any], uc_days: Collection[tuple[int, dt.date]], at: dt.datetime) -> None:
    """Have these UC-days derived again: their main meters' days count as changed."""
    conn.execute(
        "INSERT INTO touched_day (meter_id, day, touched_at) "
        "SELECT DISTINCT i.meter_id, k.day, %s::timestamptz "
        "FROM unnest(%s::text::bigint[], %s::text::date[]) AS k (uc_id, day) "
        "JOIN point p ON p.uc_id = k.uc_id JOIN installation i ON i.point_id = p.id AND i.role = 'main' "
        "AND i.valid && tstzrange(market_day_start(k.day), market_day_start(k.day + 1))",
        [at, array_literal(uc for uc, _ in uc_days), array_literal(day for _, day in uc_days)],
    )
