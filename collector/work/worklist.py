"""What there is to do, by registry, stored readings and queue: targets, goals, reads that are missing or due.

Adapters around `planning`: each function asks the database in batches and leaves the deciding to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from typing import Any

import psycopg

from collector.commands.steps import CommandWork
from collector.decoded import Decoded
from collector.nbr14522.further_groups import gaps_of_further_groups, present_of_further_groups
from collector.work.planning import (
    Goal,
    InstalledMeter,
    MeterDay,
    PlannedRead,
    ScheduleKind,
    SequenceName,
    day_spans,
    joined,
    plan_reads,
)
from faults import Fault, OperatorFault
from faults.market_time import to_local
from protocols.nbr14522.frames import NOT_IMPLEMENTED
from protocols.table import unasked_profiles
from storage import queue, sessions
from storage.database import Database
from storage.queue import Priority
from storage.settings import Settings

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Target:
    """A meter and the way to it, by the registry at the time of planning."""

    meter_id: int
    serial: str
    profile: str
    interval_s: int
    active_channel: int
    unit_id: int | None
    url: str | None
    cell: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """A claimed request. `fault`: why it cannot be carried out.

    `goal`: of a read; None: nothing is missing. `command`: of a command, which has no goal.
    """

    request_id: int
    meter_id: int
    priority: int
    attempts: int
    days: tuple[date, ...]
    target: Target | None = None
    goal: Goal | None = None
    fault: Fault | None = None
    command: CommandWork | None = None
    is_last_attempt: bool = False


def targets(conn: Connection, meter_ids: Sequence[int]) -> dict[int, Target]:
    """The latest installation of each meter."""
    rows = conn.execute(
        "SELECT DISTINCT ON (m.id) m.id, m.serial, mm.profile, i.interval_s, i.active_channel, i.unit_id, "
        "u.url, coalesce(u.cell, '') FROM meter m JOIN meter_model mm ON mm.id = m.model_id "
        "JOIN installation i ON i.meter_id = m.id LEFT JOIN unit u ON u.id = i.unit_id "
        "WHERE m.id = ANY(%s) ORDER BY m.id, lower(i.valid) DESC NULLS LAST",
        [list(meter_ids)],
    )
    return {row[0]: Target(*row) for row in rows}


def assign(
    conn: Connection, claimed: Sequence[queue.Job], settings: Settings, now: datetime
) -> list[Assignment]:
    """What each claimed request means now: the target, and what of its days is still missing."""
    meter_ids = [job.meter_id for job in claimed if job.meter_id is not None]
    known = targets(conn, meter_ids)
    absent = _absent_commands(conn, meter_ids)
    days = sorted({day for job in claimed for day in _days(job.parameters)})
    present = _present(conn, meter_ids, days) if days else {}
    further = present_of_further_groups(conn, meter_ids, days)
    busy_today = _read_today(conn, meter_ids, settings, now)
    zone = settings.market.tzinfo
    assignments = []
    for job in claimed:
        wanted = _days(job.parameters)
        blank = Assignment(job.id, job.meter_id or 0, job.priority, job.attempts, wanted)
        target = known.get(job.meter_id or 0)
        try:
            name = SequenceName(job.parameters.get("sequence", SequenceName.MISSING))
        except ValueError as error:
            fault = OperatorFault(str(error), where=f"request {job.id}", remedy="ask for a known sequence")
            assignments.append(replace(blank, fault=fault))
            continue
        if target is None or target.url is None:
            assignments.append(replace(blank, fault=unreachable(job.meter_id, target)))
            continue
        local = to_local(now, zone)
        spans = tuple(
            span
            for day in wanted
            for span in day_spans(day, target.interval_s, present.get((target.meter_id, day)), local)
        )
        lacking = gaps_of_further_groups(further, target.meter_id, target.interval_s, wanted, local)
        goal = Goal(
            sequence=name,
            spans=joined(sorted({*spans, *lacking}, key=lambda span: span.first_end), target.interval_s),
            with_records=target.meter_id not in busy_today,
            with_all_groups=bool(lacking),
            absent=absent.get(target.meter_id, frozenset()),
            asked_at=local,
        )
        nothing_to_do = name is SequenceName.MISSING and not goal.spans
        assignments.append(replace(blank, target=target, goal=None if nothing_to_do else goal))
    return assignments


def unreachable(meter_id: int | None, target: Target | None) -> OperatorFault:
    """Why there is no way to a meter."""
    message = "the meter has no installation" if target is None else "its installation has no telemetry unit"
    serial = target.serial if target else str(meter_id)
    return OperatorFault(message, where=f"meter {serial}", remedy="complete the registry and import it again")


def _days(parameters: dict[str, Any]) -> tuple[date, ...]:
    return tuple(sorted(date.fromisoformat(day) for day in parameters.get("days", [])))


def _absent_commands(conn: Connection, meter_ids: Sequence[int]) -> dict[int, frozenset[int]]:
    rows = conn.execute(
        "SELECT meter_id, array_agg(DISTINCT code) FROM meter_parameters, "
        "jsonb_array_elements_text(values -> 'not_implemented') AS code "
        "WHERE command = %s AND meter_id = ANY(%s) GROUP BY meter_id",
        [NOT_IMPLEMENTED, list(meter_ids)],
    )
    return {meter_id: frozenset(int(code, 16) for code in codes) for meter_id, codes in rows}


def _present(
    conn: Connection, meter_ids: Sequence[int], days: Sequence[date]
) -> dict[tuple[int, date], list[bool]]:
    """Per meter and day, which slots of the active channel are there."""
    cursor = conn.cursor(binary=True)
    cursor.execute(
        # Nearly all days are whole: their values need not be sent to know that.
        "SELECT DISTINCT ON (r.meter_id, r.day) r.meter_id, r.day, cardinality(r.pulses), "
        "CASE WHEN array_position(r.pulses, NULL) IS NOT NULL THEN r.pulses END FROM reading_day r "
        "JOIN installation i ON i.meter_id = r.meter_id AND i.active_channel = r.channel "
        "WHERE r.meter_id = ANY(%s) AND r.day = ANY(%s) AND r.day BETWEEN %s AND %s "
        "ORDER BY r.meter_id, r.day, r.version DESC",
        [list(meter_ids), list(days), min(days), max(days)],
    )
    found = {
        (meter_id, day): [True] * slots if pulses is None else [value is not None for value in pulses]
        for meter_id, day, slots, pulses in cursor
    }
    for (meter_id, day), held in _held(conn, meter_ids, days).items():
        known = found.setdefault((meter_id, day), [False] * len(held))
        if len(known) == len(held):
            found[meter_id, day] = [a or b for a, b in zip(known, held, strict=True)]
    return found


def _held(
    conn: Connection, meter_ids: Sequence[int], days: Sequence[date]
) -> dict[tuple[int, date], list[bool]]:
    """Slots of the active channel that wait for a person: the meter would say the same again.

    Not so where its clock is the matter: once that is right, another reading brings them under their times.
    """
    rows = conn.execute(
        "SELECT h.meter_id, h.day, h.pulses FROM reading_hold h JOIN installation i "
        "ON i.meter_id = h.meter_id AND i.active_channel = h.channel AND i.interval_s = h.interval_s "
        "WHERE h.state = 'held' AND h.reason NOT IN ('clock', 'future') AND h.meter_id = ANY(%s) "
        "AND h.day = ANY(%s)",
        [list(meter_ids), list(days)],
    )
    found: dict[tuple[int, date], list[bool]] = {}
    for meter_id, day, pulses in rows:
        known = found.setdefault((meter_id, day), [False] * len(pulses))
        found[meter_id, day] = [a or value is not None for a, value in zip(known, pulses, strict=True)]
    return found


def _read_today(conn: Connection, meter_ids: Sequence[int], settings: Settings, now: datetime) -> set[int]:
    """Meters that had a complete session today: their records are fresh enough."""
    midnight = datetime.combine(
        to_local(now, settings.market.tzinfo).date(), time.min, settings.market.tzinfo
    )
    return sessions.meters_complete_since(conn, meter_ids, midnight)


def installed_meters(conn: Connection, at: datetime, settings: Settings) -> list[InstalledMeter]:
    """Installations of today and the schedule of their points; a point without one is read daily."""
    zone = settings.market.tzinfo
    rows = conn.execute(
        "SELECT i.meter_id, p.code, coalesce(ps.kind, 'daily'), i.interval_s, lower(i.valid), "
        "upper(i.valid), i.unit_id IS NOT NULL AND mm.profile <> ALL(%s) FROM installation i "
        "JOIN point p ON p.id = i.point_id "
        "JOIN meter m ON m.id = i.meter_id JOIN meter_model mm ON mm.id = m.model_id "
        "LEFT JOIN point_schedule ps ON ps.point_id = p.id AND ps.valid @> %s::date "
        "ORDER BY i.meter_id",
        # Who speaks by itself is not asked: `streams` listens.
        [unasked_profiles(), to_local(at, zone).date()],
    )
    return [
        InstalledMeter(
            meter_id=meter_id,
            point_code=code,
            schedule=ScheduleKind(kind),
            interval_s=interval_s,
            valid_from=to_local(lower, zone) if lower else None,
            valid_to=to_local(upper, zone) if upper else None,
            is_reachable=is_reachable,
        )
        for meter_id, code, kind, interval_s, lower, upper, is_reachable in rows
    ]


def known_days(conn: Connection, days: Sequence[date]) -> dict[tuple[int, date], MeterDay]:
    """What is present of these days, by meter, on the channel that carries active energy."""
    if not days:
        return {}
    wanted = list(days)
    present = conn.execute(
        "SELECT DISTINCT ON (r.meter_id, r.day) r.meter_id, r.day, cardinality(array_remove(r.pulses, NULL)) "
        "FROM reading_day r JOIN installation i ON i.meter_id = r.meter_id AND i.active_channel = r.channel "
        "WHERE r.day = ANY(%s) AND r.day BETWEEN %s AND %s ORDER BY r.meter_id, r.day, r.version DESC",
        [wanted, min(wanted), max(wanted)],
    )
    found = {(meter_id, day): (slots, False) for meter_id, day, slots in present}
    meters = [
        row[0] for row in conn.execute("SELECT DISTINCT meter_id FROM reading_hold WHERE state = 'held'")
    ]
    for (meter_id, day), held in _held(conn, meters, wanted).items():
        slots, is_exhausted = found.get((meter_id, day), (0, False))
        found[meter_id, day] = (min(len(held), slots + sum(held)), is_exhausted)
    exhausted = conn.execute(
        "SELECT DISTINCT meter_id, day::date FROM job_request, "
        "jsonb_array_elements_text(result -> 'exhausted_days') AS day "
        "WHERE result ? 'exhausted_days' AND day::date = ANY(%s)",
        [wanted],
    )
    installed = [row[0] for row in conn.execute("SELECT meter_id FROM installation WHERE upper_inf(valid)")]
    for (meter_id, day), groups in present_of_further_groups(conn, installed, wanted).items():
        least = min(sum(slots_of) if slots_of else 0 for slots_of in groups)
        known_slots, is_exhausted = found.get((meter_id, day), (0, False))
        found[meter_id, day] = (min(known_slots, least), is_exhausted)
    for key in exhausted:
        found[key] = (found.get(key, (0, False))[0], True)
    return {key: MeterDay(slots, is_exhausted) for key, (slots, is_exhausted) in found.items()}


def exhausted_days(
    conn: Connection,
    decoded: Decoded,
    target: Target,
    days: Sequence[date],
    now: datetime,
    settings: Settings,
) -> list[date]:
    """Days that a complete session left unfinished though the meter has closed them: it lacks them."""
    last_end = decoded.last_end
    local = to_local(now, settings.market.tzinfo)
    closed = [
        day for day in days if datetime.combine(day, time.min) + timedelta(days=1) <= (last_end or local)
    ]
    if not closed:
        return []
    present = _present(conn, [target.meter_id], closed)
    further = present_of_further_groups(conn, [target.meter_id], closed)
    return [
        day
        for day in closed
        if day_spans(day, target.interval_s, present.get((target.meter_id, day)), local)
        or gaps_of_further_groups(further, target.meter_id, target.interval_s, [day], local)
    ]


def request_missing(
    db: Database,
    days: Sequence[date],
    now: datetime,
    requested_by: str,
    priority: Priority = Priority.RECOVERY,
) -> list[int]:
    """Queue a read for each installed meter that lacks intervals of these days; ids of the open requests.

    Args:
        now: reference time: what has not ended by then is not expected. Asked again, it queues nothing twice.
    """
    local = to_local(now, db.settings.market.tzinfo)
    with db.connect() as conn:
        planned = plan_reads(
            installed_meters(conn, now, db.settings), known_days(conn, days), days, local, priority
        )
        return enqueue_reads(conn, planned, requested_by)


def enqueue_reads(conn: Connection, planned: Sequence[PlannedRead], requested_by: str) -> list[int]:
    """Queue planned reads; ids of the open requests for them, new or not."""
    queue.enqueue_many(
        conn,
        [
            queue.JobRequest(
                kind="read",
                requested_by=requested_by,
                meter_id=read.meter_id,
                parameters={
                    "sequence": SequenceName.MISSING.value,
                    "days": [day.isoformat() for day in read.days],
                },
                dedup_key=read.dedup_key,
                priority=int(read.priority),
            )
            for read in planned
        ],
    )
    rows = conn.execute(
        "SELECT id FROM job_request WHERE dedup_key = ANY(%s) AND state IN ('queued', 'running') ORDER BY id",
        [[read.dedup_key for read in planned]],
    )
    return [row[0] for row in rows]


def find_meter(conn: Connection, text: str) -> int:
    """The meter with a serial number, or the main meter that a UC has now.

    Raises:
        OperatorFault: there is none, or more than one.
    """
    rows = conn.execute(
        "SELECT m.id FROM meter m WHERE m.serial = %s UNION "
        "SELECT i.meter_id FROM uc JOIN point p ON p.uc_id = uc.id JOIN installation i ON i.point_id = p.id "
        "WHERE (uc.code = %s OR %s = ANY(uc.aliases)) AND i.role = 'main' AND upper_inf(i.valid)",
        [text, text, text],
    ).fetchall()
    if len(rows) != 1:
        found = "no meter and no UC" if not rows else "more than one meter"
        raise OperatorFault(
            f"{found} {text!r}", where="METER", remedy="give the meter's serial, eight digits"
        )
    return int(rows[0][0])
