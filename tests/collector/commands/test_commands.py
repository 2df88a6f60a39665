"""Commands against simulated meters over real sockets: written once, read back, judged; killed, dropped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import psycopg
import pytest

from collector.commands.policy import parse_policy
from collector.commands.store import approve
from collector.conversing import Conversations
from collector.drain import drain
from faults import OperatorFault
from protocols.nbr14522.profile import GENERIC
from protocols.nbr14522.profiles import DEFAULT
from simulator.load.channels import channel_load
from simulator.load.clock import ClockModel, SettableClock
from simulator.load.curves import GeneratedLoad
from simulator.nbr14522.line import Station
from simulator.nbr14522.meter import SimulatedMeter
from simulator.nbr14522.spec import MeterSpec
from simulator.nbr14522.writes import Writer
from simulator.wires.faultplan import FaultPlan
from storage import audit
from tests.collector.commands.case import FULL, POLICY, carry_out, one_meter, request, status
from tests.collector.world import NOW, query, quick, register, served, sessions

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def full_profile(monkeypatch):
    monkeypatch.setitem(GENERIC, "full", FULL)


@pytest.fixture
def ready(embedded_db, tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    return quick(embedded_db, command_policy_path=path)


@pytest.fixture
def executed(monkeypatch):
    """How often the meters carried out what: demand resets and writes, counted at the meter."""
    counts = {"reset": 0, "write": 0}
    reset, write = SimulatedMeter.reset_demand, Writer.answer

    def counted_reset(self, now, reader):
        counts["reset"] += 1
        return reset(self, now, reader)

    def counted_write(self, request, group, now):
        answer = write(self, request, group, now)
        counts["write"] += answer is not None and not getattr(request, "is_read", False)
        return answer

    monkeypatch.setattr(SimulatedMeter, "reset_demand", counted_reset)
    monkeypatch.setattr(Writer, "answer", counted_write)
    return counts


def writings(db, request_id):
    return query(
        db, "SELECT id FROM command_execution WHERE request_id = %s AND step = 'writing'", request_id
    )


WRITES = {
    "29": {"day": "now"},
    "30": {"clock": "now"},
    "31": {"interval_min": 30},
    "32": {"holidays": ["2026-12-25", "2027-01-01", *[None] * 13]},
    "33": {"constants": [{"numerator": 36, "denominator": 1000}] * 3},
    "35": {
        "peak_starts": ["17:30:00", None, None, None],
        "off_peak_starts": ["20:30:00", None, None, None],
        "reserved_starts": ["21:30:00", None, None, None],
        "segment_count": 3,
    },
    "63": {"is_on": 1, "day": 5, "hour": 0},
    "64": {"is_on": True, "winter_end": {"day": 1, "month": 11}, "summer_end": {"day": 15, "month": 2}},
    "66": {"quantity_1": 1, "quantity_2": 10, "quantity_3": 11},
    "73": {"interval_min": 5},
    "87": {"is_read": False, "condition": 1, "installation_code": "    0012345678"},
    "90": {"modes": [0x21, 0x22, 0x21, 0x22, 0x21, 0x22]},
    "95": {"connection_type": 2, "flags": 0x0100},
    "98/32": {"is_write": True, "mode": "overwrite", "holidays": ["2027-04-21", *[None] * 18]},
    "98/95": {"voltage_v": 220.0, "flags": 1},
}


@pytest.mark.req("TR-5.7b", "X-safety")
@pytest.mark.parametrize("command", WRITES)
def test_each_write_is_confirmed_by_reading_back(ready, command):
    told = carry_out(ready, command, WRITES[command])
    assert (told["verdict"], told["state"]) == ("confirmed", "done"), told["detail"]
    assert told["detail"]["basis"] == "read back"
    written = query(ready, "SELECT frames FROM command_execution WHERE step = 'writing'")
    was_in_force = told["detail"].get("was_written") is False
    assert len(written) == (0 if was_in_force else 1)
    frames = query(
        ready, "SELECT payload FROM frame WHERE session_id = %s AND direction = '>'", told["session_id"]
    )
    assert was_in_force or (written[0][0][0],) in frames, "the audited octets are those that were sent"


@pytest.mark.req("TR-5.7b")
def test_what_cannot_be_read_back_is_judged_by_the_answer(ready):
    told = carry_out(ready, "79", {"is_shown": True, "codes": [3, 10]})
    assert told["verdict"] in ("confirmed", "unknown")
    assert told["verdict"] != "confirmed" or told["detail"]["basis"] == "answer"


@pytest.mark.req("TR-5.7b")
def test_an_occurrence_is_cleared_and_seen_gone(ready):
    told = carry_out(ready, "37", {"occurrence": 0x37}, occurrences=(0x37,))
    assert told["verdict"] == "confirmed"
    assert told["after"] == {"occurrence": None}


@pytest.mark.req("TR-5.7b")
@pytest.mark.parametrize("command", ["14", "80", "26", "27"])
def test_reads_on_demand(ready, command):
    told = carry_out(ready, command, {})
    assert (told["verdict"], told["state"]) == ("confirmed", "done")
    if command in ("26", "27"):
        assert query(ready, "SELECT count(*) FROM reading_day")[0][0] > 0
    else:
        assert len(told["after"]) > 10


@pytest.mark.req("TR-5.7b", "X-safety")
def test_a_meter_that_accepts_a_write_but_keeps_the_value_is_a_mismatch(ready, monkeypatch):
    monkeypatch.setattr(SimulatedMeter, "change_settings", lambda self, new, now: True)
    told = carry_out(ready, "31", {"interval_min": 30})
    assert (told["verdict"], told["state"]) == ("mismatch", "failed")
    assert told["detail"]["differences"] == [{"field": "interval_min", "wanted": 30, "read": 15}]


@pytest.mark.req("TR-5.7b")
def test_refusals_39_and_40_change_nothing(ready):
    refused = carry_out(ready, "31", {"interval_min": 7})
    assert (refused["verdict"], refused["detail"]["answer"]) == ("refused", "40")
    assert refused["detail"]["occurrence"] == "46"


@pytest.mark.req("TR-5.7b")
def test_a_meter_without_the_command_refuses_it(ready):
    told = carry_out(ready, "31", {"interval_min": 30}, profile=DEFAULT)
    assert (told["verdict"], told["detail"]["answer"]) == ("refused", "39")
    assert told["error"]["actor"] == "operator"


@pytest.mark.req("TR-5.7b", "X-safety")
def test_nothing_is_sent_before_the_second_person_and_never_by_the_first(ready, executed):
    policy = parse_policy(POLICY, "test")

    async def work():
        async with one_meter(ready) as (_, meter_id):
            request_id = request(ready, meter_id, "31", {"interval_min": 30}, approver=None)
            assert status(ready, request_id)["state"] == "awaiting_approval"
            with pytest.raises(OperatorFault), ready.connect() as conn:
                approve(conn, policy, request_id, "ana")
            with pytest.raises(psycopg.errors.InsufficientPrivilege), ready.connect() as conn:
                conn.execute(
                    "INSERT INTO command_approval (request_id, person, role, is_approved) "
                    "VALUES (%s, 'Ana', 'engineer', true)",
                    [request_id],
                )
            # Put into the queue behind the policy's back, it is not sent either.
            with ready.connect() as conn:
                conn.execute("UPDATE job_request SET state = 'queued' WHERE id = %s", [request_id])
            await drain(ready, [request_id], lambda: NOW, deadline_s=60)
            return request_id

    told = status(ready, asyncio.run(work()))
    assert told["state"] == "failed"
    assert "second person" in told["error"]["message"]
    assert executed == {"reset": 0, "write": 0}


@pytest.mark.req("TR-5.7b")
def test_a_rejected_request_is_cancelled(ready):
    async def work():
        async with one_meter(ready) as (_, meter_id):
            request_id = request(ready, meter_id, "20", {}, approver=None)
            with ready.connect() as conn:
                approve(conn, parse_policy(POLICY, "test"), request_id, "bruno", is_approved=False)
            return request_id

    assert status(ready, asyncio.run(work()))["state"] == "cancelled"


@pytest.mark.req("TR-5.7b")
def test_an_unknown_layout_is_refused_when_it_is_asked_for(ready):
    async def work():
        async with one_meter(ready, profile=DEFAULT) as (_, meter_id):
            with pytest.raises(OperatorFault, match="layout"):
                request(ready, meter_id, "63", {"is_on": 1, "day": 5, "hour": 0})

    asyncio.run(work())
    assert query(ready, "SELECT count(*) FROM job_request")[0][0] == 0


@pytest.mark.req("TR-5.7b")
def test_the_audit_chain_tells_who_why_and_what_was_written(ready):
    told = carry_out(ready, "31", {"interval_min": 30})
    rows = query(ready, "SELECT actor, action, after FROM audit ORDER BY id")
    assert [(actor, action) for actor, action, _ in rows] == [
        ("ana", "command.request"),
        ("bruno", "command.approve"),
        ("collector", "command.confirmed"),
    ]
    assert rows[0][2]["reason"] == "because"
    assert rows[2][2]["session_id"] == told["session_id"]
    assert rows[2][2]["frames_written"][0].startswith("31000001" + "30")
    with ready.connect() as conn:
        assert audit.verify(conn).is_whole


# --- the demand reset --------------------------------------------------------------------------------------


@pytest.mark.req("TR-5.7b")
def test_a_demand_reset_is_confirmed_by_the_counter(ready, executed):
    told = carry_out(ready, "20", {})
    assert told["verdict"] == "confirmed"
    assert told["after"]["reset_count"] == told["detail"]["counter_moved_by"] + 2
    assert executed["reset"] == 1


@pytest.mark.req("TR-5.7b")
@pytest.mark.parametrize("octets", [0, 100, 257])
def test_a_write_dropped_after_it_was_done_is_not_repeated(ready, executed, octets):
    """The second block of the session answers 20: the meter has closed the period, and nobody hears it."""
    plan = FaultPlan(drop_first=1, drop_at_block=2, drop_after_octets=octets)
    told = carry_out(ready, "20", {}, plan=plan)
    assert (told["verdict"], told["attempts"]) == ("confirmed", 2)
    assert told["detail"]["was_resolved"]
    assert executed["reset"] == 1


@pytest.mark.req("TR-5.7b", "X-safety")
def test_dropped_before_the_write_left_it_is_sent_once(ready, executed, monkeypatch):
    """The record is there, the line is not: the counter tells that nothing was done."""

    async def work():
        async with one_meter(ready) as (server, meter_id):
            recorded = Conversations._record_writing
            loop = asyncio.get_running_loop()

            def record_and_hang_up(self, *arguments):
                recorded(self, *arguments)
                if len(writings(ready, arguments[0])) == 1:
                    loop.call_soon_threadsafe(server.hang_up)

            monkeypatch.setattr(Conversations, "_record_writing", record_and_hang_up)
            request_id = request(ready, meter_id, "20", {})
            await drain(ready, [request_id], lambda: NOW, deadline_s=60)
            return request_id

    request_id = asyncio.run(work())
    told = status(ready, request_id)
    assert told["verdict"] == "confirmed", told
    assert executed["reset"] == 1
    assert len(sessions(ready)) == 2


@pytest.mark.req("TR-5.7b")
def test_a_reset_inside_the_protection_time_is_refused(ready):
    told = carry_out(ready, "20", {}, reset_protection_s=86_400 * 40)
    assert (told["verdict"], told["detail"]["occurrence"]) == ("refused", "45")


@pytest.mark.req("TR-5.7b", "X-safety")
def test_an_outcome_that_cannot_be_read_stays_unknown_and_is_not_repeated(ready, executed):
    """79 has no read-back and this meter no change log: after a lost answer a person decides."""
    plan = FaultPlan(drop_first=1, drop_at_block=2, drop_after_octets=0)
    profile = replace(FULL, commands=FULL.commands - {0x28})
    told = carry_out(ready, "79", {"is_shown": True, "codes": [3]}, plan=plan, profile=profile)
    assert (told["verdict"], told["state"]) == ("unknown", "failed")
    assert executed["write"] == 1


INFERRED = {
    "34": {
        "seasons": [{"wet_start": {"day": 1, "month": 12}, "dry_start": {"day": 1, "month": 5}}, *[None] * 4]
    },
    "36": {"is_on": False},
    "67": {
        "power_factor_composition": "52",
        "energy_interval_min": 60,
        "demand_interval_min": 60,
        "reference_power_factor_inductive_pct": 92,
        "reference_power_factor_capacitive_pct": 92,
        "inductive_starts": ["07:00:00", None],
        "capacitive_starts": ["01:00:00", None],
        "validity": "3331",
    },
}


@pytest.mark.req("TR-5.7b")
@pytest.mark.parametrize("command", INFERRED)
def test_an_inferred_layout_is_refused_until_the_model_marks_it_tested(ready, monkeypatch, executed, command):
    async def work():
        async with one_meter(ready) as (_, meter_id):
            with pytest.raises(OperatorFault, match="is inferred, no source shows it") as caught:
                request(ready, meter_id, command, INFERRED[command])
            assert "inferred_writes" in caught.value.remedy
            monkeypatch.setitem(GENERIC, "full", replace(FULL, inferred_writes=frozenset(INFERRED)))
            request_id = request(ready, meter_id, command, INFERRED[command])
            await drain(ready, [request_id], lambda: NOW, deadline_s=60)
            return status(ready, request_id)

    told = asyncio.run(work())
    assert (told["verdict"], told["state"]) == ("confirmed", "done"), told
    # 34 is read back by no public layout: what the meter answered is all that is known.
    assert told["detail"]["basis"] == ("answer" if command == "34" else "read back")
    assert executed["write"] == 1


@pytest.mark.req("TR-5.7b")
def test_initialising_is_judged_by_its_answer(ready):
    told = carry_out(ready, "38", {})
    assert (told["verdict"], told["detail"]["basis"]) == ("confirmed", "answer")


@pytest.mark.req("TR-5.7b")
@pytest.mark.parametrize(("command", "values"), [("38", {}), ("79", {"is_shown": True, "codes": [3]})])
def test_a_lost_answer_without_read_back_is_settled_by_the_change_log(
    ready, executed, monkeypatch, command, values
):
    """28 is asked before the write and after the loss: a new entry of ours says that it was taken."""
    initialised = []
    initialise = SimulatedMeter.initialise
    monkeypatch.setattr(
        SimulatedMeter, "initialise", lambda *words: (initialised.append(1), initialise(*words))[1]
    )
    plan = FaultPlan(drop_first=1, drop_at_block=2, drop_after_octets=0)
    told = carry_out(ready, command, values, plan=plan)
    assert (told["verdict"], told["attempts"]) == ("confirmed", 2), told
    assert (told["detail"]["basis"], told["detail"]["was_resolved"]) == ("change log", True)
    assert told["after"]["change_log"] is not None
    assert executed["write"] + len(initialised) == 1


def collector_process(db, request_id):
    command = [sys.executable, "-m", "tests.collector.child", db.url, NOW.isoformat(), str(request_id)]
    policy = str(db.settings.collector.command_policy_path)
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "SMF_TEST_POLICY": policy})


@pytest.mark.req("TR-5.7b")
@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.4, 1.0])
def test_killed_at_any_moment_the_period_is_closed_once(ready, executed, delay_s):
    """kill -9 while the command is under way; the next collector reads the counter before anything."""

    async def work():
        plan = FaultPlan(wait_count=1, wait_s=0.3)
        async with one_meter(ready, plan=plan, profile=DEFAULT) as (_, meter_id):
            request_id = request(ready, meter_id, "20", {})
            child = collector_process(ready, request_id)
            try:
                async with asyncio.timeout(60):
                    while not writings(ready, request_id):  # noqa: ASYNC110 -- happens in the database
                        await asyncio.sleep(0.01)
                await asyncio.sleep(delay_s)
            finally:
                child.send_signal(signal.SIGKILL)
                child.wait()
            await drain(ready, [request_id], lambda: NOW, deadline_s=60)
            return request_id

    told = status(ready, asyncio.run(work()))
    assert told["verdict"] == "confirmed"
    assert executed["reset"] == 1


@pytest.mark.req("TR-5.7c")
@pytest.mark.parametrize("command", ["26", "27"])
def test_the_memory_of_twelve_channels_is_read_on_demand(ready, command):
    """Four channel groups, each with its own parameters before it; every word is stored under its channel."""
    codes = (1, 10, 11, 14, 15, 16, 17, 18, 19, 20, 21, 22)
    load = channel_load(
        GeneratedLoad("commerce", 90.0, 0.036, 5), codes, phase_voltage_v=220.0, generation_kw=120.0
    )
    profile = replace(DEFAULT, groups=4)
    spec = MeterSpec(
        "12345678",
        load,
        datetime(2026, 10, 1, 10),
        ClockModel(NOW),
        channel_constants=load.per_pulse,
        profile=profile,
    )
    simulated = SimulatedMeter(spec)

    async def work():
        station = Station(simulated, SettableClock(NOW, is_running=False), FaultPlan())
        async with served(station) as servers:
            (meter_id,) = register(ready, servers).values()
            request_id = request(ready, meter_id, command, {})
            await drain(ready, [request_id], lambda: NOW, deadline_s=60)
            return request_id

    told = status(ready, asyncio.run(work()))
    assert told["verdict"] == "confirmed", told["error"]
    assert len(told["after"]["blocks"]) == 4
    stored = query(ready, "SELECT DISTINCT channel, quantity_code FROM reading_day ORDER BY channel")
    assert stored == [(channel + 1, code) for channel, code in enumerate(codes)]
    stretch = simulated.current_period(NOW) if command == "26" else simulated.previous_period(NOW)
    sums = query(
        ready,
        "SELECT sum(p)::bigint FROM reading_day, unnest(pulses) AS p GROUP BY channel ORDER BY channel",
    )
    assert [total for (total,) in sums] == simulated.pulses(stretch).sum(axis=0).tolist()
