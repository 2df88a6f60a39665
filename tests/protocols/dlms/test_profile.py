"""Clocks and load profiles of DLMS (dlms_cosem.md, sections 5 and 6)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from protocols.dlms.axdr import NULL, Data, Tag, array, octets, structure
from protocols.dlms.clock import decode_date_time, encode_date_time
from protocols.dlms.errors import RemoteProtocolError
from protocols.dlms.profile import (
    CaptureObject,
    ScalerUnit,
    by_entry,
    by_range,
    decode_capture_objects,
    decode_rows,
)

BRASILIA = timezone(timedelta(hours=-3))
COLUMNS = (
    CaptureObject(8, "0-0:1.0.0.255", 2),
    CaptureObject(1, "0-0:96.10.7.255", 2),
    CaptureObject(3, "1-0:1.29.0.255", 2),
)


def row(clock: Data, status: Data, value: Data) -> Data:
    return structure(clock, status, value)


def moment(*parts: int) -> Data:
    return octets(encode_date_time(datetime(*parts, tzinfo=BRASILIA)))


@pytest.mark.parametrize(
    ("deviation", "expected"),
    [
        ("00B4", datetime(2024, 5, 1, 12, tzinfo=BRASILIA)),
        ("0000", datetime(2024, 5, 1, 12, tzinfo=UTC)),
        ("FF88", datetime(2024, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))),
        ("8000", datetime(2024, 5, 1, 12, tzinfo=BRASILIA)),
    ],
)
def test_deviation_is_minutes_from_local_to_utc(deviation: str, expected: datetime) -> None:
    reading = decode_date_time(bytes.fromhex("07E80501FF0C0000FF" + deviation + "FF"), BRASILIA)
    assert reading.at == expected


def test_clock_status_bits_and_round_trip() -> None:
    at = datetime(2026, 11, 20, 10, 5, tzinfo=BRASILIA)
    raw = bytearray(encode_date_time(at))
    assert decode_date_time(bytes(raw), UTC).at == at
    raw[-1] = 0x83
    reading = decode_date_time(bytes(raw), UTC)
    assert (reading.is_invalid, reading.is_doubtful, reading.is_daylight_saving) == (True, True, True)
    with pytest.raises(RemoteProtocolError, match="no moment"):
        decode_date_time(bytes.fromhex("FFFFFFFFFFFFFFFFFF8000FF"), BRASILIA)


def test_null_clock_is_the_next_period_and_null_value_is_as_above() -> None:
    rows = array(
        row(moment(2026, 11, 20, 0, 5), Data(Tag.UINT8, 0), Data(Tag.UINT32, 150)),
        row(NULL, NULL, Data(Tag.UINT32, 146)),
        row(NULL, Data(Tag.UINT8, 0x80), NULL),
    )
    decoded = list(decode_rows(rows, COLUMNS, 300, BRASILIA))
    assert [item.clock.at.minute for item in decoded] == [5, 10, 15]
    assert [item.values[2].value for item in decoded] == [150, 146, 146]
    assert [item.values[1].value for item in decoded] == [0, 0, 0x80]
    assert [item.was_filled for item in decoded] == [False, True, True]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (array(row(NULL, NULL, NULL)), "first row"),
        (array(structure(NULL)), "columns"),
        (Data(Tag.UINT8, 1), "instead of a list"),
    ],
)
def test_rows_that_cannot_be_placed_are_refused(rows: Data, message: str) -> None:
    with pytest.raises(RemoteProtocolError, match=message):
        list(decode_rows(rows, COLUMNS, 300, BRASILIA))


def test_columns_are_told_by_what_they_capture() -> None:
    data = array(
        structure(
            Data(Tag.UINT16, 5), octets(bytes([1, 0, 1, 4, 0, 255])), Data(Tag.INT8, 3), Data(Tag.UINT16, 0)
        )
    )
    (column,) = decode_capture_objects(data)
    assert column == CaptureObject(5, "1-0:1.4.0.255", 3)
    assert (column.scaler_attribute, column.is_increment, column.is_clock) == (4, False, False)
    assert (COLUMNS[2].is_increment, COLUMNS[0].is_clock) == (True, True)


def test_scaled_values_are_exact() -> None:
    assert ScalerUnit(-3, 30).apply(12345) == Decimal("12.345")
    assert (ScalerUnit(3, 30).apply(12), ScalerUnit(0, 30).unit_name) == (Decimal(12000), "Wh")


def test_selections_take_both_ends_or_row_numbers() -> None:
    start = datetime(2024, 5, 1, 6, tzinfo=UTC)
    selection = by_range(start, start + timedelta(hours=1), with_deviation=False)
    assert selection.value[1].value[-3:] == b"\x80\x00\xff"
    assert by_entry(93, 96).plain() == [93, 96, 1, 0]


def test_a_written_time_says_what_the_meter_wants_of_it() -> None:
    at = datetime(2026, 11, 21, 3, 7, 30, tzinfo=timezone(timedelta(hours=-3)))
    assert encode_date_time(at).hex() == "07ea0b15ff03071e0000b400"
    told = encode_date_time(at, with_deviation=False, with_weekday=True, hundredths=0xFF, status=0x80)
    assert told.hex() == "07ea0b150603071eff800080"
    assert decode_date_time(told, at.tzinfo).at == at
