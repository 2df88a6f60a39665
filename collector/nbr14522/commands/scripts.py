"""Commands that change a meter, or read it for a person, as scripts: read, write once, read back, compare.

Pure: a script is driven by the session like those of `sequences`; what must be on record before a write
leaves is committed by `Tools.commit`, which the service gives. A script that is run for a command whose last
write has no verdict first finds out, by reading, whether that write took effect.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from collector.commands.names import CLOCK
from collector.commands.steps import CHECK_MODEL, CommandWork, Execution, Pending, Tools, Verdict
from collector.nbr14522.commands import readback
from collector.nbr14522.commands.asking import (
    CLEAR,
    ON_DEMAND,
    RESET,
    SET_DATE,
    SET_TIME,
    ask,
    build,
    is_refused,
    once,
    parameters,
)
from collector.nbr14522.commands.clock import correct_clock, set_date_or_time
from collector.nbr14522.sequences import Answered, GuardedWrite, Script
from faults import OperatorFault
from protocols.nbr14522.commands import key_of
from protocols.nbr14522.messages import (
    ChangeLog,
    ChangeLogRequest,
    ClearOccurrenceRequest,
    CurrentMemoryRequest,
    CurrentParametersRequest,
    DemandResetRequest,
    OccurrenceAnswer,
    Parameters,
    PreviousMemoryRequest,
    PreviousParametersRequest,
    Request,
)
from protocols.nbr14522.profile import MeterProfile

# Channel groups that 26 and 27 are read for, at most: four are the 12 channels of TR 5.7.
MAX_GROUPS = 4
_LOGGED = "change_log"
_RESET_COUNT = 100  # the counter has two decimal digits


def script(work: CommandWork, profile: MeterProfile, tools: Tools) -> Script:
    """The script that carries a command out and leaves what it found in `work.execution`."""
    if work.command == CLOCK:
        return correct_clock(work, profile, tools)
    if work.command == RESET:
        return _reset(work, profile, tools)
    if work.command in (SET_DATE, SET_TIME):
        return set_date_or_time(work, profile, tools)
    if work.command == CLEAR:
        return _clear(work, profile, tools)
    if work.command in ON_DEMAND:
        return _read(work, profile, tools)
    return _write(work, profile, tools)


# --- writes of parameters ----------------------------------------------------------------------------------


def _write(work: CommandWork, profile: MeterProfile, tools: Tools) -> Script:
    request = build(profile, work.command, work.values, tools.local())
    run, available = work.execution, profile.has_command(ChangeLogRequest.CODE)
    want = readback.wanted(request, work.values)
    run.before = yield from _state(request, work.values)
    is_judged = bool(want) and bool(run.before)
    if is_judged and not readback.differences(request, want, run.before):
        # In force already: by our own write whose answer was lost, or since before.
        run.after = run.before
        run.end(Verdict.CONFIRMED, basis="read back", was_written=work.pending is not None)
        return
    if not is_judged:
        run.before = {_LOGGED: (yield from _logged(request, tools, available))}
        if work.pending is not None:
            _judge_by_log(work, work.pending)
            return
    answered = yield from once(work, tools, request)
    if is_refused(work, answered):
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
        answer = yield from ask(readback.READS[command])
        if answer is not None:
            answers[command] = answer.to_json()
    return readback.state(request, values, answers)


def _logged(
    request: Request, tools: Tools, is_available: bool
) -> Generator[Request | GuardedWrite, Answered, str | None]:
    """When the change log (28) last saw this command from us, by the meter's clock; None where it did not."""
    log = (yield from ask(ChangeLogRequest())) if is_available else None
    if not isinstance(log, ChangeLog):
        return None
    code, _, sub_code = key_of(request).partition("/")
    times = [
        change.at_time
        for change in (log.extended_changes if sub_code else log.changes)
        if change is not None
        and change.code == int(sub_code or code, 16)
        and change.reader_serial == tools.reader_serial
        and change.at_time is not None
    ]
    return max(times).isoformat() if times else None


def _judge_by_log(work: CommandWork, pending: Pending) -> None:
    """A write that nothing reads back, and whose answer was lost: only a new entry of the log tells of it."""
    run = work.execution
    run.before, run.after = dict(pending.before), run.before
    if run.after[_LOGGED] not in (None, run.before.get(_LOGGED)):
        run.end(Verdict.CONFIRMED, basis="change log", was_resolved=True)
        return
    run.end(
        Verdict.UNKNOWN,
        reason="no command reads it back, the answer to the write was lost and the change log does not tell",
    )


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
    answered = yield from once(work, tools, request)
    if is_refused(work, answered):
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
    run.before = _reset_state((yield from parameters()))
    if work.pending is not None:
        known = work.pending.before
        if run.before["reset_count"] != known["reset_count"]:
            run.after, run.before = run.before, dict(known)
            _judge_reset(run, was_resolved=True)
            return
    answered = yield from once(work, tools, request)
    if is_refused(work, answered):
        return
    run.after = _reset_state((yield from parameters()))
    _judge_reset(run, was_resolved=False)


def _reset_state(parameters: Parameters) -> dict[str, Any]:
    if parameters.reset_count is None:
        raise OperatorFault(
            "the counter of demand resets cannot be read: without it the period is not closed",
            where="command 21",
            remedy=CHECK_MODEL,
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
        answer = yield from ask(build(profile, work.command, work.values, tools.local()))
        if answer is None:
            run.end(Verdict.REFUSED, answer="39")
            return
        run.after = {name: value for name, value in answer.to_json().items() if name != "octets"}
        run.end(Verdict.CONFIRMED, basis="answer")
        return
    is_current = work.command == "26"
    first = yield from parameters()
    groups = min(max(first.group_count or 1, 1), MAX_GROUPS)
    blocks = {}
    for group in range(groups):
        if group or not is_current:
            kind = CurrentParametersRequest if is_current else PreviousParametersRequest
            if (yield from ask(kind(group=group))) is None:
                break
        answered = yield CurrentMemoryRequest() if is_current else PreviousMemoryRequest()
        if is_refused(work, answered):
            return
        blocks[f"channels {group * 3 + 1}-{group * 3 + 3}"] = answered.blocks
    run.after = {"blocks": blocks}
    run.end(Verdict.CONFIRMED, basis="answer")
