"""The twelve octets of a COSEM date-time (reference, section 6 "Clock")."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta, timezone, tzinfo
from enum import StrEnum

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


# A clock of seconds since 1970 that shows another century is none.
_UNIX_FIRST, _UNIX_LAST = 946_684_800, 4_102_444_800


class DeviationSign(StrEnum):
    """Which way a make counts its deviation: the standard's is from local time to UTC, +180 at UTC-3."""

    STANDARD = "standard"
    INVERTED = "inverted"


class DaylightSaving(StrEnum):
    """What the digits are where the summer-time bit is set and the deviation is not stated."""

    UNDECIDED = "undecided"
    """Nobody knows: taken as standard time, and held."""
    SHIFTED = "shifted"
    """An hour later than standard time."""
    STANDARD = "standard"
    """Standard time: the bit only informs."""


@dataclass(frozen=True)
class ClockRules:
    """How a make states its time, where it differs from the standard or that leaves it open."""

    deviation_sign: DeviationSign = DeviationSign.STANDARD
    daylight_saving: DaylightSaving = DaylightSaving.UNDECIDED


@dataclass(frozen=True)
class ClockReading:
    """A moment as the meter says it, and what it says about its trustworthiness.

    `deviation_min`: minutes from its local time to UTC as it states them; None: it does not.
    """

    at: datetime
    is_invalid: bool = False
    is_doubtful: bool = False
    has_other_base: bool = False
    is_daylight_saving: bool = False
    deviation_min: int | None = None


def decode_date_time(octets: bytes, zone: tzinfo, rules: ClockRules | None = None) -> ClockReading:
    """Read twelve octets.

    Args:
        octets: year 2, month, day, weekday, hour, minute, second, hundredths, deviation 2, status.
        zone: zone of the site, used where the deviation is unspecified (8000).
        rules: of the make; None: the standard's.

    The deviation is minutes from local time to UTC: UTC-3 is +180, and 0 is UTC, not "unknown". The hour 24
    is the midnight that ends its day.

    Raises:
        RemoteProtocolError: these are no moment.
    """
    rules = rules or ClockRules()
    if len(octets) != _SHAPE.size:
        raise RemoteProtocolError(f"a date-time of {len(octets)} octets, not 12", where="clock")
    year, month, day, _, hour, minute, second, hundredths, deviation, status = _SHAPE.unpack(octets)
    is_stated = deviation != _UNSPECIFIED_DEVIATION
    second, hundredths = (0 if part == 0xFF else part for part in (second, hundredths))
    try:
        if not MINYEAR < year < MAXYEAR:
            raise ValueError(f"year {year}")  # no other zone or next period could be told of it
        sign = 1 if rules.deviation_sign is DeviationSign.INVERTED else -1
        own = timezone(timedelta(minutes=sign * deviation)) if is_stated else zone
        is_midnight = (hour, minute, second, hundredths) == (24, 0, 0, 0)
        at = datetime(
            year, month, day, 0 if is_midnight else hour, minute, second, hundredths * 10_000, tzinfo=own
        )
    except ValueError as error:
        raise RemoteProtocolError(f"{octets.hex(' ')} is no moment: {error}", where="clock") from None
    at += timedelta(days=is_midnight)
    stated = deviation if is_stated else None
    if status == STATUS_UNSPECIFIED:
        return ClockReading(at, deviation_min=stated)
    is_summer = bool(status & STATUS_DAYLIGHT_SAVING)
    if is_summer and not is_stated and rules.daylight_saving is DaylightSaving.SHIFTED:
        at -= timedelta(hours=1)
    return ClockReading(
        at,
        bool(status & STATUS_INVALID),
        bool(status & STATUS_DOUBTFUL),
        bool(status & STATUS_OTHER_BASE),
        is_summer,
        stated,
    )


def decode_unix_time(seconds: int) -> ClockReading:
    """A clock of whole seconds since 1970, UTC.

    Raises:
        RemoteProtocolError: it shows another century.
    """
    if not _UNIX_FIRST <= seconds < _UNIX_LAST:
        raise RemoteProtocolError(f"{seconds} s since 1970 are no moment of this century", where="clock")
    return ClockReading(datetime.fromtimestamp(seconds, UTC), deviation_min=0)


def encode_date_time(
    at: datetime,
    *,
    with_deviation: bool = True,
    with_weekday: bool = False,
    hundredths: int = 0,
    status: int | None = None,
    rules: ClockRules | None = None,
) -> bytes:
    """Twelve octets of an aware moment; the options are what meters differ in.

    Args:
        status: None: nothing to report, or unspecified where the deviation is.
        rules: of the make; None: the standard's.
    """
    offset = at.utcoffset()
    if offset is None:
        raise ValueError("a moment without zone has no deviation")
    sign = 1 if rules is not None and rules.deviation_sign is DeviationSign.INVERTED else -1
    deviation = sign * int(offset.total_seconds() // 60) if with_deviation else _UNSPECIFIED_DEVIATION
    if status is None:
        status = 0x00 if with_deviation else STATUS_UNSPECIFIED
    weekday = at.isoweekday() if with_weekday else 0xFF
    return _SHAPE.pack(
        at.year, at.month, at.day, weekday, at.hour, at.minute, at.second, hundredths, deviation, status
    )
