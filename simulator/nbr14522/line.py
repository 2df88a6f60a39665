"""One connection to a meter, or to several on one bus, without a socket: link, conversation and faults.

Octets and time go in; what the line carries back comes out as `Sending`s. The servers only move octets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce
from itertools import zip_longest
from typing import Protocol

from faults import DeveloperFault
from protocols.nbr14522.frames import Addressing
from protocols.nbr14522.link import NEED_DATA, CommandReceived, FrameSent, MeterLink, SignalSent
from protocols.nbr14522.messages import (
    LimitUnit,
    WholeMemoryParametersRequest,
    WholeMemoryRequest,
    decode_request,
)
from protocols.nbr14522.profile import MeterProfile
from simulator.nbr14522.answers import Conversation
from simulator.nbr14522.meter import SimulatedMeter
from simulator.wires.faultplan import ConnectionCount, FaultPlan, LineFaults, Sending

SimulatedClock = Callable[[], datetime]
"""The instant that the meters live in; aware."""


@dataclass(frozen=True)
class EnqPace:
    """How a plain (P0) meter's ENQ come through its gateway.

    Args:
        period_s: time between two; None: as the meter's profile has it.
        quiet_after_s: the gateway passes none on once the other side has been silent for so long, as a unit
            on a metered radio contract must; its next octet wakes the line. None: they go on.
    """

    period_s: float | None = None
    quiet_after_s: float | None = None

    def applied_to(self, profile: MeterProfile) -> MeterProfile:
        if self.period_s is None:
            return profile
        return replace(profile, timing=replace(profile.timing, meter_enq_period_s=self.period_s))


AS_THE_METER = EnqPace()


class LineEnd(Protocol):
    """What a connection reaches: one meter's line, or a bus."""

    faults: LineFaults

    def receive(self, data: bytes, now_s: float) -> list[Sending]:
        """What goes back when these octets have arrived."""
        ...

    def advance(self, now_s: float) -> list[Sending]:
        """What goes out because time has passed."""
        ...

    def next_deadline(self) -> float | None:
        """When `advance` is due."""
        ...


class Place(Protocol):
    """Where a connection leads."""

    @property
    def stations(self) -> Sequence[Station]: ...

    def connect(self, now_s: float, pace: EnqPace = AS_THE_METER) -> LineEnd:
        """A new connection at link time `now_s`."""
        ...


@dataclass
class Station:
    """A meter at the end of a line, with the faults of that line."""

    meter: SimulatedMeter
    clock: SimulatedClock
    faults: FaultPlan

    def __post_init__(self) -> None:
        self._connections = ConnectionCount(self.faults)

    @property
    def stations(self) -> tuple[Station]:
        return (self,)

    def make_ready(self) -> None:
        """Count memory and registers before anybody asks: the first answer is then as quick as any.

        Counted at the first question, 140 days take half a second, and a strict reader waits no longer.
        """
        conversation = Conversation(self.meter)
        for request in (WholeMemoryParametersRequest(unit=LimitUnit.EVERYTHING), WholeMemoryRequest()):
            conversation.answer(request, self.clock())

    def connect(self, now_s: float, pace: EnqPace = AS_THE_METER) -> Line:
        """See `Place`."""
        return Line(self, self._connections.connect(self.clock()), pace, now_s)


class Line:
    """One connection. `now_s` is any steadily growing time in seconds; the meter has the station's clock."""

    def __init__(self, station: Station, faults: LineFaults, pace: EnqPace, now_s: float) -> None:
        self.faults = faults
        self._station = station
        self._link_profile = pace.applied_to(station.meter.spec.profile)
        self._quiet_after_s = pace.quiet_after_s
        self._heard_at_s = now_s
        self._is_quiet = False
        self._link = self._new_link(now_s)
        self._conversation = Conversation(station.meter)
        can_wait = self._link_profile.addressing is Addressing.P0
        self._wait_count = faults.plan.wait_count if can_wait else 0
        self._waits_left = self._wait_count
        self._ready_at: float | None = None

    @property
    def is_mute(self) -> bool:
        """Whether nothing will be said: a silent line, or a meter without supply."""
        return self.faults.silent or not self._station.meter.is_powered(self._station.clock())

    def receive(self, data: bytes, now_s: float) -> list[Sending]:
        """What goes back when these octets have arrived."""
        if self.is_mute:
            return []
        if self._is_quiet:
            self._link = self._new_link(now_s)
            self._is_quiet = False
        self._heard_at_s = now_s
        self._link.receive(data, now_s)
        return self._work(now_s)

    def advance(self, now_s: float) -> list[Sending]:
        """What goes out because time has passed."""
        if self.is_mute:
            return []
        if self._quiet_after_s is not None and now_s - self._heard_at_s > self._quiet_after_s:
            self._is_quiet = True
            return []
        if self._ready_at is not None and self._ready_at <= now_s:
            self._ready_at = None
            self._link.ready(now_s)
        self._link.advance(now_s)
        return self._work(now_s)

    def next_deadline(self) -> float | None:
        """When `advance` is due."""
        if self.is_mute or self._is_quiet:
            return None
        due = [at for at in (self._link.next_deadline(), self._ready_at) if at is not None]
        return min(due, default=None)

    def _new_link(self, now_s: float) -> MeterLink:
        return MeterLink(self._link_profile, self._station.meter.spec.serial, now_s)

    def _work(self, now_s: float) -> list[Sending]:
        out: list[Sending] = []
        while (event := self._link.next_event()) is not NEED_DATA:
            match event:
                case CommandReceived():
                    self._command(event, now_s)
                case FrameSent():
                    out.append(self.faults.send_block(event.octets))
                case SignalSent():
                    out.append(Sending(bytes([event.signal]) * event.count))
                case _:
                    pass
        # The events above said the same octets one by one, so that faults can tell blocks from signals.
        self._link.data_to_send()
        return out

    def _command(self, event: CommandReceived, now_s: float) -> None:
        if self._waits_left:
            self._waits_left -= 1
            self._link.delay(now_s)
            self._ready_at = now_s + self.faults.plan.wait_s
            return
        self._waits_left = self._wait_count
        answer = self._conversation.answer(decode_request(event.frame), self._station.clock())
        self._link.send(answer, now_s)


class Bus:
    """Several meters that share one address: each hears every octet, and answers what is addressed to it.

    Args:
        faults: of the common way; what each station's own plan says of its blocks counts on top.

    Raises:
        DeveloperFault: a meter that is not addressed (P0) among others, or two with one address.
    """

    def __init__(self, stations: Sequence[Station], faults: FaultPlan) -> None:
        profiles = [station.meter.spec.profile for station in stations]
        addresses = [
            profile.address if profile.addressing is Addressing.P2 else station.meter.spec.serial
            for station, profile in zip(stations, profiles, strict=True)
        ]
        is_plain = any(profile.addressing is Addressing.P0 for profile in profiles)
        if len(stations) > 1 and (is_plain or len(set(addresses)) < len(addresses)):
            raise DeveloperFault(
                f"these meters cannot share a line: addresses {addresses}",
                where="bus",
                remedy="use P8 or P2, each meter with an address of its own",
            )
        self.stations = tuple(stations)
        self._clock = stations[0].clock
        self._connections = ConnectionCount(faults)

    def connect(self, now_s: float, pace: EnqPace = AS_THE_METER) -> BusLine:
        """See `Place`."""
        lines = [station.connect(now_s, pace) for station in self.stations]
        return BusLine(lines, self._connections.connect(self._clock()))


class BusLine:
    """One connection to a bus."""

    def __init__(self, lines: Sequence[Line], faults: LineFaults) -> None:
        self.faults = faults
        self._lines = lines

    def receive(self, data: bytes, now_s: float) -> list[Sending]:
        """See `LineEnd`."""
        return self._together([line.receive(data, now_s) for line in self._lines])

    def advance(self, now_s: float) -> list[Sending]:
        """See `LineEnd`."""
        return self._together([line.advance(now_s) for line in self._lines])

    def next_deadline(self) -> float | None:
        """See `LineEnd`."""
        due = [at for at in (line.next_deadline() for line in self._lines) if at is not None]
        return min(due, default=None)

    def _together(self, spoken: list[list[Sending]]) -> list[Sending]:
        """What the bus carries of what its meters say: two that speak at once spoil each other's octets."""
        speaking = [sendings for sendings in spoken if sendings]
        if self.faults.silent or not speaking:
            return []
        if len(speaking) == 1:
            return [self._pass(sending) for sending in speaking[0]]
        wires = [b"".join(s.octets for s in sendings) for sendings in speaking]
        # A line that any meter can pull low carries the bits that all of them leave high.
        mixed = bytes(reduce(int.__and__, column) for column in zip_longest(*wires, fillvalue=0xFF))
        return [Sending(mixed)]

    def _pass(self, sending: Sending) -> Sending:
        is_whole_block = len(sending.octets) > 1 and not sending.breaks
        return self.faults.send_block(sending.octets) if is_whole_block else sending
