"""What nobody decided in time: a rule's policy decides before the deadline, approvals end after it."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from derivation.layers import DerivationParameters
from derivation.run import derive
from editing import decisions
from editing.queue import waiting
from editing.timeouts import apply_timeouts, lapse_approvals
from storage.database import Database
from storage.review.decisions import DecisionState
from tests.derivation.world import DAY, NOW, add_points, curve, put_readings, with_gap
from vee.calendars import load_calendars
from vee.rules.base import Severity, TimeOut

# MS+7du of November 2026 is 9 December.
TWO_DAYS_BEFORE = dt.datetime(2026, 12, 7, 12, tzinfo=dt.UTC)
THE_DAY_BEFORE = dt.datetime(2026, 12, 8, 12, tzinfo=dt.UTC)


@pytest.mark.req("X-decide", "TR-2d")
@pytest.mark.parametrize(
    ("policy", "state"), [(TimeOut.ACCEPT, "accepted"), (TimeOut.REJECT, "rejected"), (TimeOut.WAIT, "open")]
)
def test_the_policy_of_a_rule_decides_near_the_deadline(
    embedded_db: Database, policy: TimeOut, state: str
) -> None:
    db = embedded_db
    with db.connect() as conn:
        point = add_points(conn, 1)[0]
    pulses = list(curve(1))
    pulses[60] = 20_000 * 1250 // 9
    put_readings(db, [(point.meter_id, DAY, pulses)])
    parameters = DerivationParameters()
    rules = {
        rule: replace(params, severity=Severity.SUSPECT, on_timeout=policy)
        for rule, params in parameters.rules.items()
    }
    derive(db, DAY, DAY, as_of=NOW, run_id="test", parameters=replace(parameters, rules=rules))

    assert apply_timeouts(db, rules, load_calendars(), TWO_DAYS_BEFORE) == []
    made = apply_timeouts(db, rules, load_calendars(), THE_DAY_BEFORE)

    with db.connect() as conn:
        states = {row[0] for row in conn.execute("SELECT DISTINCT state FROM suspect").fetchall()}
    assert states == {state}
    assert bool(made) is (policy is not TimeOut.WAIT)
    for outcome in made:
        assert outcome.decision.asked_by.startswith("policy V")
        decisions.undo(db, outcome.decision.id, by="ana", why="looked at it", at=THE_DAY_BEFORE)
    with db.connect() as conn:
        assert conn.execute("SELECT DISTINCT state FROM suspect").fetchall() == [("open",)]


@pytest.mark.req("X-decide", "TR-2e")
def test_an_approval_that_nobody_gave_ends_with_its_month(embedded_db: Database) -> None:
    db, known = embedded_db, load_calendars()
    closed = dt.date(2026, 10, 20)
    with db.connect() as conn:
        point = add_points(conn, 1)[0]
    for day in (closed, DAY):
        put_readings(db, [(point.meter_id, day, with_gap(list(curve(1)), 0, 143))])
        derive(db, day, day, as_of=NOW, run_id="test")

    listed = waiting(db, known, NOW.date())
    assert [row.day for row in listed] == [DAY], "a word about October changes no delivery any more"
    assert listed[0].evidence == {"not_due": 144}
    (ended,) = lapse_approvals(db, known, NOW)

    assert (ended.decision.day, ended.decision.state, ended.touched) == (closed, DecisionState.LAPSED, [])
    assert ended.decision.reason.startswith("nobody approved it until 2026-11-")
    assert lapse_approvals(db, known, NOW) == [], "it ends once"
    with db.connect() as conn:
        assert conn.execute("SELECT actor, action FROM audit WHERE action LIKE 'decision.%'").fetchall() == [
            ("policy closing", "decision.lapse")
        ]
        ((at_stake,),) = conn.execute("SELECT count(*) FROM estimate_approval").fetchall()
    assert at_stake == 0
    # A month later November has ended, too.
    later = dt.datetime(2026, 12, 10, 12, tzinfo=dt.UTC)
    assert [one.decision.day for one in lapse_approvals(db, known, later)] == [DAY]
    assert waiting(db, known, later.date()) == []
