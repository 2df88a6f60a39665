"""Meters that misbehave, read over sockets to the database: read right, or held or refused with words.

The peers are of nobody here (`rude`); what each mode should end with is the table of their own page.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest

from protocols.dlms import models
from tests.collector.dlms.peers.rude import SERIAL, Read, is_absent, read_rude
from tests.collector.world import DAY

pytestmark = [pytest.mark.req("TR-5.1", "X-acquire"), is_absent]

BEFORE = DAY - timedelta(days=1)
BOTH = (BEFORE, DAY)
FULL = {DAY: 288}
MODELS = """
[models.dlms-rude]
extends = "dlms-generic"
[models.dlms-rude-hdlc]
extends = "dlms-generic-hdlc"
[models.dlms-rude-password]
extends = "dlms-generic-hdlc"
client = 3
authentication = "lls"
[models.dlms-rude-tolerant]
extends = "dlms-generic"
tolerates_trailing = true
[models.dlms-rude-above]
extends = "dlms-generic"
null_values = "above"
[models.dlms-rude-inverted]
extends = "dlms-generic"
deviation_sign = "inverted"
[models.dlms-rude-summer]
extends = "dlms-generic"
daylight_saving = "shifted"
[models.dlms-rude-strict]
extends = "dlms-generic"
grid_tolerance_s = 2
[models.dlms-rude-impatient]
extends = "dlms-generic"
answer_s = 2
[models.dlms-rude-entry]
extends = "dlms-generic"
access = ["entry"]
[models.dlms-rude-gmac]
extends = "dlms-generic"
client = 1
authentication = "gmac"
"""


@pytest.fixture(autouse=True)
def catalogue():
    models.add_catalogue("rude", MODELS)
    yield
    models.remove_catalogue("rude")


def counts(found: Read) -> dict[date, int]:
    """Intervals of channel 1 by day."""
    days: dict[date, int] = {}
    for day, _, pulses in found.rows:
        days[day] = days.get(day, 0) + sum(one is not None for one in pulses)
    return days


def assert_whole(found: Read, value: int = 50) -> None:
    assert (found.outcome, found.values(), counts(found)[DAY]) == ("complete", {value}, 288)


@pytest.mark.parametrize("model", ["dlms-rude", "dlms-rude-hdlc"])
def test_a_polite_meter_has_no_issue(embedded_db, model):
    found = read_rude(embedded_db, model=model, options=("--hdlc",) if "hdlc" in model else ())
    assert_whole(found)
    assert (found.issues, found.error, found.decisions("marked")) == ([], None, [])
    assert found.statement["coverage"] == {"asked": 288, "got": 288, "interval_s": 300, "missing": []}
    (column,) = (one for one in found.statement["columns"] if one["channel"] == 1)
    assert column == {
        "channel": 1,
        "quantity": 1,
        "name": "1-0:1.8.0.255 attribute 2",
        "holds": "total",
        "unit": "Wh",
        "scaler": 0,
        "constant": "1",
        "refused": None,
    }


class TestWrongNumbers:
    @pytest.mark.case("A1")
    @pytest.mark.parametrize("row", [120, 576, 0, 1])
    def test_a_total_with_a_wrong_row_gives_no_interval_there_nor_behind(self, embedded_db, row):
        found = read_rude(embedded_db, f"low-row={row}", days=BOTH)
        lost = {row, row + 1} & set(range(1, 577))
        start = datetime.combine(BEFORE, datetime.min.time())
        expected = {start + timedelta(minutes=5 * one) for one in range(1, 577) if one not in lost}
        assert found.intervals == dict.fromkeys(expected, 50)
        assert found.says("running total") or found.says("begins again")

    @pytest.mark.case("A2")
    @pytest.mark.parametrize("mode", ["unit-watt", "unit-zero"])
    def test_an_energy_code_without_a_unit_of_energy_is_refused(self, embedded_db, mode):
        found = read_rude(embedded_db, mode)
        assert found.rows == []
        assert found.says("column 1-0:1.8.0.255 is refused: its unit is")
        assert all(column["refused"] for column in found.statement["columns"])

    @pytest.mark.case("A3", "D20")
    @pytest.mark.parametrize("class_id", [3, 5])
    @pytest.mark.parametrize(("period_s", "step", "energy"), [(300, 50, 50), (900, 250, 250)])
    def test_average_power_is_converted(self, embedded_db, class_id, period_s, step, energy):
        options = ("--period", str(period_s), "--step", str(step))
        mode = f"power-column={class_id}"
        found = read_rude(embedded_db, mode, options=options, interval_s=period_s)
        assert (found.outcome, found.values(), found.issues) == ("complete", {energy}, [])
        assert counts(found)[DAY] == 86_400 // period_s
        (converted,) = found.decisions("converted")
        assert converted["column"] == "1-0:1.5.0.255"

    def test_average_power_that_is_no_whole_pulse_says_what_would_be(self, embedded_db):
        found = read_rude(
            embedded_db, "power-column", options=("--step", "7", "--period", "900"), interval_s=900
        )
        assert (found.values(), found.issues) == ({7}, [])

    @pytest.mark.case("A4")
    def test_of_a_column_captured_twice_the_present_value_counts(self, embedded_db):
        found = read_rude(embedded_db, "double-capture")
        assert_whole(found)
        assert found.issues == []
        assert [one["refused"] for one in found.statement["columns"]] == [
            "captured with data_index 2: not the present value",
            None,
        ]

    @pytest.mark.case("A5")
    def test_nulls_are_missing(self, embedded_db):
        found = read_rude(embedded_db, "null-increment")
        assert (found.values(), counts(found)[DAY]) == ({54}, 96)
        assert found.says("column 1-0:1.29.0.255 is null: missing")

    @pytest.mark.case("A5")
    def test_or_the_value_above_where_the_model_says_so_and_marked(self, embedded_db):
        found = read_rude(embedded_db, "null-increment", model="dlms-rude-above")
        assert_whole(found, 54)
        (marked,) = found.decisions("marked")
        assert (marked["count"], marked["column"]) == (192, "1-0:1.29.0.255")


class TestClocks:
    """The facts that a session states are judged by the gate; what the model knows is read right."""

    @pytest.mark.case("A6", "A7")
    @pytest.mark.parametrize(
        ("mode", "shift_s"), [("clock-inverted-deviation", 21_600), ("clock-8000-dst", -3600)]
    )
    def test_a_clock_that_disagrees_about_its_zone_is_held(self, embedded_db, mode, shift_s):
        found = read_rude(embedded_db, mode)
        assert (found.rows, {reason for _, reason in found.held}) == ([], {"clock"})
        assert (found.outcome, found.likely_shifts) == ("partial", {shift_s})
        assert found.error["actor"] == "operator"

    def test_a_sign_that_the_model_knows_is_read_right(self, embedded_db):
        found = read_rude(embedded_db, "clock-inverted-deviation", model="dlms-rude-inverted")
        assert_whole(found)
        assert abs(found.drift_s) < 60

    @pytest.mark.case("A7")
    def test_summer_time_that_the_model_knows_is_read_at_standard_time(self, embedded_db):
        found = read_rude(embedded_db, "clock-8000-dst", model="dlms-rude-summer")
        assert_whole(found)
        assert abs(found.drift_s) < 60

    @pytest.mark.case("D21")
    @pytest.mark.parametrize("days", [-30, 365])
    def test_a_clock_days_off_is_named_and_the_read_is_not_complete(self, embedded_db, days):
        found = read_rude(embedded_db, f"clock-days={days}")
        assert found.outcome == "partial"
        assert found.says(f"the meter's clock is {abs(days)} days")
        assert (found.rows, found.statement["coverage"]["got"]) == ([], 0)
        assert {day + timedelta(days=-days) for day, _ in found.held} <= {BEFORE, DAY}
        assert found.held


class TestNextWays:
    @pytest.mark.case("D1")
    @pytest.mark.parametrize("mode", ["empty-array", "range-exception", "range-refused", "range-refused=250"])
    @pytest.mark.parametrize("entry", [(), ("entry-last-zero-refused",), ("entry-last-zero-refused=empty",)])
    def test_rows_come_by_number_where_ranges_bring_none(self, embedded_db, mode, entry):
        found = read_rude(embedded_db, mode, *entry)
        assert_whole(found)
        assert found.issues == []
        assert found.statement["questions"][-1].startswith("rows by number ")

    @pytest.mark.case("D2")
    def test_a_meter_that_is_read_by_number_alone_is_asked_for_explicit_ones(self, embedded_db):
        assert_whole(read_rude(embedded_db, "entry-last-zero-refused", model="dlms-rude-entry"))

    @pytest.mark.case("D1")
    def test_rows_that_no_way_brings_are_told_with_question_and_answer(self, embedded_db):
        found = read_rude(embedded_db, days=(DAY, DAY - timedelta(days=5)))
        assert found.outcome == "partial"
        ((stage, _, detail),) = found.issues
        assert (stage, detail["asked"], detail["got"]) == ("coverage", 576, 288)
        assert any(": 0 rows" in question for question in detail["questions"])


class TestShapes:
    @pytest.mark.case("D7")
    @pytest.mark.parametrize("mode", ["count-one-too-small", "trailing-octets", "block-surplus"])
    def test_surplus_octets_are_refused(self, embedded_db, mode):
        found = read_rude(embedded_db, mode)
        assert (found.outcome, found.rows, found.error["actor"]) == ("partial", [], "retry")
        assert "surplus octets" in found.error["message"]

    @pytest.mark.parametrize("mode", ["count-one-too-small", "trailing-octets", "block-surplus"])
    def test_or_told_where_the_model_tolerates_them(self, embedded_db, mode):
        found = read_rude(embedded_db, mode, model="dlms-rude-tolerant")
        assert (found.values(), found.error) == ({50}, None)
        assert found.says("surplus octets were passed over")
        assert counts(found)[DAY] >= 287

    @pytest.mark.case("D6")
    @pytest.mark.parametrize("period_s", [300, 900])
    def test_rows_decide_against_the_stated_period(self, embedded_db, period_s):
        options = ("--period", str(period_s))
        found = read_rude(embedded_db, "period-60", options=options, interval_s=period_s)
        assert (found.values(), counts(found)[DAY]) == ({50}, 86_400 // period_s)
        assert found.says(f"states a period of 60 s, and its rows come each {period_s} s: rows decide")

    @pytest.mark.case("A15")
    @pytest.mark.parametrize(
        "mode",
        [
            "off-grid",
            "off-grid=-3",
            "off-grid=3@400",
            "float-values",
            "float-values=64",
            "unix-clock",
            "unix-clock=data",
            "hour-24",
        ],
    )
    def test_rows_beside_the_grid_floats_and_odd_clocks_are_read(self, embedded_db, mode):
        found = read_rude(embedded_db, mode)
        assert_whole(found)
        assert found.issues == []

    @pytest.mark.parametrize(("mode", "lost"), [("off-grid", 288), ("off-grid=3@400", 2)])
    def test_not_where_the_models_tolerance_is_less(self, embedded_db, mode, lost):
        found = read_rude(embedded_db, mode, model="dlms-rude-strict")
        assert counts(found).get(DAY, 0) == 288 - lost
        assert found.says("off the grid")

    def test_intervals_that_change_their_length_at_midnight_are_all_there(self, embedded_db):
        found = read_rude(embedded_db, "mixed-interval", days=BOTH, interval_s=300)
        lengths = {(day, length) for day, length, _ in found.rows} | {
            (day, 900) for day, reason in found.held if reason == "interval"
        }
        assert lengths == {(BEFORE, 900), (DAY, 300)}
        assert found.says("its rows come each 300 s, 900 s: rows decide")

    @pytest.mark.case("A11")
    def test_of_a_day_with_two_lengths_neither_half_is_lost_silently(self, embedded_db):
        found = read_rude(embedded_db, "mixed-interval=10:00", days=BOTH)
        assert found.says("its rows come each 300 s, 900 s: rows decide")
        (stored,) = {length for one, length, _ in found.rows if one == DAY}
        merged = (detail for stage, _, detail in found.issues if stage == "merge")
        refused = {detail["refused_shape"]["interval_s"] for detail in merged}
        held = {900} if (DAY, "interval") in found.held else set()
        assert {stored} | refused | held == {300, 900}


class TestStrays:
    @pytest.mark.case("D5")
    @pytest.mark.parametrize(
        "mode", ["event-notification", "event-notification=all", "late-answer=all", "late-answer"]
    )
    @pytest.mark.parametrize("model", ["dlms-rude", "dlms-rude-hdlc"])
    def test_what_comes_in_between_is_passed_over_and_counted(self, embedded_db, mode, model):
        found = read_rude(embedded_db, mode, model=model, options=("--hdlc",) if "hdlc" in model else ())
        assert_whole(found)
        assert found.issues == []
        (passed,) = found.decisions("passed over")
        assert passed["count"] > 0


class TestFaults:
    @pytest.mark.case("D3")
    def test_a_counter_that_the_meter_states_is_told(self, embedded_db):
        found = read_rude(embedded_db, "aare-d8")
        assert (found.outcome, found.error["actor"]) == ("failed", "operator")
        assert "invocation counter error 4660" in found.error["message"]

    @pytest.mark.case("D3")
    def test_a_key_fault_is_the_operators_and_not_tried_again(self, embedded_db):
        found = read_rude(embedded_db, "aare-d8=d80105")
        assert (found.error["actor"], "deciphering error" in found.error["message"]) == ("operator", True)

    @pytest.mark.case("D4")
    def test_a_stale_link_is_closed_and_opened_again(self, embedded_db, secrets):
        found = read_rude(
            embedded_db,
            "dm-to-snrm",
            model="dlms-rude-password",
            options=("--hdlc", "--password", "12345678"),
            settings={"dlms_secrets_path": secrets},
        )
        assert_whole(found)

    def test_a_link_that_is_never_given_is_a_fault_of_retry_and_bounded(self, embedded_db):
        found = read_rude(embedded_db, "dm-to-snrm=always", model="dlms-rude-hdlc", options=("--hdlc",))
        assert (found.outcome, found.error["actor"]) == ("failed", "retry")
        assert found.frames < 10

    def test_a_dropped_connection_keeps_what_came(self, embedded_db):
        found = read_rude(embedded_db, "drop-in-block")
        assert (found.outcome, found.error["actor"], found.frames > 20) == ("partial", "retry", True)

    def test_a_slow_meter_is_read(self, embedded_db):
        assert_whole(read_rude(embedded_db, "slow-drip", options=("--columns", "1.8.0")))

    @pytest.mark.parametrize(
        "mode", ["huge-length=array", "huge-length=octets", "huge-length=wrapper", "empty-answer"]
    )
    def test_lengths_that_are_none_are_faults_of_retry(self, embedded_db, mode):
        found = read_rude(embedded_db, mode, model="dlms-rude-impatient")
        assert (found.rows, found.error["actor"]) == ([], "retry")

    @pytest.mark.case("D16")
    def test_an_empty_answer_over_hdlc_is_one_of_retry(self, embedded_db):
        found = read_rude(embedded_db, "empty-answer", model="dlms-rude-hdlc", options=("--hdlc",))
        assert (found.error["actor"], found.error["message"]) == ("retry", "an answer without octets")


@pytest.fixture
def secrets(tmp_path):
    path = tmp_path / "secrets.toml"
    path.write_text(f'[meters.{SERIAL}]\npassword = "12345678"\n')
    path.chmod(0o600)
    return path
