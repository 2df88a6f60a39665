"""The seam between the service and the protocols of meters.

Queue, limits, transports, evidence, reading tables are the same for all; a driver has one session with one
meter, and says what stored frames mean. The profile that the registry gives a meter's model names its driver.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Protocol

from collector import commands, dlms_counters, dlms_script
from collector.batching import Worker
from collector.command_steps import Tools, Writing
from collector.decode import decode_session
from collector.decoded import Decoded, Frame, MeterContext
from collector.dlms_decode import decode_dlms
from collector.dlms_secrets import secrets_for
from collector.dlms_session import DlmsLine, read_dlms
from collector.password_session import Desk, guarded
from collector.passwords import find_passwords
from collector.planning import to_local
from collector.sequences import Script, script_for
from collector.session import Line, Recorder, SessionResult, Way, read_meter
from collector.transports import Endpoint, Timeouts
from collector.worklist import Assignment, Target, market_zone
from faults import OperatorFault
from protocols.dlms.models import model_named, models
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


class DlmsDriver:
    """See `dlms_session`, `dlms_script` and `dlms_decode`."""

    name = "dlms"
    takes_commands = False

    def check(self, profile: str) -> None:
        model_named(profile)

    async def read(self, visit: Visit) -> SessionResult:
        goal = visit.assignment.goal
        try:
            if goal is None:
                raise OperatorFault(
                    "no commands are sent to DLMS meters",
                    where=visit.target.serial,
                    remedy="cancel the request",
                )
            line = self._line(visit)
        except OperatorFault as fault:
            return SessionResult("failed", "registry", fault, 0, 0, 0, 0)
        zone = market_zone(visit.settings)
        expected = to_local(visit.now(), zone)
        work = partial(dlms_script.visit, model=line.model, goal=goal, now=expected, zone=zone)
        return await read_dlms(line, work, visit.record, visit.now, visit.way)

    def decode(self, frames: Sequence[Frame], profile: str, context: MeterContext) -> Decoded:
        return decode_dlms(frames, model_named(profile), context)

    @staticmethod
    def _line(visit: Visit) -> DlmsLine:
        limits, writes = visit.settings.collector, visit.writes

        def reserve(key_id: str, title: str, above: int, count: int) -> Awaitable[int]:
            return writes.call(dlms_counters.reserve, key_id, title, above, count)

        def is_known(key_id: str, title: str) -> Awaitable[bool]:
            return writes.call(dlms_counters.is_known, key_id, title)

        model = model_named(visit.target.profile).at_address(visit.endpoint.address)
        return DlmsLine(
            endpoint=visit.endpoint,
            model=model,
            timeouts=visit.timeouts,
            secrets=secrets_for(limits.dlms_secrets_path, model, visit.target.serial),
            title=bytes.fromhex(limits.dlms_client_title),
            reserve=reserve,
            is_counter_known=is_known,
        )


NBR14522: Driver = Nbr14522Driver()
DLMS: Driver = DlmsDriver()
DRIVERS: Mapping[str, Driver] = {driver.name: driver for driver in (NBR14522, DLMS)}


def driver_of(profile: str) -> Driver:
    """The driver of a meter's profile; an unknown one is refused by its `check`."""
    return DLMS if profile in models() else NBR14522
