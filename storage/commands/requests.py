"""Requests for commands and the word of the second person: `command_request`, `command_approval`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from storage import queue
from storage.queue import Priority

Connection = psycopg.Connection[Any]

_CLAIMABLE_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A request as the policy let it pass.

    Attributes:
        not_before: earliest start; None: now.
        preview, policy: what the person saw and what was decided, as JSON values.
    """

    person: str
    role: str
    meter_id: int
    command: str
    values: Mapping[str, Any]
    reason: str
    preview: Mapping[str, Any]
    policy: Mapping[str, Any]
    needs_approval: bool
    not_before: datetime | None
    dedup_key: str | None


def add(conn: Connection, new: NewRequest, at: datetime) -> int:
    """Write a request with its place in the queue; collectors hear of it unless it waits for approval."""
    row = conn.execute(
        "INSERT INTO job_request (kind, requested_by, meter_id, parameters, dedup_key, priority, not_before, "
        "max_attempts, state) VALUES ('command', %s, %s, %s, %s, %s, coalesce(%s, now()), %s, %s) "
        "RETURNING id",
        [
            new.person,
            new.meter_id,
            Jsonb({"command": new.command, "values": dict(new.values)}),
            new.dedup_key,
            int(Priority.ON_DEMAND),
            new.not_before,
            _CLAIMABLE_ATTEMPTS,
            "awaiting_approval" if new.needs_approval else "queued",
        ],
    ).fetchone()
    assert row is not None
    request_id = int(row[0])
    preview, policy = Jsonb(dict(new.preview)), Jsonb(dict(new.policy))
    conn.execute(
        "INSERT INTO command_request (request_id, command, reason, role, preview, policy, requested_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s)",
        [request_id, new.command, new.reason, new.role, preview, policy, at],
    )
    if not new.needs_approval:
        conn.execute("SELECT pg_notify(%s, '')", [queue.CHANNEL])
    return request_id


def open_request(conn: Connection, dedup_key: str) -> int | None:
    """The request with this key that has not ended, if there is one."""
    row = conn.execute(
        "SELECT id FROM job_request WHERE dedup_key = %s "
        "AND state IN ('awaiting_approval', 'queued', 'running')",
        [dedup_key],
    ).fetchone()
    return None if row is None else int(row[0])


def count_since(conn: Connection, meter_id: int, command: str, since: datetime) -> int:
    """How often a command was asked for since then, the cancelled left out."""
    # One lock for all requests of a meter, so that two that come at once are both counted.
    conn.execute("SELECT id FROM meter WHERE id = %s FOR UPDATE", [meter_id])
    row = conn.execute(
        "SELECT count(*) FROM command_request c JOIN job_request j ON j.id = c.request_id "
        "WHERE j.meter_id = %s AND c.command = %s AND c.requested_at >= %s AND j.state <> 'cancelled'",
        [meter_id, command, since],
    ).fetchone()
    return 0 if row is None else int(row[0])


@dataclass(frozen=True, slots=True)
class Standing:
    """A request and where it stands in the queue."""

    command: str
    reason: str
    requested_by: str
    state: str


def standing(conn: Connection, request_id: int, *, lock: bool = False) -> Standing | None:
    """A request as it stands; `lock` holds its place in the queue until the transaction ends."""
    row = conn.execute(
        "SELECT c.command, c.reason, j.requested_by, j.state FROM command_request c JOIN job_request j "
        "ON j.id = c.request_id WHERE c.request_id = %s" + (" FOR UPDATE OF j" if lock else ""),
        [request_id],
    ).fetchone()
    return None if row is None else Standing(*row)


def add_approval(
    conn: Connection, request_id: int, person: str, role: str, *, is_approved: bool, note: str
) -> None:
    """Write the second person's word; the database queues the request by it, or cancels it."""
    conn.execute(
        "INSERT INTO command_approval (request_id, person, role, is_approved, note) "
        "VALUES (%s, %s, %s, %s, %s)",
        [request_id, person, role, is_approved, note],
    )


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claimed row of the queue rests on.

    Attributes:
        is_same: the queue names the command that was asked for; False or None: it came some other way.
        policy: what was decided when it was asked for; None with `is_same` None.
        is_approved: a second person, not the one who asked, approved it.
    """

    request_id: int
    is_same: bool | None
    command: str | None
    policy: Mapping[str, Any] | None
    is_approved: bool


def claims(conn: Connection, request_ids: Sequence[int]) -> list[Claim]:
    """What each of these rows of the queue rests on, those that no request stands behind as well."""
    rows = conn.execute(
        "SELECT j.id, c.command = (j.parameters ->> 'command'), c.command, c.policy, "
        "EXISTS (SELECT FROM command_approval a WHERE a.request_id = j.id AND a.is_approved "
        "AND a.person = j.approved_by AND a.person <> j.requested_by) FROM job_request j "
        "LEFT JOIN command_request c ON c.request_id = j.id WHERE j.id = ANY(%s)",
        [list(request_ids)],
    )
    return [Claim(*row) for row in rows]


def status(conn: Connection, *, request_id: int | None = None, limit: int = 20) -> list[dict[str, Any]]:
    """Requests as a person asks for them, the latest first: rows of the view `command_status`."""
    cursor = conn.execute(
        "SELECT * FROM command_status WHERE %(id)s::bigint IS NULL OR request_id = %(id)s "
        "ORDER BY request_id DESC LIMIT %(limit)s",
        {"id": request_id, "limit": limit},
    )
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor]
