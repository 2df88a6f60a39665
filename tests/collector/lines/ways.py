"""Lines of the tests: units, meters that answer on them, and patience."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from collector.drain import summaries
from collector.service import Collector
from simulator.wires.dialer import DialInUnit, DialPlan
from tests.collector.world import (
    NOW,
    add_meter,
    quick,
    register,
)

KINDS = """
[kinds.unidade]
hello = 'UNIDADE (?P<unit>[^;]{1,32});'
keep_alive_hex = "00FF00FF"
[kinds.remota]
hello = '\\x02(?P<serial>\\d{8})\\x03'
reply_hex = "06"
"""


def add_line(db, *meters):
    """Registry rows: (serial, URL, profile) of each; meter ids by serial."""
    register(db, [])
    with db.connect() as conn:
        return {
            serial: add_meter(conn, number, serial, url, profile)
            for number, (serial, url, profile) in enumerate(meters)
        }


@asynccontextmanager
async def listening(db, tmp_path, **changes):
    """A collector that units may call, its database, and the requests it works on."""
    path = tmp_path / "kinds.toml"
    path.write_text(KINDS)
    usual = {"dial_in_wait_s": 120.0, "connect_timeout_s": 20.0}
    ready = quick(db, listen_host="127.0.0.1", listen_port=0, dial_in_kinds_path=path, **{**usual, **changes})
    ids = []
    collector = Collector(ready, now=lambda: NOW, only=ids)
    stop = asyncio.Event()
    work = asyncio.create_task(collector.run(stop))
    async with asyncio.timeout(60):
        while collector.callers.listening_port is None:
            await asyncio.sleep(0.01)
            assert not work.done(), work.exception()
    try:
        yield collector, ready, ids
    finally:
        stop.set()
        await work


def patience_for(hello):
    """Settings: a hello may take its time on a busy machine, and where none comes none is waited for."""
    return {} if hello else {"dial_in_hello_s": 0.3}


def unit_at(collector, place, hello=b"", **plan):
    options = {"back_off_s": 0.2, "enq_period_s": 0.03, **plan}
    return DialInUnit(place, DialPlan("127.0.0.1", collector.callers.listening_port, hello, **options))


async def answers(db, ids, limit_s=60):
    """Summaries of the requests by serial, once none is open."""
    async with asyncio.timeout(limit_s):
        while True:
            with db.connect() as conn:
                found = summaries(conn, ids)
            if all(one.state in ("done", "failed") for one in found):
                return {one.serial: one for one in found}
            await asyncio.sleep(0.05)
