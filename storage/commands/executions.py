"""What was sent to a meter and what it came to: `command_execution`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

Connection = psycopg.Connection[Any]
Values = Mapping[str, Any]


def record_writing(
    conn: Connection, request_id: int, session_id: int, before: Values, frame: bytes, detail: Values
) -> None:
    """Put a write on record; the caller commits before it is sent."""
    conn.execute(
        "INSERT INTO command_execution (request_id, session_id, step, before, frames, detail) "
        "VALUES (%s, %s, 'writing', %s, %s, %s)",
        [request_id, session_id, Jsonb(dict(before)), [frame], Jsonb(dict(detail))],
    )


def record_verdict(
    conn: Connection,
    request_id: int,
    session_id: int,
    before: Values,
    after: Values,
    verdict: str,
    detail: Values,
) -> None:
    """Put on record what a command came to."""
    conn.execute(
        "INSERT INTO command_execution (request_id, session_id, step, before, after, verdict, detail) "
        "VALUES (%s, %s, 'verdict', %s, %s, %s, %s)",
        [request_id, session_id, Jsonb(dict(before)), Jsonb(dict(after)), verdict, Jsonb(dict(detail))],
    )


def pending(conn: Connection, request_ids: Sequence[int]) -> dict[int, tuple[dict[str, Any], dict[str, Any]]]:
    """The last write of each request that no verdict has followed: request to `(before, detail)`."""
    rows = conn.execute(
        "SELECT DISTINCT ON (w.request_id) w.request_id, w.before, w.detail FROM command_execution w "
        "WHERE w.request_id = ANY(%s) AND w.step = 'writing' AND NOT EXISTS (SELECT FROM command_execution v "
        "WHERE v.request_id = w.request_id AND v.step = 'verdict') ORDER BY w.request_id, w.id DESC",
        [list(request_ids)],
    )
    return {request_id: (before or {}, detail) for request_id, before, detail in rows}


def frames_written(conn: Connection, request_id: int) -> list[str]:
    """The frames of a request's writes, hexadecimal, in the order in which they were put on record."""
    row = conn.execute(
        "SELECT coalesce(array_agg(encode(f, 'hex') ORDER BY e.id), '{}') FROM command_execution e, "
        "unnest(e.frames) AS f WHERE e.request_id = %s",
        [request_id],
    ).fetchone()
    return [] if row is None else list(row[0])


def was_refused(conn: Connection, meter_id: int, command: str, since: datetime) -> bool:
    """Whether the meter itself, by its answer, refused a command that was asked for since then."""
    row = conn.execute(
        "SELECT EXISTS (SELECT FROM command_request c JOIN job_request j ON j.id = c.request_id "
        "JOIN command_execution e ON e.request_id = c.request_id WHERE j.meter_id = %s "
        "AND c.command = %s AND c.requested_at > %s AND e.verdict = 'refused' AND e.detail ? 'answer')",
        [meter_id, command, since],
    ).fetchone()
    return row == (True,)
