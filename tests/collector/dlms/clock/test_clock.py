"""Clocks of simulated DLMS meters over real sockets, moved by the rule and by persons."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from collector.commands.store import approve, preview_for
from collector.work.worklist import request_missing
from faults import OperatorFault
from protocols.dlms import models
from storage import audit
from tests.collector.dlms.clock_case import MODELS, POLICY, SERIAL, SET, SHIFT, WAYS, Case
from tests.collector.world import query, stored

pytestmark = pytest.mark.req("TR-5.6d", "TR-5.12a")


@pytest.fixture(autouse=True)
def catalogue():
    models.add_catalogue("clock", MODELS)
    yield
    models.remove_catalogue("clock")


# --- the rule ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", WAYS)
def test_a_clock_between_the_limits_is_shifted_inside_one_interval(db, tmp_path, model):
    case = Case(db, tmp_path, model=model)
    rows_before = len(case.meter.whole_memory(case.now))
    case.read()
    (told,) = case.commands()
    assert (told["requested_by"], told["state"], told["verdict"]) == ("clock rule", "done", "confirmed")
    assert (told["detail"]["basis"], told["detail"]["is_last"]) == ("read back", True)
    assert case.dlms.clock_moves == [95]
    assert case.error_s() == 0
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
def test_after_a_correction_the_day_has_no_gap_and_no_doubled_row(embedded_db, tmp_path, drift_s):
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
def test_without_shift_or_beyond_it_the_clock_is_set_inside_an_interval(
    embedded_db, tmp_path, model, drift_s, seconds, ending
):
    case = Case(embedded_db, tmp_path, drift_s, seconds, model).read()
    (told,) = case.commands()
    assert told["verdict"] == "confirmed", told
    assert (told["detail"]["method"], case.sent(SHIFT)) == ("set", [])
    (frame,) = case.sent(SET)
    value = frame[frame.index(SET[3:]) + len(SET[3:]) + 3 :][:12]
    assert value.hex().endswith(ending)
    assert value[4] == (6 if model == "dlms-clock-set" else 0xFF)
    assert case.error_s() == 0
    assert case.flags() == [("2026-11-21", 37, 37, "clock_set")]


def test_a_correction_waits_for_the_safe_part_of_the_interval(embedded_db, tmp_path):
    """60 s into the interval, 140 s back would cross its beginning: not now, and not at all meanwhile."""
    case = Case(embedded_db, tmp_path, 140, 60).read(rounds=0)
    wait = "SELECT extract(epoch FROM not_before - now()) FROM job_request WHERE kind = 'command'"
    # A drain ends only with its requests: this one is still open when it has been put off.
    for deadline_s in (2, 4, 8, 16, 32):
        case.serve(deadline_s=deadline_s)
        wait_s = float(query(case.db, wait)[0][0])
        if wait_s > 30:
            break
    (told,) = case.commands()
    assert (told["state"], told["verdict"], told["is_outcome_open"]) == ("queued", None, False)
    assert case.dlms.clock_moves == []
    # 150 s into the interval, less 60 and what is begun before; real seconds have passed since.
    assert 87 - 2 * deadline_s - 10 < wait_s <= 87


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
    detail = query(case.db, "SELECT detail FROM quarantine WHERE stage = 'clock' AND reason ~ 'above 3600 s'")
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
    assert case.dlms.clock_moves == [-20]


@pytest.mark.parametrize("model", WAYS)
def test_a_clock_set_by_two_people_flags_every_interval_it_crosses(embedded_db, tmp_path, model):
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
    assert case.error_s() == 0
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
    with pytest.raises(OperatorFault, match=f"command {command} cannot be sent on request") as refused:
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
    assert "cannot be sent on request" in told["error"]["message"]


def test_the_command_of_dlms_is_refused_for_meters_of_nbr_14522(embedded_db, tmp_path):
    case = Case(embedded_db, tmp_path, model="default")
    with pytest.raises(OperatorFault, match="command set-clock cannot be sent on request"):
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


# --- NBR 14522 beside it -----------------------------------------------------------------------------------


def test_a_correction_without_its_method_is_refused_for_nbr_14522(embedded_db, tmp_path):
    case = Case(embedded_db, tmp_path, model="default")
    with pytest.raises(OperatorFault, match="does not say how") as refused:
        case.ask("clock", {})
    assert "smf clock correct" in refused.value.remedy
