"""Traffic of each telemetry unit against its monthly plan, with a forecast for the month's end (TR-5.5b).

Octets are those of the sessions, as the collector sent and received them; what the network adds (TCP/IP
headers, keep-alives between sessions) is not in them.
"""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from fractions import Fraction

from collector.work.worklist import Connection
from faults.market_time import to_local
from storage import sessions
from storage.settings import Settings

# The pace is that of the last days, so that yesterday's change of schedule shows soon and one bad night does
# not rule the forecast.
_PACE_DAYS = 7


@dataclass(frozen=True, slots=True)
class MonthTraffic:
    """A month so far. `forecast_bytes`: at its end, if the last days' pace goes on."""

    used_bytes: int
    forecast_bytes: int
    plan_bytes: int

    @property
    def used_share(self) -> Fraction:
        """Of the plan; 0 where there is none."""
        return Fraction(self.used_bytes, self.plan_bytes) if self.plan_bytes else Fraction(0)

    @property
    def is_over(self) -> bool:
        """Whether the plan will not last."""
        return bool(self.plan_bytes) and self.forecast_bytes > self.plan_bytes


def forecast_month(by_day: Mapping[date, int], plan_bytes: int, now: datetime) -> MonthTraffic:
    """What a unit has used this month and will have used at its end.

    Args:
        by_day: octets by market day; days of the month before count for the pace only.
        now: naive, market time.

    The pace is the traffic of the last seven days, today's part included, over the time since the first of
    them on which there was any: a unit installed yesterday has no week.
    """
    today = now.date()
    first = today.replace(day=1)
    used = sum(octets for day, octets in by_day.items() if first <= day <= today)
    window = {day: n for day, n in by_day.items() if today - timedelta(days=_PACE_DAYS - 1) <= day <= today}
    end = datetime.combine(first, time.min) + timedelta(days=calendar.monthrange(today.year, today.month)[1])
    active = [day for day, octets in window.items() if octets]
    if not active:
        return MonthTraffic(used, used, plan_bytes)
    # At least a day: one session at 00:01 is not a rate of 1,440 sessions a day.
    elapsed_s = max((now - datetime.combine(min(active), time.min)) // timedelta(seconds=1), 86_400)
    rest_s = (end - now) // timedelta(seconds=1)
    return MonthTraffic(used, used + sum(window.values()) * rest_s // elapsed_s, plan_bytes)


def unit_traffic(conn: Connection, settings: Settings, at: datetime) -> dict[int, MonthTraffic]:
    """By unit, of all units."""
    now = to_local(at, settings.market.tzinfo)
    since = min(now.date().replace(day=1), now.date() - timedelta(days=_PACE_DAYS))
    by_unit: dict[int, dict[date, int]] = {}
    for unit_id, day, octets in sessions.octets_by_unit(conn, since):
        by_unit.setdefault(unit_id, {})[day] = octets
    plans = conn.execute("SELECT id, monthly_plan_bytes FROM unit ORDER BY id").fetchall()
    return {unit_id: forecast_month(by_unit.get(unit_id, {}), plan, now) for unit_id, plan in plans}
