"""What a person filters runs by: day, month, cause and number of points, the same for every way to start one.

What belongs here: the names of the tags and what stands in them. What does not: who starts a run (schedules,
sensors, `smf run`).
"""

from __future__ import annotations

from datetime import date

DAY_TAG, MONTH_TAG, CAUSE_TAG, POINTS_TAG = "smf/day", "smf/month", "smf/cause", "smf/points"
# Causes, as they stand in the list of runs.
BY_HAND = "by hand"
SCHEDULED = "schedule"
LATE_DATA = "late data"
NOT_SENT = "not sent yet"


def day_tags(first_day: date, last_day: date | None = None) -> dict[str, str]:
    """Tags of a run about these days."""
    days = f"{first_day}" if last_day in (None, first_day) else f"{first_day} to {last_day}"
    return {DAY_TAG: days, MONTH_TAG: f"{first_day:%Y-%m}"}


def month_tags(month: date) -> dict[str, str]:
    """Tags of a run about a month."""
    return {MONTH_TAG: f"{month:%Y-%m}"}
