"""What a demonstration came to: the questions whose answers its summary shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

from psycopg.rows import dict_row

from assets import delivery
from closing.standing import DayStanding, UcStanding
from derivation.expectations import docs_folder
from pipelines.runs import RunOutcome
from simulator.fleets.demo import DemoPoint, Scenario
from storage.database import Database

# Beyond this the clock of a meter is somebody's business (vee_rules.md, V09: 1 to 60 minutes).
CLOCK_ALARM_S = 60

Row = dict[str, Any]


@dataclass(frozen=True)
class MusdHour:
    """An hour that CCEE counts as zero."""

    uc_code: str
    hour: int
    energy_kwh: Decimal
    limit_kwh: Decimal


@dataclass(frozen=True)
class ClockAlarm:
    """A meter whose clock is off by more than `CLOCK_ALARM_S`."""

    serial: str
    uc_code: str
    drift_s: float


@dataclass(frozen=True)
class Example:
    """A value worth tracing: the UC, the END of the interval, and what is special about it."""

    uc_code: str
    interval_end: datetime
    what: str


@dataclass(frozen=True)
class DemoResult:
    """What a demonstration came to. Counts are of the day, and of the whole fleet.

    Attributes:
        energy_kwh: derived, of suspended UCs too. delivered_kwh: in the bodies that CCEE has.
        delivered: UC-days that CCEE has; this very run sent `sent_now`, and left `unchanged` alone.
        rejected: intervals that validation refused or held.
        seconds: wall time by phase.
    """

    day: date
    points: int
    points_read: int
    sessions: int
    failed_sessions: int
    octets: int
    intervals: Mapping[str, int]
    rejected: int
    energy_kwh: Decimal
    delivered_kwh: Decimal
    delivered: int
    sent_now: int
    unchanged: int
    receipts: int
    not_delivered: Sequence[UcStanding]
    musd_hours: Sequence[MusdHour]
    clock_alarms: Sequence[ClockAlarm]
    examples: Sequence[Example]
    checks_failed: Sequence[str]
    registry_path: Path
    data_docs_path: Path | None
    run_id: str
    seconds: Mapping[str, float] = field(default_factory=dict)


_COLLECTED = """
    SELECT count(DISTINCT p.uc_id) FILTER (WHERE r.meter_id IS NOT NULL) AS points_read
    FROM point p
    JOIN installation i ON i.point_id = p.id AND i.role = 'main'
    LEFT JOIN reading_day r ON r.meter_id = i.meter_id AND r.channel = i.active_channel AND r.day = %(day)s
"""
_SESSIONS = """
    SELECT count(*) AS sessions, count(*) FILTER (WHERE outcome <> 'complete') AS failed,
           coalesce(sum(bytes_sent + bytes_received), 0)::bigint AS octets
    FROM session
"""
_INTERVALS = """
    SELECT coalesce(sum(measured), 0)::int AS measured, coalesce(sum(backup), 0)::int AS backup,
           coalesce(sum(estimated), 0)::int AS estimated, coalesce(sum(edited), 0)::int AS edited,
           coalesce(sum(missing), 0)::int AS missing, coalesce(sum(energy_kwh), 0) AS energy_kwh
    FROM uc_day_outcome WHERE day = %(day)s
"""
_REJECTED = """
    SELECT coalesce(sum(last_slot - first_slot + 1), 0)::int AS rejected
    FROM verdict WHERE day = %(day)s AND result IN ('refused', 'held')
"""
_DELIVERED = """
    SELECT count(DISTINCT s.uc_id) AS delivered,
           count(DISTINCT s.uc_id) FILTER (WHERE a.receipt IS NOT NULL) AS receipts
    FROM submission_state s
    LEFT JOIN submission_attempt a ON a.submission_id = s.id AND a.outcome IN ('accepted', 'processing')
    WHERE s.day = %(day)s AND s.state IN ('aceito', 'em_processamento', 'rejeitado_musd', 'definitivo')
"""
_MUSD = """
    SELECT uc.code, m.hour, m.energy_kwh, trim_scale(m.limit_kwh)
    FROM musd_hour m JOIN uc ON uc.id = m.uc_id
    WHERE m.day = %(day)s AND m.is_rejected ORDER BY uc.code, m.hour
"""
_CLOCKS = """
    SELECT DISTINCT ON (m.serial) m.serial, uc.code, s.drift_s
    FROM session s
    JOIN meter m ON m.id = s.meter_id
    JOIN installation i ON i.meter_id = m.id
    JOIN point p ON p.id = i.point_id
    JOIN uc ON uc.id = p.uc_id
    WHERE abs(s.drift_s) > %(limit)s
    ORDER BY m.serial, s.started_at DESC
"""
# The middle of the longest estimated run, by rule A where there is one: what a person would want explained.
_ESTIMATED = """
    SELECT uc.code, e.method, (e.first_slot + e.last_slot) / 2 AS slot, d.interval_s
    FROM estimate e
    JOIN uc ON uc.id = e.uc_id
    JOIN series_day d ON (d.uc_id, d.day, d.version, d.layer) = (e.uc_id, e.day, e.version, 5)
    WHERE e.day = %(day)s
    ORDER BY e.method <> 'A', e.last_slot - e.first_slot DESC LIMIT 1
"""


def summary(
    db: Database,
    points: Sequence[DemoPoint],
    standing: DayStanding,
    outcome: RunOutcome,
    registry_path: Path,
    seconds: Mapping[str, float],
) -> DemoResult:
    """What the database now says about the day, and what this run did for it."""
    day = standing.day
    keys = {"day": day, "limit": CLOCK_ALARM_S}
    sent = next((asset.metadata for asset in outcome.assets if asset.asset == delivery.NAME), {})
    with db.connect() as conn:
        conn.row_factory = dict_row

        def ask(query: str) -> list[Row]:
            return conn.execute(query, keys).fetchall()

        docs_path = docs_folder(db.data_dir, day, 0, db.settings.dagster.shards) / "index.html"
        sessions, delivered, intervals = ask(_SESSIONS)[0], ask(_DELIVERED)[0], ask(_INTERVALS)[0]
        return DemoResult(
            day=day,
            points=len(points),
            points_read=ask(_COLLECTED)[0]["points_read"],
            sessions=sessions["sessions"],
            failed_sessions=sessions["failed"],
            octets=sessions["octets"],
            energy_kwh=intervals.pop("energy_kwh"),
            delivered_kwh=standing.energy_kwh,
            intervals=intervals,
            rejected=ask(_REJECTED)[0]["rejected"],
            delivered=delivered["delivered"],
            sent_now=int(sent.get("sent", 0)),
            unchanged=int(sent.get("unchanged", 0)),
            receipts=delivered["receipts"],
            not_delivered=[*standing.waiting, *standing.not_expected],
            musd_hours=[MusdHour(*row.values()) for row in ask(_MUSD)],
            clock_alarms=[
                ClockAlarm(row["serial"], row["code"], float(row["drift_s"])) for row in ask(_CLOCKS)
            ],
            examples=_examples(points, day, ask(_ESTIMATED), db.settings.market.tzinfo),
            checks_failed=[
                f"{check.asset}: {check.check}"
                for check in outcome.checks
                if not check.is_passed and check.severity == "ERROR"
            ],
            registry_path=registry_path,
            data_docs_path=docs_path if docs_path.is_file() else None,
            run_id=outcome.run_id,
            seconds=seconds,
        )


def _examples(
    points: Sequence[DemoPoint], day: date, estimated: Sequence[Row], zone: timezone
) -> list[Example]:
    """One measured value with losses, one of a DLMS meter, and one estimated, where there are such."""
    midnight = datetime.combine(day, datetime.min.time(), zone)
    with_losses = [point for point in points if point.scenario is Scenario.LOSSES]
    chosen = (with_losses or points)[0]
    found = [
        Example(
            chosen.uc_code,
            midnight + timedelta(hours=10, minutes=5),
            "measured, raised by losses" if with_losses else "measured",
        )
    ]
    found += [
        Example(point.uc_code, midnight + timedelta(hours=10, minutes=5), "measured, read by DLMS")
        for point in points
        if point.scenario is Scenario.DLMS
    ][:1]
    for row in estimated:
        end = midnight + timedelta(seconds=(row["slot"] + 1) * row["interval_s"])
        found.append(Example(row["code"], end, f"estimated, method {row['method']}"))
    return found
