"""Fleets from a file: what the keys say is what is served; what is wrong is named with its remedy."""

from __future__ import annotations

import asyncio
import tomllib
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import serial

from faults import OperatorFault, RetryFault
from protocols.nbr14522.frames import Addressing
from protocols.nbr14522.messages import LimitUnit
from protocols.nbr14522.models import remove_catalogue
from protocols.nbr14522.profile import MeterProfile
from protocols.nbr14522.profiles import PROFILES
from simulator.fleets.file import FleetPlan, Transport, load_fleet, plan_fleet
from simulator.fleets.runner import PlannedFleetServer
from simulator.load.grid import MARKET_ZONE
from simulator.nbr14522.meter import SimulatedMeter, Stretch
from simulator.wires.impairment import QUALITIES
from simulator.wires.virtual_time import run_virtual, virtual_loop
from tests.simulator.peers.wire import Session, TcpCarrier, run

EXAMPLE = Path(__file__).parents[2] / "deploy" / "frota_exemplo.toml"
NOW = datetime(2026, 11, 20, 8, tzinfo=MARKET_ZONE)


@pytest.fixture
def example() -> Iterator[FleetPlan]:
    yield load_fleet(EXAMPLE, NOW)
    remove_catalogue("modelos_de_treino.toml")


def plan(text: str, collector: str | None = None) -> FleetPlan:
    return plan_fleet(tomllib.loads(text), "fleet.toml", NOW, collector)


@pytest.mark.req("X-sim")
def test_the_example_holds_mixed_meters(example: FleetPlan) -> None:
    assert len(example.meters) == 61
    assert len({meter.spec.serial for meter in example.meters}) == 61
    assert {unit.transport for unit in example.units} == {Transport.TCP, Transport.DIAL_IN, Transport.RFC2217}
    assert {meter.spec.profile.addressing for meter in example.meters} == set(Addressing)
    assert {len(meter.spec.source.quantities) for meter in example.meters} == {3, 12}
    assert {meter.spec.source.interval_s for meter in example.meters} == {300, 900}
    assert sum(meter.spec.passwords is not None for meter in example.meters) == 22
    assert example.now == NOW
    sagas = [m.spec.profile.address for m in example.meters if m.group == "saga-na-remota"]
    assert sagas == [1, 2, 3, 4]
    callers = [unit for unit in example.units if unit.dial is not None]
    assert callers[0].dial is not None
    assert callers[0].dial.hello == b"UNIDADE discam-001 40000045;"
    assert len({unit.dial.seed for unit in callers if unit.dial}) == len(callers)


def test_the_same_file_gives_the_same_fleet(example: FleetPlan) -> None:
    assert load_fleet(EXAMPLE, NOW) == example


def test_values_are_spread_as_asked() -> None:
    text = """
        [fleet]
        seed = 3
        [[group]]
        name = "a"
        count = 400
        peak_kw = [50, 70]
        clock = { offset_s = { mean = 100, deviation = 10 }, drift_ppm = [-5, 5] }
        outages_per_year = 12
        link = "gprs"
        faults = { silent = 0.25 }
    """
    meters = plan(text).meters
    offsets = [meter.spec.clock.offset_s for meter in meters]
    assert 98 < np.mean(offsets) < 102
    assert 8 < np.std(offsets) < 12
    drifts = [meter.spec.clock.drift_ppm for meter in meters]
    assert -5 <= min(drifts) < -4
    assert 4 < max(drifts) <= 5
    assert all(50 <= meter.spec.rated_kw <= 70 for meter in meters)
    assert all(meter.faults.quality == QUALITIES["gprs"] for meter in meters)
    assert 70 < sum(meter.faults.silent for meter in meters) < 130
    history = timedelta(days=240)
    assert 6.5 < np.mean([len(meter.spec.outages) for meter in meters]) < 9.5  # 12 a year over 240 days
    for meter in meters:
        ends = [meter.spec.started_at, *(outage.end for outage in meter.spec.outages)]
        starts = [outage.start for outage in meter.spec.outages]
        assert all(end <= start for end, start in zip(ends, starts, strict=False))
        assert all(start - meter.spec.started_at < history for start in starts)
    assert len({meter.faults.seed for meter in meters}) == 400


GROUP = '[[group]]\nname = "g"\n'


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("", "fleet.toml group", "needs groups"),
        ("[[group]]\ncount = 1", "fleet.toml, group 1, name", "not text"),
        (GROUP + GROUP, "fleet.toml, group 'g', name", "two groups"),
        (GROUP + 'model = "nope"', "fleet.toml, group 'g', model", "no model 'nope'"),
        (GROUP + "count = 0", "fleet.toml, group 'g', count", "whole number from 1"),
        (GROUP + "cout = 3", "fleet.toml, group 'g', cout", "no such key"),
        (GROUP + 'loads = ["disco"]', "fleet.toml, group 'g', loads", "unknown"),
        (GROUP + "peak_kw = [9, 3]", "fleet.toml, group 'g', peak_kw", "upside down"),
        (GROUP + 'peak_kw = "much"', "fleet.toml, group 'g', peak_kw", "neither a number"),
        (GROUP + "interval_min = 7", "fleet.toml, group 'g', interval_min", "7 min"),
        (GROUP + 'channels = ["kwh"]', "fleet.toml, group 'g', channels", "1 channels"),
        (
            GROUP + 'channels = ["kwh", "off", "off", "kwh-rev", "off", "off"]',
            "fleet.toml, group 'g', channels",
            "3 to 3",
        ),
        (GROUP + "generation_kw = 5", "fleet.toml, group 'g', generation_kw", "reverse"),
        (GROUP + "per_unit = 2", "fleet.toml, group 'g', per_unit", "no address"),
        (GROUP + 'link = "wet"', "fleet.toml, group 'g', link", "no link 'wet'"),
        (GROUP + 'transport = "dial_in"', "fleet.toml, group 'g', transport", "HOST:PORT"),
        (GROUP + "clock = { offset = 3 }", "fleet.toml, group 'g', clock offset", "no such key"),
        (GROUP + 'password = { write = "x" }', "fleet.toml, group 'g', password write", "cannot be computed"),
        (GROUP + "faults = { baud = 30 }", "fleet.toml, group 'g', faults baud", "too slow"),
        (GROUP + 'occurrences = ["zz"]', "fleet.toml, group 'g', occurrences", "not a list of codes"),
        ('[fleet]\nnow = "noon"\n' + GROUP, "fleet.toml, fleet, now", "not an instant"),
        ("[fleet]\nsede = 1\n" + GROUP, "fleet.toml, fleet, sede", "no such key"),
        ("[link.x]\nloss = 2\n" + GROUP, "fleet.toml, link 'x', loss", "from 0 to 1"),
        ("[lnik.x]\nloss = 2\n" + GROUP, "fleet.toml lnik", "no such key"),
        (
            GROUP + 'transport = "dial_in"\ndial = { hello_hex = "0g" }',
            "fleet.toml, group 'g', dial hello_hex",
            "hex",
        ),
    ],
)
def test_what_is_wrong_is_named(text: str, where: str, message: str) -> None:
    with pytest.raises(OperatorFault) as refusal:
        plan(text, collector="h:1" if "hello_hex" in text else None)
    assert refusal.value.where == where
    assert message in refusal.value.message
    assert refusal.value.remedy


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(OperatorFault, match="cannot read the fleet"):
        load_fleet(tmp_path / "none.toml", NOW)
    bad = tmp_path / "bad.toml"
    bad.write_text("[fleet")
    with pytest.raises(OperatorFault, match="not TOML"):
        load_fleet(bad, NOW)
    bad.write_text('[fleet]\ncatalogue = ["gone.toml"]\n' + GROUP)
    with pytest.raises(OperatorFault, match=r"gone\.toml"):
        load_fleet(bad, NOW)


# --- served -------------------------------------------------------------------------------------------


def held(meter: SimulatedMeter, now: datetime, days: int) -> Any:
    stop = meter.memory_stop(now)
    per_day = 86_400 // meter.interval_s
    return meter.pulses(Stretch(max(stop - per_day * days, meter.whole_memory(now).first), stop))


@pytest.mark.req("X-sim", "TR-5.5a")
def test_the_example_is_served_on_real_sockets(example: FleetPlan) -> None:
    async def test() -> None:
        from dataclasses import replace

        quiet = replace(example, first_port=0)
        async with PlannedFleetServer(quiet, lambda: NOW) as server:
            assert len(server.meters) == 61
            by_group = {meter.group: meter for meter in server.meters}
            for group in ("condominio", "saga-na-remota", "cogeracao"):
                row = by_group[group]
                profile = example_profile(example, row.serial)
                session = Session(await TcpCarrier.open(row.url), profile, row.serial)
                assert (await session.ask(0x21)).meter_serial == row.serial
                session.carrier.close()
            gateway = by_group["porta-serial-remota"]
            heard = await asyncio.to_thread(one_octet, gateway.url)
            assert heard == b"\x05"
            assert by_group["discam"].url == "listen://127.0.0.1:17999"

    run(test)


def example_profile(example: FleetPlan, wanted: str) -> MeterProfile:
    return next(meter.spec.profile for meter in example.meters if meter.spec.serial == wanted)


def one_octet(url: str) -> bytes:
    with serial.serial_for_url(f"{url}?timeout=60", timeout=60) as port:
        return bytes(port.read(1))


class Reader:
    """Reads a fleet in simulated time: calls what listens, takes what calls, tries until it has a day."""

    def __init__(self, plan: FleetPlan, server: PlannedFleetServer) -> None:
        self.plan, self.server = plan, server
        self.got: dict[str, Any] = {}
        self.tries: Counter[str] = Counter()
        self.clock = virtual_loop().clock(NOW)

    async def day_of(self, session: Session, meter: SimulatedMeter) -> None:
        """The newest day of channels 1 to 3, compared with what the meter holds at that very moment."""
        code = 0x51 if 0x51 in meter.spec.profile.commands else 0x21
        limit = {"unit": LimitUnit.DAYS, "amount": 1} if code == 0x51 else {}
        parameters = await session.ask(code, **limit)
        if parameters.code == 0x40:
            await session.ask(0x37, occurrence=parameters.occurrence)
            parameters = await session.ask(code, **limit)
        words = await session.words(0x52 if code == 0x51 else 0x26, parameters.words_current)
        end = int((parameters.last_interval_end - datetime(1970, 1, 1)).total_seconds()) // meter.interval_s
        expected = meter.pulses(Stretch(end - len(words), end))[:, :3]
        # A meter that starts an interval between two commands brings that one too.
        assert np.array_equal(words, expected) or np.array_equal(
            words, meter.pulses(Stretch(end - len(words) + 1, end + 1))[:, :3]
        ), meter.spec.serial
        self.got[meter.spec.serial] = words

    async def call(self, url: str, serials: list[str]) -> None:
        for number in serials:
            meter = self.server.stations[number].meter
            while number not in self.got and self.tries[number] < 40:
                self.tries[number] += 1
                try:
                    carrier = await TcpCarrier.open(url)
                    await self.day_of(Session(carrier, meter.spec.profile, number), meter)
                    carrier.close()
                except (RetryFault, OSError):
                    await asyncio.sleep(60)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A unit calls: its address tells which one; a collector goes by hello or serial."""
        peer = writer.get_extra_info("peername")
        caller = next(unit for unit in self.server.callers.values() if peer in unit.own_addresses)
        try:
            for station in caller.station.stations:
                spec = station.meter.spec
                if spec.serial not in self.got:
                    self.tries[spec.serial] += 1
                    carrier = TcpCarrier(reader, writer)
                    await self.day_of(Session(carrier, spec.profile, spec.serial), station.meter)
        except (RetryFault, OSError):
            writer.close()


@pytest.mark.req("X-sim", "TR-5.12a")
def test_every_meter_of_the_example_is_read_in_simulated_time(example: FleetPlan) -> None:
    async def main() -> None:
        loop = virtual_loop()
        async with PlannedFleetServer(example, loop.clock(NOW)) as server:
            reader = Reader(example, server)
            await asyncio.start_server(reader.answer, "127.0.0.1", 17_999)
            rows: dict[str, list[str]] = {}
            for row in server.meters:
                if not row.url.startswith(("listen:", "rfc2217:")):
                    rows.setdefault(row.url, []).append(row.serial)
            await asyncio.gather(*(reader.call(url, serials) for url, serials in rows.items()))
            for _ in range(100):
                callers = [s.meter.spec.serial for u in server.callers.values() for s in u.station.stations]
                if all(number in reader.got for number in callers):
                    break
                await asyncio.sleep(600)
            behind_gateways = {m.serial for m in server.meters if m.url.startswith("rfc2217:")}
            missing = {m.serial for m in server.meters} - set(reader.got) - behind_gateways
            assert not missing, missing
            assert sum(reader.tries.values()) > len(reader.got)  # the radio was bad indeed

    run_virtual(main())


def test_every_model_of_the_catalogue_can_be_simulated() -> None:
    text = "\n".join(f'[[group]]\nname = "{name}"\nmodel = "{name}"\n' for name in PROFILES)

    async def main() -> None:
        fleet = plan(text)
        async with PlannedFleetServer(fleet, virtual_loop().clock(NOW)) as server:
            for row in server.meters:
                profile = PROFILES[row.model]
                session = Session(await TcpCarrier.open(row.url), profile, row.serial)
                answer = await session.ask(0x21)
                assert (answer.code, answer.meter_serial) == (0x21, row.serial), row.model
                for code in sorted(profile.commands & {0x41, 0x46, 0x16, 0x80, 0x14, 0x85}):
                    assert (await session.ask(code)).code == code, (row.model, code)

    run_virtual(main())


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[fleet]\nx = 1\n" + GROUP, "fleet"),
        (GROUP + "x = 1", "group"),
        (GROUP + "faults = { x = 1 }", "faults"),
        (GROUP + 'transport = "dial_in"\ndial = { x = 1 }', "dial"),
        ("[link.x]\nx = 1\n" + GROUP, "link"),
    ],
)
def test_the_manual_names_every_key(text: str, place: str) -> None:
    with pytest.raises(OperatorFault) as refusal:
        plan(text, collector="h:1")
    keys = refusal.value.remedy.removeprefix("known here: ").split(", ")
    manual = (Path(__file__).parents[2] / "docs" / "frota_simulada.md").read_text()
    assert len(keys) > 5
    assert [key for key in keys if f"`{key}`" not in manual and f"`{place}.{key}`" not in manual] == []


@pytest.mark.case("D15")
@pytest.mark.parametrize(("key", "b_deg"), [("", -120.0), ('phase_sequence = "CBA"', 120.0)], ids=str)
def test_a_site_wired_backwards_shows_it_in_command_14(key: str, b_deg: float) -> None:
    fleet = plan(f'[[group]]\nname = "a"\ncount = 1\n{key}\n')

    async def test() -> None:
        async with PlannedFleetServer(fleet, lambda: NOW) as server:
            (row,) = server.meters
            session = Session(await TcpCarrier.open(row.url), PROFILES[row.model], row.serial)
            page = await session.ask(0x14)
            assert (page.voltage_angle_a_deg, page.voltage_angle_b_deg) == (0.0, b_deg)

    run(test)


def test_a_sequence_of_no_phases_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(OperatorFault, match="no phase_sequence 'ACB'") as refused:
        plan('[[group]]\nname = "a"\nphase_sequence = "ACB"\n')
    assert "ABC, CBA" in refused.value.remedy
