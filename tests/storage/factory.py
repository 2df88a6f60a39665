"""Small registries and frames for the tests of this room."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import psycopg

from storage import readings

DAY = dt.date(2026, 11, 20)
AT = dt.datetime(2026, 11, 21, 6, 0, tzinfo=dt.UTC)


def add_points(conn: psycopg.Connection[Any], count: int) -> list[tuple[int, int]]:
    """`count` UCs with a point, a meter and an installation since 2026; returns (uc_id, meter_id) pairs."""
    conn.execute("INSERT INTO distributor (code, name) VALUES ('D', 'Distribuidora')")
    conn.execute("INSERT INTO agent (code, name, distributor_id) SELECT 4711, 'Agente', id FROM distributor")
    conn.execute("INSERT INTO meter_model (code, profile) VALUES ('M', 'default')")
    conn.execute(
        "INSERT INTO uc (code, name, agent_id) "
        "SELECT lpad(i::text, 10, '0'), 'UC ' || i, a.id FROM generate_series(1, %s) i, agent a",
        [count],
    )
    conn.execute("INSERT INTO point (code, uc_id) SELECT 'P' || code, id FROM uc")
    conn.execute(
        "INSERT INTO meter (serial, model_id) SELECT right(u.code, 8), m.id FROM uc u, meter_model m"
    )
    conn.execute(
        "INSERT INTO installation (meter_id, point_id, role, valid, pulse_energy_num, pulse_energy_den) "
        "SELECT m.id, p.id, 'main', tstzrange('2026-01-01Z', NULL), 9, 1250 FROM point p "
        "JOIN uc u ON u.id = p.uc_id JOIN meter m ON m.serial = right(u.code, 8)"
    )
    return conn.execute(
        "SELECT p.uc_id, i.meter_id FROM installation i JOIN point p ON p.id = i.point_id ORDER BY 1"
    ).fetchall()


def add_submission(conn: psycopg.Connection[Any], uc_id: int, day: dt.date = DAY, version: int = 1) -> None:
    """What makes a UC-day sealed."""
    conn.execute(
        "INSERT INTO submission (agent_id, uc_id, day, version, series_version, profile, body_sha256, "
        "body_bytes, cause, run_id) "
        "SELECT agent_id, id, %s, %s, 1, 'p', '\\x00', 1, 'first', 'r' FROM uc WHERE id = %s",
        [day, version, uc_id],
    )


def reading(
    meter_id: int,
    pulses: list[int | None],
    *,
    session: int = 1,
    day: dt.date = DAY,
    channel: int = 1,
    interval_s: int = 300,
    quantity_code: int = 1,
) -> pl.DataFrame:
    """One meter-channel-day from one session."""
    starts, sessions, last = [], [], None
    for slot, value in enumerate(pulses):
        source = 0 if value is None else session
        if source != last:
            starts.append(slot)
            sessions.append(source)
            last = source
    row = (meter_id, channel, day, quantity_code, interval_s, pulses, starts, sessions)
    schema = {name: kind for name, kind in readings.SCHEMA.items() if name != "version"}
    return pl.DataFrame([row], schema=schema, orient="row")
