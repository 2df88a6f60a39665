"""Readings that were held and that a person let pass: traced to the octets, under the time the meter told."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest
from rich.console import Console

from audit.parts import Trace
from audit.trace import trace
from ccee.profile import load_profile
from derivation.run import derive
from editing import decisions, proposals
from pipelines.cli.trace import _document, tree
from storage.database import Database
from storage.review.decisions import DecisionKind, DecisionState
from storage.review.holds import open_holds
from tests.collector.dlms.peers import world as dlms
from tests.collector.dlms.peers.world import catalogue, secrets
from tests.collector.world import (
    DAY,
    MARKET,
    NOW,
    collect,
    meter,
    query,
    quick,
    register,
    served,
    truth,
)

__all__ = ["catalogue", "secrets"]
pytestmark = pytest.mark.req("X-trace", "X-clock", "X-decide", "TR-5.1")

SLOW_S = 7200
SLOT = 123
STATION = meter(offset_s=-SLOW_S)


def over_nbr14522(db: Database, secrets) -> Database:
    async def work() -> None:
        async with served(meter(offset_s=-SLOW_S)) as servers:
            register(db, servers)
            await collect(db)

    asyncio.run(work())
    return db


def over_dlms(db: Database, secrets) -> Database:
    ready = quick(db, dlms_secrets_path=secrets)

    async def work() -> None:
        async with dlms.server(station=meter(offset_s=-SLOW_S)) as way:
            dlms.registered(ready, way, "dlms-test")
            await collect(ready)

    asyncio.run(work())
    return ready


def decided(db: Database, kind: DecisionKind, shift_s: int = 0) -> Trace:
    with db.connect() as conn:
        waiting = open_holds(conn)
        proposal = proposals.of_holds(conn, kind, [hold.id for hold in waiting], shift_s)
    assert {hold.rule for hold in waiting} == {"V09"}
    asked = decisions.ask(db, proposal, by="ana", why="o relógio estava duas horas atrasado", at=NOW)
    if asked.decision.state is DecisionState.WAITING:
        decisions.agree(db, asked.decision.id, by="bruno", why="", at=NOW)
    derive(db, DAY, DAY, run_id="t", as_of=NOW)
    end = datetime.combine(DAY, datetime.min.time(), MARKET) + (SLOT + 1) * timedelta(minutes=5)
    ((uc_code,),) = query(db, "SELECT code FROM uc")
    return trace(db, load_profile(), uc_code, end)


@pytest.mark.parametrize("read", [over_nbr14522, over_dlms])
def test_a_shifted_reading_is_found_where_the_meter_told_it(embedded_db, secrets, read) -> None:
    db = read(embedded_db, secrets)
    assert query(db, "SELECT count(*) FROM reading_day WHERE channel = 1") == [(0,)], "all is held first"

    found = decided(db, DecisionKind.SHIFT, SLOW_S)

    assert found.is_identical, [check for check in found.checks if not check.is_identical]
    assert found.reading is not None
    # The simulated load is that of the meter's own clock.
    assert found.reading.pulses == int(truth(STATION)[SLOT - SLOW_S // 300, 0])
    hold = found.reading.hold
    assert hold is not None
    assert (hold.rule, hold.reason, hold.shift_s, hold.decided_by) == ("V09", "clock", SLOW_S, "ana")
    assert hold.told_end == found.interval_end.replace(tzinfo=None) - timedelta(seconds=SLOW_S)
    console = Console(width=300)
    with console.capture() as shown:
        console.print(tree(found))
    text = shown.get()
    assert "shifted by +7200 s by ana" in text
    assert "duas horas atrasado" in text
    assert _document(found)["reading"]["hold"]["hold_id"] == hold.hold_id


@pytest.mark.parametrize("read", [over_nbr14522, over_dlms])
def test_a_released_reading_is_found_as_it_was(embedded_db, secrets, read) -> None:
    db = read(embedded_db, secrets)

    found = decided(db, DecisionKind.RELEASE)

    assert found.is_identical, [check for check in found.checks if not check.is_identical]
    assert found.reading is not None
    assert found.reading.pulses == int(truth(STATION)[SLOT, 0])
    assert found.reading.hold is not None
    assert (found.reading.hold.shift_s, found.reading.hold.told_end) == (
        0,
        found.interval_end.replace(tzinfo=None),
    )
