"""A rule's time-out policy decides about a suspect shortly before the deadline, and not a day sooner."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from derivation.layers import DerivationParameters
from derivation.run import derive
from editing import decisions
from editing.timeouts import apply_timeouts
from storage.database import Database
from tests.derivation.world import DAY, NOW, add_points, curve, put_readings
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
