"""Who will miss the deadline at the present pace.

The pace is how fast an agent's backlog shrinks: UC-days that are over and that CCEE does not have. What is
delivered on its own morning is no pace, and neither are other UCs' days for a UC of which nothing comes: one
silent meter among thousands would look like a month that is nearly done.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum

import polars as pl

# Days that the pace is taken over: a week has all its weekdays.
PACE_DAYS = 7


class Outlook(StrEnum):
    """DONE: nothing is missing. IN_TIME, LATE: done before or after the deadline at this pace. STUCK: of some
    UCs nothing came for as long as the pace is taken over. NEVER: what is missing does not grow less.
    TOO_SOON: the month has no day before the pace's first.
    """

    DONE = "done"
    IN_TIME = "in_time"
    LATE = "late"
    STUCK = "stuck"
    NEVER = "never"
    TOO_SOON = "too_soon"


@dataclass(frozen=True)
class Forecast:
    """Args: backlog: UC-days now; stuck: of them, those of UCs of which nothing comes. pace_per_day: how many
    fewer each day. done_on: at this pace, if ever.
    """

    outlook: Outlook
    backlog: int
    pace_per_day: Decimal
    done_on: date | None
    stuck: int = 0

    @property
    def misses(self) -> bool:
        return self.outlook in (Outlook.LATE, Outlook.STUCK, Outlook.NEVER)


def forecast(days: pl.DataFrame, as_of: datetime, latest_day: date, deadline: date) -> Forecast:
    """The outlook of one agent's month.

    Args:
        days: rows of `closing.days.month_days`, of that agent.
        latest_day: the last day that is over. deadline: the last day for the data.
    """
    due = days.filter("is_due")
    backlog = int((~due["is_delivered"]).sum())
    if not backlog:
        return Forecast(Outlook.DONE, 0, Decimal(0), None)
    before = latest_day - timedelta(days=PACE_DAYS)
    then = due.filter(pl.col("day") <= before)
    if then.is_empty():
        return Forecast(Outlook.TOO_SOON, backlog, Decimal(0), None)
    moment = as_of - timedelta(days=PACE_DAYS)
    open_then = then.filter(
        pl.col("first_accepted_at").is_null() | (pl.col("first_accepted_at") > moment)
    ).height
    pace = (Decimal(open_then - backlog) / PACE_DAYS).quantize(Decimal("0.1"))
    stuck = _stuck(due, before, moment)
    if stuck:
        return Forecast(Outlook.STUCK, backlog, pace, None, stuck)
    if pace <= 0:
        return Forecast(Outlook.NEVER, backlog, pace, None)
    needed = int((backlog / pace).to_integral_value(ROUND_CEILING))
    done_on = latest_day + timedelta(days=1 + needed)
    return Forecast(Outlook.IN_TIME if done_on <= deadline else Outlook.LATE, backlog, pace, done_on)


def _stuck(due: pl.DataFrame, before: date, moment: datetime) -> int:
    """Open days of UCs that owe one since `before`, and of which nothing was accepted since `moment`."""
    is_open = ~pl.col("is_delivered")
    by_uc = due.group_by("uc_id").agg(
        open_days=is_open.sum(),
        first_open=pl.col("day").filter(is_open).min(),
        newest=pl.col("first_accepted_at").max(),
    )
    silent = pl.col("newest").is_null() | (pl.col("newest") <= moment)
    return int(by_uc.filter((pl.col("first_open") <= before) & silent)["open_days"].sum())
