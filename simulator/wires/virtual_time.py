"""An event loop whose time is simulated: it jumps to the next timer instead of waiting for it.

asyncio programs run on it unchanged. `create_connection` and `create_server`, and with them asyncio's
streams, stay inside the loop as `SimulatedLink`s, so hundreds of meters and a collector live a week in
minutes, with every retry and time-out at its proper simulated time. Work in threads (a database) takes no
simulated time: while it runs, the clock stands still.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

from faults import DeveloperFault

T = TypeVar("T")
Factory = Callable[[], asyncio.BaseProtocol]

# Above every well-known port; counted up, so that a run is repeated with the same addresses.
_FIRST_FREE_PORT = 40_000
_LOCAL = "127.0.0.1"
_EVERYWHERE = ("", "0.0.0.0", "::")


class _Selector(selectors.DefaultSelector):
    """Where a loop would sleep, this one moves its clock."""

    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.loop.threads_at_work:
            return super().select(None)
        if timeout is None:
            # Only the loop's own wake-up pipe is watched: no thread, timer or file can end the wait.
            if len(self.get_map()) <= 1:
                raise DeveloperFault(
                    "every task waits and nothing is due",
                    where="simulated time",
                    remedy="look for a future that nobody completes",
                )
            return super().select(None)
        self.loop.pass_time(timeout)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """`time()` starts at 0 and counts simulated seconds."""

    def __init__(self) -> None:
        self._virtual_s = 0.0
        self.threads_at_work = 0
        self._listeners: dict[tuple[str, int], SimulatedServer] = {}
        self._next_port = _FIRST_FREE_PORT
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self._virtual_s

    def pass_time(self, seconds: float) -> None:
        """Called by the selector in place of sleeping."""
        self._virtual_s += seconds

    def clock(self, origin: datetime) -> Callable[[], datetime]:
        """The instant that belongs to `time()`, which was `origin` at 0: what meters and collectors take."""
        return lambda: origin + timedelta(seconds=self._virtual_s)

    # --- threads --------------------------------------------------------------------------------------

    def run_in_executor(  # type: ignore[override]  # typeshed's type variables have no public names
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self.threads_at_work += 1
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self) -> None:
        self.threads_at_work += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self.threads_at_work -= 1

    def _thread_done(self, _: object) -> None:
        self.threads_at_work -= 1

    # --- connections ----------------------------------------------------------------------------------

    async def create_server(  # type: ignore[override]  # host and port only: all that stays in memory
        self, protocol_factory: Factory, host: str | None = None, port: int = 0, **_: Any
    ) -> SimulatedServer:
        name = _LOCAL if host is None or host in _EVERYWHERE else host
        if not port:
            port = self._next_port
            self._next_port += 1
        if (name, port) in self._listeners:
            raise OSError(98, "address already in use")
        server = self._listeners[name, port] = SimulatedServer(self, protocol_factory, (name, port))
        return server

    async def create_connection(  # type: ignore[override]  # host and port only: all that stays in memory
        self, protocol_factory: Factory, host: str | None = None, port: int | None = None, **_: Any
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        server = self._listeners.get((_LOCAL if host == "localhost" else host or _LOCAL, port or 0))
        await asyncio.sleep(0)
        if server is None:
            raise ConnectionRefusedError(111, f"nobody listens at {host}:{port}")
        near, far = protocol_factory(), server.factory()
        link = SimulatedLink(self, near, far, (_LOCAL, self._next_port), server.address)
        self._next_port += 1
        link.open()
        return link.near, near

    def forget_listener(self, address: tuple[str, int]) -> None:
        """Nobody answers there any more."""
        self._listeners.pop(address, None)


class _NoSocket:
    """What `get_extra_info("socket")` gives: options are taken and mean nothing in memory."""

    def __init__(self, own: tuple[str, int], peer: tuple[str, int]) -> None:
        self._own, self._peer = own, peer

    def setsockopt(self, *_: object) -> None: ...

    def getsockname(self) -> tuple[str, int]:
        return self._own

    def getpeername(self) -> tuple[str, int]:
        return self._peer


class SimulatedLink:
    """One connection inside the loop: a pair of transports, order kept, nothing lost, no delay of its own.

    Delay and loss come from the meter's end (`simulator.impairment`), as they do on real sockets.
    """

    def __init__(
        self,
        loop: VirtualTimeLoop,
        near: asyncio.BaseProtocol,
        far: asyncio.BaseProtocol,
        near_address: tuple[str, int],
        far_address: tuple[str, int],
    ) -> None:
        self.near = SimulatedTransport(loop, near, near_address, far_address)
        self.far = SimulatedTransport(loop, far, far_address, near_address)
        self.near.peer, self.far.peer = self.far, self.near

    def open(self) -> None:
        """Tell both protocols."""
        self.far.begin()
        self.near.begin()


class SimulatedTransport(asyncio.Transport):
    """One end of a `SimulatedLink`."""

    peer: SimulatedTransport

    def __init__(
        self,
        loop: VirtualTimeLoop,
        protocol: asyncio.BaseProtocol,
        own: tuple[str, int],
        other: tuple[str, int],
    ) -> None:
        super().__init__({"socket": _NoSocket(own, other), "sockname": own, "peername": other})
        self._loop = loop
        self._protocol = cast("asyncio.Protocol", protocol)
        self._is_closing = False
        self._is_paused = False
        self._held: list[bytes | None] = []

    def begin(self) -> None:
        self._protocol.connection_made(self)

    # --- what a protocol calls ------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not self._is_closing and data:
            self._loop.call_soon(self.peer.arrive, bytes(data))

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._loop.call_soon(self.peer.arrive, None)
            self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._loop.call_soon(self.peer.reset)
            self._loop.call_soon(self._protocol.connection_lost, None)

    def is_closing(self) -> bool:
        return self._is_closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever buffered for writing."""

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        held, self._held = self._held, []
        for data in held:
            self.arrive(data)

    def is_reading(self) -> bool:
        return not self._is_paused and not self._is_closing

    # --- what the other end does ----------------------------------------------------------------------

    def arrive(self, data: bytes | None) -> None:
        """Octets from the other end; None: it closed."""
        if self._is_closing:
            return
        if self._is_paused:
            self._held.append(data)
        elif data is not None:
            self._hand_over(data)
        elif not self._protocol.eof_received():
            self.close()

    def _hand_over(self, data: bytes) -> None:
        protocol: asyncio.BaseProtocol = self._protocol
        if not isinstance(protocol, asyncio.BufferedProtocol):
            self._protocol.data_received(data)
            return
        while data and not self._is_closing:
            buffer = memoryview(protocol.get_buffer(len(data)))
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            protocol.buffer_updated(size)
            data = data[size:]

    def reset(self) -> None:
        """The other end broke off: octets still held are lost."""
        if not self._is_closing:
            self._is_closing = True
            self._protocol.connection_lost(ConnectionResetError(104, "connection reset by peer"))


class SimulatedServer(asyncio.AbstractServer):
    """What `create_server` returns."""

    def __init__(self, loop: VirtualTimeLoop, factory: Factory, address: tuple[str, int]) -> None:
        self._loop = loop
        self.factory = factory
        self.address = address
        self._is_serving = True

    @property
    def sockets(self) -> tuple[_NoSocket, ...]:
        return (_NoSocket(self.address, self.address),) if self._is_serving else ()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def is_serving(self) -> bool:
        return self._is_serving

    async def start_serving(self) -> None:
        """It serves from the beginning."""

    def close(self) -> None:
        self._is_serving = False
        self._loop.forget_listener(self.address)

    async def serve_forever(self) -> None:
        await self._loop.create_future()

    async def wait_closed(self) -> None:
        await asyncio.sleep(0)


def run_virtual(main: Coroutine[Any, Any, T], *, context: Context | None = None) -> T:
    """`asyncio.run` in simulated time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main, context=context)


def virtual_loop() -> VirtualTimeLoop:
    """The running loop, which must be a virtual one."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualTimeLoop):
        raise DeveloperFault("time is real here", where="simulated time", remedy="start it with run_virtual")
    return loop
