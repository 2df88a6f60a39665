"""Values that somebody changed in the database stop the day before anything is sent (cases E1, E2)."""

from __future__ import annotations

import asyncio
import datetime as dt

import dagster as dg
import pytest

from assets.partitions import Partitions
from assets.resources import CceeAccess, Clock, Metering
from derivation.run import derive
from pipelines.definitions import build_defs
from pipelines.runs import RunOutcome, run_daily
from storage.database import Database
from tests.collector.world import DAY, NOW, collect, meter, quick, register, served
from tests.dagster_strict import strict_dagster

pytestmark = strict_dagster(pytest.mark.slow)


@pytest.fixture
def read(embedded_db: Database) -> Database:
    """A meter's day, read over a socket and derived."""

    async def go() -> None:
        async with served(meter()) as servers:
            register(embedded_db, servers)
            await collect(quick(embedded_db))

    asyncio.run(go())
    with embedded_db.connect() as conn:
        conn.execute(
            "INSERT INTO uc_status (uc_id, valid, status) SELECT id, '[2026-01-01,)', 'active' FROM uc"
        )
        conn.execute(
            "INSERT INTO uc_musd (uc_id, valid, musd_kw, confirmed_on) "
            "SELECT id, '[2026-01-01,)', 100000, '2026-01-01' FROM uc"
        )
    derive(embedded_db, DAY, DAY, as_of=NOW, run_id="before")
    return embedded_db


def defs(db: Database) -> dg.Definitions:
    return build_defs(
        partitions=Partitions(dt.date(2026, 1, 1)),
        resources={
            "metering": Metering(url=db.url, data_dir=str(db.data_dir)),
            "clock": Clock(at=NOW.isoformat()),
            # Nothing listens: what is sent all the same would be a failure of its own.
            "ccee": CceeAccess(base_url="http://127.0.0.1:9"),
        },
    )


def run(db: Database) -> RunOutcome:
    return run_daily(db, DAY, 0, lambda step: None, defs(db))


def stopped_by(db: Database, outcome: RunOutcome) -> dict[str, str]:
    """The failed checks with their sample; nothing was sent."""
    assert not outcome.is_success
    with db.connect() as conn:
        assert conn.execute("SELECT count(*) FROM submission").fetchone() == (0,)
    return {
        check.check: str(check.metadata.get("sample", "")) for check in outcome.checks if not check.is_passed
    }


@pytest.mark.case("E1")
@pytest.mark.req("X-tamper")
def test_a_changed_pulse_is_not_what_the_frames_say(read: Database) -> None:
    with read.connect() as conn:
        conn.execute(
            "UPDATE reading_day SET pulses[121] = pulses[121] + 1 WHERE channel = 1 AND day = %s", [DAY]
        )
        conn.execute("INSERT INTO touched_day (meter_id, day) SELECT id, %s FROM meter", [DAY])

    failed = stopped_by(read, run(read))

    assert set(failed) == {"counts_are_as_read"}
    said = f"meter 10000001 {DAY}: 1 counts are not what the frames say: intervals 121"
    assert said in failed["counts_are_as_read"]


@pytest.mark.case("E2")
@pytest.mark.req("X-tamper")
@pytest.mark.parametrize("layer", [1, 3, 5])
def test_a_changed_layer_is_not_what_its_hash_says(read: Database, layer: int) -> None:
    with read.connect() as conn:
        conn.execute(
            "UPDATE series_day SET numerators[121] = numerators[121] + 1 WHERE layer = %s AND day = %s",
            [layer, DAY],
        )

    failed = stopped_by(read, run(read))

    assert f"layer {layer} was changed after it was written" in failed["values_are_as_written"]
