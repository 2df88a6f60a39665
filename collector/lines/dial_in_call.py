"""One call of a unit: what it says while no session uses it, and its connection lent to a session."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import Protocol

from collector.lines.dial_in_kinds import MAX_HELLO_OCTETS, DialInKind
from collector.lines.transports import Receiver, Stream, TcpStream
from storage.settings import CollectorSettings

_KEEP_ALIVE_PROBES = 5
_WINDOW_S = 60.0


@dataclass(slots=True)
class Counts:
    """Since the start: callers taken, identified, refused; octets that came while nobody asked."""

    calls: int = 0
    identified: int = 0
    refused: int = 0
    idle_octets: int = 0


class Owner(Protocol):
    """Who takes calls: `dial_in.DialIn`."""

    settings: CollectorSettings
    counts: Counts

    def called(self, caller: Caller) -> None: ...
    def gone(self, caller: Caller) -> None: ...
    def follows(self, caller: Caller) -> bool: ...
    def refuse(self, caller: Caller, reason: str, heard: bytes = b"", named: str = "") -> None: ...


class _Incoming(TcpStream):
    """The listener's end of a call."""

    __slots__ = ("_caller",)

    def __init__(self, caller: Caller) -> None:
        super().__init__(caller)
        self._caller = caller

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._caller.connected(transport)


class Caller:
    """One connection while no session uses it: it listens to what the unit says by itself."""

    __slots__ = (
        "_owner",
        "_window_octets",
        "_window_s",
        "changed",
        "code",
        "heard",
        "host",
        "is_open",
        "kind",
        "number",
        "stream",
    )

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self.stream = _Incoming(self)
        self.host = ""
        self.number = 0
        self.code: str | None = None
        self.kind: DialInKind | None = None
        self.heard = bytearray()
        self.changed = asyncio.Event()
        self.is_open = True
        self._window_s = 0.0
        self._window_octets = 0

    def connected(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        self.host = str(peer[0]) if peer else ""
        _keep_alive(transport.get_extra_info("socket"), self._owner.settings.dial_in_keepalive_s)
        self._owner.called(self)

    def data_received(self, data: bytes) -> None:
        if self.code is None:
            self.heard += data[: MAX_HELLO_OCTETS - len(self.heard)]
            self.changed.set()
        now_s = asyncio.get_running_loop().time()
        if now_s - self._window_s >= _WINDOW_S:
            self._window_s, self._window_octets = now_s, 0
        self._window_octets += len(data)
        self._owner.counts.idle_octets += len(data)
        if self._window_octets > self._owner.settings.dial_in_idle_octets and not self._owner.follows(self):
            self._owner.refuse(self, "says too much while nobody asks", data)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        self.changed.set()
        self._owner.gone(self)

    def lend(self, receiver: Receiver) -> Stream:
        return _Lent(self, receiver)

    def hang_up(self) -> None:
        self.stream.close()


class _Lent:
    """A caller's connection as one session's stream: closing it ends that use, not the connection."""

    def __init__(self, caller: Caller, receiver: Receiver) -> None:
        self._caller = caller
        self._receiver = receiver
        self._stream = caller.stream
        self._sent, self._received = self._stream.bytes_sent, self._stream.bytes_received
        self._is_over = False
        self._keep_alive = caller.kind.keep_alive if caller.kind else b""
        # Only a kind with a keep-alive pays for looking at each arrival.
        self._stream.receiver = self if self._keep_alive else _Direct(self, receiver)

    @property
    def bytes_sent(self) -> int:
        return self._stream.bytes_sent - self._sent

    @property
    def bytes_received(self) -> int:
        return self._stream.bytes_received - self._received

    def write(self, data: bytes) -> None:
        if not self._is_over:
            self._stream.write(data)

    def close(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._stream.receiver = self._caller
            asyncio.get_running_loop().call_soon(self._receiver.connection_lost, None)

    # Between the connection and the session, as receiver.

    def data_received(self, data: bytes) -> None:
        if data != self._keep_alive:
            self._receiver.data_received(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._is_over = True
        self._caller.connection_lost(error)
        self._receiver.connection_lost(error)


class _Direct:
    """A receiver that hands octets straight to the session."""

    __slots__ = ("connection_lost", "data_received")

    def __init__(self, lent: _Lent, receiver: Receiver) -> None:
        self.data_received = receiver.data_received
        self.connection_lost = lent.connection_lost


def _keep_alive(peer: socket.socket, idle_s: float) -> None:
    """Find out that a silent connection is dead, before a session does."""
    for option, value in (
        (socket.TCP_KEEPIDLE, int(idle_s)),
        (socket.TCP_KEEPINTVL, max(1, int(idle_s) // 10)),
        (socket.TCP_KEEPCNT, _KEEP_ALIVE_PROBES),
    ):
        peer.setsockopt(socket.IPPROTO_TCP, option, value)
