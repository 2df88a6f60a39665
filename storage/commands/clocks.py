"""What clocks showed and what was done to them: `clock_correction`, `interval_flag`, `clock_observation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import psycopg

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Correction:
    """What was done to a clock, seconds.

    Attributes:
        method: set, micro_adjust ...; none: nothing was moved.
        step_s: 0 with method none.
        drift_after_s: as read afterwards; None: not read.
        request_id: the command that did it; None: no command.
    """

    meter_id: int
    at: datetime
    drift_s: float
    method: str
    reason: str
    decided_by: str
    session_id: int
    step_s: float = 0.0
    drift_after_s: float | None = None
    request_id: int | None = None


def add_correction(conn: Connection, new: Correction) -> int:
    """Write a correction; returns its id."""
    row = conn.execute(
        "INSERT INTO clock_correction (meter_id, drift_s, method, step_s, drift_after_s, reason, decided_by, "
        "request_id, session_id, at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id",
        [
            new.meter_id,
            new.drift_s,
            new.method,
            new.step_s,
            new.drift_after_s,
            new.reason,
            new.decided_by,
            new.request_id,
            new.session_id,
            new.at,
        ],
    ).fetchone()
    assert row is not None
    return int(row[0])


def add_left_alone(
    conn: Connection,
    meter_id: int,
    at: datetime,
    drift_s: float,
    reason: str,
    decided_by: str,
    session_id: int,
) -> None:
    """Write that a clock was left to a person; one row a meter and 24 hours."""
    conn.execute(
        "INSERT INTO clock_correction (meter_id, at, drift_s, method, reason, decided_by, session_id) "
        "SELECT %s, %s, %s, 'none', %s, %s, %s WHERE NOT EXISTS (SELECT FROM clock_correction "
        "WHERE meter_id = %s AND method = 'none' AND drift_after_s IS NULL AND at > %s - interval '1 day')",
        [meter_id, at, drift_s, reason, decided_by, session_id, meter_id, at],
    )


def flag_intervals(
    conn: Connection,
    meter_id: int,
    flag: str,
    touched: Mapping[str, Any] | Mapping[date, Any],
    correction_id: int,
    request_id: int | None,
    session_id: int,
) -> None:
    """Flag intervals, `{day: (first slot, last slot)}`; their days are derived anew."""
    for day, (first, last) in touched.items():
        conn.execute(
            "INSERT INTO interval_flag (meter_id, day, first_slot, last_slot, flag, correction_id, "
            "request_id, session_id) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [meter_id, day, first, last, flag, correction_id, request_id, session_id],
        )
        # The day is derived anew with its flags, also where its readings had come before.
        conn.execute("INSERT INTO touched_day (meter_id, day) VALUES (%s, %s)", [meter_id, day])


def open_adjustment(conn: Connection, meter_id: int) -> tuple[int, datetime] | None:
    """The meter's last micro adjustment, `(id, at)`, unless a reading since has found the clock right."""
    row = conn.execute(
        "SELECT c.id, c.at FROM clock_correction c WHERE c.meter_id = %s AND c.method = 'micro_adjust' "
        "AND NOT EXISTS (SELECT FROM clock_correction n WHERE n.meter_id = c.meter_id AND n.id > c.id "
        "AND n.drift_after_s IS NOT NULL) ORDER BY c.id DESC LIMIT 1",
        [meter_id],
    ).fetchone()
    return None if row is None else (int(row[0]), row[1])


def last_drift_s(conn: Connection, meter_id: int) -> float | None:
    """The drift that was seen last, seconds; None: never read."""
    row = conn.execute(
        "SELECT drift_s FROM clock_observation WHERE meter_id = %s ORDER BY at DESC LIMIT 1", [meter_id]
    ).fetchone()
    return None if row is None else float(row[0])


def last_corrections(conn: Connection, meter_ids: Sequence[int] | None) -> dict[int, tuple[datetime, float]]:
    """When each clock was moved last, and by how many seconds; None: all meters."""
    rows = conn.execute(
        "SELECT DISTINCT ON (meter_id) meter_id, at, step_s FROM clock_correction "
        "WHERE method <> 'none' AND (%(ids)s::bigint[] IS NULL OR meter_id = ANY(%(ids)s)) "
        "ORDER BY meter_id, at DESC",
        {"ids": None if meter_ids is None else list(meter_ids)},
    )
    return {meter_id: (at, float(step_s)) for meter_id, at, step_s in rows}


def observations(
    conn: Connection, now: datetime, most: int, meter_ids: Sequence[int] | None
) -> list[tuple[int, datetime, float]]:
    """`(meter_id, at, drift_s)` of the last 400 days, at most so many a meter, in order of meter and time."""
    rows = conn.execute(
        "SELECT m.id, o.at, o.drift_s FROM meter m CROSS JOIN LATERAL ("
        "SELECT at, drift_s FROM clock_observation WHERE meter_id = m.id "
        "AND at > %(now)s - interval '400 days' ORDER BY at DESC LIMIT %(most)s) o "
        "WHERE %(ids)s::bigint[] IS NULL OR m.id = ANY(%(ids)s) ORDER BY m.id, o.at",
        {"ids": None if meter_ids is None else list(meter_ids), "now": now, "most": most},
    )
    return [(meter_id, at, float(drift_s)) for meter_id, at, drift_s in rows]


def installed_meters(conn: Connection, meter_ids: Sequence[int] | None) -> list[tuple[int, str, str]]:
    """`(meter_id, serial, code of the UC)` of each meter's newest installation; None: all meters."""
    rows = conn.execute(
        "SELECT DISTINCT ON (m.id) m.id, m.serial, u.code FROM meter m "
        "JOIN installation i ON i.meter_id = m.id JOIN point p ON p.id = i.point_id "
        "JOIN uc u ON u.id = p.uc_id "
        "WHERE (%(ids)s::bigint[] IS NULL OR m.id = ANY(%(ids)s)) "
        "ORDER BY m.id, lower(i.valid) DESC NULLS LAST",
        {"ids": None if meter_ids is None else list(meter_ids)},
    )
    return list(rows)
