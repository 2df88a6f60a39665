"""Meters that speak by themselves, in fast time: `SPEED` of their seconds to one of a loop's.

The loop's time is simulated (`simulator.virtual_time`): on a machine of any speed each octet is heard in its
own second, and a run comes out as the one before it.
"""

from __future__ import annotations

import select
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from simulator.streams.server import StreamPty
from simulator.wires.virtual_time import VirtualTimeLoop, run_virtual, virtual_loop

T = TypeVar("T")
SPEED = 200
BEGIN = datetime(2026, 11, 20, 11, 59, tzinfo=UTC)


class FastClock:
    """Stands at `begin`, follows each loop that `run` starts, and stands between them."""

    def __init__(self, begin: datetime = BEGIN, speed: int = SPEED) -> None:
        self._begin, self._speed = begin, speed
        self._loop: VirtualTimeLoop | None = None

    def __call__(self) -> datetime:
        return self._begin + timedelta(seconds=self.gone_s())

    def gone_s(self) -> float:
        return 0.0 if self._loop is None else self._speed * self._loop.time()

    def set(self, instant: datetime) -> None:
        """From now on it is `instant`."""
        self._begin += instant - self()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """`asyncio.run` in fast time."""

        async def begun() -> T:
            self._begin, self._loop = self(), virtual_loop()
            return await work

        return run_virtual(begun())


class PromptPty(StreamPty):
    """Goes on when the other side can read what it said: a kernel passes that on in real time."""

    def _say(self, octets: bytes) -> None:
        super()._say(octets)
        readable, _, _ = select.select([self._slave], [], [], 60)
        assert readable, "a pseudo terminal passed nothing on within a minute"
