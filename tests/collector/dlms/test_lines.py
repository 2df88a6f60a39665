"""DLMS meters on serial lines, behind gateways, at optical ports, on buses, and on lines that lose frames."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import numpy as np
import pytest

from collector.dlms import script as dlms_script
from collector.dlms.secrets import Secrets
from collector.dlms.session import DlmsLine, read_dlms, steps
from collector.lines.transports import SpeedStream, Timeouts, open_stream, parse_url
from collector.work.worklist import request_missing
from faults import OperatorFault, RetryFault
from protocols.dlms import models
from protocols.dlms.framing import HdlcAddress
from protocols.dlms.mode_e import SPEEDS, with_parity
from simulator.dlms import server as dlms_server
from simulator.dlms.end import BadLineEnd, Bus, HdlcEnd
from simulator.dlms.meter import DlmsMeter
from simulator.dlms.optical import OpticalEnd
from simulator.dlms.server import DlmsGateway, DlmsPty, DlmsServer
from simulator.wires.impairment import LinkQuality
from tests.collector.dlms.peers.world import (
    AUTHENTICATION,
    ENCRYPTION,
    PASSWORD,
    SERIAL,
    SPEC,
    assert_exact,
    patient,
    registered,
)
from tests.collector.lines.ways import add_line
from tests.collector.world import DAY, NOW, collect, meter, query, register, sessions, stored, truth

pytestmark = pytest.mark.req("TR-5.12a")

MODELS = """
[models.dlms-lines]
extends = "dlms-nbr16968-hdlc"
pulse_wh = "7.2"
answer_s = 30
repeat_s = 0.25
repeats = 40
[models.dlms-lines-optical]
extends = "dlms-lines"
opening = "mode-e"
opening_wait_s = 0.5
repeat_s = 10
[models.dlms-lines-optical-gmac]
extends = "dlms-lines-optical"
client = 1
authentication = "gmac"
counter_object = "0-0:43.1.5"
[models.dlms-lines-bus]
extends = "dlms-lines"
address_octets = 2
"""


@pytest.fixture(autouse=True)
def catalogue():
    models.add_catalogue("lines", MODELS)
    yield
    models.remove_catalogue("lines")


@pytest.fixture
def secrets(tmp_path):
    path = tmp_path / "secrets.toml"
    names = ("dlms-lines", "dlms-lines-optical", "dlms-lines-bus")
    path.write_text("".join(f'[models.{name}]\npassword = "{PASSWORD}"\n' for name in names))
    path.chmod(0o600)
    return path


def optical(kind, **options):
    """A server of this kind whose meter is behind an optical port, and the port of its last connection."""
    one = DlmsMeter(meter().meter, SPEC)
    ports = []

    def make_end():
        ports.append(OpticalEnd(HdlcEnd(one), **options))
        return ports[-1]

    return kind(one, lambda: NOW, make_end=make_end), ports


def visit(url, model, *, times=1, **limits):
    """(result, frames) of the last of some sessions that ask serial and clock."""
    frames = []
    model = models.model_named(model) if isinstance(model, str) else model
    line = DlmsLine(
        parse_url(url),
        model,
        Timeouts(**{"connect_s": 20, "idle_s": 30, "total_s": 120, **limits}),
        Secrets(SPEC.password),
        b"12345678",
        None,
    )
    work = steps(lambda client: dlms_script.identity(client, model))

    async def sessions():
        for _ in range(times):
            frames.clear()
            result = await read_dlms(
                line, work, lambda *frame: frames.append(frame), lambda: NOW, open_stream
            )
        return result

    return sessions(), frames


# --- optical ports -----------------------------------------------------------------------------------------


@pytest.mark.req("TR-5.1")
@pytest.mark.parametrize("kind", [DlmsPty, DlmsGateway])
def test_a_meter_is_collected_through_an_optical_port(embedded_db, secrets, kind):
    ready = patient(embedded_db, secrets)
    server, ports = optical(kind, says_twice=True)

    async def work():
        async with server as way:
            meter_id = registered(ready, way, "dlms-lines-optical")
            return meter_id, (await collect(ready))[SERIAL]

    meter_id, summary = asyncio.run(work())
    assert (summary.state, summary.sessions) == ("done", 1), summary
    assert_exact(ready, meter_id, server)
    assert ports[-1].baud == 300, "closed again"
    (session,) = sessions(ready)
    assert (session["outcome"], session["retries"]) == ("complete", 0)
    kept = query(ready, "SELECT command, payload FROM frame ORDER BY seq LIMIT 4")
    assert [(command, bytes(payload)) for command, payload in kept] == [
        (0x2F, b"/?!\r\n"),
        (0x2F, b"/SIM5\\2Simulated\r\n"),
        (0x06, b"\x06252\r\n"),
        (0x06, b"\x06252\r\n"),
    ]


@pytest.mark.parametrize("kind", [DlmsPty, DlmsGateway])
@pytest.mark.parametrize(
    "options",
    [{"is_echoing": True}, {"speed": "6"}, {"speed": "0"}, {"address": "42", "identification": "abc"}],
    ids=str,
)
def test_ports_of_other_makes(kind, options):
    server, _ = optical(kind, **options)
    model = replace(models.model_named("dlms-lines-optical"), opening_address=options.get("address", ""))

    async def work():
        async with server as way:
            # A second session finds the port as the first one did.
            coroutine, frames = visit(way.url, model, times=2)
            return await coroutine, frames

    result, frames = asyncio.run(work())
    assert (result.outcome, result.retries) == ("complete", 0), result.fault
    agreed = f"\x062{options.get('speed', '5')}2\r\n".encode()
    # An echo looks like a repetition.
    assert [frame[4] for frame in frames if frame[2] == 0x06] == [agreed] * (1 + ("is_echoing" in options))


def test_what_the_optical_port_does_not_understand_is_said_again():
    """The first sign-on comes at another speed than the reader believes; a port hears noise."""

    class Deaf(OpticalEnd):
        calls = 0

        def heard(self, data, baud, now):
            self.calls += 1
            return b"" if self.calls == 1 else super().heard(data, baud, now)

    one = DlmsMeter(meter().meter, SPEC)
    port = Deaf(HdlcEnd(one))

    async def work():
        async with DlmsPty(one, lambda: NOW, make_end=lambda: port) as way:
            model = replace(models.model_named("dlms-lines-optical"), repeat_s=2)
            coroutine, frames = visit(way.url, model)
            return await coroutine, frames

    result, frames = asyncio.run(work())
    assert (result.outcome, result.retries) == ("complete", 1), result.fault
    assert [frame[4] for frame in frames[:2]] == [b"/?!\r\n"] * 2


def test_a_silent_port_ends_the_session_with_its_reason():
    server, _ = optical(DlmsPty, address="42")
    model = replace(models.model_named("dlms-lines-optical"), opening_address="43", repeats=1, repeat_s=0.2)

    async def work():
        async with server as way:
            coroutine, _ = visit(way.url, model)
            return await coroutine

    result = asyncio.run(work())
    assert (result.outcome, result.failed_stage) == ("failed", "opening")
    assert isinstance(result.fault, RetryFault)
    assert "signed on 2 times" in str(result.fault)


def test_a_session_that_fails_leaves_the_port_as_it_was():
    server, ports = optical(DlmsPty)

    def work(client):
        yield from dlms_script.identity(client, models.model_named("dlms-lines-optical"))
        raise OperatorFault("enough")

    async def scenario():
        async with server as way:
            line = DlmsLine(
                parse_url(way.url),
                models.model_named("dlms-lines-optical"),
                Timeouts(20, 30, 120),
                Secrets(SPEC.password),
                b"12345678",
                None,
            )
            result = await read_dlms(line, steps(work), lambda *frame: None, lambda: NOW, open_stream)
            async with asyncio.timeout(60):
                while ports[0].baud != 300:  # noqa: ASYNC110 -- the other side is a terminal
                    await asyncio.sleep(0.01)
            return result

    assert asyncio.run(scenario()).outcome == "partial"


def test_sign_on_repeats_until_the_meter_drops_an_abandoned_session(monkeypatch):
    monkeypatch.setattr(dlms_server, "_FALL_BACK_S", 2)
    server, ports = optical(DlmsPty)

    async def work():
        async with server as way:
            port = ports[0]
            # A reader that agreed on 9600 and was never heard of again.
            port.receive(with_parity(b"/?!\r\n\x06252\r\n"), NOW)
            assert port.baud == 9600
            model = replace(models.model_named("dlms-lines-optical"), repeat_s=0.25, opening_wait_s=0.1)
            coroutine, frames = visit(way.url, model)
            return await coroutine, frames

    result, frames = asyncio.run(work())
    assert result.outcome == "complete", result.fault
    assert 1 <= result.retries <= 2 / 0.25 + 1
    assert [frame[4] for frame in frames[: result.retries + 1]] == [b"/?!\r\n"] * (result.retries + 1)


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:{port}", "dialin://u7"])
def test_a_line_that_cannot_change_speed_is_refused_before_sending(url):
    server, _ = optical(DlmsServer)

    async def work():
        async with server as way:
            coroutine, frames = visit(url.format(port=way.port), "dlms-lines-optical")
            result = await coroutine
            return result, frames, way.sessions

    result, frames, connections = asyncio.run(work())
    assert (result.outcome, result.failed_stage, frames, connections) == ("failed", "connect", [], 0)
    assert isinstance(result.fault, OperatorFault)
    assert "rfc2217://" in result.fault.remedy


@pytest.mark.parametrize("kind", [DlmsPty, DlmsGateway, DlmsServer])
def test_only_serial_lines_change_their_speed(kind):
    speeds = []

    class Port(OpticalEnd):
        def heard(self, data, baud, now):
            speeds.append(baud)
            return data

    class Ear:
        def __init__(self):
            self.heard = asyncio.Event()

        def data_received(self, data):
            self.heard.set()

        def connection_lost(self, error):
            pass

    async def work():
        one = DlmsMeter(meter().meter, SPEC)
        async with kind(one, lambda: NOW, make_end=lambda: Port(HdlcEnd(one))) as way:
            ear = Ear()
            endpoint = parse_url(f"{way.url}?baud=2400")
            stream = await open_stream(endpoint, ear, 60)
            assert isinstance(stream, SpeedStream) == endpoint.can_set_speed == (kind is not DlmsServer)
            for baud in (None, *SPEEDS.values()) if endpoint.can_set_speed else ():
                if baud is not None:
                    await stream.set_speed(baud)
                ear.heard.clear()
                stream.write(b"?")
                async with asyncio.timeout(60):
                    await ear.heard.wait()
            stream.close()

    asyncio.run(work())
    assert speeds == ([] if kind is DlmsServer else [2400, *SPEEDS.values()])


# --- buses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [DlmsPty, DlmsGateway, DlmsServer])
def test_two_meters_of_one_line_are_read_each_as_itself(embedded_db, secrets, kind):
    stations = [meter(SERIAL), meter("10000002")]
    both = [DlmsMeter(station.meter, SPEC) for station in stations]
    addresses = [HdlcAddress(1, physical, 2) for physical in (17, 18)]
    ready = patient(embedded_db, secrets)

    def bus():
        return Bus([HdlcEnd(one, address=address) for one, address in zip(both, addresses, strict=True)])

    async def work():
        async with kind(both[0], lambda: NOW, make_end=bus) as way:
            register(ready, [])
            add_line(
                ready,
                (SERIAL, f"{way.url}?address=17", "dlms-lines-bus"),
                ("10000002", f"{way.url}?address=18", "dlms-lines-bus"),
            )
            request_missing(ready, [DAY], NOW, "test")
            return await collect(ready)

    found = asyncio.run(work())
    for number, (serial, station) in enumerate(zip((SERIAL, "10000002"), stations, strict=True), start=1):
        assert found[serial].state == "done", found[serial]
        assert np.array_equal(stored(ready, number), truth(station)[:, 0])
    assert not np.array_equal(stored(ready, 1), stored(ready, 2))


def test_nobody_answers_to_an_address_that_no_meter_has():
    one = DlmsMeter(meter().meter, SPEC)

    async def work():
        end = HdlcEnd(one, address=HdlcAddress(1, 17, 2))
        async with DlmsPty(one, lambda: NOW, make_end=lambda: Bus([end])) as way:
            model = replace(models.model_named("dlms-lines-bus"), physical_device=19, repeats=1, repeat_s=0.2)
            coroutine, _ = visit(way.url, model)
            return await coroutine

    result = asyncio.run(work())
    assert (result.outcome, result.retries, result.bytes_received) == ("failed", 1, 0)


def test_a_ciphered_meter_on_an_optical_port_is_signed_on_to_twice(embedded_db, tmp_path):
    """The port closes when the client without security, which tells the counter, has gone."""
    path = tmp_path / "secrets.toml"
    keys = f'encryption_key = "{ENCRYPTION}"\nauthentication_key = "{AUTHENTICATION}"\n'
    path.write_text(f"[models.dlms-lines-optical-gmac]\n{keys}")
    path.chmod(0o600)
    ready = patient(embedded_db, path)
    server, _ = optical(DlmsPty)

    async def work():
        async with server as way:
            registered(ready, way, "dlms-lines-optical-gmac")
            return (await collect(ready))[SERIAL]

    summary = asyncio.run(work())
    assert summary.state == "done", (summary, sessions(ready)[0]["error"])
    (session,) = sessions(ready)
    assert (session["outcome"], session["retries"]) == ("complete", 0)
    said = [bytes(row[0]) for row in query(ready, "SELECT payload FROM frame WHERE direction = '>'")]
    assert said.count(b"/?!\r\n") == 2


# --- lines that lose frames --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [DlmsPty, DlmsServer])
def test_a_bad_line_costs_repetitions_and_nothing_else(embedded_db, secrets, kind):
    ready = patient(embedded_db, secrets)
    one = DlmsMeter(meter().meter, SPEC)
    line = BadLineEnd(HdlcEnd(one), LinkQuality(loss=1e-4, corruption=2e-4), 3, frame_loss=0.03)

    async def work():
        async with kind(one, lambda: NOW, make_end=lambda: line) as way:
            meter_id = registered(ready, way, "dlms-lines")
            return meter_id, (await collect(ready))[SERIAL]

    meter_id, summary = asyncio.run(work())
    assert (summary.state, summary.sessions) == ("done", 1), summary
    (session,) = sessions(ready)
    assert line.harmed > 5
    assert session["retries"] >= line.harmed / 2
    assert_exact(ready, meter_id, type("Way", (), {"meter": one}))


def test_a_meter_that_goes_silent_is_asked_again_and_given_up_in_time():
    one = DlmsMeter(meter().meter, SPEC)

    class Dying(HdlcEnd):
        def receive(self, data, now):
            return b"" if self.is_connected else super().receive(data, now)

    async def work():
        async with DlmsServer(one, lambda: NOW, make_end=lambda: Dying(one)) as way:
            model = replace(models.model_named("dlms-lines"), repeat_s=1, repeats=3)
            coroutine, frames = visit(way.url, model)
            return await coroutine, frames

    began = time.monotonic()
    result, frames = asyncio.run(work())
    assert (result.outcome, result.retries) == ("failed", 3)
    assert "asked 4 times" in str(result.fault)
    assert 4 <= time.monotonic() - began < 30, "ended by its own count, not by a silent line's limit"
    # The request once, three polls, and a farewell that nobody need hear.
    assert [frame[2] for frame in frames if frame[1]] == [0x93, 0x60, 0x11, 0x11, 0x11, 0x53]
