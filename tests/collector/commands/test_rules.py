"""Policy, previews and the arithmetic of clocks: pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.commands.clock.arithmetic import (
    Action,
    ClockWay,
    Method,
    Observation,
    decide,
    forecast,
    plan_step,
    rate_ppm,
    slot_of,
    slots_between,
)
from collector.commands.clock.script import LEAD_S, Seen, next_move, resolve_step
from collector.commands.policy import ClockPolicy, load_policy, may_approve, parse_policy
from collector.commands.policy import decide as judge
from collector.commands.steps import CommandWork, Pending, Verdict
from collector.nbr14522.commands.asking import is_refused
from collector.nbr14522.commands.preview import preview
from collector.nbr14522.sequences import Answered
from faults import OperatorFault
from protocols.nbr14522.messages import OccurrenceAnswer
from protocols.nbr14522.profiles import DEFAULT, P8_GENERIC

LOCAL = datetime(2026, 11, 21, 10, 30)
POLICY = """
[default]
roles = ["engineer"]
second_person = true
max_per_day = 2
[command.32]
second_person = false
[command."98/32"]
roles = ["planner"]
windows = ["22:00-24:00", "00:00-05:00"]
[people]
ana = ["engineer"]
bruno = ["engineer", "planner"]
carla = []
"""


def shown(command, values, profile=DEFAULT):
    return preview(profile, command, values, meter_serial="00012345", reader_serial="123456", local_now=LOCAL)


@pytest.mark.req("TR-5.7b")
def test_the_policy_says_who_when_and_with_whom():
    policy = parse_policy(POLICY, "test")
    engineer = policy.roles_of("ana")
    assert judge(policy, "31", engineer, LOCAL, 0).needs_approval
    assert not judge(policy, "32", engineer, LOCAL, 0).needs_approval
    assert judge(policy, "31", engineer, LOCAL, 2).role is None
    assert "planner" in judge(policy, "98/32", engineer, LOCAL, 0).refusal
    waits = judge(policy, "98/32", policy.roles_of("bruno"), LOCAL, 0)
    assert waits.not_before == datetime(2026, 11, 21, 22)
    now = judge(policy, "98/32", policy.roles_of("bruno"), LOCAL.replace(hour=23), 0)
    assert (now.role, now.not_before) == ("planner", None)


@pytest.mark.req("TR-5.7b")
@pytest.mark.parametrize("person", ["ana", "ANA ", "carla", "nobody"])
def test_only_a_second_person_with_the_role_approves(person):
    with pytest.raises(OperatorFault):
        may_approve(parse_policy(POLICY, "test"), "31", person, "ana")
    assert may_approve(parse_policy(POLICY, "test"), "31", "bruno", "ana") == "engineer"


@pytest.mark.parametrize(
    "text",
    [
        "[default]\nroles = 'x'",
        "[defaults]",
        "[clock]\nset_clock = 'never'",
        "[clock]\nguard_s = -1",
        "[command.20]\nwindows = ['8-x']",
        "[command.20]\nmax_per_day = 0",
        "x =",
    ],
)
def test_a_policy_that_does_not_fit_is_refused(text):
    with pytest.raises(OperatorFault):
        parse_policy(text, "test")


def test_the_shipped_policy_asks_a_second_person_for_what_bills():
    policy = load_policy()
    assert all(
        policy.rule(command).second_person
        for command in ("20", "29", "30", "31", "33", "35", "63", "73", "set-clock")
    )
    assert not policy.people, "the shipped file knows nobody"
    assert policy.clock == ClockPolicy()


@pytest.mark.req("TR-5.7b")
def test_a_preview_shows_words_and_the_exact_octets():
    """Vectors of section 1.4."""
    one = shown("31", {"interval_min": 15})
    assert one.hex[0].endswith("94 6A")
    assert one.hex[0].startswith("31 12 34 56 15 00")
    assert "00012345" in one.en
    assert "intervalo de demanda" in one.pt
    assert shown("29", {"day": "2024-03-08"}).hex[0].endswith("92 05")
    assert shown("30", {"clock": "02:50:53"}).hex[0].endswith("BE 5F")
    addressed = shown("31", {"interval_min": 15}, P8_GENERIC).hex[0]
    assert addressed.startswith("99 00 01 23 45 31 12 34 56")


@pytest.mark.req("TR-5.7b")
@pytest.mark.parametrize("command", ["63", "66", "67", "98/30", "47", "21", "AB", "zz"])
def test_what_no_source_explains_is_refused_with_the_reason(command):
    with pytest.raises(OperatorFault) as refused:
        shown(command, {"is_on": 1})
    assert refused.value.remedy


# --- clocks ------------------------------------------------------------------------------------------------


def history(ppm, days=10, start_s=0.0, noise=None):
    begin = datetime(2026, 11, 1, tzinfo=UTC)
    noise = noise or {}
    return [
        Observation(begin + timedelta(days=n), start_s + ppm * 1e-6 * 86400 * n + noise.get(n, 0.0))
        for n in range(days)
    ]


@pytest.mark.req("TR-5.6d")
def test_the_rate_bears_wrong_observations():
    assert rate_ppm(history(20.0)) == pytest.approx(20.0)
    assert rate_ppm(history(20.0, noise={3: 900.0, 6: -400.0})) == pytest.approx(20.0, rel=0.1)
    assert rate_ppm(history(20.0, days=2)) is None


@pytest.mark.req("TR-5.6d")
def test_the_forecast_says_when_the_limits_are_crossed():
    told = forecast(history(20.0, start_s=10.0))
    assert told is not None
    assert told.minute_at is not None
    assert told.hour_at is not None
    # 20 ppm are 1.728 s a day: 60 s are reached 50 s after the first observation's 10 s.
    first = datetime(2026, 11, 1, tzinfo=UTC)
    assert abs(told.minute_at - (first + timedelta(days=50 / 1.728))) < timedelta(minutes=1)
    assert told.hour_at > told.minute_at
    assert forecast(history(-5.0)).minute_at > first
    assert forecast(history(0.0)).minute_at is None
    assert forecast([]) is None


@pytest.mark.req("TR-5.6d")
@pytest.mark.parametrize(
    ("drift_s", "action"),
    [
        (59.4, Action.LEAVE),
        (-59.4, Action.LEAVE),
        (60.0, Action.CORRECT),
        (-3600.0, Action.CORRECT),
        (3600.5, Action.MANUAL),
        (-61 * 60, Action.MANUAL),
    ],
)
def test_between_one_and_sixty_minutes_and_nowhere_else(drift_s, action):
    for method in Method:
        told = decide(drift_s, 1.0, ClockPolicy(), ClockWay(method, "why", "29 and 30"))
        assert told.action is action
        if action is Action.CORRECT:
            assert told.method is method
            assert not told.needs_approval


@pytest.mark.req("TR-5.6d")
def test_setting_a_clock_asks_a_person_if_a_period_closes_or_policy_says():
    approval = ClockPolicy(set_clock="approval")
    for method in (Method.SET, Method.SHIFT):
        way = ClockWay(method, "why", "29 and 30")
        assert decide(90.0, 1.0, ClockPolicy(), replace(way, closes_period=True)).needs_approval
        assert decide(90.0, 1.0, approval, way).needs_approval
    slowly = ClockWay(Method.MICRO_ADJUST, "why", "29 and 30")
    assert not decide(90.0, 1.0, approval, slowly).needs_approval
    slow_line = decide(90.0, 40.0, ClockPolicy(), way)
    assert slow_line.action is Action.LEAVE


@pytest.mark.req("TR-5.6d")
@given(
    second=st.integers(0, 86_399),
    drift_s=st.floats(-3600, 3600).filter(lambda drift: abs(drift) >= 60),
    interval_s=st.sampled_from([300, 900, 3600]),
)
def test_no_step_crosses_a_border(second, drift_s, interval_s):
    """Whatever the drift and the moment, both ends of a step lie inside one interval, off its borders."""
    guard_s = 10
    meter_time = datetime(2026, 11, 21) + timedelta(seconds=second)
    step = plan_step(meter_time, drift_s, interval_s, guard_s)
    assert 0 <= step.wait_s <= interval_s
    before = meter_time + timedelta(seconds=step.wait_s)
    after = before + timedelta(seconds=step.step_s)
    assert slot_of(before, interval_s) == slot_of(after, interval_s)
    for moment in (before, after):
        offset = (moment - datetime(2026, 11, 21)).total_seconds() % interval_s
        assert guard_s <= offset <= interval_s - guard_s
    assert step.step_s * drift_s < 0
    assert abs(drift_s + step.step_s) < abs(drift_s)
    assert step.is_last == (abs(drift_s + step.step_s) <= 0.5)


@pytest.mark.req("TR-5.6d")
@given(
    local=st.datetimes(datetime(2026, 11, 21), datetime(2026, 11, 22)),
    drift_s=st.floats(-3600, 3600).filter(lambda drift: abs(drift) >= 4),
    interval_s=st.sampled_from([300, 900, 1800, 3600]),
)
def test_no_move_leaves_its_interval_even_when_it_arrives_late(local, drift_s, interval_s):
    """Both ends in one interval at the instant chosen, and half the guard later, too."""
    limits = ClockPolicy()
    move = next_move(Seen(local, drift_s, 1.0, interval_s), interval_s, limits, local)
    assert move.arrives.microsecond == 0
    lead_s = (move.arrives - local).total_seconds() - move.wait_s
    assert LEAD_S - 0.001 <= lead_s <= LEAD_S + 1.001
    assert move.before == move.arrives + timedelta(seconds=drift_s)
    for late_s in (0, limits.guard_s / 2):
        before = move.before + timedelta(seconds=late_s)
        slots = {slot_of(before, interval_s), slot_of(before + timedelta(seconds=move.step_s), interval_s)}
        assert len(slots) == 1
    ((day, (first, last)),) = move.detail(Seen(local, drift_s, 1.0, 300), Method.SHIFT, interval_s)[
        "touched"
    ].items()
    assert (date.fromisoformat(day), first) == slot_of(move.before, interval_s)
    assert first == last
    assert abs((move.target - move.arrives).total_seconds() - drift_s - move.step_s) <= 0.501


@pytest.mark.req("TR-5.6d")
@pytest.mark.parametrize(
    ("moved_s", "settles", "verdict"),
    [
        (0.0, False, None),
        (3.9, False, None),
        (95.0, True, Verdict.CONFIRMED),
        (92.0, True, Verdict.CONFIRMED),
        (50.0, True, Verdict.UNKNOWN),
        (-95.0, True, Verdict.UNKNOWN),
    ],
)
def test_a_step_that_was_begun_is_settled_by_how_far_the_clock_moved(moved_s, settles, verdict):
    wrote = {"drift_s": -95.0, "step_s": 95, "is_last": True, "method": "shift", "touched": {}}
    work = CommandWork(1, "clock", {}, pending=Pending({"drift_s": -95.0}, wrote))
    seen = Seen(LOCAL, -95.0 + moved_s, 1.0, 300)
    assert resolve_step(work, work.pending, seen) is settles
    assert work.execution.verdict is verdict
    assert work.execution.detail.get("method") == ("shift" if settles else None)


@pytest.mark.req("TR-5.6d")
def test_a_step_too_small_to_tell_counts_as_done_so_that_it_is_flagged():
    wrote = {
        "drift_s": 4.0,
        "step_s": -4,
        "is_last": True,
        "method": "shift",
        "touched": {"2026-11-21": [1, 1]},
    }
    work = CommandWork(1, "clock", {}, pending=Pending({}, wrote))
    assert resolve_step(work, work.pending, Seen(LOCAL, 2.0, 1.0, 300))
    assert (work.execution.verdict, work.execution.detail["touched"]) == (Verdict.CONFIRMED, wrote["touched"])


def test_touched_slots_are_named_by_day():
    assert slots_between(datetime(2026, 11, 20, 23, 58), datetime(2026, 11, 21, 0, 7), 300) == {
        date(2026, 11, 20): (287, 287),
        date(2026, 11, 21): (0, 1),
    }


@pytest.mark.parametrize(("occurrence", "has_remedy"), [(0x43, True), (0x30, False)])
def test_a_meter_that_wants_its_password_says_so(occurrence: int, has_remedy: bool) -> None:
    work = CommandWork(1, "20", {})
    answer = OccurrenceAnswer(occurrence=occurrence, detail=1).encode("00000001")[:-2]
    assert is_refused(work, Answered(answer))
    run = work.execution
    assert run.verdict is Verdict.REFUSED
    assert (run.detail["answer"], run.detail["occurrence"]) == ("40", f"{occurrence:02X}")
    assert ("password_commands" in run.detail.get("remedy", "")) is has_remedy
