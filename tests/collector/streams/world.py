"""Sources of serial outputs, and what is stored of them."""

from __future__ import annotations

from datetime import UTC, datetime

from collector.streams.line import LinePace
from collector.streams.reader import StreamPace
from simulator.load.curves import GeneratedLoad
from simulator.load.grid import local_seconds
from storage.database import Database
from tests.collector.world import add_meter

SOURCE = GeneratedLoad("supermarket", 60.0, 0.036, 5)
LINE = LinePace(connect_s=2, silence_s=2, backoff_s=0.05, backoff_max_s=0.1, dwell_s=0.4, look_s=0.05)
PACE = StreamPace(store_s=0.15, session_s=600, overlap_s=120, look_s=0.1, line=LINE)


def add(db: Database, url: str, profile: str, serial: str = "77") -> int:
    with db.connect() as conn:
        conn.execute("INSERT INTO distributor (code, name) VALUES ('D', 'D') ON CONFLICT DO NOTHING")
        conn.execute(
            "INSERT INTO agent (code, name, distributor_id) SELECT 4711, 'A', id FROM distributor "
            "ON CONFLICT DO NOTHING"
        )
        # A register of CELESC counts whole kWh: V11 holds what is registered otherwise.
        constant = (1, 1) if profile.startswith("celesc") else (9, 1250)
        return add_meter(conn, int(serial), serial, url, profile, constant=constant)


def stored(db: Database, channel: int = 1) -> dict[int, int]:
    with db.connect() as conn:
        rows = conn.execute("SELECT pulses FROM reading_day WHERE channel = %s", [channel]).fetchall()
    assert len(rows) <= 1
    return {slot: pulses for slot, pulses in enumerate(rows[0][0] if rows else []) if pulses is not None}


def truth(slot: int) -> int:
    midnight = int(local_seconds(datetime(2026, 11, 20, 3, tzinfo=UTC)))
    return int(SOURCE.pulses(midnight // 300 + slot, 1)[0, 0])


def sessions(db: Database) -> list[tuple[object, ...]]:
    with db.connect() as conn:
        return conn.execute(
            "SELECT outcome, protocol, retries, meter_serial, failed_stage FROM session ORDER BY id"
        ).fetchall()
