"""What is missing is found by channel and day, fetched by the cheapest commands, and merged."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from collector.nbr14522.decode import decode_session
from collector.nbr14522.further_groups import expected_groups, gaps_of_further_groups
from collector.work import planning
from collector.work.planning import MemoryFacts, Span
from collector.work.worklist import request_missing
from pipelines.cli.collector import app
from protocols.nbr14522.messages import LimitUnit
from protocols.nbr14522.profiles import DEFAULT
from simulator.load.channels import channel_load
from simulator.load.clock import ClockModel, SettableClock
from simulator.load.curves import GeneratedLoad
from simulator.nbr14522.line import Station
from simulator.nbr14522.meter import SimulatedMeter, Stretch
from simulator.nbr14522.spec import MeterSpec
from simulator.wires.faultplan import FaultPlan
from tests.collector.nbr14522.exchanges import CONTEXT, Exchange, parameters, ramp
from tests.collector.world import (
    DAY,
    NOW,
    collect,
    meter,
    query,
    quick,
    register,
    served,
    sessions,
    stored,
    truth,
)

QUANTITIES = (1, 10, 11, 14, 15, 16, 17, 18, 19, 20, 21, 22)
ALL = frozenset({0x21, 0x22, 0x26, 0x27, 0x51, 0x52})


def twelve_channels(plan=None):
    load = channel_load(GeneratedLoad("supermarket", 120.0, 0.036, 3), QUANTITIES)
    spec = MeterSpec(
        "10000001",
        load,
        datetime(2026, 9, 1, 10),
        ClockModel(NOW),
        channel_constants=load.per_pulse,
        profile=replace(DEFAULT, groups=4),
    )
    return Station(SimulatedMeter(spec), SettableClock(NOW, is_running=False), plan or FaultPlan())


def channels_stored(db, meter_id, day=DAY):
    rows = query(
        db, "SELECT channel FROM reading_day WHERE meter_id = %s AND day = %s ORDER BY 1", meter_id, day
    )
    return [channel for (channel,) in rows]


@pytest.mark.req("TR-5.7c")
class TestCheapest:
    @given(
        first_day=st.integers(0, 50),
        length=st.integers(1, 20),
        current_days=st.integers(0, 31),
        previous_days=st.integers(0, 31),
        lacking=st.sets(st.sampled_from([0x22, 0x26, 0x27, 0x51, 0x52])),
    )
    def test_no_other_reads_bring_as_much_for_fewer_octets(
        self, first_day, length, current_days, previous_days, lacking
    ):
        now = datetime(2026, 11, 21, 3)
        facts = MemoryFacts(
            now, now, now - timedelta(days=current_days), 864 * current_days, 864 * previous_days, 300
        )
        begin = datetime.combine(date(2026, 11, 20) - timedelta(days=first_day), time.min)
        span = Span(begin + timedelta(minutes=5), min(begin + timedelta(days=length), now))
        chosen = planning.choose_memory([span], facts, ALL - lacking)
        others = list(planning._candidates(span.first_end, facts, ALL - lacking, 99))
        brought = {steps: planning._covered(span, steps, facts) for steps in others}
        if not any(brought.values()):
            assert chosen == ()
            return
        assert brought[chosen] == max(brought.values())

        def octets(steps):
            return sum(planning._octets(step, facts) for step in steps)

        assert octets(chosen) == min(octets(s) for s, n in brought.items() if n == brought[chosen])


@pytest.mark.req("TR-5.7c")
class TestFurtherGroups:
    def test_channels_are_expected_as_the_meter_named_them(self):
        answered = {
            "group_count": 4,
            "quantities": [1, 10, 11],
            "groups": {"1": {"quantities": [14, 15, 99]}, "2": {"quantities": [99, 6, 99]}},
        }
        # Group 3 was never answered: all of it is expected.
        assert expected_groups(answered) == [[4, 5], [10, 11, 12]]
        assert expected_groups({"group_count": 1}) == expected_groups({}) == []

    def test_a_day_that_runs_is_not_looked_at(self):
        present = {(7, DAY): [None]}
        noon = datetime.combine(DAY, time(12))
        assert gaps_of_further_groups(present, 7, 900, [DAY], noon) == []
        (span,) = gaps_of_further_groups(present, 7, 900, [DAY], noon + timedelta(days=1))
        assert (span.last_end - span.first_end) / timedelta(minutes=15) == 95

    def test_channels_lost_alone_are_found_and_fetched(self, embedded_db):
        station, ready = twelve_channels(), quick(embedded_db)

        async def work():
            async with served(station) as servers:
                ids = register(ready, servers)
                (meter_id,) = ids.values()
                await collect(ready)
                assert channels_stored(ready, meter_id) == list(range(1, 13))
                assert request_missing(ready, [DAY], NOW, "test") == []
                with ready.connect() as conn:
                    conn.execute("DELETE FROM reading_day WHERE day = %s AND channel BETWEEN 7 AND 9", [DAY])
                    conn.execute("UPDATE reading_day SET pulses[17] = NULL WHERE channel = 12")
                await collect(ready)
                return meter_id

        meter_id = asyncio.run(work())
        first = (datetime.combine(DAY, time.min) - datetime(1970, 1, 1)) // timedelta(minutes=5)
        expected = station.meter.pulses(Stretch(first, first + 288))
        for channel in range(1, 13):
            assert np.array_equal(stored(ready, meter_id, DAY, channel), expected[:, channel - 1])
        assert [row["outcome"] for row in sessions(ready)] == ["complete", "complete"]
        assert request_missing(ready, [DAY], NOW, "test") == []
        assert query(ready, "SELECT count(*) FROM quarantine") == [(0,)]


@pytest.mark.req("TR-5.7c")
def test_overlapping_reads_merge_and_contradictions_keep_both_versions(embedded_db):
    station, ready = meter(), quick(embedded_db)

    async def work():
        async with served(station) as servers:
            ids = register(ready, servers)
            await collect(ready)
            with ready.connect() as conn:
                # As if an earlier read had brought another value for slot 10, and nothing for slot 20.
                conn.execute(
                    "UPDATE reading_day SET pulses[11] = 4000, pulses[21] = NULL "
                    "WHERE channel = 1 AND day = %s",
                    [DAY],
                )
            await collect(ready)
            return ids["10000001"]

    meter_id = asyncio.run(work())
    counted = truth(station)[:, 0]
    got = stored(ready, meter_id)
    assert got[10] == 4000
    assert [value for slot, value in enumerate(got) if slot != 10] == np.delete(counted, 10).tolist()
    ((stage, day, detail),) = query(ready, "SELECT stage, day, detail FROM quarantine")
    assert (stage, day) == ("merge", DAY)
    assert (detail["slots"], detail["kept"], detail["refused"]) == ([10], [4000], [int(counted[10])])
    first, second = (row["id"] for row in sessions(ready))
    assert (detail["kept_sessions"], detail["refused_sessions"]) == ([first], [second])


class TestMovedMemory:
    """An interval ends between 51 and 52: the limit moves on, and the words begin one interval later."""

    def decoded(self, meter_time):
        words = ramp(288)
        answer = parameters(
            0x51,
            meter_time=meter_time,
            last_interval_end=datetime(2026, 11, 21, 3, 0),
            words_current=len(words),
        )
        exchange = Exchange().ask(0x51, unit=LimitUnit.DAYS, amount=1).answer(answer)
        return decode_session(exchange.ask(0x52).memory(0x52, words).frames, DEFAULT, CONTEXT)

    def test_it_is_left_out(self):
        # 51 left at 03:04:50 and the first block came 12 s later.
        moved = self.decoded(datetime(2026, 11, 21, 3, 4, 50))
        assert moved.is_moved
        assert moved.vectors == ()
        assert [issue.reason for issue in moved.issues] == [
            "memory 52: an interval ended after its parameters"
        ]

    def test_before_that_it_is_taken(self):
        taken = self.decoded(datetime(2026, 11, 21, 3, 4, 40))
        assert not taken.is_moved
        assert {vector.day for vector in taken.vectors} == {DAY, DAY + timedelta(days=1)}


@pytest.mark.req("TR-5.5d")
@pytest.mark.parametrize(
    ("sequence", "commands", "shown"),
    [
        ("closing", {0x22, 0x24, 0x25, 0x28, 0x27, 0x21, 0x23}, "Registers"),
        ("fiscal_page", {0x21, 0x14}, "voltage_a_v"),
        ("verification", {0x21, 0x23, 0x26}, "Registers"),
        ("recovery", {0x22, 0x24, 0x27}, "memory blocks"),
        ("whole", {0x51, 0x52}, "memory blocks"),
    ],
)
def test_a_read_on_demand_is_shown_readably(embedded_db, monkeypatch, sequence, commands, shown):
    monkeypatch.setenv("SMF_DATABASE_URL", embedded_db.url)
    ready, done = threading.Event(), threading.Event()

    async def serve():
        # The command reads by the machine's time, and a clock that is days slow would be held.
        async with served(meter(now=datetime.now(UTC))) as servers:
            register(embedded_db, servers)
            ready.set()
            await asyncio.to_thread(done.wait)

    server = threading.Thread(target=lambda: asyncio.run(serve()))
    server.start()
    try:
        assert ready.wait(60)
        result = CliRunner().invoke(app, ["read", "10000001", "--sequence", sequence])
    finally:
        done.set()
        server.join()
    assert result.exit_code == 0, result.output
    assert "10000001: done" in result.output
    assert shown in result.output
    asked = query(embedded_db, "SELECT DISTINCT command FROM frame WHERE direction = '>'")
    assert commands <= {command for (command,) in asked}
    assert 0x20 not in {command for (command,) in asked}  # no read resets the demand
    assert query(embedded_db, "SELECT priority FROM job_request") == [(10,)]
