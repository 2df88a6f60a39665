"""The seam between the service and the protocols of meters.

Queue, limits, transports, evidence, reading tables are the same for all; a driver has one session with one
meter, and says what stored frames mean. The profile that the registry gives a meter's model names its driver.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache, partial
from typing import Any, Protocol

from collector.batching import Worker
from collector.commands import scripts as commands
from collector.commands.clock.arithmetic import ClockWay, Method
from collector.commands.preview import Preview, preview
from collector.commands.steps import CLOCK, MICRO_ADJUST, ON_DEMAND, Tools, Writing
from collector.decoded import Decoded, Frame, MeterContext
from collector.lines.transports import Endpoint, Timeouts
from collector.nbr14522.decode import decode_session
from collector.nbr14522.password_session import Desk, guarded
from collector.nbr14522.passwords import find_passwords
from collector.nbr14522.sequences import Script, script_for
from collector.nbr14522.session import Line, Recorder, SessionResult, Way, read_meter
from collector.worklist import Assignment, Target
from faults import OperatorFault
from faults.market_time import to_local
from protocols.dlms.models import models
from protocols.nbr14522.commands import COMMANDS
from protocols.nbr14522.profile import ClockChange, MeterProfile
from protocols.nbr14522.profiles import profile_named
from protocols.nbr14522.sending import refusal
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


@dataclass(frozen=True, slots=True)
class Offered:
    """A command that can be sent on request.

    Attributes:
        layout: what its octets rest on: a confidence letter, "profile", or None.
        refused: why not to meters of this profile, though the protocol has it.
    """

    command: str
    name: str
    kind: str
    layout: str | None
    refused: OperatorFault | None = None


@dataclass(frozen=True, slots=True)
class Asking:
    """A command that somebody asks for, and what its preview takes. `now`: aware; `zone`: of the market."""

    command: str
    values: Mapping[str, Any]
    meter_serial: str
    reader_serial: str
    now: datetime
    zone: timezone

    @property
    def local_now(self) -> datetime:
        return to_local(self.now, self.zone)


class Driver(Protocol):
    """A protocol.

    Attributes:
        name: as in the column `protocol` of sessions.
    """

    name: str

    def check(self, profile: str) -> None:
        """Refuse a profile that no session can be begun with.

        Raises:
            OperatorFault: it is unknown, or lacks something.
        """

    async def read(self, visit: Visit) -> SessionResult:
        """Have the session; raises nothing that a line or a meter can cause."""

    def decode(self, frames: Sequence[Frame], profile: str, context: MeterContext) -> Decoded:
        """What the stored frames of a session mean. Pure: same frames, same result."""

    def offers(self, profile: str) -> Sequence[Offered]:
        """The commands that can be sent on request."""

    def preview(self, profile: str, asking: Asking) -> Preview:
        """What one of the commands offered will do.

        Raises:
            OperatorFault: it cannot be sent so.
        """

    def clock_way(self, profile: str) -> ClockWay:
        """How the clock rule corrects clocks of this profile."""


CLOCK_OFFERED = Offered(CLOCK, "correct the clock inside an interval", "clock", None)


class Nbr14522Driver:
    """See `session`, `sequences`, `commands` and `decode`."""

    name = "nbr14522"

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

    def offers(self, profile: str) -> Sequence[Offered]:
        meters = profile_named(profile)
        listed = [
            Offered(
                key,
                info.name,
                info.kind.value,
                "profile" if meters.layout_of(key) else info.layout_confidence,
                refusal(meters, key),
            )
            for key, info in COMMANDS.items()
            if key in ON_DEMAND or info.may_change_meter
        ]
        return [*listed, CLOCK_OFFERED]

    def preview(self, profile: str, asking: Asking) -> Preview:
        return preview(
            profile_named(profile),
            asking.command,
            asking.values,
            meter_serial=asking.meter_serial,
            reader_serial=asking.reader_serial,
            local_now=asking.local_now,
        )

    def clock_way(self, profile: str) -> ClockWay:
        meters = profile_named(profile)
        if meters.layout_of(MICRO_ADJUST) is not None:
            return ClockWay(Method.MICRO_ADJUST, "the model has the micro adjustment", "29 and 30")
        return ClockWay(
            Method.SET,
            "no micro adjustment in the model's profile: set with 30",
            "29 and 30",
            meters.clock_change is ClockChange.CLOSE_PERIOD,
        )

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
        tools = Tools(visit.now, visit.settings.market.tzinfo, asyncio.sleep, visit.commit, reader_serial)
        return commands.script(work, profile, tools)


NBR14522: Driver = Nbr14522Driver()


@cache
def _dlms() -> Driver:
    # With its cryptography it weighs 7 MB, as much as hundreds of sessions of a collector that needs none.
    from collector.dlms.driver import DlmsDriver

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


def check_offered(profile: str, command: str) -> None:
    """Refuse a command that the protocol of a profile does not have, or that is no command on request.

    Raises:
        OperatorFault: with the commands that there are.
    """
    offered = [one.command for one in driver_of(profile).offers(profile)]
    if command not in offered:
        raise OperatorFault(
            f"command {command} is none that is sent on request to meters of profile {profile}",
            where="command",
            remedy=f"these are: {', '.join(offered)}; readings are asked for with smf read",
        )
