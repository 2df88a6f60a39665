"""The seam between the service and the protocols of meters.

Queue, limits, transports, evidence, reading tables are the same for all; a driver has one session with one
meter, and says what stored frames mean. The profile that the registry gives a meter's model names its driver.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from typing import Protocol

from collector import commands
from collector.batching import Worker
from collector.command_steps import Tools, Writing
from collector.decode import decode_session
from collector.decoded import Decoded, Frame, MeterContext
from collector.password_session import Desk, guarded
from collector.passwords import find_passwords
from collector.sequences import Script, script_for
from collector.session import Line, Recorder, SessionResult, Way, read_meter
from collector.transports import Endpoint, Timeouts
from collector.worklist import Assignment, Target, market_zone
from protocols.dlms.models import models
from protocols.nbr14522.profile import MeterProfile
from protocols.nbr14522.profiles import profile_named
from storage.settings import Settings


@dataclass(frozen=True, slots=True)
class Visit:
    """One session to be had.

    Attributes:
        record: takes every frame, without secrets, before anybody decodes it.
        commit: puts on record what is about to be written to the meter.
        permit_password: see `passwords.permit_attempt`.
        writes: for what must be committed before it is used.
    """

    assignment: Assignment
    target: Target
    endpoint: Endpoint
    timeouts: Timeouts
    settings: Settings
    now: Callable[[], datetime]
    record: Recorder
    way: Way
    commit: Callable[[Writing], Awaitable[None]]
    permit_password: Callable[[datetime], Awaitable[None]]
    writes: Worker


class Driver(Protocol):
    """A protocol.

    Attributes:
        name: as in the column `protocol` of sessions.
        takes_commands: whether the commands and the clock rule of `command_policy` apply.
    """

    name: str
    takes_commands: bool

    def check(self, profile: str) -> None:
        """Refuse a profile that no session can be begun with.

        Raises:
            OperatorFault: it is unknown, or lacks something.
        """

    async def read(self, visit: Visit) -> SessionResult:
        """Have the session; raises nothing that a line or a meter can cause."""

    def decode(self, frames: Sequence[Frame], profile: str, context: MeterContext) -> Decoded:
        """What the stored frames of a session mean. Pure: same frames, same result."""


class Nbr14522Driver:
    """See `session`, `sequences`, `commands` and `decode`."""

    name = "nbr14522"
    takes_commands = True

    def check(self, profile: str) -> None:
        profile_named(profile)

    async def read(self, visit: Visit) -> SessionResult:
        profile = visit.endpoint.applied_to(profile_named(visit.target.profile))
        line = Line(
            endpoint=visit.endpoint,
            profile=profile,
            meter_serial=profile.addressed_serial(visit.target.serial),
            reader_serial=visit.settings.collector.reader_serial,
            timeouts=visit.timeouts,
        )
        script = guarded(self._script(visit, profile), profile, self._desk(visit))
        return await read_meter(line, script, visit.record, visit.now, way=visit.way)

    def decode(self, frames: Sequence[Frame], profile: str, context: MeterContext) -> Decoded:
        return decode_session(frames, profile_named(profile), context)

    @staticmethod
    def _desk(visit: Visit) -> Desk:
        target, path = visit.target, visit.settings.collector.meter_passwords_path
        return Desk(
            target.serial, partial(find_passwords, path, target.serial, target.profile), visit.permit_password
        )

    @staticmethod
    def _script(visit: Visit, profile: MeterProfile) -> Script:
        work, goal = visit.assignment.command, visit.assignment.goal
        if work is None:
            assert goal is not None
            return script_for(goal, profile)
        reader_serial = visit.settings.collector.reader_serial
        tools = Tools(visit.now, market_zone(visit.settings), asyncio.sleep, visit.commit, reader_serial)
        return commands.script(work, profile, tools)


NBR14522: Driver = Nbr14522Driver()


@cache
def _dlms() -> Driver:
    # With its cryptography it weighs 7 MB, as much as hundreds of sessions of a collector that needs none.
    from collector.dlms_driver import DlmsDriver

    return DlmsDriver()


def driver_named(name: str) -> Driver:
    """The driver of a session's protocol.

    Raises:
        KeyError: no driver has that name.
    """
    if name == NBR14522.name:
        return NBR14522
    if name == "dlms":
        return _dlms()
    raise KeyError(name)


def driver_of(profile: str) -> Driver:
    """The driver of a meter's profile; an unknown one is refused by its `check`."""
    return _dlms() if profile in models() else NBR14522
