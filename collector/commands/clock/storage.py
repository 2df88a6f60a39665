"""Clocks in the database: what was done to them, the intervals that it touched, and their history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from collector.commands.clock.arithmetic import (
    HISTORY,
    Forecast,
    Method,
    Observation,
    forecast,
    slots_between,
)
from collector.commands.names import CLOCK
from collector.commands.policy import ClockPolicy
from collector.commands.steps import CommandWork, Verdict
from collector.session import MergedSession
from collector.work.worklist import Connection
from faults.market_time import to_local
from storage.commands import clocks, executions, requests
from storage.review import quarantine

CLOCK_RULE = "clock rule"
"""Who asks when the collector corrects a clock by itself."""


def record_correction(conn: Connection, merged: MergedSession, work: CommandWork, now: datetime) -> None:
    """The correction and the intervals that it touched."""
    detail = work.execution.detail
    if work.execution.verdict is Verdict.REFUSED:
        return
    asked = requests.standing(conn, work.request_id)
    assert asked is not None
    correction = clocks.Correction(
        meter_id=merged.meter_id,
        at=now,
        drift_s=detail["drift_s"],
        method=detail["method"],
        step_s=detail["step_s"],
        drift_after_s=detail.get("drift_after_s", work.execution.after.get("drift_s")),
        reason=asked.reason,
        decided_by=asked.requested_by,
        request_id=work.request_id,
        session_id=merged.session_id,
    )
    correction_id = clocks.add_correction(conn, correction)
    flag = "clock_micro_adjust" if detail["method"] == Method.MICRO_ADJUST else "clock_set"
    touched = detail.get("touched", {})
    clocks.flag_intervals(
        conn, merged.meter_id, flag, touched, correction_id, work.request_id, merged.session_id
    )


def put_before_person(
    conn: Connection, merged: MergedSession, drift_s: float, now: datetime, zone: Any, reason: str
) -> None:
    """Say that a clock needs a person: one row a meter and day, for the work list and the alarms."""
    day = to_local(now, zone).date()
    row = quarantine.Quarantined(
        stage="clock",
        reason=reason,
        meter_id=merged.meter_id,
        day=day,
        session_id=merged.session_id,
        detail={"drift_s": round(drift_s, 1), "severity": "alarm"},
        dedup_key=f"clock:{merged.meter_id}:{day}",
    )
    quarantine.put(conn, [row], now)
    clocks.add_left_alone(
        conn, merged.meter_id, now, round(drift_s, 3), reason, CLOCK_RULE, merged.session_id
    )


def was_refused(conn: Connection, meter_id: int, now: datetime) -> bool:
    """Whether the meter itself refused a correction within a day: the rule then leaves it to a person."""
    return executions.was_refused(conn, meter_id, CLOCK, now - timedelta(days=1))


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A micro adjustment that the meter may still be making up."""

    correction_id: int
    at: datetime


def open_adjustment(conn: Connection, meter_id: int) -> Adjustment | None:
    """The meter's last micro adjustment, unless a reading since has found the clock right.

    While one is open no other is sent: the difference would be made up twice.
    """
    row = clocks.open_adjustment(conn, meter_id)
    return None if row is None else Adjustment(*row)


def settle_adjustment(
    conn: Connection,
    merged: MergedSession,
    adjustment: Adjustment,
    drift_s: float,
    interval_s: int,
    now: datetime,
    zone: timezone,
) -> None:
    """The clock is right again: record it, and flag the intervals that were longer or shorter meanwhile."""
    correction = clocks.Correction(
        meter_id=merged.meter_id,
        at=now,
        drift_s=round(drift_s, 3),
        method="none",
        drift_after_s=round(drift_s, 3),
        reason="micro adjustment made up",
        decided_by=CLOCK_RULE,
        session_id=merged.session_id,
    )
    correction_id = clocks.add_correction(conn, correction)
    begun = to_local(adjustment.at, zone)
    while begun < (end := to_local(now, zone)):
        until = min(end, begun + timedelta(days=1))
        touched = slots_between(begun, until, interval_s)
        clocks.flag_intervals(
            conn, merged.meter_id, "clock_micro_adjust", touched, correction_id, None, merged.session_id
        )
        begun = until


# --- history ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClockStatus:
    """One meter's clock. `forecast` None: it was never read, or not since it was corrected.

    Attributes:
        observations: how many the forecast is made of, 60 at most.
    """

    meter_id: int
    serial: str
    uc_code: str
    read_at: datetime | None
    forecast: Forecast | None
    observations: int
    corrected_at: datetime | None
    step_s: float | None


def clock_status(
    conn: Connection, policy: ClockPolicy, now: datetime, meter_ids: Sequence[int] | None = None
) -> list[ClockStatus]:
    """Drift, rate and forecast of meters, the worst clock first; None: all that are installed.

    Observations since the last correction count: a rate across a correction means nothing.
    """
    corrected = clocks.last_corrections(conn, meter_ids)
    seen: dict[int, list[Observation]] = {}
    for meter_id, at, drift_s in clocks.observations(conn, now, HISTORY, meter_ids):
        if meter_id not in corrected or at > corrected[meter_id][0]:
            seen.setdefault(meter_id, []).append(Observation(at, drift_s))
    statuses = []
    for meter_id, serial, code in clocks.installed_meters(conn, meter_ids):
        observations = seen.get(meter_id, [])
        corrected_at, step_s = corrected.get(meter_id, (None, None))
        ahead = forecast(observations, policy)
        read_at = observations[-1].at if observations else None
        statuses.append(
            ClockStatus(meter_id, serial, code, read_at, ahead, len(observations), corrected_at, step_s)
        )
    return sorted(statuses, key=lambda status: -abs(status.forecast.drift_s) if status.forecast else 1.0)
