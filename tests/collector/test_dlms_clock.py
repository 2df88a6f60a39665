"""Clocks of simulated DLMS meters over real sockets: by the rule, by persons; killed, dropped, refused."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from collector.clock_rule import request_correction
from collector.command_policy import CLOCK_ROLE, load_policy
from collector.command_store import Person, approve, ask, preview_for
from collector.drain import drain
from collector.service import Collector
from collector.worklist import request_missing
from faults import OperatorFault
from protocols.dlms import models
from protocols.dlms.apdu import AccessResult
from simulator.clock import ClockModel, SettableClock
from simulator.curves import GeneratedLoad
from simulator.dlms import DlmsMeter, Refusal
from simulator.dlms_end import Association, HdlcEnd
from simulator.dlms_server import DlmsServer
from simulator.meter import MeterSpec, SimulatedMeter
from storage import audit
from tests.collector.test_dlms import AUTHENTICATION, ENCRYPTION, PASSWORD, SPEC
from tests.collector.world import DAY, add_meter, query, quick, stored

pytestmark = pytest.mark.req("TR-5.6d", "TR-5.12a")

ROOT = Path(__file__).parents[2]
SERIAL = "10000001"
SHIFT, SET = (
    b"\xc3\x01\xc1\x00\x08\x00\x00\x01\x00\x00\xff\x06",
    b"\xc1\x01\xc1\x00\x08\x00\x00\x01\x00\x00\xff\x02",
)
MODELS = """
[models.dlms-clock]
extends = "dlms-generic"
pulse_wh = "7.2"
answer_s = 2
[models.dlms-clock-hdlc]
extends = "dlms-clock"
framing = "hdlc"
[models.dlms-clock-gmac]
extends = "dlms-clock"
client = 1
authentication = "gmac"
counter_object = "0-0:43.1.5"
[models.dlms-clock-gmac-hdlc]
extends = "dlms-clock-gmac"
framing = "hdlc"
[models.dlms-clock-lls]
extends = "dlms-clock"
client = 3
authentication = "lls"
command_model = "dlms-clock-gmac"
[models.dlms-clock-set]
extends = "dlms-clock"
clock_shift_up_to_s = 0
clock_deviation = "unspecified"
clock_status = "ff"
clock_weekday = true
[models.dlms-clock-60]
extends = "dlms-clock-hdlc"
clock_shift_up_to_s = 60
[models.dlms-clock-closing]
extends = "dlms-clock"
clock_closes_period = true
"""
WAYS = ["dlms-clock", "dlms-clock-hdlc", "dlms-clock-gmac", "dlms-clock-gmac-hdlc", "dlms-clock-lls"]
POLICY = """
[default]
roles = ["engineer"]
[command.clock]
roles = ["clock-rule", "engineer"]
second_person = false
max_per_day = 24
[people]
ana = ["engineer"]
bruno = ["engineer"]
"""
ANA = Person("ana", frozenset({"engineer"}))
RULE = Person("clock rule", frozenset({CLOCK_ROLE}))


@pytest.fixture(autouse=True)
def catalogue():
    models.add_catalogue("clock", MODELS)
    yield
    models.remove_catalogue("clock")


class Case:
    """A DLMS meter whose clock is wrong, read, and then served whatever was queued."""

    def __init__(
        self, db, path, drift_s=-95.0, seconds_into_interval=60, model="dlms-clock", spec=SPEC, policy=POLICY
    ):
        secrets, rules = path / "secrets.toml", path / "policy.toml"
        secrets.write_text(
            f'[meters.{SERIAL}]\npassword = "{PASSWORD}"\nencryption_key = "{ENCRYPTION}"\n'
            f'authentication_key = "{AUTHENTICATION}"\n'
        )
        secrets.chmod(0o600)
        rules.write_text(policy)
        self.db = quick(db, dlms_secrets_path=secrets, command_policy_path=rules)
        self.policy = load_policy(rules)
        self.model = model
        # The meter shows 03:05 and so many seconds.
        shown = datetime(2026, 11, 21, 6, 5, tzinfo=UTC) + timedelta(seconds=seconds_into_interval)
        self.now = shown - timedelta(seconds=drift_s)
        self.clock = SettableClock(self.now)
        source = GeneratedLoad("supermarket", 120.0, 0.036, 7)
        started = datetime(2026, 9, 1, 10)
        self.meter = SimulatedMeter(MeterSpec(SERIAL, source, started, ClockModel(self.now, float(drift_s))))
        self.dlms = DlmsMeter(self.meter, spec)
        with self.db.connect() as conn:
            conn.execute("INSERT INTO distributor (code, name) VALUES ('D', 'D')")
            conn.execute("INSERT INTO agent (code, name, distributor_id) SELECT 1, 'A', id FROM distributor")
            self.meter_id = add_meter(conn, 1, SERIAL, "tcp://127.0.0.1:1", model)

    @asynccontextmanager
    async def served(self):
        async with DlmsServer(self.dlms, self.clock, is_hdlc=self.model.endswith(("hdlc", "60"))) as server:
            with self.db.connect() as conn:
                conn.execute("UPDATE unit SET url = %s", [server.url])
            yield server

    async def drain(self, ids, deadline_s=30):
        return await drain(self.db, ids, self.clock, deadline_s=deadline_s)

    def read(self, rounds=1, deadline_s=30):
        """An ordinary read, then so many rounds of what it queued."""

        async def work():
            async with self.served():
                await self.drain(request_missing(self.db, [DAY], self.clock(), "test"))
                for _ in range(rounds):
                    await self.drain(self.waiting(), deadline_s)

        asyncio.run(work())
        return self

    def read_again(self):
        """Another read, with the day before missing once more."""
        day = (self.clock() - timedelta(hours=3)).date() - timedelta(days=1)
        with self.db.connect() as conn:
            conn.execute("DELETE FROM reading_day")
            conn.execute("UPDATE job_request SET result = NULL")
        self.serve(*request_missing(self.db, [day], self.clock(), "test"))

    def serve(self, *ids, deadline_s=30):
        async def work():
            async with self.served():
                await self.drain(list(ids) or self.waiting(), deadline_s)

        asyncio.run(work())
        return self

    def ask(self, command, values, person=ANA, approver=None):
        with self.db.connect() as conn:
            asked = ask(
                conn,
                self.db.settings,
                self.policy,
                person,
                self.meter_id,
                command,
                values,
                "why",
                self.clock(),
            )
            if approver is not None:
                approve(conn, self.policy, asked.request_id, approver)
        return asked.request_id

    def correct(self, person=ANA):
        with self.db.connect() as conn:
            return request_correction(
                conn, self.db.settings, self.policy, person, self.meter_id, "why", self.clock()
            ).request_id

    def waiting(self):
        text = "SELECT id FROM job_request WHERE kind = 'command' AND state = 'queued' ORDER BY id"
        return [request_id for (request_id,) in query(self.db, text)]

    def commands(self):
        with self.db.connect() as conn:
            cursor = conn.execute("SELECT * FROM command_status ORDER BY request_id")
            names = [column.name for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def corrections(self):
        text = "SELECT method, step_s::int, decided_by FROM clock_correction ORDER BY id"
        return query(self.db, text)

    def flags(self):
        text = "SELECT day::text, first_slot, last_slot, flag FROM interval_flag ORDER BY day, first_slot"
        return query(self.db, text)

    def sent(self, mark):
        """Frames in the record that carry the plain service."""
        rows = query(self.db, "SELECT payload FROM frame WHERE direction = '>' ORDER BY session_id, seq")
        return [payload for (payload,) in rows if mark in payload]

    def error_s(self):
        return self.meter.clock_error_s(self.clock())


# --- the rule ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", WAYS)
def test_a_clock_between_the_limits_is_shifted_inside_one_interval(db, tmp_path, model):
    case = Case(db, tmp_path, model=model)
    rows_before = len(case.meter.whole_memory(case.now))
    case.read()
    (told,) = case.commands()
    assert (told["requested_by"], told["state"], told["verdict"]) == ("clock rule", "done", "confirmed")
    assert (told["detail"]["basis"], told["detail"]["is_last"]) == ("read back", True)
    assert case.dlms.clock_moves == [pytest.approx(95, abs=2)]
    assert abs(case.error_s()) <= 2
    assert case.corrections() == [("shift", case.dlms.clock_moves[0], "clock rule")]
    # One interval is touched, the one that the meter was in; no border was crossed.
    assert case.flags() == [("2026-11-21", 37, 37, "clock_set")]
    assert len(case.meter.whole_memory(case.clock())) == rows_before
    assert query(case.db, "SELECT count(*) FROM touched_day WHERE day = '2026-11-21'")[0][0] >= 1
    # What is on record is what was sent, and it was sent once; with ciphers the plain service is beside it.
    ((frames,),) = query(case.db, "SELECT frames FROM command_execution WHERE step = 'writing'")
    assert len(case.sent(SHIFT)) == len(case.sent(frames[0])) == 1
    with case.db.connect() as conn:
        assert audit.verify(conn).is_whole


@pytest.mark.parametrize("drift_s", [-95, 95])
def test_after_a_correction_the_day_goes_on_without_a_hole_or_a_doubled_row(embedded_db, tmp_path, drift_s):
    case = Case(embedded_db, tmp_path, drift_s, 150 if drift_s < 0 else 200, "dlms-clock-hdlc").read()
    assert len(case.dlms.clock_moves) == 1
    case.clock.set(case.now + timedelta(hours=3))
    today = datetime(2026, 11, 21).date()
    case.serve(*request_missing(case.db, [today], case.clock(), "test"))
    got = stored(case.db, case.meter_id, today)
    # 03:05 and three hours are 73 intervals; 37 is longer or shorter than it says, and flagged for it.
    assert [slot for slot, value in enumerate(got) if value is not None] == list(range(73))
    assert [flag for *_, flag in case.flags()] == ["clock_set"]
    assert query(case.db, "SELECT reason FROM quarantine") == []


@pytest.mark.parametrize(
    ("model", "drift_s", "seconds", "ending"),
    [
        # Deviation and status unspecified, Saturday; the shipped ones.
        ("dlms-clock-set", -95, 60, "8000ff"),
        ("dlms-clock-set", 140, 200, "8000ff"),
        ("dlms-clock-60", -95, 60, "00b400"),
    ],
)
def test_without_shift_or_above_its_limit_the_clock_is_set_inside_one_interval(
    embedded_db, tmp_path, model, drift_s, seconds, ending
):
    case = Case(embedded_db, tmp_path, drift_s, seconds, model).read()
    (told,) = case.commands()
    assert told["verdict"] == "confirmed", told
    assert (told["detail"]["method"], case.sent(SHIFT)) == ("set", [])
    (frame,) = case.sent(SET)
    value = frame[frame.index(SET) + len(SET) + 3 :][:12]
    assert value.hex().endswith(ending)
    assert value[4] == (6 if model == "dlms-clock-set" else 0xFF)
    assert abs(case.error_s()) <= 2
    assert case.flags() == [("2026-11-21", 37, 37, "clock_set")]


def test_a_correction_waits_for_the_safe_part_of_the_interval(embedded_db, tmp_path):
    """60 s into the interval, 140 s back would cross its beginning: not now, and not at all meanwhile."""
    case = Case(embedded_db, tmp_path, 140, 60).read(deadline_s=3)
    (told,) = case.commands()
    assert (told["state"], told["verdict"], told["is_outcome_open"]) == ("queued", None, False)
    assert case.dlms.clock_moves == []
    wait = "SELECT extract(epoch FROM not_before - now()) FROM job_request WHERE kind = 'command'"
    assert 60 < float(query(case.db, wait)[0][0]) < 95


def test_a_drift_longer_than_an_interval_goes_in_steps_each_inside_one(embedded_db, tmp_path):
    """Ten minutes slow, intervals of five: a first step as long as an interval allows; the next waits."""
    case = Case(embedded_db, tmp_path, -600, 11).read()
    first, second = case.commands()
    assert (first["verdict"], first["detail"]["is_last"]) == ("confirmed", False)
    assert case.dlms.clock_moves == [300 - 2 * 10 - 30]
    assert second["state"] == "queued"
    assert case.flags() == [("2026-11-21", 37, 37, "clock_set")]


@pytest.mark.parametrize("drift_s", [-3661, 3661, -3 * 86_400])
def test_more_than_an_hour_is_put_before_a_person(embedded_db, tmp_path, drift_s):
    case = Case(embedded_db, tmp_path, drift_s).read(rounds=0)
    assert case.commands() == []
    assert [method for method, *_ in case.corrections()] == ["none"]
    detail = query(case.db, "SELECT detail FROM quarantine WHERE stage = 'clock' AND reason ~ '60 minutes'")
    assert detail[0][0]["severity"] == "alarm"
    with pytest.raises(OperatorFault, match="above 3600 s") as refused:
        case.correct()
    assert "set-clock" in refused.value.remedy


@pytest.mark.parametrize("drift_s", [-58, 0, 58])
def test_less_than_a_minute_is_left_alone(embedded_db, tmp_path, drift_s):
    case = Case(embedded_db, tmp_path, drift_s).read(rounds=0)
    assert (case.commands(), case.corrections(), case.dlms.clock_moves) == ([], [], [])


@pytest.mark.parametrize(
    ("model", "policy"),
    [("dlms-clock-closing", POLICY), ("dlms-clock", POLICY + '\n[clock]\nset_clock = "approval"')],
    ids=["the model", "the policy"],
)
def test_where_the_model_or_the_policy_says_so_a_person_must_agree(embedded_db, tmp_path, model, policy):
    case = Case(embedded_db, tmp_path, model=model, policy=policy).read(rounds=0)
    (told,) = case.commands()
    assert told["state"] == "awaiting_approval"
    with case.db.connect() as conn:
        approve(conn, case.policy, told["request_id"], "bruno")
    case.serve()
    (told,) = case.commands()
    assert (told["approved_by"], told["verdict"]) == ("bruno", "confirmed")


def test_a_correction_whose_session_finds_the_clock_right_writes_nothing(embedded_db, tmp_path):
    case = Case(embedded_db, tmp_path).read(rounds=0)
    case.meter.set_clock(case.meter.meter_seconds(case.clock()) + 95, case.clock(), "000000")
    case.serve()
    (told,) = case.commands()
    assert (told["verdict"], told["detail"]["was_written"]) == ("confirmed", False)
    assert (case.dlms.clock_moves, case.flags()) == ([], [])


# --- persons -----------------------------------------------------------------------------------------------


def test_a_person_asks_for_a_correction_below_a_minute(embedded_db, tmp_path):
    case = Case(embedded_db, tmp_path, 20, 100).read(rounds=0)
    request_id = case.correct()
    case.serve(request_id)
    (told,) = case.commands()
    assert (told["requested_by"], told["verdict"]) == ("ana", "confirmed")
    assert case.dlms.clock_moves == [pytest.approx(-20, abs=2)]


@pytest.mark.parametrize("model", WAYS)
def test_a_person_sets_a_clock_with_a_second_person_and_every_interval_crossed_is_flagged(
    embedded_db, tmp_path, model
):
    """Two hours slow, which the rule never touches: 03:06 becomes 05:06."""
    case = Case(embedded_db, tmp_path, -7200, 60, model)
    request_id = case.ask("set-clock", {"at": "now"})
    assert case.commands()[0]["state"] == "awaiting_approval"
    with case.db.connect() as conn, pytest.raises(OperatorFault, match="made the request"):
        approve(conn, case.policy, request_id, "ana")
    with case.db.connect() as conn:
        approve(conn, case.policy, request_id, "bruno")
    case.serve(request_id)
    (told,) = case.commands()
    assert (told["verdict"], told["detail"]["method"]) == ("confirmed", "set"), told
    assert abs(case.error_s()) <= 2
    assert len(case.sent(SET)) == 1
    assert case.flags() == [("2026-11-21", 37, 61, "clock_set")]
    actions = query(case.db, "SELECT actor, action FROM audit ORDER BY id")
    assert actions == [
        ("ana", "command.request"),
        ("bruno", "command.approve"),
        ("collector", "command.confirmed"),
    ]


def test_a_time_that_was_named_is_written_as_it_is(embedded_db, tmp_path):
    case = Case(embedded_db, tmp_path, 0, 60)
    case.serve(case.ask("set-clock", {"at": "2026-11-21T07:00:00+00:00"}, approver="bruno"))
    (told,) = case.commands()
    assert (told["verdict"], told["detail"]["value"]) == ("confirmed", "2026-11-21T04:00:00")
    assert case.error_s() == pytest.approx(54 * 60, abs=5)


@pytest.mark.parametrize("values", [{}, {"at": "soon"}, {"at": "1970-01-01"}, {"at": "now", "day": "now"}])
def test_a_time_that_is_none_is_refused_when_it_is_asked_for(embedded_db, tmp_path, values):
    case = Case(embedded_db, tmp_path)
    with pytest.raises(OperatorFault) as refused:
        case.ask("set-clock", values)
    assert "at=now" in refused.value.remedy
    assert case.commands() == []


@pytest.mark.parametrize("command", ["20", "29", "30", "31", "14", "98/30", "x"])
def test_commands_of_nbr_14522_are_refused_when_they_are_asked_for(embedded_db, tmp_path, command):
    case = Case(embedded_db, tmp_path)
    with pytest.raises(OperatorFault, match=f"command {command} is none") as refused:
        case.ask(command, {})
    assert "clock, set-clock" in refused.value.remedy
    assert query(case.db, "SELECT count(*) FROM job_request") == [(0,)]


def test_a_request_for_a_meter_that_speaks_otherwise_by_now_is_not_sent(embedded_db, tmp_path):
    case = Case(embedded_db, tmp_path, model="default")
    request_id = case.ask("31", {"interval_min": 5}, approver="bruno")
    with case.db.connect() as conn:
        conn.execute("UPDATE meter_model SET profile = 'dlms-clock'")
    case.serve(request_id)
    (told,) = case.commands()
    assert (told["state"], told["error"]["actor"]) == ("failed", "operator")
    assert "is none that is sent" in told["error"]["message"]


def test_the_command_of_dlms_is_refused_for_meters_of_nbr_14522(embedded_db, tmp_path):
    case = Case(embedded_db, tmp_path, model="default")
    with pytest.raises(OperatorFault, match="command set-clock is none"):
        case.ask("set-clock", {"at": "now"})


@pytest.mark.parametrize(
    ("command", "values", "model", "apdu"),
    [
        ("clock", {"drift_s": -95}, "dlms-clock", "C3 01 C1 00 08 00 00 01 00 00 FF 06 01 10 00 5F"),
        ("clock", {"drift_s": 140}, "dlms-clock", "C3 01 C1 00 08 00 00 01 00 00 FF 06 01 10 FF 74"),
        (
            "clock",
            {"drift_s": -1000},
            "dlms-clock",
            "C1 01 C1 00 08 00 00 01 00 00 FF 02 00 09 0C 07 EA 0B 15 FF 03 07 0A 00 00 B4 00",
        ),
        (
            "set-clock",
            {"at": "now"},
            "dlms-clock-set",
            "C1 01 C1 00 08 00 00 01 00 00 FF 02 00 09 0C 07 EA 0B 15 06 03 07 0A 00 80 00 FF",
        ),
    ],
)
def test_the_preview_shows_words_and_the_plain_service(embedded_db, tmp_path, command, values, model, apdu):
    case = Case(embedded_db, tmp_path, model=model)
    now = datetime(2026, 11, 21, 6, 7, 10, tzinfo=UTC)
    with case.db.connect() as conn:
        shown = preview_for(conn, case.db.settings, case.meter_id, command, values, now)
    assert shown.hex == (apdu,)
    assert SERIAL in shown.en
    assert "relógio" in shown.pt
    assert len(shown.notes_en) == len(shown.notes_pt) == 3
    assert query(case.db, "SELECT count(*) FROM job_request") == [(0,)]


# --- refused, dropped, killed ------------------------------------------------------------------------------


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
    assert abs(case.error_s()) <= 2
    assert case.flags() == [("2026-11-21", 37, 37, "clock_set")]


def test_hung_up_before_the_write_it_is_sent_once(embedded_db, tmp_path, monkeypatch):
    """The record is there, the line is not: the clock tells that nothing was done."""
    case = Case(embedded_db, tmp_path, seconds_into_interval=30)
    recorded, lines = Collector._record_writing, []

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

            monkeypatch.setattr(Collector, "_record_writing", record_and_hang_up)
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


def test_a_write_whose_outcome_nobody_can_read_flags_what_it_may_have_touched(
    embedded_db, tmp_path, monkeypatch
):
    """The meter takes the write and refuses its clock ever after."""
    case = Case(embedded_db, tmp_path)
    get = DlmsMeter.get

    def hidden(self, attribute, *rest):
        if self.clock_moves and attribute.class_id == 8:
            raise Refusal(AccessResult.OBJECT_UNAVAILABLE)
        return get(self, attribute, *rest)

    monkeypatch.setattr(DlmsMeter, "get", hidden)
    case.serve(case.correct())
    (told,) = case.commands()
    assert (told["state"], told["verdict"]) == ("failed", "unknown")
    assert case.flags() == [("2026-11-21", 37, 37, "clock_set")]
    assert case.corrections() == [("shift", case.dlms.clock_moves[0], "ana")]


def test_a_write_that_the_line_swallows_is_not_sent_again_at_another_instant(
    embedded_db, tmp_path, monkeypatch
):
    """HDLC would fetch it again after its silence: by then the instant in the interval is over."""
    models.add_catalogue("quick", '[models.dlms-quick-hdlc]\nextends = "dlms-clock-hdlc"\nrepeat_s = 1')
    try:
        case = Case(embedded_db, tmp_path, model="dlms-quick-hdlc", policy=POLICY + "\n[clock]\nguard_s = 1")
        receive, swallowed = HdlcEnd.receive, []

        def deaf_to_the_first_shift(self, data, now):
            if SHIFT in data and not swallowed:
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
    assert [session for session, payload in sent if SHIFT in payload] == [1, 2]
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
        move(self, meter_seconds, now)
        if moment == "after the write":
            children[0].send_signal(signal.SIGKILL)
            children[0].wait()

    monkeypatch.setattr(DlmsMeter, "_move_clock", moved)

    async def work():
        async with case.served():
            child = collector_process(case, request_id)
            children.append(child)
            try:
                async with asyncio.timeout(30):
                    while not query(case.db, written):  # noqa: ASYNC110 -- happens in the database
                        await asyncio.sleep(0.01)
                    while moment == "after the write" and child.poll() is None:  # noqa: ASYNC110 -- a process
                        await asyncio.sleep(0.01)
            finally:
                child.send_signal(signal.SIGKILL)
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


# --- NBR 14522 beside it -----------------------------------------------------------------------------------


def test_a_correction_without_its_method_is_refused_for_nbr_14522(embedded_db, tmp_path):
    case = Case(embedded_db, tmp_path, model="default")
    with pytest.raises(OperatorFault, match="does not say how") as refused:
        case.ask("clock", {})
    assert "smf clock correct" in refused.value.remedy
