"""Ways to a meter besides its own port: units that dial in, shared addresses, serial gateways, bad radio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
import pytest
import serial
from hypothesis import given
from hypothesis import strategies as st

from faults import DeveloperFault, RetryFault
from protocols.nbr14522.frames import ENQ
from protocols.nbr14522.messages import LimitUnit, request_for
from protocols.nbr14522.profile import MeterProfile
from protocols.nbr14522.profiles import DEFAULT, P2_GENERIC, P8_GENERIC
from simulator.load.clock import ClockModel, SettableClock
from simulator.load.curves import GeneratedLoad
from simulator.load.grid import MARKET_ZONE
from simulator.nbr14522.line import Bus, Station
from simulator.nbr14522.meter import SimulatedMeter, Stretch
from simulator.nbr14522.server import Rfc2217MeterServer, TcpMeterServer
from simulator.nbr14522.spec import MeterSpec
from simulator.wires.dialer import DialInUnit, DialPlan
from simulator.wires.faultplan import FaultPlan
from simulator.wires.impairment import QUALITIES, LinkQuality
from simulator.wires.telnet import IAC, Rfc2217Codec
from simulator.wires.virtual_time import run_virtual, virtual_loop
from tests.simulator.peers.wire import Session, TcpCarrier, run

NOW = datetime(2026, 11, 21, 0, 10, tzinfo=MARKET_ZONE)
UNSYNCHRONISED = replace(DEFAULT, enq_required=0)


def station(
    serial_number: str = "12345678", profile: MeterProfile = DEFAULT, plan: FaultPlan | None = None
) -> Station:
    source = GeneratedLoad("supermarket", 120.0, 0.036, int(serial_number, 16))
    spec = MeterSpec(serial_number, source, datetime(2026, 9, 1, 10), ClockModel(NOW), profile=profile)
    return Station(SimulatedMeter(spec), SettableClock(NOW, is_running=False), plan or FaultPlan())


def held(place: Station, days: int) -> np.ndarray:
    stop = place.meter.memory_stop(NOW)
    return place.meter.pulses(Stretch(stop - 288 * days, stop))


async def read_days(session: Session, days: int) -> np.ndarray:
    parameters = await session.ask(0x51, unit=LimitUnit.DAYS, amount=days)
    return await session.words(0x52, parameters.words_current)


# --- shared addresses ---------------------------------------------------------------------------------


@pytest.mark.req("TR-5.5a", "X-sim")
def test_meters_behind_one_address_answer_to_serial_and_to_number() -> None:
    profiles = [P8_GENERIC, P8_GENERIC, replace(P2_GENERIC, address=1), replace(P2_GENERIC, address=2)]
    places = [station(f"3000000{i}", profile) for i, profile in enumerate(profiles)]

    async def test() -> None:
        async with TcpMeterServer(Bus(places, FaultPlan())) as server:
            carrier = await TcpCarrier.open(server.url)
            for place in (*places, *reversed(places)):
                spec = place.meter.spec
                session = Session(carrier, spec.profile, spec.serial)
                assert (await session.ask(0x21)).meter_serial == spec.serial
                assert np.array_equal(await read_days(session, 1), held(place, 1))
            quick = replace(P8_GENERIC, timing=replace(P8_GENERIC.timing, addressed_response_s=0.2))
            with pytest.raises(RetryFault):
                await Session(carrier, quick, "30000009").ask(0x21)
            carrier.close()

    run(test)


def test_meters_that_speak_at_once_spoil_each_other() -> None:
    async def main() -> None:
        places = [station(f"3000000{i}", P8_GENERIC) for i in range(2)]
        async with TcpMeterServer(Bus(places, FaultPlan())) as server:
            with pytest.raises(RetryFault):
                await Session(await TcpCarrier.open(server.url), P8_GENERIC).ask(0x21)
        async with TcpMeterServer(Bus(places[:1], FaultPlan())) as server:
            alone = await Session(await TcpCarrier.open(server.url), P8_GENERIC).ask(0x21)
            assert alone.meter_serial == "30000000"

    run_virtual(main())


def test_meters_that_cannot_share_a_line_are_refused() -> None:
    with pytest.raises(DeveloperFault, match="cannot share"):
        Bus([station("30000001"), station("30000002", P8_GENERIC)], FaultPlan())
    with pytest.raises(DeveloperFault, match="cannot share"):
        Bus([station("30000001", P2_GENERIC), station("30000002", P2_GENERIC)], FaultPlan())


# --- serial gateways ----------------------------------------------------------------------------------


@pytest.mark.req("X-sim")
def test_pyserial_reads_a_meter_through_an_rfc2217_gateway() -> None:
    place = station("31FFFF01")  # FF in its serial number, so that telnet has octets to escape

    def read(url: str) -> bytes:
        with serial.serial_for_url(f"{url}?timeout=60", baudrate=9600, timeout=60) as port:
            assert port.read(2) == bytes([ENQ, ENQ])
            port.write(request_for(0x21).encode("FFFFFF"))
            answer = port.read(258)
            while answer[:1] == bytes([ENQ]):
                answer = answer[1:] + port.read(1)
            port.write(b"\x06")
            port.reset_input_buffer()
            port.baudrate = 2400
            assert port.read(1) == bytes([ENQ])
        return answer

    async def test() -> None:
        async with Rfc2217MeterServer(place) as server:
            assert server.url.startswith("rfc2217://")
            answer = await asyncio.to_thread(read, server.url)
            assert answer[:5] == bytes.fromhex("2131FFFF01")

    run(test)


@given(st.binary(max_size=300), st.integers(1, 7))
def test_telnet_escaping_is_undone_wherever_the_octets_are_cut(data: bytes, size: int) -> None:
    sender, receiver = Rfc2217Codec(), Rfc2217Codec()
    wire = sender.encode(data)
    parts = [receiver.receive(wire[i : i + size]) for i in range(0, len(wire), size)]
    assert b"".join(inner for inner, _ in parts) == data
    assert not any(reply for _, reply in parts)


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_any_octets_leave_the_gateway_with_bounded_answers(parts: list[bytes]) -> None:
    codec = Rfc2217Codec()
    for part in parts:
        inner, reply = codec.receive(part)
        assert len(inner) <= len(part)
        assert len(reply) <= 200 * (len(part) + 1)


def test_options_are_agreed_to_once() -> None:
    codec = Rfc2217Codec()
    assert codec.receive(bytes([IAC, 253, 44, IAC, 251, 0, IAC, 253, 24])) == (
        b"",
        bytes([IAC, 251, 44, IAC, 253, 0, IAC, 252, 24]),
    )
    assert codec.receive(bytes([IAC, 253, 44])) == (b"", b"")
    _, reply = codec.receive(bytes([IAC, 250, 44, 1, 0, 0, 0x25, 0x80, IAC, 240]))
    assert reply == bytes([IAC, 250, 44, 101, 0, 0, 0x25, 0x80, IAC, 240])
    assert codec.baud == 9600


# --- units that dial in -------------------------------------------------------------------------------


@dataclass
class Listener:
    """The collector's listening port: each connection that comes in, with a session on it when wanted."""

    connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)
    port: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append((reader, writer))
        self.arrived.set()

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()

    async def next(self, number: int) -> TcpCarrier:
        while len(self.connections) < number:
            self.arrived.clear()
            await self.arrived.wait()
        return TcpCarrier(*self.connections[number - 1])


@pytest.mark.req("TR-5.5a", "X-sim")
@pytest.mark.parametrize("profile", [UNSYNCHRONISED, DEFAULT, P8_GENERIC, P2_GENERIC])
def test_a_unit_calls_says_who_it_is_and_is_read_twice(profile: MeterProfile) -> None:
    async def test() -> None:
        place, listener = station(profile=profile), Listener()
        async with listener.listening():
            plan = DialPlan("127.0.0.1", listener.port, hello=b"UC-17;")
            unit = await DialInUnit(place, plan).start()
            carrier = await listener.next(1)
            got = b""
            while b"UC-17;" not in got:
                got += await carrier.read()
            for _ in range(2):
                session = Session(carrier, profile, "12345678")
                assert np.array_equal(await read_days(session, 1), held(place, 1))
            assert (unit.calls, unit.connections) == (1, 1)
            await unit.stop()

    run(test)


@pytest.mark.req("X-sim")
def test_a_bus_behind_one_unit() -> None:
    async def main() -> None:
        places = [station(f"3000000{i}", P8_GENERIC) for i in range(3)]
        listener = Listener()
        async with (
            listener.listening(),
            DialInUnit(Bus(places, FaultPlan()), DialPlan("127.0.0.1", listener.port)),
        ):
            carrier = await listener.next(1)
            for place in places:
                session = Session(carrier, P8_GENERIC, place.meter.spec.serial)
                assert np.array_equal(await read_days(session, 2), held(place, 2))

    run_virtual(main())


def test_a_dropped_unit_calls_again_with_growing_pauses_until_answered() -> None:
    async def main() -> None:
        loop, listener = virtual_loop(), Listener()
        plan = DialPlan("127.0.0.1", 9000, back_off_s=10, back_off_max_s=100)
        async with DialInUnit(station(), plan) as unit:
            await asyncio.sleep(3600)
            # Pauses of half to all of 10, 20, 40, 80, then 100 seconds.
            assert 36 <= unit.calls <= 80
            assert unit.failures == unit.calls
            async with listener.listening(9000):
                await listener.next(1)
                await asyncio.sleep(100)
                assert unit.connections == 1
                unit.drop()
                at_s = loop.time()
                await listener.next(2)
                assert 5 <= loop.time() - at_s <= 10  # it had been well: short pauses again

    run_virtual(main())


@pytest.mark.parametrize("old_is_dead", [True, False])
def test_two_connections_from_one_unit(old_is_dead: bool) -> None:
    async def main() -> None:
        place, listener = station(profile=P8_GENERIC), Listener()
        async with listener.listening(), DialInUnit(place, DialPlan("127.0.0.1", listener.port)) as unit:
            first = await listener.next(1)
            assert (await Session(first, P8_GENERIC).ask(0x21)).meter_serial == "12345678"
            assert await unit.duplicate(old_is_dead=old_is_dead)
            second = await listener.next(2)
            assert (await Session(second, P8_GENERIC).ask(0x21)).meter_serial == "12345678"
            if old_is_dead:
                with pytest.raises(RetryFault):
                    await Session(first, P8_GENERIC).ask(0x21)
                assert unit.connections == 1
            else:
                assert (await Session(first, P8_GENERIC).ask(0x21)).meter_serial == "12345678"
                assert unit.connections == 2

    run_virtual(main())


def test_keep_alives_come_in_time_and_enq_stop_when_nobody_asks() -> None:
    async def main() -> None:
        listener = Listener()
        plan = DialPlan("127.0.0.1", 9000, keep_alive=b"\x00", keep_alive_s=300, quiet_after_s=30)
        async with listener.listening(9000), DialInUnit(station(profile=UNSYNCHRONISED), plan):
            carrier = await listener.next(1)
            await asyncio.sleep(3600)
            reader, _ = listener.connections[0]
            heard = await reader.read(100_000)
            assert heard.count(b"\x00") in (11, 12)
            assert 50 <= heard.count(bytes([ENQ])) <= 130
            # And after an hour of silence it is read at once.
            assert (await Session(carrier, UNSYNCHRONISED).ask(0x21)).meter_serial == "12345678"

    run_virtual(main())


# --- bad radio ----------------------------------------------------------------------------------------


async def read_stubbornly(server: TcpMeterServer, place: Station) -> tuple[np.ndarray, int]:
    for attempt in range(1, 60):
        try:
            session = Session(await TcpCarrier.open(server.url), place.meter.spec.profile, "12345678")
            return await read_days(session, 1), attempt
        except (RetryFault, OSError):
            await asyncio.sleep(30)
    raise AssertionError("never read")


@pytest.mark.req("TR-5.12a", "X-sim")
@pytest.mark.parametrize("quality", ["4g", "gprs", "gprs-bad", "satellite"])
@pytest.mark.parametrize("profile", [UNSYNCHRONISED, P8_GENERIC], ids=["P0", "P8"])
def test_bad_radio_is_read_exactly_or_not_at_all(quality: str, profile: MeterProfile) -> None:
    async def main() -> None:
        for seed in range(4):
            place = station(profile=profile, plan=FaultPlan(quality=QUALITIES[quality], seed=seed))
            async with TcpMeterServer(place, enq_period_s=1.0) as server:
                words, _ = await read_stubbornly(server, place)
                assert np.array_equal(words, held(place, 1)), f"seed {seed}"

    run_virtual(main())


def test_delay_is_seen_on_a_real_socket() -> None:
    async def test() -> None:
        plan = FaultPlan(quality=LinkQuality(delay_s=0.15, portion_octets=100))
        place = station(profile=P8_GENERIC, plan=plan)
        async with TcpMeterServer(place) as server:
            session = Session(await TcpCarrier.open(server.url), P8_GENERIC)
            begin = asyncio.get_running_loop().time()
            assert (await session.ask(0x21)).meter_serial == "12345678"
            assert asyncio.get_running_loop().time() - begin >= 0.3

    run(test)


def test_the_same_seed_has_the_same_luck() -> None:
    async def main() -> list[object]:
        plan = FaultPlan(quality=QUALITIES["gprs-bad"], seed=11)
        place = station(profile=P8_GENERIC, plan=plan)
        async with TcpMeterServer(place) as server:
            _, attempts = await read_stubbornly(server, place)
        return [attempts, asyncio.get_running_loop().time()]

    assert run_virtual(main()) == run_virtual(main())
