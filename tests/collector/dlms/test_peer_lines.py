"""The third party's simulator on other lines: GMAC over HDLC, a serial line, and lines that lose frames."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import select
import socket
import threading
import tty
from datetime import UTC, datetime

import pytest

from collector.decoded import Frame, MeterContext
from collector.dlms.decode import decode_dlms
from collector.dlms.script import discovery
from collector.dlms.secrets import Secrets
from collector.dlms.session import DlmsLine, read_dlms, steps
from collector.lines.transports import Timeouts, open_stream, parse_url
from protocols.dlms import models
from protocols.dlms.security import Keys
from protocols.dlms.transcript import label
from simulator.dlms import server as dlms_server
from simulator.dlms.end import HdlcEnd
from simulator.dlms.meter import DlmsMeter, DlmsSpec
from simulator.dlms.optical import OpticalEnd
from simulator.dlms.server import DlmsPty, DlmsServer
from tests.collector.dlms import pydlms as peer
from tests.collector.dlms.pydlms import (
    AUTHENTICATION,
    CLIENTS,
    ENCRYPTION,
    GMAC,
    everything,
    pydlms,
    simulate,
    visit,
)
from tests.collector.world import NOW, meter

__all__ = ["pydlms", "simulate"]  # fixtures

pytestmark = pytest.mark.req("TR-5.12a")

MODELS = (
    peer.MODELS
    + """
[models.dlms-peer-gmac-lines]
extends = "dlms-peer-gmac"
framing = "hdlc"
[models.dlms-peer-impatient]
extends = "dlms-peer-hdlc"
repeat_s = 0.2
repeats = 100
[models.dlms-peer-giving-up]
extends = "dlms-peer-impatient"
repeats = 15
"""
)


@pytest.fixture(autouse=True)
def catalogue():
    models.add_catalogue("peer-lines", MODELS)
    yield
    models.remove_catalogue("peer-lines")


def test_ciphered_services_over_hdlc(simulate):
    model = models.model_named("dlms-peer-gmac-lines")
    keys = Keys(bytes.fromhex(ENCRYPTION), bytes.fromhex(AUTHENTICATION))
    used, frames = [0], []

    async def reserve(key_id, title, above, count):
        used.append(max(used[-1], above) + count)
        return used[-1] - count + 1

    line = DlmsLine(
        parse_url(simulate(*GMAC, "--hdlc")),
        model,
        Timeouts(20, 30, 120),
        Secrets(b"", keys),
        b"12345678",
        reserve,
    )
    result = asyncio.run(
        read_dlms(
            line,
            steps(lambda client: everything(client, model)),
            lambda *frame: frames.append(frame),
            lambda: datetime.now(UTC),
            open_stream,
        )
    )
    assert (result.outcome, result.fault) == ("complete", None)
    on_line = [payload for *_, payload in frames if payload[:1] == b"~"]
    assert {0xC8, 0xCC} <= {label(payload) for payload in on_line}
    kept = [
        Frame(seq, at, is_sent, True, payload) for seq, (at, is_sent, _, _, payload) in enumerate(frames, 1)
    ]
    found = decode_dlms(kept, model, MeterContext(1, peer.SERIAL, 1, peer.MARKET))
    assert sum(int(vector.present.sum()) for vector in found.vectors) == 95


class Between:
    """A line to the peer: `carry` says what becomes of a frame that is sent, and of one that comes back."""

    def __init__(self, url, carry):
        self._port = int(url.rpartition(":")[2])
        self._carry = carry

    async def __aenter__(self):
        self._tasks = []
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"tcp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()
        await asyncio.gather(*self._tasks)

    async def _serve(self, reader, writer):
        self._tasks.append(asyncio.current_task())
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(self._pump(True, reader, back), self._pump(False, there, writer))

    async def _pump(self, is_up, source, sink):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                # Frame by frame, wherever TCP cuts them: flag, format with the length, the rest, flag.
                head = await source.readexactly(3)
                rest = await source.readexactly(((head[1] & 7) << 8 | head[2]) - 1)
                sink.write(self._carry(is_up, head + rest))
        sink.close()


def test_what_a_line_loses_on_its_way_to_the_peer_is_sent_again(simulate):
    """The peer says by N(R) what it has; a request that it got is not repeated."""
    chance = random.Random(7)
    lost = []

    def carry(is_up, data):
        luck = chance.random() if is_up else 1.0
        if luck < 0.15:
            lost.append(data)
            return b"" if luck < 0.1 else data[:5] + bytes([data[5] ^ 4]) + data[6:]
        return data + data if luck < 0.2 else data

    async def work():
        async with Between(simulate(*CLIENTS, "--hdlc"), carry) as url:
            return await asyncio.to_thread(visit, url, "dlms-peer-impatient", everything)

    result, found, _ = asyncio.run(work())
    assert (result.outcome, result.fault) == ("complete", None)
    assert len(lost) > 3
    assert result.retries >= len(lost)
    counts = [int(count) for vector in found.vectors for count in vector.pulses[vector.present]]
    assert counts == [7] * 95


def test_a_lost_answer_that_the_peer_does_not_repeat_ends_in_a_fault(simulate):
    frames = []

    def carry(is_up, data):
        is_answer = not is_up and not data[5] & 1
        if is_answer:
            frames.append(data)
        return b"" if is_answer and len(frames) == 3 else data

    async def work():
        async with Between(simulate(*CLIENTS, "--hdlc"), carry) as url:
            return await asyncio.to_thread(visit, url, "dlms-peer-giving-up", everything)

    result, _, _ = asyncio.run(work())
    assert result.outcome == "partial"
    assert result.fault is not None
    assert "the meter has taken the request" in str(result.fault)
    assert result.retries >= 15


def test_the_peer_on_a_serial_line(simulate):
    """A pseudo terminal before the peer's HDLC over TCP: what socat would do."""
    url = simulate(*CLIENTS, "--hdlc")
    master, slave = os.openpty()
    tty.setraw(slave)
    port = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))

    def bridge():
        while True:
            ready, _, _ = select.select([master, port], [], [], 10)
            if master in ready:
                port.sendall(os.read(master, 4096))
            if port in ready:
                data = port.recv(4096)
                if not data:
                    return
                os.write(master, data)

    thread = threading.Thread(target=bridge)
    thread.start()
    try:
        result, found, heard = visit(
            f"serial://{os.ttyname(slave)}?baud=9600", "dlms-peer-hdlc", with_objects
        )
    finally:
        port.shutdown(socket.SHUT_RDWR)
        thread.join()
        port.close()
        os.close(master)
        os.close(slave)
    assert (result.outcome, result.fault) == ("complete", None)
    assert sum(int(vector.present.sum()) for vector in found.vectors) == 95
    assert any(one.attribute.class_id == 15 and one.value is not None for one in heard)


def with_objects(client, model):
    yield from everything(client, model)
    yield from discovery(client)


# What our own reader and our own meter agree on might be wrong on both sides: the third party's client asks.


async def asked(pydlms, url, *words, timeout_s=20):
    """(exit code, what it printed)."""
    process = await asyncio.create_subprocess_exec(
        pydlms, *words, "--timeout", str(timeout_s), url, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


def test_the_third_partys_client_opens_our_simulated_port(pydlms, monkeypatch):
    monkeypatch.setattr(dlms_server, "_FALL_BACK_S", 60)  # however slowly the client works
    one = DlmsMeter(meter().meter, DlmsSpec())

    async def work():
        port = OpticalEnd(HdlcEnd(one))
        async with DlmsPty(one, lambda: NOW, make_end=lambda: port) as way:
            url = f"optical://{way.path}"
            serial = await asked(pydlms, url, "read", "--obis", "0.0.96.1.0.255", "--class", "1")
            rows = await asked(pydlms, url, "profile", "--obis", "1.0.99.1.0.255", "--last", "3")
            return serial, rows, port.baud

    serial, rows, baud = asyncio.run(work())
    assert serial[0] == rows[0] == 0
    assert "10000001" in serial[1]
    assert len(rows[1].splitlines()) >= 3
    assert baud == 300


@pytest.mark.parametrize("lost", range(2, 9))
def test_the_third_partys_client_gets_a_lost_answer_of_our_meter_by_a_poll(pydlms, lost):
    class Losing(HdlcEnd):
        answers = 0

        def receive(self, data, now):
            answer = super().receive(data, now)
            self.answers += bool(answer)
            return b"" if self.answers == lost else answer

    async def work():
        one = DlmsMeter(meter().meter, DlmsSpec())
        async with DlmsServer(one, lambda: NOW, make_end=lambda: Losing(one)) as way:
            url = way.url.replace("tcp://", "tcp+hdlc://")
            words = ("profile", "--obis", "1.0.99.1.0.255", "--last", "40")
            return await asked(pydlms, url, *words, timeout_s=2)

    code, said = asyncio.run(work())
    assert code == 0
    assert len(said.splitlines()) >= 40
