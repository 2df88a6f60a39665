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
from storage.review import quarantine

CLOCK_RULE = "clock rule"
"""Who asks when the collector corrects a clock by itself."""


def record_correction(conn: Connection, merged: MergedSession, work: CommandWork, now: datetime) -> None:
    """The correction and the intervals that it touched."""
    detail = work.execution.detail
    if work.execution.verdict is Verdict.REFUSED:
        return
    asked = conn.execute(
        "SELECT c.reason, j.requested_by FROM command_request c JOIN job_request j ON j.id = c.request_id "
        "WHERE c.request_id = %s",
        [work.request_id],
    ).fetchone()
    assert asked is not None
    row = conn.execute(
        "INSERT INTO clock_correction (meter_id, drift_s, method, step_s, drift_after_s, reason, decided_by, "
        "request_id, session_id, at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id",
        [
            merged.meter_id,
            detail["drift_s"],
            detail["method"],
            detail["step_s"],
            detail.get("drift_after_s", work.execution.after.get("drift_s")),
            asked[0],
            asked[1],
            work.request_id,
            merged.session_id,
            now,
        ],
    ).fetchone()
    assert row is not None
    flag = "clock_micro_adjust" if detail["method"] == Method.MICRO_ADJUST else "clock_set"
    _flag(conn, merged, flag, detail.get("touched", {}), row[0], work.request_id)


def _flag(
    conn: Connection,
    merged: MergedSession,
    flag: str,
    touched: Any,
    correction_id: int,
    request_id: int | None,
) -> None:
    for day, (first, last) in touched.items():
        conn.execute(
            "INSERT INTO interval_flag (meter_id, day, first_slot, last_slot, flag, correction_id, "
            "request_id, session_id) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [merged.meter_id, day, first, last, flag, correction_id, request_id, merged.session_id],
        )
        # The day is derived anew with its flags, also where its readings had come before.
        conn.execute("INSERT INTO touched_day (meter_id, day) VALUES (%s, %s)", [merged.meter_id, day])


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
    conn.execute(
        "INSERT INTO clock_correction (meter_id, at, drift_s, method, reason, decided_by, session_id) "
        "SELECT %s, %s, %s, 'none', %s, %s, %s WHERE NOT EXISTS (SELECT FROM clock_correction "
        "WHERE meter_id = %s AND method = 'none' AND drift_after_s IS NULL AND at > %s - interval '1 day')",
        [
            merged.meter_id,
            now,
            round(drift_s, 3),
            reason,
            CLOCK_RULE,
            merged.session_id,
            merged.meter_id,
            now,
        ],
    )


def was_refused(conn: Connection, meter_id: int, now: datetime) -> bool:
    """Whether the meter itself refused a correction within a day: the rule then leaves it to a person."""
    row = conn.execute(
        "SELECT EXISTS (SELECT FROM command_request c JOIN job_request j ON j.id = c.request_id "
        "JOIN command_execution e ON e.request_id = c.request_id WHERE j.meter_id = %s "
        "AND c.command = %s AND c.requested_at > %s AND e.verdict = 'refused' AND e.detail ? 'answer')",
        [meter_id, CLOCK, now - timedelta(days=1)],
    ).fetchone()
    return row == (True,)


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A micro adjustment that the meter may still be making up."""

    correction_id: int
    at: datetime


def open_adjustment(conn: Connection, meter_id: int) -> Adjustment | None:
    """The meter's last micro adjustment, unless a reading since has found the clock right.

    While one is open no other is sent: the difference would be made up twice.
    """
    row = conn.execute(
        "SELECT c.id, c.at FROM clock_correction c WHERE c.meter_id = %s AND c.method = 'micro_adjust' "
        "AND NOT EXISTS (SELECT FROM clock_correction n WHERE n.meter_id = c.meter_id AND n.id > c.id "
        "AND n.drift_after_s IS NOT NULL) ORDER BY c.id DESC LIMIT 1",
        [meter_id],
    ).fetchone()
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
    row = conn.execute(
        "INSERT INTO clock_correction (meter_id, at, drift_s, method, drift_after_s, reason, decided_by, "
        "session_id) VALUES (%s, %s, %s, 'none', %s, 'micro adjustment made up', %s, %s) RETURNING id",
        [merged.meter_id, now, round(drift_s, 3), round(drift_s, 3), CLOCK_RULE, merged.session_id],
    ).fetchone()
    assert row is not None
    begun = to_local(adjustment.at, zone)
    while begun < (end := to_local(now, zone)):
        until = min(end, begun + timedelta(days=1))
        _flag(conn, merged, "clock_micro_adjust", slots_between(begun, until, interval_s), row[0], None)
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
    corrected = {
        meter_id: (at, float(step_s))
        for meter_id, at, step_s in conn.execute(
            "SELECT DISTINCT ON (meter_id) meter_id, at, step_s FROM clock_correction "
            "WHERE method <> 'none' AND (%(ids)s::bigint[] IS NULL OR meter_id = ANY(%(ids)s)) "
            "ORDER BY meter_id, at DESC",
            {"ids": None if meter_ids is None else list(meter_ids)},
        )
    }
    seen: dict[int, list[Observation]] = {}
    for meter_id, at, drift_s in conn.execute(
        "SELECT m.id, o.at, o.drift_s FROM meter m CROSS JOIN LATERAL ("
        "SELECT at, drift_s FROM clock_observation WHERE meter_id = m.id "
        "AND at > %(now)s - interval '400 days' ORDER BY at DESC LIMIT %(most)s) o "
        "WHERE %(ids)s::bigint[] IS NULL OR m.id = ANY(%(ids)s) ORDER BY m.id, o.at",
        {"ids": None if meter_ids is None else list(meter_ids), "now": now, "most": HISTORY},
    ):
        if meter_id not in corrected or at > corrected[meter_id][0]:
            seen.setdefault(meter_id, []).append(Observation(at, float(drift_s)))
    rows = conn.execute(
        "SELECT DISTINCT ON (m.id) m.id, m.serial, u.code FROM meter m "
        "JOIN installation i ON i.meter_id = m.id JOIN point p ON p.id = i.point_id "
        "JOIN uc u ON u.id = p.uc_id "
        "WHERE (%(ids)s::bigint[] IS NULL OR m.id = ANY(%(ids)s)) "
        "ORDER BY m.id, lower(i.valid) DESC NULLS LAST",
        {"ids": None if meter_ids is None else list(meter_ids)},
    )
    found = []
    for meter_id, serial, code in rows:
        observations = seen.get(meter_id, [])
        at, step_s = corrected.get(meter_id, (None, None))
        told = forecast(observations, policy)
        read_at = observations[-1].at if observations else None
        found.append(ClockStatus(meter_id, serial, code, read_at, told, len(observations), at, step_s))
    return sorted(found, key=lambda one: -abs(one.forecast.drift_s) if one.forecast else 1.0)
