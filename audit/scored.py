"""Beside a value: how far estimates like it lie from what is measured, and the estimate that it replaced.

What belongs here: the score's word on one interval. What does not: scoring (`derivation.scores.scoring`).
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import Any

import numpy as np
import orjson
import psycopg

from derivation.scores.expected_errors import NOT_SCORED, ExpectedErrors, expected_errors
from storage import scores as store
from storage.database import Database
from vee.frames import runs
from vee.quality import Origin
from vee.scores.classes import scored_method

Row = dict[str, Any]
_HOUR_S = 3600


def expected_error(
    db: Database, conn: psycopg.Connection[Any], uc_id: int, estimate: Row | None, interval_s: int, slot: int
) -> Row | None:
    """What the latest score says of an estimate: `words`, and what they are made of; None for no estimate.

    Args:
        estimate: row of `estimate`. slot: within it.
    """
    if estimate is None:
        return None
    (found,) = with_expected_errors(db, conn, uc_id, [{**estimate, "first_slot": slot}], interval_s)
    told: Row = found["expected_error"]
    return told


def with_expected_errors(
    db: Database, conn: psycopg.Connection[Any], uc_id: int, estimates: list[Row], interval_s: int
) -> list[Row]:
    """Rows of `estimate` of one UC, each with its `expected_error`."""
    if not estimates:
        return []
    scored = expected_errors(db, [uc_id])
    return [{**row, "expected_error": _told(scored, conn, uc_id, row, interval_s)} for row in estimates]


def _told(
    scored: ExpectedErrors | None, conn: psycopg.Connection[Any], uc_id: int, estimate: Row, interval_s: int
) -> Row:
    if scored is None:
        return {"words": NOT_SCORED}
    method = scored_method(estimate["method"], orjson.dumps(estimate["detail"]).decode())
    slots = _gap_slots(conn, uc_id, estimate["day"], estimate["version"], estimate["first_slot"])
    found = scored.of(uc_id, estimate["strategy"], method, slots, _HOUR_S // interval_s)
    if found is None:
        return {"words": f"{method} was not met with in score run {scored.run.id}", "run": scored.run.id}
    return asdict(found) | {"words": found.words}


def _gap_slots(conn: psycopg.Connection[Any], uc_id: int, day: date, version: int, slot: int) -> int:
    """How many slots in a row were filled around this one."""
    with conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        row = cursor.execute(
            "SELECT origin FROM series_day "
            "WHERE uc_id = %s AND quantity = 1 AND layer = 3 AND day = %s AND version = %s",
            [uc_id, day, version],
        ).fetchone()
    assert row is not None  # an estimate is written with its series
    filled = np.isin(np.frombuffer(row[0], np.uint8), [Origin.ESTIMATED, Origin.BACKUP])
    return next((last - first + 1 for first, last in runs(filled) if first <= slot <= last), 1)


def replaced(conn: psycopg.Connection[Any], uc_id: int, day: date, slot: int) -> list[Row]:
    """Estimates of the slot that gave way to what the meter had, the newest first, with `words`."""
    found = store.replaced_in(conn, uc_id, day, slot)
    for row in found:
        row["words"] = (
            f"replaced an estimate of {row['method']} in slots {row['first_slot']} to {row['last_slot']}: "
            f"estimated {_short(row['estimated_kwh'])} kWh, measured {_short(row['measured_kwh'])} kWh, "
            f"difference {_short(row['difference_kwh'], sign=True)} kWh"
        )
    return found


def _short(kwh: str, *, sign: bool = False) -> str:
    return f"{float(kwh):+.3f}" if sign else f"{float(kwh):.3f}"
