"""Meters on TCP ports and pseudo terminals (asyncio)."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import termios
import tty
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import replace
from types import TracebackType
from typing import Self, cast

from faults import OperatorFault
from protocols.nbr14522.profile import MeterProfile
from simulator.faultplan import BITS_PER_OCTET, Sending
from simulator.line import Line, Station

# Between ENQ on TCP. Gateways pass the meter's own pace on; a short one makes sessions start quickly.
TCP_ENQ_PERIOD_S = 0.1
# A slow line hands out octets in portions of this duration.
PACE_S = 0.02
LOOPBACK = "127.0.0.1"


class _MeterProtocol(asyncio.Protocol):
    """One connection: octets to the line, what comes of them to the transport, at the line's pace."""

    def __init__(self, server: MeterServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._line: Line | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pacer: asyncio.TimerHandle | None = None
        self._queue: deque[Sending] = deque()
        self._credit = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._line = self._server.station.connect(self._loop.time(), self._server.profile)
        self._server.take_over(self)
        if self._line.faults.refused:
            self.break_off()
            return
        hello = self._line.faults.plan.hello
        self._send([Sending(hello)] if hello else [])
        self._arm()

    def data_received(self, data: bytes) -> None:
        if self._line is not None:
            self._send(self._line.receive(data, self._loop.time()))
            self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        self._server.let_go(self)

    def break_off(self) -> None:
        """End the connection at once, without a farewell."""
        self._stop()
        if self._transport is not None:
            self._transport.abort()

    def _stop(self) -> None:
        self._line = None
        self._queue.clear()
        for timer in (self._timer, self._pacer):
            if timer is not None:
                timer.cancel()
        self._timer = self._pacer = None

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

    def _send(self, sendings: list[Sending]) -> None:
        if self._line is None or self._transport is None:
            return
        if self._line.faults.plan.baud is not None:
            self._queue.extend(sendings)
            if self._pacer is None:
                self._pace()
            return
        for sending in sendings:
            self._transport.write(sending.octets)
            if sending.breaks:
                # What was sent before the break still arrives: close, do not abort.
                self._stop()
                self._transport.close()
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
            self._transport.write(portion)
            if rest.octets:
                self._queue.appendleft(rest)
            elif head.breaks:
                self._stop()
                self._transport.close()
                return
        if self._queue:
            self._pacer = self._loop.call_later(PACE_S, self._pace)
        else:
            self._credit = 0.0


class MeterServer(ABC):
    """One meter on one line. Subclasses know the line; `url` says where it is once started."""

    @property
    @abstractmethod
    def url(self) -> str: ...

    @abstractmethod
    async def start(self) -> Self: ...

    @abstractmethod
    async def stop(self) -> None: ...

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def __init__(self, station: Station, enq_period_s: float | None = None) -> None:
        self.station = station
        self.profile = _with_enq_period(station.meter.spec.profile, enq_period_s)
        self._talking: _MeterProtocol | None = None

    def take_over(self, protocol: _MeterProtocol) -> None:
        """A meter talks to one reader: the newest, as behind a gateway that has lost the one before."""
        if self._talking is not None:
            self._talking.break_off()
        self._talking = protocol

    def let_go(self, protocol: _MeterProtocol) -> None:
        """The connection is over."""
        if self._talking is protocol:
            self._talking = None

    def hang_up(self) -> None:
        """End the connection that there is."""
        if self._talking is not None:
            self._talking.break_off()


class TcpMeterServer(MeterServer):
    """A meter behind a transparent gateway: one listening TCP port."""

    def __init__(
        self,
        station: Station,
        host: str = LOOPBACK,
        port: int = 0,
        enq_period_s: float | None = TCP_ENQ_PERIOD_S,
    ) -> None:
        super().__init__(station, enq_period_s)
        self.host, self.port = host, port
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"tcp://{self.host}:{self.port}"

    async def start(self) -> Self:
        """Listen; port 0 becomes the one that the system chose.

        Raises:
            OperatorFault: the port is taken, or the address is not ours.
        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: _MeterProtocol(self), self.host, self.port, family=socket.AF_INET
            )
        except OSError as error:
            raise OperatorFault(
                f"cannot listen: {error.strerror or error}",
                where=self.url,
                remedy="choose a free port, or 0",
            ) from error
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Stop listening and hang up."""
        if self._server is not None:
            self._server.close()
            self.hang_up()
            await self._server.wait_closed()
            self._server = None


class PtyMeterServer(MeterServer):
    """A meter on a serial line: a pseudo terminal whose path readers open like any serial port.

    A serial line keeps nothing. What the meter says while nobody reads is lost here too, or a reader that
    opens the port would first meet an hour of old ENQ.
    """

    def __init__(self, station: Station, enq_period_s: float | None = None) -> None:
        super().__init__(station, enq_period_s)
        self.path = ""
        self._master = self._slave = -1

    @property
    def url(self) -> str:
        return f"serial://{self.path}"

    async def start(self) -> Self:
        """Open the terminal pair; the meter speaks from now on."""
        loop = asyncio.get_running_loop()
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        protocol = _MeterProtocol(self)
        transport = _PtyTransport(self._master, self._slave, protocol)
        protocol.connection_made(cast("asyncio.BaseTransport", transport))
        loop.add_reader(self._master, transport.read)
        return self

    async def stop(self) -> None:
        """Close the pair."""
        if self._master < 0:
            return
        asyncio.get_running_loop().remove_reader(self._master)
        self.hang_up()
        for descriptor in (self._master, self._slave):
            os.close(descriptor)
        self._master = self._slave = -1


class _PtyTransport:
    """What a meter's protocol needs of a transport, over the master side of a pty."""

    # More octets than this waiting at the reader's side while single signals are sent: nobody reads.
    STALE_OCTETS = 8

    def __init__(self, master: int, slave: int, protocol: _MeterProtocol) -> None:
        self._master, self._slave = master, slave
        self._protocol = protocol

    def read(self) -> None:
        try:
            data = os.read(self._master, 4096)
        except BlockingIOError:
            return
        self._protocol.data_received(data)

    def write(self, octets: bytes) -> None:
        if len(octets) == 1 and self._unread() > self.STALE_OCTETS:
            termios.tcflush(self._slave, termios.TCIFLUSH)
        try:
            os.write(self._master, octets)
        except BlockingIOError:
            termios.tcflush(self._slave, termios.TCIFLUSH)

    def close(self) -> None:
        """A serial line cannot be closed from the meter's end: it falls silent."""

    abort = close

    def _unread(self) -> int:
        waiting = fcntl.ioctl(self._slave, termios.FIONREAD, struct.pack("i", 0))
        return int(struct.unpack("i", waiting)[0])


def _with_enq_period(profile: MeterProfile, period_s: float | None) -> MeterProfile:
    if period_s is None:
        return profile
    return replace(profile, timing=replace(profile.timing, meter_enq_period_s=period_s))


async def serve_tcp(
    station: Station,
    host: str = LOOPBACK,
    port: int = 0,
    enq_period_s: float | None = TCP_ENQ_PERIOD_S,
) -> TcpMeterServer:
    """Put a meter on a TCP port (0: a free one) and return the running server."""
    return await TcpMeterServer(station, host, port, enq_period_s).start()


async def serve_pty(station: Station, enq_period_s: float | None = None) -> PtyMeterServer:
    """Put a meter on a new pseudo terminal and return the running server; `path` is what readers open."""
    return await PtyMeterServer(station, enq_period_s).start()
