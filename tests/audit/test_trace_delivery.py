"""What was delivered, explained: body, receipt, versions, registry, and what an estimate was made of."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from rich.tree import Tree

from audit.parts import Trace
from audit.trace import trace
from ccee.client import CceeClient, Credentials
from ccee.delivery import deliver_day
from ccee.profile import Profile, load_profile
from ccee.standin.records import Unit
from ccee.standin.rules import StandIn
from ccee.standin.server import Serving, serve_in_thread
from derivation.run import derive
from faults import OperatorFault
from pipelines.cli.trace import _document, tree
from storage.database import Database
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

pytestmark = pytest.mark.req("X-trace", "TR-2g")

PROFILE = load_profile()
MARKET = dt.timezone(dt.timedelta(hours=-3))
MIDNIGHT = dt.datetime.combine(DAY, dt.time(), MARKET)
STEP = dt.timedelta(minutes=5)


@pytest.fixture
def point(embedded_db: Database) -> Point:
    with embedded_db.connect() as conn:
        (made,) = add_points(conn, 1)
    return made


@pytest.fixture
def standin(point: Point) -> Iterator[Serving]:
    unit = Unit(point.uc_code, AGENT, musd={dt.date.min: Decimal(1000)})
    with serve_in_thread(StandIn(PROFILE, load_calendars(), {AGENT: "s"}, [unit], lambda: NOW, None)) as it:
        yield it


def make_day(db: Database, point: Point, pulses: list[int | None]) -> None:
    put_readings(db, [(point.meter_id, DAY, pulses)])
    derive(db, DAY, DAY, as_of=NOW, run_id="t")


def deliver(db: Database, standin: Serving, profile: Profile = PROFILE) -> None:
    def client(agent: int) -> CceeClient:
        environment = profile.environment("standin", standin.base_url)
        return CceeClient(profile, environment, {agent: Credentials(f"CONCESSIONARIA_{agent}", "s")})

    done = deliver_day(db, [DAY], profile, client, load_calendars(), now=NOW, run_id="t")
    assert done.accepted == 1, done


def traced(
    db: Database, point: Point, slot: int, version: int | None = None, profile: Profile = PROFILE
) -> Trace:
    return trace(db, profile, point.uc_code, MIDNIGHT + (slot + 1) * STEP, version=version)


def failing(found: Trace) -> set[str]:
    return {check.what for check in found.checks if not check.is_identical}


def test_a_delivered_value_is_explained_from_receipt_to_pulses(
    embedded_db: Database, point: Point, standin: Serving
) -> None:
    pulses = curve(7)
    make_day(embedded_db, point, pulses)
    deliver(embedded_db, standin)
    for slot in (0, 11, 12, 287):
        found = traced(embedded_db, point, slot)
        assert found.is_identical, failing(found)
        assert (found.day, found.slot, found.version, found.newer_version) == (DAY, slot, 1, None)
        assert found.interval_start == MIDNIGHT + slot * STEP
        assert found.interval_end == MIDNIGHT + (slot + 1) * STEP
        energy = Fraction(pulses[slot] * 9, 1250)
        assert [layer.layer for layer in found.layers] == [1, 2, 3, 4, 5]
        assert {layer.value_kwh for layer in found.layers[:4]} == {energy}
        milli = (energy * 1000 + Fraction(1, 2)).__floor__()
        assert found.layers[4].value_kwh == Fraction(milli, 1000)
        assert found.delivery is not None
        record = found.delivery.record
        assert record is not None
        assert dt.datetime.fromisoformat(record["dataReferenciaConsumo"]) == found.interval_end
        assert (record["consumo"], record["tipoConsumo"]) == (milli / 1000, "MEDIDO")
        assert found.reading is not None
        assert (found.reading.pulses, found.reading.meter["meter_id"]) == (pulses[slot], point.meter_id)
        assert {check.what for check in found.checks} >= {"layer 1 primary", "layer 5 ccee", "body"}
    assert bytes(found.delivery.submission["body_sha256"]) == found.delivery.body_sha256
    assert [event["state"] for event in found.delivery.events] == ["validado", "enviando", "aceito"]
    (attempt,) = found.delivery.attempts
    assert (attempt["attempt"], attempt["http_status"], attempt["outcome"]) == (1, 200, "accepted")
    assert found.registry["musd"]["musd_kw"] == 1000


def test_what_was_changed_behind_the_ledgers_back_is_found_out(
    embedded_db: Database, point: Point, standin: Serving
) -> None:
    make_day(embedded_db, point, curve(7))
    deliver(embedded_db, standin)
    with embedded_db.connect() as conn:
        conn.execute("UPDATE series_day SET numerators[11] = numerators[11] + 1 WHERE layer = 5")
    found = traced(embedded_db, point, 10)
    assert not found.is_identical
    assert failing(found) == {"layer 5 ccee", "body"}
    assert failing(traced(embedded_db, point, 11)) == {"body"}


def test_the_delivered_version_is_explained_until_a_newer_one_is_delivered(
    embedded_db: Database, point: Point, standin: Serving
) -> None:
    first = with_gap(curve(7), 5, 5)
    make_day(embedded_db, point, first)
    deliver(embedded_db, standin)
    make_day(embedded_db, point, curve(7))
    found = traced(embedded_db, point, 5)
    assert (found.version, found.newer_version) == (1, 2)
    assert found.layers[0].value_kwh is None
    newer = traced(embedded_db, point, 5, version=2)
    assert (newer.version, newer.newer_version, newer.delivery) == (2, None, None)
    assert newer.layers[0].value_kwh == Fraction(curve(7)[5] * 9, 1250)
    assert newer.is_identical, failing(newer)
    deliver(embedded_db, standin)
    assert traced(embedded_db, point, 5).version == 2
    assert traced(embedded_db, point, 5, version=1).delivery.submission["version"] == 1
    with pytest.raises(OperatorFault, match="version 3 of 2026-11-20 does not exist"):
        traced(embedded_db, point, 5, version=3)


def test_an_estimate_is_explained_by_the_values_that_went_in(embedded_db: Database, point: Point) -> None:
    week = [DAY - dt.timedelta(days=7 * number) for number in range(1, 6)]
    put_history(embedded_db, [point], week[-1], DAY - dt.timedelta(days=1))
    derive(embedded_db, week[-1], DAY - dt.timedelta(days=1), as_of=NOW, run_id="t")
    make_day(embedded_db, point, with_gap(curve(7), 100, 190))
    found = traced(embedded_db, point, 120)
    assert found.is_identical, failing(found)
    assert found.layers[0].value_kwh is None
    assert found.layers[2].origin == "estimated"
    assert found.estimate is not None
    assert (found.estimate["first_slot"], found.estimate["last_slot"]) == (100, 190)
    said = found.estimate["detail"]["dates"]
    assert said
    assert [one.interval_end for one in found.inputs] == [
        dt.datetime.combine(dt.date.fromisoformat(day), dt.time(), MARKET) + 121 * STEP for day in said
    ]
    assert all(one.layers[0].value_kwh is not None for one in found.inputs)
    assert traced(embedded_db, point, 99).estimate is None
    assert traced(embedded_db, point, 191).estimate is None


def test_a_reply_that_is_no_text_is_shown_all_the_same(
    embedded_db: Database, point: Point, standin: Serving
) -> None:
    make_day(embedded_db, point, curve(7))
    deliver(embedded_db, standin)
    with embedded_db.connect() as conn:
        conn.execute(
            "INSERT INTO submission_attempt (submission_id, attempt, started_at, ended_at, reply_body, "
            "outcome) SELECT id, 2, now(), now(), %s, 'transient' FROM submission",
            [b"n\xe3o\x00"],
        )
    found = traced(embedded_db, point, 5)
    assert found.delivery is not None
    assert [one["reply_body"] for one in found.delivery.attempts] == ['{"status":"ok"}', "n\ufffdo\x00"]
    assert json.dumps(_document(found), default=str)


def test_a_body_of_another_contract_is_not_said_to_differ(
    embedded_db: Database, point: Point, standin: Serving
) -> None:
    make_day(embedded_db, point, curve(7))
    deliver(embedded_db, standin)
    newer = replace(PROFILE, name="ccee-2028")
    found = traced(embedded_db, point, 5, profile=newer)
    assert found.delivery is not None
    assert (found.delivery.record, found.delivery.body_sha256) == (None, None)
    assert (failing(found), found.is_identical) == ({"body"}, False)
    assert len(found.checks) == len(traced(embedded_db, point, 5).checks)
    (body,) = [check for check in found.checks if check.what == "body"]
    assert body.not_made == (
        f"made with contract {PROFILE.body_format}, which is not the one in force ({newer.body_format}); "
        "name that contract profile (setting ccee.profile_path)"
    )
    shown = "\n".join(as_lines(tree(found)))
    assert "NOT COMPARED" in shown
    assert "DIFFERENT" not in shown
    assert json.loads(json.dumps(_document(found), default=str))["delivery"]["body_sha256"] is None


def as_lines(node: Tree) -> Iterator[str]:
    """What a tree says, without its layout."""
    yield str(node.label)
    for child in node.children:
        yield from as_lines(child)


def test_a_partial_day_stays_explained_once_partial_days_are_not_sent(
    embedded_db: Database, point: Point
) -> None:
    partial = replace(PROFILE, send=replace(PROFILE.send, allow_partial_day=True))
    assert not PROFILE.send.allow_partial_day
    unit = Unit(point.uc_code, AGENT, musd={dt.date.min: Decimal(1000)})
    rules = StandIn(partial, load_calendars(), {AGENT: "s"}, [unit], lambda: NOW, None)
    rules.rules.allow_partial_day = True
    make_day(embedded_db, point, with_gap(curve(7), 0, 143))
    with serve_in_thread(rules) as standin:
        deliver(embedded_db, standin, partial)
    found = traced(embedded_db, point, 200)
    assert found.is_identical, failing(found)
    assert found.delivery is not None
    assert found.delivery.record is not None
    in_the_gap = traced(embedded_db, point, 100)
    assert in_the_gap.is_identical, failing(in_the_gap)
    assert in_the_gap.layers[-1].value_kwh is None
    assert in_the_gap.delivery is not None
    assert in_the_gap.delivery.record is None


@pytest.mark.parametrize(
    ("at", "told"),
    [
        (MIDNIGHT + dt.timedelta(minutes=4), "not the end of an interval"),
        (MIDNIGHT + STEP + dt.timedelta(microseconds=1), "not the end of an interval"),
        (MIDNIGHT, "no series of 2026-11-19"),
        (MIDNIGHT + dt.timedelta(days=1, minutes=5), "no series of 2026-11-21"),
    ],
)
def test_a_time_that_is_no_interval_of_a_derived_day_is_told(
    embedded_db: Database, point: Point, at: dt.datetime, told: str
) -> None:
    make_day(embedded_db, point, curve(7))
    with pytest.raises(OperatorFault, match=told):
        trace(embedded_db, PROFILE, point.uc_code, at)
    with pytest.raises(OperatorFault, match="no UC has the code '1'"):
        trace(embedded_db, PROFILE, "1", MIDNIGHT + STEP)
