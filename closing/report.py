"""The closing of a month: every UC-day that is due, what is missing and why, by when it must be mended.

What belongs here: the month's report, as plain values; it does not know Dagster. What does not: the reasons a
day is not ready (`vee.quality.Cause`, decided when the day was derived), the dates (`vee.calendars`), how the
report is set (`document`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any

import orjson
import polars as pl

from ccee.profile import Profile
from closing.acting import act_by, acting_on
from closing.days import month_days
from closing.forecast import Forecast, forecast
from storage.bulk import read_frame
from storage.database import Database
from vee import calendars
from vee.missing import TEXTS, MissingCause

_MUSD = """
    SELECT u.code AS uc_code, a.code AS agent_code, m.day, m.hour::int AS hour,
           m.energy_kwh::text AS energy_kwh, m.musd_kw::text AS musd_kw, m.limit_kwh::text AS limit_kwh,
           now.musd_kw::text AS musd_now_kw
    FROM musd_hour m
    JOIN uc u ON u.id = m.uc_id
    JOIN uc_status st ON st.uc_id = m.uc_id AND is_submitted(st.status) AND st.valid @> m.day
    LEFT JOIN uc_agent c ON c.uc_id = m.uc_id AND c.valid @> m.day
    LEFT JOIN agent a ON a.id = c.agent_id
    LEFT JOIN uc_musd now ON now.uc_id = m.uc_id AND now.valid @> m.day
    WHERE m.is_rejected AND m.day BETWEEN $1::date AND $2::date
    ORDER BY u.code, m.day, m.hour
"""

_UNCONFIRMED_MUSD = """
    SELECT DISTINCT u.code AS uc_code, m.musd_kw::text AS musd_kw
    FROM uc u
    JOIN uc_status st ON st.uc_id = u.id AND is_submitted(st.status)
        AND st.valid && daterange($1::date, $2::date, '[]')
    LEFT JOIN uc_musd m ON m.uc_id = u.id AND m.valid @> $2::date
    WHERE m.musd_kw IS NULL OR (m.musd_kw = $3::text::numeric AND m.confirmed_on IS NULL)
    ORDER BY 1
"""

_ESTIMATES = """
    SELECT e.uc_id, e.day, e.version AS series_version, e.method,
           (e.last_slot - e.first_slot + 1)::int AS slots
    FROM estimate e WHERE e.day BETWEEN $1::date AND $2::date
"""


@dataclass(frozen=True)
class Milestone:
    """One date of the month; `days_left` is negative once it is past."""

    code: str
    label: str
    day: date
    side: str
    text: str
    days_left: int


@dataclass(frozen=True)
class Figures:
    """A month so far, of one UC, of one agent or of all; energy exact, kWh, of delivered bodies.

    Attributes:
        days_to_resend: delivered, and derived anew since.
        zeroed_kwh: sent, and in hours above the limit: counts as zero.
        unsent_kwh: of days that are ready and that CCEE does not have.
        intervals, adjusted: of the days that are derived; the sent ones among the latter are AJUSTADO.
    """

    ucs: int
    days_due: int
    days_ready: int
    days_delivered: int
    days_to_resend: int
    intervals: int
    missing_intervals: int
    adjusted_intervals: int
    sent_kwh: Decimal
    zeroed_kwh: Decimal
    zeroed_hours: int
    unsent_kwh: Decimal

    @property
    def counted_kwh(self) -> Decimal:
        return self.sent_kwh - self.zeroed_kwh

    @property
    def adjusted_share(self) -> Decimal:
        """Of the intervals that have a value."""
        known = self.intervals - self.missing_intervals
        return Decimal(self.adjusted_intervals) / known if known else Decimal(0)

    @property
    def completeness(self) -> Decimal:
        return Decimal(self.days_delivered) / self.days_due if self.days_due else Decimal(1)


@dataclass(frozen=True)
class UcMonth:
    uc_code: str
    uc_name: str
    agent_code: int | None
    figures: Figures


@dataclass(frozen=True)
class AgentMonth:
    """`agent_code` is None for the UC-days that the registry gives to nobody."""

    agent_code: int | None
    name: str
    figures: Figures
    outlook: Forecast


@dataclass(frozen=True)
class MissingDay:
    """A UC-day that CCEE does not have, and why."""

    uc_code: str
    agent_code: int | None
    day: date
    cause: str
    text: str


@dataclass(frozen=True)
class MissingRun:
    """Days of one UC that follow each other and lack for one cause; `act_by` is the last day to mend it."""

    uc_code: str
    uc_name: str
    agent_code: int | None
    first_day: date
    last_day: date
    days: int
    cause: str
    text: str
    remedy: str
    who: str
    act_by: date


@dataclass(frozen=True)
class ClosingReport:
    """The month as it stands.

    Args:
        today: market day of `as_of`.
        last_due_day: last day of the month that is over; later days are not missing yet.
        methods: intervals by method of estimation, of the newest versions.
        musd_conflicts: hours above the limit: UC, agent, day, hour, energy, MUSD then and now, limit.
        musd_unconfirmed: UCs with no MUSD, or with CCEE's default and nobody's confirmation.
    """

    month: date
    as_of: datetime
    today: date
    last_due_day: date | None
    milestones: list[Milestone]
    whole: Figures
    agents: list[AgentMonth]
    ucs: list[UcMonth]
    missing: list[MissingDay]
    runs: list[MissingRun]
    methods: dict[str, int]
    musd_conflicts: list[dict[str, Any]]
    musd_unconfirmed: list[dict[str, Any]]

    @property
    def name(self) -> str:
        return f"{self.month:%Y-%m}"

    @property
    def days_due(self) -> int:
        return self.whole.days_due

    @property
    def days_delivered(self) -> int:
        return self.whole.days_delivered

    @property
    def deadline(self) -> Milestone:
        """The last day for the data."""
        return self.milestone(calendars.MEASUREMENT)

    @property
    def conflict_kwh(self) -> Decimal:
        return sum((Decimal(row["energy_kwh"]) for row in self.musd_conflicts), Decimal(0))

    @property
    def is_complete(self) -> bool:
        """Nothing due is missing; conflicts of MUSD are CCEE's zeros, so they count as open, too."""
        return not self.missing and not self.musd_conflicts

    def milestone(self, code: str) -> Milestone:
        return next(row for row in self.milestones if row.code == code)


def closing_report(
    db: Database,
    month: date,
    as_of: datetime,
    latest_day: date,
    profile: Profile,
    known: calendars.Calendars | None = None,
) -> ClosingReport:
    """The report of a month.

    Args:
        month: its first day.
        as_of: now. latest_day: the last day that is over, in market time.
        known: calendars; the market's by the settings where none are given.
    """
    known = known or calendars.market_calendars(db.settings.market)
    period = calendars.Period.month(month)
    last_day = min(period.following - timedelta(days=1), latest_day)
    today = latest_day + timedelta(days=1)
    with db.connect_arrow() as connection:
        days = month_days(connection, profile, period.start, last_day)
        due = [period.start, last_day]
        estimates = read_frame(connection, _ESTIMATES, due)
        conflicts = read_frame(connection, _MUSD, due)
        unconfirmed = read_frame(connection, _UNCONFIRMED_MUSD, [*due, str(profile.musd.default_kw)])
    deadline = known.date_of(calendars.MEASUREMENT, period)
    newest = days.select("uc_id", "day", "series_version")
    used = estimates.join(newest, on=["uc_id", "day", "series_version"], how="inner")
    missing = _missing(days)
    return ClosingReport(
        month=period.start,
        as_of=as_of,
        today=today,
        last_due_day=last_day if last_day >= period.start else None,
        milestones=milestones(period, today, known),
        whole=figures(days),
        agents=[
            AgentMonth(
                agent_code=code,
                name=name or "",
                figures=figures(part),
                outlook=forecast(part, as_of, latest_day, deadline),
            )
            for (code, name), part in sorted(
                days.group_by("agent_code", "agent_name"), key=lambda item: (item[0][0] is None, item[0])
            )
        ],
        ucs=[
            UcMonth(row["uc_code"], row["uc_name"], row["agent_code"], _figures(row))
            for row in days.group_by("uc_code", "uc_name", "agent_code", maintain_order=True)
            .agg(**_SUMS)
            .iter_rows(named=True)
        ],
        missing=[
            MissingDay(row["uc_code"], row["agent_code"], row["day"], row["reason"], _text_of(row))
            for row in missing
        ],
        runs=_runs(missing, period, today, known),
        methods=dict(used.group_by("method").agg(pl.col("slots").sum()).sort("method").iter_rows()),
        musd_conflicts=conflicts.to_dicts(),
        musd_unconfirmed=unconfirmed.to_dicts(),
    )


def figures(days: pl.DataFrame) -> Figures:
    """Add up rows of `closing.days.month_days`."""
    return _figures(days.select(**_SUMS).row(0, named=True))


_DUE, _HAS = pl.col("is_due"), pl.col("is_delivered")
_READY = pl.col("state") == "ready"
_SUMS = {
    "ucs": pl.col("uc_id").filter(_DUE).n_unique(),
    "days_due": _DUE.sum(),
    "days_ready": (_DUE & _READY).sum(),
    "days_delivered": (_DUE & _HAS).sum(),
    "days_to_resend": (_HAS & _READY & (pl.col("series_version") != pl.col("accepted_series_version"))).sum(),
    "intervals": pl.col("intervals").filter(_DUE).sum(),
    "missing_intervals": pl.col("missing").filter(_DUE).sum(),
    "adjusted_intervals": pl.col("adjusted").filter(_DUE).sum(),
    "sent": pl.col("sent_milli").sum(),
    "zeroed": pl.col("zeroed_milli").sum(),
    "zeroed_hours": pl.col("zeroed_hours").sum(),
    "unsent": pl.col("derived_milli").filter(_DUE & ~_HAS & _READY).sum(),
}


def _figures(sums: dict[str, Any]) -> Figures:
    sent, zeroed, unsent = (kwh(sums[name]) for name in ("sent", "zeroed", "unsent"))
    counts = {name: sums[name] for name in _SUMS if name not in ("sent", "zeroed", "unsent")}
    return Figures(**counts, sent_kwh=sent, zeroed_kwh=zeroed, unsent_kwh=unsent)


def kwh(milli: int) -> Decimal:
    """Thousandths of a kWh as kWh, exact, with three decimals."""
    return Decimal(milli).scaleb(-3)


def _missing(days: pl.DataFrame) -> list[dict[str, Any]]:
    return days.filter(pl.col("is_due") & ~pl.col("is_delivered")).sort("uc_code", "day").to_dicts()


def _text_of(row: dict[str, Any]) -> str:
    text = acting_on(row["reason"]).text_pt
    return f"{text}; envio em estado {row['told_state']}" if row["told_state"] else text


def _kept_away(rows: Sequence[dict[str, Any]]) -> str:
    """What keeps intervals of these UC-days away, the commonest cause first, with its intervals."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(orjson.loads(row["missing_by_cause"] or "{}"))
    return "; ".join(f"{TEXTS[MissingCause(cause)]} ({count})" for cause, count in counts.most_common())


def _runs(
    missing: list[dict[str, Any]], period: calendars.Period, today: date, known: calendars.Calendars
) -> list[MissingRun]:
    runs = []
    # Days that follow each other have the same distance to their position.
    numbered = enumerate(missing)
    for (uc_code, agent_code, cause, text, _), group in groupby(
        numbered,
        key=lambda item: (
            item[1]["uc_code"],
            item[1]["agent_code"],
            item[1]["reason"],
            _text_of(item[1]),
            item[1]["day"].toordinal() - item[0],
        ),
    ):
        rows = [row for _, row in group]
        acting = acting_on(cause)
        runs.append(
            MissingRun(
                uc_code=uc_code,
                uc_name=rows[0]["uc_name"],
                agent_code=agent_code,
                first_day=rows[0]["day"],
                last_day=rows[-1]["day"],
                days=len(rows),
                cause=cause,
                text=f"{text}: {away}" if (away := _kept_away(rows)) else text,
                remedy=acting.remedy_pt,
                who=acting.who_pt,
                act_by=act_by(acting.milestone, period, today, known),
            )
        )
    return sorted(runs, key=lambda run: (run.act_by, run.agent_code or 0, run.uc_code, run.first_day))


def milestones(period: calendars.Period, today: date, known: calendars.Calendars) -> list[Milestone]:
    """All dates of a month, in order."""
    rows = []
    for row in known.milestones:
        day = calendars.milestone_date(row, period, known)
        rows.append(Milestone(row.code, row.label, day, row.side, row.due_pt, (day - today).days))
    return sorted(rows, key=lambda found: found.day)
