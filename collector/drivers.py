"""The seam between the service and the protocols of meters.

Queue, limits, transports, evidence, reading tables are the same for all; a driver has one session with one
meter, a decoder says what stored frames mean. Both are found by `protocols.table`: the profile that the
registry gives a meter's model names its protocol, and so does the row of a session.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol

import psycopg

from collector.commands.names import CLOCK
from collector.decoded import Decoded, Frame, Issue, MeterContext
from faults import OperatorFault
from faults.market_time import to_local
from protocols.table import entry_named, part, protocol_of
from storage.settings import Settings

if TYPE_CHECKING:
    # Whoever only decodes, as a trace does, needs neither sessions nor commands.
    from collector.batching import Worker
    from collector.commands.clock.arithmetic import ClockWay
    from collector.commands.preview import Preview
    from collector.commands.steps import Writing
    from collector.lines.transports import Endpoint, Timeouts
    from collector.session import Recorder, SessionResult, Way
    from collector.work.worklist import Assignment, Target


@dataclass(frozen=True, slots=True)
class Visit:
    """One session to be had.

    Attributes:
        record: takes every frame, without secrets, before anybody decodes it.
        commit: puts on record what is about to be written to the meter.
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
    """How a protocol has sessions with meters that are asked."""

    async def read(self, visit: Visit) -> SessionResult:
        """Have the session; raises nothing that a line or a meter can cause."""

    def offers(self, profile: str) -> Sequence[Offered]:
        """The commands that can be sent on request."""

    def preview(self, profile: str, asking: Asking) -> Preview:
        """What one of the commands offered will do.

        Raises:
            OperatorFault: it cannot be sent so.
        """

    def clock_way(self, profile: str) -> ClockWay | None:
        """How the clock rule corrects clocks of this profile; None: it cannot."""


class Decoder(Protocol):
    """What the stored frames of a protocol's sessions mean."""

    def decode(self, frames: Sequence[Frame], profile: str, context: MeterContext) -> Decoded:
        """What a session brought. Pure: same frames, same result."""

    def check_history(
        self, conn: psycopg.Connection[Any], sessions: Sequence[tuple[int, MeterContext, Decoded]]
    ) -> Mapping[int, Sequence[Issue]]:
        """What sessions (id, context, what they brought) contradict of those stored before them, by id."""


class WithoutHistory:
    """A decoder's part where a protocol's sessions prove nothing about one another."""

    def check_history(
        self, conn: psycopg.Connection[Any], sessions: Sequence[tuple[int, MeterContext, Decoded]]
    ) -> Mapping[int, Sequence[Issue]]:
        return {}


CLOCK_OFFERED = Offered(CLOCK, "correct the clock inside an interval", "clock", None)


def driver_of(profile: str) -> Driver:
    """The driver of a meter's profile.

    Raises:
        OperatorFault: no catalogue has the profile, or its meters speak by themselves.
    """
    entry = protocol_of(profile)
    if entry.driver is None:
        raise OperatorFault(
            "this meter speaks by itself and cannot be asked",
            where=f"profile {profile}",
            remedy=f"the collector's service listens to it; smf read {entry.name} URL shows the line live",
        )
    driver: Driver = part(entry.driver)
    return driver


def decoder_of(protocol: str) -> Decoder:
    """Who decodes the stored frames of a session of this protocol."""
    decoder: Decoder = part(entry_named(protocol).decoder)
    return decoder


def check_offered(profile: str, command: str) -> None:
    """Refuse a command that the protocol of a profile does not have, or that is no command on request.

    Raises:
        OperatorFault: with the commands that there are.
    """
    offered = [one.command for one in driver_of(profile).offers(profile)]
    if command not in offered:
        raise OperatorFault(
            f"command {command} cannot be sent on request to meters of profile {profile}",
            where="command",
            remedy=f"these are: {', '.join(offered)}; readings are asked for with smf read",
        )
