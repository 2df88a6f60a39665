"""Serving as a program: until a signal says stop, with a control line or two from standard input."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import TextIO, TypeVar

from faults import Fault, OperatorFault
from simulator.load.clock import SettableClock
from simulator.load.grid import MARKET_ZONE

Served = TypeVar("Served")
Report = Callable[[dict[str, object]], None]


def parse_instant(text: str) -> datetime:
    """An ISO instant; without a zone it is market time (-03:00).

    Raises:
        OperatorFault: it does not read.
    """
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise OperatorFault(
            f"not an instant: {text.strip()!r}",
            where="now",
            remedy="write it as 2026-11-21T00:10:00-03:00",
        ) from error
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=MARKET_ZONE)


def obey(line: str, clock: SettableClock) -> dict[str, object]:
    """Carry out one control line (`now INSTANT`) and say what came of it."""
    word, _, rest = line.strip().partition(" ")
    try:
        if word != "now":
            raise OperatorFault(
                f"unknown control word {word!r}", where="standard input", remedy="send: now INSTANT"
            )
        if rest:
            clock.set(parse_instant(rest))
    except Fault as fault:
        return {"error": fault.message, "remedy": fault.remedy}
    return {"now": clock().isoformat()}


async def serve_until_stopped(
    server: AbstractAsyncContextManager[Served],
    started: Callable[[Served], None],
    *,
    clock: SettableClock,
    report: Report,
    control: TextIO | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        started: called once the server is up, to say where.
        report: gets the answer to each control line.
        control: lines to obey, normally standard input; its end is not an order to stop.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with server as served:
        started(served)
        if control is not None:
            _follow(control, loop, lambda line: report(obey(line, clock)))
        await stop.wait()


def _follow(lines: TextIO, loop: asyncio.AbstractEventLoop, each: Callable[[str], None]) -> None:
    """Hand lines to the loop as they come. A thread, because a file or a terminal cannot be awaited alike."""

    def read() -> None:
        for line in lines:
            if line.strip():
                loop.call_soon_threadsafe(each, line)

    threading.Thread(target=read, name="control lines", daemon=True).start()
