"""Recording what a line says, as a capture: for the inspection of a meter, and for a closer look later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from collector.lines.transports import Endpoint, Timeouts, open_stream
from faults import RetryFault
from protocols.captures import DEFAULT_RESOLUTION_S, STAMP_DECIMALS, Capture, Chunk
from protocols.celesc.timing import BITS_PER_OCTET

# A gateway gathers octets before it sends them on; how long is not known, this is usual.
GATEWAY_RESOLUTION_S = 0.05


@dataclass
class _Ear:
    """Stamps what arrives with the arrival of its first octet.

    A serial port hands on what has come since it was last asked; the octets before the last one came
    earlier, each by the time that an octet takes on the line.
    """

    now: Callable[[], float]
    octet_s: float
    chunks: list[Chunk] = field(default_factory=list)
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None

    def data_received(self, data: bytes) -> None:
        at_s = self.now() - self.octet_s * (len(data) - 1)
        if self.chunks:
            at_s = max(at_s, self.chunks[-1].at_s)
        self.chunks.append(Chunk(round(at_s, STAMP_DECIMALS), data))

    def connection_lost(self, error: Exception | None) -> None:
        self.error = error
        self.lost.set()


async def record(
    endpoint: Endpoint,
    rate_bit_s: int,
    seconds: float,
    now: Callable[[], float],
    connect_s: float | None = None,
) -> Capture:
    """Listen for so long.

    Args:
        rate_bit_s: what a serial port is set to.
        now: stamps, in seconds; a clock that is never set back.

    Raises:
        RetryFault: the line could not be opened, or was lost before the time was over.
    """
    endpoint = replace(endpoint, baud=rate_bit_s)
    is_serial = endpoint.scheme == "serial"
    ear = _Ear(now, BITS_PER_OCTET / rate_bit_s if is_serial else 0.0)
    stream = await open_stream(endpoint, ear, connect_s or endpoint.timeouts(Timeouts()).connect_s)
    try:
        async with asyncio.timeout(seconds):
            await ear.lost.wait()
    except TimeoutError:
        pass
    else:
        raise RetryFault(
            f"the line was lost: {ear.error or 'closed by the other side'}",
            where=endpoint.url,
            remedy="check the adapter or gateway, and record again",
        )
    finally:
        stream.close()
    facts = {
        "source": endpoint.url,
        "rate_bit_s": str(rate_bit_s),
        "resolution_s": str(DEFAULT_RESOLUTION_S if is_serial else GATEWAY_RESOLUTION_S),
    }
    return Capture(tuple(ear.chunks), facts)
