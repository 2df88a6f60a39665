"""People's decisions, from what waits to what CCEE is sent, with the stand-in on a socket."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction

import pytest

from ccee.client import CceeClient, Credentials
from ccee.delivery import deliver_day
from ccee.profile import load_profile
from ccee.sending import DeliverySummary
from ccee.standin.records import Unit
from ccee.standin.rules import StandIn
from ccee.standin.server import serve_in_thread
from derivation.run import derive
from editing import decisions, proposals
from editing.preview import preview
from editing.queue import Waiting, waiting
from faults import OperatorFault
from faults.market_time import MARKET_ZONE
from storage.database import Database
from storage.review.decisions import DecisionKind, DecisionState
from storage.review.holds import HeldDay, HoldReason, hold_readings
from tests.derivation.world import (
    AGENT,
    DAY,
    NOW,
    Point,
    add_points,
    curve,
    put_history,
    put_readings,
    with_gap,
)
from vee.calendars import load_calendars

PULSE_KWH = Fraction(9, 1250)
ANA, BRUNO = "ana", "bruno"


@pytest.fixture
def point(db: Database) -> Point:
    with db.connect() as conn:
        return add_points(conn, 1)[0]


def derived(db: Database, day: dt.date = DAY, at: dt.datetime = NOW) -> None:
    derive(db, day, day, as_of=at, run_id="test")


def stored(db: Database, point: Point, layer: int, day: dt.date = DAY) -> list[Fraction | None]:
    with db.connect() as conn:
        row = conn.execute(
            "SELECT denominator, numerators FROM series_latest WHERE uc_id = %s AND layer = %s AND day = %s",
            [point.uc_id, layer, day],
        ).fetchone()
    assert row is not None
    return [None if value is None else Fraction(value, row[0]) for value in row[1]]


def outcome(db: Database, point: Point, day: dt.date = DAY) -> tuple[str, str]:
    with db.connect() as conn:
        row = conn.execute(
            "SELECT state, cause FROM uc_day_outcome WHERE uc_id = %s AND day = %s", [point.uc_id, day]
        ).fetchone()
    assert row is not None
    return row[0], row[1]


def queue(db: Database) -> list[Waiting]:
    return waiting(db, load_calendars(), NOW.date())


def decide(db: Database, proposal: proposals.Proposal, by: str = ANA) -> decisions.Outcome:
    done = decisions.ask(db, proposal, by=by, why="seen at the meter", at=NOW)
    decisions.derive_touched(db, done, NOW)
    return done


def span(db: Database, point: Point, begin: str, end: str) -> proposals.Span:
    with db.connect() as conn:
        return proposals.span(conn, point.uc_code, DAY, begin, end, MARKET_ZONE)


@contextmanager
def standin(point: Point) -> Iterator[StandIn]:
    unit = Unit(point.uc_code, AGENT, musd={dt.date.min: Decimal(1000)})
    operator = StandIn(load_profile(), load_calendars(), {AGENT: "s"}, [unit], lambda: NOW, None)
    with serve_in_thread(operator) as serving:
        operator.base_url = serving.base_url  # type: ignore[attr-defined]  # for `delivered`
        yield operator


def delivered(db: Database, operator: StandIn) -> DeliverySummary:
    profile = load_profile()
    environment = profile.environment("standin", operator.base_url)  # type: ignore[attr-defined]  # see above
    credentials = {AGENT: Credentials(f"CONCESSIONARIA_{AGENT}", "s")}
    return deliver_day(
        db,
        [DAY],
        profile,
        lambda agent: CceeClient(profile, environment, credentials),
        load_calendars(),
        now=NOW,
        run_id="test",
    )


@pytest.mark.req("TR-2b", "X-decide")
class TestContradiction:
    """V03: two readings of the same intervals, and one of them counts."""

    @pytest.fixture(autouse=True)
    def two_readings(self, db: Database, point: Point) -> None:
        other = list(curve(1))
        other[100] = (other[100] or 0) + 7
        put_readings(db, [(point.meter_id, DAY, curve(1))])
        put_readings(db, [(point.meter_id, DAY, other)])
        derived(db)

    def test_it_waits_with_the_energy_at_stake(self, db: Database, point: Point) -> None:
        assert outcome(db, point) == ("held", "held_conflict")
        (row,) = queue(db)
        assert (row.key[0], row.uc_code, row.rule, row.energy_kwh) == (
            "Q",
            point.uc_code,
            "V03",
            Decimal("0.050"),
        )

    @pytest.mark.case("E9")
    @pytest.mark.parametrize(("take", "more"), [("kept", 0), ("refused", 7)])
    def test_the_chosen_reading_is_delivered(self, db: Database, point: Point, take: str, more: int) -> None:
        with db.connect() as conn:
            proposal = proposals.of_conflict(conn, int(queue(db)[0].key[1:]), take)
        done = decide(db, proposal)

        assert done.decision.state is DecisionState.IN_FORCE
        assert outcome(db, point) == ("ready", "")
        assert stored(db, point, 1)[100] == ((curve(1)[100] or 0) + more) * PULSE_KWH
        assert queue(db) == []
        with standin(point) as operator:
            assert delivered(db, operator).accepted == 1

    def test_undone_it_waits_again(self, db: Database, point: Point) -> None:
        with db.connect() as conn:
            proposal = proposals.of_conflict(conn, int(queue(db)[0].key[1:]), "refused")
        done = decide(db, proposal)
        back = decisions.undo(db, done.decision.id, by=BRUNO, why="wrong meter", at=NOW)
        decisions.derive_touched(db, back, NOW)

        assert outcome(db, point) == ("held", "held_conflict")
        assert stored(db, point, 1)[100] == (curve(1)[100] or 0) * PULSE_KWH
        assert [row.key[0] for row in queue(db)] == ["Q"]


@pytest.mark.req("TR-2b", "X-decide")
class TestEdits:
    """Values set by a person, with preview, second person, undo."""

    @pytest.fixture(autouse=True)
    def a_whole_day(self, db: Database, point: Point) -> None:
        put_readings(db, [(point.meter_id, DAY, curve(1))])
        derived(db)

    def test_a_total_is_shared_out_exactly(self, db: Database, point: Point) -> None:
        proposal = proposals.set_values(span(db, point, "10:00", "10:15"), total_kwh=Fraction(1))
        shown = preview(db, proposal, NOW)
        before = stored(db, point, 5)
        done = decide(db, proposal)

        after = stored(db, point, 3)
        assert after[120:123] == [Fraction(1, 3)] * 3
        assert [after[119], after[123]] == [before_value(1, 119), before_value(1, 123)]
        (day,) = shown.days
        assert [change.slot for change in day.changes] == [120, 121, 122]
        sent = stored(db, point, 5)
        assert [change.after_kwh for change in day.changes] == [
            Decimal(str(float(sent[slot] or 0))) for slot in (120, 121, 122)
        ]
        assert day.energy_before_kwh == sum(
            Decimal(v.numerator) / v.denominator for v in before if v is not None
        )
        assert done.decision.preview["days"][0]["delivery"] == "sent to CCEE as version 1"

    def test_it_is_delivered_as_adjusted_and_again(self, db: Database, point: Point) -> None:
        with standin(point) as operator:
            assert delivered(db, operator).accepted == 1
            proposal = proposals.set_values(span(db, point, "10:00", "10:10"), each_kwh=Fraction("0.5"))
            assert preview(db, proposal, NOW).days[0].sentence == "sent to CCEE again, as version 2"
            done = decide(db, proposal)
            assert delivered(db, operator).accepted == 1
            decisions.derive_touched(
                db, decisions.undo(db, done.decision.id, by=ANA, why="mistaken", at=NOW), NOW
            )
            assert delivered(db, operator).accepted == 1
        with db.connect() as conn:
            versions = conn.execute("SELECT version FROM submission ORDER BY version").fetchall()
        assert versions == [(1,), (2,), (3,)]
        assert stored(db, point, 3)[120] == before_value(1, 120)

    def test_above_the_limit_a_second_person_agrees(self, db: Database, point: Point) -> None:
        proposal = proposals.set_values(span(db, point, "00:00", "24:00"), each_kwh=Fraction(0))
        done = decide(db, proposal)
        assert done.decision.state is DecisionState.WAITING
        assert "more than" in done.decision.second_why
        assert stored(db, point, 3)[0] == before_value(1, 0)
        assert [row.key for row in queue(db)] == [f"D{done.decision.id}"]
        with pytest.raises(OperatorFault, match="a second person must answer"):
            decisions.agree(db, done.decision.id, by=ANA, why="", at=NOW)

        agreed = decisions.agree(db, done.decision.id, by=BRUNO, why="checked", at=NOW)
        decisions.derive_touched(db, agreed, NOW)
        assert set(stored(db, point, 3)) == {Fraction(0)}
        assert queue(db) == []

    def test_a_refused_one_changes_nothing(self, db: Database, point: Point) -> None:
        done = decide(db, proposals.set_values(span(db, point, "", ""), each_kwh=Fraction(9)))
        refused = decisions.refuse(db, done.decision.id, by=BRUNO, why="no", at=NOW)
        assert refused.decision.state is DecisionState.REFUSED
        assert stored(db, point, 3)[5] == before_value(1, 5)
        with pytest.raises(OperatorFault, match="waits for nobody"):
            decisions.agree(db, done.decision.id, by=BRUNO, why="", at=NOW)

    def test_scaled_and_copied_values_are_exact(self, db: Database, point: Point) -> None:
        put_readings(db, [(point.meter_id, DAY - dt.timedelta(days=7), curve(9))])
        derived(db, DAY - dt.timedelta(days=7))
        decide(db, proposals.scale(db, span(db, point, "01:00", "01:05"), Fraction(1, 3), NOW))
        decide(db, proposals.copy(db, span(db, point, "02:00", "02:05"), DAY - dt.timedelta(days=7), NOW))
        after = stored(db, point, 3)
        assert after[12] == before_value(1, 12) / 3
        assert after[24] == before_value(9, 24)

    def test_slots_that_are_set_aside_are_estimated(self, db: Database, point: Point) -> None:
        decide(db, proposals.reject_slots(span(db, point, "10:00", "10:10")))
        assert stored(db, point, 2)[120:122] == [None, None]
        estimated = stored(db, point, 3)
        assert None not in estimated
        assert estimated[120] != before_value(1, 120)

    def test_a_decision_tells_who_and_why_in_the_audit(self, db: Database, point: Point) -> None:
        done = decide(db, proposals.reject_slots(span(db, point, "10:00", "10:10")))
        decisions.undo(db, done.decision.id, by=BRUNO, why="all right after all", at=NOW)
        with db.connect() as conn:
            rows = conn.execute(
                "SELECT actor, action, after ->> 'reason' FROM audit "
                "WHERE action LIKE 'decision.%' ORDER BY id"
            ).fetchall()
        assert rows == [
            (ANA, "decision.ask", "seen at the meter"),
            (BRUNO, "decision.undo", "seen at the meter"),
        ]

    @pytest.mark.parametrize(
        ("begin", "end", "match"),
        [
            ("10:02", "10:10", "no border"),
            ("10:10", "10:00", "no part"),
            ("25:00", "", "no border"),
            ("x", "", "not a time"),
        ],
    )
    def test_times_off_the_grid_are_refused(
        self, db: Database, point: Point, begin: str, end: str, match: str
    ) -> None:
        with pytest.raises(OperatorFault, match=match):
            span(db, point, begin, end)


@pytest.mark.case("E9")
@pytest.mark.req("TR-2e", "X-decide")
def test_an_estimate_without_history_waits_for_a_word(db: Database, point: Point) -> None:
    put_readings(db, [(point.meter_id, DAY, with_gap(list(curve(1)), 0, 143))])
    derived(db)
    assert outcome(db, point) == ("incomplete", "no_history_needs_approval")
    assert [row.key for row in queue(db)] == [f"A{point.uc_code}:{DAY}"]
    with db.connect() as conn:
        proposal = proposals.approve(conn, point.uc_code, DAY, "no_history_musd")
    done = decide(db, proposal)
    assert outcome(db, point) == ("ready", "")
    decisions.derive_touched(db, decisions.undo(db, done.decision.id, by=ANA, why="no", at=NOW), NOW)
    assert outcome(db, point) == ("incomplete", "no_history_needs_approval")


@pytest.mark.req("X-decide", "X-clock")
@pytest.mark.parametrize("kind", [DecisionKind.RELEASE, DecisionKind.SHIFT, DecisionKind.DISCARD])
def test_held_readings_are_decided(db: Database, point: Point, kind: DecisionKind) -> None:
    slots = {slot: (value or 0, 1) for slot, value in enumerate(curve(1))}
    held = HeldDay(point.meter_id, 1, DAY, 1, 300, slots, HoldReason.CLOCK, "V09", likely_shift_s=-86_400)
    with db.connect() as conn:
        (hold_id,) = hold_readings(conn, [held], NOW)
    derived(db)
    assert [row.key for row in queue(db)] == [f"H{hold_id}"]
    shift_s = -86_400 if kind is DecisionKind.SHIFT else 0
    with db.connect() as conn:
        proposal = proposals.of_holds(conn, kind, [hold_id], shift_s)
    shown = preview(db, proposal, NOW)
    done = decide(db, proposal)

    assert done.decision.state is DecisionState.IN_FORCE
    target = DAY - dt.timedelta(days=1) if shift_s else DAY
    if kind is DecisionKind.DISCARD:
        assert outcome(db, point)[0] == "incomplete"
    else:
        assert stored(db, point, 1, target)[7] == before_value(1, 7)
        assert shown.energy_after_kwh > 0
    decisions.derive_touched(db, decisions.undo(db, done.decision.id, by=ANA, why="no", at=NOW), NOW)
    assert f"H{hold_id}" in [row.key for row in queue(db)]


@pytest.mark.req("TR-2b", "X-decide")
@pytest.mark.parametrize("kind", [DecisionKind.ACCEPT, DecisionKind.REJECT])
def test_a_suspect_is_decided(db: Database, point: Point, kind: DecisionKind) -> None:
    """20,000 kWh in five minutes at a unit with a MUSD of 1,000 kW."""
    put_history(db, [point], DAY - dt.timedelta(days=100), DAY - dt.timedelta(days=1))
    derive(db, DAY - dt.timedelta(days=100), DAY - dt.timedelta(days=1), as_of=NOW, run_id="history")
    pulses = list(curve(1))
    pulses[60] = 20_000 * 1250 // 9
    put_readings(db, [(point.meter_id, DAY, pulses)])
    derived(db)
    assert outcome(db, point)[0] == "held"
    suspects = [row for row in queue(db) if row.key[0] == "S" and row.day == DAY]
    assert suspects
    with standin(point) as operator:
        assert delivered(db, operator).sent == 0
    with db.connect() as conn:
        proposal = proposals.of_suspects(conn, kind, [int(row.key[1:]) for row in suspects])
    done = decide(db, proposal)
    # 20,000 kWh go: more than one person may decide.
    assert (done.decision.state is DecisionState.WAITING) is (kind is DecisionKind.REJECT)
    if kind is DecisionKind.REJECT:
        assert [row.key for row in queue(db) if row.day == DAY] == [f"D{done.decision.id}"], "listed once"
        decisions.derive_touched(db, decisions.agree(db, done.decision.id, by=BRUNO, why="", at=NOW), NOW)

    assert outcome(db, point)[0] == "ready"
    value = stored(db, point, 3)[60]
    assert value is not None
    assert (value == pulses[60] * PULSE_KWH) is (kind is DecisionKind.ACCEPT)


def before_value(seed: int, slot: int) -> Fraction:
    return (curve(seed)[slot] or 0) * PULSE_KWH


def test_what_is_past_its_deadline_waits_behind_what_can_still_be_sent(db: Database, point: Point) -> None:
    before = dt.date(2026, 9, 20)
    slots = {slot: (value or 0, 1) for slot, value in enumerate(curve(1))}
    days = [HeldDay(point.meter_id, 1, day, 1, 300, slots, HoldReason.CLOCK, "V09") for day in (before, DAY)]
    with db.connect() as conn:
        hold_readings(conn, days, NOW)
    assert [row.day for row in queue(db)] == [DAY, before]
