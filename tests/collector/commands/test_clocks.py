"""Clocks of simulated meters, corrected by the rule after an ordinary read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from collector.commands.clock.storage import clock_status
from collector.commands.policy import load_policy
from collector.drain import drain
from collector.work.worklist import request_missing
from protocols.nbr14522.profile import GENERIC, ClockChange
from protocols.nbr14522.profiles import DEFAULT
from protocols.nbr14522.sending.layouts import Coding, LayoutField, WriteLayout
from simulator.load.clock import ClockModel
from simulator.load.curves import GeneratedLoad
from simulator.nbr14522.line import Station
from simulator.nbr14522.meter import SimulatedMeter
from simulator.nbr14522.spec import MeterSpec
from simulator.wires.faultplan import FaultPlan
from tests.collector.fast_time import FastClock
from tests.collector.world import DAY, query, quick, register, served, work_until

pytestmark = pytest.mark.req("TR-5.6d")

MINUTE = 60
MICRO = replace(
    DEFAULT,
    name="micro",
    commands=DEFAULT.commands | {0x98},
    extended_commands=frozenset({0x30}),
    write_layouts=(WriteLayout("98/30", (LayoutField("seconds", 6, 2, Coding.SIGNED),), "a maker's manual"),),
)
CLOSING = replace(DEFAULT, name="closing", clock_change=ClockChange.CLOSE_PERIOD)


@pytest.fixture(autouse=True)
def profiles(monkeypatch):
    monkeypatch.setitem(GENERIC, "micro", MICRO)
    monkeypatch.setitem(GENERIC, "closing", CLOSING)


class Case:
    """A meter whose clock is wrong, read and then served whatever the rule queued."""

    def __init__(self, db, drift_s, seconds_into_interval=150, profile=DEFAULT, plan=None):
        self.db = quick(db)
        # The meter shows 03:05 and so many seconds.
        shown = datetime(2026, 11, 21, 6, 5, tzinfo=UTC) + timedelta(seconds=seconds_into_interval)
        self.now = shown - timedelta(seconds=drift_s)
        self.clock = FastClock(self.now, speed=1)
        source = GeneratedLoad("supermarket", 120.0, 0.036, 7)
        spec = MeterSpec(
            "10000001",
            source,
            datetime(2026, 9, 1, 10),
            ClockModel(self.now, float(drift_s)),
            profile=profile,
        )
        self.meter = SimulatedMeter(spec)
        self.station = Station(self.meter, self.clock, plan or FaultPlan())
        self.meter_id = 0

    def run(self, rounds=1):
        async def work():
            async with served(self.station) as servers:
                (self.meter_id,) = register(self.db, servers).values()
                await self.drain(request_missing(self.db, [DAY], self.clock(), "test"))
                for _ in range(rounds):
                    await self.drain(self.waiting())

        self.clock.run(work())
        return self

    async def drain(self, ids):
        await drain(self.db, ids, self.clock, deadline_s=6000)

    def again(self, plan, ids):
        """Serve the same meter behind a line with these faults, and the requests that `ids` then names."""

        async def work():
            async with served(Station(self.meter, self.clock, plan)) as servers:
                with self.db.connect() as conn:
                    conn.execute("UPDATE unit SET url = %s", [servers[0].url])
                await self.drain(ids())

        self.clock.run(work())

    def waiting(self):
        text = "SELECT id FROM job_request WHERE kind = 'command' AND state = 'queued' ORDER BY id"
        return [request_id for (request_id,) in query(self.db, text)]

    def commands(self):
        text = "SELECT requested_by, state, verdict, detail FROM command_status ORDER BY request_id"
        return query(self.db, text)

    def corrections(self):
        text = "SELECT method, drift_s, step_s, drift_after_s, decided_by FROM clock_correction ORDER BY id"
        return [(method, *map(_float, rest[:3]), rest[3]) for method, *rest in query(self.db, text)]

    def flags(self):
        text = "SELECT day::text, first_slot, last_slot, flag FROM interval_flag ORDER BY day, first_slot"
        return query(self.db, text)


def _float(value):
    return None if value is None else float(value)


@pytest.mark.parametrize(("drift_s", "seconds"), [(-95, 60), (140, 200)])
def test_a_clock_between_the_limits_is_set_inside_one_interval(embedded_db, drift_s, seconds):
    case = Case(embedded_db, drift_s, seconds)
    words_before = len(case.meter.whole_memory(case.now))
    case.run()
    ((asked_by, state, verdict, detail),) = case.commands()
    assert (asked_by, state, verdict) == ("clock rule", "done", "confirmed")
    assert abs(case.meter.clock_error_s(case.clock())) <= 2
    assert detail["is_last"]
    ((method, seen_s, step_s, after_s, by),) = case.corrections()
    assert (method, by) == ("set", "clock rule")
    assert abs(seen_s - drift_s) <= 2
    assert abs(step_s + drift_s) <= 2
    assert abs(after_s) <= 3
    # One interval is touched, the one that the meter was in; the grid goes on without a border crossed.
    assert case.flags() == [("2026-11-21", 37, 37, "clock_set")]
    assert len(case.meter.whole_memory(case.clock())) == words_before
    assert query(case.db, "SELECT count(*) FROM touched_day WHERE day = '2026-11-21'")[0][0] >= 1


def test_a_correction_waits_for_the_safe_part_of_the_interval(embedded_db):
    """60 s into the interval, 140 s back would cross its beginning: not now, and not at all meanwhile."""
    case = Case(embedded_db, 140, 60).run(rounds=0)

    async def try_once():
        async with served(case.station) as servers:
            with case.db.connect() as conn:
                conn.execute("UPDATE unit SET url = %s", [servers[0].url])
            later = "SELECT 1 FROM job_request WHERE kind = 'command' AND not_before > now() + interval '5 s'"
            await work_until(case.db, case.waiting(), case.clock, lambda: query(case.db, later))

    case.clock.run(try_once())
    ((_, state, verdict, _),) = case.commands()
    assert (state, verdict) == ("queued", None)
    assert case.meter.clock_error_s(case.clock()) == pytest.approx(140, abs=1)
    ((wait_s,),) = query(
        case.db, "SELECT extract(epoch FROM not_before - now()) FROM job_request WHERE kind = 'command'"
    )
    assert 60 < float(wait_s) < 95


def test_a_drift_longer_than_an_interval_goes_in_steps_each_inside_one(embedded_db):
    """Ten minutes slow, intervals of five: a first step as long as an interval allows; the next waits."""
    case = Case(embedded_db, -600, 11).run()
    first, second = case.commands()
    assert first[2] == "confirmed"
    assert not first[3]["is_last"]
    assert first[3]["step_s"] == 300 - 2 * 10 - 30
    assert second[1] == "queued"
    assert case.flags() == [("2026-11-21", 37, 37, "clock_set")]


@pytest.mark.parametrize("drift_s", [-61 * MINUTE, 61 * MINUTE, -3 * 86_400])
def test_more_than_an_hour_is_never_corrected_by_rule(embedded_db, drift_s):
    case = Case(embedded_db, drift_s).run(rounds=0)
    assert case.commands() == []
    ((reason, detail),) = query(
        case.db, "SELECT reason, detail FROM quarantine WHERE stage = 'clock' AND reason ~ 'above 3600 s'"
    )
    assert "never" in reason
    assert detail["severity"] == "alarm"
    assert detail["drift_s"] == pytest.approx(drift_s, abs=2)
    assert [row[0] for row in case.corrections()] == ["none"]


@pytest.mark.parametrize("drift_s", [-58, 0, 58])
def test_less_than_a_minute_is_left_alone(embedded_db, drift_s):
    case = Case(embedded_db, drift_s).run(rounds=0)
    assert case.commands() == []
    assert case.corrections() == []
    assert case.meter.clock_error_s(case.clock()) == pytest.approx(drift_s, abs=1)


def test_where_setting_closes_the_period_a_person_must_agree(embedded_db):
    case = Case(embedded_db, -95, 60, CLOSING).run(rounds=0)
    ((_, state, _, _),) = case.commands()
    assert state == "awaiting_approval"


def test_the_micro_adjustment_is_sent_once_and_made_up_by_the_meter(embedded_db):
    """The meter needs hours for 95 s; a second reading meanwhile sends nothing, one afterwards settles it."""
    case = Case(embedded_db, -95, 60, MICRO).run()
    assert [row[:3] for row in case.commands()] == [("clock rule", "done", "confirmed")]
    assert case.corrections()[0][0] == "micro_adjust"

    def read_again(after):
        case.clock.set(case.now + after)
        day = (case.clock() - timedelta(hours=3)).date()
        case.again(FaultPlan(), lambda: request_missing(case.db, [day], case.clock(), "test"))

    read_again(timedelta(minutes=30))
    assert len(case.commands()) == 1, "under way: nothing else is sent"
    read_again(timedelta(hours=5))
    assert len(case.commands()) == 1
    method, _, _, after_s, _ = case.corrections()[-1]
    assert method == "none"
    assert abs(after_s) <= 3
    assert {flag for *_, flag in case.flags()} == {"clock_micro_adjust"}
    assert sum(last - first + 1 for _, first, last, _ in case.flags()) >= 60, "five hours are flagged"


def test_a_lost_answer_to_the_setting_is_resolved_by_the_clock(embedded_db):
    """The session's third block answers 30: the clock is right, and the next attempt sees it."""
    case = Case(embedded_db, -95, 60).run(rounds=0)
    plan = FaultPlan(drop_first=1, drop_at_block=3, drop_after_octets=10)
    case.again(plan, lambda: case.waiting())
    ((_, state, verdict, detail),) = case.commands()
    assert (state, verdict) == ("done", "confirmed")
    assert detail["was_resolved"]
    writes = query(case.db, "SELECT count(*) FROM frame WHERE direction = '>' AND command = %s", 0x30)
    assert writes == [(1,)]
    assert abs(case.meter.clock_error_s(case.clock())) <= 2
    assert len(case.flags()) == 1


def test_the_status_tells_drift_rate_and_forecast(embedded_db):
    case = Case(embedded_db, 12).run(rounds=0)
    with case.db.connect() as conn:
        for back in range(1, 8):
            conn.execute(
                "INSERT INTO session (meter_id, collector, purpose, protocol, url, started_at, outcome, "
                "drift_s, round_trip_s) "
                "VALUES (%s, 'x', 'missing', 'nbr14522', 'tcp://x:1', %s, 'complete', %s, 1)",
                [case.meter_id, case.now - timedelta(days=back), 12 - 2.0 * back],
            )
        (told,) = clock_status(conn, load_policy().clock, case.clock())
    assert told.serial == "10000001"
    assert told.forecast is not None
    assert told.forecast.ppm == pytest.approx(2.0 / 86400 * 1e6, rel=0.05)
    assert told.forecast.minute_at is not None
    assert abs(told.forecast.minute_at - (case.now + timedelta(days=24))) < timedelta(days=1.5)
