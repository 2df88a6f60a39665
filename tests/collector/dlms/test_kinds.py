"""Readings that are judged before they become energy: each kind, as a session's record (X-acquire)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from fractions import Fraction

import pytest

from collector.coverage import covered, is_short
from collector.decoded import ClockDoubt, Decoded, MeterContext
from collector.dlms.decode import decode_dlms
from collector.work.planning import Span
from protocols.acquisition import Action
from protocols.dlms.apdu import obis_octets
from protocols.dlms.axdr import NULL, Data, Tag, array, octets, structure
from protocols.dlms.clock import DaylightSaving, DeviationSign
from protocols.dlms.models import DoubtfulClock, model_named
from tests.collector.dlms.peers.profiles import (
    INCREMENT,
    LOAD,
    MODEL,
    SERIAL,
    TOTAL,
    Session,
    at,
    intervals,
    reasons,
    wh,
)
from tests.collector.world import MARKET

CONTEXT = MeterContext(1, SERIAL, 1, MARKET)
POWER, DEMAND = "1-0:1.5.0.255", "1-0:1.4.0.255"


def captured(class_id: int, obis: str, attribute: int = 2, index: int = 0) -> Data:
    return structure(
        Data(Tag.UINT16, class_id),
        octets(obis_octets(obis)),
        Data(Tag.INT8, attribute),
        Data(Tag.UINT16, index),
    )


def scaler(value: int, unit: int) -> Data:
    return structure(Data(Tag.INT8, value), Data(Tag.ENUM, unit))


def session(*columns: Data, period_s: int = 900) -> Session:
    found = Session().got(7, LOAD, 3, array(captured(8, "0-0:1.0.0"), *columns))
    return found.got(7, LOAD, 4, wh(period_s))


def every(step_s: int, *values: Data, start: str = "2026-11-20T10:00") -> list[tuple[Data, Data]]:
    """Rows that follow one another."""
    first = datetime.fromisoformat(start)
    return [
        (at((first + number * timedelta(seconds=step_s)).isoformat()), value)
        for number, value in enumerate(values)
    ]


def decoded(record: Session, **changes) -> Decoded:
    return decode_dlms(record.frames, replace(MODEL, **changes), CONTEXT)


class TestColumns:
    def test_average_power_of_a_demand_register_has_its_scaler_in_attribute_4(self):
        record = session(captured(5, DEMAND, 3)).got(5, DEMAND, 4, scaler(1, 27))
        found = record.rows(*every(900, wh(100), wh(40))).decoded()
        assert intervals(found) == {"2026-11-20T10:00": 250, "2026-11-20T10:15": 100}

    @pytest.mark.parametrize(
        ("class_id", "attribute", "obis"), [(5, 2, DEMAND), (3, 2, DEMAND), (3, 2, "1-0:1.7.0.255")]
    )
    def test_power_that_is_no_average_of_a_period_is_none(self, class_id, attribute, obis):
        record = session(captured(class_id, obis, attribute)).got(
            class_id, obis, 3 if class_id == 3 else 4, scaler(0, 27)
        )
        found = record.rows(*every(900, wh(1000))).decoded()
        assert found.vectors == ()
        assert reasons(found)

    def test_an_average_that_is_no_whole_pulse_says_which_constant_would_do(self):
        record = session(captured(3, POWER)).got(3, POWER, 3, scaler(0, 27))
        found = record.rows(*every(900, wh(1001), wh(1001))).decoded()
        (reason,) = reasons(found)
        assert (found.vectors, 'pulse_wh = "1/4"' in reason) == ((), True)
        assert intervals(decoded(record, pulse_wh=Fraction(1, 4)))["2026-11-20T10:00"] == 1001

    def test_a_column_of_older_values_alone_is_refused(self):
        record = session(captured(3, TOTAL, 2, 2)).got(3, TOTAL, 3, scaler(0, 30))
        found = record.rows(*every(900, wh(1), wh(2))).decoded()
        assert (found.vectors, "data_index 2" in reasons(found)[0]) == ((), True)
        assert intervals(decoded(record, data_index=2)) == {"2026-11-20T10:15": 1}

    def test_a_profile_without_a_column_of_a_channel_is_told(self):
        found = session(captured(3, "1-0:32.7.0")).rows(*every(900, wh(230))).decoded()
        assert reasons(found) == ["no column of the load profile is one of the model's channels"]

    def test_another_object_stands_in_for_a_refused_one(self):
        record = session(captured(3, INCREMENT), captured(3, TOTAL))
        record.got(3, INCREMENT, 3, scaler(0, 27)).got(3, TOTAL, 3, scaler(0, 30))
        rows = [
            structure(clock, wh(9), wh(value))
            for (clock, _), value in zip(every(900, NULL, NULL), (5, 12), strict=True)
        ]
        found = record.got(7, LOAD, 2, array(*rows)).decoded()
        assert intervals(found) == {"2026-11-20T10:15": 7}
        assert "is refused: its unit is W" in reasons(found)[0]


class TestValues:
    @pytest.mark.parametrize("tag", [Tag.FLOAT32, Tag.FLOAT64])
    def test_a_float_is_the_decimal_that_it_stands_for(self, tag):
        record = session(captured(3, INCREMENT)).got(3, INCREMENT, 3, scaler(3, 30))
        found = record.rows(*every(900, Data(tag, 0.05), Data(tag, 12.345))).decoded()
        assert intervals(found) == {"2026-11-20T10:00": 50, "2026-11-20T10:15": 12345}
        assert found.issues == ()

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_float_that_is_no_number_is_missing(self, value):
        record = session(captured(3, INCREMENT)).got(3, INCREMENT, 3, scaler(0, 30))
        found = record.rows(*every(900, wh(1), Data(Tag.FLOAT64, value))).decoded()
        assert intervals(found) == {"2026-11-20T10:00": 1}
        assert reasons(found) == [f"column {INCREMENT} is no whole number"]

    @pytest.mark.parametrize(
        "ones", [Data(Tag.UINT16, 0xFFFF), Data(Tag.UINT32, 0xFFFFFFFF), Data(Tag.UINT8, 0xFF)]
    )
    def test_nothing_but_ones_is_missing_or_what_the_model_says(self, ones):
        record = session(captured(3, INCREMENT)).got(3, INCREMENT, 3, scaler(0, 30))
        record.rows(*every(900, wh(1), ones))
        found = record.decoded()
        assert intervals(found) == {"2026-11-20T10:00": 1}
        assert reasons(found) == [f"column {INCREMENT} is nothing but ones: missing"]

    def test_a_total_of_ones_is_no_good_row(self):
        record = session(captured(3, TOTAL)).got(3, TOTAL, 3, scaler(0, 30))
        found = record.rows(*every(900, wh(100), wh(0xFFFFFFFF), wh(120), wh(130))).decoded()
        assert intervals(found) == {"2026-11-20T10:45": 10}

    def test_more_than_the_meter_can_measure_is_refused(self):
        record = session(captured(3, INCREMENT)).got(3, INCREMENT, 3, scaler(0, 30))
        record.rows(*every(900, wh(30_000), wh(30_001)))
        found = decoded(record, most_kw=Fraction(120))
        assert intervals(found) == {"2026-11-20T10:00": 30_000}
        assert reasons(found) == [f"column {INCREMENT} is more than the meter can measure"]

    def test_the_first_row_may_be_null_where_its_clock_is_not(self):
        record = session(captured(3, INCREMENT)).got(3, INCREMENT, 3, scaler(0, 30))
        found = record.rows(*every(900, NULL, wh(2))).decoded()
        assert intervals(found) == {"2026-11-20T10:15": 2}
        assert reasons(found) == [f"column {INCREMENT} is null: missing"]


class TestLengths:
    def test_quarters_and_then_five_minutes_are_both_kept(self):
        record = session(captured(3, INCREMENT), period_s=300).got(3, INCREMENT, 3, scaler(0, 30))
        record.rows(*every(900, *[wh(150)] * 96, start="2026-11-19T00:15"))
        record.rows(*every(300, *[wh(50)] * 288, start="2026-11-20T00:05"))
        found = record.decoded()
        assert [(one.day.day, one.interval_s, int(one.present.sum())) for one in found.vectors] == [
            (19, 900, 96),
            (20, 300, 288),
        ]
        assert "its rows come each 300 s, 900 s: rows decide" in reasons(found)[0]
        assert found.statement is not None
        assert found.statement.lengths_s == {900: 96, 300: 288}

    def test_of_one_day_with_two_lengths_both_vectors_are_brought(self):
        record = session(captured(3, INCREMENT), period_s=300).got(3, INCREMENT, 3, scaler(0, 30))
        record.rows(*every(900, *[wh(150)] * 40, start="2026-11-20T00:15"))
        record.rows(*every(300, *[wh(50)] * 168, start="2026-11-20T10:05"))
        found = record.decoded()
        assert sorted((one.interval_s, int(one.present.sum())) for one in found.vectors) == [
            (300, 168),
            (900, 40),
        ]

    def test_a_period_of_nothing_is_no_matter_where_rows_tell(self):
        record = session(captured(3, INCREMENT), period_s=0).got(3, INCREMENT, 3, scaler(0, 30))
        assert len(intervals(record.rows(*every(900, *[wh(1)] * 5)).decoded())) == 5


class TestClocks:
    def told(self, clock: str, row: str, **changes) -> Decoded:
        record = Session().got(8, MODEL.clock_object, 2, octets(bytes.fromhex(clock)))
        record.frames += session(captured(3, INCREMENT)).frames[2:]
        record.got(3, INCREMENT, 3, scaler(0, 30))
        record.rows((octets(bytes.fromhex(row)), wh(7)))
        return decoded(record, **changes)

    def test_a_deviation_of_the_wrong_sign_is_stated_with_its_remedy(self):
        found = self.told("07EA0B15FF030000FFFF4C00", "07EA0B14FF0A0000FFFF4C00")
        facts = found.clock_facts
        assert facts is not None
        assert (facts.deviation_min, facts.zone_deviation_min, facts.row_deviations_min) == (
            -180,
            180,
            (-180,),
        )
        assert (facts.doubts, facts.likely_shift_s) == ((ClockDoubt.DEVIATION,), 21_600)
        right = self.told(
            "07EA0B15FF030000FFFF4C00", "07EA0B14FF0A0000FFFF4C00", deviation_sign=DeviationSign.INVERTED
        )
        assert intervals(right) == {"2026-11-20T10:00": 7}
        assert right.clock_facts is not None
        assert right.clock_facts.doubts == ()

    def test_summer_time_without_deviation_is_undecided_or_as_the_model_says(self):
        clock, row = "07EA0B15FF040000FF800080", "07EA0B14FF0B0000FF800080"
        found = self.told(clock, row)
        assert found.clock_facts is not None
        assert (found.clock_facts.doubts, found.clock_facts.likely_shift_s) == (
            (ClockDoubt.DAYLIGHT_SAVING,),
            -3600,
        )
        assert intervals(self.told(clock, row, daylight_saving=DaylightSaving.SHIFTED)) == {
            "2026-11-20T10:00": 7
        }
        assert intervals(self.told(clock, row, daylight_saving=DaylightSaving.STANDARD)) == {
            "2026-11-20T11:00": 7
        }

    def test_rows_of_another_sign_than_the_clock_are_told(self):
        found = self.told("07EA0B15FF030000FF00B400", "07EA0B14FF0A0000FFFF4C00")
        assert found.clock_facts is not None
        assert found.clock_facts.doubts == (ClockDoubt.ROWS,)

    @pytest.mark.parametrize(
        ("clock", "row"),
        [
            ("07EA0B15FF030000FF00B400", "07EA0B14FF0A0000FF00B400"),
            ("07EA0B15FF060000FF000000", "07EA0B14FF0D0000FF000000"),
            ("07EA0B15FF040000FF007880", "07EA0B14FF0B0000FF007880"),
        ],
        ids=["market", "UTC", "summer that is stated"],
    )
    def test_a_clock_that_states_its_time_is_not_doubted(self, clock, row):
        found = self.told(clock, row)
        assert found.clock_facts is not None
        assert (found.clock_facts.doubts, intervals(found)) == ((), {"2026-11-20T10:00": 7})

    def test_rows_of_a_doubtful_clock_are_marked_or_refused_by_the_model(self):
        record = session(captured(3, INCREMENT)).got(3, INCREMENT, 3, scaler(0, 30))
        record.rows((at("2026-11-20T10:00", 2), wh(7)))
        found = record.decoded()
        assert intervals(found) == {"2026-11-20T10:00": 7}
        assert found.statement is not None
        assert [one.action for one in found.statement.decisions] == [Action.MARKED]
        refused = decoded(record, doubtful_clock=DoubtfulClock.REFUSED)
        assert (refused.vectors, refused.issues[0].detail["flags"]) == ((), ["clock doubtful"])


class TestCoverage:
    def read(self, *rows: tuple[Data, Data]) -> Decoded:
        record = session(captured(3, INCREMENT)).got(3, INCREMENT, 3, scaler(0, 30))
        return record.rows(*rows).decoded()

    def test_rows_that_lack_are_told_by_day_and_those_refused_came(self):
        found = self.read(*every(900, *[wh(1)] * 4, Data(Tag.FLOAT32, 1.5)))
        day = Span(datetime(2026, 11, 20, 10), datetime(2026, 11, 20, 12))
        short = covered(found, [day], datetime(2026, 11, 21, 3))
        assert is_short(short)
        issue = short.issues[-1]
        assert (issue.stage, issue.detail["asked"], issue.detail["got"]) == ("coverage", 9, 5)
        assert issue.detail["missing"] == [["2026-11-20T11:00:00", "2026-11-20T12:00:00"]]

    def test_what_has_not_ended_yet_is_not_asked_for(self):
        found = self.read(*every(900, *[wh(1)] * 4))
        day = Span(datetime(2026, 11, 20, 10), datetime(2026, 11, 21))
        whole = covered(found, [day], datetime(2026, 11, 20, 10, 59))
        assert not is_short(whole)
        assert whole.statement is not None
        assert whole.statement.coverage is not None
        assert whole.statement.coverage.asked == 3

    def test_registers_in_a_unit_that_is_none_of_energy_are_left_out(self):
        record = Session().got(3, TOTAL, 2, wh(5)).got(3, TOTAL, 3, scaler(0, 27))
        found = record.decoded()
        assert found.registers == ()
        assert "its unit is W" in reasons(found)[0]


def test_every_model_reads_nulls_as_missing_unless_it_says_otherwise():
    assert {model_named(name).null_values for name in ("dlms-generic", "dlms-nbr16968", "dlms-idis")} == {
        "missing"
    }
