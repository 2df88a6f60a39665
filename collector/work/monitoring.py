"""Monitoring: a point is read every 15 minutes until a given time, then by its schedule again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from collector.work.planning import InstalledMeter, ScheduleKind
from collector.work.worklist import Connection
from faults import OperatorFault

# Longer needs a schedule of its own in the registry, where the monthly plan of the unit is seen beside it.
LONGEST = timedelta(days=31)


def monitor(
    conn: Connection, point_code: str, now: datetime, until: datetime, requested_by: str, reason: str = ""
) -> int:
    """Read a point every 15 minutes until `until`; returns the number of the monitoring.

    Raises:
        OperatorFault: no such point, or an end that is past or too far.
    """
    if not now < until <= now + LONGEST:
        raise OperatorFault(
            f"monitoring until {until.isoformat()}",
            where=f"point {point_code}",
            remedy=f"name an end within the next {LONGEST.days} days",
        )
    row = conn.execute(
        "INSERT INTO point_monitoring (point_id, valid, requested_by, reason) "
        "SELECT id, tstzrange(%s, %s), %s, %s FROM point WHERE code = %s RETURNING id",
        [now, until, requested_by, reason, point_code],
    ).fetchone()
    if row is None:
        raise OperatorFault(
            f"no point {point_code!r}", where="point", remedy="give the code the registry has for it"
        )
    return int(row[0])


def end_monitoring(conn: Connection, point_code: str, now: datetime) -> int:
    """End what monitors a point before its time; how many monitorings that were."""
    return conn.execute(
        "UPDATE point_monitoring m SET valid = tstzrange(lower(valid), %s) FROM point p "
        "WHERE p.id = m.point_id AND p.code = %s AND valid @> %s::timestamptz AND lower(valid) < %s",
        [now, point_code, now, now],
    ).rowcount


def monitored_points(conn: Connection, at: datetime) -> dict[str, datetime]:
    """Points that are monitored at an instant, and until when."""
    rows = conn.execute(
        "SELECT p.code, max(upper(m.valid)) FROM point_monitoring m JOIN point p ON p.id = m.point_id "
        "WHERE m.valid @> %s::timestamptz GROUP BY p.code",
        [at],
    )
    return dict(rows.fetchall())


def raised(conn: Connection, installed: Sequence[InstalledMeter], at: datetime) -> list[InstalledMeter]:
    """The meters with the schedules in force: those of monitored points are read every 15 minutes."""
    monitored = monitored_points(conn, at)
    return [
        replace(meter, schedule=ScheduleKind.QUARTER_HOURLY) if meter.point_code in monitored else meter
        for meter in installed
    ]
