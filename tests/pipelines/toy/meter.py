"""The meter's side, on a port."""

import asyncio
from datetime import date, datetime, time

EPOCH = datetime(1970, 1, 1)


class ToyServer:
    def __init__(self, meter, how):
        self._meter, self._how = meter, how
        self._server = None
        self.url = ""

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._answer, self._how.host, self._how.port)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.url = f"tcp://{host}:{port}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader, writer):
        words = (await reader.readline()).decode().split()
        day = date.fromisoformat(words[1])
        spec = self._meter.spec
        first = int((datetime.combine(day, time()) - EPOCH).total_seconds()) // 300
        counts = spec.source.pulses(first, 288)[:, 0].tolist()
        lines = [f"{day} {slot} {count}" for slot, count in enumerate(counts)]
        writer.write("\n".join([f"TOY {spec.serial}", *lines, "END\n"]).encode())
        await writer.drain()
        writer.close()


def serve(meter, how):
    return ToyServer(meter, how)
