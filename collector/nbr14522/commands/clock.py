"""Scripts that move a clock: 29 and 30 as asked, and the correction that keeps intervals whole. Pure."""

from __future__ import annotations

from collections.abc import Generator
from datetime import datetime, timedelta
from typing import Any

from collector.commands.clock.arithmetic import Method
from collector.commands.clock.script import (
    LEAD_S,
    Seen,
    better,
    is_as_written,
    judge_step,
    needs_no_move,
    next_move,
    resolve_step,
    seen_at,
    touched,
    wait_to_arrive,
)
from collector.commands.steps import CHECK_MODEL, CommandWork, Pending, Tools, Verdict, Writing
from collector.nbr14522.commands.asking import (
    MICRO_ADJUST,
    SET_DATE,
    SET_TIME,
    ask,
    build,
    is_refused,
    parameters,
)
from collector.nbr14522.sequences import Answered, GuardedWrite, Script
from faults import OperatorFault, RetryFault
from protocols.nbr14522.messages import ChangeLog, ChangeLogRequest, Request
from protocols.nbr14522.profile import MeterProfile

_ADJUST_SUB_CODE = 0x30


def _look(tools: Tools) -> Generator[Request | GuardedWrite, Answered, Seen]:
    """Read the clock. An answer is heard as soon as it is there, so the middle is the meter's instant.

    The wait for ENQ before the first command of a session is part of the first round trip; a second reading
    on the synchronised line is the better one.
    """
    best: Seen | None = None
    for _ in range(2):
        asked = tools.local()
        told = yield from parameters()
        if told.meter_time is None:
            raise RetryFault("the meter's clock cannot be read", where="command 21", remedy=CHECK_MODEL)
        seen = seen_at(told.meter_time, asked, tools.local(), told.memory_interval_s)
        best = seen if best is None else better(best, seen)
    assert best is not None
    return best


# --- 29 and 30, as asked -----------------------------------------------------------------------------------


def set_date_or_time(work: CommandWork, profile: MeterProfile, tools: Tools) -> Script:
    """29, 30: judged by the clock read back, which went on since it was set."""
    run = work.execution
    seen = yield from _look(tools)
    run.before = seen.to_json()
    if work.pending is not None and is_as_written(work, work.pending.detail, seen, tools.local()):
        run.after = run.before
        run.end(Verdict.CONFIRMED, basis="read back", was_resolved=True, **work.pending.detail)
        return
    wrote: dict[str, Any] = {}

    async def prepare() -> Request:
        local = tools.local()
        request = build(profile, work.command, work.values, local)
        before = local + timedelta(seconds=seen.drift_s)
        told = request.to_json()
        if work.command == SET_DATE:
            after = datetime.combine(datetime.fromisoformat(told["day"]).date(), before.time())
        else:
            after = datetime.combine(
                before.date(), datetime.fromisoformat(f"2000-01-01T{told['clock']}").time()
            )
        wrote.update(
            at=local.isoformat(),
            value=after.isoformat(),
            drift_s=round(seen.drift_s, 3),
            step_s=round((after - before).total_seconds()),
            method=Method.SET.value,
            touched=touched(before, after, seen.interval_s),
        )
        await tools.commit(Writing(run.before, request.encode(tools.reader_serial), wrote))
        return request

    answered: Answered = yield GuardedWrite(work.command, prepare)
    if is_refused(work, answered):
        return
    seen = yield from _look(tools)
    run.after = seen.to_json()
    good = is_as_written(work, wrote, seen, tools.local())
    run.end(Verdict.CONFIRMED if good else Verdict.MISMATCH, basis="read back", **wrote)


# --- the correction ----------------------------------------------------------------------------------------


def correct_clock(work: CommandWork, profile: MeterProfile, tools: Tools) -> Script:
    """Bring a clock right: all at once by 98/30, or by 30 in steps that stay inside one interval.

    What a step leaves of the drift is another command's.
    """
    run = work.execution
    method = Method(work.values["method"])
    seen = yield from _look(tools)
    run.before = seen.to_json()
    if work.pending is not None and (yield from _resolve(work, work.pending, method, seen, tools)):
        return
    if needs_no_move(work, seen):
        return
    interval_s = seen.interval_s
    if interval_s is None or 86400 % interval_s:
        raise OperatorFault(
            f"the memory interval ({interval_s} s) cannot be used", where="command 21", remedy=CHECK_MODEL
        )
    if method is Method.MICRO_ADJUST:
        yield from _micro_adjust(work, profile, tools, seen, interval_s)
    else:
        yield from _set_inside_interval(work, profile, tools, seen, interval_s)


def _micro_adjust(
    work: CommandWork, profile: MeterProfile, tools: Tools, seen: Seen, interval_s: int
) -> Script:
    """98/30: the meter makes the difference up by itself, slowly; later readings tell whether it did."""
    run, step_s = work.execution, -round(seen.drift_s)
    wrote: dict[str, Any] = {}

    async def prepare() -> Request:
        shown = tools.local() + timedelta(seconds=seen.drift_s)
        request = build(profile, MICRO_ADJUST, adjustment(profile, step_s), tools.local())
        wrote.update(
            at=tools.local().isoformat(),
            drift_s=round(seen.drift_s, 3),
            step_s=step_s,
            method=Method.MICRO_ADJUST.value,
            touched=touched(shown, shown, interval_s),
        )
        await tools.commit(Writing(run.before, request.encode(tools.reader_serial), wrote))
        return request

    answered: Answered = yield GuardedWrite(MICRO_ADJUST, prepare)
    if is_refused(work, answered):
        return
    seen_after = yield from _look(tools)
    run.after = seen_after.to_json()
    run.end(Verdict.CONFIRMED, basis="answer", drift_after_s=round(seen_after.drift_s, 3), **wrote)


def adjustment(profile: MeterProfile, step_s: int) -> dict[str, int]:
    """Values for the profile's layout of 98/30: `seconds`, signed unless the layout has `backwards`, too."""
    layout = profile.layout_of(MICRO_ADJUST)
    if layout is not None and any(field.name == "backwards" for field in layout.fields):
        return {"seconds": abs(step_s), "backwards": int(step_s < 0)}
    return {"seconds": step_s}


def _set_inside_interval(
    work: CommandWork, profile: MeterProfile, tools: Tools, seen: Seen, interval_s: int
) -> Script:
    run, limits = work.execution, work.clock

    first = next_move(seen, interval_s, limits, tools.local())
    if first.wait_s > limits.max_wait_s:
        run.postpone_s = first.wait_s - LEAD_S
        return
    wrote: dict[str, Any] = {}

    async def prepare() -> Request:
        move = next_move(seen, interval_s, limits, tools.local())
        request = build(profile, SET_TIME, {"clock": move.target.time().isoformat()}, move.arrives)
        wrote.update(move.detail(seen, Method.SET, interval_s))
        await tools.commit(Writing(run.before, request.encode(tools.reader_serial), wrote))
        await wait_to_arrive(move.arrives, seen, tools, work.command)
        return request

    answered: Answered = yield GuardedWrite(SET_TIME, prepare)
    if is_refused(work, answered):
        return
    seen_after = yield from _look(tools)
    run.after = seen_after.to_json()
    judge_step(run, wrote, seen_after, limits.tolerance_s)


def _resolve(
    work: CommandWork, pending: Pending, method: Method, seen: Seen, tools: Tools
) -> Generator[Request | GuardedWrite, Answered, bool]:
    """Find out about a step that was begun; True where that settles the command."""
    run, wrote = work.execution, pending.detail
    if method is Method.MICRO_ADJUST:
        # It moves slowly, so the clock cannot tell; the change log may. Sent again it would count twice.
        run.before, run.after = dict(pending.before), seen.to_json()
        if (yield from _is_logged(tools, datetime.fromisoformat(pending.before["meter_time"]))):
            run.end(Verdict.CONFIRMED, basis="change log", was_resolved=True, **wrote)
        else:
            run.end(Verdict.UNKNOWN, reason="the change log does not tell whether it was taken", **wrote)
        return True
    return resolve_step(work, pending, seen)


def _is_logged(tools: Tools, since: datetime) -> Generator[Request | GuardedWrite, Answered, bool]:
    """Whether the change log (28) holds our micro adjustment; its time is the meter's, a little off."""
    log = yield from ask(ChangeLogRequest())
    if not isinstance(log, ChangeLog):
        return False
    return any(
        change is not None
        and change.code == _ADJUST_SUB_CODE
        and change.reader_serial == tools.reader_serial
        and change.at_time is not None
        and change.at_time >= since - timedelta(seconds=1)
        for change in log.extended_changes
    )
