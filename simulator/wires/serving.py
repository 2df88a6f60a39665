"""How a fleet has its meters served, whatever protocol they speak; see `simulator` in `protocols.table`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from simulator.wires.faultplan import FaultPlan


class Server(Protocol):
    """What answers at an address."""

    @property
    def url(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Serving:
    """Where and how a meter is served.

    Attributes:
        now: simulated time.
        port: 0 for a free one.
        enq_period_s: between two ENQ of an idle line, where the protocol has them.
        faults: of the line, where the protocol's server has any.
        speech: what only the protocol knows of how the meter speaks: clients, passwords.
    """

    now: Callable[[], datetime]
    host: str
    port: int
    enq_period_s: float
    faults: FaultPlan = field(default_factory=FaultPlan)
    speech: Any = None


Serve = Callable[[Any, Serving], AbstractAsyncContextManager[Server]]
"""Serves a counting meter (`simulator.nbr14522.meter.SimulatedMeter`) while the context lasts."""
