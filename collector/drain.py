"""Run the queue until given requests are answered: for Dagster's asset, the demo, the command line.

The same collector as the service, in the caller's event loop. Where a service runs on the same queue, the two
share the work and this only waits for what the other took.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from collector.batching import Connection, Worker
from collector.service import Collector
from collector.streams.reader import stream_status
from storage.database import Database

_LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class Progress:
    """Requests by state, and the traffic so far."""

    total: int
    done: int
    failed: int
    running: int
    waiting_for_retry: int
    frames: int


@dataclass(frozen=True, slots=True)
class ReadSummary:
    """What became of one request.

    Attributes:
        state: done, failed, cancelled; queued or running when the deadline came first.
        actor: who must act when it failed (faults.Actor), else None.
        bytes_sent, bytes_received: of all its sessions. days_changed: days in which something new came.
        exhausted_days: days that the meter does not hold completely.
    """

    request_id: int
    meter_id: int
    serial: str
    state: str
    attempts: int
    sessions: int
    outcome: str
    actor: str | None
    stage: str
    message: str
    where: str
    remedy: str
    bytes_sent: int
    bytes_received: int
    blocks: int
    drift_s: float | None
    days_changed: tuple[date, ...]
    exhausted_days: tuple[date, ...]


async def drain(
    db: Database,
    request_ids: Sequence[int],
    now: Callable[[], datetime],
    progress: Callable[[Progress], None] | None = None,
    deadline_s: float | None = None,
    rng: random.Random | None = None,
) -> list[ReadSummary]:
    """Work until none of the requests is open, or the deadline; back-off between tries is waited for.

    Args:
        now: reference time of the reads.
        deadline_s: from now, real seconds; None: no limit but the attempts of each request.

    Returns:
        One summary per request, in order of request id.
    """
    if not request_ids:
        return []
    ids = sorted(request_ids)
    stop = asyncio.Event()
    collector = Collector(db, now=now, only=ids, rng=rng)
    work = asyncio.create_task(collector.run(stop))
    look = Worker(db, "collector-drain")
    loop = asyncio.get_running_loop()
    until_s = None if deadline_s is None else loop.time() + deadline_s
    try:
        while not work.done():
            seen = await look.call(_progress, ids, collector.frames)
            if progress is not None:
                progress(seen)
            if seen.done + seen.failed == seen.total or (until_s is not None and loop.time() >= until_s):
                break
            await asyncio.wait([work], timeout=_LOOK_S)
        stop.set()
        await work
        return await look.call(summaries, ids)
    finally:
        work.cancel()
        look.close()


def _progress(conn: Connection, request_ids: list[int], frames: int) -> Progress:
    rows = conn.execute(
        "SELECT state, count(*), count(*) FILTER (WHERE not_before > clock_timestamp()) FROM job_request "
        "WHERE id = ANY(%s) GROUP BY state",
        [request_ids],
    ).fetchall()
    count = {state: number for state, number, _ in rows}
    return Progress(
        total=sum(count.values()),
        done=count.get("done", 0),
        failed=count.get("failed", 0) + count.get("cancelled", 0),
        running=count.get("running", 0),
        waiting_for_retry=sum(waiting for state, _, waiting in rows if state == "queued"),
        frames=frames,
    )


def summaries(conn: Connection, request_ids: Sequence[int]) -> list[ReadSummary]:
    """What became of read requests, with the traffic of all their sessions."""
    rows = conn.execute(
        "SELECT j.id, j.meter_id, m.serial, j.state, j.attempts, coalesce(j.result, '{}'), "
        "coalesce(j.error, '{}'), count(s.id), coalesce(sum(s.bytes_sent), 0), "
        "coalesce(sum(s.bytes_received), 0) FROM job_request j JOIN meter m ON m.id = j.meter_id "
        "LEFT JOIN session s ON s.request_id = j.id WHERE j.id = ANY(%s) "
        "GROUP BY j.id, m.serial ORDER BY j.id",
        [list(request_ids)],
    )
    return [_summary(*row) for row in rows]


def _summary(
    request_id: int,
    meter_id: int,
    serial: str,
    state: str,
    attempts: int,
    result: dict[str, Any],
    error: dict[str, Any],
    sessions: int,
    bytes_sent: Any,
    bytes_received: Any,
) -> ReadSummary:
    failed = state != "done"
    return ReadSummary(
        request_id=request_id,
        meter_id=meter_id,
        serial=serial,
        state=state,
        attempts=attempts,
        sessions=sessions,
        outcome=result.get("outcome", ""),
        actor=error.get("actor") if failed else None,
        stage=error.get("stage", "") if failed else "",
        message=error.get("message", "") if failed else "",
        where=error.get("where", "") if failed else "",
        remedy=error.get("remedy", "") if failed else "",
        bytes_sent=int(bytes_sent),
        bytes_received=int(bytes_received),
        blocks=result.get("blocks", 0),
        drift_s=result.get("drift_s"),
        days_changed=_dates(result.get("days_changed")),
        exhausted_days=_dates(result.get("exhausted_days")),
    )


def _dates(texts: list[str] | None) -> tuple[date, ...]:
    return tuple(date.fromisoformat(text) for text in texts or ())


def status(conn: Connection) -> dict[str, list[dict[str, Any]]]:
    """Queue, collectors and sessions as a person asks for them."""
    queries = {
        "queue": "SELECT state, priority, count(*), min(not_before) AS next, sum(attempts) AS attempts "
        "FROM job_request WHERE kind = 'read' GROUP BY state, priority ORDER BY state, priority",
        "collectors_at_work": "SELECT claimed_by AS collector, count(*) AS claims, "
        "min(lease_until) AS lease_until FROM job_request "
        "WHERE state = 'running' AND kind = 'read' GROUP BY claimed_by ORDER BY claimed_by",
        "sessions_of_the_last_24_h": "SELECT outcome, failed_stage, count(*), "
        "sum(bytes_sent + bytes_received) AS octets, max(abs(drift_s)) AS largest_drift_s FROM session "
        "WHERE started_at > now() - interval '24 hours' GROUP BY outcome, failed_stage ORDER BY 1, 2",
        "quarantine": "SELECT stage, reason, count(*), max(at) AS latest FROM quarantine "
        "WHERE stage IN ('frame', 'decode', 'merge') GROUP BY stage, reason ORDER BY max(at) DESC LIMIT 10",
    }
    found = {}
    for name, text in queries.items():
        cursor = conn.execute(text)
        names = [column.name for column in cursor.description or ()]
        found[name] = [dict(zip(names, row, strict=True)) for row in cursor]
    return found | {"streams": stream_status(conn)}
