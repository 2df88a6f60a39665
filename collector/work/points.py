"""How each point stands: its plan of reading, its unit's traffic, its connectivity, its meter's countdown."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from collector.work.monitoring import monitored_points
from collector.work.traffic import MonthTraffic, unit_traffic
from collector.work.urgency import outlooks
from collector.work.worklist import Connection
from faults.market_time import to_local
from storage.settings import Settings


@dataclass(frozen=True, slots=True)
class PointStatus:
    """One point with its main meter.

    Attributes:
        schedule: in force now; quarter_hourly while it is monitored.
        traffic: None without a telemetry unit.
        connectivity: share of the scheduled reads of the last seven days that succeeded, None before any.
        left_s: until the first interval not read yet is overwritten; negative: it is; None: not known.
    """

    point: str
    meter: str
    schedule: str
    monitored_until: datetime | None
    unit: str | None
    traffic: MonthTraffic | None
    connectivity: float | None
    left_s: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain values; the traffic with its share of the plan."""
        told = asdict(self)
        if self.traffic is not None:
            told["traffic"] |= {"used_share": float(self.traffic.used_share), "is_over": self.traffic.is_over}
        return told


def points_status(conn: Connection, settings: Settings, at: datetime) -> list[PointStatus]:
    """All points with a main meter now, those whose memory is overwritten soonest first."""
    today = to_local(at, settings.market.tzinfo).date()
    monitored = monitored_points(conn, at)
    traffic = unit_traffic(conn, settings, at)
    memories = outlooks(conn)
    rows = conn.execute(
        "SELECT p.code, i.meter_id, m.serial, coalesce(s.kind, 'daily'), i.unit_id, u.code, c.share "
        "FROM installation i JOIN point p ON p.id = i.point_id JOIN meter m ON m.id = i.meter_id "
        "LEFT JOIN unit u ON u.id = i.unit_id "
        "LEFT JOIN point_schedule s ON s.point_id = p.id AND s.valid @> %(today)s::date "
        "LEFT JOIN (SELECT point_id, sum(succeeded)::float8 / sum(scheduled) AS share "
        "FROM point_connectivity_day WHERE day BETWEEN %(since)s AND %(today)s GROUP BY point_id) c "
        "ON c.point_id = p.id WHERE upper_inf(i.valid) AND i.role = 'main' ORDER BY p.code",
        {"today": today, "since": today - timedelta(days=6)},
    ).fetchall()
    found = []
    for code, meter_id, serial, schedule, unit_id, unit, share in rows:
        left = memories[meter_id].left(at) if meter_id in memories else None
        until = monitored.get(code)
        found.append(
            PointStatus(
                point=code,
                meter=serial,
                schedule=schedule if until is None else "quarter_hourly",
                monitored_until=until,
                unit=unit,
                traffic=None if unit_id is None else traffic[unit_id],
                connectivity=share,
                left_s=None if left is None else left.total_seconds(),
            )
        )
    return sorted(found, key=lambda one: (one.left_s is None, one.left_s or 0.0))
