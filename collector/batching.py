"""Workers and group commit: many sessions, few transactions.

Thousands of sessions hand single pieces of work (a claim, an outcome) to one worker thread with one
connection. While a batch is being committed the next one gathers, so a quiet service answers at once and a
busy one writes in large batches; no thread and no connection per session.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import psycopg

from storage.database import Database

Item = TypeVar("Item")
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")

Connection = psycopg.Connection[Any]


class Worker:
    """One thread with one connection of its own."""

    def __init__(self, db: Database, name: str) -> None:
        self._db = db
        self._connection: Connection | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def call(
        self,
        work: Callable[Concatenate[Connection, Arguments], Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """Run `work(connection, ...)` in the thread, in a transaction of its own."""
        return await self.run(lambda: self.transact(work, *args, **kwargs))

    async def run(self, work: Callable[[], Result]) -> Result:
        """Run something in the thread; it uses `transact`."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def transact(
        self,
        work: Callable[Concatenate[Connection, Arguments], Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """The same, for code that runs in the thread already."""
        if self._connection is None:
            self._connection = self._db.connect(autocommit=True)
        with self._connection.transaction():
            return work(self._connection, *args, **kwargs)

    def close(self) -> None:
        """Wait for what runs, then close the connection."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        if self._connection is not None:
            self._connection.close()


class Batcher(Generic[Item, Result]):
    """Runs `work(items)` in a worker's thread, one batch at a time, and gives each item its own result.

    Args:
        work: called with 1..max_items items; returns one result per item, in order. An exception fails all
            items of the batch.
    """

    def __init__(
        self, work: Callable[[Sequence[Item]], Sequence[Result]], worker: Worker, max_items: int
    ) -> None:
        self._work = work
        self._worker = worker
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

    async def _run(self) -> None:
        try:
            while self._waiting:
                size = min(self._max_items, len(self._waiting))
                batch = [self._waiting.popleft() for _ in range(size)]
                items = [item for item, _ in batch]
                try:
                    results = await self._worker.run(partial(self._work, items))
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
