"""Warnings before the deadlines of a month, while something is still open.

What belongs here: which deadline is near enough to be told of, what is open for it, and the messages; it does
not know Dagster. What does not: the dates (`vee.calendars`), what is missing and why (`month`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date

from ccee import notices
from closing.report import ClosingReport, milestones
from storage.database import Database
from vee import calendars

# Days before a deadline at which it is told of, if something is open: a week to mend it, two days to insist,
# and the day itself. Civil days, since people count those.
LEAD_DAYS = (7, 2, 0)
# TR-2d: the registered MUSD until MS+3du, the data until MS+7du.


@dataclass(frozen=True)
class Near:
    """A deadline that is due to be told of. `lead_days` is the one of LEAD_DAYS that has been reached."""

    month: date
    code: str
    day: date
    days_left: int
    lead_days: int

    @property
    def key(self) -> str:
        return f"{self.month:%Y-%m}:{self.code}:{self.lead_days}"


@dataclass(frozen=True)
class Warned:
    """What was told. `open_items` counts UC-days for the data, hours and UCs for the MUSD."""

    near: Near
    open_items: int
    messages: int


def near_deadlines(today: date, known: calendars.Calendars) -> list[Near]:
    """Deadlines of this month and the one before that have reached a lead time and are not past."""
    this_month = calendars.Period.month(today)
    last_month = calendars.Period.month(this_month.start - calendars.ONE_DAY)
    found = []
    for period in (last_month, this_month):
        for row in milestones(period, today, known):
            reached = [lead for lead in LEAD_DAYS if 0 <= row.days_left <= lead]
            if row.code in (calendars.MUSD_CHANGE, calendars.MEASUREMENT) and reached:
                found.append(Near(period.start, row.code, row.day, row.days_left, min(reached)))
    return found


def warn(db: Database, near: Near, report: ClosingReport) -> Warned:
    """Tell each agent, once per lead time, what is open for the deadline; agents with nothing open are left
    alone.
    """
    found = _open(near, report)
    messages = 0
    with db.connect() as conn:
        rows = conn.execute("SELECT u.code, a.code FROM uc u JOIN agent a ON a.id = u.agent_id")
        agent_of: dict[str, int] = dict(rows.fetchall())
        lines: dict[int, list[str]] = {}
        for uc_code, agent_code, text in found:
            # Without an agent on that day it is told to the one that has the UC now.
            lines.setdefault(agent_code or agent_of[uc_code], []).append(text)
        for agent_code, texts in sorted(lines.items()):
            messages += notices.deadline_near(
                conn,
                agent_code=agent_code,
                month=near.month,
                code=near.code,
                day=near.day,
                lead_days=near.lead_days,
                lines=_summed_up(texts),
                open_items=len(texts),
            )
    return Warned(near, len(found), messages)


def _open(near: Near, report: ClosingReport) -> list[tuple[str, int | None, str]]:
    """(UC, agent of the day where it is known, what is open), one for each item."""
    if near.code == calendars.MEASUREMENT:
        return [(row.uc_code, row.agent_code, f"UC {row.uc_code}: {row.text}") for row in report.missing]
    return [
        (row["uc_code"], row["agent_code"], f"UC {row['uc_code']}: hora acima do limite do MUSD")
        for row in report.musd_conflicts
    ] + [
        (row["uc_code"], None, f"UC {row['uc_code']}: MUSD ausente ou padrão sem confirmação")
        for row in report.musd_unconfirmed
    ]


def _summed_up(texts: list[str]) -> list[str]:
    """Each text once, with how often it occurs, the most frequent first."""
    return [f"{text} ({count})" for text, count in Counter(texts).most_common()]
