"""The queue of work between portal, Dagster and collectors: rows of `job_request`.

A worker claims a row for a lease and renews it while it works. A worker that dies stops renewing, and the
row is free again; so work is done at least once, and what it does must bear repetition (merging readings
does). Times are the server's, the one clock that all workers share.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from faults import Fault
from storage.database import Database

# NOTIFY channel: a request was queued.
CHANNEL = "smf_job_request"


class Priority(IntEnum):
    """Lower is served first: a person waits for the first, the closing for the second."""

    ON_DEMAND = 10
    RECOVERY = 50
    ROUTINE = 100


@dataclass(frozen=True)
class JobRequest:
    """Work asked for.

    Attributes:
        kind: read, command or export.
        dedup_key: while a request with this key is open, another one is not queued.
        priority: lower first; see `Priority`.
        not_before: earliest start; None: now.
    """

    kind: str
    requested_by: str
    meter_id: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    dedup_key: str | None = None
    priority: int = Priority.ROUTINE
    not_before: dt.datetime | None = None
    max_attempts: int = 5
    approved_by: str | None = None


@dataclass(frozen=True)
class Job:
    """A claimed request. `attempts` counts this one."""

    id: int
    kind: str
    priority: int
    meter_id: int | None
    parameters: dict[str, Any]
    dedup_key: str | None
    requested_by: str
    attempts: int
    max_attempts: int
    lease_until: dt.datetime


def enqueue(conn: psycopg.Connection[Any], request: JobRequest) -> int:
    """Queue a request; returns its id, or that of the open one with the same `dedup_key`."""
    while True:
        if ids := enqueue_many(conn, [request]):
            return ids[0]
        found = conn.execute(
            "SELECT id FROM job_request WHERE dedup_key = %s AND state IN ('queued', 'running')",
            [request.dedup_key],
        ).fetchone()
        if found is not None:  # else it was finished in between, and ours can be queued
            return int(found[0])


def enqueue_many(conn: psycopg.Connection[Any], requests: Sequence[JobRequest]) -> list[int]:
    """Queue requests in one statement; returns the ids of those that were new."""
    if not requests:
        return []
    rows = conn.execute(
        "INSERT INTO job_request (kind, requested_by, meter_id, parameters, dedup_key, priority, not_before, "
        "max_attempts, approved_by) "
        "SELECT kind, requested_by, meter_id, parameters, dedup_key, priority, coalesce(not_before, now()), "
        "max_attempts, approved_by "
        "FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::jsonb[], %s::text[], %s::smallint[], "
        "%s::timestamptz[], %s::int[], %s::text[]) AS r (kind, requested_by, meter_id, parameters, "
        "dedup_key, priority, not_before, max_attempts, approved_by) "
        "ON CONFLICT (dedup_key) WHERE state IN ('queued', 'running') DO NOTHING RETURNING id",
        [
            [r.kind for r in requests],
            [r.requested_by for r in requests],
            [r.meter_id for r in requests],
            [Jsonb(dict(r.parameters)) for r in requests],
            [r.dedup_key for r in requests],
            [r.priority for r in requests],
            [r.not_before for r in requests],
            [r.max_attempts for r in requests],
            [r.approved_by for r in requests],
        ],
    ).fetchall()
    if rows:
        # Heard by listeners when the transaction commits.
        conn.execute("SELECT pg_notify(%s, '')", [CHANNEL])
    return [int(number) for (number,) in rows]


def claim(
    conn: psycopg.Connection[Any],
    worker: str,
    *,
    limit: int,
    lease_s: float,
    kinds: Sequence[str] = ("read",),
    only: Sequence[int] | None = None,
) -> list[Job]:
    """Take up to `limit` requests that are due, most urgent first, each for one worker only.

    Args:
        only: nothing but these requests, for a worker that was started for them.
    """
    with conn.cursor(row_factory=class_row(Job)) as cursor:
        cursor.execute(
            "UPDATE job_request j SET state = 'running', claimed_by = %(worker)s, attempts = attempts + 1, "
            "lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s), error = NULL "
            "FROM (SELECT id FROM job_request WHERE state = 'queued' AND not_before <= clock_timestamp() "
            "AND kind = ANY(%(kinds)s) AND (%(only)s::bigint[] IS NULL OR id = ANY(%(only)s)) "
            "ORDER BY priority, not_before, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED) due "
            "WHERE j.id = due.id RETURNING j.id, j.kind, j.priority, j.meter_id, j.parameters, j.dedup_key, "
            "j.requested_by, j.attempts, j.max_attempts, j.lease_until",
            {
                "worker": worker,
                "lease_s": lease_s,
                "kinds": list(kinds),
                "limit": limit,
                "only": None if only is None else list(only),
            },
        )
        return sorted(cursor.fetchall(), key=lambda job: (job.priority, job.id))


def renew(conn: psycopg.Connection[Any], worker: str, job_ids: Sequence[int], lease_s: float) -> set[int]:
    """Hold claims for longer; returns those still held (the others were lost: stop working on them)."""
    rows = conn.execute(
        "UPDATE job_request SET lease_until = clock_timestamp() + make_interval(secs => %s) "
        "WHERE id = ANY(%s) AND claimed_by = %s AND state = 'running' RETURNING id",
        [lease_s, list(job_ids), worker],
    )
    return {int(number) for (number,) in rows}


def finish(
    conn: psycopg.Connection[Any], worker: str, job_id: int, result: Mapping[str, Any] | None = None
) -> bool:
    """Mark done. False: the claim was lost meanwhile, and whoever has it now decides."""
    return _end(
        conn,
        worker,
        job_id,
        "state = 'done', finished_at = clock_timestamp(), result = %(result)s",
        {"result": Jsonb(dict(result or {}))},
    )


def fail(
    conn: psycopg.Connection[Any],
    worker: str,
    job_id: int,
    error: Fault,
    *,
    stage: str = "",
    retry_after_s: float | None = None,
) -> bool:
    """Record why it failed. With `retry_after_s` it is queued again unless its attempts are used up.

    Returns:
        False: the claim was lost meanwhile.
    """
    told = {
        "actor": error.actor.value,
        "stage": stage,
        "message": error.message,
        "where": error.where,
        "remedy": error.remedy,
    }
    if retry_after_s is None:
        return _end(
            conn,
            worker,
            job_id,
            "state = 'failed', finished_at = clock_timestamp(), error = %(error)s",
            {"error": Jsonb(told)},
        )
    return _end(
        conn,
        worker,
        job_id,
        "state = CASE WHEN attempts < max_attempts THEN 'queued' ELSE 'failed' END, error = %(error)s, "
        "finished_at = CASE WHEN attempts < max_attempts THEN NULL ELSE clock_timestamp() END, "
        "not_before = clock_timestamp() + make_interval(secs => %(retry_after_s)s)",
        {"error": Jsonb(told), "retry_after_s": retry_after_s},
    )


def backoff_s(attempts: int, base_s: float, max_s: float) -> float:
    """Wait before the next try: doubles with each attempt made (1 is the first), up to a limit."""
    return float(min(max_s, base_s * 2 ** min(attempts - 1, 30)))


def release(conn: psycopg.Connection[Any], worker: str, job_ids: Sequence[int], after_s: float) -> int:
    """Give claims back untried: queued again, due after a while, the attempt not counted."""
    return conn.execute(
        "UPDATE job_request SET state = 'queued', attempts = attempts - 1, claimed_by = NULL, "
        "lease_until = NULL, not_before = clock_timestamp() + make_interval(secs => %s) "
        "WHERE id = ANY(%s) AND claimed_by = %s AND state = 'running'",
        [after_s, list(job_ids), worker],
    ).rowcount


def release_expired(
    conn: psycopg.Connection[Any], dead: Sequence[str] = (), deadly: Sequence[int] = ()
) -> int:
    """Free the claims of workers that died: queued again, or failed when their attempts are used up.

    Args:
        dead: workers known to be gone: their leases need not run out first, and the attempt is not counted,
            since a worker that was killed says nothing about the request.
        deadly: requests whose workers died so often that they may be the reason: failed.
    """
    told = {
        "actor": "retry",
        "stage": "lease",
        "message": "the worker stopped renewing its claim",
        "where": "",
        "remedy": "",
    }
    return conn.execute(
        "UPDATE job_request j SET state = CASE WHEN f.again THEN 'queued' ELSE 'failed' END, "
        "finished_at = CASE WHEN f.again THEN NULL ELSE clock_timestamp() END, "
        "attempts = j.attempts - f.killed::int, claimed_by = NULL, lease_until = NULL, error = %(told)s "
        "FROM (SELECT id, claimed_by = ANY(%(dead)s) AS killed, id <> ALL(%(deadly)s) "
        "AND (attempts < max_attempts OR claimed_by = ANY(%(dead)s)) AS again "
        "FROM job_request WHERE state = 'running' "
        "AND (lease_until < clock_timestamp() OR claimed_by = ANY(%(dead)s)) FOR UPDATE SKIP LOCKED) f "
        "WHERE j.id = f.id",
        {"told": Jsonb(told), "dead": list(dead), "deadly": list(deadly)},
    ).rowcount


@contextmanager
def listen(db: Database) -> Iterator[psycopg.Connection[Any]]:
    """A connection that hears when work is queued; see `wait`."""
    with db.connect(autocommit=True) as conn:
        conn.execute(f"LISTEN {CHANNEL}")
        yield conn


def wait(conn: psycopg.Connection[Any], timeout_s: float) -> bool:
    """Wait on a connection of `listen` until work is queued (True) or the time is over (False)."""
    return any(True for _ in conn.notifies(timeout=timeout_s, stop_after=1))


def _end(
    conn: psycopg.Connection[Any], worker: str, job_id: int, change: str, parameters: Mapping[str, Any]
) -> bool:
    done = conn.execute(
        f"UPDATE job_request SET {change}, claimed_by = NULL, lease_until = NULL "
        "WHERE id = %(id)s AND claimed_by = %(worker)s AND state = 'running'",
        {**parameters, "id": job_id, "worker": worker},
    )
    return done.rowcount == 1
