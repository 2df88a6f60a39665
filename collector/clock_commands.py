"""Scripts that move a clock: 29 and 30 as asked, and the correction that keeps intervals whole. Pure."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from collector.clocks import Method, Step, plan_step, slots_between
from collector.command_steps import (
    CHECK_MODEL,
    MICRO_ADJUST,
    SET_DATE,
    SET_TIME,
    CommandWork,
    Execution,
    Pending,
    Tools,
    Verdict,
    Writing,
    ask,
    build,
    is_refused,
    parameters,
)
from collector.sequences import Answered, GuardedWrite, Script
from faults import OperatorFault, RetryFault
from protocols.nbr14522.messages import ChangeLog, ChangeLogRequest, Request
from protocols.nbr14522.profile import MeterProfile

# Between choosing the instant at which a clock is set and that instant: for the record to be committed.
_LEAD_S = 1.5
_ADJUST_SUB_CODE = 0x30


@dataclass(frozen=True, slots=True)
class _Seen:
    """A clock as this session sees it."""

    meter_time: datetime
    drift_s: float
    round_trip_s: float
    interval_s: int | None

    def to_json(self) -> dict[str, Any]:
        return {
            "meter_time": self.meter_time.isoformat(),
            "drift_s": round(self.drift_s, 3),
            "round_trip_s": round(self.round_trip_s, 3),
        }


def _look(tools: Tools) -> Generator[Request | GuardedWrite, Answered, _Seen]:
    """Read the clock. An answer is heard as soon as it is there, so the middle is the meter's instant.

    The wait for ENQ before the first command of a session is part of the first round trip; a second reading
    on the synchronised line is the better one.
    """
    best: _Seen | None = None
    for _ in range(2):
        asked = tools.local()
        told = yield from parameters()
        round_trip = tools.local() - asked
        if told.meter_time is None:
            raise RetryFault("the meter's clock cannot be read", where="command 21", remedy=CHECK_MODEL)
        drift_s = (told.meter_time - asked - round_trip / 2).total_seconds()
        seen = _Seen(told.meter_time, drift_s, round_trip.total_seconds(), told.memory_interval_s)
        if best is None or seen.round_trip_s < best.round_trip_s:
            best = seen
    assert best is not None
    return best


# --- 29 and 30, as asked -----------------------------------------------------------------------------------


def set_date_or_time(work: CommandWork, profile: MeterProfile, tools: Tools) -> Script:
    """29, 30: judged by the clock read back, which went on since it was set."""
    run = work.execution
    seen = yield from _look(tools)
    run.before = seen.to_json()
    if work.pending is not None and _is_as_written(work, work.pending.detail, tools, seen):
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
            touched=_touched(before, after, seen.interval_s),
        )
        await tools.commit(Writing(run.before, request.encode(tools.reader_serial), wrote))
        return request

    answered: Answered = yield GuardedWrite(work.command, prepare)
    if is_refused(work, answered):
        return
    seen = yield from _look(tools)
    run.after = seen.to_json()
    good = _is_as_written(work, wrote, tools, seen)
    run.end(Verdict.CONFIRMED if good else Verdict.MISMATCH, basis="read back", **wrote)


def _is_as_written(work: CommandWork, wrote: Mapping[str, Any], tools: Tools, seen: _Seen) -> bool:
    """Whether the clock shows what was written plus the time since then."""
    local = tools.local()
    expected = datetime.fromisoformat(wrote["value"]) + (local - datetime.fromisoformat(wrote["at"]))
    shown = local + timedelta(seconds=seen.drift_s)
    return abs((shown - expected).total_seconds()) <= work.clock.tolerance_s + seen.round_trip_s


# --- the correction ----------------------------------------------------------------------------------------


def correct_clock(work: CommandWork, profile: MeterProfile, tools: Tools) -> Script:
    """Bring a clock right: all at once by 98/30, or by 30 in steps that stay inside one interval.

    What a step leaves of the drift is another command's.
    """
    run, limits = work.execution, work.clock
    method = Method(work.values["method"])
    seen = yield from _look(tools)
    run.before = seen.to_json()
    if work.pending is not None and (yield from _resolve(work, work.pending, method, seen, tools)):
        return
    if abs(seen.drift_s) <= limits.tolerance_s:
        run.after = run.before
        run.end(Verdict.CONFIRMED, basis="read back", was_written=False)
        return
    if abs(seen.drift_s) > limits.automatic_up_to_s or seen.round_trip_s > limits.max_round_trip_s:
        drift, way = round(seen.drift_s, 1), round(seen.round_trip_s, 1)
        run.end(Verdict.REFUSED, reason=f"drift {drift} s, round trip {way} s: not corrected by rule")
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
    work: CommandWork, profile: MeterProfile, tools: Tools, seen: _Seen, interval_s: int
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
            touched=_touched(shown, shown, interval_s),
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
    work: CommandWork, profile: MeterProfile, tools: Tools, seen: _Seen, interval_s: int
) -> Script:
    run, limits = work.execution, work.clock

    def plan() -> Step:
        shown = tools.local() + timedelta(seconds=seen.drift_s + _LEAD_S)
        return plan_step(shown, seen.drift_s, interval_s, limits.guard_s)

    first = plan()
    if first.wait_s > limits.max_wait_s:
        run.postpone_s = first.wait_s - _LEAD_S
        return
    wrote: dict[str, Any] = {}

    async def prepare() -> Request:
        step = plan()
        # The instant at which it arrives: a whole second, in the safe part of the interval.
        arrives = tools.local() + timedelta(seconds=_LEAD_S + step.wait_s)
        arrives = arrives.replace(microsecond=0) + timedelta(seconds=1)
        before = arrives + timedelta(seconds=seen.drift_s)
        target = arrives + timedelta(seconds=round(seen.drift_s + step.step_s))
        request = build(profile, SET_TIME, {"clock": target.time().isoformat()}, arrives)
        wrote.update(
            drift_s=round(seen.drift_s, 3),
            step_s=step.step_s,
            is_last=step.is_last,
            method=Method.SET.value,
            touched=_touched(before, before + timedelta(seconds=step.step_s), interval_s),
        )
        await tools.commit(Writing(run.before, request.encode(tools.reader_serial), wrote))
        early_s = (arrives - tools.local()).total_seconds() - seen.round_trip_s / 2
        if early_s < -1:
            raise RetryFault(
                f"the record took {_LEAD_S - early_s:.1f} s: the instant for the clock is over",
                where=f"command {work.command}",
                remedy="it is tried again by itself",
            )
        await tools.sleep(max(0.0, early_s))
        return request

    answered: Answered = yield GuardedWrite(SET_TIME, prepare)
    if is_refused(work, answered):
        return
    seen_after = yield from _look(tools)
    run.after = seen_after.to_json()
    _judge_step(run, wrote, seen_after.drift_s, limits.tolerance_s + seen_after.round_trip_s)


def _judge_step(run: Execution, wrote: Mapping[str, Any], drift_s: float, tolerance_s: float) -> None:
    left_s = drift_s - wrote["drift_s"] - wrote["step_s"]
    verdict = Verdict.CONFIRMED if abs(left_s) <= tolerance_s else Verdict.MISMATCH
    run.end(verdict, basis="read back", drift_after_s=round(drift_s, 3), **wrote)


def _resolve(
    work: CommandWork, pending: Pending, method: Method, seen: _Seen, tools: Tools
) -> Generator[Request | GuardedWrite, Answered, bool]:
    """Find out about a step that was begun; True where that settles the command."""
    run, wrote = work.execution, pending.detail
    tolerance_s = work.clock.tolerance_s + seen.round_trip_s
    moved_s = seen.drift_s - wrote["drift_s"]
    if method is Method.MICRO_ADJUST:
        # It moves slowly, so the clock cannot tell; the change log may. Sent again it would count twice.
        run.before, run.after = dict(pending.before), seen.to_json()
        if (yield from _is_logged(tools, datetime.fromisoformat(pending.before["meter_time"]))):
            run.end(Verdict.CONFIRMED, basis="change log", was_resolved=True, **wrote)
        else:
            run.end(Verdict.UNKNOWN, reason="the change log does not tell whether it was taken", **wrote)
        return True
    if abs(moved_s) <= tolerance_s:
        return False
    run.before, run.after = dict(pending.before), seen.to_json()
    if abs(moved_s - wrote["step_s"]) <= tolerance_s:
        _judge_step(run, wrote, seen.drift_s, tolerance_s)
        run.detail["was_resolved"] = True
    else:
        run.end(Verdict.UNKNOWN, reason=f"the clock moved by {moved_s:.0f} s of {wrote['step_s']} s", **wrote)
    return True


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


def _touched(before: datetime, after: datetime, interval_s: int | None) -> dict[str, list[int]]:
    if not interval_s:
        return {}
    return {day.isoformat(): list(span) for day, span in slots_between(before, after, interval_s).items()}
