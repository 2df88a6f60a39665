"""Commands that change a meter, or read it for a person, as scripts: read, write once, read back, compare.

Pure: a script is driven by the session like those of `sequences`; what must be on record before a write
leaves is committed by `Tools.commit`, which the service gives. A script that is run for a command whose last
write has no verdict first finds out, by reading, whether that write took effect.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

from collector import readback
from collector.clocks import Method, plan_step, slots_between
from collector.command_policy import ClockPolicy
from collector.sequences import Answered, GuardedWrite, Script
from faults import OperatorFault, RetryFault
from protocols.nbr14522.commands import COMMANDS, CommandKind, parse_command
from protocols.nbr14522.frames import NOT_IMPLEMENTED, OCCURRENCE
from protocols.nbr14522.messages import (
    ClearOccurrenceRequest,
    CurrentMemoryRequest,
    CurrentParametersRequest,
    DemandResetRequest,
    OccurrenceAnswer,
    Parameters,
    PreviousMemoryRequest,
    PreviousParametersRequest,
    Request,
    Response,
    weekday_of,
)
from protocols.nbr14522.profile import MeterProfile
from protocols.nbr14522.sending import build_request

CLOCK = "clock"
"""The collector's own command: bring the clock right, by 98/30 or by 30."""
MICRO_ADJUST = "98/30"
RESET, SET_DATE, SET_TIME, CLEAR = "20", "29", "30", "37"
ON_DEMAND = frozenset({"14", "26", "27", "80"})
NOW = "now"
# Channel groups that 26 and 27 are read for, at most: four are the 12 channels of TR 5.7.
MAX_GROUPS = 4
# Time between choosing the instant at which a clock is set and that instant: for the record to be committed.
_LEAD_S = 1.5
_RESET_COUNT = 100  # the counter has two decimal digits


class Verdict(StrEnum):
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    MISMATCH = "mismatch"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Writing:
    """What goes on record before a write leaves. `frame`: the plain command, 66 octets."""

    before: Mapping[str, Any]
    frame: bytes
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pending:
    """A write that was begun and whose outcome nobody knows: its record."""

    before: Mapping[str, Any]
    detail: Mapping[str, Any]


@dataclass(slots=True)
class Execution:
    """What a script found out. `postpone_s`: it ended untried, to come back after so long."""

    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    postpone_s: float | None = None

    def end(self, verdict: Verdict, **detail: Any) -> None:
        self.verdict = verdict
        self.detail |= detail


@dataclass(frozen=True, slots=True)
class CommandWork:
    """A command to carry out: `values` as in `Request.to_json`."""

    request_id: int
    command: str
    values: Mapping[str, Any]
    clock: ClockPolicy = field(default_factory=ClockPolicy)
    pending: Pending | None = None
    execution: Execution = field(default_factory=Execution)


@dataclass(frozen=True, slots=True)
class Tools:
    """What a script may not have by itself: time, waiting, the record, our serial number."""

    now: Callable[[], datetime]
    zone: timezone
    sleep: Callable[[float], Awaitable[None]]
    commit: Callable[[Writing], Awaitable[None]]
    reader_serial: str

    def local(self) -> datetime:
        """Reference time as meters show it: naive, fixed market time."""
        return self.now().astimezone(self.zone).replace(tzinfo=None)


def build(profile: MeterProfile, command: str, values: Mapping[str, Any], local_now: datetime) -> Request:
    """The typed request of a command, "now" taken as the given naive market time.

    Raises:
        OperatorFault: no layout of it is known for this profile, a value does not fit, or the collector does
            not carry it out.
    """
    known = dict(values)
    if known.get("day") == NOW:
        known["day"] = local_now.date().isoformat()
    if known.get("clock") == NOW:
        known["clock"] = local_now.replace(microsecond=0).time().isoformat()
    if command == SET_DATE and "day" in known and "weekday" not in known:
        try:
            known["weekday"] = weekday_of(datetime.fromisoformat(str(known["day"])).date(), profile.sunday)
        except ValueError as error:
            raise OperatorFault(
                str(error), where="command 29", remedy="write the day as 2026-11-21"
            ) from error
    info = COMMANDS.get(command)
    if command not in ON_DEMAND and (info is None or not info.may_change_meter):
        raise OperatorFault(
            f"command {command} is none that is sent on request",
            where="command",
            remedy="smf command list shows them; readings are asked for with smf read",
        )
    return build_request(profile, command, known)


def script(work: CommandWork, profile: MeterProfile, tools: Tools) -> Script:
    """The script that carries a command out and leaves what it found in `work.execution`."""
    if work.command == CLOCK:
        return _clock(work, profile, tools)
    if work.command == RESET:
        return _reset(work, profile, tools)
    if work.command in (SET_DATE, SET_TIME):
        return _set_date_or_time(work, profile, tools)
    if work.command == CLEAR:
        return _clear(work, profile, tools)
    if work.command in ON_DEMAND:
        return _read(work, profile, tools)
    return _write(work, profile, tools)


# --- steps that all scripts share --------------------------------------------------------------------------

_Asked = Generator[Request | GuardedWrite, Answered, Response | None]
_Written = Generator[Request | GuardedWrite, Answered, Answered]


def _ask(request: Request) -> _Asked:
    """The answer to a read; None where the meter does not have the command.

    Raises:
        OperatorFault: the meter answers with an occurrence.
    """
    answer = (yield request).decode()
    if isinstance(answer, OccurrenceAnswer):
        raise _hindered(answer, request)
    return None if answer is None or answer.code == NOT_IMPLEMENTED else answer


def _parameters() -> Generator[Request | GuardedWrite, Answered, Parameters]:
    answer = yield from _ask(CurrentParametersRequest())
    if not isinstance(answer, Parameters):
        raise OperatorFault("the meter does not give its parameters", where="command 21", remedy=_CHECK_MODEL)
    return answer


_CHECK_MODEL = "check the meter's model and profile in the registry"


def _hindered(answer: OccurrenceAnswer, request: Request) -> OperatorFault:
    return OperatorFault(
        f"the meter answers with occurrence {answer.occurrence or 0:02X}",
        where=f"command {request.code:02X}",
        remedy="command 37 clears the occurrences that may be cleared; nothing was written",
    )


def _once(work: CommandWork, tools: Tools, request: Request, **detail: Any) -> _Written:
    """Record, then send: once, whatever the line does."""

    async def prepare() -> Request:
        at = tools.now().astimezone(UTC).isoformat()
        frame = request.encode(tools.reader_serial)
        await tools.commit(Writing(work.execution.before, frame, detail | {"at": at}))
        return request

    return (yield GuardedWrite(prepare))


def _is_refused(work: CommandWork, answered: Answered) -> bool:
    """Whether the meter declined (39, 40); then that is the verdict."""
    if answered.code == NOT_IMPLEMENTED:
        work.execution.end(Verdict.REFUSED, answer="39")
        return True
    if answered.code == OCCURRENCE:
        answer = answered.decode()
        assert isinstance(answer, OccurrenceAnswer)
        occurrence, detail = f"{answer.occurrence or 0:02X}", f"{answer.detail or 0:02X}"
        work.execution.end(Verdict.REFUSED, answer="40", occurrence=occurrence, occurrence_detail=detail)
        return True
    return False


# --- writes of parameters ----------------------------------------------------------------------------------


def _write(work: CommandWork, profile: MeterProfile, tools: Tools) -> Script:
    request = build(profile, work.command, work.values, tools.local())
    run = work.execution
    want = readback.wanted(request, work.values)
    run.before = yield from _state(request, work.values)
    is_judged = bool(want) and bool(run.before)
    if is_judged and not readback.differences(request, want, run.before):
        # In force already: by our own write whose answer was lost, or since before.
        run.after = run.before
        run.end(Verdict.CONFIRMED, basis="read back", was_written=work.pending is not None)
        return
    if work.pending is not None and not is_judged:
        run.end(Verdict.UNKNOWN, reason="no command reads it back, and the answer to the write was lost")
        return
    answered = yield from _once(work, tools, request)
    if _is_refused(work, answered):
        return
    if not is_judged:
        _judge_by_answer(work, request, answered)
        return
    run.after = yield from _state(request, work.values)
    wrong = readback.differences(request, want, run.after)
    unread = sorted(set(want) - set(run.after))
    run.end(
        Verdict.MISMATCH if wrong else Verdict.CONFIRMED, basis="read back", differences=wrong, unread=unread
    )


def _state(
    request: Request, values: Mapping[str, Any]
) -> Generator[Request | GuardedWrite, Answered, dict[str, Any]]:
    answers = {}
    for command in sorted({command for command, _ in readback.places(request, values).values()}):
        answer = yield from _ask(readback.READS[command])
        if answer is not None:
            answers[command] = answer.to_json()
    return readback.state(request, values, answers)


def _judge_by_answer(work: CommandWork, request: Request, answered: Answered) -> None:
    """The answer returns what was sent, one octet later (section 6.2, B); some meters answer with zeros."""
    sent = request.write()[4:].rstrip(b"\x00")
    returned = (answered.content or b"")[5 : 5 + len(sent)]
    work.execution.after = {"answer": returned.hex(" ")}
    if returned == sent:
        work.execution.end(Verdict.CONFIRMED, basis="answer")
    else:
        work.execution.end(
            Verdict.UNKNOWN, reason="no command reads it back, and the answer does not repeat it"
        )


def _clear(work: CommandWork, profile: MeterProfile, tools: Tools) -> Script:
    """37: the occurrence is there when 21 is answered with it, and gone when it is not."""
    request = build(profile, work.command, work.values, tools.local())
    assert isinstance(request, ClearOccurrenceRequest)
    run = work.execution
    run.before = {"occurrence": (yield from _occurrence())}
    named = f"{request.occurrence or 0:02X}"
    if run.before["occurrence"] != named and work.pending is not None:
        run.after = run.before
        run.end(Verdict.CONFIRMED, basis="read back", was_written=True)
        return
    answered = yield from _once(work, tools, request)
    if _is_refused(work, answered):
        return
    run.after = {"occurrence": (yield from _occurrence())}
    still = run.after["occurrence"] == named
    run.end(Verdict.MISMATCH if still else Verdict.CONFIRMED, basis="read back")


def _occurrence() -> Generator[Request | GuardedWrite, Answered, str | None]:
    answer = (yield CurrentParametersRequest()).decode()
    return f"{answer.occurrence or 0:02X}" if isinstance(answer, OccurrenceAnswer) else None


# --- demand reset ------------------------------------------------------------------------------------------


def _reset(work: CommandWork, profile: MeterProfile, tools: Tools) -> Script:
    """20: the counter of resets is read first, and decides about a write whose outcome is not known."""
    run = work.execution
    request = build(profile, work.command, work.values, tools.local())
    assert isinstance(request, DemandResetRequest)
    run.before = _reset_state((yield from _parameters()))
    if work.pending is not None:
        known = work.pending.before
        if run.before["reset_count"] != known["reset_count"]:
            run.after, run.before = run.before, dict(known)
            _judge_reset(run, was_resolved=True)
            return
    answered = yield from _once(work, tools, request)
    if _is_refused(work, answered):
        return
    run.after = _reset_state((yield from _parameters()))
    _judge_reset(run, was_resolved=False)


def _reset_state(parameters: Parameters) -> dict[str, Any]:
    if parameters.reset_count is None:
        raise OperatorFault(
            "the counter of demand resets cannot be read: without it the period is not closed",
            where="command 21",
            remedy=_CHECK_MODEL,
        )
    told = parameters.to_json()
    return {name: told[name] for name in ("reset_count", "last_reset", "previous_reset")}


def _judge_reset(run: Execution, *, was_resolved: bool) -> None:
    moved = (run.after["reset_count"] - run.before["reset_count"]) % _RESET_COUNT
    run.end(
        Verdict.CONFIRMED if moved == 1 else Verdict.MISMATCH,
        basis="reset counter",
        counter_moved_by=moved,
        was_resolved=was_resolved,
    )


# --- reads on demand ---------------------------------------------------------------------------------------


def _read(work: CommandWork, profile: MeterProfile, tools: Tools) -> Script:
    """14 and 80: one answer. 26 and 27: for each channel group that the meter has, up to 12 channels."""
    run = work.execution
    if work.command in ("14", "80"):
        answer = yield from _ask(build(profile, work.command, work.values, tools.local()))
        if answer is None:
            run.end(Verdict.REFUSED, answer="39")
            return
        run.after = {name: value for name, value in answer.to_json().items() if name != "octets"}
        run.end(Verdict.CONFIRMED, basis="answer")
        return
    is_current = work.command == "26"
    first = yield from _parameters()
    groups = min(max(first.group_count or 1, 1), MAX_GROUPS)
    blocks = {}
    for group in range(groups):
        if group or not is_current:
            kind = CurrentParametersRequest if is_current else PreviousParametersRequest
            if (yield from _ask(kind(group=group))) is None:
                break
        answered = yield CurrentMemoryRequest() if is_current else PreviousMemoryRequest()
        if _is_refused(work, answered):
            return
        blocks[f"channels {group * 3 + 1}-{group * 3 + 3}"] = answered.blocks
    run.after = {"blocks": blocks}
    run.end(Verdict.CONFIRMED, basis="answer")


# --- clocks ------------------------------------------------------------------------------------------------


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
        parameters = yield from _parameters()
        answered = tools.local()
        if parameters.meter_time is None:
            raise RetryFault("the meter's clock cannot be read", where="command 21", remedy=_CHECK_MODEL)
        round_trip = answered - asked
        drift_s = (parameters.meter_time - asked - round_trip / 2).total_seconds()
        seen = _Seen(parameters.meter_time, drift_s, round_trip.total_seconds(), parameters.memory_interval_s)
        if best is None or seen.round_trip_s < best.round_trip_s:
            best = seen
    assert best is not None
    return best


def _set_date_or_time(work: CommandWork, profile: MeterProfile, tools: Tools) -> Script:
    """29, 30: judged by the clock read back, which went on since it was set."""
    run = work.execution
    seen = yield from _look(tools)
    run.before = seen.to_json()
    wrote: dict[str, Any] = {}

    if work.pending is not None and _is_as_written(work, work.pending.detail, tools, seen):
        run.after = run.before
        run.end(Verdict.CONFIRMED, basis="read back", was_resolved=True, **_touched_of(work.pending.detail))
        return

    async def prepare() -> Request:
        local = tools.local()
        request = build(profile, work.command, work.values, local)
        before = local + timedelta(seconds=seen.drift_s)
        told = request.to_json()
        after = (
            datetime.combine(datetime.fromisoformat(told["day"]).date(), before.time())
            if work.command == SET_DATE
            else datetime.combine(before.date(), datetime.fromisoformat(f"2000-01-01T{told['clock']}").time())
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

    answered: Answered = yield GuardedWrite(prepare)
    if _is_refused(work, answered):
        return
    seen = yield from _look(tools)
    run.after = seen.to_json()
    good = _is_as_written(work, wrote, tools, seen)
    run.end(Verdict.CONFIRMED if good else Verdict.MISMATCH, basis="read back", **wrote)


def _is_as_written(work: CommandWork, wrote: Mapping[str, Any], tools: Tools, seen: _Seen) -> bool:
    """Whether the clock shows what was written plus the time since then."""
    elapsed = tools.local() - datetime.fromisoformat(wrote["at"])
    expected = datetime.fromisoformat(wrote["value"]) + elapsed
    shown = tools.local() + timedelta(seconds=seen.drift_s)
    return abs((shown - expected).total_seconds()) <= work.clock.tolerance_s + seen.round_trip_s


def _clock(work: CommandWork, profile: MeterProfile, tools: Tools) -> Script:
    """One step of a correction, inside one interval; what is left of the drift is another command's."""
    run, limits = work.execution, work.clock
    method = Method(work.values["method"])
    seen = yield from _look(tools)
    run.before = seen.to_json()
    if work.pending is not None and _resolve_step(work, work.pending, seen):
        return
    if abs(seen.drift_s) <= limits.tolerance_s:
        run.after = run.before
        run.end(Verdict.CONFIRMED, basis="read back", was_written=False, is_last=True)
        return
    if abs(seen.drift_s) > limits.automatic_up_to_s or seen.round_trip_s > limits.max_round_trip_s:
        drift, way = round(seen.drift_s, 1), round(seen.round_trip_s, 1)
        run.end(
            Verdict.REFUSED, reason=f"drift {drift} s over a round trip of {way} s: not corrected by rule"
        )
        return
    interval_s = seen.interval_s
    if interval_s is None or 86400 % interval_s:
        raise OperatorFault(
            f"the memory interval ({interval_s} s) cannot be used", where="command 21", remedy=_CHECK_MODEL
        )

    def plan() -> tuple[datetime, Any]:
        shown = tools.local() + timedelta(seconds=seen.drift_s + _LEAD_S)
        return shown, plan_step(shown, seen.drift_s, interval_s, limits.guard_s)

    _, step = plan()
    if step.wait_s > limits.max_wait_s:
        run.postpone_s = step.wait_s - _LEAD_S
        return
    wrote: dict[str, Any] = {}

    async def prepare() -> Request:
        _, step = plan()
        # The instant at which it arrives: a whole second, in the safe part of the interval.
        arrives = tools.local() + timedelta(seconds=_LEAD_S + step.wait_s)
        arrives = arrives.replace(microsecond=0) + timedelta(seconds=1)
        before = arrives + timedelta(seconds=seen.drift_s)
        after = before + timedelta(seconds=step.step_s)
        target = arrives + timedelta(seconds=round(seen.drift_s + step.step_s))
        if method is Method.SET:
            request = build(profile, SET_TIME, {"clock": target.time().isoformat()}, arrives)
        else:
            request = build(profile, MICRO_ADJUST, adjustment(step.step_s), arrives)
        wrote.update(
            drift_s=round(seen.drift_s, 3),
            step_s=step.step_s,
            is_last=step.is_last,
            method=method.value,
            touched=_touched(before, after, interval_s),
        )
        await tools.commit(Writing(run.before, request.encode(tools.reader_serial), wrote))
        late_s = (tools.local() - arrives).total_seconds() + seen.round_trip_s / 2
        if late_s > 1:
            raise RetryFault(
                f"the record took {late_s + _LEAD_S:.1f} s: the instant for the clock is over",
                where=f"command {work.command}",
                remedy="it is tried again by itself",
            )
        await tools.sleep(max(0.0, -late_s))
        return request

    answered: Answered = yield GuardedWrite(prepare)
    if _is_refused(work, answered):
        run.detail |= wrote
        return
    seen_after = yield from _look(tools)
    run.after = seen_after.to_json()
    _judge_step(run, wrote, seen_after.drift_s, limits.tolerance_s + seen_after.round_trip_s)


def adjustment(step_s: int) -> dict[str, int]:
    """Values for a layout of 98/30; it takes those that it names."""
    return {
        "adjust_s": step_s,
        "magnitude_s": abs(step_s),
        "is_backward": int(step_s < 0),
        "is_forward": int(step_s > 0),
    }


def _judge_step(run: Execution, wrote: Mapping[str, Any], drift_s: float, tolerance_s: float) -> None:
    left_s = drift_s - wrote["drift_s"] - wrote["step_s"]
    verdict = Verdict.CONFIRMED if abs(left_s) <= tolerance_s else Verdict.MISMATCH
    run.end(verdict, basis="read back", drift_after_s=round(drift_s, 3), **wrote)


def _resolve_step(work: CommandWork, pending: Pending, seen: _Seen) -> bool:
    """What the clock tells of a step that was begun: done, or not; True where that settles the command."""
    wrote, tolerance_s = pending.detail, work.clock.tolerance_s + seen.round_trip_s
    moved_s = seen.drift_s - wrote["drift_s"]
    if abs(moved_s) <= tolerance_s:
        return False
    work.execution.before, work.execution.after = dict(pending.before), seen.to_json()
    if abs(moved_s - wrote["step_s"]) <= tolerance_s:
        _judge_step(work.execution, wrote, seen.drift_s, tolerance_s)
        work.execution.detail["was_resolved"] = True
    else:
        work.execution.end(
            Verdict.UNKNOWN, reason=f"the clock moved by {moved_s:.0f} s, not by {wrote['step_s']} s", **wrote
        )
    return True


def _touched(before: datetime, after: datetime, interval_s: int | None) -> dict[str, list[int]]:
    if not interval_s:
        return {}
    slots = slots_between(before, after, interval_s)
    return {day.isoformat(): list(span) for day, span in slots.items()}


def _touched_of(detail: Mapping[str, Any]) -> dict[str, Any]:
    names = ("drift_s", "step_s", "method", "touched")
    return {name: detail[name] for name in names if name in detail}


# --- the preview -------------------------------------------------------------------------------------------


def kind_of(command: str) -> CommandKind:
    """What a command does; the collector's own clock command writes."""
    if command == CLOCK:
        return CommandKind.WRITE
    parse_command(command)
    info = COMMANDS.get(command)
    return CommandKind.UNKNOWN if info is None else info.kind
