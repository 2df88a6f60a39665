"""Requests for commands: asked for, approved, on record before they are sent, judged.

Who may ask is judged when a request is made, and once more when a collector takes it: a row that some other
program put into the queue is not sent on its word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from collector.commands.clock.storage import record_correction
from collector.commands.policy import Decision, Policy, decide, may_approve
from collector.commands.preview import Preview
from collector.commands.steps import CommandWork, Pending, Verdict, Writing
from collector.drivers import Asking, check_offered, driver_of
from collector.session import MergedSession
from collector.work.worklist import Assignment, Connection, Target, targets, unreachable
from faults import Fault, OperatorFault, RetryFault
from faults.market_time import to_local
from storage import audit, queue
from storage.commands import executions, requests
from storage.settings import Settings


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a command, as it was taken. `is_new` False: an open one for the same thing was there."""

    request_id: int
    preview: Preview
    decision: Decision
    is_new: bool = True


@dataclass(frozen=True, slots=True)
class Person:
    """Who acts, and the roles that the calling program vouches for."""

    name: str
    roles: frozenset[str]


def preview_for(
    conn: Connection,
    settings: Settings,
    meter_id: int,
    command: str,
    values: Mapping[str, Any],
    now: datetime,
) -> Preview:
    """What a command would do to a meter; nothing is queued.

    Raises:
        OperatorFault: it cannot be sent to this meter.
    """
    target = _target(conn, meter_id)
    check_offered(target.profile, command)
    reader_serial = settings.collector.reader_serial
    asking = Asking(command, values, target.serial, reader_serial, now, settings.market.tzinfo)
    return driver_of(target.profile).preview(target.profile, asking)


def ask(
    conn: Connection,
    settings: Settings,
    policy: Policy,
    person: Person,
    meter_id: int,
    command: str,
    values: Mapping[str, Any],
    reason: str,
    now: datetime,
    *,
    dedup_key: str | None = None,
    needs_approval: bool = False,
) -> Asked:
    """Take a request for a command, in the caller's transaction: queued, or waiting for its second person.

    Args:
        needs_approval: ask for a second person though the policy would not.

    Raises:
        OperatorFault: no reason given, no role that allows it, too many today, or it cannot be sent.
    """
    if not reason.strip():
        raise OperatorFault("a command needs a reason", where=f"command {command}", remedy="say why: --why")
    shown = preview_for(conn, settings, meter_id, command, values, now)
    local = to_local(now, settings.market.tzinfo)
    if dedup_key is not None and (open_id := requests.open_request(conn, dedup_key)) is not None:
        return Asked(open_id, shown, Decision(None), is_new=False)
    decision = decide(
        policy, command, person.roles, local, _asked_today(conn, settings, meter_id, command, local)
    )
    role = decision.role
    if role is None:
        raise OperatorFault(
            decision.refusal,
            where=person.name,
            remedy="see the policy file (collector.command_policy_path): [people], [command]",
        )
    decision = replace(decision, needs_approval=decision.needs_approval or needs_approval)
    opening = decision.not_before
    new = requests.NewRequest(
        person=person.name,
        role=role,
        meter_id=meter_id,
        command=command,
        values=values,
        reason=reason,
        preview=shown.to_json(),
        policy=decision.to_json(),
        needs_approval=decision.needs_approval,
        not_before=None if opening is None else opening.replace(tzinfo=settings.market.tzinfo),
        dedup_key=dedup_key,
    )
    request_id = requests.add(conn, new, now)
    audit.append(
        conn,
        actor=person.name,
        action="command.request",
        object=f"command/{request_id}",
        after={"meter_id": meter_id, "command": command, "values": dict(values), "reason": reason}
        | {"preview": shown.to_json(), "policy": decision.to_json()},
    )
    return Asked(request_id, shown, decision)


def approve(
    conn: Connection,
    policy: Policy,
    request_id: int,
    person: str,
    *,
    is_approved: bool = True,
    note: str = "",
) -> None:
    """The second person's word: queues the request, or cancels it. In the caller's transaction.

    Raises:
        OperatorFault: it waits for no approval, the person is the one who asked, or has no role for it.
    """
    asked = requests.standing(conn, request_id, lock=True)
    if asked is None or asked.state != "awaiting_approval":
        state = "there is none" if asked is None else f"it is {asked.state}"
        raise OperatorFault(
            f"request {request_id} waits for no approval: {state}",
            where="approval",
            remedy="smf command status lists those that wait",
        )
    role = may_approve(policy, asked.command, person, asked.requested_by)
    requests.add_approval(conn, request_id, person, role, is_approved=is_approved, note=note)
    audit.append(
        conn,
        actor=person,
        action="command.approve" if is_approved else "command.reject",
        object=f"command/{request_id}",
        after={"role": role, "note": note},
    )


def _target(conn: Connection, meter_id: int) -> Target:
    target = targets(conn, [meter_id]).get(meter_id)
    if target is None or target.url is None:
        raise unreachable(meter_id, target)
    return target


def _asked_today(conn: Connection, settings: Settings, meter_id: int, command: str, local: datetime) -> int:
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=settings.market.tzinfo)
    return requests.count_since(conn, meter_id, command, midnight)


# --- taken by a collector -----------------------------------------------------------------------------------


def assign(conn: Connection, claimed: Sequence[queue.Job], policy: Policy) -> list[Assignment]:
    """What each claimed command means: the way to its meter, what is known of an attempt before this one."""
    known = targets(conn, [job.meter_id for job in claimed if job.meter_id is not None])
    pending = _pending(conn, [job.id for job in claimed])
    allowed = _allowed(conn, [job.id for job in claimed], policy)
    assignments = []
    for job in claimed:
        target = known.get(job.meter_id or 0)
        blank = Assignment(job.id, job.meter_id or 0, job.priority, job.attempts, ())
        fault: Fault | None = allowed.get(job.id)
        command = job.parameters.get("command", "")
        if fault is None:
            fault = _unsendable(job, target, command)
        work = CommandWork(
            job.id, command, job.parameters.get("values", {}), policy.clock, pending.get(job.id)
        )
        assignments.append(
            replace(
                blank,
                target=target,
                fault=fault,
                command=work,
                is_last_attempt=job.attempts >= job.max_attempts,
            )
        )
    return assignments


def _unsendable(job: queue.Job, target: Target | None, command: str) -> OperatorFault | None:
    """Why a command cannot go to its meter as the registry has it now."""
    if target is None or target.url is None:
        return unreachable(job.meter_id, target)
    try:
        check_offered(target.profile, command)
    except OperatorFault as fault:
        return fault
    return None


def _pending(conn: Connection, request_ids: Sequence[int]) -> dict[int, Pending]:
    rows = executions.pending(conn, request_ids)
    return {request_id: Pending(before, detail) for request_id, (before, detail) in rows.items()}


def _allowed(conn: Connection, request_ids: Sequence[int], policy: Policy) -> dict[int, OperatorFault]:
    """Requests that must not be sent: not taken by `ask`, or without the second person that they need."""
    refused = {}
    for claim in requests.claims(conn, request_ids):
        if not claim.is_same or claim.command is None or claim.policy is None:
            message = "the request did not come by way of the policy"
        elif not claim.is_approved and (
            policy.rule(claim.command).second_person or claim.policy.get("needs_approval")
        ):
            message = "no second person has approved it"
        else:
            continue
        refused[claim.request_id] = OperatorFault(
            message, where=f"request {claim.request_id}", remedy="ask for it with smf command request"
        )
    return refused


def record_writing(conn: Connection, request_id: int, session_id: int, writing: Writing) -> None:
    """Put a write on record; the caller commits before it is sent."""
    executions.record_writing(conn, request_id, session_id, writing.before, writing.frame, writing.detail)


# --- answered -----------------------------------------------------------------------------------------------


def answer(
    conn: Connection,
    worker: str,
    merged: MergedSession,
    assignment: Assignment,
    now: datetime,
    *,
    retry_after_s: float,
) -> None:
    """What a command's session came to: a verdict, another try that reads first, or the reason why not."""
    work = assignment.command
    assert work is not None
    run = work.execution
    if merged.outcome == "aborted":
        queue.release(conn, worker, [work.request_id], 0.0)
    elif merged.decoded.is_held and merged.fault is not None:
        # Another meter answered: what it said proves nothing about this one.
        queue.fail(conn, worker, work.request_id, merged.fault, stage=merged.failed_stage or "")
    elif run.verdict is not None:
        _judge(conn, worker, merged, assignment, now)
    elif run.postpone_s is not None and merged.fault is None:
        queue.release(conn, worker, [work.request_id], run.postpone_s)
    elif merged.fault is not None:
        _fail(conn, worker, merged, assignment, merged.fault, now, retry_after_s)


def _fail(
    conn: Connection,
    worker: str,
    merged: MergedSession,
    assignment: Assignment,
    fault: Fault,
    now: datetime,
    retry_after_s: float,
) -> None:
    work = assignment.command
    assert work is not None
    may_retry = isinstance(fault, RetryFault)
    if not may_retry or assignment.is_last_attempt:
        pending = _pending(conn, [work.request_id]).get(work.request_id)
        if pending is not None:
            reason = f"no reading tells the outcome: {fault.message}"
            work.execution.before = dict(pending.before)
            work.execution.end(Verdict.UNKNOWN, **dict(pending.detail) | {"reason": reason})
            _record_outcome(conn, merged, work, now)
        _audit_end(conn, merged, work, fault)
    queue.fail(
        conn,
        worker,
        work.request_id,
        fault,
        stage=merged.failed_stage or "",
        retry_after_s=retry_after_s if may_retry else None,
    )


def _judge(
    conn: Connection, worker: str, merged: MergedSession, assignment: Assignment, now: datetime
) -> None:
    work = assignment.command
    assert work is not None
    run = work.execution
    _record_outcome(conn, merged, work, now)
    _audit_end(conn, merged, work, None)
    if run.verdict is Verdict.CONFIRMED:
        result = {"verdict": run.verdict.value, "session_id": merged.session_id, "after": run.after}
        queue.finish(conn, worker, work.request_id, result | {"detail": run.detail})
    else:
        queue.fail(conn, worker, work.request_id, _verdict_fault(work), stage="verdict")


def _record_outcome(conn: Connection, merged: MergedSession, work: CommandWork, now: datetime) -> None:
    """The verdict; and where a clock was moved, or may have been, the intervals that it touched."""
    run = work.execution
    assert run.verdict is not None
    executions.record_verdict(
        conn, work.request_id, merged.session_id, run.before, run.after, run.verdict.value, run.detail
    )
    if "method" in run.detail:
        record_correction(conn, merged, work, now)


def _verdict_fault(work: CommandWork) -> OperatorFault:
    run, where = work.execution, f"command {work.command}"
    match run.verdict:
        case Verdict.REFUSED:
            told = run.detail.get("reason") or f"the meter refused: answer {run.detail.get('answer')}"
            if "occurrence" in run.detail:
                told += f", occurrence {run.detail['occurrence']} detail {run.detail['occurrence_detail']}"
            remedy = run.detail.get("remedy") or "nothing was changed; see the occurrence in the manual"
            return OperatorFault(told, where=where, remedy=remedy)
        case Verdict.MISMATCH:
            wrong = run.detail.get("differences") or run.detail
            return OperatorFault(
                f"the meter does not show what was written: {wrong}",
                where=where,
                remedy="compare before and after in smf command status, then decide",
            )
    return OperatorFault(
        f"the outcome is unknown: {run.detail.get('reason', '')}",
        where=where,
        remedy="read the meter, and ask again only if the command did not take effect",
    )


def _audit_end(conn: Connection, merged: MergedSession, work: CommandWork, fault: Fault | None) -> None:
    """The end of a command in the audit chain; the frames are those of the session named."""
    run = work.execution
    audit.append(
        conn,
        actor="collector",
        action=f"command.{run.verdict.value if run.verdict else 'failed'}",
        object=f"command/{work.request_id}",
        before=run.before or None,
        after={
            "command": work.command,
            "meter_id": merged.meter_id,
            "session_id": merged.session_id,
            "frames_written": executions.frames_written(conn, work.request_id),
            "after": run.after,
            "detail": run.detail,
            "fault": None if fault is None else str(fault),
        },
    )
