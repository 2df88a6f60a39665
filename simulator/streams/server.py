"""Meters that speak by themselves: on TCP ports, ptys and gateways, and behind units that call (asyncio)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import termios
import tty
from collections.abc import Callable, Coroutine
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from faults import OperatorFault
from simulator.load.grid import local_seconds
from simulator.nbr14522.server import LOOPBACK
from simulator.streams.output import BadLine, StreamOutput
from simulator.wires.dialer import DialPlan
from simulator.wires.telnet import Rfc2217Codec

# A clock that runs fast makes several seconds due at once; those of a longer pause are not made up for.
_MOST_SECONDS_AT_ONCE = 60


class StreamServer:
    """Says what an output says, second by second of `clock`, to whoever listens; nobody loses a thing by it.

    Args:
        clock: simulated or real time. tick_s: real seconds between two looks at it.
    """

    def __init__(
        self,
        output: StreamOutput,
        clock: Callable[[], datetime],
        line: BadLine | None = None,
        host: str = LOOPBACK,
        port: int = 0,
        tick_s: float = 0.2,
    ) -> None:
        self._output = output
        self._clock = clock
        self._line = line or BadLine()
        self.host, self.port = host, port
        self._tick_s = tick_s
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._speaking: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"tcp://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self._open()
        self._speaking = asyncio.create_task(self._speak())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._speaking is not None:
            self._speaking.cancel()
            await asyncio.gather(self._speaking, return_exceptions=True)
        await self._close()

    def unplug(self) -> None:
        """End the connections that there are."""
        for writer in self._writers:
            writer.transport.abort()

    async def _open(self) -> None:
        try:
            self._server = await asyncio.start_server(
                self._connected, self.host, self.port, family=socket.AF_INET
            )
        except OSError as error:
            raise OperatorFault(
                f"cannot listen: {error.strerror or error}", where=self.url, remedy="choose a free port, or 0"
            ) from error
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self.unplug()
            await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await reader.read(1024):
                pass  # the output takes no commands
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _speak(self) -> None:
        said = int(local_seconds(self._clock()))
        while True:
            await asyncio.sleep(self._tick_s)
            now = int(local_seconds(self._clock()))
            for second in range(max(said, now - _MOST_SECONDS_AT_ONCE) + 1, now + 1):
                octets = self._output.octets(second)
                if octets:
                    self._say(self._line.pass_on(octets))
            said = max(said, now)

    def _say(self, octets: bytes) -> None:
        for writer in self._writers:
            writer.write(octets)


class StreamPty(StreamServer):
    """The same on a pseudo terminal, whose path readers open like any serial port."""

    path = ""
    _master = _slave = -1

    @property
    def url(self) -> str:
        return f"serial://{self.path}"

    async def _open(self) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)

    async def _close(self) -> None:
        for descriptor in (self._master, self._slave):
            os.close(descriptor)

    def unplug(self) -> None:
        """A serial line has no connection to end."""

    def _say(self, octets: bytes) -> None:
        try:
            os.write(self._master, octets)
        except BlockingIOError:
            # Nobody reads: a serial line keeps nothing.
            termios.tcflush(self._slave, termios.TCIFLUSH)


class StreamGateway(StreamServer):
    """The same behind a serial gateway that speaks telnet with port control (RFC 2217).

    A client that sets another rate than the meter's hears octets, but others.
    """

    _codecs: dict[asyncio.StreamWriter, Rfc2217Codec]

    @property
    def url(self) -> str:
        return f"rfc2217://{self.host}:{self.port}"

    async def _open(self) -> None:
        self._codecs = {}
        await super()._open()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        codec = Rfc2217Codec()
        self._writers.add(writer)
        self._codecs[writer] = codec
        try:
            while data := await reader.read(1024):
                _, reply = codec.receive(data)
                writer.write(reply)
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            del self._codecs[writer]
            writer.close()

    def _say(self, octets: bytes) -> None:
        for writer, codec in self._codecs.items():
            is_right = codec.baud in (None, self._output.rate_bit_s)
            heard = octets if is_right else bytes(~octet & 0xFE for octet in octets)
            writer.write(codec.encode(heard))


class StreamCaller(StreamServer):
    """The same behind a unit that dials in: it calls, says its hello, and passes on what the meter says.

    Args:
        plan: of the calls; between them it always waits `back_off_s`.
    """

    def __init__(
        self,
        output: StreamOutput,
        clock: Callable[[], datetime],
        plan: DialPlan,
        line: BadLine | None = None,
        tick_s: float = 0.2,
    ) -> None:
        super().__init__(output, clock, line, plan.host, plan.port, tick_s)
        self._plan = plan
        self._tasks: set[asyncio.Task[None]] = set()
        self._dead: set[asyncio.StreamWriter] = set()
        self.calls = 0
        self.is_mute = False
        """It stays connected and passes nothing on."""

    @property
    def url(self) -> str:
        return f"calls {self.host}:{self.port}"

    @property
    def connections(self) -> int:
        """Connections that the unit believes in."""
        return len(self._writers)

    async def duplicate(self) -> None:
        """Call once more, as a unit that restarted: what was there before stays open and says no more.

        Raises:
            OSError: the call does not get through.
        """
        self._dead |= self._writers
        self._writers.clear()
        await self._call()

    async def _open(self) -> None:
        self._start(self._keep_calling())

    async def _close(self) -> None:
        for writer in (*self._writers, *self._dead):
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_calling(self) -> None:
        await asyncio.sleep(self._plan.first_after_s)
        while True:
            if not self._writers:
                with contextlib.suppress(OSError):  # nobody listens, or the network is away
                    await self._call()
            await asyncio.sleep(self._plan.back_off_s)

    async def _call(self) -> None:
        self.calls += 1
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(self._plan.hello)
        self._writers.add(writer)
        self._start(self._connected(reader, writer))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _say(self, octets: bytes) -> None:
        if not self.is_mute:
            super()._say(octets)
