"""What rows of load profiles and logs come to, however they are written (dlms_cosem.md, sections 5 and 6).

Over 500 lines: one table of rows as meters write them.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from collector.decoded import Decoded, Frame, MeterContext
from collector.dlms.decode import decode_dlms, text_of
from faults import FieldCrewFault, OperatorFault, RetryFault
from protocols.dlms.access import AccessRefused
from protocols.dlms.apdu import Attribute, get_next, get_request
from protocols.dlms.axdr import NULL, Data, Tag, array, decode, encode, encode_length, octets, structure
from protocols.dlms.models import Timestamps
from tests.collector.dlms.peers.profiles import (
    INCREMENT,
    LOAD,
    MODEL,
    READ_AT,
    SERIAL,
    TOTAL,
    Session,
    at,
    captured,
    intervals,
    reasons,
    wh,
)
from tests.collector.world import MARKET

pytestmark = pytest.mark.req("TR-5.1")

LOG = MODEL.event_logs[0]


def test_a_row_told_twice_counts_once_though_its_clock_is_null_once():
    """Requests overlap by a row: the first of an answer tells its clock, the last of one does not."""
    found = (
        Session()
        .profile()
        .rows((at("2026-11-20T10:00"), wh(1)), (NULL, wh(2)))
        .rows((at("2026-11-20T10:15"), wh(2)), (NULL, wh(3)))
        .decoded()
    )
    assert intervals(found) == {"2026-11-20T10:00": 1, "2026-11-20T10:15": 2, "2026-11-20T10:30": 3}
    assert found.issues == ()


def test_two_rows_with_one_time_are_both_held_with_the_reason():
    found = (
        Session()
        .profile()
        .rows(*((at(f"2026-11-20T10:{minute}"), wh(count)) for minute, count in (("00", 1), ("15", 2))))
        .rows((at("2026-11-20T10:15"), wh(7)), (NULL, wh(8)))
        .decoded()
    )
    assert intervals(found) == {"2026-11-20T10:00": 1, "2026-11-20T10:30": 8}
    (issue,) = found.issues
    assert issue.reason == "two rows of the load profile end at one time: the clock was set"
    assert issue.detail == {"end": "2026-11-20T10:15:00", "rows": [[None, 2], [None, 7]]}


def test_null_clocks_after_an_invalid_one_are_invalid_too():
    found = Session().profile().rows((at("2026-11-20T10:00", 1), wh(1)), (NULL, wh(2))).decoded()
    assert found.vectors == ()
    assert [issue.detail["end"] for issue in found.issues] == ["2026-11-20T10:00:00", "2026-11-20T10:15:00"]


def test_a_row_without_a_valid_time_does_not_spoil_the_others():
    nowhere = octets(b"\xff" * 12)
    found = (
        Session()
        .profile()
        .rows(
            (at("2026-11-20T10:00"), wh(1)),
            (nowhere, wh(2)),
            (NULL, wh(3)),
            (at("2026-11-20T10:45"), wh(4)),
            (NULL, wh(5)),
        )
        .decoded()
    )
    assert intervals(found) == {"2026-11-20T10:00": 1, "2026-11-20T10:45": 4, "2026-11-20T11:00": 5}
    assert len(found.issues) == 2
    assert "no moment" in found.issues[0].reason
    assert "profile row 3: nulls after a row that cannot be used" in found.issues[1].reason


def test_rows_after_a_change_of_columns_are_not_taken():
    buffer = array(structure(at("2026-11-20T10:00"), wh(1)), structure(at("2026-11-20T10:15"), wh(2), wh(3)))
    later = structure(at("2026-11-20T10:30"), wh(4))
    found = Session().profile().got(7, LOAD, 2, array(*buffer.value, later)).decoded()
    assert intervals(found) == {"2026-11-20T10:00": 1}
    assert reasons(found) == ["load profile: profile row 2: 3 columns, 2 captured"]


def test_the_period_of_a_profile_may_change_between_two_reads():
    first = Session().profile(period_s=900).rows((at("2026-11-20T10:15"), wh(3)), (NULL, wh(4))).decoded()
    second = Session().profile(period_s=300).rows((at("2026-11-20T10:35"), wh(1)), (NULL, wh(2))).decoded()
    assert intervals(first) == {"2026-11-20T10:15": 3, "2026-11-20T10:30": 4}
    assert intervals(second) == {"2026-11-20T10:35": 1, "2026-11-20T10:40": 2}


@pytest.mark.parametrize(
    "period", [Data(Tag.INT32, -900), Data(Tag.UINT32, 0), Data(Tag.BOOLEAN, True), NULL]
)
def test_a_period_that_is_none_is_refused(period):
    found = (
        Session()
        .profile()
        .got(7, LOAD, 4, period)
        .rows((at("2026-11-20T10:15"), wh(3)), (NULL, wh(4)))
        .decoded()
    )
    assert found.vectors == ()
    assert reasons(found) == ["load profile without columns, or with a period that divides no day"]


@pytest.mark.parametrize(("timestamps", "end"), [("start", "2026-11-20T10:15"), ("end", "2026-11-20T10:00")])
def test_a_row_is_dated_with_the_start_or_the_end_of_its_period(timestamps, end):
    model = replace(MODEL, timestamps=Timestamps(timestamps))
    frames = Session().profile().rows((at("2026-11-20T10:00"), wh(3))).frames
    assert intervals(decode_dlms(frames, model, MeterContext(1, SERIAL, 1, MARKET))) == {end: 3}


def test_without_its_period_a_profile_has_no_intervals():
    session = Session().got(7, LOAD, 3, array(captured(8, "0-0:1.0.0"), captured(3, INCREMENT)))
    found = session.got(3, INCREMENT, 3, _scaler(0)).rows((at("2026-11-20T10:15"), wh(3))).decoded()
    assert found.vectors == ()
    assert reasons(found) == ["load profile without columns, or with a period that divides no day"]


@pytest.mark.parametrize("value", [Data(Tag.FLOAT32, 1.5), octets(b"\x01"), Data(Tag.BOOLEAN, True)])
def test_a_column_of_fractions_is_left_out_and_the_others_are_read(value):
    found = Session().profile().rows((at("2026-11-20T10:00"), wh(1)), (NULL, value), (NULL, wh(3))).decoded()
    assert intervals(found) == {"2026-11-20T10:00": 1, "2026-11-20T10:30": 3}
    assert reasons(found) == [f"column {INCREMENT} is no whole number"]


def test_a_column_without_scaler_is_left_out_not_read_with_scaler_zero():
    session = Session().got(7, LOAD, 3, array(captured(8, "0-0:1.0.0"), captured(3, INCREMENT)))
    found = session.got(7, LOAD, 4, wh(900)).rows((at("2026-11-20T10:15"), wh(3))).decoded()
    assert found.vectors == ()
    assert reasons(found) == [f"column {INCREMENT} has no scaler: left out"]


def test_midnight_ends_the_day_before_it_and_the_year_too():
    found = Session().profile().rows((at("2025-12-31T23:45"), wh(1)), (NULL, wh(2)), (NULL, wh(3))).decoded()
    assert intervals(found) == {"2025-12-31T23:45": 1, "2026-01-01T00:00": 2, "2026-01-01T00:15": 3}
    assert [(vector.day.isoformat(), int(vector.present.sum())) for vector in found.vectors] == [
        ("2025-12-31", 2),
        ("2026-01-01", 1),
    ]
    assert {len(vector.pulses) for vector in found.vectors} == {96}


@pytest.mark.parametrize("deviation", ["00B4", "8000"])
def test_rows_of_any_deviation_are_placed_by_it(deviation):
    local = octets(bytes.fromhex(f"07EA0B14FF0A0F0000{deviation}00"))
    utc = octets(bytes.fromhex("07EA0B14FF0D1E0000000000"))
    summer = octets(bytes.fromhex("07EA0B14FF0B2D0000007880"))
    found = Session().profile().rows((local, wh(1)), (utc, wh(2)), (summer, wh(3))).decoded()
    assert intervals(found) == {"2026-11-20T10:15": 1, "2026-11-20T10:30": 2, "2026-11-20T10:45": 3}


class TestSorting:
    ROWS = ((at("2026-11-20T10:30"), wh(3)), (NULL, wh(2)), (NULL, wh(1)))

    def sorted_by(self, method: int) -> Decoded:
        return Session().profile().got(7, LOAD, 5, Data(Tag.ENUM, method)).rows(*self.ROWS).decoded()

    def test_a_null_clock_is_the_period_before_where_the_newest_comes_first(self):
        assert intervals(self.sorted_by(2)) == {
            "2026-11-20T10:00": 1,
            "2026-11-20T10:15": 2,
            "2026-11-20T10:30": 3,
        }

    def test_and_the_period_after_where_the_oldest_does(self):
        assert list(intervals(self.sorted_by(1))) == [
            "2026-11-20T10:30",
            "2026-11-20T10:45",
            "2026-11-20T11:00",
        ]

    def test_a_profile_sorted_by_value_places_only_what_tells_its_clock(self):
        found = self.sorted_by(3)
        assert intervals(found) == {"2026-11-20T10:30": 3}
        assert "not sorted by time" in found.issues[0].reason


class TestTheFuture:
    """No period has ended later than our clock and the meter's say."""

    @pytest.mark.parametrize(("end", "is_taken"), [("03:00", True), ("03:15", False)])
    def test_what_ends_as_it_is_read_has_ended(self, end, is_taken):
        found = Session().profile().rows((at(f"2026-11-21T{end}"), wh(1))).decoded()
        assert bool(found.vectors) == is_taken

    def test_rows_that_a_wrong_clock_left_ahead_of_time_are_not_taken(self):
        found = (
            Session()
            .got(8, MODEL.clock_object, 2, at("2026-11-21T03:00:00"))
            .profile()
            .rows((at("2026-11-21T03:00"), wh(1)), (at("2026-11-22T03:00"), wh(2)))
            .decoded()
        )
        assert intervals(found) == {"2026-11-21T03:00": 1}
        (issue,) = found.issues
        assert issue.reason == "a row of the load profile ends in the future"
        assert issue.detail["end"] == "2026-11-22T03:00:00"

    def test_a_fast_meters_rows_are(self):
        found = (
            Session()
            .got(8, MODEL.clock_object, 2, at("2026-11-21T03:20:00"))
            .profile()
            .rows((at("2026-11-21T03:15"), wh(1)), (at("2026-11-21T03:30"), wh(2)), at=READ_AT)
            .decoded()
        )
        assert intervals(found) == {"2026-11-21T03:15": 1}

    def test_and_what_ends_while_it_is_read(self):
        found = (
            Session()
            .got(8, MODEL.clock_object, 2, at("2026-11-21T03:20:00"))
            .profile()
            .rows((at("2026-11-21T03:30"), wh(2)), at=READ_AT + timedelta(minutes=10))
            .decoded()
        )
        assert intervals(found) == {"2026-11-21T03:30": 2}


class TestWhatAColumnCounts:
    def told(self, column: str, unit: int, scaler: int, *values: int) -> dict[str, int]:
        rows = [(at("2026-11-20T10:00"), wh(values[0])), *((NULL, wh(value)) for value in values[1:])]
        return intervals(Session().profile(column, unit=unit, scaler=scaler).rows(*rows).decoded())

    @pytest.mark.parametrize("unit", [30, 255])
    def test_a_running_total_is_one_with_and_without_a_unit(self, unit):
        assert self.told(TOTAL, unit, 0, 1000, 1007) == {"2026-11-20T10:15": 7}

    @pytest.mark.parametrize("unit", [30, 255])
    def test_an_increment_is_one_with_and_without_a_unit(self, unit):
        assert self.told(INCREMENT, unit, 0, 4, 7) == {"2026-11-20T10:00": 4, "2026-11-20T10:15": 7}

    @pytest.mark.parametrize(
        ("group_c", "unit", "channel"), [(1, 30, 1), (5, 32, 2), (8, 32, 3), (2, 30, 4)], ids=str
    )
    def test_energy_of_each_kind_is_scaled_and_its_total_grows(self, group_c, unit, channel):
        increment, total = f"1-0:{group_c}.29.0.255", f"1-0:{group_c}.8.0.255"
        assert self.told(increment, unit, 3, 5) == {"2026-11-20T10:00": 5000}
        assert self.told(total, unit, 3, 100, 105) == {"2026-11-20T10:15": 5000}

    @pytest.mark.parametrize("column", [INCREMENT, TOTAL])
    @pytest.mark.parametrize("unit", [0, 8, 27, 28, 29, 31, 32, 33])
    def test_what_is_no_energy_of_its_kind_is_refused(self, column, unit):
        rows = [(at("2026-11-20T10:00"), wh(100)), (NULL, wh(105))]
        found = Session().profile(column, unit=unit).rows(*rows).decoded()
        assert found.vectors == ()
        (reason,) = reasons(found)
        assert reason.startswith(f"column {column} is refused: its unit is ")

    @pytest.mark.parametrize(
        ("scaler", "raw", "pulses"),
        [(-3, 5000, 5), (-2, 500, 5), (-1, 50, 5), (0, 5, 5), (1, 5, 50), (2, 5, 500), (3, 5, 5000)],
    )
    def test_scalers_of_both_signs_are_exact(self, scaler, raw, pulses):
        assert self.told(INCREMENT, 30, scaler, raw) == {"2026-11-20T10:00": pulses}

    def test_a_total_restarts_after_a_missing_row_and_never_goes_backwards(self):
        found = (
            Session()
            .profile(TOTAL)
            .rows(
                (at("2026-11-20T10:00"), wh(100)),
                (at("2026-11-20T10:30"), wh(130)),
                (NULL, wh(140)),
                (NULL, wh(3)),
                (NULL, wh(5)),
            )
            .decoded()
        )
        assert intervals(found) == {"2026-11-20T10:45": 10, "2026-11-20T11:15": 2}
        assert [issue.detail["value"] for issue in found.issues] == [-137]

    @pytest.mark.parametrize(
        "scaler",
        [Data(Tag.INT64, 10**18), Data(Tag.INT16, -128), Data(Tag.INT32, 10**7), Data(Tag.BOOLEAN, True)],
    )
    def test_a_scaler_beyond_an_i8_is_none(self, scaler):
        session = Session().got(8, MODEL.clock_object, 2, at("2026-11-21T03:00"))
        session.profile(TOTAL).got(3, TOTAL, 2, wh(5)).rows((at("2026-11-20T10:00"), wh(1)), (NULL, wh(2)))
        bad = structure(scaler, Data(Tag.ENUM, 30))
        session.frames = [
            Frame(one.seq, one.at, one.is_sent, True, one.payload.replace(encode(_scaler(0)), encode(bad)))
            for one in session.frames
        ]
        found = session.decoded()
        assert found.vectors == ()
        assert any("scaler" in reason for reason in reasons(found))


def _scaler(scaler: int) -> Data:
    return structure(Data(Tag.INT8, scaler), Data(Tag.ENUM, 30))


@pytest.mark.parametrize(
    "capture", [structure(octets(b"x"), octets(bytes(6)), NULL), structure(NULL, NULL, NULL)]
)
def test_columns_that_are_none_are_refused(capture):
    found = Session().got(7, LOAD, 3, array(capture)).decoded()
    assert "without class, code and attribute" in reasons(found)[0]


def test_a_column_of_another_attribute_of_the_clock_is_not_the_rows_moment():
    columns = array(captured(8, "0-0:1.0.0", 4), captured(8, "0-0:1.0.0"), captured(3, INCREMENT))
    session = Session().profile().got(7, LOAD, 3, columns)
    row = structure(Data(Tag.UINT8, 0), at("2026-11-20T10:00"), wh(9))
    assert intervals(session.got(7, LOAD, 2, array(row)).decoded()) == {"2026-11-20T10:00": 9}


class TestEventLogs:
    def log(self, *columns: Data, rows: tuple[Data, ...]) -> Decoded:
        return Session().got(7, LOG, 3, array(*columns)).got(7, LOG, 2, array(*rows)).decoded()

    def test_the_code_is_found_by_what_its_column_captures(self):
        columns = captured(8, "0-0:1.0.0"), captured(1, "0-0:96.10.7"), captured(1, "0-0:96.11.0")
        row = structure(at("2026-11-20T10:00"), Data(Tag.UINT8, 4), Data(Tag.UINT8, 77))
        (change,) = self.log(*columns, rows=(row,)).changes
        assert (change.code, change.reader_serial) == (77, LOG)

    @pytest.mark.parametrize(
        ("code", "is_one"),
        [
            (Data(Tag.UINT16, 2**15 - 1), True),
            (Data(Tag.UINT16, 2**15), False),
            (Data(Tag.INT8, 0), True),
            (Data(Tag.INT8, -1), False),
            (octets(b"x"), False),
        ],
    )
    def test_a_code_that_is_none_is_told(self, code, is_one):
        columns = captured(8, "0-0:1.0.0"), captured(1, "0-0:96.11.0")
        found = self.log(*columns, rows=(structure(at("2026-11-20T10:00"), code),))
        assert [change.code for change in found.changes] == ([code.value] if is_one else [])
        assert reasons(found) == ([] if is_one else [f"event log {LOG}: no event code"])

    def test_a_row_without_a_moment_does_not_take_the_log_with_it(self):
        columns = captured(8, "0-0:1.0.0"), captured(1, "0-0:96.11.0")
        rows = (
            structure(octets(b"\xff" * 12), Data(Tag.UINT8, 1)),
            structure(at("2026-11-20T10:00"), Data(Tag.UINT8, 2)),
        )
        found = self.log(*columns, rows=rows)
        assert [change.code for change in found.changes] == [2]
        assert "no moment" in reasons(found)[0]


@pytest.mark.parametrize(
    ("octets_", "text"),
    [
        ("09083132333400000000", "1234"),
        ("0A083132333400000000", "1234"),
        ("0C0431320000", "12"),
        ("0C03FF3132", "ff3132"),
        ("0A03E93132", "e93132"),
        ("0612345678", "305419896"),
        ("00", None),
        ("0301", None),
    ],
)
def test_a_serial_is_text_that_can_be_stored_whatever_type_carries_it(octets_, text):
    assert text_of(decode(bytes.fromhex(octets_))) == text


def test_only_the_object_of_the_serial_number_says_who_answers():
    session = Session()
    session.frames.clear()
    session.got(1, "1-0:0.2.0", 2, octets(b"FIRMWARE")).got(7, MODEL.serial_object, 2, octets(b"99999999"))
    found = session.got(1, MODEL.serial_object, 2, octets(SERIAL.encode())).decoded()
    assert (found.meter_serial, found.is_held) == (SERIAL, False)


def test_a_register_that_is_no_whole_number_is_told():
    found = Session().got(3, MODEL.registers[0], 2, Data(Tag.FLOAT32, 1.5)).decoded()
    assert reasons(found) == [f"register {MODEL.registers[0]} is no whole number"]


def test_a_register_without_scaler_is_left_out_not_read_with_scaler_zero():
    session = Session().got(8, MODEL.clock_object, 2, at("2026-11-21T03:00"))
    for obis in MODEL.registers[:2]:
        session.got(3, obis, 2, wh(12345))
    found = session.got(3, MODEL.registers[0], 3, _scaler(-1)).decoded()
    assert [row.values for row in found.registers] == [{"raw": 12345, "scaler": -1, "unit": 30}]
    assert reasons(found) == [f"register {MODEL.registers[1]} has no scaler: left out"]


def test_registers_of_a_meter_whose_clock_tells_no_moment_have_our_time():
    session = Session().got(8, MODEL.clock_object, 2, octets(b"\xff" * 12))
    session.got(3, MODEL.registers[0], 2, wh(5)).got(3, MODEL.registers[0], 3, _scaler(0))
    found = session.decoded()
    assert [(row.at, row.values["raw"]) for row in found.registers] == [(READ_AT, 5)]
    assert "no moment" in reasons(found)[0]


def test_a_long_profile_in_small_blocks_is_whole_though_rows_are_cut():
    """1440 rows, as of five days of five minutes, whose nulls reach over blocks."""
    rows = [(at("2026-11-15T00:05"), wh(0)), *((NULL, wh(count % 7)) for count in range(1, 1440))]
    session = Session().profile(period_s=300)
    raw = encode(array(*(structure(*row) for row in rows)))
    pieces = [raw[place : place + 100] for place in range(0, len(raw), 100)]
    for number, piece in enumerate(pieces, start=1):
        asked = get_next(number - 1) if number > 1 else get_request(Attribute(7, LOAD, 2))
        head = b"\xc4\x02\xc1" + bytes([number == len(pieces)]) + number.to_bytes(4, "big") + b"\0"
        for is_sent, apdu in ((True, asked), (False, head + encode_length(len(piece)) + piece)):
            session.frames.append(Frame(len(session.frames) + 1, READ_AT, is_sent, True, apdu))
    found = session.decoded()
    assert found.issues == ()
    assert list(intervals(found).values()) == [count % 7 for count in range(1440)]
    assert [int(vector.present.sum()) for vector in found.vectors] == [288] * 5


def test_a_profile_without_rows_is_no_matter():
    found = Session().profile().rows().decoded()
    assert (found.vectors, found.issues) == ((), ())


@pytest.mark.parametrize(
    ("code", "fault"),
    [(1, FieldCrewFault), (2, RetryFault), (14, RetryFault), (3, OperatorFault), (13, OperatorFault)],
)
def test_a_refusal_names_who_must_act(code, fault):
    refused = AccessRefused(Attribute(7, LOAD, 2), code).as_fault("the meter refuses", "here", "check rights")
    assert type(refused) is fault
    assert (refused.where, bool(refused.remedy)) == ("here", True)
    assert LOAD in refused.message


@pytest.mark.parametrize(("count", "is_taken"), [(2**31 - 1, True), (2**31, False), (2**32 - 1, False)])
def test_a_count_beyond_the_readings_is_left_out_with_the_reason(count, is_taken):
    found = Session().profile().rows((at("2026-11-20T10:00"), wh(count)), (NULL, wh(5))).decoded()
    assert intervals(found) == ({"2026-11-20T10:00": count} if is_taken else {}) | {"2026-11-20T10:15": 5}
    assert [issue.detail["value"] for issue in found.issues] == ([] if is_taken else [count])


@pytest.mark.parametrize("moment", ["2026-11-20T10:07", "2026-11-20T10:15:06", "2026-11-20T10:14:54"])
def test_a_row_off_the_grid_is_in_no_interval(moment):
    """A period that was cut short when the clock was set belongs to no slot."""
    found = Session().profile().rows((at("2026-11-20T10:00"), wh(1)), (at(moment), wh(2))).decoded()
    assert intervals(found) == {"2026-11-20T10:00": 1}
    assert reasons(found) == ["a row of the load profile is off the grid"]


def test_many_bad_rows_are_told_so_often_and_no_more():
    rows = [(at(f"2026-11-20T{number // 60:02}:{number % 60:02}:30"), wh(1)) for number in range(600)]
    assert len(Session().profile().rows(*rows).decoded().issues) == 500


@pytest.mark.parametrize("scaler", [-1, 0, 3])
def test_a_count_of_nothing_that_has_a_unit_is_pulses_whatever_its_scaler(scaler):
    found = Session().profile(INCREMENT, unit=255, scaler=scaler).rows((at("2026-11-20T10:00"), wh(7)))
    assert intervals(found.decoded()) == {"2026-11-20T10:00": 7}


@pytest.mark.parametrize(
    "invalid",
    [
        Data(Tag.UINT8, 0x80),
        Data(Tag.UINT32, 0x80),
        octets(b"\x80"),
        octets(b"\x00\x80"),
        Data(Tag.BIT_STRING, "10000000"),
    ],
    ids=["octet", "double long", "octets", "two octets", "bits"],
)
def test_a_row_is_invalid_whatever_type_says_so(invalid):
    columns = array(captured(8, "0-0:1.0.0"), captured(1, "0-0:96.10.7"), captured(3, INCREMENT))
    session = Session().profile().got(7, LOAD, 3, columns)
    good, bad = (
        structure(at(f"2026-11-20T10:{minute}"), status, wh(9))
        for minute, status in (("00", Data(Tag.UINT8, 0)), ("15", invalid))
    )
    found = session.got(7, LOAD, 2, array(good, bad)).decoded()
    assert intervals(found) == {"2026-11-20T10:00": 9}
    assert found.issues[0].detail == {"end": "2026-11-20T10:15:00", "flags": ["invalid"]}


@pytest.mark.parametrize(
    ("status", "is_told"),
    [(0x00, False), (0x01, True), (0x02, True), (0x03, True), (0x84, False), (0xFF, False)],
)
def test_a_clock_that_doubts_itself_is_told(status, is_told):
    found = Session().got(8, MODEL.clock_object, 2, at("2026-11-21T03:00:00", status)).decoded()
    assert bool(found.issues) == is_told
    assert not is_told or "invalid or doubtful" in found.issues[0].reason


@pytest.mark.parametrize(
    ("serial", "reason"), [(None, "does not tell its serial number"), (b"10000002", "another meter answered")]
)
def test_who_does_not_say_the_serial_of_the_registry_is_held(serial, reason):
    session = Session().profile().rows((at("2026-11-20T10:00"), wh(1)))
    del session.frames[:2]
    if serial is not None:
        session.got(1, MODEL.serial_object, 2, octets(serial))
    found = session.decoded()
    assert found.is_held
    assert [told for told in reasons(found) if told.startswith("V10: ") and reason in told]


def test_nobody_who_said_nothing_is_held():
    session = Session()
    session.frames.clear()
    found = session.decoded()
    assert (found.is_held, found.issues, found.parameters) == (False, (), ())


def test_the_first_look_at_the_clock_counts():
    """And the meter looked at it in the middle of its round trip."""
    session = Session().got(8, MODEL.clock_object, 2, at("2026-11-21T03:00:03"))
    session.frames[-1] = replace(session.frames[-1], at=READ_AT + timedelta(seconds=10))
    found = session.got(8, MODEL.clock_object, 2, at("2026-11-21T03:10:00")).decoded()
    assert found.clock is not None
    assert (found.clock.drift_s, found.clock.round_trip_s) == (-2, 10)


def test_a_clock_that_is_no_date_time_is_no_clock():
    found = Session().got(8, MODEL.clock_object, 2, wh(7)).decoded()
    assert (found.clock, found.issues) == (None, ())


def test_a_profile_that_was_not_asked_for_rows_is_no_matter():
    found = Session().got(7, LOAD, 5, Data(Tag.ENUM, 1)).decoded()
    assert (found.vectors, found.issues) == ((), ())


def test_what_the_meter_refuses_and_what_broke_off_is_told_apart():
    session = Session().profile()
    session.answered(3, MODEL.registers[0], 2, b"\xc4\x01\xc1\x01\x03")
    session.answered(3, MODEL.registers[1], 2, b"\xc4\x01\xc1\x00\x09\x05A")
    found = session.decoded()
    parameters = {row.command: row.values for row in found.parameters}
    assert parameters[7]["refused"] == {f"{MODEL.registers[0]} attribute 2": 3}
    assert [issue.stage for issue in found.issues] == ["frame"]
