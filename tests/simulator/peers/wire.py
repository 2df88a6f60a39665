"""A reader for the tests: the protocol's own reader side over whatever carries octets."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from protocols.nbr14522.frames import ANY_METER
from protocols.nbr14522.link import NEED_DATA, AnswerComplete, BlockReceived, Event, LinkFailed, ReaderLink
from protocols.nbr14522.memory import payloads_to_words, split_channels
from protocols.nbr14522.messages import Response, decode_response, request_for
from protocols.nbr14522.profile import MeterProfile
from simulator.load.curves import Ints


class Carrier(Protocol):
    def write(self, data: bytes) -> None: ...
    async def read(self) -> bytes: ...
    def close(self) -> None: ...


class TcpCarrier:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, url: str) -> TcpCarrier:
        host, port = url.removeprefix("tcp://").split(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def read(self) -> bytes:
        try:
            return await self._reader.read(4096)
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        self._writer.close()


class SerialCarrier:
    """A serial port by path, as a reader opens it."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

    def write(self, data: bytes) -> None:
        os.write(self._descriptor, data)

    async def read(self) -> bytes:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_reader(self._descriptor, lambda: ready.done() or ready.set_result(None))
        try:
            await ready
        finally:
            loop.remove_reader(self._descriptor)
        return os.read(self._descriptor, 4096)

    def close(self) -> None:
        os.close(self._descriptor)


@dataclass
class Session:
    """One reading session; `events` keeps everything that happened on the line."""

    carrier: Carrier
    profile: MeterProfile
    serial: str = ANY_METER
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._link = ReaderLink(self.profile, self.serial)

    async def blocks(self, code: int, **values: Any) -> list[bytes]:
        """Contents of the answer's blocks.

        Raises:
            RetryFault: the exchange failed.
        """
        loop = asyncio.get_running_loop()
        self._link.send(request_for(code, **values).encode("000003"), loop.time())
        contents: list[bytes] = []
        while True:
            if out := self._link.data_to_send():
                self.carrier.write(out)
            while (event := self._link.next_event()) is not NEED_DATA:
                self.events.append(event)
                match event:
                    case BlockReceived():
                        contents.append(event.content)
                    case AnswerComplete():
                        self.carrier.write(self._link.data_to_send())
                        return contents
                    case LinkFailed():
                        raise event.fault()
                    case _:
                        pass
            await self._wait(loop)

    async def ask(self, code: int, **values: Any) -> Any:
        return decode_response((await self.blocks(code, **values))[0])

    async def words(self, code: int, count: int | None) -> Ints:
        blocks: list[Response] = [decode_response(content) for content in await self.blocks(code)]
        payloads = [block.payload for block in blocks]
        return split_channels(payloads_to_words(payloads, count)).astype(np.int64)

    async def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        deadline = self._link.next_deadline()
        timeout = None if deadline is None else max(deadline - loop.time(), 0.0)
        try:
            data = await asyncio.wait_for(self.carrier.read(), timeout)
        except TimeoutError:
            self._link.advance(loop.time())
            return
        if data:
            self._link.receive(data, loop.time())
        else:
            self._link.disconnected(loop.time())


def run(test: Callable[[], Awaitable[None]], limit_s: float = 60.0) -> None:
    """Run one asynchronous test to its end."""

    async def bounded() -> None:
        async with asyncio.timeout(limit_s):
            await test()

    asyncio.run(bounded())
