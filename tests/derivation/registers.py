"""Register readings put into the database."""

from __future__ import annotations

import json
from collections.abc import Sequence

from storage.database import Database
from tests.derivation.world import Point


def put_registers(db: Database, point: Point, readings: Sequence[tuple[str, int]]) -> None:
    with db.connect() as conn:
        for at, total in readings:
            row = conn.execute(
                "INSERT INTO session (meter_id, collector, purpose, protocol, url, started_at, outcome) "
                "VALUES (%s, 'c', 'routine', 'nbr14522', 'tcp://x', %s, 'complete') RETURNING id",
                [point.meter_id, at],
            ).fetchone()
            assert row is not None
            conn.execute(
                "INSERT INTO register_reading (session_id, meter_id, command, channel, at, values) "
                "VALUES (%s, %s, 35, 1, %s, %s::jsonb)",
                [row[0], point.meter_id, at, json.dumps({"total_pulses": str(total)})],
            )
