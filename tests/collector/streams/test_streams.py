"""Long-running readers: connections and a pty in fast time, unplugging, sessions that follow each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from collector.batching import Worker
from collector.drain import status
from collector.gates import line_fault
from collector.lines.transports import Endpoint, Receiver, Stream, parse_url
from collector.merging import merge_sessions
from collector.service import Collector
from collector.session import EndedSession
from collector.streams.line import LineKeeper
from collector.streams.profiles import STREAM_PROFILES
from collector.streams.reader import StreamPace, StreamReaders, open_session, stream_targets
from collector.work.planning import InstalledMeter
from collector.work.worklist import installed_meters, targets
from faults import RetryFault
from protocols.captures import Chunk
from protocols.celesc.catalogue import meter_named
from simulator.load.grid import local_seconds
from simulator.streams.output import BadLine, CelescOutput, SsuOutput
from simulator.streams.server import StreamPty, StreamServer
from storage import sessions as session_rows
from storage.database import Database
from tests.collector.fast_time import BEGIN, SPEED, FastClock, PromptPty
from tests.collector.streams.hearing import FIRST, frames_of, heard
from tests.collector.streams.world import LINE, PACE, SOURCE, add, sessions, stored, truth
from tests.collector.world import quick

FIRST_END = datetime(2026, 11, 20, 12, 5, tzinfo=UTC)  # of slot 108


async def follow(
    db: Database,
    clock: Callable[[], datetime],
    seconds: float,
    during: Callable[[], None] = lambda: None,
    pace: StreamPace = PACE,
    steady: Callable[[], float] | None = None,
) -> None:
    """Run the readers for so many simulated seconds."""
    worker = Worker(db, "test-streams")
    readers = StreamReaders(db.settings, worker, "test", clock, pace, steady=steady)
    running = asyncio.create_task(readers.run())
    try:
        await asyncio.sleep(seconds / SPEED / 2)
        during()
        await asyncio.sleep(seconds / SPEED / 2)
        assert not running.done(), running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        worker.close()


@pytest.mark.req("TR-5.5e", "X-sim")
def test_ssu_over_tcp_survives_unplugging_and_sessions_follow_each_other(db: Database) -> None:
    db, clock = quick(db), FastClock()

    async def main() -> None:
        async with StreamServer(SsuOutput(SOURCE), clock, tick_s=0.01) as server:
            add(db, server.url, "ssu-extended")
            await follow(db, clock, 1900, server.unplug)

    clock.run(main())
    # 12:00 to 12:30 UTC are slots 108 to 113; the session changed once, at an interval's end.
    assert stored(db) == {slot: truth(slot) for slot in range(108, 114)}
    ended = sessions(db)
    assert len(ended) >= 2
    assert {row[0] for row in ended} == {"complete"}
    assert sum(row[2] for row in ended) >= 1
    with db.connect() as conn:
        assert conn.execute("SELECT count(*) FROM quarantine WHERE stage = 'merge'").fetchone() == (0,)
        (line,) = status(conn)["streams"]
        assert line["serial"] == "77"
        assert line["good"] > 100
        assert abs(line["drift_s"]) < 5


@pytest.mark.req("CE-A")
def test_a_host_clock_that_is_set_makes_no_false_interval(embedded_db: Database) -> None:
    """Set forward by 170 s, an interval seems to be as long as any, and has half of its energy."""
    db, true_time = quick(embedded_db), FastClock()
    steps: list[int] = []
    slots: list[int] = []
    begun_s = int(local_seconds(BEGIN))
    output = CelescOutput(SOURCE, (1, 1), meter_named("27182"), "0000000077", begun_s, 13_579, digits=6)

    def host_clock() -> datetime:
        return true_time() + timedelta(seconds=sum(steps))

    def set_clock() -> None:
        slots.append(108 + int((true_time() - FIRST_END).total_seconds() // 300) + 1)
        steps.append(170)

    async def main() -> None:
        async with StreamServer(output, true_time, tick_s=0.01) as server:
            add(db, server.url, "celesc-27182")
            await follow(db, host_clock, 840, set_clock, steady=true_time.gone_s)

    true_time.run(main())
    # At 12:06 UTC.
    assert slots == [109]
    assert 109 not in stored(db)
    assert 108 in stored(db)


@pytest.mark.req("TR-2a")
def test_the_days_last_interval_is_there_for_the_daily_run(embedded_db: Database) -> None:
    db, clock = quick(embedded_db), FastClock(datetime(2026, 11, 21, 2, 53, tzinfo=UTC))

    async def main() -> None:
        async with StreamServer(SsuOutput(SOURCE), clock, tick_s=0.01) as server:
            add(db, server.url, "ssu-extended")
            reading = asyncio.create_task(follow(db, clock, 3000, pace=replace(PACE, session_s=3600)))
            while not (found := stored(db)) and not reading.done():  # noqa: ASYNC110 -- the rows are the database's
                await asyncio.sleep(0.05)
            assert found.keys() == {287}, "the session lasts an hour, and this was less"
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    clock.run(main())


@pytest.mark.req("CE-A", "X-sim")
def test_celesc_over_a_pty_through_noise(db: Database) -> None:
    db, clock = quick(db), FastClock()
    begun_s = int(local_seconds(BEGIN)) - 10 * 300
    output = CelescOutput(SOURCE, (36, 1000), meter_named("27182"), "0000000077", begun_s)

    async def main() -> None:
        async with PromptPty(output, clock, BadLine(0.002, 0.002, 1), tick_s=0.01) as server:
            add(db, server.url + "?baud=2400", "celesc-27182")
            await follow(db, clock, 1000)

    clock.run(main())
    found = stored(db)
    assert found.keys() >= {108, 109}
    assert all(abs(pulses - truth(slot) * 0.036) <= 1.2 for slot, pulses in found.items())
    assert sessions(db)[0][:2] == ("complete", "celesc")
    assert sessions(db)[0][3] == "0000000077"


def test_a_line_that_says_nothing_is_a_failed_session_with_its_reason(db: Database) -> None:
    db, clock = quick(db), FastClock()
    add(db, "tcp://127.0.0.1:1", "ssu")
    clock.run(follow(db, clock, 100))
    assert sessions(db) == [("failed", "ssu", 0, None, "connect")]


def test_what_a_dead_collector_stored_is_merged_by_the_next(db: Database) -> None:
    db = quick(db)
    add(db, "tcp://127.0.0.1:1", "ssu-extended")
    rows = frames_of(heard(SsuOutput(SOURCE), FIRST - 40, 1000), "ssu-extended")
    with db.connect() as conn:
        (target,) = stream_targets(conn, BEGIN)
        number = open_session(conn, "dead", target, BEGIN)
        assert number is not None
        assert open_session(conn, "another", target, BEGIN) is None
        session_rows.write_frames(
            conn,
            [session_rows.encode_frame(number, row.seq, row.at, False, 1, None, row.payload) for row in rows],
        )
        conn.commit()
        (settled,) = merge_sessions(conn, [EndedSession(number)], db.settings, BEGIN + timedelta(hours=1))
    assert settled.outcome == "aborted"
    assert stored(db) == {slot: truth(slot) for slot in (108, 109, 110)}


@pytest.mark.req("TR-5.5e")
def test_the_service_listens_beside_its_queue_and_settles_when_it_stops(db: Database) -> None:
    db, clock = quick(db), FastClock(speed=1)

    def heard_three(collector: Collector) -> bool:
        return any(one.quality.good >= 3 for one in collector.streams.status())

    async def main() -> None:
        async with StreamServer(SsuOutput(SOURCE), clock, tick_s=0.05) as server:
            add(db, server.url, "ssu-extended")
            stop = asyncio.Event()
            collector = Collector(db, now=clock)
            running = asyncio.create_task(collector.run(stop))
            async with asyncio.timeout(10):
                # Readers show their quality to whoever looks; there is no event for it. A block a second.
                while not heard_three(collector):  # noqa: ASYNC110 -- see above
                    await asyncio.sleep(0.1)
            stop.set()
            await running

    clock.run(main())
    assert [row[:2] for row in sessions(db)] == [("complete", "ssu")]
    with db.connect() as conn:
        # The head, and what was heard in five seconds or less.
        assert conn.execute("SELECT count(*) FROM frame").fetchone() == (2,)
        # It was not asked for anything.
        assert conn.execute("SELECT count(*) FROM job_request").fetchone() == (0,)


@pytest.mark.req("TR-5.5e")
def test_a_line_on_a_socket_is_opened_again_when_it_was_unplugged() -> None:
    """In real time: the other tests' sockets are simulated."""

    def now() -> datetime:
        return datetime.now(UTC)

    async def main() -> list[int]:
        octets: list[int] = []
        async with StreamServer(SsuOutput(SOURCE), now, tick_s=0.05) as server:
            keeper = LineKeeper(parse_url(server.url), STREAM_PROFILES["ssu"], print, lambda: 0, now, LINE)
            running = asyncio.create_task(keeper.run())
            async with asyncio.timeout(60):
                for opened in (1, 2):
                    octets.append(keeper.state.octets)
                    while keeper.state.opened < opened or keeper.state.octets == octets[-1]:
                        await asyncio.sleep(0.01)
                        assert not running.done(), running
                    server.unplug()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return octets

    assert asyncio.run(main())[1] > 0


def test_who_speaks_by_itself_is_not_asked(db: Database) -> None:
    meter_id = add(db, "tcp://127.0.0.1:1", "celesc-35454")
    with db.connect() as conn:
        (installed,) = installed_meters(conn, BEGIN, db.settings)
        assert isinstance(installed, InstalledMeter)
        assert not installed.is_reachable
        fault = line_fault(targets(conn, [meter_id])[meter_id], db.settings.collector)
    assert fault is not None
    assert "speaks by itself" in fault.message


@pytest.mark.req("CE-A")
def test_the_rate_is_searched_on_a_port_whose_url_names_none() -> None:
    chunks: list[Chunk] = []
    clock = FastClock()

    async def main() -> list[int]:
        tried: list[int] = []
        async with PromptPty(SsuOutput(SOURCE), clock, tick_s=0.01) as server:
            # SSU octets are not packets: no rate ever fits.
            profile = STREAM_PROFILES["celesc-27182"]
            keeper = LineKeeper(parse_url(server.url), profile, chunks.append, lambda: 0, clock, LINE)
            running = asyncio.create_task(keeper.run())
            for _ in range(60):
                await asyncio.sleep(0.05)
                if keeper.state.rate_bit_s not in tried:
                    tried.append(keeper.state.rate_bit_s)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return tried

    tried = clock.run(main())
    assert tried[:4] == [2400, 300, 600, 1200]
    assert chunks


@pytest.mark.req("TR-5.5e")
def test_what_says_more_than_a_meter_can_is_hung_up_on() -> None:
    heard: list[Chunk] = []
    calls = 0
    clock = FastClock(speed=1)

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        with suppress(ConnectionError):
            while True:
                writer.write(bytes(50_000))
                await asyncio.sleep(0.001)

    async def main() -> LineKeeper:
        server = await asyncio.start_server(pour, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        keeper = LineKeeper(
            parse_url(f"tcp://127.0.0.1:{port}"),
            STREAM_PROFILES["ssu"],
            heard.append,
            lambda: 0,
            clock,
            LINE,
        )
        running = asyncio.create_task(keeper.run())
        await asyncio.sleep(1.0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        server.close()
        return keeper

    keeper = clock.run(main())
    assert keeper.state.fault is not None
    assert "more octets than a meter's output can say" in keeper.state.fault.message
    # Opened again with growing pauses, and no more taken than a converter may have kept.
    assert 2 <= calls <= 20
    assert sum(len(chunk.octets) for chunk in heard) <= calls * (LINE.burst_octets + 2 * LINE.most_octets_s)


@pytest.mark.req("TR-5.5e")
def test_a_port_without_the_rate_is_a_line_fault_and_stops_no_reader() -> None:
    clock = FastClock()

    async def main() -> LineKeeper:
        async with StreamPty(SsuOutput(SOURCE), clock, tick_s=0.01) as server:
            url = f"{server.url}?baud={1 << 32}"
            keeper = LineKeeper(parse_url(url), STREAM_PROFILES["ssu"], print, lambda: 0, clock, LINE)
            running = asyncio.create_task(keeper.run())
            # A keeper shows its fault to whoever looks; there is no event to wait for.
            async with asyncio.timeout(60):
                while keeper.state.fault is None and not running.done():  # noqa: ASYNC110 -- see above
                    await asyncio.sleep(0.01)
            assert not running.done(), running
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return keeper

    assert clock.run(main()).state.fault is not None


@pytest.mark.req("TR-5.5e")
def test_a_meter_is_not_hung_up_on_because_the_hosts_clock_was_set_back() -> None:
    hours = iter([0, 0, -1, -1, -1])
    heard: list[Chunk] = []

    def now() -> datetime:
        return BEGIN + timedelta(hours=next(hours))

    async def way(endpoint: Endpoint, receiver: Receiver, connect_s: float) -> Stream:
        receiver.data_received(bytes(9))
        receiver.data_received(bytes(9))
        raise RetryFault("enough", where=endpoint.url, remedy="")

    async def main() -> None:
        url, profile = parse_url("tcp://127.0.0.1:1"), STREAM_PROFILES["ssu"]
        keeper = LineKeeper(url, profile, heard.append, lambda: 0, now, LINE, way)
        running = asyncio.create_task(keeper.run())
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
    assert len(heard) == 2
