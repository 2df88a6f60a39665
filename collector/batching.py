"""Group commit: many sessions, few transactions.

Thousands of sessions hand single pieces of work (a claim, an outcome) to one worker thread with one
connection. While a batch is being committed the next one gathers, so a quiet service answers at once and a
busy one writes in large batches; no thread and no connection per session.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Runs `work(items)` on an executor, one batch at a time, and gives each item its own result.

    Args:
        work: called in the executor's thread with 1..max_items items; returns one result per item, in order.
        An exception fails all items of the batch.
    """

    def __init__(
        self, work: Callable[[Sequence[Item]], Sequence[Result]], executor: Executor, max_items: int
    ) -> None:
        self._work = work
        self._executor = executor
        self._max_items = max_items
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Result:
        """Wait until the item's batch is done. Cancelling the wait does not take the item back."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    async def idle(self) -> None:
        """Wait until nothing is waiting or running."""
        while self._running is not None:
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                size = min(self._max_items, len(self._waiting))
                batch = [self._waiting.popleft() for _ in range(size)]
                try:
                    results = await loop.run_in_executor(
                        self._executor, self._work, [item for item, _ in batch]
                    )
                except Exception as error:  # handed on to those who wait, each of whom raises it
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                    continue
                for (_, future), result in zip(batch, results, strict=True):
                    if not future.done():
                        future.set_result(result)
        finally:
            self._running = None
