"""Real sockets and real pseudo terminals: what is read is what the meter holds, and each fault shows."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faults import OperatorFault, RetryFault
from protocols.nbr14522.crc import crc16_arc
from protocols.nbr14522.frames import ACK, ENQ, NAK, WAIT
from protocols.nbr14522.link import FrameReceived, SignalReceived, SignalSent, Skipped, SkipReason
from protocols.nbr14522.messages import LimitUnit, request_for
from protocols.nbr14522.profile import MeterProfile
from protocols.nbr14522.profiles import DEFAULT, OLD_3CH, P2_GENERIC, P8_GENERIC
from simulator.fleets.single import end_of, recorded_meter
from simulator.load.clock import ClockModel, SettableClock
from simulator.load.recording import read_pulses_csv
from simulator.nbr14522.line import Station
from simulator.nbr14522.meter import SimulatedMeter, Stretch
from simulator.nbr14522.server import TcpMeterServer, serve_pty, serve_tcp
from simulator.nbr14522.spec import Outage
from simulator.wires.faultplan import TELNET_OPTIONS, FaultPlan
from tests.simulator.peers.serving import NOW, SERIAL, served, station
from tests.simulator.peers.wire import SerialCarrier, Session, TcpCarrier, run

MONTH = Path(__file__).parents[2].parent / "shared" / "data" / "pulses_5min_2016-09-28_2016-10-28.csv"


async def session_with(server: TcpMeterServer, **timing: float) -> Session:
    profile = server.station.meter.spec.profile
    quick = replace(profile, timing=replace(profile.timing, **timing))
    return Session(await TcpCarrier.open(server.url), quick, SERIAL)


async def week(session: Session) -> Any:
    parameters = await session.ask(0x51, unit=LimitUnit.DAYS, amount=7)
    return await session.words(0x52, parameters.words_current)


def held(server: TcpMeterServer, days: int = 7) -> Any:
    meter = server.station.meter
    stop = meter.memory_stop(NOW)
    return meter.pulses(Stretch(stop - 288 * days, stop))


@pytest.mark.req("X-sim")
@pytest.mark.parametrize("profile", [DEFAULT, P8_GENERIC, P2_GENERIC], ids=lambda profile: profile.name)
def test_a_reader_gets_over_tcp_what_the_meter_holds(profile: MeterProfile) -> None:
    async def test() -> None:
        async with served(profile) as server:
            session = await session_with(server)
            assert (await session.ask(0x21)).meter_serial == SERIAL
            assert np.array_equal(await week(session), held(server))
            assert (await session.ask(0x85)).refused_code == 0x85
            session.carrier.close()

    run(test)


@pytest.mark.req("X-sim")
def test_a_reader_gets_over_a_pty_what_the_meter_holds() -> None:
    async def test() -> None:
        server = await serve_pty(station(), enq_period_s=0.02)
        try:
            await asyncio.sleep(0.5)  # nobody reads; what was said meanwhile must not pile up
            carrier = SerialCarrier(server.path)
            time.sleep(0.5)  # noqa: ASYNC251 -- nor does a machine that was busy say it all at once
            assert len(await carrier.read()) <= 12
            session = Session(carrier, DEFAULT)
            assert (await session.ask(0x21)).meter_time == datetime(2026, 11, 21, 0, 10)
            assert np.array_equal(await week(session), held(server))
            carrier.close()
            again = Session(SerialCarrier(server.path), DEFAULT)
            assert (await again.ask(0x23)).channels[0].total_pulses > 0
            again.carrier.close()
        finally:
            await server.stop()

    run(test)


@pytest.mark.req("X-sim")
def test_the_octets_on_the_socket_are_those_of_the_standard() -> None:
    """A client that knows nothing but sections 1.2 to 1.4."""

    async def test() -> None:
        async with served() as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            assert await reader.readexactly(2) == bytes([ENQ, ENQ])
            body = bytes.fromhex("21001101") + bytes(60)
            writer.write(body[:-1] + b"\x01" + bytes.fromhex("3b39"))
            assert await _skip_enq(reader) == bytes([NAK])
            writer.write(body + bytes.fromhex("3b39"))
            block = await _skip_enq(reader) + await reader.readexactly(257)
            assert block[:5].hex() == "2112345678"
            assert crc16_arc(block) == 0
            writer.write(bytes([NAK]))
            assert await reader.readexactly(258) == block
            writer.write(bytes([ACK]))
            assert await reader.readexactly(1) == bytes([ENQ])
            writer.close()

    run(test)


async def _skip_enq(reader: asyncio.StreamReader) -> bytes:
    while (octet := await reader.readexactly(1)) == bytes([ENQ]):
        pass
    return octet


@pytest.mark.req("X-sim", "TR-5.6b")
def test_an_old_meter_is_read_over_tcp_with_26_and_27() -> None:
    async def test() -> None:
        async with served(OLD_3CH) as server:
            session = await session_with(server)
            parameters = await session.ask(0x21)
            for code in (0x14, 0x51, 0x52, 0x80):
                assert (await session.ask(code)).refused_code == code
            current = await session.words(0x26, parameters.words_current)
            previous = await session.words(0x27, parameters.words_previous)
            meter = server.station.meter
            assert np.array_equal(current, meter.pulses(meter.current_period(NOW)))
            assert np.array_equal(previous, meter.pulses(meter.previous_period(NOW)))
            session.carrier.close()

    run(test)


@pytest.mark.req("X-sim")
@pytest.mark.skipif(not MONTH.exists(), reason="real data absent (../shared/data)")
def test_the_recorded_month_comes_through_exactly() -> None:
    recording = read_pulses_csv(MONTH, 0.0072)
    end = end_of(recording)
    spec = recorded_meter(
        recording, serial="00088518", constant=(72, 10_000), profile=DEFAULT, clock=ClockModel(end)
    )

    async def test() -> None:
        meter = Station(SimulatedMeter(spec), SettableClock(end, is_running=False), FaultPlan())
        server = await serve_tcp(meter)
        session = Session(await TcpCarrier.open(server.url), DEFAULT)
        parameters = await session.ask(0x21)
        assert parameters.last_interval_end == datetime(2016, 10, 28)
        words = await session.words(0x26, parameters.words_current)
        assert len(words) == 8_641
        assert np.array_equal(words[:, 0], recording.counts)
        assert words.sum() == 2_373_475
        assert not words[:, 1:].any()
        registers = await session.ask(0x23)
        assert registers.channels[0].total_pulses == 2_373_475
        session.carrier.close()
        await server.stop()

    run(test)


# --- faults ---------------------------------------------------------------------------------------------


@pytest.mark.req("X-sim")
def test_silence() -> None:
    async def test() -> None:
        async with served(plan=FaultPlan(silent=True)) as server:
            session = await session_with(server, synchronise_s=0.4)
            with pytest.raises(RetryFault, match="no ENQ"):
                await session.ask(0x21)

    run(test)


def test_a_meter_without_supply_is_silent() -> None:
    outage = Outage(datetime(2026, 11, 21, 0, 0), datetime(2026, 11, 21, 0, 30))

    async def test() -> None:
        async with served(outages=(outage,)) as server:
            session = await session_with(server, synchronise_s=0.3)
            with pytest.raises(RetryFault, match="no ENQ"):
                await session.ask(0x21)

    run(test)


@pytest.mark.req("X-sim")
def test_damaged_blocks_are_refused_and_repeated() -> None:
    async def test() -> None:
        async with served(plan=FaultPlan(bad_crc_blocks=(2, 5), bad_crc_probability=0.2, seed=4)) as server:
            session = await session_with(server)
            assert np.array_equal(await week(session), held(server))
            frames = [event for event in session.events if isinstance(event, FrameReceived)]
            bad = [index + 1 for index, frame in enumerate(frames) if not frame.crc_ok]
            assert {2, 5} < set(bad)
            naks = sum(e.count for e in session.events if isinstance(e, SignalSent) and e.signal == NAK)
            assert naks == len(bad)
            session.carrier.close()

    run(test)


@pytest.mark.req("X-sim")
def test_wait_puts_each_command_off() -> None:
    async def test() -> None:
        async with served(plan=FaultPlan(wait_count=3, wait_s=0.02)) as server:
            session = await session_with(server)
            assert np.array_equal(await week(session), held(server))
            waits = sum(e.count for e in session.events if isinstance(e, SignalReceived) and e.signal == WAIT)
            assert waits == 2 * 3  # two commands
            session.carrier.close()
        async with served(P8_GENERIC, FaultPlan(wait_count=3)) as server:
            session = await session_with(server)
            assert (await session.ask(0x21)).code == 0x21
            session.carrier.close()

    run(test)


@pytest.mark.req("X-sim")
def test_a_connection_breaks_in_mid_block_and_later_ones_work() -> None:
    async def test() -> None:
        plan = FaultPlan(drop_first=2, drop_at_block=3, drop_after_octets=120, refuse_first=1)
        async with served(plan=plan) as server:
            refused = await TcpCarrier.open(server.url)
            assert await refused.read() == b""
            for _ in range(2):
                session = await session_with(server)
                with pytest.raises(RetryFault, match="connection closed"):
                    await week(session)
                received = [event for event in session.events if isinstance(event, FrameReceived)]
                assert len(received) == 2
                cut = [
                    e for e in session.events if isinstance(e, Skipped) and e.reason is SkipReason.TRUNCATED
                ]
                assert [event.count for event in cut] == [120]
            session = await session_with(server)
            assert np.array_equal(await week(session), held(server))
            session.carrier.close()

    run(test)


def test_connection_faults_begin_at_their_simulated_instant() -> None:
    async def test() -> None:
        place = station(plan=FaultPlan(drop_first=1, drop_at_block=1, effective_from=NOW))
        clock = SettableClock(NOW.replace(day=20), is_running=False)
        place.clock = clock
        async with TcpMeterServer(place, enq_period_s=0.03) as server:
            for _ in range(2):
                session = await session_with(server)
                assert (await session.ask(0x21)).code == 0x21
                session.carrier.close()
            clock.set(NOW)
            session = await session_with(server)
            with pytest.raises(RetryFault, match="connection closed"):
                await session.ask(0x21)
            session = await session_with(server)
            assert (await session.ask(0x21)).meter_time == datetime(2026, 11, 21, 0, 10)
            session.carrier.close()

    run(test)


@pytest.mark.req("X-sim")
def test_a_slow_line_keeps_its_rate() -> None:
    async def test() -> None:
        async with served(plan=FaultPlan(baud=9_600)) as server:
            session = await session_with(server)
            begin = time.monotonic()
            for _ in range(4):
                await session.ask(0x23)
            took_s = time.monotonic() - begin
            assert took_s > 4 * 258 * 10 / 9_600 * 0.9
            session.carrier.close()

    run(test)


@pytest.mark.req("X-sim")
def test_telnet_options_at_connect_are_no_enq() -> None:
    async def test() -> None:
        async with served(plan=FaultPlan(hello=TELNET_OPTIONS)) as server:
            raw = await TcpCarrier.open(server.url)
            assert (await raw.read()).startswith(TELNET_OPTIONS)
            raw.close()
            session = await session_with(server)
            assert (await session.ask(0x21)).code == 0x21
            skipped = [e for e in session.events if isinstance(e, Skipped) and e.reason is SkipReason.TELNET]
            assert sum(event.count for event in skipped) == len(TELNET_OPTIONS)
            session.carrier.close()

    run(test)


def test_the_newest_connection_wins() -> None:
    async def test() -> None:
        async with served() as server:
            first = await TcpCarrier.open(server.url)
            assert await first.read()
            second = await session_with(server)
            assert (await second.ask(0x21)).code == 0x21
            while await first.read():
                pass
            second.carrier.close()

    run(test)


def test_a_taken_port_is_said_with_a_remedy() -> None:
    async def test() -> None:
        async with served() as server:
            with pytest.raises(OperatorFault, match="cannot listen") as refusal:
                await serve_tcp(station(), port=server.port)
            assert refusal.value.where == server.url

    run(test)


def test_a_command_addressed_to_another_meter_gets_no_answer() -> None:
    async def test() -> None:
        async with served(P8_GENERIC) as server:
            carrier = await TcpCarrier.open(server.url)
            carrier.write(bytes.fromhex("9987654321") + request_for(0x21).encode("000003"))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(carrier.read(), 0.3)
            carrier.close()

    run(test)


@pytest.mark.case("F5")
def test_the_first_block_of_the_whole_memory_comes_at_once() -> None:
    """Half a second of silence, and a strict reader gives up: the memory is counted before anybody asks."""

    async def test() -> None:
        async with served(DEFAULT) as server:
            session = await session_with(server)
            parameters = await session.ask(0x51, unit=LimitUnit.EVERYTHING)
            asked = asyncio.get_running_loop().time()
            await session.words(0x52, parameters.words_current)
            first = next(
                event
                for event in session.events
                if isinstance(event, FrameReceived) and event.at_s > asked and event.octets[0] == 0x52
            )
            assert parameters.words_current > 60_000
            assert first.at_s - asked < 0.3

    run(test)
