"""Meters that speak by themselves on TCP ports and pseudo terminals (asyncio)."""

from __future__ import annotations

import asyncio
import os
import socket
import termios
import tty
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Self

from faults import OperatorFault
from simulator.grid import local_seconds
from simulator.server import LOOPBACK
from simulator.stream_output import BadLine, StreamOutput

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
