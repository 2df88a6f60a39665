"""A small distributor for the tests of derivation and Dagster: UCs, meters, readings without sockets."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import psycopg

from storage import readings
from storage.bulk import copy_frame
from storage.database import Database

DAY = dt.date(2026, 11, 20)
# The morning after DAY, market time 06:00.
NOW = dt.datetime(2026, 11, 21, 9, 0, tzinfo=dt.UTC)
SLOTS = 288
AGENT = 4711


@dataclass(frozen=True)
class Point:
    """A UC and its main meter."""

    uc_id: int
    uc_code: str
    meter_id: int


def add_points(
    conn: psycopg.Connection[Any], count: int, *, pulse_energy: tuple[int, int] = (9, 1250)
) -> list[Point]:
    """Active UCs since 2026 with a main meter and a MUSD of 1,000 kW."""
    conn.execute("INSERT INTO distributor (code, name) VALUES ('D', 'Distribuidora')")
    conn.execute(
        "INSERT INTO agent (code, name, distributor_id) SELECT %s, 'Agente', id FROM distributor", [AGENT]
    )
    conn.execute("INSERT INTO meter_model (code, profile) VALUES ('M', 'default')")
    conn.execute(
        "INSERT INTO uc (code, name, agent_id) "
        "SELECT lpad(i::text, 10, '0'), 'UC ' || i, a.id FROM generate_series(1, %s) i, agent a",
        [count],
    )
    conn.execute("INSERT INTO uc_status (uc_id, valid, status) SELECT id, '[2026-01-01,)', 'active' FROM uc")
    conn.execute(
        "INSERT INTO uc_musd (uc_id, valid, musd_kw, confirmed_on) "
        "SELECT id, '[2026-01-01,)', 1000, '2026-01-01' FROM uc"
    )
    conn.execute("INSERT INTO point (code, uc_id) SELECT 'P' || code, id FROM uc")
    conn.execute(
        "INSERT INTO meter (serial, model_id) SELECT right(u.code, 8), m.id FROM uc u, meter_model m"
    )
    conn.execute(
        "INSERT INTO installation (meter_id, point_id, role, valid, pulse_energy_num, pulse_energy_den) "
        "SELECT m.id, p.id, 'main', tstzrange('2026-01-01Z', NULL), %s, %s FROM point p "
        "JOIN uc u ON u.id = p.uc_id JOIN meter m ON m.serial = right(u.code, 8)",
        pulse_energy,
    )
    rows = conn.execute(
        "SELECT p.uc_id, u.code, i.meter_id FROM installation i JOIN point p ON p.id = i.point_id "
        "JOIN uc u ON u.id = p.uc_id ORDER BY 1"
    ).fetchall()
    return [Point(*row) for row in rows]


def curve(seed: int, slots: int = SLOTS) -> list[int | None]:
    """Pulses of a day, the same for the same seed."""
    made = random.Random(seed)
    return [made.randint(0, 400) for _ in range(slots)]


def with_gap(pulses: list[int | None], first: int, last: int) -> list[int | None]:
    """The same with slots `first` to `last` missing."""
    return [None if first <= slot <= last else value for slot, value in enumerate(pulses)]


def put_readings(
    db: Database, days: Iterable[tuple[int, dt.date, Sequence[int | None]]], at: dt.datetime = NOW
) -> None:
    """Merge days of channel 1, as a session of the collector would: (meter_id, day, pulses)."""
    schema = {name: kind for name, kind in readings.SCHEMA.items() if name != "version"}
    rows = [(meter_id, 1, day, 1, 300, list(pulses), [0], [1]) for meter_id, day, pulses in days]
    with db.connect() as conn:
        readings.merge_readings(conn, pl.DataFrame(rows, schema=schema, orient="row"), at)


def put_history(db: Database, points: Sequence[Point], first: dt.date, last: dt.date) -> None:
    """Whole days of readings, quickly: for days that a test derives as history."""
    days = [first + dt.timedelta(n) for n in range((last - first).days + 1)]
    rows = [
        (point.meter_id, 1, day, 1, 1, 300, curve(point.uc_id * 10_000 + day.toordinal()), [0], [1])
        for point in points
        for day in days
    ]
    with db.connect() as conn:
        copy_frame(conn, "reading_day", pl.DataFrame(rows, schema=readings.SCHEMA, orient="row"))


def snapshot(db: Database) -> dict[str, list[tuple[Any, ...]]]:
    """All that was derived, without what names the run and its time."""
    with db.connect() as conn:
        return {
            table: conn.execute(f"SELECT {columns} FROM {table} ORDER BY {columns}").fetchall()
            for table, columns in _CONTENT.items()
        }


_CONTENT = {
    "series_day": (
        "uc_id, layer, day, version, interval_s, denominator, numerators, origin, reason, input_version"
    ),
    "estimate": "uc_id, day, version, first_slot, last_slot, strategy, method, detail, approved_by",
    "verdict": "uc_id, day, rule, first_slot, last_slot, result, detail",
    "musd_hour": "uc_id, day, hour, energy_kwh, musd_kw, limit_kwh, is_rejected",
    "uc_day_outcome": (
        "uc_id, day, state, cause, measured, backup, estimated, edited, missing, energy_kwh, detail"
    ),
    "quarantine": "stage, reason, uc_id, day, detail, dedup_key",
}
