"""DLMS meters on TCP ports, behind serial gateways and on pseudo terminals (asyncio)."""

from __future__ import annotations

import asyncio
import os
import termios
import tty
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Self

from faults import Fault
from protocols.dlms.mode_e import SPEEDS
from simulator.dlms.end import End, HdlcEnd, WrapperEnd
from simulator.dlms.meter import DlmsMeter
from simulator.dlms.optical import OpticalEnd
from simulator.nbr14522.meter import SimulatedMeter
from simulator.nbr14522.server import LOOPBACK
from simulator.wires.serving import Serving
from simulator.wires.telnet import Rfc2217Codec

# A pause this long ends a frame, whatever length it claims.
_QUIET_S = 0.2
# Meters wait longer for a reader that has gone; a simulated one is wanted again sooner.
_FALL_BACK_S = 3.0
_READ_OCTETS = 4096


class DlmsServer:
    """A meter on a listening port; `async with`, or `start` and `stop`.

    Args:
        now: simulated time. port: 0 for one that the system chooses.
        make_end: the line's other end of each connection, where it is not the meter alone.
    """

    def __init__(
        self,
        meter: DlmsMeter,
        now: Callable[[], datetime],
        *,
        is_hdlc: bool = False,
        host: str = LOOPBACK,
        port: int = 0,
        make_end: Callable[[], End] | None = None,
    ) -> None:
        self.meter = meter
        self.now = now
        self.is_hdlc = is_hdlc
        self.host, self.port = host, port
        self.sessions = 0
        self._make_end = make_end
        self._server: asyncio.Server | None = None
        self._lines: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        """Where it is."""
        return f"tcp://{self.host}:{self.port}"

    async def start(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Stop listening and hang up."""
        if self._server is not None:
            self._server.close()
            for writer in self._lines.values():
                writer.close()
            await asyncio.gather(*self._lines)
            await self._server.wait_closed()
            self._server = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def new_end(self) -> End:
        """The meter's end of a new connection."""
        if self._make_end is not None:
            return self._make_end()
        return HdlcEnd(self.meter) if self.is_hdlc else WrapperEnd(self.meter)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        task = asyncio.current_task()
        assert task is not None
        self._lines[task] = writer
        try:
            await self._converse(self.new_end(), reader, writer)
        except (ConnectionError, Fault):
            pass  # a meter hangs up on what it does not understand
        finally:
            del self._lines[task]
            writer.close()

    async def _converse(self, end: End, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await self._heard(end, reader, writer):
            writer.write(end.receive(data, self.now()))
            await writer.drain()

    async def _heard(self, end: End, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """What comes next; meanwhile the meter notices that the line is quiet."""
        try:
            async with asyncio.timeout(_QUIET_S):
                return await reader.read(_READ_OCTETS)
        except TimeoutError:
            writer.write(end.silence(self.now()))
            return await reader.read(_READ_OCTETS)


class _TelnetEnd:
    """What a gateway (RFC 2217) makes of a meter's line."""

    def __init__(self, end: End) -> None:
        self._end = end
        self._codec = Rfc2217Codec()

    def receive(self, data: bytes, now: datetime) -> bytes:
        out = b""
        # One by one: the speed may change between two of them.
        for octet in data:
            inner, reply = self._codec.receive(bytes([octet]))
            out += reply
            if inner:
                out += self._codec.encode(_hear(self._end, inner, self._codec.baud or 0, now))
        return out

    def silence(self, now: datetime) -> bytes:
        return self._codec.encode(self._end.silence(now))


class DlmsGateway(DlmsServer):
    """A meter behind a gateway with telnet and port control (RFC 2217)."""

    @property
    def url(self) -> str:
        return f"rfc2217://{self.host}:{self.port}"

    def new_end(self) -> End:
        return _TelnetEnd(super().new_end())


class DlmsPty(DlmsServer):
    """A meter on a serial line: a pseudo terminal whose path readers open like any serial port."""

    path = ""
    _master = _slave = -1
    _end: End
    _quiet: asyncio.TimerHandle | None = None
    _gone: asyncio.TimerHandle | None = None

    @property
    def url(self) -> str:
        return f"serial://{self.path}"

    async def start(self) -> Self:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self._end = self.new_end()
        asyncio.get_running_loop().add_reader(self._master, self._readable)
        return self

    async def stop(self) -> None:
        if self._master < 0:
            return
        asyncio.get_running_loop().remove_reader(self._master)
        self._cancel()
        for descriptor in (self._master, self._slave):
            os.close(descriptor)
        self._master = self._slave = -1

    def _cancel(self) -> None:
        for timer in (self._quiet, self._gone):
            if timer is not None:
                timer.cancel()

    def _readable(self) -> None:
        try:
            data = os.read(self._master, _READ_OCTETS)
        except BlockingIOError:
            return
        # The terminal knows at what speed its reader has opened it.
        baud = _BAUDS.get(termios.tcgetattr(self._master)[5], 0)
        has_answered = self._say(lambda: _hear(self._end, data, baud, self.now()))
        loop = asyncio.get_running_loop()
        if self._quiet is not None:
            self._quiet.cancel()
        self._quiet = loop.call_later(_QUIET_S, self._say, lambda: self._end.silence(self.now()))
        # What it does not understand does not keep it waiting.
        if self._gone is None or has_answered:
            if self._gone is not None:
                self._gone.cancel()
            self._gone = loop.call_later(_FALL_BACK_S, self._fall_back)

    def _say(self, answer: Callable[[], bytes]) -> bool:
        try:
            return os.write(self._master, answer()) > 0
        except BlockingIOError:
            # Nobody reads: a serial line keeps nothing.
            termios.tcflush(self._slave, termios.TCIFLUSH)
        except Fault:
            self._end = self.new_end()
        return False

    def _fall_back(self) -> None:
        self._gone = None
        if isinstance(self._end, OpticalEnd):
            self._end.fall_back()


_BAUDS = {getattr(termios, f"B{baud}"): baud for baud in SPEEDS.values()}


def _hear(end: End, data: bytes, baud: int, now: datetime) -> bytes:
    return end.heard(data, baud, now) if isinstance(end, OpticalEnd) else end.receive(data, now)


def serve(meter: SimulatedMeter, how: Serving) -> DlmsServer:
    """A meter of a fleet on a port; `how.speech` is its `DlmsSpec`."""
    return DlmsServer(DlmsMeter(meter, how.speech), how.now, host=how.host, port=how.port)
