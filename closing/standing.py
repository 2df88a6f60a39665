"""How one day stands: every UC of it, what CCEE has, why not, who acts, what to do and by when.

What belongs here: the answer to "which UCs are missing and who must act?", for any day, as plain values. What
does not: the whole month (`report`), how it is shown (`standing_document`, `pipelines.cli.status`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl

from ccee.profile import Profile
from closing.acting import act_by, acting_on
from closing.days import month_days
from closing.report import Milestone, kwh, milestones
from documents import Language
from faults import OperatorFault
from storage.bulk import array_literal, read_frame
from storage.database import Database
from vee import calendars
from vee.quality import Cause

ORIGINS = ("measured", "backup", "estimated", "edited", "missing")
NOT_EXPECTED = "not_expected"

# What the registry does not ask for, shown all the same, so that nobody looks for it.
_NOT_DUE = """
    SELECT o.uc_id, u.code AS uc_code, u.name AS uc_name, a.code AS agent_code, o.cause
    FROM uc_day_outcome o JOIN uc u ON u.id = o.uc_id
    LEFT JOIN uc_agent c ON c.uc_id = o.uc_id AND c.valid @> o.day
    LEFT JOIN agent a ON a.id = c.agent_id
    WHERE o.day = $1::date AND o.state = 'not_expected'
"""
_READ = """
    SELECT count(DISTINCT p.id) AS points, count(DISTINCT p.id) FILTER (WHERE r.meter_id IS NOT NULL) AS read
    FROM point p
    JOIN installation i ON i.point_id = p.id AND i.role = 'main' AND i.valid && tstzrange($1, $2)
    LEFT JOIN uc_agent c ON c.uc_id = p.uc_id AND c.valid @> $3::date
    LEFT JOIN agent a ON a.id = c.agent_id
    LEFT JOIN reading_day r ON r.meter_id = i.meter_id AND r.channel = i.active_channel AND r.day = $3::date
    WHERE cardinality($4::int[]) = 0 OR a.code = ANY ($4::int[])
"""


@dataclass(frozen=True)
class UcStanding:
    """One UC of the day.

    Attributes:
        state: ready, held, incomplete, not_expected. cause: why CCEE does not have it; empty where it has.
        delivered_at: when CCEE first accepted it.
        energy_kwh: in the body that CCEE has, or in the one that it would get. zeroed_kwh: of it, in hours
            above the MUSD, which CCEE counts as zero.
    """

    uc_code: str
    uc_name: str
    agent_code: int | None
    state: str
    cause: str
    intervals: Mapping[str, int]
    energy_kwh: Decimal
    zeroed_kwh: Decimal
    is_due: bool
    is_delivered: bool
    delivered_at: datetime | None
    act_by: date | None

    @property
    def needs_action(self) -> bool:
        return self.is_due and not self.is_delivered

    def words(self, language: Language) -> tuple[str, str, str]:
        """Why CCEE does not have it, who acts, and what to do; empty where CCEE has it."""
        return acting_on(self.cause).words(language) if self.cause else ("", "", "")


@dataclass(frozen=True)
class DayStanding:
    """A day, as it stands at `as_of`.

    Attributes:
        deadline: CCEE's last day for the month's data. gaps_known: ours for knowing what is missing.
    """

    day: date
    as_of: datetime
    agent_code: int | None
    points: int
    points_read: int
    ucs: Sequence[UcStanding]
    gaps_known: Milestone
    deadline: Milestone

    @property
    def due(self) -> int:
        return sum(uc.is_due for uc in self.ucs)

    @property
    def delivered(self) -> int:
        return sum(uc.is_delivered for uc in self.ucs)

    @property
    def energy_kwh(self) -> Decimal:
        """Of what CCEE has."""
        return sum((uc.energy_kwh for uc in self.ucs if uc.is_delivered), Decimal(0))

    @property
    def zeroed_kwh(self) -> Decimal:
        return sum((uc.zeroed_kwh for uc in self.ucs if uc.is_delivered), Decimal(0))

    @property
    def intervals(self) -> dict[str, int]:
        return {origin: sum(uc.intervals[origin] for uc in self.ucs) for origin in ORIGINS}

    @property
    def waiting(self) -> list[UcStanding]:
        """What is due and CCEE does not have: grouped by cause, the commonest first."""
        rows = [uc for uc in self.ucs if uc.needs_action]
        counts = {cause: sum(uc.cause == cause for uc in rows) for cause in {uc.cause for uc in rows}}
        return sorted(rows, key=lambda uc: (-counts[uc.cause], uc.cause, uc.uc_code))

    @property
    def not_expected(self) -> list[UcStanding]:
        return [uc for uc in self.ucs if not uc.is_due and not uc.is_delivered]

    @property
    def last_delivery(self) -> datetime | None:
        return max((uc.delivered_at for uc in self.ucs if uc.delivered_at is not None), default=None)


def day_standing(
    db: Database,
    day: date,
    profile: Profile,
    as_of: datetime,
    known: calendars.Calendars | None = None,
    agent_code: int | None = None,
) -> DayStanding:
    """How a day stands.

    Args:
        as_of: now, aware; days left count from it.
        known: calendars; the market's by the settings where none are given.
        agent_code: only this agent's UCs.

    Raises:
        OperatorFault: no agent has that code.
    """
    market = db.settings.market
    known = known or calendars.market_calendars(market)
    today = as_of.astimezone(market.tzinfo).date()
    period = calendars.Period.month(day.replace(day=1))
    midnight = datetime.combine(day, datetime.min.time(), market.tzinfo)
    with db.connect() as conn:
        _check_agent(conn, agent_code)
    agents = array_literal([] if agent_code is None else [agent_code])
    with db.connect_arrow() as connection:
        rows = month_days(connection, profile, day, day)
        not_due = read_frame(connection, _NOT_DUE, [day])
        counted = read_frame(connection, _READ, [midnight, midnight + timedelta(days=1), day, agents])
    not_due = not_due.filter(~pl.col("uc_id").is_in(rows["uc_id"].implode()))
    if agent_code is not None:
        rows, not_due = (frame.filter(pl.col("agent_code") == agent_code) for frame in (rows, not_due))
    dates = {row.code: row for row in milestones(period, today, known)}
    ucs = [_standing(row, period, today, known, market.tzinfo) for row in rows.iter_rows(named=True)]
    ucs += [_not_expected(row) for row in not_due.iter_rows(named=True)]
    return DayStanding(
        day=day,
        as_of=as_of,
        agent_code=agent_code,
        points=counted["points"][0],
        points_read=counted["read"][0],
        ucs=sorted(ucs, key=lambda uc: uc.uc_code),
        gaps_known=dates[calendars.GAPS_KNOWN],
        deadline=dates[calendars.MEASUREMENT],
    )


def _check_agent(conn: Any, agent_code: int | None) -> None:
    if agent_code is None:
        return
    if conn.execute("SELECT FROM agent WHERE code = %s", [agent_code]).fetchone() is None:
        codes = [
            str(row[0]) for row in conn.execute("SELECT code FROM agent ORDER BY code LIMIT 10").fetchall()
        ]
        raise OperatorFault(
            f"no agent has the code {agent_code}",
            where="--agent",
            remedy=f"use one of the registry's: {', '.join(codes) or 'it has none yet (smf registry load)'}",
        )


def _standing(
    row: Mapping[str, Any], period: calendars.Period, today: date, known: calendars.Calendars, zone: Any
) -> UcStanding:
    cause, is_delivered = row["reason"], row["is_delivered"]
    milli = row["sent_milli"] if is_delivered else row["derived_milli"]
    accepted_at = row["first_accepted_at"]
    return UcStanding(
        uc_code=row["uc_code"],
        uc_name=row["uc_name"],
        agent_code=row["agent_code"],
        state=row["state"],
        cause=cause,
        intervals={origin: row[origin] for origin in ORIGINS},
        energy_kwh=kwh(milli or 0),
        zeroed_kwh=kwh(row["zeroed_milli"] or 0),
        is_due=row["is_due"],
        is_delivered=is_delivered,
        delivered_at=accepted_at.astimezone(zone) if accepted_at is not None else None,
        act_by=act_by(acting_on(cause).milestone, period, today, known) if cause else None,
    )


def _not_expected(row: Mapping[str, Any]) -> UcStanding:
    return UcStanding(
        uc_code=row["uc_code"],
        uc_name=row["uc_name"],
        agent_code=row["agent_code"],
        state=NOT_EXPECTED,
        cause=row["cause"] or Cause.OUTSIDE_ACTIVE_PERIOD.value,
        intervals=dict.fromkeys(ORIGINS, 0),
        energy_kwh=Decimal(0),
        zeroed_kwh=Decimal(0),
        is_due=False,
        is_delivered=False,
        delivered_at=None,
        act_by=None,
    )
