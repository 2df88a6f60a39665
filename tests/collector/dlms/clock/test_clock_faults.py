"""Clocks of DLMS meters that refuse, hang up, or are left by a killed collector: moved once or not at all."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import pytest

from collector.conversing import Conversations
from protocols.dlms import models
from protocols.dlms.apdu import AccessResult
from simulator.dlms.end import Association, HdlcEnd
from simulator.dlms.meter import AccessRefusal, DlmsMeter
from simulator.load.clock import SettableClock
from tests.collector.dlms.clock_case import MODELS, POLICY, ROOT, SHIFT, Case, carries
from tests.collector.dlms.peers.world import SPEC
from tests.collector.world import query

pytestmark = pytest.mark.req("TR-5.6d", "TR-5.12a")


@pytest.fixture(autouse=True)
def catalogue():
    models.add_catalogue("clock", MODELS)
    yield
    models.remove_catalogue("clock")


@pytest.mark.parametrize("model", ["dlms-clock", "dlms-clock-gmac-hdlc"])
def test_a_refused_shift_is_a_verdict_and_changes_nothing(embedded_db, tmp_path, model):
    spec = replace(SPEC, refuses_shift=AccessResult.READ_WRITE_DENIED)
    case = Case(embedded_db, tmp_path, model=model, spec=spec).read()
    (told,) = case.commands()
    assert (told["state"], told["verdict"]) == ("failed", "refused")
    assert told["detail"]["answer"] == "read_write_denied"
    assert "read_write_denied" in told["error"]["message"]
    assert "clock_shift_up_to_s" in told["error"]["remedy"]
    assert (case.dlms.clock_moves, case.flags()) == ([], [])
    assert len(case.sent(SHIFT)) == 1
    # A person is told, and the rule does not ask again before tomorrow.
    assert [method for method, *_ in case.corrections()] == ["none"]
    ((reason,),) = query(case.db, "SELECT reason FROM quarantine WHERE stage = 'clock'")
    assert "read_write_denied" in reason
    case.read_again()
    assert len(case.commands()) == 1
    case.clock.set(case.clock() + timedelta(hours=25))
    case.read_again()
    assert len(case.commands()) == 2


def test_a_refused_set_is_a_verdict(embedded_db, tmp_path):
    spec = replace(SPEC, refuses_set=AccessResult.TEMPORARY_FAILURE)
    case = Case(embedded_db, tmp_path, spec=spec)
    case.serve(case.ask("set-clock", {"at": "now"}, approver="bruno"))
    (told,) = case.commands()
    assert (told["verdict"], told["detail"]["answer"]) == ("refused", "temporary_failure")


def test_another_meter_than_the_registry_names_is_not_written_to(embedded_db, tmp_path):
    case = Case(embedded_db, tmp_path)
    request_id = case.correct()
    with case.db.connect() as conn:
        conn.execute("UPDATE meter SET serial = '10000002'")
    case.serve(request_id)
    (told,) = case.commands()
    assert told["state"] == "failed"
    assert "V10" in told["error"]["message"]
    assert (case.dlms.clock_moves, case.sent(SHIFT)) == ([], [])


@pytest.mark.parametrize("shown", ["ff" * 12, "270f0c1fff173b3b00018000"], ids=["nothing", "the year 9999"])
@pytest.mark.parametrize("command", ["clock", "set-clock"])
def test_a_clock_without_a_valid_time_goes_to_the_field_crew_unwritten(
    embedded_db, tmp_path, monkeypatch, command, shown
):
    """There is no drift to put on record, and no telling which intervals a SET would cross."""
    monkeypatch.setattr(DlmsMeter, "_clock", lambda *_: bytes.fromhex(shown))
    case = Case(embedded_db, tmp_path)
    is_set = command == "set-clock"
    request_id = case.ask(
        command, {"at": "now"} if is_set else {"drift_s": -95}, approver="bruno" if is_set else None
    )
    case.serve(request_id)
    (told,) = case.commands()
    assert (told["state"], told["error"]["actor"]) == ("failed", "field_crew")
    assert "no moment" in told["error"]["message"]
    assert "battery" in told["error"]["remedy"]
    assert case.dlms.clock_moves == []


def test_a_meter_that_takes_the_shift_and_stays_as_it_was_is_a_mismatch(embedded_db, tmp_path, monkeypatch):
    monkeypatch.setattr(DlmsMeter, "shift_clock", lambda *_: None)
    case = Case(embedded_db, tmp_path).read()
    (told,) = case.commands()
    assert (told["state"], told["verdict"]) == ("failed", "mismatch")
    assert case.flags() == [("2026-11-21", 37, 37, "clock_set")]


@pytest.mark.parametrize("model", ["dlms-clock", "dlms-clock-hdlc", "dlms-clock-gmac"])
@pytest.mark.parametrize("command", ["clock", "set-clock"])
def test_a_lost_answer_is_resolved_by_the_clock_and_never_written_again(
    embedded_db, tmp_path, monkeypatch, model, command
):
    case = Case(embedded_db, tmp_path, model=model)
    answer, moved = Association.answer, case.dlms.clock_moves

    def answer_until_moved(self, request, now):
        before = len(moved)
        told = answer(self, request, now)
        if len(moved) > before:
            raise ConnectionResetError
        return told

    monkeypatch.setattr(Association, "answer", answer_until_moved)
    values = {"at": "now"} if command == "set-clock" else {"drift_s": -95}
    request_id = case.ask(command, values, approver="bruno" if command == "set-clock" else None)
    case.serve(request_id)
    (told,) = case.commands()
    assert (told["state"], told["verdict"], told["attempts"]) == ("done", "confirmed", 2), told
    assert told["detail"]["was_resolved"]
    assert len(moved) == 1
    assert case.error_s() == 0
    assert case.flags() == [("2026-11-21", 37, 37, "clock_set")]


def test_hung_up_before_the_write_it_is_sent_once(embedded_db, tmp_path, monkeypatch):
    """The record is there, the line is not: the clock tells that nothing was done."""
    case = Case(embedded_db, tmp_path, seconds_into_interval=30)
    recorded, lines = Conversations._record_writing, []

    async def work():
        async with case.served() as server:
            loop = asyncio.get_running_loop()

            def hang_up():
                for line in server._lines.values():
                    line.close()

            def record_and_hang_up(self, *arguments):
                recorded(self, *arguments)
                lines.append(arguments)
                if len(lines) == 1:
                    loop.call_soon_threadsafe(hang_up)

            monkeypatch.setattr(Conversations, "_record_writing", record_and_hang_up)
            await case.drain([case.correct()])

    asyncio.run(work())
    (told,) = case.commands()
    assert (told["verdict"], told["attempts"]) == ("confirmed", 2)
    assert len(lines) == 2
    assert len(case.dlms.clock_moves) == 1


def test_a_clock_that_somebody_else_moved_meanwhile_is_a_persons_matter(embedded_db, tmp_path, monkeypatch):
    """The answer is lost and the clock is neither where it was nor where it should be."""
    case = Case(embedded_db, tmp_path)
    shift = DlmsMeter.shift_clock

    def other(self, seconds, now):
        shift(self, seconds - 40, now)
        raise ConnectionResetError

    monkeypatch.setattr(DlmsMeter, "shift_clock", other)
    case.serve(case.correct())
    (told,) = case.commands()
    assert (told["state"], told["verdict"]) == ("failed", "unknown")
    assert len(case.dlms.clock_moves) == 1
    assert case.flags() == [("2026-11-21", 37, 37, "clock_set")]


def test_a_write_of_unknown_outcome_flags_what_it_may_have_touched(embedded_db, tmp_path, monkeypatch):
    """The meter takes the write and refuses its clock ever after."""
    case = Case(embedded_db, tmp_path)
    get = DlmsMeter.get

    def hidden(self, attribute, *rest):
        if self.clock_moves and attribute.class_id == 8:
            raise AccessRefusal(AccessResult.OBJECT_UNAVAILABLE)
        return get(self, attribute, *rest)

    monkeypatch.setattr(DlmsMeter, "get", hidden)
    case.serve(case.correct())
    (told,) = case.commands()
    assert (told["state"], told["verdict"]) == ("failed", "unknown")
    assert case.flags() == [("2026-11-21", 37, 37, "clock_set")]
    assert case.corrections() == [("shift", case.dlms.clock_moves[0], "ana")]


def test_a_write_lost_on_the_line_is_not_sent_again_later(embedded_db, tmp_path, monkeypatch):
    """HDLC would fetch it again after its silence: by then the instant in the interval is over."""
    models.add_catalogue("quick", '[models.dlms-quick-hdlc]\nextends = "dlms-clock-hdlc"\nrepeat_s = 1')
    try:
        case = Case(embedded_db, tmp_path, model="dlms-quick-hdlc", policy=POLICY + "\n[clock]\nguard_s = 1")
        receive, swallowed = HdlcEnd.receive, []

        def deaf_to_the_first_shift(self, data, now):
            if carries(data, SHIFT) and not swallowed:
                swallowed.append(data)
                return b""
            return receive(self, data, now)

        monkeypatch.setattr(HdlcEnd, "receive", deaf_to_the_first_shift)
        case.serve(case.correct())
    finally:
        models.remove_catalogue("quick")
    (told,) = case.commands()
    assert (told["verdict"], told["attempts"]) == ("confirmed", 2)
    sent = query(case.db, "SELECT session_id, payload FROM frame WHERE direction = '>'")
    assert [session for session, payload in sent if carries(payload, SHIFT)] == [1, 2]
    assert len(case.dlms.clock_moves) == 1


def collector_process(case, request_id):
    command = [
        sys.executable,
        "-m",
        "tests.collector.child",
        case.db.url,
        case.now.isoformat(),
        str(request_id),
    ]
    policy = str(case.db.settings.collector.command_policy_path)
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "SMF_TEST_POLICY": policy})


@pytest.mark.parametrize("moment", ["before the write", "after the write"])
@pytest.mark.parametrize("command", ["clock", "set-clock"])
def test_killed_around_the_write_the_clock_is_moved_once(db, tmp_path, monkeypatch, moment, command):
    """kill -9 once the write is on record, or once the meter has taken it; the next collector reads first."""
    case = Case(db, tmp_path, seconds_into_interval=30, model="dlms-generic")
    case.clock = SettableClock(case.now, is_running=False)  # as the child has it
    values = {"at": "now"} if command == "set-clock" else {"drift_s": -95}
    request_id = case.ask(command, values, approver="bruno" if command == "set-clock" else None)
    written = "SELECT id FROM command_execution WHERE step = 'writing'"
    move, children = DlmsMeter._move_clock, []

    def moved(self, meter_seconds, now):
        if moment == "after the write":
            move(self, meter_seconds, now)
        children[0].kill()
        children[0].wait()
        # A child that came so far before it was seen: what it wrote is lost on its way.
        raise ConnectionResetError

    monkeypatch.setattr(DlmsMeter, "_move_clock", moved)

    async def work():
        async with case.served():
            child = collector_process(case, request_id)
            children.append(child)
            try:
                async with asyncio.timeout(60):
                    while not query(case.db, written):  # noqa: ASYNC110 -- happens in the database
                        await asyncio.sleep(0.01)
                    while moment == "after the write" and child.poll() is None:  # noqa: ASYNC110 -- a process
                        await asyncio.sleep(0.01)
            finally:
                child.kill()
                child.wait()
            assert len(case.dlms.clock_moves) == (moment == "after the write")
            monkeypatch.setattr(DlmsMeter, "_move_clock", move)
            await case.drain([request_id])

    asyncio.run(work())
    (told,) = case.commands()
    assert (told["state"], told["verdict"]) == ("done", "confirmed"), told
    assert told["detail"].get("was_resolved", False) == (moment == "after the write")
    assert len(case.dlms.clock_moves) == 1
    assert abs(case.error_s()) <= 2
    assert case.flags() == [("2026-11-21", 37, 37, "clock_set")]
    assert len(query(case.db, written)) == (1 if moment == "after the write" else 2)
