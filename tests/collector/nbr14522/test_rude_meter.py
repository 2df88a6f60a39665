"""Each misbehaviour of a meter that nobody here wrote, over a real socket into the database.

Polite words are a function of the true time alone, so what is stored can be judged whatever the meter says.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import pytest

from collector.drain import drain
from collector.work.worklist import request_missing
from storage.review import hold_decisions
from storage.review.holds import HoldReason, open_holds
from tests.collector.nbr14522.rude import needs_peers, rude_meter
from tests.collector.world import add_meter, collect, query, quick, sessions, stored

pytestmark = [needs_peers, pytest.mark.req("TR-5.1")]

NOW = datetime(2026, 11, 20, 13, 2, tzinfo=UTC)
TODAY, DAY = date(2026, 11, 20), date(2026, 11, 19)
DAYS = [TODAY - timedelta(days=n) for n in range(5, -1, -1)]
SERIAL = "14522001"
SLOTS = 288
WHY = {"actor": "ana", "why": "conferido em campo", "at": NOW}


def true_count(day, slot):
    """Channel 1, as the peer's page says."""
    return 100 + slot + 100 * (day.toordinal() % 5)


class Case:
    """One rude meter, registered as it should be."""

    def __init__(self, db, port):
        self.db = quick(db)
        with self.db.connect() as conn:
            conn.execute("INSERT INTO distributor (code, name) VALUES ('D', 'Distribuidora')")
            conn.execute(
                "INSERT INTO agent (code, name, distributor_id) SELECT 4711, 'Agente', id FROM distributor"
            )
            url = f"tcp://127.0.0.1:{port}"
            self.meter_id = add_meter(conn, 1, SERIAL, url, constant=(1, 25))

    def read(self, days=DAYS):
        return asyncio.run(collect(self.db, days=days, now=NOW))[SERIAL]

    def read_once(self):
        """Without the tries that a retry fault has."""
        ids = request_missing(self.db, DAYS, NOW, "test")
        with self.db.connect() as conn:
            conn.execute("UPDATE job_request SET max_attempts = 1")
        (summary,) = asyncio.run(drain(self.db, ids, lambda: NOW, deadline_s=60))
        return summary

    def holds(self):
        """Of the channel that carries active energy."""
        with self.db.connect() as conn:
            return [hold for hold in open_holds(conn, [self.meter_id]) if hold.channel == 1]

    def counts(self):
        """By day and slot, what is stored and not missing."""
        rows = query(self.db, "SELECT day, pulses FROM reading_day WHERE channel = 1")
        return {
            (day, slot): value
            for day, pulses in rows
            for slot, value in enumerate(pulses)
            if value is not None
        }

    def assert_all_right(self, but=()):
        """Every interval of the memory is stored, and right; `but` are missing."""
        expected = {(day, slot): true_count(day, slot) for day in DAYS for slot in range(SLOTS)}
        expected = {key: value for key, value in expected.items() if key < (TODAY, 120) and key not in but}
        assert self.counts() == expected

    def assert_nothing_wrong(self):
        assert all(value == true_count(*key) for key, value in self.counts().items())


@pytest.fixture
def case(embedded_db):
    @contextmanager
    def opened(*modes):
        options = {"end": "2026-11-20T10:00", "now": "2026-11-20T10:02", "constant": "1/25"}
        with rude_meter(*modes, **options) as port:
            yield Case(embedded_db, port)

    return opened


def test_polite_it_is_read_without_a_word(case):
    with case() as meter:
        assert (meter.read().outcome, meter.holds()) == ("complete", [])
    meter.assert_all_right()
    assert query(meter.db, "SELECT reason FROM quarantine") == []


@pytest.mark.case("A8", "A9")
@pytest.mark.req("TR-5.6d")
@pytest.mark.parametrize("days", [-30, -1, 30, 365])
def test_a_clock_days_off_is_held_and_put_right_by_a_shift(case, days):
    with case(f"clock-days={days:+d}") as meter:
        summary = meter.read()
    assert (summary.state, summary.actor) == ("failed", "operator")
    assert summary.message.startswith("V09: the meter's clock is")
    assert (meter.counts(), summary.exhausted_days) == ({}, ())
    held = meter.holds()
    assert {hold.reason for hold in held} == {HoldReason.CLOCK}
    assert {hold.likely_shift_s for hold in held} == {-days * 86_400}
    assert {DAY + timedelta(days=days), TODAY + timedelta(days=days)} <= {hold.day for hold in held}
    assert held[0].evidence["true_time"] == "2026-11-20T10:02:00-03:00"
    assert [row["outcome"] for row in sessions(meter.db)] == ["partial"]
    with meter.db.connect() as conn:
        hold_decisions.shift(conn, [hold.id for hold in held], -days * 86_400, **WHY)
    counts = meter.counts()
    meter.assert_nothing_wrong()
    assert {(DAY, slot) for slot in range(SLOTS)} <= counts.keys()
    assert max(counts) == (TODAY, 119)


@pytest.mark.req("TR-5.6d")
@pytest.mark.parametrize(
    ("minutes", "is_held"), [(7, False), (-7, False), (60, True), (-90, True), (121, True)]
)
def test_minutes_are_told_and_hours_are_held(case, minutes, is_held):
    with case(f"clock-minutes={minutes:+d}") as meter:
        summary = meter.read()
    ((drift_s,),) = query(meter.db, "SELECT drift_s FROM session")
    assert abs(float(drift_s) - 60 * minutes) < 3
    assert bool(meter.holds()) is is_held
    assert (summary.state, bool(meter.counts())) == (("failed", False) if is_held else ("done", True))
    assert all(day <= TODAY and (day, slot) < (TODAY, 121) for day, slot in meter.counts()), "no future"
    if is_held:
        assert {hold.likely_shift_s for hold in meter.holds()} == {-round(minutes / 5) * 300}


@pytest.mark.case("A10")
def test_another_constant_is_held_and_the_meters_is_proposed(case):
    with case("constant=2/25") as meter:
        summary = meter.read()
        again = asyncio.run(collect(meter.db, days=[DAY], now=NOW))
    assert summary.message == (
        "V11: the meter states 2/25 kWh a pulse on channel 1, the registry 1/25 (x 2); held"
    )
    assert "2/25" in summary.remedy
    held = meter.holds()
    assert (meter.counts(), {hold.rule for hold in held}, again) == ({}, {"V11"}, {})
    assert held[0].evidence["proposed"] == {"pulse_energy_num": 2, "pulse_energy_den": 25}
    with meter.db.connect() as conn:
        hold_decisions.release(conn, [hold.id for hold in held], **WHY)
    meter.assert_all_right()


def test_another_meter_is_held_and_both_numbers_are_said(case):
    with case("serial=87654321") as meter:
        summary = meter.read()
    assert summary.message == "V10: meter 87654321 answered, the registry names 14522001; held"
    held = meter.holds()
    assert (meter.counts(), {hold.reason for hold in held}) == ({}, {HoldReason.IDENTITY})
    assert (held[0].evidence["answered"], held[0].evidence["registered"]) == ("87654321", SERIAL)


@pytest.mark.case("D19")
@pytest.mark.parametrize("mode", ["all-ones", "negative-sign-bit"])
def test_words_that_are_no_counts_are_held_alone(case, mode):
    with case(f"{mode}=10-11") as meter:
        summary = meter.read()
    hour = {(DAY, slot) for slot in range(120, 132)}
    assert (summary.outcome, summary.exhausted_days) == ("partial", ())
    meter.assert_all_right(but=hour)
    (held,) = meter.holds()
    assert (held.reason, held.day, held.slots.keys()) == (HoldReason.PATTERN, DAY, {s for _, s in hour})


@pytest.mark.parametrize(
    "mode", ["duplicate-block=2", "bad-crc=2", "bad-crc=6", "stale-repeat=once", "enq-flood"]
)
def test_what_a_reader_must_bear_costs_nothing(case, mode):
    with case(mode) as meter:
        assert meter.read().state == "done"
    meter.assert_all_right()


def test_blocks_out_of_order_are_refused(case):
    with case("swapped-blocks=2") as meter:
        summary = meter.read()
    assert (summary.actor, summary.message) == ("retry", "a block is missing")
    meter.assert_nothing_wrong()


@pytest.mark.parametrize("count", [498, -498])
def test_blocks_that_are_missing_or_too_many_are_told(case, count):
    with case(f"wrong-count={count}") as meter:
        summary = meter.read()
    assert (summary.actor, summary.exhausted_days) == ("retry", ())
    assert "words were announced" in summary.message
    assert (meter.counts(), meter.holds()) == ({}, [])
    assert {row["outcome"] for row in sessions(meter.db)} == {"partial"}


@pytest.mark.case("D18")
@pytest.mark.parametrize("count", [30, 3, -3, -30])
def test_a_count_that_hides_in_the_last_block_moves_no_value(case, count):
    with case(f"wrong-count={count}") as meter:
        meter.read()
    held = meter.holds()
    assert (meter.counts(), {hold.reason for hold in held}) == ({}, {HoldReason.WORDS})
    assert {hold.likely_shift_s for hold in held} == {count // 3 * 300}
    with meter.db.connect() as conn:
        hold_decisions.shift(conn, [hold.id for hold in held], count // 3 * 300, **WHY)
    meter.assert_all_right()


@pytest.mark.parametrize("read_before", ["2026-11-01", "2026-11-20"])
@pytest.mark.parametrize("count", [30, 3])
def test_the_register_of_the_last_demand_tells_a_tail_of_filler(case, count, read_before):
    # Without 26 and 27 no calendar tells where the words begin; read today already, no records are asked for.
    with case(f"wrong-count={count}") as meter:
        with meter.db.connect() as conn:
            model = "INSERT INTO meter_parameters (session_id, meter_id, command, at, values) "
            conn.execute(
                "INSERT INTO session (meter_id, collector, purpose, protocol, url, started_at, outcome) "
                "VALUES (%s, 'c', 'read', 'nbr14522', 'x', %s, 'complete')",
                [meter.meter_id, f"{read_before} 06:00Z"],
            )
            lacks = '{"not_implemented": ["26", "27"]}'
            conn.execute(model + "SELECT id, meter_id, 57, now(), %s FROM session", [lacks])
        meter.read()
    held = meter.holds()
    assert (meter.counts(), {hold.reason for hold in held}) == ({}, {HoldReason.WORDS})
    assert "by its register" in held[0].evidence["words"]
    assert {hold.likely_shift_s for hold in held} == {count // 3 * 300}


@pytest.mark.case("D17")
@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("wait-forever", "wait too often"),
        ("wait-enq-loop", "wait too often"),
        ("stale-repeat=always", ""),
        ("cut-in-block=2", ""),
    ],
)
def test_what_never_ends_is_bounded_and_tried_again(case, mode, message):
    with case(mode) as meter:
        summary = meter.read_once()
    assert (summary.state, summary.actor, summary.sessions) == ("failed", "retry", 1)
    assert message in summary.message
    meter.assert_nothing_wrong()
    assert query(meter.db, "SELECT count(*) > 0 FROM frame") == [(True,)]


def test_floods_of_enq_before_each_block_give_no_wrong_value(case):
    with case("enq-flood=blocks") as meter:
        summary = meter.read_once()
    assert summary.state == "done" or summary.actor == "retry"
    meter.assert_nothing_wrong()


@pytest.mark.case("D14")
def test_an_outage_without_return_is_open_until_a_later_reading_tells_it(case):
    with case("open-outage") as meter:
        meter.read()
    start = datetime(2026, 11, 20, 10, 56, 40, tzinfo=UTC)
    assert query(meter.db, "SELECT started_at, ended_at FROM outage") == [(start, None)]
    meter.assert_all_right()
    assert stored(meter.db, meter.meter_id, DAY) is not None
