"""The twelve octets of a COSEM date-time (reference, section 6 "Clock")."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, datetime, timedelta, timezone, tzinfo

from protocols.dlms.errors import RemoteProtocolError

_SHAPE = struct.Struct(">HBBBBBBBhB")
_UNSPECIFIED_DEVIATION = -0x8000
STATUS_INVALID = 0x01
STATUS_DOUBTFUL = 0x02
STATUS_OTHER_BASE = 0x08
STATUS_DAYLIGHT_SAVING = 0x80
STATUS_UNSPECIFIED = 0xFF
SHIFT_MOST_S = 900
"""What method 6 of a clock (shift_time) takes at most, either way."""


@dataclass(frozen=True)
class ClockReading:
    """A moment as the meter says it, and what it says about its trustworthiness."""

    at: datetime
    is_invalid: bool = False
    is_doubtful: bool = False
    has_other_base: bool = False
    is_daylight_saving: bool = False


def decode_date_time(octets: bytes, zone: tzinfo) -> ClockReading:
    """Read twelve octets.

    Args:
        octets: year 2, month, day, weekday, hour, minute, second, hundredths, deviation 2, status.
        zone: zone of the site, used where the deviation is unspecified (8000).

    The deviation is minutes from local time to UTC: UTC-3 is +180, and 0 is UTC, not "unknown".

    Raises:
        RemoteProtocolError: these are no moment.
    """
    if len(octets) != _SHAPE.size:
        raise RemoteProtocolError(f"a date-time of {len(octets)} octets, not 12", where="clock")
    year, month, day, _, hour, minute, second, hundredths, deviation, status = _SHAPE.unpack(octets)
    try:
        if not MINYEAR < year < MAXYEAR:
            raise ValueError(f"year {year}")  # no other zone or next period could be told of it
        own = zone if deviation == _UNSPECIFIED_DEVIATION else timezone(timedelta(minutes=-deviation))
        at = datetime(
            year,
            month,
            day,
            hour,
            minute,
            0 if second == 0xFF else second,
            0 if hundredths == 0xFF else hundredths * 10_000,
            tzinfo=own,
        )
    except ValueError as error:
        raise RemoteProtocolError(f"{octets.hex(' ')} is no moment: {error}", where="clock") from None
    if status == STATUS_UNSPECIFIED:
        return ClockReading(at)
    return ClockReading(
        at,
        bool(status & STATUS_INVALID),
        bool(status & STATUS_DOUBTFUL),
        bool(status & STATUS_OTHER_BASE),
        bool(status & STATUS_DAYLIGHT_SAVING),
    )


def encode_date_time(
    at: datetime,
    *,
    with_deviation: bool = True,
    with_weekday: bool = False,
    hundredths: int = 0,
    status: int | None = None,
) -> bytes:
    """Twelve octets of an aware moment; the options are what meters differ in.

    Args:
        status: None: nothing to report, or unspecified where the deviation is.
    """
    offset = at.utcoffset()
    if offset is None:
        raise ValueError("a moment without zone has no deviation")
    deviation = -int(offset.total_seconds() // 60) if with_deviation else _UNSPECIFIED_DEVIATION
    if status is None:
        status = 0x00 if with_deviation else STATUS_UNSPECIFIED
    weekday = at.isoweekday() if with_weekday else 0xFF
    return _SHAPE.pack(
        at.year, at.month, at.day, weekday, at.hour, at.minute, at.second, hundredths, deviation, status
    )
