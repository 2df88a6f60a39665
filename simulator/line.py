"""One connection to one meter, without a socket: link, conversation and faults put together.

Octets and time go in; what the line carries back comes out as `Sending`s. The servers only move octets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from protocols.nbr14522.frames import Addressing
from protocols.nbr14522.link import NEED_DATA, CommandReceived, FrameSent, MeterLink, SignalSent
from protocols.nbr14522.messages import decode_request
from protocols.nbr14522.profile import MeterProfile
from simulator.answers import Conversation
from simulator.faultplan import ConnectionCount, FaultPlan, LineFaults, Sending
from simulator.meter import SimulatedMeter

SimulatedClock = Callable[[], datetime]
"""The instant that the meters live in; aware."""


@dataclass
class Station:
    """A meter at the end of a line, with the faults of that line."""

    meter: SimulatedMeter
    clock: SimulatedClock
    faults: FaultPlan

    def __post_init__(self) -> None:
        self._connections = ConnectionCount(self.faults)

    def connect(self, now_s: float, profile: MeterProfile | None = None) -> Line:
        """A new connection at link time `now_s`."""
        return Line(self, self._connections.connect(self.clock()), profile, now_s)


class Line:
    """One connection. `now_s` is any steadily growing time in seconds; the meter has the station's clock."""

    def __init__(
        self, station: Station, faults: LineFaults, profile: MeterProfile | None, now_s: float
    ) -> None:
        self.faults = faults
        self._station = station
        spec = station.meter.spec
        self._link_profile = profile or spec.profile
        self._link = MeterLink(self._link_profile, spec.serial, now_s)
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
        self._link.receive(data, now_s)
        return self._work(now_s)

    def advance(self, now_s: float) -> list[Sending]:
        """What goes out because time has passed."""
        if self.is_mute:
            return []
        if self._ready_at is not None and self._ready_at <= now_s:
            self._ready_at = None
            self._link.ready(now_s)
        self._link.advance(now_s)
        return self._work(now_s)

    def next_deadline(self) -> float | None:
        """When `advance` is due."""
        if self.is_mute:
            return None
        due = [at for at in (self._link.next_deadline(), self._ready_at) if at is not None]
        return min(due, default=None)

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
