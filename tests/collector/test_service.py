"""The service among many meters: limits, several collectors, schedules, stopping, and being killed."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from collector.drain import drain
from collector.lines.callers import Callers
from collector.service import Collector
from collector.work.planning import Windows
from collector.work.worklist import request_missing, targets
from simulator.nbr14522.server import TcpMeterServer
from simulator.wires.faultplan import FaultPlan
from simulator.wires.virtual_time import run_virtual
from storage import queue
from storage import sessions as session_rows
from storage.queue import Priority
from tests.collector.world import (
    DAY,
    NOW,
    assert_day_is_exact,
    collect,
    meter,
    meters_in_thread,
    query,
    quick,
    register,
    served,
    sessions,
    stored,
)
from tests.pipelines.cli.command import smf

ROOT = Path(__file__).parents[2]


class Watched(TcpMeterServer):
    """Counts who talks at the same time, at the meter's end of the line."""

    talking: Counter[str]
    most: Counter[str]
    overlaps: int

    @classmethod
    def reset(cls):
        cls.talking, cls.most, cls.overlaps, cls.cell_of = Counter(), Counter(), 0, {}

    def take_over(self, protocol):
        if self._talking is not None:
            Watched.overlaps += 1
        super().take_over(protocol)
        for key in ("all", self.cell_of.get(self.url, "")):
            self.talking[key] += 1
            self.most[key] = max(self.most[key], self.talking[key])

    def let_go(self, protocol):
        if self._talking is protocol:
            for key in ("all", self.cell_of.get(self.url, "")):
                self.talking[key] -= 1
        super().let_go(protocol)


@pytest.fixture
def watched():
    Watched.reset()
    return Watched


async def until(is_so, limit_s=60):
    """Wait for something that another connection will see in the database."""
    async with asyncio.timeout(limit_s):
        while not is_so():  # noqa: ASYNC110 -- what is waited for happens in the database
            await asyncio.sleep(0.05)


def fleet(count, plan=None):
    return [meter(f"{30000000 + number}", plan) for number in range(count)]


@pytest.mark.req("TR-5.5b")
def test_limits_are_never_exceeded_as_the_meters_see_it(embedded_db, watched):
    stations = fleet(20)
    ready = quick(embedded_db, per_cell_limit=3, per_host_limit=7)

    async def work():
        async with served(*stations, kind=watched) as servers:
            ids = register(ready, servers, cells=("north", "south", "", ""))
            for number, server in enumerate(servers):
                watched.cell_of[server.url] = ("north", "south", "", "")[number % 4]
            return ids, await collect(ready)

    # In simulated time seven sessions are open before the first ends, however long the database takes.
    ids, found = run_virtual(work())
    assert {summary.state for summary in found.values()} == {"done"}
    assert watched.most["all"] == 7, "the host's limit is reached, and not passed"
    assert watched.most["north"] <= 3
    assert watched.most["south"] <= 3
    for station in stations:
        assert_day_is_exact(ready, ids[station.meter.spec.serial], station)


@pytest.mark.req("TR-5.5b")
def test_a_full_cell_does_not_keep_other_requests_out(embedded_db):
    """Thirty meters of one cell are queued first; the one outside does not wait for them."""
    stations = [*fleet(30, FaultPlan(silent=True)), meter("39999999")]
    ready = quick(embedded_db, per_cell_limit=1, max_sessions=20)

    async def work():
        async with served(*stations) as servers:
            register(ready, servers[:-1], options="?idle_s=5", cells=("crowded",))
            last = register(ready, servers[-1:], first=100)
            request_missing(ready, [DAY], NOW, "test")
            stop = asyncio.Event()
            task = asyncio.create_task(Collector(ready, now=lambda: NOW).run(stop))
            try:
                await until(lambda: stored(ready, last["39999999"]) is not None)
            finally:
                stop.set()
                await task

    asyncio.run(work())
    open_states = query(ready, "SELECT count(*) FROM session WHERE outcome IS NULL")
    assert open_states == [(0,)]


def test_two_collectors_share_the_queue_and_no_meter_is_in_two_sessions(db, watched):
    stations = fleet(12)
    ready = quick(db, max_sessions=5)
    alive = (
        "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = %s "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )

    async def make_due():
        await until(lambda: len(query(ready, alive, session_rows.ALIVE_LOCK)) == 2)
        query(ready, "UPDATE job_request SET not_before = now() RETURNING id")

    async def work():
        async with served(*stations, kind=watched) as servers:
            ids = register(ready, servers)
            routine = request_missing(ready, [DAY], NOW, "test")
            with ready.connect() as conn:
                person = queue.enqueue_many(
                    conn,
                    [
                        queue.JobRequest(
                            "read", "person", meter_id, {"sequence": "verification"}, priority=10
                        )
                        for meter_id in ids.values()
                    ],
                )
                # None is due before both collectors are at work.
                conn.execute("UPDATE job_request SET not_before = 'infinity'")
            both = [*routine, *person]
            first, second, _ = await asyncio.gather(
                drain(ready, both, lambda: NOW, deadline_s=60),
                drain(ready, both, lambda: NOW, deadline_s=60),
                make_due(),
            )
            return ids, (first, second)

    ids, (first, second) = asyncio.run(work())
    assert {one.state for one in first} == {"done"}
    assert first == second
    assert watched.overlaps == 0
    assert len(query(ready, "SELECT DISTINCT collector FROM session")) == 2, "both took part"
    for station in stations:
        assert_day_is_exact(ready, ids[station.meter.spec.serial], station)


def test_the_database_refuses_a_second_session_with_a_meter(embedded_db):
    ready = quick(embedded_db)
    register(ready, [])

    async def work():
        async with served(meter()) as servers:
            return register(ready, servers)["10000001"]

    meter_id = asyncio.run(work())
    with ready.connect() as conn:
        target = targets(conn, [meter_id])[meter_id]
        new = session_rows.NewSession(meter_id, target.unit_id, "missing", "nbr14522", target.url)
        wanted = [new, new]
        first = session_rows.open_sessions(conn, "a", wanted, NOW)
        assert [number is None for number in first] == [False, True]
        assert session_rows.open_sessions(conn, "b", wanted[:1], NOW) == [None]


def test_a_person_is_served_first(embedded_db):
    """One session at a time: the order of sessions is the order of priorities."""
    stations = fleet(4)
    ready = quick(embedded_db, per_host_limit=1, max_sessions=1)

    async def work():
        async with served(*stations) as servers:
            ids = list(register(ready, servers).values())
            with ready.connect() as conn:
                numbers = queue.enqueue_many(
                    conn,
                    [
                        queue.JobRequest(
                            "read", "t", ids[n], {"sequence": "verification"}, priority=int(priority)
                        )
                        for n, priority in enumerate(
                            [Priority.ROUTINE, Priority.ROUTINE, Priority.RECOVERY, Priority.ON_DEMAND]
                        )
                    ],
                )
            await drain(ready, numbers, lambda: NOW, deadline_s=60)
            return ids

    ids = asyncio.run(work())
    assert [row["meter_id"] for row in sessions(ready)] == [ids[3], ids[2], ids[0], ids[1]]


@pytest.mark.req("TR-5.5c")
def test_schedules_bring_each_point_what_it_is_due(embedded_db):
    stations = fleet(3)
    ready = quick(embedded_db, recovery_days=1)
    soon = (timedelta(0), timedelta(seconds=1))

    async def work():
        async with served(*stations) as servers:
            ids = register(ready, servers)
            with ready.connect() as conn:
                for number, kind in enumerate(["daily", "hourly", "quarter_hourly"]):
                    conn.execute(
                        "INSERT INTO point_schedule SELECT id, '[2026-01-01,)', %s FROM point "
                        "WHERE code = %s",
                        [kind, f"P{number:05}"],
                    )
            stop = asyncio.Event()
            collector = Collector(ready, now=lambda: NOW, windows=Windows(soon, soon, soon))
            task = asyncio.create_task(collector.run(stop))
            await until(lambda: len(query(ready, "SELECT 1 FROM job_request WHERE state = 'done'")) == 5)
            stop.set()
            await task
            return ids

    ids = asyncio.run(work())
    asked = query(ready, "SELECT meter_id, requested_by, parameters->>'days', priority FROM job_request")
    today, yesterday = (DAY + timedelta(days=1)).isoformat(), DAY.isoformat()
    daily, hourly, quarter = ids.values()
    routine = {(meter_id, days) for meter_id, _, days, priority in asked if priority == Priority.ROUTINE}
    assert routine == {(daily, f'["{yesterday}"]'), (hourly, f'["{today}"]'), (quarter, f'["{today}"]')}
    recovered = {(meter_id, days) for meter_id, _, days, priority in asked if priority == Priority.RECOVERY}
    assert recovered == {(hourly, f'["{yesterday}"]'), (quarter, f'["{yesterday}"]')}
    # At 03:07 the meter has closed 37 intervals of five minutes.
    assert sum(value is not None for value in stored(ready, hourly, DAY + timedelta(days=1))) == 37


def test_a_stopped_service_gives_back_what_it_had_not_finished(embedded_db):
    stations = fleet(3, FaultPlan(silent=True))
    ready = quick(embedded_db, stop_grace_s=0.1)

    async def work():
        async with served(*stations) as servers:
            register(ready, servers)
            ids = request_missing(ready, [DAY], NOW, "test")
            stop = asyncio.Event()
            task = asyncio.create_task(Collector(ready, now=lambda: NOW, only=ids).run(stop))
            await until(lambda: len(sessions(ready)) == 3)
            stop.set()
            await asyncio.wait_for(task, 60)

    asyncio.run(work())
    assert query(ready, "SELECT state, attempts, claimed_by FROM job_request") == [("queued", 0, None)] * 3
    assert [row["outcome"] for row in sessions(ready)] == ["aborted"] * 3


def test_a_new_request_is_heard_at_once(embedded_db):
    ready = quick(embedded_db, poll_s=3600.0)
    station = meter()

    async def work():
        async with served(station) as servers:
            (meter_id,) = register(ready, servers).values()
            with ready.connect() as conn:
                first = queue.enqueue(conn, queue.JobRequest("read", "t", meter_id, {"sequence": "recovery"}))
            stop = asyncio.Event()
            task = asyncio.create_task(Collector(ready, now=lambda: NOW, only=[first, first + 1]).run(stop))
            await until(lambda: query(ready, "SELECT 1 FROM job_request WHERE state = 'done'"))
            with ready.connect() as conn:
                second = queue.enqueue(
                    conn, queue.JobRequest("read", "t", meter_id, {"sequence": "recovery"})
                )
            state = "SELECT state FROM job_request WHERE id = %s"
            await until(lambda: query(ready, state, second) == [("done",)])
            stop.set()
            await task

    asyncio.run(work())


def test_frames_that_come_at_the_end_begin_no_task_that_nobody_awaits(embedded_db, monkeypatch, recwarn):
    """The last session's timer fires while the service, its tasks gone, still says goodbye to the callers."""
    stop, wind_down = Callers.stop, Collector._wind_down

    async def slowly(self):
        await stop(self)
        await asyncio.sleep(0.2)

    async def with_a_frame_at_the_end(self):
        await wind_down(self)
        evidence = self._conversations.evidence
        evidence._timer = asyncio.get_running_loop().call_later(0.3, evidence._come_due)

    monkeypatch.setattr(Callers, "stop", slowly)
    monkeypatch.setattr(Collector, "_wind_down", with_a_frame_at_the_end)
    told = []

    async def work():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        async with served(meter()) as servers:
            register(embedded_db, servers)
            (summary,) = (await collect(quick(embedded_db))).values()
            assert summary.state == "done"

    asyncio.run(work())
    gc.collect()
    assert told == []
    assert not [str(one.message) for one in recwarn if "never awaited" in str(one.message)]


@pytest.mark.req("TR-5.1")
def test_a_database_not_migrated_is_reported_with_the_command_to_run(embedded_server, tmp_path):
    name = f"t_{os.getpid()}_bare"
    embedded_server.create_database(name)
    try:
        url = embedded_server.sibling(name).url
        told = smf("collector", "run", url=url, cwd=tmp_path)
    finally:
        with embedded_server.connect(autocommit=True) as conn:
            conn.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert told.returncode == 11
    assert "smf db migrate" in told.stderr
    assert "Traceback" not in told.stderr


def test_frames_of_a_collector_that_died_are_decoded_at_the_next_start(embedded_db):
    """What a dead collector stored without an outcome is worth as much as what a live one finished."""
    station = meter()
    ready = quick(embedded_db)

    async def work():
        async with served(station) as servers:
            ids = register(ready, servers)
            await collect(ready)
            return ids["10000001"]

    meter_id = asyncio.run(work())
    with ready.connect() as conn:
        conn.execute("DELETE FROM reading_day")
        conn.execute("UPDATE session SET outcome = NULL, ended_at = NULL, collector = 'gone:0'")
        conn.execute(
            "UPDATE job_request SET state = 'running', claimed_by = 'gone:0', finished_at = NULL, "
            "lease_until = now() + interval '1 hour'"
        )

    async def restart():
        stop = asyncio.Event()
        stop.set()
        await Collector(ready, now=lambda: NOW, only=[]).run(stop)

    asyncio.run(restart())
    assert_day_is_exact(ready, meter_id, station)
    assert [(row["outcome"], row["meter_serial"]) for row in sessions(ready)] == [("aborted", "10000001")]
    assert query(ready, "SELECT state, claimed_by FROM job_request") == [("queued", None)]


def readings(db):
    """Rows up to the day that was asked for.

    What a limited reading brings of the day after is a bonus: a session cut after the day was whole has less
    of it, and nobody asks for the rest before its time.
    """
    return query(
        db,
        "SELECT meter_id, channel, day, version, quantity_code, interval_s, pulses FROM reading_day "
        "WHERE day <= %s ORDER BY 1, 2, 3",
        DAY,
    )


@contextmanager
def twin_of(db):
    """Another empty database on the same server."""
    twin = db.sibling(f"{db.name}_twin")
    db.create_database(twin.name, template="smf_template")
    try:
        yield twin
    finally:
        with db.connect(autocommit=True) as conn:
            conn.execute(f"DROP DATABASE {twin.name} WITH (FORCE)")


@pytest.mark.req("X-trace")
def test_killed_at_any_moment_and_run_again_it_ends_in_the_same_rows(db):
    seed = int(os.environ.get("SMF_TEST_SEED", random.randrange(2**32)))
    print(f"seed {seed} (SMF_TEST_SEED repeats it)")
    rng = random.Random(seed)
    slow = FaultPlan(baud=57_600)  # a run takes some seconds: there is something to kill
    stations = [replace(station, faults=slow) for station in fleet(8)]
    ready = quick(db, per_host_limit=4)

    def start(ids):
        command = [sys.executable, "-m", "tests.collector.child", ready.url, NOW.isoformat(), *map(str, ids)]
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        return child

    with meters_in_thread(stations) as servers, twin_of(db) as twin:
        register(twin, servers)
        asyncio.run(collect(quick(twin)))
        undisturbed = readings(twin)
        register(ready, servers)
        kills = 0
        for _ in range(6):
            ids = request_missing(ready, [DAY], NOW, "test")
            if not ids:
                break
            child = start(ids)
            # 13 blocks of a meter take 0.6 s at this rate and three meters are read at once: no machine is
            # through with eight of them in less than 1.5 s, so the first two kills hit.
            time.sleep(rng.uniform(0.0, 0.7 if kills < 2 else 1.5))
            kills += child.poll() is None
            child.send_signal(signal.SIGKILL)
            child.wait()
            child.stdout.close()
        asyncio.run(collect(ready))
    assert kills >= 2
    assert readings(ready) == undisturbed
    assert query(ready, "SELECT count(*) FROM session WHERE outcome IS NULL") == [(0,)]
    assert query(ready, "SELECT count(*) FROM quarantine") == [(0,)]
