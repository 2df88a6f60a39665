"""A simulated meter on a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from protocols.nbr14522.profile import MeterProfile
from protocols.nbr14522.profiles import DEFAULT
from simulator.load.clock import ClockModel, SettableClock
from simulator.load.curves import GeneratedLoad
from simulator.load.grid import MARKET_ZONE
from simulator.nbr14522.line import Station
from simulator.nbr14522.meter import SimulatedMeter
from simulator.nbr14522.server import TcpMeterServer
from simulator.nbr14522.spec import MeterSpec
from simulator.wires.faultplan import FaultPlan

NOW = datetime(2026, 11, 21, 0, 10, tzinfo=MARKET_ZONE)
SERIAL = "12345678"


def station(
    profile: MeterProfile = DEFAULT, plan: FaultPlan | None = None, now: datetime = NOW, **changes: Any
) -> Station:
    source = GeneratedLoad("supermarket", 120.0, 0.036, 3)
    spec = MeterSpec(SERIAL, source, datetime(2026, 9, 1, 10), ClockModel(NOW), profile=profile, **changes)
    return Station(SimulatedMeter(spec), SettableClock(now, is_running=False), plan or FaultPlan())


@asynccontextmanager
async def served(
    profile: MeterProfile = DEFAULT, plan: FaultPlan | None = None, **changes: Any
) -> AsyncIterator[TcpMeterServer]:
    async with TcpMeterServer(station(profile, plan, **changes), enq_period_s=0.03) as server:
        yield server
