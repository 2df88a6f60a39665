"""Simulated time: asyncio programs run unchanged, in order, and nothing waits."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faults import DeveloperFault
from simulator.load.grid import MARKET_ZONE
from simulator.wires.virtual_time import run_virtual, virtual_loop

ORIGIN = datetime(2026, 11, 20, tzinfo=MARKET_ZONE)


def test_a_week_passes_at_once_and_timers_fire_at_their_times() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        seen: list[float] = []

        async def tick() -> None:
            for _ in range(7 * 24):
                await asyncio.sleep(3600)
                seen.append(loop.time())

        await asyncio.gather(tick(), tick())
        return seen

    begin = time.perf_counter()
    seen = run_virtual(main())
    assert time.perf_counter() - begin < 60
    assert seen == [hour * 3600 for hour in range(1, 169) for _ in range(2)]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_sleepers_wake_in_the_order_of_their_times(delays: list[float]) -> None:
    async def main() -> tuple[list[float], float]:
        woke: list[float] = []

        async def sleeper(delay_s: float) -> None:
            await asyncio.sleep(delay_s)
            woke.append(delay_s)

        await asyncio.gather(*(sleeper(delay) for delay in delays))
        return woke, asyncio.get_running_loop().time()

    woke, end = run_virtual(main())
    assert woke == sorted(delays)
    assert end == pytest.approx(max(delays), abs=1e-6)


def test_time_outs_are_simulated_and_the_clock_follows() -> None:
    async def main() -> datetime:
        clock = virtual_loop().clock(ORIGIN)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(330.5):
                await asyncio.Event().wait()
        return clock()

    assert run_virtual(main()) == ORIGIN + timedelta(seconds=330.5)


def test_work_in_threads_takes_no_simulated_time() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()

        async def impatient() -> str:
            async with asyncio.timeout(0.01):
                return await asyncio.to_thread(lambda: time.sleep(0.2) or "done")

        assert await asyncio.gather(impatient(), impatient()) == ["done", "done"]
        return loop.time()

    assert run_virtual(main()) < 0.01


def test_a_wait_that_nothing_can_end_is_an_error_not_a_hang() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(DeveloperFault, match="nothing is due"):
        run_virtual(main())


def test_streams_talk_inside_the_loop() -> None:
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                await asyncio.sleep(60)
                writer.write(line.upper())
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 4059)
        reader, writer = await asyncio.open_connection("127.0.0.1", 4059)
        writer.write(b"one\ntw")
        writer.write(b"o\n")
        assert [await reader.readline(), await reader.readline()] == [b"ONE\n", b"TWO\n"]
        assert asyncio.get_running_loop().time() == 120
        writer.get_extra_info("socket").setsockopt(1, 9, 1)
        writer.close()
        assert await reader.read() == b""
        with pytest.raises(OSError, match="in use"):
            await asyncio.start_server(serve, "127.0.0.1", 4059)
        server.close()
        await server.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", 4059)

    run_virtual(main())


def test_a_broken_link_is_a_reset_at_the_other_end() -> None:
    async def main() -> None:
        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"half")
            await asyncio.sleep(1)
            writer.transport.abort()

        await asyncio.start_server(serve, "localhost.test", 1)
        reader, _ = await asyncio.open_connection("localhost.test", 1)
        assert await reader.readexactly(4) == b"half"
        with pytest.raises(ConnectionResetError):
            await reader.read()

    run_virtual(main())


def test_paused_reading_keeps_order() -> None:
    class Slow(asyncio.Protocol):
        got = b""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            transport.pause_reading()

        def data_received(self, data: bytes) -> None:
            self.got += data

    async def main() -> None:
        loop = asyncio.get_running_loop()
        slow = Slow()
        server = await loop.create_server(lambda: slow, "127.0.0.1")
        port = server.sockets[0].getsockname()[1]
        transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
        for part in (b"a", b"b", b"c"):
            transport.write(part)
        await asyncio.sleep(5)
        assert slow.got == b""
        slow.transport.resume_reading()
        transport.write(b"d")
        await asyncio.sleep(0.1)
        assert slow.got == b"abcd"

    run_virtual(main())
