"""The closing of a month: every UC-day that is due, what is missing and why, and by when it must be mended.

What belongs here: the month's report, as plain values; it does not know Dagster. What does not: the reasons a
day is not ready (`vee.quality.Cause`, decided when the day was derived), the dates (`vee.calendars`).
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from storage.bulk import read_frame
from storage.database import Database
from storage.submission_states import ANSWERED
from vee import calendars
from vee.quality import Cause, describe_cause

# A UC-day nobody has derived yet; not a cause of vee's, which has not seen the day.
NOT_DERIVED = "not_derived"
NOT_DERIVED_TEXT = "Dia ainda não processado"
# Ready, but CCEE has not been told, or has refused it.
NOT_DELIVERED = "not_delivered"

_DAYS = """
    SELECT u.id AS uc_id, u.code AS uc_code, a.code AS agent_code, d.day::date AS day,
           coalesce(o.state, 'incomplete') AS state,
           CASE WHEN o.uc_id IS NULL THEN 'not_derived' ELSE o.cause END AS cause,
           coalesce(o.missing, 0)::int AS missing,
           coalesce(o.measured + o.backup + o.estimated + o.edited + o.missing, 0)::int AS intervals,
           coalesce(o.backup + o.estimated + o.edited, 0)::int AS adjusted,
           coalesce(o.energy_kwh, 0)::text AS energy_kwh,
           s.state AS submission_state
    FROM generate_series($1::date, $2::date, INTERVAL '1 day') AS d (day)
    JOIN uc_status st ON is_submitted(st.status) AND st.valid @> d.day::date
    JOIN uc u ON u.id = st.uc_id
    JOIN uc_agent c ON c.uc_id = u.id AND c.valid @> d.day::date
    JOIN agent a ON a.id = c.agent_id
    LEFT JOIN uc_day_outcome o ON o.uc_id = u.id AND o.day = d.day::date
    LEFT JOIN (
        SELECT DISTINCT ON (uc_id, day) uc_id, day, state
        FROM submission_state WHERE day BETWEEN $1::date AND $2::date
        ORDER BY uc_id, day, version DESC
    ) s ON s.uc_id = u.id AND s.day = d.day::date
    WHERE o.state IS DISTINCT FROM 'not_expected'
"""

_MUSD = """
    SELECT u.code AS uc_code, m.day, m.hour::int AS hour, m.energy_kwh::text AS energy_kwh,
           m.musd_kw::text AS musd_kw, m.limit_kwh::text AS limit_kwh, now.musd_kw::text AS musd_now_kw
    FROM musd_hour m
    JOIN uc u ON u.id = m.uc_id
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
class UcMonth:
    """One UC's month so far."""

    uc_code: str
    agent_code: int
    days_due: int
    days_ready: int
    days_delivered: int
    missing_intervals: int
    adjusted_intervals: int
    energy_kwh: str


@dataclass(frozen=True)
class MissingDay:
    """A UC-day that CCEE does not have, and why."""

    uc_code: str
    day: date
    cause: str
    text: str


@dataclass(frozen=True)
class ClosingReport:
    """The month as it stands. Energy is exact decimal text, kWh.

    Args:
        last_due_day: last day of the month that is over; later days are not missing yet.
        musd_conflicts: hours above the limit: UC, day, hour, energy, MUSD then and now, limit.
        musd_unconfirmed: UCs with no MUSD, or with CCEE's default and nobody's confirmation.
    """

    month: str
    as_of: datetime
    last_due_day: date | None
    milestones: list[Milestone]
    ucs: list[UcMonth]
    missing: list[MissingDay]
    musd_conflicts: list[dict[str, Any]]
    musd_unconfirmed: list[dict[str, Any]]

    @property
    def days_due(self) -> int:
        return sum(uc.days_due for uc in self.ucs)

    @property
    def days_delivered(self) -> int:
        return sum(uc.days_delivered for uc in self.ucs)

    @property
    def is_complete(self) -> bool:
        """Nothing due is missing; conflicts of MUSD are CCEE's zeros, so they count as open, too."""
        return not self.missing and not self.musd_conflicts

    def certificate(self) -> bytes:
        """Canonical JSON of the report: what is kept, and hashed."""
        return orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)


def closing_report(
    db: Database, month: date, as_of: datetime, latest_day: date, musd_default_kw: int
) -> ClosingReport:
    """The report of a month.

    Args:
        month: its first day.
        as_of: now. latest_day: the last day that is over, in market time.
        musd_default_kw: what CCEE assumes where no MUSD was declared.
    """
    period = calendars.Period.month(month)
    last_day = min(period.following - timedelta(days=1), latest_day)
    due: tuple[date, date] = (period.start, last_day)
    with db.connect_arrow() as connection:
        days = read_frame(connection, _DAYS, due)
        conflicts = read_frame(connection, _MUSD, due)
        unconfirmed = read_frame(connection, _UNCONFIRMED_MUSD, (*due, str(musd_default_kw)))
    # Decimal text is added as Decimal, not as float.
    days = days.with_columns(pl.col("energy_kwh").str.to_decimal(scale=3))
    is_delivered = pl.col("submission_state").is_in(ANSWERED).fill_null(False)
    ucs = (
        days.group_by("uc_code", "agent_code")
        .agg(
            days_due=pl.len(),
            days_ready=(pl.col("state") == "ready").sum(),
            days_delivered=is_delivered.sum(),
            missing_intervals=pl.col("missing").sum(),
            adjusted_intervals=pl.col("adjusted").sum(),
            energy_kwh=pl.col("energy_kwh").sum().cast(pl.String),
        )
        .sort("uc_code")
    )
    missing = (
        days.filter(~is_delivered)
        .with_columns(
            cause=pl.when(pl.col("state") == "ready").then(pl.lit(NOT_DELIVERED)).otherwise(pl.col("cause"))
        )
        .sort("uc_code", "day")
    )
    return ClosingReport(
        month=f"{month:%Y-%m}",
        as_of=as_of,
        last_due_day=last_day if last_day >= period.start else None,
        milestones=milestones(
            period, latest_day + timedelta(days=1), calendars.market_calendars(db.settings.market)
        ),
        ucs=[UcMonth(**row) for row in ucs.iter_rows(named=True)],
        missing=[
            MissingDay(uc_code, day, cause, _cause_text(cause, state))
            for uc_code, day, cause, state in missing.select(
                "uc_code", "day", "cause", "submission_state"
            ).iter_rows()
        ],
        musd_conflicts=conflicts.to_dicts(),
        musd_unconfirmed=unconfirmed.to_dicts(),
    )


def milestones(period: calendars.Period, today: date, known: calendars.Calendars) -> list[Milestone]:
    """All dates of a month, in order."""
    rows = []
    for row in known.milestones:
        day = calendars.milestone_date(row, period, known)
        rows.append(Milestone(row.code, row.label, day, row.side, row.due_pt, (day - today).days))
    return sorted(rows, key=lambda found: found.day)


def _cause_text(cause: str, submission_state: str | None) -> str:
    if cause == NOT_DERIVED:
        return NOT_DERIVED_TEXT
    if cause == NOT_DELIVERED:
        return (
            f"Pronto, envio em estado {submission_state}" if submission_state else "Pronto, ainda não enviado"
        )
    return describe_cause(Cause(cause)).text_pt


def store_certificate(report: ClosingReport, folder: Path) -> tuple[Path, str]:
    """Write the report as a file named by its month; returns the path and the SHA-256 of its bytes."""
    content = report.certificate()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report.month}.json"
    fresh = path.with_suffix(".json.new")
    fresh.write_bytes(content)
    fresh.replace(path)
    return path, hashlib.sha256(content).hexdigest()
