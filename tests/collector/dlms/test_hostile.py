"""DLMS peers that mean harm: cut off with a typed fault, in bounded time and memory."""

from __future__ import annotations

import asyncio
import contextlib
import time
import tracemalloc
from dataclasses import replace
from itertools import cycle

import pytest

from collector.dlms import script as dlms_script
from collector.dlms.secrets import Secrets
from collector.dlms.session import DlmsLine, read_dlms, steps
from collector.lines.transports import Timeouts, open_stream, parse_url
from faults import RetryFault
from protocols.dlms import models
from protocols.dlms.framing import WRAPPER, HdlcFrame
from tests.collector.dlms.peers.world import MODELS, PASSWORD
from tests.collector.world import NOW

AARE = bytes.fromhex("6129A109060760857405080101A203020100A305A103020100BE10040E0800065F1F0400001C1D04000007")


@pytest.fixture(autouse=True)
def catalogue():
    models.add_catalogue("test", MODELS)
    yield
    models.remove_catalogue("test")


async def _hostile(behave, model="dlms-test", **limits):
    """The session's result with a peer that behaves so, its memory and its time."""
    usual = {"connect_s": 2.0, "idle_s": 2.0, "total_s": 3.0}
    frames = []

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await behave(reader, writer)
        writer.close()

    peer = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = peer.sockets[0].getsockname()[1]
    line = DlmsLine(
        parse_url(f"tcp://127.0.0.1:{port}"),
        replace(models.model_named(model), answer_s=1.0),
        Timeouts(**{**usual, **limits}),
        Secrets(PASSWORD.encode()),
        b"12345678",
        None,
    )

    def work(client):
        yield from dlms_script.identity(client, line.model)
        yield from dlms_script.registers(client, line.model.registers)

    began = time.monotonic()
    tracemalloc.start()
    try:
        result = await read_dlms(
            line, steps(work), lambda *frame: frames.append(frame), lambda: NOW, open_stream
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        peer.close()
    return result, peak, time.monotonic() - began


def _wrapped(apdu):
    return WRAPPER.pack(1, 1, 3, len(apdu)) + apdu


async def _associated(reader, writer):
    await reader.read(4096)
    writer.write(_wrapped(AARE))
    await reader.read(4096)


async def _huge_length(reader, writer):
    await reader.read(4096)
    writer.write(WRAPPER.pack(1, 1, 3, 0xFFFF) + bytes(1000))
    await asyncio.sleep(3600)


async def _slow_drip(reader, writer):
    await reader.read(4096)
    for octet in cycle(_wrapped(AARE)):
        writer.write(bytes([octet]))
        await asyncio.sleep(0.1)


async def _flood(reader, writer):
    await reader.read(4096)
    while True:
        writer.write(_wrapped(b"\x0f" + bytes(60_000)))
        await writer.drain()


async def _noise(reader, writer):
    await reader.read(4096)
    while True:
        writer.write(bytes(range(256)) * 64)
        await writer.drain()


async def _endless_blocks(reader, writer):
    await _associated(reader, writer)
    for number in range(1, 1 << 20):
        block = b"\xc4\x02\xc1\x00" + number.to_bytes(4, "big") + b"\x00\x84\x00\x00\xf0\x00" + bytes(0xF000)
        writer.write(_wrapped(block))
        await writer.drain()
        await reader.readexactly(1)


async def _endless_segments(reader, writer):
    await reader.read(4096)
    writer.write(bytes.fromhex("7EA0070703735A647E"))
    ua = HdlcFrame(b"\x07", b"\x03", 0x73, b"")
    writer.write(ua.encode())
    await reader.read(4096)
    for number in range(1 << 20):
        writer.write(HdlcFrame(b"\x07", b"\x03", 0x30 | (number % 8) << 1, bytes(1900), True).encode())
        await writer.drain()
        await reader.readexactly(1)


async def _closing_in_mid_frame(reader, writer):
    await _associated(reader, writer)
    writer.write(_wrapped(b"\xc4\x01\xc1\x00" + bytes(100))[:50])
    await writer.drain()


async def _deep_structure(reader, writer):
    await _associated(reader, writer)
    writer.write(_wrapped(b"\xc4\x01\xc1\x00" + b"\x02\x01" * 20_000))
    await asyncio.sleep(3600)


async def _many_elements(reader, writer):
    await _associated(reader, writer)
    writer.write(_wrapped(b"\xc4\x01\xc1\x00" + b"\x01\x84\x7f\xff\xff\xff"))
    await asyncio.sleep(3600)


@pytest.mark.req("TR-5.12a")
@pytest.mark.parametrize(
    ("behave", "model"),
    [
        (_huge_length, "dlms-test"),
        (_slow_drip, "dlms-test"),
        (_flood, "dlms-test"),
        (_noise, "dlms-test-hdlc"),
        (_noise, "dlms-test"),
        (_endless_blocks, "dlms-test"),
        (_endless_segments, "dlms-test-hdlc"),
        (_closing_in_mid_frame, "dlms-test"),
        (_deep_structure, "dlms-test"),
        (_many_elements, "dlms-test"),
    ],
    ids=lambda value: getattr(value, "__name__", value).strip("_"),
)
def test_a_hostile_peer_is_cut_off_in_time_and_memory(behave, model):
    result, peak, took_s = asyncio.run(_hostile(behave, model))
    assert result.outcome in ("failed", "partial")
    assert isinstance(result.fault, RetryFault)
    # By itself no peer ends within the hour; a session may take 3 s, and a busy machine more.
    assert took_s < 60
    assert peak < 40 << 20
