"""Meters on TCP ports, behind serial gateways and on pseudo terminals (asyncio)."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import termios
import tty
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self, cast

from faults import OperatorFault
from protocols.nbr14522.frames import ENQ
from protocols.nbr14522.profile import MeterProfile
from simulator.nbr14522.line import EnqPace, Place, Station
from simulator.nbr14522.meter import SimulatedMeter
from simulator.nbr14522.meter_end import MeterEnd
from simulator.wires.serving import Serving
from simulator.wires.telnet import Rfc2217Codec

# Between ENQ on TCP. Gateways pass the meter's own pace on; a short one makes sessions start quickly.
TCP_ENQ_PERIOD_S = 0.1
_ENQ = bytes([ENQ])
LOOPBACK = "127.0.0.1"


class MeterServer(ABC):
    """One line with its meter, or its bus of meters. Subclasses know the line; `url` says where it is once
    started."""

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

    def __init__(self, station: Place, enq_period_s: float | None = None) -> None:
        self.station = station
        self.pace = EnqPace(enq_period_s)
        self._talking: MeterEnd | None = None
        self._dead: list[MeterEnd] = []

    @property
    def profile(self) -> MeterProfile:
        """Of the meter, or of the first one."""
        return self.station.stations[0].meter.spec.profile

    def take_over(self, end: MeterEnd) -> None:
        """A meter talks to one reader: the newest, as behind a gateway that has lost the one before."""
        if self._talking is not None:
            self._talking.break_off()
        self._talking = end

    def let_go(self, end: MeterEnd) -> None:
        """The connection is over."""
        self._dead = [dead for dead in self._dead if dead.is_open]
        if end.is_open:
            self._dead.append(end)
        if self._talking is end:
            self._talking = None

    def hang_up(self) -> None:
        """End the connections that there are."""
        for end in (*self._dead, self._talking):
            if end is not None:
                end.break_off()


class TcpMeterServer(MeterServer):
    """A meter behind a transparent gateway: one listening TCP port."""

    def __init__(
        self,
        station: Place,
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
                self._new_end, self.host, self.port, family=socket.AF_INET
            )
        except OSError as error:
            raise OperatorFault(
                f"cannot listen: {error.strerror or error}",
                where=self.url,
                remedy="choose a free port, or 0",
            ) from error
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def _new_end(self) -> MeterEnd:
        return MeterEnd(self)

    async def stop(self) -> None:
        """Stop listening and hang up."""
        if self._server is not None:
            self._server.close()
            self.hang_up()
            await self._server.wait_closed()
            self._server = None


class Rfc2217MeterServer(TcpMeterServer):
    """A meter behind a serial gateway that speaks telnet with the port control of RFC 2217."""

    @property
    def url(self) -> str:
        return f"rfc2217://{self.host}:{self.port}"

    def _new_end(self) -> MeterEnd:
        return MeterEnd(self, Rfc2217Codec())


class PtyMeterServer(MeterServer):
    """A meter on a serial line: a pseudo terminal whose path readers open like any serial port.

    A serial line keeps nothing. What the meter says while nobody reads is lost here too, or a reader that
    opens the port would first meet an hour of old ENQ.
    """

    def __init__(self, station: Place, enq_period_s: float | None = None) -> None:
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
        protocol = MeterEnd(self)
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

    def __init__(self, master: int, slave: int, protocol: MeterEnd) -> None:
        self._master, self._slave = master, slave
        self._protocol = protocol

    def read(self) -> None:
        try:
            data = os.read(self._master, 4096)
        except BlockingIOError:
            return
        self._protocol.data_received(data)

    def write(self, octets: bytes) -> None:
        if not octets.strip(_ENQ):
            # On a busy machine several come late and at once; a line has no ENQ of the past.
            octets = octets[-1:]
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


async def serve_tcp(
    station: Place,
    host: str = LOOPBACK,
    port: int = 0,
    enq_period_s: float | None = TCP_ENQ_PERIOD_S,
) -> TcpMeterServer:
    """Put a meter on a TCP port (0: a free one) and return the running server."""
    return await TcpMeterServer(station, host, port, enq_period_s).start()


async def serve_pty(station: Place, enq_period_s: float | None = None) -> PtyMeterServer:
    """Put a meter on a new pseudo terminal and return the running server; `path` is what readers open."""
    return await PtyMeterServer(station, enq_period_s).start()


def serve(meter: SimulatedMeter, how: Serving) -> TcpMeterServer:
    """A meter of a fleet on a port."""
    return TcpMeterServer(Station(meter, how.now, how.faults), how.host, how.port, how.enq_period_s)
