"""A meter that loses a phase: from the socket to what CCEE is sent, by each way in which meters tell it."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from collector.drain import drain
from collector.work.worklist import request_missing
from derivation.layers import DerivationParameters
from derivation.run import DeriveSummary, derive
from protocols.dlms import models
from protocols.nbr14522.profile import DEFAULT
from simulator.dlms.meter import DlmsMeter, DlmsSpec
from simulator.dlms.server import DlmsServer
from simulator.load.channels import PhaseLoss, channel_load
from simulator.load.clock import ClockModel, SettableClock
from simulator.load.curves import GeneratedLoad
from simulator.nbr14522.line import Station
from simulator.nbr14522.meter import SimulatedMeter
from simulator.nbr14522.spec import MeterSpec
from simulator.wires.faultplan import FaultPlan
from storage.database import Database
from storage.queue import JobRequest, enqueue
from tests.collector.world import DAY, NOW, add_meter, query, quick, register, served
from tests.derivation.sending import sent_day
from vee.parameters import from_table

SLOTS = 288
FIRST = (DAY - dt.date(1970, 1, 1)).days * SLOTS
WITH_PHASES = (1, 10, 11, 17, 18, 19, 20, 21, 22)
ENERGY_ONLY = (1, 10, 11)
LATER = NOW + dt.timedelta(hours=1)
# 10:00 to 12:00.
LOST = PhaseLoss(1, FIRST + 120, FIRST + 144)


def station(quantities: tuple[int, ...], *losses: PhaseLoss, now: dt.datetime = NOW) -> Station:
    base = GeneratedLoad("supermarket", 120.0, 0.036, 7)
    source = replace(channel_load(base, quantities), phase_losses=losses)
    spec = MeterSpec(
        "10000001",
        source,
        dt.datetime(2026, 11, 10, 10),
        ClockModel(now),
        pulse_constant=source.per_pulse[0],
        channel_constants=source.per_pulse,
        profile=replace(DEFAULT, groups=len(quantities) // 3),
    )
    return Station(SimulatedMeter(spec), SettableClock(now, is_running=False), FaultPlan())


def read(db: Database, one: Station, now: dt.datetime = NOW) -> None:
    """Register the meter and read DAY over a socket."""

    async def run() -> None:
        async with served(one) as servers:
            register(db, servers)
            ids = request_missing(db, [DAY], now, "test")
            await drain(db, ids, lambda: now, deadline_s=60)

    asyncio.run(run())
    activate(db)


def activate(db: Database) -> None:
    with db.connect() as conn:
        conn.execute(
            "INSERT INTO uc_status SELECT id, '[2026-09-01,)', 'active' FROM uc ON CONFLICT DO NOTHING"
        )


def read_page(db: Database, one: Station, at: dt.datetime) -> None:
    """Read the page of instantaneous values, as a person does who asks for it."""
    (row,) = query(db, "SELECT id FROM meter")
    request = JobRequest("read", meter_id=row[0], parameters={"sequence": "fiscal_page"}, requested_by="test")

    async def run() -> None:
        async with served(one) as servers:
            with db.connect() as conn:
                conn.execute("UPDATE unit SET url = %s", [servers[0].url])
                asked = enqueue(conn, request)
            await drain(db, [asked], lambda: at, deadline_s=60)

    asyncio.run(run())


def derived(db: Database, day: dt.date = DAY) -> tuple[tuple[Any, ...], DeriveSummary]:
    summary = derive(db, day, day, as_of=LATER, run_id="r")
    (row,) = query(db, "SELECT state, cause FROM uc_day_outcome WHERE day = %s", day)
    return row, summary


@pytest.fixture
def db(embedded_db: Database) -> Database:
    return quick(embedded_db)


@pytest.mark.req("TR-2b", "TR-2e")
def test_a_phase_without_voltage_is_corrected_by_rule_c(db: Database, tmp_path: Path) -> None:
    one = station(WITH_PHASES, LOST)
    read(db, one)
    outcome, _ = derived(db)
    assert outcome == ("ready", "")
    body = sent_day(db, "0000000000", DAY, LATER, tmp_path)
    assert body is not None
    assert [slot for slot, (kind, _) in enumerate(body) if kind == "AJUSTADO"] == [*range(120, 144)]
    counted = one.meter.spec.source.pulses(FIRST, SLOTS)[:, 0].tolist()
    num, den = one.meter.spec.channel_constants[0]
    for slot, (_, kwh) in enumerate(body):
        factor = Decimal("1.5") if 120 <= slot < 144 else Decimal(1)
        assert abs(kwh - counted[slot] * factor * num / den) <= Decimal("0.0005")


@pytest.mark.req("TR-2b")
def test_a_phase_without_current_waits_for_a_person(db: Database, tmp_path: Path) -> None:
    """Nothing may be connected to it: rule C is offered, and not applied."""
    read(db, station(WITH_PHASES))
    with db.connect() as conn:
        conn.execute(
            "UPDATE reading_day SET pulses[121:144] = array_fill(0, ARRAY[24]) "
            "WHERE quantity_code = 21 AND day = %s",
            [DAY],
        )
    assert derived(db)[0] == ("held", "suspect")
    assert waiting(db) == [("V22", 120, 143, {"factor": "3/2", "is_proven": False})]
    assert sent_day(db, "0000000000", DAY, LATER, tmp_path) is None
    # A distributor for whom that is proof says so, in the file of rule parameters.
    proves = from_table(DerivationParameters(), {"validation": {"zero_current_proves": True}}, "file")
    derive(db, DAY, DAY, as_of=LATER, run_id="r", parameters=proves)
    body = sent_day(db, "0000000000", DAY, LATER, tmp_path)
    assert body is not None
    assert [slot for slot, (kind, _) in enumerate(body) if kind == "AJUSTADO"] == [*range(120, 144)]


def waiting(db: Database) -> list[tuple[Any, ...]]:
    rows = query(db, "SELECT rule, first_slot, last_slot, evidence FROM suspect WHERE state = 'open'")
    return [
        (rule, first, last, {name: evidence[name] for name in ("factor", "is_proven")})
        for rule, first, last, evidence in rows
    ]


@pytest.mark.req("TR-2b")
def test_a_page_makes_the_time_between_two_pages_suspect(db: Database) -> None:
    """An instantaneous value proves nothing of the time around it, and accuses it."""
    read(db, station(ENERGY_ONLY, LOST))
    for hour in (9, 11, 13):
        at = dt.datetime.combine(DAY, dt.time(hour + 3, 2), dt.UTC)
        read_page(db, station(ENERGY_ONLY, LOST, now=at), at)
    assert derived(db)[0] == ("held", "suspect")
    # 09:02 good, 11:02 dead, 13:02 good.
    assert waiting(db) == [("V22", 108, 156, {"factor": "3/2", "is_proven": False})]


@pytest.mark.req("TR-2b")
def test_a_meter_that_tells_no_phases_is_not_judged_by_them(db: Database) -> None:
    read(db, station(ENERGY_ONLY, LOST))
    outcome, summary = derived(db)
    assert outcome == ("ready", "")
    assert summary.skipped["V22 no_phases"] == summary.skipped["V13 no_phases"] == 1


PHASE_MODEL = """
[models.dlms-phases]
extends = "dlms-generic"
pulse_wh = "{}"
"""


@pytest.mark.req("TR-2b", "TR-2e")
@pytest.mark.parametrize(("group_d", "expected"), [(49, ("ready", "")), (7, ("held", "suspect"))])
def test_columns_of_a_load_profile_tell_it(
    db: Database, tmp_path: Path, group_d: int, expected: tuple[str, str]
) -> None:
    """Averages of each period prove (49); what was captured at its end (7) accuses."""
    one = station(WITH_PHASES, LOST)
    pulse_wh = Fraction(*one.meter.spec.channel_constants[0]) * 1000
    models.add_catalogue("test", PHASE_MODEL.format(pulse_wh))
    try:

        async def run() -> None:
            side = DlmsMeter(one.meter, DlmsSpec(pulse_wh=pulse_wh, phase_group_d=group_d))
            async with DlmsServer(side, lambda: NOW) as way:
                add_registry(db, way.url, one.meter.spec.channel_constants[0])
                await drain(db, request_missing(db, [DAY], NOW, "test"), lambda: NOW, deadline_s=60)

        asyncio.run(run())
        activate(db)
    finally:
        models.remove_catalogue("test")
    assert derived(db)[0] == expected
    if group_d == 7:
        assert waiting(db) == [("V22", 120, 143, {"factor": "3/2", "is_proven": False})]
        return
    body = sent_day(db, "0000000001", DAY, LATER, tmp_path)
    assert body is not None
    assert [slot for slot, (kind, _) in enumerate(body) if kind == "AJUSTADO"] == [*range(120, 144)]


def add_registry(db: Database, url: str, constant: tuple[int, int]) -> None:
    with db.connect() as conn:
        conn.execute("INSERT INTO distributor (code, name) VALUES ('D', 'Distribuidora')")
        conn.execute(
            "INSERT INTO agent (code, name, distributor_id) SELECT 4711, 'Agente', id FROM distributor"
        )
        add_meter(conn, 1, "10000001", url, "dlms-phases", constant=constant)
