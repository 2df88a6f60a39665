"""Telemetry units that dial in: behind carrier-grade NAT nobody can call them, so they call the collector."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from simulator.nbr14522.line import EnqPace, Place
from simulator.nbr14522.meter_end import MeterEnd


@dataclass(frozen=True)
class DialPlan:
    """How a unit calls.

    Args:
        host, port: where the collector listens.
        hello: octets sent at connect; no maker's hello is public, so they are data.
        keep_alive, keep_alive_s: octets sent while connected, each so many seconds; None: none.
        back_off_s, back_off_max_s: wait before the next call, doubled after each failure, up to the second;
            a random half of it is spread, so that a cell's units do not call together.
        healthy_s: a connection that lasted so long resets the back-off.
        first_after_s: before the first call.
        quiet_after_s: see `EnqPace`: a plain meter's ENQ would eat the unit's data plan.
        enq_period_s: see `EnqPace`.
    """

    host: str
    port: int
    hello: bytes = b""
    keep_alive: bytes = b""
    keep_alive_s: float | None = None
    back_off_s: float = 5.0
    back_off_max_s: float = 300.0
    healthy_s: float = 60.0
    first_after_s: float = 0.0
    quiet_after_s: float | None = 60.0
    enq_period_s: float | None = None
    seed: int = 0


class DialInUnit:
    """A unit with the meter, or the bus of meters, behind it. `async with`, or `start` and `stop`."""

    def __init__(self, station: Place, plan: DialPlan) -> None:
        self.station = station
        self.plan = plan
        self.pace = EnqPace(plan.enq_period_s, plan.quiet_after_s)
        self.calls = 0
        self.failures = 0
        self._chance = random.Random(f"{plan.seed}/dial")
        self._ends: list[MeterEnd] = []
        self._dead: list[MeterEnd] = []
        self._hung_up = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    @property
    def connections(self) -> int:
        """Connections that the unit believes in."""
        return len(self._ends)

    @property
    def own_addresses(self) -> list[object]:
        """Where its connections come from, as the collector sees them."""
        return [end.own_address for end in self._ends]

    async def start(self) -> Self:
        """Begin to call; returns at once, for the collector may listen later."""
        self._running = asyncio.get_running_loop().create_task(self._run())
        return self

    async def stop(self) -> None:
        """Hang up and call no more."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
            self._running = None
        for end in (*self._ends, *self._dead):
            end.break_off()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def duplicate(self, *, old_is_dead: bool = True) -> bool:
        """Call once more while connected, as a unit does that restarted.

        Args:
            old_is_dead: the connection before stays open at the other side and answers no more.

        Returns:
            Whether the call got through.
        """
        before = list(self._ends)
        if not await self._call():
            return False
        if old_is_dead:
            for end in before:
                end.fall_dead()
        return True

    def drop(self) -> None:
        """The radio is gone: every connection breaks; the unit calls again."""
        for end in list(self._ends):
            end.break_off()

    # --- owner of its ends (see `meter_end.Owner`) ----------------------------------------------------

    def take_over(self, end: MeterEnd) -> None:
        """A call got through; an older connection lives on beside it."""
        self._ends.append(end)

    def let_go(self, end: MeterEnd) -> None:
        """A connection is over."""
        self._dead = [dead for dead in self._dead if dead.is_open]
        if end in self._ends:
            self._ends.remove(end)
            if end.is_open:
                self._dead.append(end)
        if not self._ends:
            self._hung_up.set()

    # --- calling --------------------------------------------------------------------------------------

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self.plan.first_after_s)
        wait_s = self.plan.back_off_s
        while True:
            began_s = loop.time()
            if await self._call():
                await self._stay()
            if loop.time() - began_s >= self.plan.healthy_s:
                wait_s = self.plan.back_off_s
            await asyncio.sleep(wait_s * (0.5 + 0.5 * self._chance.random()))
            wait_s = min(2 * wait_s, self.plan.back_off_max_s)

    async def _call(self) -> bool:
        self.calls += 1
        try:
            _, end = await asyncio.get_running_loop().create_connection(
                lambda: MeterEnd(self), self.plan.host, self.plan.port
            )
        except OSError:
            # Nobody listens, or the network is away: what the back-off is for.
            self.failures += 1
            return False
        if self.plan.hello:
            end.say(self.plan.hello)
        return True

    async def _stay(self) -> None:
        """Until no connection is left, with a keep-alive now and then."""
        self._hung_up.clear()
        while self._ends:
            try:
                async with asyncio.timeout(self.plan.keep_alive_s):
                    await self._hung_up.wait()
            except TimeoutError:
                for end in self._ends:
                    end.say(self.plan.keep_alive)
