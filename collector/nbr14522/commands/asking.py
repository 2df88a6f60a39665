"""What scripts of NBR 14522 commands share: how a command is built, asked, and written once. Pure."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from typing import Any

from collector.commands.steps import CHECK_MODEL, NOW, CommandWork, Tools, Verdict, Writing
from collector.nbr14522.sequences import Answered, GuardedWrite
from faults import OperatorFault
from protocols.nbr14522.commands import COMMANDS, key_of
from protocols.nbr14522.frames import NOT_IMPLEMENTED, OCCURRENCE
from protocols.nbr14522.messages import (
    CurrentParametersRequest,
    Occurrence,
    OccurrenceAnswer,
    Parameters,
    Request,
    Response,
    weekday_of,
)
from protocols.nbr14522.profile import MeterProfile
from protocols.nbr14522.sending.building import build_request

MICRO_ADJUST = "98/30"
RESET, SET_DATE, SET_TIME, CLEAR = "20", "29", "30", "37"
ON_DEMAND = frozenset({"14", "26", "27", "80"})


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
            f"command {command} cannot be sent on request",
            where="command",
            remedy="smf command list shows them; readings are asked for with smf read",
        )
    return build_request(profile, command, known)


Asking = Generator[Request | GuardedWrite, Answered, Response | None]
Writes = Generator[Request | GuardedWrite, Answered, Answered]


def ask(request: Request) -> Asking:
    """The answer to a read; None where the meter does not have the command.

    Raises:
        OperatorFault: the meter answers with an occurrence.
    """
    answer = (yield request).decode()
    if isinstance(answer, OccurrenceAnswer):
        raise hindered(answer, request)
    return None if answer is None or answer.code == NOT_IMPLEMENTED else answer


def parameters() -> Generator[Request | GuardedWrite, Answered, Parameters]:
    answer = yield from ask(CurrentParametersRequest())
    if not isinstance(answer, Parameters):
        raise OperatorFault("the meter does not give its parameters", where="command 21", remedy=CHECK_MODEL)
    return answer


def hindered(answer: OccurrenceAnswer, request: Request) -> OperatorFault:
    return OperatorFault(
        f"the meter answers with occurrence {answer.occurrence or 0:02X}",
        where=f"command {request.code:02X}",
        remedy="command 37 clears the occurrences that may be cleared; nothing was written",
    )


def once(work: CommandWork, tools: Tools, request: Request, **detail: Any) -> Writes:
    """Record, then send: once, whatever the line does."""

    async def prepare() -> Request:
        at = tools.now().astimezone(UTC).isoformat()
        frame = request.encode(tools.reader_serial)
        await tools.commit(Writing(work.execution.before, frame, detail | {"at": at}))
        return request

    return (yield GuardedWrite(key_of(request), prepare))


def is_refused(work: CommandWork, answered: Answered) -> bool:
    """Whether the meter declined (39, 40); then that is the verdict."""
    if answered.code == NOT_IMPLEMENTED:
        work.execution.end(Verdict.REFUSED, answer="39")
        return True
    if answered.code == OCCURRENCE:
        answer = answered.decode()
        assert isinstance(answer, OccurrenceAnswer)
        occurrence, detail = f"{answer.occurrence or 0:02X}", f"{answer.detail or 0:02X}"
        run = work.execution
        run.end(Verdict.REFUSED, answer="40", occurrence=occurrence, occurrence_detail=detail)
        if answer.occurrence == Occurrence.SESSION_NEEDED:
            run.detail["remedy"] = (
                "nothing was changed; the meter wants its password: name the command in "
                "password_commands of its profile, see docs/comandos_e_relogios.md, Senhas"
            )
        return True
    return False
