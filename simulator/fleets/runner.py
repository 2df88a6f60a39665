"""A planned fleet on the wire: every unit listening, or calling the collector, in one simulated time."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from faults import DeveloperFault
from simulator.fleets.file import FleetPlan, PlannedUnit, Transport
from simulator.nbr14522.line import Bus, Place, SimulatedClock, Station
from simulator.nbr14522.meter import SimulatedMeter
from simulator.nbr14522.server import (
    TCP_ENQ_PERIOD_S,
    MeterServer,
    PtyMeterServer,
    Rfc2217MeterServer,
    TcpMeterServer,
)
from simulator.wires.dialer import DialInUnit


@dataclass(frozen=True)
class ServedUnitMeter:
    """Where one meter of a planned fleet is. A unit that calls has `listen://HOST:PORT`, whom it calls."""

    group: str
    unit: str
    serial: str
    url: str
    model: str
    addressing: str
    address: int
    link: str


class PlannedFleetServer:
    """Serves a `FleetPlan`. `async with`, or `start` and `stop`; runs in simulated time as well.

    Attributes:
        meters: where each is, once started.
        stations: meter serial to its station.
        callers: unit name to the unit that calls.
    """

    def __init__(self, plan: FleetPlan, clock: SimulatedClock) -> None:
        self.plan = plan
        self._clock = clock
        self._stack: AsyncExitStack | None = None
        self._next_port = plan.first_port
        self.meters: list[ServedUnitMeter] = []
        self.stations: dict[str, Station] = {}
        self.callers: dict[str, DialInUnit] = {}

    async def start(self) -> Self:
        """Listen on every port and let every caller call. If one fails, none stays open."""
        async with AsyncExitStack() as stack:
            for unit in self.plan.units:
                url = await self._start_unit(unit, stack)
                for meter in unit.meters:
                    profile = meter.spec.profile
                    self.meters.append(
                        ServedUnitMeter(
                            meter.group,
                            unit.name,
                            meter.spec.serial,
                            url,
                            profile.name,
                            profile.addressing.value,
                            profile.address,
                            unit.link,
                        )
                    )
            self._stack = stack.pop_all()
        return self

    async def stop(self) -> None:
        """Hang up everywhere."""
        if self._stack is not None:
            await self._stack.aclose()
            self._stack = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _start_unit(self, unit: PlannedUnit, stack: AsyncExitStack) -> str:
        place = self._place(unit)
        if unit.transport is Transport.DIAL_IN:
            if unit.dial is None:
                raise DeveloperFault(
                    "a unit that calls without a plan", where=unit.name, remedy="plan it with plan_fleet"
                )
            self.callers[unit.name] = await stack.enter_async_context(DialInUnit(place, unit.dial))
            return f"listen://{unit.dial.host}:{unit.dial.port}"
        server = await stack.enter_async_context(self._server(unit, place))
        return server.url

    def _place(self, unit: PlannedUnit) -> Place:
        stations = [Station(SimulatedMeter(m.spec), self._clock, m.faults) for m in unit.meters]
        self.stations |= {station.meter.spec.serial: station for station in stations}
        return stations[0] if len(stations) == 1 else Bus(stations, unit.faults)

    def _server(self, unit: PlannedUnit, place: Place) -> MeterServer:
        if unit.transport is Transport.PTY:
            return PtyMeterServer(place, unit.enq_period_s)
        port = self._next_port
        self._next_port += bool(port)
        kind = Rfc2217MeterServer if unit.transport is Transport.RFC2217 else TcpMeterServer
        return kind(place, self.plan.host, port, unit.enq_period_s or TCP_ENQ_PERIOD_S)
