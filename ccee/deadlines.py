"""The closing dates of a month by the contract profile: numbers from it, business days from the calendars."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from ccee.profile import Profile
from vee.calendars import DEADLINE_CALENDAR, Calendars, Period


@dataclass(frozen=True, slots=True)
class Closing:
    """Last days for a month: of the register (MUSD), of the data, and CCEE's own closing."""

    month: date
    register: date
    data: date
    accounting: date


def closing_of(profile: Profile, calendars: Calendars, day: date) -> Closing:
    """The closing dates of the month of a day (MS+3du, MS+7du, MS+9du in the assumed contract).

    CCEE's own calendar serves where its years are loaded, the national one meanwhile: it gives the earliest
    date of all candidates, so working to it is harmless.
    """
    period = Period.month(day)
    numbers = profile.deadline
    name = numbers.calendar
    if name == DEADLINE_CALENDAR:
        name = calendars.deadline_calendar({period.start.year, period.following.year})

    def last_day(number: int) -> date:
        return calendars.business_day(period.following, number, name)

    return Closing(
        period.start,
        last_day(numbers.register_change_business_day),
        last_day(numbers.business_day),
        last_day(numbers.closed_business_day),
    )
