"""Market time: the zone that the market's days are in, and the naive times that meters show.

CCEE's days have been at a fixed offset of -03:00 since summer time ended in 2019; older days follow the named
zone.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from faults import OperatorFault

MARKET_ZONE = "-03:00"
"""The offset where no setting says another: Brasília's, without daylight saving."""
OFFSET_PATTERN = r"[+-](0\d|1[0-4]):[0-5]\d"
"""What a setting of the market's offset looks like."""
_OFFSET = re.compile(r"^([+-])(\d{2}):(\d{2})$")


def fixed_offset(market_zone: str) -> timezone:
    """`-03:00` as a `datetime.timezone`.

    Raises:
        OperatorFault: it is not an offset.
    """
    match = _OFFSET.match(market_zone)
    if not match:
        raise OperatorFault(
            f"{market_zone!r} is not a fixed offset",
            where="[market] zone",
            remedy="use an offset such as -03:00",
        )
    sign = -1 if match[1] == "-" else 1
    return timezone(sign * timedelta(hours=int(match[2]), minutes=int(match[3])))


def parse_zone(name: str) -> tzinfo:
    """A fixed offset (`-03:00`) or a named zone (`America/Sao_Paulo`).

    Raises:
        OperatorFault: neither.
    """
    if _OFFSET.match(name):
        return fixed_offset(name)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise OperatorFault(
            f"unknown zone {name!r}", where="market_zone", remedy="use an offset such as -03:00, or a tz name"
        ) from error


def to_local(at: datetime, zone: tzinfo) -> datetime:
    """An aware time as the meter would show it: naive, market time."""
    return at.astimezone(zone).replace(tzinfo=None)
