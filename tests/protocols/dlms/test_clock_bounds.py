"""Clocks that no honest meter has are refused like any bad octets, not by a crash."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.axdr import NULL, Data, Tag, array, octets, structure
from protocols.dlms.clock import decode_date_time, encode_date_time
from protocols.dlms.errors import RemoteProtocolError
from protocols.dlms.profile import CaptureObject, decode_rows

pytestmark = pytest.mark.req("TR-5.1")

ZONE = timezone(timedelta(hours=-3))
COLUMNS = (CaptureObject(8, "0-0:1.0.0.255", 2), CaptureObject(3, "1-0:1.29.0.255", 2))


def moment(year: int, month: int = 1, day: int = 1, deviation: int = 180) -> bytes:
    return struct.pack(">HBBBBBBBhB", year, month, day, 0xFF, 0, 0, 0, 0, deviation, 0)


@pytest.mark.parametrize(
    "raw",
    [
        moment(2026, deviation=20_000),
        moment(1, deviation=-180),
        moment(9999, 12, 31),
        moment(0),
        moment(65535),
    ],
)
def test_no_moment(raw):
    with pytest.raises(RemoteProtocolError, match="no moment"):
        decode_date_time(raw, ZONE)


@pytest.mark.parametrize("size", [0, 11, 13])
def test_a_date_time_has_twelve_octets(size):
    with pytest.raises(RemoteProtocolError, match="not 12"):
        decode_date_time((moment(2026) + b"\0")[:size], ZONE)


def test_a_moment_is_written_with_its_zone_or_not_at_all():
    with pytest.raises(ValueError, match="without zone"):
        encode_date_time(datetime(2026, 11, 21))


@given(st.binary(min_size=12, max_size=12))
def test_what_is_a_moment_can_be_told_in_any_zone(raw):
    try:
        at = decode_date_time(raw, ZONE).at
    except RemoteProtocolError:
        return
    for zone in (UTC, ZONE, timezone(timedelta(hours=14))):
        assert at.astimezone(zone) + timedelta(days=1) > at


@pytest.mark.parametrize("period_s", [86_400, 2**31, 2**32 - 1, 2**63])
def test_rows_do_not_run_out_of_the_calendar(period_s):
    buffer = array(
        structure(octets(moment(9998, 12, 31)), Data(Tag.UINT8, 1)),
        *(structure(NULL, Data(Tag.UINT8, 1)) for _ in range(3)),
    )
    rows = decode_rows(buffer, COLUMNS, period_s, ZONE)
    assert next(rows).clock.at.year == 9998
    with pytest.raises(RemoteProtocolError, match="calendar"):
        list(rows)
