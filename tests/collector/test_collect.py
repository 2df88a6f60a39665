"""Meters read over real sockets and ptys, through queue and database, one trouble at a time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from collector.decoded import MeterContext, readings_frame
from collector.drain import drain, summaries
from collector.nbr14522.decode import decode_session
from collector.work.worklist import request_missing
from protocols.nbr14522.profiles import DEFAULT, OLD_3CH, P2_GENERIC, P8_GENERIC, profile_named
from simulator.nbr14522.spec import Outage
from simulator.wires.faultplan import TELNET_OPTIONS, FaultPlan
from storage import queue
from storage.sessions import read_frames
from tests.collector.world import (
    DAY,
    MARKET,
    NOW,
    add_meter,
    assert_day_is_exact,
    collect,
    meter,
    query,
    quick,
    register,
    served,
    served_on_ptys,
    sessions,
    stored,
    truth,
    work_until,
)

SERIAL = "10000001"


def scenario(db, station, *, options="", serve=served, days=(DAY,), **settings):
    """Collect a day of one meter; (database, meter id, summary)."""
    ready = quick(db, **settings)

    async def work():
        async with serve(station) as servers:
            ids = register(ready, servers, options=options)
            found = await collect(ready, days)
            return ids[station.meter.spec.serial], found[station.meter.spec.serial]

    return ready, *asyncio.run(work())


@pytest.mark.req("TR-5.5a", "TR-5.5b", "X-trace")
@pytest.mark.parametrize("profile", [DEFAULT, P8_GENERIC, P2_GENERIC], ids=lambda profile: profile.name)
def test_a_day_is_read_completely_and_exactly(db, profile):
    station = meter(profile=profile)
    ready, meter_id, summary = scenario(db, station)
    assert (summary.state, summary.attempts, summary.sessions) == ("done", 1, 1)
    assert DAY in summary.days_changed
    assert_day_is_exact(ready, meter_id, station)
    (session,) = sessions(ready)
    assert (session["outcome"], session["meter_serial"], session["drift_s"]) == ("complete", SERIAL, 0)
    sent, received = query(
        ready,
        "SELECT sum(length(payload)) FILTER (WHERE direction = '>'), sum(length(payload)) "
        "FILTER (WHERE direction = '<') FROM frame",
    )[0]
    assert session["bytes_sent"] >= sent
    assert session["bytes_received"] >= received
    assert summary.bytes_sent == session["bytes_sent"]
    counts = query(
        ready,
        "SELECT (SELECT count(*) FROM register_reading), (SELECT count(*) FROM meter_change), "
        "(SELECT array_agg(command ORDER BY command) FROM meter_parameters), "
        "(SELECT count(*) FROM quarantine)",
    )[0]
    assert counts[0] == 3
    assert counts[1] == 2, "the resets of October and November"
    assert counts[2] == [0x21, 0x51, 0x80]
    assert counts[3] == 0


@pytest.mark.req("TR-5.5a")
def test_a_serial_line_is_read_like_a_socket(embedded_db):
    station = meter()
    ready, meter_id, summary = scenario(embedded_db, station, serve=served_on_ptys)
    assert summary.state == "done", summary
    assert_day_is_exact(ready, meter_id, station)


def test_what_is_there_is_not_asked_for_again(embedded_db):
    station = meter()
    ready, meter_id, _ = scenario(embedded_db, station)
    assert request_missing(ready, [DAY], NOW, "test") == []

    async def again():
        async with served(station):
            with ready.connect() as conn:
                request = queue.JobRequest(
                    "read", "test", meter_id, {"sequence": "missing", "days": [DAY.isoformat()]}
                )
                number = queue.enqueue(conn, request)
            return await drain(ready, [number], lambda: NOW, deadline_s=60)

    (summary,) = asyncio.run(again())
    assert (summary.state, summary.outcome, summary.sessions) == ("done", "present", 0)
    assert len(sessions(ready)) == 1


@pytest.mark.req("TR-5.5a", "TR-5.12a")
class TestBadLines:
    def test_a_link_that_fails_twice_works_at_the_third_attempt(self, embedded_db):
        station = meter(plan=FaultPlan(refuse_first=2))
        ready, meter_id, summary = scenario(embedded_db, station)
        assert (summary.state, summary.attempts) == ("done", 3)
        assert [row["outcome"] for row in sessions(ready)] == ["failed", "failed", "complete"]
        assert sessions(ready)[0]["error"]["actor"] == "retry"
        assert_day_is_exact(ready, meter_id, station)

    def test_a_meter_that_never_answers_fails_with_stage_and_cause(self, embedded_db):
        station = meter(plan=FaultPlan(silent=True))
        ready, meter_id, summary = scenario(embedded_db, station, options="?idle_s=0.3")
        assert (summary.state, summary.attempts, summary.actor) == ("failed", 5, "retry")
        assert summary.stage == "synchronise"
        assert stored(ready, meter_id) is None
        assert {row["failed_stage"] for row in sessions(ready)} == {"synchronise"}

    def test_nobody_at_the_address_is_a_failure_to_connect(self, embedded_db, unused_port):
        ready = quick(embedded_db)

        async def work():
            register(ready, [])
            with ready.connect() as conn:
                add_meter(conn, 1, SERIAL, f"tcp://127.0.0.1:{unused_port}")
            return await collect(ready)

        summary = asyncio.run(work())[SERIAL]
        assert (summary.state, summary.stage, summary.sessions) == ("failed", "connect", 5)
        assert summary.where == f"tcp://127.0.0.1:{unused_port}"

    def test_damaged_blocks_are_asked_for_again_and_kept_as_evidence(self, embedded_db):
        station = meter(plan=FaultPlan(bad_crc_blocks=(1, 7, 9)))
        ready, meter_id, summary = scenario(embedded_db, station)
        assert (summary.state, summary.attempts) == ("done", 1)
        assert sessions(ready)[0]["retries"] == 3
        assert query(ready, "SELECT count(*) FROM frame WHERE NOT crc_ok") == [(3,)]
        assert_day_is_exact(ready, meter_id, station)

    def test_wait_telnet_octets_and_a_slow_line(self, embedded_db):
        plan = FaultPlan(wait_count=2, hello=TELNET_OPTIONS, baud=115_200)
        station = meter(plan=plan)
        ready, meter_id, summary = scenario(embedded_db, station)
        assert (summary.state, summary.attempts) == ("done", 1)
        assert_day_is_exact(ready, meter_id, station)

    def test_a_break_in_mid_block_keeps_what_came_and_the_retry_completes_it(self, embedded_db):
        # Blocks of the connection: 21, 80, 23, 25, 28, 51, then the memory: the break is in its sixth block.
        station = meter(plan=FaultPlan(drop_first=1, drop_at_block=12, drop_after_octets=100))
        ready = quick(embedded_db, backoff_base_s=600.0, backoff_max_s=600.0)

        async def first():
            async with served(station) as servers:
                ids = register(ready, servers)
                request_ids = request_missing(ready, [DAY], NOW, "test")
                given_back = "SELECT 1 FROM job_request WHERE state = 'queued' AND error IS NOT NULL"
                await work_until(ready, request_ids, lambda: NOW, lambda: query(ready, given_back))
                with ready.connect() as conn:
                    (summary,) = summaries(conn, request_ids)
                partly = stored(ready, ids[SERIAL])
                with ready.connect() as conn:
                    conn.execute("UPDATE job_request SET not_before = now()")
                await drain(ready, request_ids, lambda: NOW, deadline_s=60)
                return ids[SERIAL], summary, partly

        meter_id, summary, partly = asyncio.run(first())
        assert summary.state == "queued"
        assert (summary.stage, summary.actor) == ("command 52 block 6", "retry")
        kept = [slot for slot, value in enumerate(partly) if value is not None]
        assert 0 < len(kept) < 288
        assert [partly[slot] for slot in kept] == truth(station)[kept, 0].tolist()
        assert [row["outcome"] for row in sessions(ready)] == ["partial", "complete"]
        assert_day_is_exact(ready, meter_id, station)
        assert query(ready, "SELECT count(*) FROM quarantine") == [(0,)]


@pytest.mark.req("TR-5.6b")
class TestOldMeters:
    def test_an_old_meter_is_read_by_what_it_has(self, embedded_db):
        station = meter(profile=OLD_3CH)
        ready, meter_id, summary = scenario(embedded_db, station)
        assert (summary.state, summary.attempts) == ("done", 1)
        assert_day_is_exact(ready, meter_id, station)

    def test_what_a_meter_lacks_is_remembered(self, embedded_db):
        # The registry says a current model; the meter answers 39 to 51, 52 and 80.
        old = replace(OLD_3CH, name="default")
        station = meter(profile=old)
        ready = quick(embedded_db)

        async def work():
            async with served(station) as servers:
                ids = register(ready, servers)
                await collect(ready)
                await collect(ready, [DAY - timedelta(days=1), DAY - timedelta(days=30)])
                return ids[SERIAL]

        meter_id = asyncio.run(work())
        assert_day_is_exact(ready, meter_id, station)
        assert_day_is_exact(ready, meter_id, station, DAY - timedelta(days=30))
        asked = query(
            ready,
            "SELECT session_id, array_agg(command ORDER BY seq) FROM frame WHERE direction = '>' GROUP BY 1",
        )
        first, second = (set(commands) for _, commands in sorted(asked))
        assert 0x51 in first
        assert 0x51 not in second
        assert 0x27 in second

    def test_a_gap_in_the_memory_is_not_asked_for_for_ever(self, embedded_db):
        cleared = datetime.combine(DAY, datetime.min.time()) + timedelta(hours=3)
        station = meter(memory_cleared=(cleared,))
        ready, meter_id, summary = scenario(embedded_db, station)
        assert (summary.state, summary.exhausted_days) == ("done", (DAY,))
        got = stored(ready, meter_id)
        assert got[:36] == [None] * 36
        assert got[36:] == truth(station)[36:, 0].tolist()
        assert request_missing(ready, [DAY], NOW, "test") == []


@pytest.mark.req("TR-5.6d")
@pytest.mark.parametrize("offset_s", [-95.0, 140.0])
def test_drift_has_the_sign_and_size_of_the_meters_error(embedded_db, offset_s):
    station = meter(offset_s=offset_s)
    ready, _, summary = scenario(embedded_db, station)
    assert summary.drift_s == offset_s
    assert float(sessions(ready)[0]["drift_s"]) == offset_s


@pytest.mark.req("X-trace")
class TestHeld:
    def test_another_meters_data_are_held_and_kept_as_evidence(self, embedded_db):
        station = meter("20000002")
        ready = quick(embedded_db)

        async def work():
            async with served(station) as servers:
                register(ready, [])
                with ready.connect() as conn:
                    meter_id = add_meter(conn, 1, SERIAL, servers[0].url)
                return meter_id, await collect(ready)

        meter_id, found = asyncio.run(work())
        summary = found[SERIAL]
        assert (summary.state, summary.actor) == ("failed", "operator")
        assert "20000002" in summary.message
        assert stored(ready, meter_id) is None
        assert query(ready, "SELECT count(*) FROM register_reading") == [(0,)]
        ((reason, detail),) = query(ready, "SELECT reason, detail FROM quarantine")
        assert reason.startswith("V10")
        assert detail == {"registered": SERIAL, "answered": "20000002"}
        assert query(ready, "SELECT count(*) > 10 FROM frame") == [(True,)]
        assert sessions(ready)[0]["meter_serial"] == "20000002"

    def test_replaying_the_stored_frames_gives_what_was_merged(self, db):
        station = meter(plan=FaultPlan(bad_crc_blocks=(2, 8)))
        ready, meter_id, _ = scenario(db, station)
        session_id = sessions(ready)[0]["id"]
        with ready.connect() as conn:
            frames = read_frames(conn, [session_id])[session_id]
        context = MeterContext(meter_id, SERIAL, 1, MARKET)
        decoded = decode_session(frames, profile_named("default"), context)
        replayed = readings_frame([(meter_id, session_id, decoded.vectors)])
        rows = query(
            ready,
            "SELECT meter_id, channel, day, quantity_code, interval_s, pulses, source_starts, "
            "source_sessions FROM reading_day ORDER BY channel, day",
        )
        assert sorted(replayed.rows(), key=lambda row: row[1:3]) == rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE unit SET url = 'tcp:127.0.0.1'", "not a unit's URL"),
        ("UPDATE meter_model SET profile = 'unheard-of'", "no meter profile"),
        ("UPDATE installation SET unit_id = NULL", "no telemetry unit"),
    ],
)
def test_a_registry_that_cannot_be_used_is_the_operators_matter(embedded_db, change, message):
    ready = quick(embedded_db)

    async def work():
        register(ready, [])
        with ready.connect() as conn:
            meter_id = add_meter(conn, 1, SERIAL, "tcp://127.0.0.1:9")
            number = queue.enqueue(
                conn, queue.JobRequest("read", "test", meter_id, {"days": [DAY.isoformat()]})
            )
            conn.execute(change)
        return await drain(ready, [number], lambda: NOW, deadline_s=60)

    (summary,) = asyncio.run(work())
    assert (summary.state, summary.actor, summary.sessions) == ("failed", "operator", 0)
    assert message in summary.message


def test_an_unknown_sequence_is_refused_by_name(embedded_db):
    ready = quick(embedded_db)

    async def work():
        register(ready, [])
        with ready.connect() as conn:
            meter_id = add_meter(conn, 1, SERIAL, "tcp://127.0.0.1:9")
            number = queue.enqueue(
                conn, queue.JobRequest("read", "test", meter_id, {"sequence": "everything"})
            )
        return await drain(ready, [number], lambda: NOW, deadline_s=60)

    (summary,) = asyncio.run(work())
    assert summary.actor == "operator"
    assert "everything" in summary.message


@pytest.mark.case("D14")
@pytest.mark.req("TR-5.6a")
def test_an_open_outage_is_closed_by_the_next_reading(embedded_db):
    began, ended = datetime(2026, 11, 18, 10, 0), datetime(2026, 11, 18, 11, 30)
    station = meter(outages=(Outage(began, ended),))
    ready, meter_id, _ = scenario(embedded_db, station)
    ((start, end),) = query(ready, "SELECT started_at, ended_at FROM outage")
    assert end - start == ended - began
    # As a session left it that read the meter before the power was back.
    with ready.connect() as conn:
        conn.execute("UPDATE outage SET ended_at = NULL")
        conn.execute("DELETE FROM touched_day")
        conn.execute("DELETE FROM reading_day WHERE day = %s", [DAY])

    async def again():
        async with served(station) as servers:
            with ready.connect() as conn:
                conn.execute("UPDATE unit SET url = %s", [servers[0].url])
                number = queue.enqueue(
                    conn, queue.JobRequest("read", "test", meter_id, {"sequence": "verification"})
                )
            return await drain(ready, [number], lambda: NOW, deadline_s=60)

    asyncio.run(again())
    assert query(ready, "SELECT started_at, ended_at FROM outage") == [(start, end)]
    touched = {day for (day,) in query(ready, "SELECT DISTINCT day FROM touched_day")}
    assert began.date() in touched, "the day derives again with the return"
