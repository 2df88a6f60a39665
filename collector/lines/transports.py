"""Ways to a meter: byte streams named by URL.

Grammar (one unit, one URL):

    tcp://HOST:PORT           a raw byte stream, no length header; IPv6 hosts in brackets
    rfc2217://HOST:PORT       a serial gateway that speaks telnet with port control; `?baud=` as below
    serial:///dev/ttyUSB0     a serial line or a pty, 8N1; `?baud=2400` where it is not 9600
                              (nbr14522.md 1.1)
    dialin://CODE             a unit that calls the collector, identified as CODE (`collector.dial_in`)

All take `?connect_s=`, `?idle_s=` and `?total_s=`, which win over the time-outs of the configuration: a slow
radio cell is a property of the address, not of the meter. `?address=07` is the two-digit address (P2) of the
meter meant; units of one line differ in it alone, and meters addressed by serial (P8) need nothing.

A stream pushes what it receives into a `Receiver` instead of being read: with thousands of sessions in one
process, waking a task for each read costs more than handling the octets. It counts its traffic, because every
octet is paid for (20 MB a month and unit).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import termios
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast, runtime_checkable
from urllib.parse import parse_qsl, unquote, urlsplit

import serial

from faults import OperatorFault, RetryFault
from protocols.nbr14522.profile import MeterProfile

DEFAULT_BAUD = 9600
_READ_OCTETS = 4096
# How soon the thread that reads a gateway notices that the stream was closed.
_GATEWAY_LOOK_S = 0.2
_GRAMMAR = (
    "write tcp://HOST:PORT, rfc2217://HOST:PORT, serial:///dev/NAME or dialin://CODE, "
    "with ?connect_s= ?idle_s= ?total_s= ?baud= ?address= as needed"
)
_SECONDS = ("connect_s", "idle_s", "total_s")
_NETWORK = ("tcp", "rfc2217")
_SERIAL = ("serial", "rfc2217")


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
    """A parsed URL.

    Attributes:
        device: of a serial line; unit: the code of one that dials in.
        address: two digits of the meter meant (P2); None: as its profile says.
    """

    url: str
    scheme: str
    host: str = ""
    port: int = 0
    device: str = ""
    unit: str = ""
    baud: int = DEFAULT_BAUD
    address: int | None = None
    overrides: tuple[tuple[str, float], ...] = ()

    @property
    def line(self) -> str:
        """What carries one session at a time, whichever meter of it is meant: the URL without its options."""
        return self.url.partition("?")[0].rstrip("/")

    @property
    def can_set_speed(self) -> bool:
        """Whether its streams are `SpeedStream`s: a network hides the serial line behind it."""
        return self.scheme in _SERIAL

    @property
    def host_key(self) -> str | None:
        """What the limit per host counts; None where there is no host to spare."""
        return f"host:{self.host}" if self.scheme in _NETWORK else None

    def applied_to(self, profile: MeterProfile) -> MeterProfile:
        """The meter's profile with the address that this URL gives."""
        return profile if self.address is None else replace(profile, address=self.address)

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

    @property
    def bytes_sent(self) -> int: ...

    @property
    def bytes_received(self) -> int: ...

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


@runtime_checkable
class SpeedStream(Stream, Protocol):
    """A serial line, here or behind a gateway, whose speed can change while it is open.

    Its format stays 8N1: who needs parity (7E1) makes it, see `protocols.dlms.mode_e`. What was written must
    have gone out before; what that takes is the caller's to know.
    """

    async def set_speed(self, baud: int) -> None:
        """Change the speed.

        Raises:
            OperatorFault: the line does not do it.
        """


def parse_url(url: str) -> Endpoint:
    """Read a unit's URL.

    Raises:
        OperatorFault: the URL does not follow the grammar of this module.
    """
    try:
        parts = urlsplit(url)
        texts = _options(parts.query)
        baud, address = int(texts.pop("baud", DEFAULT_BAUD)), _address(texts.pop("address", None))
        blank = Endpoint(url, parts.scheme, baud=baud, address=address, overrides=_seconds(texts))
        if parts.scheme in _NETWORK and parts.hostname and parts.port and parts.path in ("", "/"):
            return replace(blank, host=parts.hostname, port=parts.port)
        if parts.scheme == "serial" and not parts.netloc and len(parts.path) > 1:
            return replace(blank, device=parts.path)
        if parts.scheme == "dialin" and parts.netloc and parts.path in ("", "/"):
            return replace(blank, unit=unquote(parts.netloc))
    except ValueError as error:
        raise OperatorFault(f"not a unit's URL: {error}", where=url, remedy=_GRAMMAR) from error
    raise OperatorFault("not a unit's URL", where=url, remedy=_GRAMMAR)


def _options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    unknown = options.keys() - {*_SECONDS, "baud", "address"}
    if unknown:
        raise ValueError(f"unknown option {min(unknown)!r}")
    return options


def _seconds(texts: dict[str, str]) -> tuple[tuple[str, float], ...]:
    found = {name: float(text) for name, text in texts.items()}
    for name, value in found.items():
        if not value > 0:
            raise ValueError(f"{name} must be above zero")
    return tuple(sorted(found.items()))


def _address(text: str | None) -> int | None:
    if text is None:
        return None
    if len(text) > 2 or not text.isdecimal():
        raise ValueError(f"address {text!r} is not two digits")
    return int(text)


async def open_stream(endpoint: Endpoint, receiver: Receiver, connect_s: float) -> Stream:
    """Open the way to a meter; from now on `receiver` is called from the running loop.

    Raises:
        RetryFault: refused, unreachable, busy or too slow.
    """
    try:
        async with asyncio.timeout(connect_s):
            if endpoint.scheme == "tcp":
                return await _open_tcp(endpoint, receiver)
            if endpoint.scheme == "rfc2217":
                return await _open_gateway(endpoint, receiver)
            if endpoint.scheme == "dialin":
                raise OperatorFault(
                    "this unit calls the collector and cannot be called",
                    where=endpoint.url,
                    remedy="queue the read (smf collector read) while the collector's service runs",
                )
            return _SerialStream(endpoint, receiver)
    except TimeoutError as error:
        message = f"no connection within {connect_s:g} s"
        raise RetryFault(
            message, where=endpoint.url, remedy="is the unit powered and in coverage?"
        ) from error
    except (OSError, ValueError, OverflowError, termios.error, serial.SerialException) as error:
        # A port's driver says in any of these ways that it does not know the rate.
        raise RetryFault(
            f"no connection: {error}",
            where=endpoint.url,
            remedy="check the address, and that nobody else uses it",
        ) from error


# What arrives is handed on before the next stream is looked at, so all streams of a process read into one
# buffer: a plain asyncio.Protocol allocates 256 KiB for each read.
_READ_BUFFER = memoryview(bytearray(_READ_OCTETS))


class TcpStream(asyncio.BufferedProtocol):
    """A TCP connection, whichever side opened it. `receiver` may change while it is open."""

    __slots__ = ("_transport", "bytes_received", "bytes_sent", "receiver")

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
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
        self.receiver.data_received(bytes(_READ_BUFFER[:nbytes]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.receiver.connection_lost(exc)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self.bytes_sent += len(data)
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def _open_tcp(endpoint: Endpoint, receiver: Receiver) -> Stream:
    loop = asyncio.get_running_loop()
    _, stream = await loop.create_connection(lambda: TcpStream(receiver), endpoint.host, endpoint.port)
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

    async def set_speed(self, baud: int) -> None:
        if self._is_open:
            _set_speed(self._line, baud)

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


def _set_speed(line: serial.SerialBase, baud: int) -> None:
    try:
        line.baudrate = baud
    except (OSError, ValueError, termios.error, serial.SerialException) as error:
        raise OperatorFault(
            f"the line cannot be set to {baud} bit/s: {error}",
            where=str(line.port),
            remedy="use an adapter or gateway that changes its speed, or lower `opening_top_baud`",
        ) from error


async def _open_gateway(endpoint: Endpoint, receiver: Receiver) -> Stream:
    """The library's calls block, so each gateway has a thread that writes and one that reads."""
    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(1, thread_name_prefix="gateway")
    opening = loop.run_in_executor(executor, _open_line, endpoint)
    try:
        line = await asyncio.shield(opening)
    except asyncio.CancelledError:
        # The thread cannot be stopped: what it still opens is closed by it.
        opening.add_done_callback(lambda done: _close_late(done, executor))
        raise
    except BaseException:
        executor.shutdown(wait=False)
        raise
    return _GatewayStream(line, executor, receiver)


def _open_line(endpoint: Endpoint) -> serial.SerialBase:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    # The library's own thread is made by a call that Python has deprecated.
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        return serial.serial_for_url(
            f"rfc2217://{host}:{endpoint.port}", baudrate=endpoint.baud, timeout=_GATEWAY_LOOK_S
        )


def _close_late(opened: asyncio.Future[serial.SerialBase], executor: ThreadPoolExecutor) -> None:
    if not opened.cancelled() and opened.exception() is None:
        executor.submit(opened.result().close)
    executor.shutdown(wait=False)


class _GatewayStream:
    """A remote serial port behind telnet with port control (RFC 2217), by pyserial."""

    def __init__(self, line: serial.SerialBase, executor: ThreadPoolExecutor, receiver: Receiver) -> None:
        self._line = line
        self._executor = executor
        self._receiver = receiver
        self._loop = asyncio.get_running_loop()
        self._is_open = True
        self.bytes_sent = 0
        self.bytes_received = 0
        threading.Thread(target=self._read, name="gateway-reader", daemon=True).start()

    def write(self, data: bytes) -> None:
        if self._is_open:
            self.bytes_sent += len(data)
            self._executor.submit(self._put, data)

    async def set_speed(self, baud: int) -> None:
        # Behind what is written, in the one thread that writes; it waits for the gateway's consent.
        if self._is_open:
            await self._loop.run_in_executor(self._executor, _set_speed, self._line, baud)

    def close(self) -> None:
        self._end(None)

    # In the threads.

    def _put(self, data: bytes) -> None:
        try:
            self._line.write(data)
        except (OSError, serial.SerialException) as error:
            self._tell(self._end, error)

    def _read(self) -> None:
        try:
            while self._is_open:
                data = self._line.read(1)
                if data:
                    self._tell(self._arrived, data + self._line.read(self._line.in_waiting))
        except (OSError, serial.SerialException) as error:
            self._tell(self._end, error)

    def _tell(self, what: Callable[[Any], None], value: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop may have ended before the thread noticed
            self._loop.call_soon_threadsafe(what, value)

    # In the loop.

    def _arrived(self, data: bytes) -> None:
        if self._is_open:
            self.bytes_received += len(data)
            self._receiver.data_received(data)

    def _end(self, error: Exception | None) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._executor.submit(self._line.close)
        self._executor.shutdown(wait=False)
        self._loop.call_soon(self._receiver.connection_lost, error)
