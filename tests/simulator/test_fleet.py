"""The demonstration fleet: every scenario is there, and is what it says it is."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from datetime import date, datetime, timedelta
from fractions import Fraction

import numpy as np
import pytest

from faults import DeveloperFault, RetryFault
from protocols.dlms.models import models
from protocols.nbr14522.messages import LimitUnit
from protocols.nbr14522.profiles import PROFILES
from simulator.fleets.demo import DemoMeter, DemoPoint, Scenario, demo_fleet
from simulator.fleets.server import FleetServer, fleet_in_thread
from simulator.fleets.uc_code import national_code
from simulator.load.clock import SettableClock
from simulator.load.grid import MARKET_ZONE, day_number
from simulator.nbr14522.meter import SimulatedMeter, Stretch
from simulator.wires.running import obey
from tests.simulator.peers.wire import Session, TcpCarrier, run
from vee.layers.validation import has_valid_check_digits

DAY = date(2026, 11, 20)
BEFORE = datetime(2026, 11, 20, 0, 2, tzinfo=MARKET_ZONE)
AFTER = datetime(2026, 11, 21, 0, 10, tzinfo=MARKET_ZONE)
LISTED = list(Scenario)[:11]


def by_scenario(points: list[DemoPoint]) -> dict[Scenario, DemoPoint]:
    return {point.scenario: point for point in reversed(points)}


def hours_kwh(meter: DemoMeter, day: date) -> list[Fraction]:
    """Exact primary energy of the 24 hours, before losses."""
    counts = SimulatedMeter(meter.spec).pulses(Stretch(day_number(day) * 288, day_number(day) * 288 + 288))
    energy = Fraction(*meter.pulse_energy)
    if not meter.constant_includes_ratios:
        energy *= meter.tp_ratio * meter.tc_ratio
    return [int(total) * energy for total in counts[:, 0].reshape(24, 12).sum(axis=1)]


def loss_factor(point: DemoPoint) -> Fraction:
    factor = Fraction(1)
    for loss in point.losses:
        factor *= 1 + loss.percent / 100
    return factor


def test_uc_codes_carry_check_digits_that_the_rules_accept() -> None:
    assert national_code(13479258, 28) == "001347925802810"  # CCEE's published example
    assert national_code(10, 4)[:13] == "0000000010004"
    codes = [point.uc_code for point in demo_fleet(300, DAY, 11)]
    assert all(has_valid_check_digits(code) for code in codes)


@pytest.mark.req("X-sim")
def test_the_default_fleet_shows_every_scenario() -> None:
    points = demo_fleet()
    assert len(points) == 24
    assert [point.scenario for point in points[:11]] == LISTED
    assert {point.scenario for point in points} == set(Scenario)
    assert sum(point.scenario is Scenario.ORDINARY for point in points) == 10
    assert all(point.expectation for point in points)
    assert [point.scenario for point in demo_fleet(5)] == LISTED[:5]
    assert demo_fleet(7, DAY, 3) == demo_fleet(24, DAY, 3)[:7]
    assert demo_fleet(3, DAY, 1) != demo_fleet(3, DAY, 2)


@pytest.mark.req("X-sim")
def test_a_large_fleet_repeats_scenarios_and_nothing_else() -> None:
    points = demo_fleet(500, DAY, 7)
    meters = [meter for point in points for meter in point.meters]
    for key in ("uc_code", "uc_name", "point_code", "customer_code"):
        assert len({getattr(point, key) for point in points}) == 500
    assert (
        len({meter.serial for meter in meters}) == len({meter.unit_code for meter in meters}) == len(meters)
    )
    for scenario in LISTED:
        assert 20 <= sum(point.scenario is scenario for point in points) <= 21


@pytest.mark.parametrize("seed", [0, 1, 99])
def test_values_are_lifelike(seed: int) -> None:
    for point in demo_fleet(24, DAY, seed):
        assert 60 <= point.musd_kw <= 450
        assert (point.tariff_subgroup, point.supply_voltage_kv) == ("A4", Fraction("13.8"))
        for meter in point.meters:
            spec = meter.spec
            assert spec.pulse_constant == meter.pulse_energy
            assert meter.profile_name in (PROFILES if meter.dlms is None else models())
            counts = SimulatedMeter(spec).pulses(
                Stretch(day_number(DAY) * 288 - 288 * 28, day_number(DAY) * 288 + 288)
            )
            assert 20 < counts[:, 0].max() < 1_000
            hours = [kwh for back in range(8) for kwh in hours_kwh(meter, DAY - timedelta(days=back))]
            highest = max(hours) * loss_factor(point) / point.musd_kw
            assert (highest > Fraction(5, 4)) == (point.scenario is Scenario.MUSD_EXCEEDED)
            assert highest > Fraction(1, 20)


@pytest.mark.req("X-sim")
@pytest.mark.parametrize("seed", range(12))
def test_the_hour_above_125_percent_is_above_only_after_losses(seed: int) -> None:
    point = by_scenario(demo_fleet(8, DAY, seed))[Scenario.MUSD_EXCEEDED]
    limit = Fraction(5, 4) * point.musd_kw
    hours = hours_kwh(point.main, DAY)
    assert [hour for hour, kwh in enumerate(hours) if kwh * loss_factor(point) > limit] == [14]
    assert hours[14] < limit


def test_registry_facts_of_the_scenarios() -> None:
    points = by_scenario(demo_fleet())
    assert [(loss.kind, loss.percent) for loss in points[Scenario.LOSSES].losses] == [
        ("transformation", Fraction("2.5")),
        ("line", Fraction("0.8")),
    ]
    suspended = points[Scenario.SUSPENDED]
    assert (suspended.status, suspended.status_since < DAY) == ("suspended", True)
    assert [meter.role for meter in points[Scenario.BACKUP_METER].meters] == ["main", "backup"]
    old = points[Scenario.OLD_METER].main
    assert (old.constant_includes_ratios, old.profile.name, old.element_count) == (False, "old-3ch", 2)
    for scenario, error_s in ((Scenario.SLOW_CLOCK, -95), (Scenario.FAST_CLOCK, 140)):
        meter = SimulatedMeter(points[scenario].main.spec)
        assert meter.clock_error_s(AFTER) == pytest.approx(error_s, abs=1)


def test_the_backup_meter_counts_the_same_load() -> None:
    point = by_scenario(demo_fleet())[Scenario.BACKUP_METER]
    main, backup = (sum(hours_kwh(meter, DAY)) for meter in point.meters)
    assert main != backup
    assert abs(main - backup) / main < Fraction(1, 100)


@pytest.mark.req("X-sim")
def test_the_fleet_lives_in_one_simulated_time() -> None:
    points = demo_fleet(11, DAY)
    clock = SettableClock(BEFORE, is_running=False)

    async def first_interval(server: FleetServer, meter: DemoMeter) -> datetime:
        session = Session(await TcpCarrier.open(server.urls[meter.serial]), meter.profile, meter.serial)
        parameters = await session.ask(0x51, unit=LimitUnit.DAYS, amount=3)
        session.carrier.close()
        count = parameters.words_current // 3
        end: datetime = parameters.last_interval_end
        return end - timedelta(minutes=5 * count)

    async def test() -> None:
        special = by_scenario(points)
        gap, outage = special[Scenario.MEMORY_GAP].main, special[Scenario.OUTAGE].main
        main, backup = special[Scenario.BACKUP_METER].meters
        async with FleetServer(points, clock) as server:
            assert len(server.meters) == 12
            assert await first_interval(server, gap) == datetime(2026, 11, 17)
            clock.set(AFTER)
            assert await first_interval(server, gap) == datetime(2026, 11, 20, 3, 10)
            assert await first_interval(server, main) == datetime(2026, 11, 20, 5, 40)
            assert await first_interval(server, backup) < datetime(2026, 11, 19)
            session = Session(
                await TcpCarrier.open(server.urls[outage.serial]), outage.profile, outage.serial
            )
            parameters = await session.ask(0x21)
            day = (await session.words(0x26, parameters.words_current))[-288:, 0]
            assert np.flatnonzero(day == 0).tolist() == list(range(112, 133))  # 09:20 to 11:05
            failures = [f for f in (await session.ask(0x25)).failures if f]
            assert failures[-1].end == datetime(2026, 11, 20, 11, 5)
            session.carrier.close()

    run(test)


@pytest.mark.req("X-sim")
def test_a_flaky_link_fails_twice_on_the_day_of_collection() -> None:
    point = by_scenario(demo_fleet())[Scenario.FLAKY_LINK]
    meter = point.main

    async def test() -> None:
        async with FleetServer([point], SettableClock(AFTER, is_running=False)) as server:
            outcomes = []
            for _ in range(3):
                session = Session(await TcpCarrier.open(server.urls[meter.serial]), meter.profile)
                try:
                    parameters = await session.ask(0x51, unit=LimitUnit.DAYS, amount=1)
                    outcomes.append(len(await session.words(0x52, parameters.words_current)))
                except RetryFault:
                    outcomes.append(-1)
                session.carrier.close()
            assert outcomes == [-1, -1, 288]

    run(test)


@pytest.mark.req("X-sim")
def test_two_thousand_meters_in_one_process() -> None:
    points = demo_fleet(1_920, DAY, 5)
    with fleet_in_thread(points, SettableClock(AFTER)) as server:
        assert len(server.meters) == 2_000
        assert len({meter.url for meter in server.meters}) == 2_000

        async def test() -> None:
            chosen = [meter for meter in server.meters if meter.scenario == "ordinary"][::30]

            async def read(url: str, serial: str) -> str:
                session = Session(await TcpCarrier.open(url), PROFILES["default"])
                answer = await session.ask(0x21)
                session.carrier.close()
                return str(answer.meter_serial) if answer.meter_serial == serial else ""

            answers = await asyncio.gather(*(read(meter.url, meter.serial) for meter in chosen))
            assert answers == [meter.serial for meter in chosen]

        run(test)


def test_the_simulated_clock_is_set_by_a_line() -> None:
    clock = SettableClock(AFTER, is_running=False)
    assert obey("now 2026-11-20T00:02:00-03:00\n", clock) == {"now": "2026-11-20T00:02:00-03:00"}
    assert obey("now 2026-11-20T00:03:00", clock) == {"now": "2026-11-20T00:03:00-03:00"}
    assert "not an instant" in str(obey("now soon", clock)["error"])
    assert "unknown" in str(obey("stop", clock)["error"])
    with pytest.raises(DeveloperFault):
        clock.set(datetime(2026, 11, 20))
    began_s = time.monotonic()
    running = SettableClock(AFTER)
    assert AFTER <= running() <= AFTER + timedelta(seconds=time.monotonic() - began_s)


@pytest.mark.req("X-sim")
def test_the_command_line_serves_a_fleet_until_told_to_stop() -> None:
    command = [sys.executable, "-c", "from pipelines.cli import main; raise SystemExit(main())"]
    words = ["simulate", "fleet", "--points", "2", "--day", "2026-11-20", "--seed", "1", "--json"]
    child = subprocess.Popen(
        [*command, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        meters = [json.loads(child.stdout.readline()) for _ in range(2)]
        assert json.loads(child.stdout.readline())["meters"] == 2
        assert [meter["serial"] for meter in meters] == [p.main.serial for p in demo_fleet(2, DAY, 1)]
        began_s = time.monotonic()
        child.stdin.write("now 2026-11-20T00:02:00-03:00\n")
        child.stdin.flush()
        now = datetime.fromisoformat(json.loads(child.stdout.readline())["now"])
        assert BEFORE <= now <= BEFORE + timedelta(seconds=time.monotonic() - began_s)

        async def test() -> None:
            session = Session(await TcpCarrier.open(meters[1]["url"]), PROFILES["default"])
            answer = await session.ask(0x21)
            assert answer.last_interval_end == datetime(2026, 11, 20)
            session.carrier.close()

        run(test)
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=60) == 0
    finally:
        child.kill()
        child.communicate()
