"""A fleet on sockets: each meter on its own port, in one process, living in one simulated time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from protocols.table import part, protocol_of
from simulator.fleets.demo import DemoMeter, DemoPoint
from simulator.nbr14522.line import SimulatedClock
from simulator.nbr14522.meter import SimulatedMeter
from simulator.nbr14522.server import LOOPBACK, TCP_ENQ_PERIOD_S
from simulator.wires.serving import Serve, Serving


@dataclass(frozen=True)
class ServedMeter:
    """Where one meter of the fleet answers."""

    uc_code: str
    role: str
    serial: str
    url: str
    profile: str
    scenario: str


class FleetServer:
    """Serves all meters of the points. `async with`, or `start` and `stop`.

    Args:
        points: from `demo_fleet`.
        clock: the simulated instant; see `SettableClock`.
        first_port: ports from here on, one a meter in order; 0: free ones.
        enq_period_s: time between two ENQ of an idle, connected meter.
    """

    def __init__(
        self,
        points: Sequence[DemoPoint],
        clock: SimulatedClock,
        *,
        host: str = LOOPBACK,
        first_port: int = 0,
        enq_period_s: float = TCP_ENQ_PERIOD_S,
    ) -> None:
        self._points = points
        self._clock = clock
        self._place = (host, first_port, enq_period_s)
        self._stack: AsyncExitStack | None = None
        self.meters: list[ServedMeter] = []

    @property
    def urls(self) -> dict[str, str]:
        """Meter serial to URL."""
        return {meter.serial: meter.url for meter in self.meters}

    async def start(self) -> Self:
        """Listen on every port. If one fails, none stays open."""
        first_port = self._place[1]
        async with AsyncExitStack() as stack:
            for point in self._points:
                for meter in point.meters:
                    port = first_port + len(self.meters) if first_port else 0
                    url = await self._serve(meter, port, stack)
                    self.meters.append(
                        ServedMeter(
                            point.uc_code,
                            meter.role,
                            meter.serial,
                            url,
                            meter.profile_name,
                            point.scenario.value,
                        )
                    )
            self._stack = stack.pop_all()
        return self

    async def _serve(self, meter: DemoMeter, port: int, stack: AsyncExitStack) -> str:
        host, _, enq_period_s = self._place
        reference = protocol_of(meter.profile_name).simulator
        assert reference is not None  # The demonstration has meters that are asked, only.
        serve: Serve = part(reference)
        how = Serving(self._clock, host, port, enq_period_s, meter.faults, meter.dlms)
        return (await stack.enter_async_context(serve(SimulatedMeter(meter.spec), how))).url

    async def stop(self) -> None:
        """Hang up and close every port."""
        if self._stack is not None:
            await self._stack.aclose()
            self._stack = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


@contextmanager
def fleet_in_thread(
    points: Sequence[DemoPoint], clock: SimulatedClock, *, host: str = LOOPBACK, first_port: int = 0
) -> Iterator[FleetServer]:
    """The fleet served from a thread with an event loop of its own, for callers that have none."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="simulated fleet", daemon=True)
    thread.start()
    server = FleetServer(points, clock, host=host, first_port=first_port)
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result()
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
