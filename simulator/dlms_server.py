"""DLMS meters on TCP ports (asyncio), over the wrapper or with HDLC frames."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Self

from faults import Fault
from simulator.dlms import DlmsMeter
from simulator.dlms_end import End, HdlcEnd, WrapperEnd
from simulator.server import LOOPBACK


class DlmsServer:
    """A meter on a listening port; `async with`, or `start` and `stop`.

    Args:
        now: simulated time. port: 0 for one that the system chooses.
    """

    def __init__(
        self,
        meter: DlmsMeter,
        now: Callable[[], datetime],
        *,
        is_hdlc: bool = False,
        host: str = LOOPBACK,
        port: int = 0,
    ) -> None:
        self.meter = meter
        self.now = now
        self.is_hdlc = is_hdlc
        self.host, self.port = host, port
        self.sessions = 0
        self._server: asyncio.Server | None = None
        self._lines: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        """Where it is."""
        return f"tcp://{self.host}:{self.port}"

    async def start(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Stop listening and hang up."""
        if self._server is not None:
            self._server.close()
            for writer in self._lines.values():
                writer.close()
            await asyncio.gather(*self._lines)
            await self._server.wait_closed()
            self._server = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        task = asyncio.current_task()
        assert task is not None
        self._lines[task] = writer
        end: End = HdlcEnd(self.meter) if self.is_hdlc else WrapperEnd(self.meter)
        try:
            while data := await reader.read(4096):
                writer.write(end.receive(data, self.now()))
                await writer.drain()
        except (ConnectionError, Fault):
            pass  # a meter hangs up on what it does not understand
        finally:
            del self._lines[task]
            writer.close()
