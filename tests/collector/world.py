"""A registry of meters and the simulated meters behind it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np

from collector.drain import drain
from collector.service import Collector
from collector.work.worklist import request_missing
from simulator.load.clock import ClockModel, SettableClock
from simulator.load.curves import GeneratedLoad
from simulator.load.grid import MARKET_ZONE
from simulator.nbr14522.line import Station
from simulator.nbr14522.meter import SimulatedMeter
from simulator.nbr14522.server import PtyMeterServer, TcpMeterServer
from simulator.nbr14522.spec import MeterSpec
from simulator.wires.faultplan import FaultPlan
from storage.database import Database

DAY = date(2026, 11, 20)
NOW = datetime(2026, 11, 21, 6, 7, tzinfo=UTC)  # 03:07 at the meter


def meter(serial="10000001", plan=None, now=NOW, offset_s=0.0, **changes):
    """A station: a supermarket's meter since September, its clock standing still at `now`."""
    source = GeneratedLoad("supermarket", 120.0, 0.036, int(serial))
    spec = MeterSpec(serial, source, datetime(2026, 9, 1, 10), ClockModel(now, offset_s), **changes)
    return Station(SimulatedMeter(spec), SettableClock(now, is_running=False), plan or FaultPlan())


@asynccontextmanager
async def served(*stations, kind=TcpMeterServer):
    """The servers of these stations; each names its `url`."""
    async with AsyncExitStack() as stack:
        servers = []
        for station in stations:
            server = kind(station, enq_period_s=0.03)
            servers.append(await stack.enter_async_context(server))
        yield servers


def served_on_ptys(*stations):
    return served(*stations, kind=PtyMeterServer)


def register(db, servers, *, options="", cells=(), first=0):
    """Registry rows for the meters of these servers; meter ids by serial."""
    ids = {}
    with db.connect() as conn:
        conn.execute(
            "INSERT INTO distributor (code, name) VALUES ('D', 'Distribuidora') ON CONFLICT DO NOTHING"
        )
        conn.execute(
            "INSERT INTO agent (code, name, distributor_id) SELECT 4711, 'Agente', id FROM distributor "
            "ON CONFLICT DO NOTHING"
        )
        for number, server in enumerate(servers, start=first):
            spec, url, profile = server.station.meter.spec, server.url, server.profile.name
            cell = cells[number % len(cells)] if cells else ""
            constant = spec.channel_constants[0] if spec.channel_constants else spec.pulse_constant
            ids[spec.serial] = add_meter(
                conn,
                number,
                spec.serial,
                url + options,
                profile,
                cell,
                constant=constant,
                interval_s=spec.source.interval_s,
            )
    return ids


def add_meter(
    conn,
    number,
    serial,
    url,
    profile="default",
    cell="",
    since="2026-09-01Z",
    constant=(9, 1250),
    interval_s=300,
):
    def one(query, *parameters):
        row = conn.execute(query, parameters).fetchone()
        return None if row is None else row[0]

    conn.execute(
        "INSERT INTO meter_model (code, profile) VALUES (%s, %s) ON CONFLICT DO NOTHING", [profile] * 2
    )
    uc = one(
        "INSERT INTO uc (code, name, agent_id) SELECT %s, 'UC', id FROM agent RETURNING id", f"{number:010}"
    )
    point = one("INSERT INTO point (code, uc_id) VALUES (%s, %s) RETURNING id", f"P{number:05}", uc)
    unit = one(
        "INSERT INTO unit (code, url, cell) VALUES (%s, %s, %s) RETURNING id", f"U{number:05}", url, cell
    )
    meter_id = one(
        "INSERT INTO meter (serial, model_id) SELECT %s, id FROM meter_model WHERE code = %s RETURNING id",
        serial,
        profile,
    )
    conn.execute(
        "INSERT INTO installation (meter_id, point_id, unit_id, role, valid, pulse_energy_num, "
        "pulse_energy_den, interval_s) VALUES (%s, %s, %s, 'main', tstzrange(%s, NULL), %s, %s, %s)",
        [meter_id, point, unit, since, *constant, interval_s],
    )
    return meter_id


def quick(db, **changes):
    """The database with a collector's settings that do not wait."""
    fields = {
        "poll_s": 0.05,
        "backoff_base_s": 0.05,
        "backoff_max_s": 0.2,
        "connect_timeout_s": 20.0,
        "stop_grace_s": 0.5,
        "lease_s": 30.0,
    }
    settings = replace(db.settings, collector=replace(db.settings.collector, **{**fields, **changes}))
    return Database(db.url, settings)


async def work_until(db, request_ids, now, is_so, limit_s=60):
    """Work on these requests until something is so that another connection sees in the database."""
    stop = asyncio.Event()
    work = asyncio.create_task(Collector(db, now=now, only=request_ids).run(stop))
    try:
        async with asyncio.timeout(limit_s):
            while not is_so():
                await asyncio.sleep(0.05)
                assert not work.done(), work
    finally:
        stop.set()
        await work


async def collect(db, days=(DAY,), now=NOW, **options):
    """Ask for what is missing and read until it is answered; summaries by serial."""
    ids = request_missing(db, list(days), now, "test")
    return {one.serial: one for one in await drain(db, ids, lambda: now, deadline_s=60, **options)}


def truth(station, day=DAY):
    """What the meter counted on the day: pulses (slots, 3)."""
    first = int((datetime.combine(day, datetime.min.time()) - datetime(1970, 1, 1)) // timedelta(seconds=300))
    return station.meter.spec.source.pulses(first, 288)


def stored(db, meter_id, day=DAY, channel=1):
    """Pulses stored for the day, None where missing; None when the day is not there."""
    with db.connect() as conn:
        row = conn.execute(
            "SELECT pulses FROM reading_day WHERE meter_id = %s AND day = %s AND channel = %s "
            "ORDER BY version DESC LIMIT 1",
            [meter_id, day, channel],
        ).fetchone()
    return None if row is None else row[0]


def assert_day_is_exact(db, meter_id, station, day=DAY):
    expected = truth(station, day)
    for channel in (1, 2, 3):
        got = stored(db, meter_id, day, channel)
        assert got is not None, f"channel {channel} of {day} is missing"
        assert np.array_equal(got, expected[:, channel - 1])


def sessions(db, meter_id=None):
    """Session rows as dictionaries, oldest first."""
    with db.connect() as conn:
        cursor = conn.execute(
            "SELECT * FROM session WHERE meter_id = %s OR %s::bigint IS NULL ORDER BY id",
            [meter_id, meter_id],
        )
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]


def query(db, text, *parameters):
    with db.connect() as conn:
        return conn.execute(text, parameters).fetchall()


@contextmanager
def meters_in_thread(stations):
    """The meters served from a thread of their own, for tests that wait for processes."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    servers = [run(TcpMeterServer(station, enq_period_s=0.03).start()) for station in stations]
    try:
        yield servers
    finally:
        for server in servers:
            run(server.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


MARKET = MARKET_ZONE
