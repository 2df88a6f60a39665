"""A script kept to the right meter, with a password session before what needs one (13 and 11). Pure.

What stands in `password_commands` of the meter's profile is asked only in a session that the meter opened:
the seed is asked for, the token sent once, and a refusal ends the session. Nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from datetime import datetime

from collector.nbr14522.passwords import OPENING, MeterPasswords
from collector.nbr14522.sequences import Answered, GuardedWrite, Script
from faults import OperatorFault
from protocols.nbr14522.commands import changes_meter, key_of
from protocols.nbr14522.frames import NOT_IMPLEMENTED
from protocols.nbr14522.messages import (
    CurrentParametersRequest,
    OccurrenceAnswer,
    OpenSessionRequest,
    Request,
    Seed,
    SeedRequest,
    SessionOpened,
)
from protocols.nbr14522.profile import MeterProfile
from protocols.nbr14522.sending.passwords import is_open, open_session

OPEN_SESSION = "11"


@dataclass(frozen=True, slots=True)
class Desk:
    """What the wrapper may not have by itself.

    Attributes:
        serial: of the meter as the registry has it.
        passwords: finds the meter's passwords; asked for when one is needed. Raises OperatorFault.
        permit: raises OperatorFault where passwords entered then must not be tried (again).
    """

    serial: str
    passwords: Callable[[], MeterPasswords]
    permit: Callable[[datetime], Awaitable[None]]


_Steps = Generator[Request | GuardedWrite, Answered, None]


def guarded(script: Script, profile: MeterProfile, desk: Desk) -> Script:
    """The script, with who answers proven before any write, and a session before protected commands.

    Raises (into the session):
        OperatorFault: another meter answers (V10), or the session cannot be opened.
    """
    opened: set[bool] = set()
    known: Answered | None = None
    try:
        request = next(script)
        while True:
            is_write = isinstance(request, GuardedWrite) or changes_meter(request)
            command = request.command if isinstance(request, GuardedWrite) else key_of(request)
            is_protected = command in profile.password_commands and is_write not in opened
            if is_write or is_protected:
                known = known or (yield CurrentParametersRequest())
                _same_meter(known, profile, desk)
            if is_protected:
                yield from _open(profile, desk, _serial(known), is_write=is_write)
                opened.add(is_write)
            answered = yield request
            known = known or (answered if answered.content is not None else None)
            request = script.send(answered)
    except StopIteration:
        return
    finally:
        script.close()


def _serial(answered: Answered | None) -> str:
    content = b"" if answered is None else answered.content or b""
    return content[1:5].hex().upper()


def _same_meter(answered: Answered, profile: MeterProfile, desk: Desk) -> None:
    serial = _serial(answered)
    if not profile.same_serial(desk.serial, serial):
        raise OperatorFault(
            f"meter {serial} answered, the registry names {desk.serial}: nothing is written (V10)",
            where="serial",
            remedy="if the meter was changed, register the new one; else correct the unit's address",
        )


def _open(profile: MeterProfile, desk: Desk, serial: str, *, is_write: bool) -> _Steps:
    """13, 11, and the verdict. A read is asked with the read password where there is one."""
    passwords = desk.passwords()
    uses_write = is_write or passwords.read is None
    chosen = passwords.write if uses_write else passwords.read
    if chosen is None:
        raise OperatorFault(
            f"no write password for meter {desk.serial}",
            where="password",
            remedy="add write or write_hex to its entry in collector.meter_passwords_path",
        )
    seed = (yield SeedRequest()).decode()
    if not isinstance(seed, Seed):
        raise _no_session("13", seed)
    request = open_session(
        profile.password_transform,
        seed,
        serial,
        write_password=chosen if uses_write else None,
        read_password=None if uses_write else chosen,
        user=passwords.user,
    )

    async def prepare() -> OpenSessionRequest:
        await desk.permit(passwords.since)
        return request

    answered = yield GuardedWrite(OPEN_SESSION, prepare)
    told = answered.decode()
    if isinstance(told, SessionOpened) and is_open(profile.password_answer, told, is_write=uses_write):
        return
    if told is not None and told.code == NOT_IMPLEMENTED:
        raise _no_session(OPEN_SESSION, told)
    raise OperatorFault(
        f"the meter refuses the {'write' if uses_write else 'read'} password: {_told(told)}",
        where=OPENING,
        remedy="before another try, correct it in collector.meter_passwords_path and set its since to now: "
        "a meter may lock",
    )


def _told(told: object) -> str:
    match told:
        case SessionOpened():
            return f"results {told.write_result} and {told.read_result}"
        case OccurrenceAnswer():
            return f"occurrence {told.occurrence or 0:02X}"
    return "an answer of another kind"


def _no_session(command: str, told: object) -> OperatorFault:
    what = _told(told) if isinstance(told, OccurrenceAnswer) else "39"
    return OperatorFault(
        f"the meter answers {what} to {command}: no password session can be opened",
        where="password",
        remedy="check password_commands and password_transform in the meter's profile",
    )
