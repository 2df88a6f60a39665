"""A registered meter for files that come in."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from exchange.export import ExportRequest
from exchange.public_files import export_public
from protocols.public_format import FileKind
from storage.database import Database
from tests.collector.world import DAY, add_meter, collect, meter, quick, register, served

SERIAL = "10000001"
DAYS = (DAY - timedelta(days=1), DAY)


def with_meter(db: Database, serial: str = SERIAL) -> int:
    with db.connect() as conn:
        conn.execute("INSERT INTO distributor (code, name) VALUES ('D', 'Distribuidora')")
        conn.execute(
            "INSERT INTO agent (code, name, distributor_id) SELECT 4711, 'Agente', id FROM distributor"
        )
        return add_meter(conn, 0, serial, "tcp://10.0.0.1:4059")


def read_and_export(source: Database, folder: Path, days=DAYS) -> tuple[dict[FileKind, Path], object]:
    """A meter read over TCP and exported; its two files, and the station."""
    ready, station = quick(source), meter(SERIAL)

    async def work():
        async with served(station) as servers:
            register(ready, servers)
            await collect(ready, days)

    asyncio.run(work())
    export_public(ready, ExportRequest(None, days[0], days[-1], folder / "out", "ana"))
    paths = list((folder / "out").rglob("*.*"))
    return {FileKind.TEXT if "&" in path.name else FileKind.FK7: path for path in paths}, station
