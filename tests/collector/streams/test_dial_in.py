"""Meters that speak by themselves behind units that call the collector, in fast time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from collector.drain import status
from collector.service import Collector
from collector.streams.reader import StreamReaders
from protocols.celesc.catalogue import meter_named
from protocols.ssu import Format
from simulator.load.grid import local_seconds
from simulator.streams.output import CelescOutput, SsuOutput, StreamOutput
from simulator.streams.server import StreamCaller
from simulator.wires.dialer import DialPlan
from storage.database import Database
from tests.collector.fast_time import BEGIN, FastClock
from tests.collector.streams.world import PACE, SOURCE, add, sessions, stored, truth
from tests.collector.world import query, quick

KINDS = """
[kinds.remota]
hello = 'REMOTA (?P<unit>[^;]{1,32});'
reply_hex = "06"
"""
HELLO = b"REMOTA %s;"


@asynccontextmanager
async def listening(
    db: Database, folder: Path, clock: Callable[[], datetime], **changes: object
) -> AsyncIterator[Collector]:
    """A collector's service with quick readers, on a free port."""
    path = folder / "kinds.toml"
    path.write_text(KINDS)
    fields = {
        "dial_in_hello_s": 0.3,
        "dial_in_kinds_path": path,
        "listen_host": "127.0.0.1",
        "listen_port": 0,
    }
    collector = Collector(quick(db, **{**fields, **changes}), now=clock)
    collector.streams._pace = PACE
    stop = asyncio.Event()
    running = asyncio.create_task(collector.run(stop))
    try:
        await until(lambda: collector.callers.listening_port is not None or running.done())
        yield collector
    finally:
        stop.set()
        await running


def unit(
    collector: Collector, output: StreamOutput, clock: Callable[[], datetime], code: str | None = "u1"
) -> StreamCaller:
    hello = b"" if code is None else HELLO % code.encode()
    port = collector.callers.listening_port
    assert port is not None
    return StreamCaller(output, clock, DialPlan("127.0.0.1", port, hello, back_off_s=0.05), tick_s=0.01)


async def until(is_so: Callable[[], object], limit_s: float = 15.0) -> None:
    async with asyncio.timeout(limit_s):
        while not is_so():  # noqa: ASYNC110 -- the other side is a socket
            await asyncio.sleep(0.1)


def good(collector: Collector, serial: str = "77") -> int:
    return next((one.quality.good for one in collector.streams.status() if one.serial == serial), 0)


def celesc(number: str) -> CelescOutput:
    begun_s = int(local_seconds(BEGIN)) - 10 * 300
    return CelescOutput(SOURCE, (36, 1000), meter_named("27182"), number, begun_s)


@pytest.mark.req("TR-5.5e", "TR-5.5a", "X-sim")
@pytest.mark.parametrize("block_format", Format)
def test_a_call_is_kept_and_a_broken_one_taken_up_again(
    embedded_db: Database, tmp_path: Path, block_format: Format
) -> None:
    clock = FastClock()

    async def main() -> tuple[int, int]:
        async with (
            listening(embedded_db, tmp_path, clock) as collector,
            unit(collector, SsuOutput(SOURCE, block_format), clock) as caller,
        ):
            await until(lambda: good(collector) > 400)
            caller.unplug()
            before = good(collector)
            await until(lambda: good(collector) > before + 600)
            assert caller.connections == 1
            return caller.calls, collector.callers.dial_in.counts.refused

    add(embedded_db, "dialin://u1", f"ssu-{block_format}")
    assert clock.run(main()) == (2, 0)
    assert stored(embedded_db) == {slot: truth(slot) for slot in (108, 109, 110)}
    ended = sessions(embedded_db)
    assert {row[0] for row in ended} == {"complete"}
    assert sum(row[2] for row in ended) >= 1
    with embedded_db.connect() as conn:
        (line,) = status(conn)["streams"]
    assert (line["url"], line["serial"]) == ("dialin://u1", "77")
    assert query(embedded_db, "SELECT reason FROM quarantine WHERE stage <> 'decode'") == []


def readings(db: Database) -> list[tuple[str, list[int | None]]]:
    """Serial and counts of each meter that has an interval."""
    rows = query(
        db,
        "SELECT m.serial, r.pulses FROM reading_day r JOIN meter m ON m.id = r.meter_id "
        "WHERE r.channel = 1 AND cardinality(array_remove(r.pulses, NULL)) > 0 ORDER BY m.serial",
    )
    return list(rows)


@pytest.mark.req("TR-5.5e", "CE-A", "TR-5.5a")
def test_two_units_and_one_that_is_told_by_its_packets(embedded_db: Database, tmp_path: Path) -> None:
    """One says a hello, one says none: the number in its meter's packets is known."""
    clock = FastClock()
    add(embedded_db, "dialin://u1", "ssu-extended", "77")
    add(embedded_db, "dialin://u2", "celesc-27182", "88")

    async def main() -> None:
        async with (
            listening(embedded_db, tmp_path, clock) as collector,
            unit(collector, SsuOutput(SOURCE), clock) as one,
            unit(collector, celesc("0000000088"), clock, None) as other,
        ):
            await until(lambda: [serial for serial, _ in readings(embedded_db)] == ["77", "88"], 60)
            assert (one.calls, other.calls) == (1, 1)

    clock.run(main())
    (_, pulses), (_, kwh) = readings(embedded_db)
    assert all(count in (None, truth(slot)) for slot, count in enumerate(pulses))
    # The units begin to talk at different times, and each register shows every three seconds.
    assert all(count is None or abs(count - truth(slot) * 0.036) <= 1.2 for slot, count in enumerate(kwh))
    assert {row[1] for row in sessions(embedded_db)} == {"ssu", "celesc"}


@pytest.mark.req("TR-5.5a")
def test_a_second_call_replaces_the_first_at_once(embedded_db: Database, tmp_path: Path) -> None:
    """The first stays open at the unit's side, as of one that lost its radio, and says no more."""
    clock = FastClock()
    add(embedded_db, "dialin://u1", "ssu-extended")

    async def main() -> None:
        async with (
            listening(embedded_db, tmp_path, clock) as collector,
            unit(collector, SsuOutput(SOURCE), clock) as caller,
        ):
            await until(lambda: good(collector) > 50)
            for _ in range(3):
                before = good(collector)
                await caller.duplicate()
                # Long before silence would end the dead connection.
                await until(lambda before=before: good(collector) > before + 50, 1.5)
                assert caller.connections == 1
            dial_in = collector.callers.dial_in
            assert (dial_in.connected, dial_in.counts.refused) == (1, 0)

    clock.run(main())
    assert {row[0] for row in sessions(embedded_db)} == {"complete"}


@pytest.mark.req("TR-5.5a")
def test_a_unit_that_falls_silent_is_hung_up_on_and_calls_again(
    embedded_db: Database, tmp_path: Path
) -> None:
    clock = FastClock()
    add(embedded_db, "dialin://u1", "ssu-extended")

    async def main() -> None:
        async with (
            listening(embedded_db, tmp_path, clock) as collector,
            unit(collector, SsuOutput(SOURCE), clock) as caller,
        ):
            await until(lambda: good(collector) > 50)
            caller.is_mute = True
            await until(lambda: caller.calls > 1)
            caller.is_mute = False
            before = good(collector)
            await until(lambda: good(collector) > before + 50)

    clock.run(main())
    assert {row[0] for row in sessions(embedded_db)} == {"complete"}


@pytest.mark.req("TR-5.5a")
def test_what_a_reader_follows_may_talk_and_what_none_follows_may_not(
    embedded_db: Database, tmp_path: Path
) -> None:
    clock = FastClock()
    add(embedded_db, "dialin://u1", "ssu-extended", "77")
    with embedded_db.connect() as conn:
        conn.execute("INSERT INTO unit (code, url) VALUES ('no meter', 'dialin://u2')")

    async def main() -> None:
        async with listening(embedded_db, tmp_path, clock, dial_in_idle_octets=200) as collector:
            async with unit(collector, SsuOutput(SOURCE), clock):
                await until(lambda: good(collector) > 100)
            async with unit(collector, SsuOutput(SOURCE), clock, "u2"):
                await until(lambda: collector.callers.dial_in.counts.refused)

    clock.run(main())
    ((reason, detail),) = query(embedded_db, "SELECT reason, detail FROM quarantine WHERE stage = 'dial-in'")
    assert (reason, detail["named"]) == ("says too much while nobody asks", "u2")


@pytest.mark.req("TR-5.5a")
def test_a_unit_that_stays_away_gives_its_session_up_until_it_calls(
    embedded_db: Database, tmp_path: Path
) -> None:
    """So that of several collectors the one that gets the call may read it."""
    clock = FastClock()
    add(embedded_db, "dialin://u1", "ssu-extended")
    away = replace(PACE, away_s=60)

    async def main() -> None:
        async with listening(embedded_db, tmp_path, clock) as collector:
            collector.streams._pace = away
            await until(lambda: [row[0] for row in sessions(embedded_db)] == ["failed"])
            await asyncio.sleep(1.0)
            assert len(sessions(embedded_db)) == 1, "nothing is opened while nobody calls"
            async with unit(collector, SsuOutput(SOURCE), clock):
                await until(lambda: good(collector) > 50)
                assert [row[0] for row in sessions(embedded_db)] == ["failed", None]

    clock.run(main())
    failed, complete = sessions(embedded_db)
    assert (failed[0], failed[4]) == ("failed", "connect")
    assert complete[0] == "complete"
    ((error,),) = query(embedded_db, "SELECT error FROM session WHERE outcome = 'failed'")
    assert "u1 is not connected" in error["message"]


def test_without_a_listener_no_session_is_begun(embedded_db: Database) -> None:
    """Another collector may listen: this one must not hold the line."""
    db, clock = quick(embedded_db), FastClock()
    add(db, "dialin://u1", "ssu-extended", "77")
    add(db, "tcp:/oops", "ssu-extended", "78")

    async def main() -> StreamReaders:
        stop = asyncio.Event()
        collector = Collector(db, now=clock)
        collector.streams._pace = PACE
        running = asyncio.create_task(collector.run(stop))
        await asyncio.sleep(0.5)
        stop.set()
        await running
        return collector.streams

    assert clock.run(main()).status() == []
    assert sessions(db) == []
