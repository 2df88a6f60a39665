"""A UC of several points: each one's part with its octets, and their sum."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from fractions import Fraction

import pytest
from rich.console import Console

from audit.trace import trace
from ccee.profile import load_profile
from derivation.run import derive
from pipelines.cli.trace import _document, tree
from storage.database import Database
from tests.collector.world import DAY, MARKET, NOW, collect, meter, register, served, truth

pytestmark = pytest.mark.req("X-trace", "TR-5.1")

SLOT = 123


def test_the_points_of_a_uc_are_traced_each_to_its_octets(embedded_db: Database) -> None:
    stations = meter("10000001"), meter("10000002")

    async def work() -> None:
        async with served(*stations) as servers:
            register(embedded_db, servers)
            await collect(embedded_db)

    asyncio.run(work())
    with embedded_db.connect() as conn:
        first, second = (row[0] for row in conn.execute("SELECT id FROM uc ORDER BY id").fetchall())
        conn.execute("DELETE FROM uc_status WHERE uc_id = %s", [second])
        conn.execute(
            "UPDATE point SET uc_id = %s, sign = -1, share_num = 1, share_den = 2 WHERE uc_id = %s",
            [first, second],
        )
        (uc_code,) = conn.execute("SELECT code FROM uc WHERE id = %s", [first]).fetchone()
    derive(embedded_db, DAY, DAY, run_id="t", as_of=NOW)
    end = datetime.combine(DAY, datetime.min.time(), MARKET) + (SLOT + 1) * timedelta(minutes=5)

    found = trace(embedded_db, load_profile(), uc_code, end)

    assert found.is_identical, [check for check in found.checks if not check.is_identical]
    pulses = [int(truth(station)[SLOT, 0]) for station in stations]
    assert [(part.sign, part.share) for part in found.points] == [(1, Fraction(1)), (-1, Fraction(1, 2))]
    assert [part.reading.pulses for part in found.points if part.reading] == pulses
    assert all(part.reading and part.reading.place for part in found.points)
    whole = sum((part.part_kwh for part in found.points), Fraction())
    assert whole == found.layers[0].value_kwh
    assert {check.what for check in found.checks} >= {
        "sum of the points",
        *(f"count in the frame's octets of point {part.point}" for part in found.points),
    }
    console = Console(width=300)
    with console.capture() as shown:
        console.print(tree(found))
    assert f"− 1/2 × point {found.points[1].point}" in shown.get()
    document = _document(found)
    assert [part["reading"]["pulses"] for part in document["points"]] == pulses
    assert all("word" in part["reading"] for part in document["points"])
