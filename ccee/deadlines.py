"""The closing dates of a month: milestones of the market's table, by the calendars in force."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from vee.calendars import CLOSED, MEASUREMENT, MUSD_CHANGE, Calendars, Period


@dataclass(frozen=True, slots=True)
class Closing:
    """Last days for a month: of the register (MUSD), of the data, and CCEE's own closing."""

    month: date
    register: date
    data: date
    accounting: date


def closing_of(calendars: Calendars, day: date) -> Closing:
    """The closing dates of the month of a day."""
    period = Period.month(day)
    return Closing(
        period.start,
        calendars.date_of(MUSD_CHANGE, period),
        calendars.date_of(MEASUREMENT, period),
        calendars.date_of(CLOSED, period),
    )
