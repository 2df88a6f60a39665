"""Meters that misbehave, of a folder beside the repository that nobody here wrote; absent, its tests skip."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.collector.world import DAY, NOW, add_meter, collect, query, quick

PEERS = Path(__file__).resolve().parents[5] / "shared" / "peers"
PROGRAM = PEERS / "rude_dlms_meter.py"
SERIAL = "RUDE0001"
is_absent = pytest.mark.skipif(not PROGRAM.exists(), reason=f"{PROGRAM} is not there")


@asynccontextmanager
async def rude_meter(*options: str):
    """The port of a running meter."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), *options, stdout=asyncio.subprocess.PIPE, cwd=PEERS
    )
    try:
        assert process.stdout is not None
        yield int(await process.stdout.readline())
    finally:
        os.kill(process.pid, signal.SIGTERM)
        await process.wait()


@dataclass
class Read:
    """What a visit left in the database."""

    outcome: str
    error: dict[str, Any] | None
    statement: dict[str, Any]
    issues: list[tuple[str, str, dict[str, Any]]]
    rows: list[tuple[date, int, list[int | None]]]
    frames: int = 0
    drift_s: float | None = None
    held: list[tuple[date, str]] = field(default_factory=list)
    likely_shifts: set[int | None] = field(default_factory=set)

    @property
    def reasons(self) -> list[str]:
        return [reason for _, reason, _ in self.issues]

    def says(self, words: str) -> bool:
        return any(words in reason for reason in self.reasons)

    def decisions(self, action: str) -> list[dict[str, Any]]:
        return [one for one in self.statement["decisions"] if one["action"] == action]

    @property
    def intervals(self) -> dict[datetime, int]:
        """Pulses of channel 1 by the end of their interval."""
        return {
            datetime.combine(day, datetime.min.time()) + timedelta(seconds=(slot + 1) * interval_s): count
            for day, interval_s, pulses in self.rows
            for slot, count in enumerate(pulses)
            if count is not None
        }

    def values(self) -> set[int]:
        return set(self.intervals.values())


def read_rude(
    db,
    *modes: str,
    model: str = "dlms-generic",
    days: tuple[date, ...] = (DAY,),
    options: tuple[str, ...] = (),
    interval_s: int = 300,
    settings: dict[str, Any] | None = None,
) -> Read:
    """Read a misbehaving meter over its socket through the collector, to the database."""
    ready = quick(db, **(settings or {}))
    arguments = ["--end", "2026-11-21", "--now", "2026-11-21T03:07", "--days", "2", *options]
    for mode in modes:
        arguments += ["--mode", mode]

    async def work():
        async with rude_meter(*arguments) as port:
            meter_id = _registered(ready, f"tcp://127.0.0.1:{port}", model, interval_s)
            await collect(ready, days)
            return meter_id

    return _left(ready, asyncio.run(work()))


def _registered(db, url: str, model: str, interval_s: int) -> int:
    with db.connect() as conn:
        conn.execute("INSERT INTO distributor (code, name) VALUES ('D', 'D') ON CONFLICT DO NOTHING")
        conn.execute(
            "INSERT INTO agent (code, name, distributor_id) SELECT 4711, 'Agente', id FROM distributor "
            "ON CONFLICT DO NOTHING"
        )
        meter_id = add_meter(conn, 1, SERIAL, url, model)
        conn.execute(
            "UPDATE installation SET pulse_energy_num = 1, pulse_energy_den = 1000, interval_s = %s "
            "WHERE meter_id = %s",
            [interval_s, meter_id],
        )
        return meter_id


def _left(db, meter_id: int) -> Read:
    ((session, outcome, error, statement, drift_s),) = query(
        db,
        "SELECT id, outcome, error, statement, drift_s::float8 FROM session WHERE meter_id = %s "
        "ORDER BY id LIMIT 1",
        meter_id,
    )
    return Read(
        outcome=outcome,
        error=error,
        statement=statement or {"decisions": [], "columns": [], "coverage": None, "lengths_s": {}},
        issues=query(
            db, "SELECT stage, reason, detail FROM quarantine WHERE meter_id = %s ORDER BY id", meter_id
        ),
        rows=query(
            db,
            "SELECT day, interval_s, pulses FROM reading_day WHERE meter_id = %s AND channel = 1 "
            "ORDER BY day",
            meter_id,
        ),
        frames=query(db, "SELECT count(*) FROM frame WHERE session_id = %s", session)[0][0],
        drift_s=drift_s,
        held=query(
            db, "SELECT DISTINCT day, reason FROM reading_hold WHERE meter_id = %s ORDER BY day", meter_id
        ),
        likely_shifts={
            shift_s
            for (shift_s,) in query(
                db, "SELECT likely_shift_s FROM reading_hold WHERE meter_id = %s", meter_id
            )
        },
    )


assert NOW.isoformat() == "2026-11-21T06:07:00+00:00"  # 03:07 at the meter, as its options say
