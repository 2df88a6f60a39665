"""The meter's end of one connection (asyncio): octets to the line, what comes of them to the transport."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import replace
from typing import Protocol, cast

from simulator.nbr14522.line import EnqPace, LineEnd, Place
from simulator.wires.faultplan import BITS_PER_OCTET, Sending
from simulator.wires.impairment import Direction, ImpairedLine, Parcel

# A slow line hands out octets in portions of this duration.
PACE_S = 0.02


class Owner(Protocol):
    """Whoever has the meter and its connections."""

    @property
    def station(self) -> Place: ...

    @property
    def pace(self) -> EnqPace: ...

    def take_over(self, end: MeterEnd) -> None:
        """A connection begins."""

    def let_go(self, end: MeterEnd) -> None:
        """A connection is over, or dead without the other side's knowledge."""


class Codec(Protocol):
    """What a gateway does to the octets between the meter and the network."""

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """Octets for the meter, and octets that the gateway itself answers."""
        ...

    def encode(self, data: bytes) -> bytes: ...


class MeterEnd(asyncio.Protocol):
    """One connection, at the line's pace and with the line's luck."""

    def __init__(self, owner: Owner, codec: Codec | None = None) -> None:
        self._owner = owner
        self._codec = codec
        self._loop = asyncio.get_running_loop()
        self._line: LineEnd | None = None
        self._air: ImpairedLine | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pacer: asyncio.TimerHandle | None = None
        self._break: asyncio.TimerHandle | None = None
        self._queue: deque[Sending] = deque()
        self._credit = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the other side still sees a connection, dead or alive."""
        return self._transport is not None

    @property
    def own_address(self) -> object:
        """Host and port of this end, as the other side sees them; None once closed."""
        return None if self._transport is None else self._transport.get_extra_info("sockname")

    # --- the transport's side -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        now_s = self._loop.time()
        self._transport = cast("asyncio.Transport", transport)
        self._line = self._owner.station.connect(now_s, self._owner.pace)
        self._owner.take_over(self)
        faults = self._line.faults
        self._air = faults.impaired_line(now_s)
        if faults.refused or (self._air is not None and self._air.is_refused):
            self.break_off()
            return
        if self._air is not None and self._air.breaks_at_s is not None:
            self._break = self._loop.call_at(self._air.breaks_at_s, self._end_of_luck)
        hello = faults.plan.hello
        self._send([Sending(hello)] if hello else [])
        self._arm()

    def data_received(self, data: bytes) -> None:
        if self._air is None:
            self._arrived(data)
        else:
            self._carry(self._air.up, data, self._arrived)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        self._transport = None
        self._owner.let_go(self)

    def break_off(self) -> None:
        """End the connection at once, without a farewell."""
        self._stop()
        if self._transport is not None:
            self._transport.abort()

    def fall_dead(self) -> None:
        """End it without telling the other side, which keeps a connection that nobody answers."""
        self._stop()
        self._owner.let_go(self)

    # --- the meter's side -----------------------------------------------------------------------------

    def say(self, octets: bytes) -> None:
        """Send octets of the unit's own, such as a keep-alive."""
        self._send([Sending(octets)])

    def _arrived(self, data: bytes) -> None:
        if self._line is None:
            return
        if self._codec is not None:
            data, reply = self._codec.receive(data)
            if reply:
                self._put(reply)
        if data:
            self._send(self._line.receive(data, self._loop.time()))
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._line.next_deadline() if self._line is not None else None
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._line is not None:
            self._send(self._line.advance(self._loop.time()))
            self._arm()

    def _stop(self) -> None:
        self._line = None
        self._queue.clear()
        for timer in (self._timer, self._pacer, self._break):
            if timer is not None:
                timer.cancel()
        self._timer = self._pacer = self._break = None

    # --- out ------------------------------------------------------------------------------------------

    def _send(self, sendings: list[Sending]) -> None:
        if self._line is None or self._transport is None:
            return
        if self._line.faults.plan.baud is not None:
            self._queue.extend(sendings)
            if self._pacer is None:
                self._pace()
            return
        for sending in sendings:
            self._put(sending.octets if self._codec is None else self._codec.encode(sending.octets))
            if sending.breaks:
                self._close()
                return

    def _pace(self) -> None:
        """Hand out what a line of this rate carries in one portion of time."""
        self._pacer = None
        if self._line is None or self._transport is None:
            return
        baud = self._line.faults.plan.baud or 0
        self._credit += baud / BITS_PER_OCTET * PACE_S
        while self._queue and self._credit >= 1.0:
            head = self._queue.popleft()
            portion = head.octets[: int(self._credit)]
            rest = replace(head, octets=head.octets[len(portion) :])
            self._credit -= len(portion)
            self._put(portion if self._codec is None else self._codec.encode(portion))
            if rest.octets:
                self._queue.appendleft(rest)
            elif head.breaks:
                self._close()
                return
        if self._queue:
            self._pacer = self._loop.call_later(PACE_S, self._pace)
        else:
            self._credit = 0.0

    def _put(self, octets: bytes) -> None:
        if self._air is not None:
            self._carry(self._air.down, octets, self._deliver)
        elif self._transport is not None:
            self._transport.write(octets)

    def _deliver(self, octets: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(octets)

    def _close(self) -> None:
        """What was sent before still arrives: close, do not abort."""
        self._stop()
        if self._transport is not None:
            self._transport.close()

    # --- luck -----------------------------------------------------------------------------------------

    def _carry(self, way: Direction, octets: bytes, deliver: _Deliver) -> None:
        if self._air is None or self._line is None:
            return
        parcels = way.carry(octets, self._loop.time())
        for parcel in parcels:
            self._loop.call_at(parcel.at_s, self._hand_over, parcel, deliver)
        if self._air.is_broken:
            at_s = parcels[-1].at_s if parcels else self._loop.time()
            self._loop.call_at(math.nextafter(at_s, math.inf), self._end_of_luck)

    def _hand_over(self, parcel: Parcel, deliver: _Deliver) -> None:
        if self._line is not None:
            deliver(parcel.octets)

    def _end_of_luck(self) -> None:
        if self._line is None or self._air is None:
            return
        if self._air.breaks_silently:
            self.fall_dead()
        else:
            self.break_off()


class _Deliver(Protocol):
    def __call__(self, octets: bytes, /) -> None: ...
