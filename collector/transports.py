"""Ways to a meter: byte streams named by URL.

Grammar (one unit, one URL):

    tcp://HOST:PORT           a raw byte stream, no length header; IPv6 hosts in brackets
    serial:///dev/ttyUSB0     a serial line or a pty, 8N1; `?baud=2400` where it is not 9600
                              (nbr14522.md 1.1)

Both take `?connect_s=`, `?idle_s=` and `?total_s=`, which win over the time-outs of the configuration: a slow
radio cell is a property of the address, not of the meter.

A stream pushes what it receives into a `Receiver` instead of being read: with thousands of sessions in one
process, waking a task for each read costs more than handling the octets. It counts its traffic, because every
octet is paid for (20 MB a month and unit).
"""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass, replace
from typing import Protocol, cast
from urllib.parse import parse_qsl, urlsplit

import serial

from faults import OperatorFault, RetryFault

DEFAULT_BAUD = 9600
_READ_OCTETS = 4096
_GRAMMAR = "write tcp://HOST:PORT or serial:///dev/NAME, with ?connect_s= ?idle_s= ?total_s= ?baud= as needed"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one session, in seconds. The defaults suit GPRS; a session on a LAN ends long before.

    `idle_s` is the longest silence of the line, `total_s` the longest session. The link layer has its own,
    shorter time-outs; these two only end what the link layer would wait for too long.
    """

    connect_s: float = 30.0
    idle_s: float = 330.0  # above the longest legal silence between two WAIT, 305 s (nbr14522.md 1.5)
    total_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A parsed URL. `key` is what the limit per transport counts: one host, one serial device."""

    url: str
    scheme: str
    host: str = ""
    port: int = 0
    device: str = ""
    baud: int = DEFAULT_BAUD
    overrides: tuple[tuple[str, float], ...] = ()

    @property
    def key(self) -> str:
        return f"tcp://{self.host}" if self.scheme == "tcp" else f"serial://{self.device}"

    def timeouts(self, defaults: Timeouts) -> Timeouts:
        """The configured time-outs with those of the URL laid over them."""
        return replace(defaults, **dict(self.overrides))


class Receiver(Protocol):
    """What a stream talks to."""

    def data_received(self, data: bytes) -> None: ...

    def connection_lost(self, error: Exception | None) -> None:
        """Called once, also after `close`; `error` is None when the peer closed in order."""


class Stream(Protocol):
    """An open byte stream with its traffic in octets."""

    bytes_sent: int
    bytes_received: int

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


def parse_url(url: str) -> Endpoint:
    """Read a unit's URL.

    Raises:
        OperatorFault: the URL does not follow the grammar of this module.
    """
    try:
        parts = urlsplit(url)
        options = _options(parts.query)
        baud = int(options.pop("baud", DEFAULT_BAUD))
        overrides = tuple(sorted(options.items()))
        if parts.scheme == "tcp" and parts.hostname and parts.port and parts.path in ("", "/"):
            return Endpoint(url, "tcp", host=parts.hostname, port=parts.port, overrides=overrides)
        if parts.scheme == "serial" and not parts.netloc and len(parts.path) > 1:
            return Endpoint(url, "serial", device=parts.path, baud=baud, overrides=overrides)
    except ValueError as error:
        raise OperatorFault(f"not a unit's URL: {error}", where=url, remedy=_GRAMMAR) from error
    raise OperatorFault("not a unit's URL", where=url, remedy=_GRAMMAR)


def _options(query: str) -> dict[str, float]:
    options: dict[str, float] = {}
    for name, text in parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)):
        if name not in ("baud", "connect_s", "idle_s", "total_s"):
            raise ValueError(f"unknown option {name!r}")
        options[name] = float(text)
        if not options[name] > 0:
            raise ValueError(f"{name} must be above zero")
    return options


async def open_stream(endpoint: Endpoint, receiver: Receiver, connect_s: float) -> Stream:
    """Open the way to a meter; from now on `receiver` is called from the running loop.

    Raises:
        RetryFault: refused, unreachable, busy or too slow.
    """
    try:
        async with asyncio.timeout(connect_s):
            if endpoint.scheme == "tcp":
                return await _open_tcp(endpoint, receiver)
            return _SerialStream(endpoint, receiver)
    except TimeoutError as error:
        message = f"no connection within {connect_s:g} s"
        raise RetryFault(
            message, where=endpoint.url, remedy="is the unit powered and in coverage?"
        ) from error
    except (OSError, serial.SerialException) as error:
        raise RetryFault(
            f"no connection: {error}",
            where=endpoint.url,
            remedy="check the address, and that nobody else uses it",
        ) from error


# What arrives is handed on before the next stream is looked at, so all streams of a process read into one
# buffer: a plain asyncio.Protocol allocates 256 KiB for each read.
_READ_BUFFER = memoryview(bytearray(_READ_OCTETS))


class _TcpStream(asyncio.BufferedProtocol):
    __slots__ = ("_receiver", "_transport", "bytes_received", "bytes_sent")

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._transport: asyncio.Transport | None = None
        self.bytes_sent = 0
        self.bytes_received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # A unit that lost its radio says nothing when it goes: keep-alive ends such connections.
        peer: socket.socket = transport.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _READ_BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        self.bytes_received += nbytes
        self._receiver.data_received(bytes(_READ_BUFFER[:nbytes]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._receiver.connection_lost(exc)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self.bytes_sent += len(data)
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def _open_tcp(endpoint: Endpoint, receiver: Receiver) -> Stream:
    loop = asyncio.get_running_loop()
    _, stream = await loop.create_connection(lambda: _TcpStream(receiver), endpoint.host, endpoint.port)
    return stream


class _SerialStream:
    """pyserial sets the line up; the loop watches its descriptor, so no thread waits on it."""

    def __init__(self, endpoint: Endpoint, receiver: Receiver) -> None:
        self._receiver = receiver
        self._loop = asyncio.get_running_loop()
        self._line = serial.Serial(endpoint.device, endpoint.baud, timeout=0, write_timeout=0, exclusive=True)
        self._descriptor: int = self._line.fileno()
        self._pending = bytearray()
        self._is_open = True
        self.bytes_sent = 0
        self.bytes_received = 0
        self._loop.add_reader(self._descriptor, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._descriptor, _READ_OCTETS)
        except BlockingIOError:
            return
        except OSError as error:  # EIO: the other end of a pty closed, or an adapter was pulled out
            self._end(error)
            return
        if not data:
            self._end(None)
            return
        self.bytes_received += len(data)
        self._receiver.data_received(data)

    def write(self, data: bytes) -> None:
        if not self._is_open:
            return
        self.bytes_sent += len(data)
        self._pending += data
        self._writable()

    def _writable(self) -> None:
        try:
            written = os.write(self._descriptor, self._pending)
        except BlockingIOError:
            written = 0
        except OSError as error:
            self._end(error)
            return
        del self._pending[:written]
        if self._pending:
            self._loop.add_writer(self._descriptor, self._writable)
        else:
            self._loop.remove_writer(self._descriptor)

    def close(self) -> None:
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)
        self._line.close()
        # Not from inside a write of the receiver: it may still be in the middle of an event.
        self._loop.call_soon(self._receiver.connection_lost, error)
