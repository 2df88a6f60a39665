"""A registered meter for files that come in."""

from __future__ import annotations

from storage.database import Database
from tests.collector.world import (
    add_meter,
)

SERIAL = "10000001"


def with_meter(db: Database, serial: str = SERIAL) -> int:
    with db.connect() as conn:
        conn.execute("INSERT INTO distributor (code, name) VALUES ('D', 'Distribuidora')")
        conn.execute(
            "INSERT INTO agent (code, name, distributor_id) SELECT 4711, 'Agente', id FROM distributor"
        )
        return add_meter(conn, 0, serial, "tcp://10.0.0.1:4059")
