"""A line that is only listened to, kept open: opened again when lost, silent, or set to the wrong rate."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

import structlog

from collector.lines.transports import Endpoint, Receiver, Stream, Timeouts, open_stream
from collector.streams.profiles import CELESC, StreamProfile
from faults import Fault, OperatorFault, RetryFault
from protocols.captures import Chunk
from protocols.celesc.timing import BITS_PER_OCTET, DWELL_S, RATES_BIT_S

log = structlog.get_logger(__name__)

Way = Callable[[Endpoint, Receiver, float], Awaitable[Stream]]


@dataclass(frozen=True, slots=True)
class LinePace:
    """Patience with a line, seconds.

    Attributes:
        silence_s: both outputs speak at least every five seconds; a gateway that says nothing for so long is
            taken for dead and called again.
        dwell_s: how long a rate is tried (celesc_serial.md 2).
        most_octets_s: four times what the fastest of these outputs can say; what brings more is none, and is
            hung up on.
        burst_octets: what a converter may have kept for us.
    """

    connect_s: float = 20.0
    silence_s: float = 60.0
    backoff_s: float = 1.0
    backoff_max_s: float = 60.0
    dwell_s: float = DWELL_S
    look_s: float = 0.5
    most_octets_s: float = 4 * max(RATES_BIT_S) / BITS_PER_OCTET
    burst_octets: int = 1 << 16


@dataclass
class LineState:
    """How a line stands; `fault`: why it could not be opened last, None once something was heard."""

    rate_bit_s: int
    is_open: bool = False
    opened: int = 0
    fault: Fault | None = None
    octets: int = 0
    good: Callable[[], int] = field(default=lambda: 0)


class LineKeeper:
    """Listens until it is cancelled.

    Args:
        on_chunk: gets what arrives, stamped with the arrival of its first octet.
        way: opens the line. That of a unit that dials in waits for its call.
        good: records understood so far: none at one rate makes the next be tried, where the port's rate may
            be chosen (a serial port whose URL names none, and a meter whose rate is not fixed by its kind).
    """

    def __init__(
        self,
        endpoint: Endpoint,
        profile: StreamProfile,
        on_chunk: Callable[[Chunk], None],
        good: Callable[[], int],
        now: Callable[[], datetime],
        pace: LinePace | None = None,
        way: Way = open_stream,
    ) -> None:
        is_given = "baud" in parse_qs(urlsplit(endpoint.url).query)
        is_port = endpoint.scheme in ("serial", "rfc2217")
        rate = endpoint.baud if is_given else profile.rate_bit_s
        self._endpoint = endpoint
        self._on_chunk = on_chunk
        self._now = now
        self._pace = pace or LinePace()
        self._way = way
        self._searches = is_port and not is_given and profile.protocol == CELESC
        self.state = LineState(rate, good=good)

    @property
    def url(self) -> str:
        """Where the line is."""
        return self._endpoint.url

    async def run(self) -> None:
        """Keep the line until cancelled; raises nothing that a line can cause."""
        pace, state = self._pace, self.state
        wait_s = pace.backoff_s
        while True:
            ear = _Ear(self, pace, self._now)
            heard_before = state.octets
            timeouts = self._endpoint.timeouts(Timeouts(connect_s=pace.connect_s))
            try:
                stream = await self._way(
                    replace(self._endpoint, baud=state.rate_bit_s), ear, timeouts.connect_s
                )
            except Fault as fault:
                if state.fault is None:
                    log.warning("line.not_open", url=self._endpoint.url, reason=fault.message)
                state.fault = fault
            else:
                state.is_open = True
                state.opened += 1
                try:
                    reason = await self._listen(ear)
                finally:
                    state.is_open = False
                    stream.close()
                if isinstance(ear.error, Fault):
                    state.fault, heard_before = ear.error, state.octets
                log.info("line.lost", url=self._endpoint.url, reason=reason, rate=state.rate_bit_s)
            if self._endpoint.unit and not isinstance(state.fault, OperatorFault):
                continue  # it is the unit that pauses between its calls; what it says meanwhile would be lost
            wait_s = pace.backoff_s if state.octets > heard_before else min(2 * wait_s, pace.backoff_max_s)
            await asyncio.sleep(wait_s)

    async def _listen(self, ear: _Ear) -> str:
        """Until there is a reason to open the line again."""
        loop = asyncio.get_running_loop()
        opened_s = heard_s = loop.time()
        octets, good = self.state.octets, self.state.good()
        while True:
            try:
                async with asyncio.timeout(self._pace.look_s):
                    await ear.lost.wait()
                return str(ear.error or "closed by the other side")
            except TimeoutError:
                pass
            now_s = loop.time()
            if self.state.octets != octets:
                octets, heard_s = self.state.octets, now_s
                self.state.fault = None
            if now_s - heard_s > self._pace.silence_s:
                return f"nothing heard for {self._pace.silence_s:g} s"
            if self.state.good() > good:
                self._searches = False
            elif self._searches and now_s - opened_s > self._pace.dwell_s:
                place = RATES_BIT_S.index(self.state.rate_bit_s) + 1
                self.state.rate_bit_s = RATES_BIT_S[place % len(RATES_BIT_S)]
                return f"no packet, trying {self.state.rate_bit_s} bit/s"

    def received(self, data: bytes) -> None:
        """Octets that a read brought: those before the last came earlier, by their time on a serial line."""
        self.state.octets += len(data)
        at_s = self._now().timestamp()
        if self._endpoint.scheme == "serial":
            at_s -= (len(data) - 1) * BITS_PER_OCTET / self.state.rate_bit_s
        self._on_chunk(Chunk(at_s, data))


class _Ear:
    """What a connection says, until it is lost or says more than a meter's output can."""

    def __init__(self, keeper: LineKeeper, pace: LinePace, now: Callable[[], datetime]) -> None:
        self._keeper = keeper
        self._pace = pace
        self._now = now
        self._spare = float(pace.burst_octets)
        self._last = now()
        self.lost = asyncio.Event()
        self.error: Exception | None = None

    def data_received(self, data: bytes) -> None:
        if self.lost.is_set():
            return
        now = self._now()
        # The host's clock may be set back.
        earned = self._pace.most_octets_s * max(0.0, (now - self._last).total_seconds())
        self._spare = min(self._pace.burst_octets, self._spare + earned) - len(data)
        self._last = now
        if self._spare < 0:
            self.connection_lost(
                RetryFault(
                    "far more octets than a meter's output can say",
                    where=self._keeper.url,
                    remedy="check the unit's address: something else answers there",
                )
            )
        else:
            self._keeper.received(data)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.lost.is_set():
            self.error = error
            self.lost.set()
