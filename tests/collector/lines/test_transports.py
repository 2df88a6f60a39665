"""URLs, TCP sockets and ptys: octets in both directions, traffic, ends and refusals."""

from __future__ import annotations

import asyncio
import os
import pty

import pytest

from collector.lines.transports import Timeouts, open_stream, parse_url
from faults import OperatorFault, RetryFault


class Listener:
    def __init__(self):
        self.data = bytearray()
        self.lost = asyncio.Event()
        self.changed = asyncio.Event()

    def data_received(self, data):
        self.data += data
        self.changed.set()

    def connection_lost(self, error):
        self.lost.set()

    async def until(self, octets):
        async with asyncio.timeout(60):
            while len(self.data) < octets:
                self.changed.clear()
                await self.changed.wait()


class TestUrls:
    def test_tcp_with_time_outs_of_its_own(self):
        endpoint = parse_url("tcp://10.0.0.7:4059?idle_s=5&connect_s=2.5")
        assert (endpoint.host, endpoint.port, endpoint.line) == ("10.0.0.7", 4059, "tcp://10.0.0.7:4059")
        assert endpoint.timeouts(Timeouts()) == Timeouts(connect_s=2.5, idle_s=5.0)

    def test_ipv6_and_serial(self):
        assert parse_url("tcp://[::1]:99").host == "::1"
        line = parse_url("serial:///dev/ttyUSB0?baud=2400")
        assert (line.device, line.baud, line.line) == ("/dev/ttyUSB0", 2400, "serial:///dev/ttyUSB0")

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "10.0.0.7:4059",
            "tcp://10.0.0.7",
            "tcp://:4059",
            "tcp://host:99999",
            "tcp://host:1/path",
            "serial://ttyUSB0",
            "serial:///",
            "http://host:1",
            "tcp://host:1?idle=3",
            "tcp://host:1?idle_s=soon",
            "tcp://host:1?idle_s=-1",
        ],
    )
    def test_anything_else_is_refused_with_the_grammar(self, url):
        with pytest.raises(OperatorFault) as caught:
            parse_url(url)
        assert "tcp://HOST:PORT" in caught.value.remedy


@pytest.mark.req("TR-5.5a")
def test_tcp_octets_pass_and_are_counted():
    async def scenario():
        async def echo(reader, writer):
            writer.write((await reader.readexactly(5)).upper() + b"!")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        listener = Listener()
        stream = await open_stream(parse_url(f"tcp://127.0.0.1:{port}"), listener, 5)
        stream.write(b"hello")
        await listener.until(6)
        await asyncio.wait_for(listener.lost.wait(), 60)
        assert bytes(listener.data) == b"HELLO!"
        assert (stream.bytes_sent, stream.bytes_received) == (5, 6)
        stream.write(b"after the end nothing is sent or counted")
        assert stream.bytes_sent == 5
        server.close()
        await server.wait_closed()

    asyncio.run(scenario())


@pytest.mark.req("TR-5.5a")
def test_pty_octets_pass_and_the_far_end_may_vanish():
    async def scenario():
        near, far = pty.openpty()
        listener = Listener()
        stream = await open_stream(parse_url(f"serial://{os.ttyname(far)}"), listener, 5)
        os.close(far)
        stream.write(bytes(range(256)))
        received = b""
        while len(received) < 256:
            received += await asyncio.to_thread(os.read, near, 300)
        assert received == bytes(range(256)), "the line must be raw: no echo, no line discipline"
        os.write(near, b"\x05\x0d\x0a\x15")
        await listener.until(4)
        assert bytes(listener.data) == b"\x05\x0d\x0a\x15"
        os.close(near)
        await asyncio.wait_for(listener.lost.wait(), 60)
        assert (stream.bytes_sent, stream.bytes_received) == (256, 4)

    asyncio.run(scenario())


def test_a_refused_connection_and_a_missing_device_can_be_tried_again(unused_port):
    async def scenario(url):
        with pytest.raises(RetryFault) as caught:
            await open_stream(parse_url(url), Listener(), 2)
        assert caught.value.where == url

    asyncio.run(scenario(f"tcp://127.0.0.1:{unused_port}"))
    asyncio.run(scenario("serial:///dev/no-such-line"))
