"""A session: the days wanted, one after the other."""

import asyncio

from collector.session import SessionResult
from faults import RetryFault


class Line:
    """What is heard on the way to the meter."""

    def __init__(self):
        self.heard = bytearray()
        self.end = asyncio.Event()

    def data_received(self, data):
        self.heard += data
        if self.heard.endswith(b"END\n"):
            self.end.set()

    def connection_lost(self, error):
        self.end.set()


async def read_day(endpoint, day, record, now, way):
    """Ask for a day; the reply, recorded as it came."""
    line = Line()
    stream = await way(endpoint, line, 5.0)
    try:
        request = f"READ {day.isoformat()}\n".encode()
        record(now(), True, 1, None, request)
        stream.write(request)
        async with asyncio.timeout(10):
            await line.end.wait()
        record(now(), False, 1, True, bytes(line.heard))
        return stream.bytes_sent, stream.bytes_received
    finally:
        stream.close()


class ToyDriver:
    async def read(self, visit):
        days = sorted({span.first_end.date() for span in visit.assignment.goal.spans})
        sent = received = 0
        try:
            for day in days:
                out, back = await read_day(visit.endpoint, day, visit.record, visit.now, visit.way)
                sent, received = sent + out, received + back
        except (RetryFault, TimeoutError) as error:
            fault = (
                error if isinstance(error, RetryFault) else RetryFault("no answer", where=visit.endpoint.url)
            )
            return SessionResult("failed", "connect", fault, sent, received, 0, 0)
        return SessionResult("complete", None, None, sent, received, 0, len(days))

    def offers(self, profile):
        return []

    def preview(self, profile, asking):
        raise NotImplementedError

    def clock_way(self, profile):
        return None


DRIVER = ToyDriver()
