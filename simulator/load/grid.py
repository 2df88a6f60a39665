"""Local seconds: the one scale on which a meter counts.

A meter knows no zone. Its clock is a wall clock, taken here as seconds since 1970-01-01 00:00 of that wall.
Interval k of length s covers (k * s, (k + 1) * s] and is labelled by its end (reference 8.3).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

DAY_S = 86_400
# Market time has no daylight saving; a meter left on it would only differ by a clock error.
MARKET_ZONE = timezone(timedelta(hours=-3))
EPOCH_DAY = date(1970, 1, 1)


def local_seconds(instant: datetime, zone: timezone = MARKET_ZONE) -> float:
    """Wall clock seconds of an aware instant; a naive one is taken as the wall clock itself."""
    wall = instant if instant.tzinfo is None else instant.astimezone(zone)
    return wall.replace(tzinfo=UTC).timestamp()


def wall_clock(seconds: int) -> datetime:
    """The naive date and time that a clock with this many local seconds shows."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def day_number(day: date) -> int:
    """Days since 1970-01-01."""
    return (day - EPOCH_DAY).days
