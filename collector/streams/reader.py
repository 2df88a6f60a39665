"""Long-running readers: one for each point whose meter speaks by itself (SSU, CELESC).

What a line says is stored every few seconds as it came, in sessions of about an hour. Closing a session
decodes its stored rows and merges the readings, by the same way as any other session; a session whose
collector died is closed so by the next one. Sessions change right after an interval's end, also after the
market day's last one, so that the daily run finds the whole day, and begin with
the rows around it, so that each is decoded alone and no interval falls between two.

The line of a unit that dials in is its call: the reader takes each as it comes, the newest before all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from collector.batching import Connection, Worker
from collector.lines.callers import Callers
from collector.lines.dial_in import NOT_CONNECTED_REMEDY
from collector.lines.transports import Endpoint, open_stream, parse_url
from collector.merging import merge_sessions
from collector.session import EndedSession
from collector.streams.decode import Quality, StreamDecoder, new_decoder
from collector.streams.frames import head_row, pack_rows
from collector.streams.line import LineKeeper, LinePace, LineState
from collector.streams.profiles import STREAM_PROFILES
from collector.work.worklist import Target
from faults import Fault, OperatorFault, RetryFault
from protocols.captures import Chunk
from storage import sessions
from storage.settings import Settings

log = structlog.get_logger(__name__)

PURPOSE = "stream"
# Columns `command` of the rows: the session's head, and octets.
_HEAD, _OCTETS = 0, 1
# What may wait for a session or for the database; a line brings 9 to 480 octets a second.
_MOST_PENDING = 100_000
# The wall clock was set if between two arrivals it went by so much more, or less, than the time did.
_CLOCK_SET_S = 5.0


@dataclass(frozen=True, slots=True)
class StreamPace:
    """Seconds.

    Attributes:
        store_s: what has come is stored this often: as much is lost when a collector dies.
        session_s: length of a session, up to the next interval's end.
        overlap_s: how much of a session is repeated at the start of the next.
        look_s: how often the registry is asked for points that came or went.
        away_s: a unit that dials in and has not called for so long has no session until it calls: another
            collector may get that call.
    """

    store_s: float = 5.0
    session_s: float = 3600.0
    overlap_s: float = 120.0
    look_s: float = 30.0
    away_s: float = 300.0
    line: LinePace = field(default_factory=LinePace)


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """How one reader stands."""

    serial: str
    url: str
    line: LineState
    quality: Quality


class StreamReaders:
    """All readers of one collector.

    Args:
        worker: its thread stores rows before it closes their session.
        steady: seconds of a clock that nobody sets, by which `now` is seen to be set (NTP, a person). A
            session ends there: the interval in which that happens is of another length than it seems.
    """

    def __init__(
        self,
        settings: Settings,
        worker: Worker,
        collector: str,
        now: Callable[[], datetime],
        pace: StreamPace | None = None,
        callers: Callers | None = None,
        steady: Callable[[], float] | None = None,
    ) -> None:
        self._settings = settings
        self._worker = worker
        self._collector = collector
        self._now = now
        self._steady = steady
        self._callers = callers
        self._pace = pace or StreamPace(
            store_s=settings.collector.stream_store_s, session_s=settings.collector.stream_session_s
        )
        self._left_out: set[Target] = set()
        self._readers: dict[Target, tuple[_Reader, asyncio.Task[None]]] = {}

    def status(self) -> list[StreamStatus]:
        """Of the readers there are."""
        return [reader.status() for reader, _ in self._readers.values()]

    async def run(self) -> None:
        """Follow the registry until cancelled; then store what waits, and close the sessions.

        Raises:
            psycopg.Error: the database failed.
        """
        try:
            while True:
                wanted = await self._worker.call(stream_targets, self._now())
                for target in set(self._readers) - set(wanted):
                    await self._end([self._readers.pop(target)[1]])
                self._left_out &= set(wanted)
                for target in set(wanted) - set(self._readers) - self._left_out:
                    self._begin(target)
                await self._sleep()
        finally:
            await self._end([task for _, task in self._readers.values()])
            self._readers.clear()

    def _begin(self, target: Target) -> None:
        try:
            endpoint = parse_url(target.url or "")
            if endpoint.unit and (self._callers is None or self._callers.dial_in is None):
                raise OperatorFault(
                    f"unit {endpoint.unit} dials in, and nobody listens",
                    where=endpoint.url,
                    remedy="set collector.listen_port; of several collectors, in the one that units call",
                )
        except OperatorFault as fault:
            self._left_out.add(target)
            log.warning("stream.left_out", meter=target.serial, url=target.url, reason=str(fault))
            return
        reader = _Reader(
            target,
            endpoint,
            self._settings,
            self._worker,
            self._collector,
            self._now,
            self._pace,
            self._callers if endpoint.unit else None,
            self._steady,
        )
        self._readers[target] = reader, asyncio.create_task(reader.run())

    async def _sleep(self) -> None:
        tasks = [task for _, task in self._readers.values()]
        if not tasks:
            await asyncio.sleep(self._pace.look_s)
            return
        # A reader ends by itself only when the database or the software fails: that is for the collector.
        done, _ = await asyncio.wait(tasks, timeout=self._pace.look_s, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    @staticmethod
    async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


class _Reader:
    """One point's reader."""

    def __init__(
        self,
        target: Target,
        endpoint: Endpoint,
        settings: Settings,
        worker: Worker,
        collector: str,
        now: Callable[[], datetime],
        pace: StreamPace,
        callers: Callers | None,
        steady: Callable[[], float] | None,
    ) -> None:
        self._target = target
        self._unit = endpoint.unit
        self._callers = callers
        self._settings = settings
        self._worker = worker
        self._collector = collector
        self._now = now
        self._pace = pace
        self._steady = steady
        self._offset_s: float | None = None
        self._cut: int | None = None
        profile = STREAM_PROFILES[target.profile]
        # It only tells when an interval has ended and how good the line is: readings come from stored rows.
        self._decoder: StreamDecoder = new_decoder(profile, target.interval_s, target.serial)
        self._line = LineKeeper(
            endpoint,
            profile,
            self._heard,
            lambda: self._decoder.quality.good,
            now,
            pace.line,
            open_stream if callers is None else callers.follow,
        )
        self._pending: list[Chunk] = []
        self._pending_octets = 0
        self._session: int | None = None
        self._session_began = now()
        self._seq = 0
        self._octets = self._opened = self._good = 0
        self._kept: list[tuple[datetime, bytes]] = []
        self._closed_at: datetime | None = None
        self._has_begun = False
        self._open_at = now()

    def status(self) -> StreamStatus:
        return StreamStatus(
            self._target.serial, self._target.url or "", self._line.state, self._decoder.quality
        )

    async def run(self) -> None:
        """Until cancelled; the line is opened only by the collector that has the session."""
        line: asyncio.Task[None] | None = None
        if self._callers is not None:
            self._callers.begin(self._unit)
        try:
            while True:
                if self._session is None and not await self._begin(line):
                    await self._hang_up(line)
                    line = None
                    await asyncio.sleep(self._pace.look_s)
                    continue
                if line is None:
                    line = asyncio.create_task(self._line.run())
                await asyncio.sleep(self._pace.store_s)
                if line.done():
                    # It never ends by itself: what broke it is not a silent line.
                    line.result()
                await self._store()
                if self._is_away():
                    await self._hang_up(line)
                    line = None
                    await self._close()
        finally:
            await self._hang_up(line)
            if self._callers is not None:
                self._callers.end(self._unit)
            if self._session is not None:
                await self._store()
            if self._session is not None:
                await self._close()

    async def _begin(self, line: asyncio.Task[None] | None) -> bool:
        """Open a session; that of a unit which has been away once its call has come."""
        if self._callers is not None and self._has_begun and line is None:
            await self._callers.called(self._unit)
        self._has_begun = True
        self._open_at = self._now()
        return await self._open()

    def _is_away(self) -> bool:
        if self._callers is None or self._session is None:
            return False
        if self._line.state.is_open:
            self._open_at = self._now()
        return (self._now() - self._open_at).total_seconds() > self._pace.away_s

    async def _hang_up(self, line: asyncio.Task[None] | None) -> None:
        if line is not None:
            line.cancel()
            await asyncio.gather(line, return_exceptions=True)

    def _heard(self, chunk: Chunk) -> None:
        if self._is_clock_set():
            # Set twice before anything was stored: of what came between nobody knows when it did.
            self._cut = len(self._pending) if self._cut is None else self._cut
            self._pending_octets -= sum(len(one.octets) for one in self._pending[self._cut :])
            del self._pending[self._cut :]
            log.warning("stream.clock_set", meter=self._target.serial, at=self._now().isoformat())
        if self._pending_octets < _MOST_PENDING:
            self._pending.append(chunk)
            self._pending_octets += len(chunk.octets)
        if self._decoder.feed(chunk):
            self._closed_at = datetime.fromtimestamp(chunk.at_s, UTC)
        # The decoder's issues are those of the stored rows again.
        self._decoder.issues.clear()

    def _is_clock_set(self) -> bool:
        if self._steady is None:
            return False
        before, self._offset_s = self._offset_s, self._now().timestamp() - self._steady()
        return before is not None and abs(self._offset_s - before) > _CLOCK_SET_S

    async def _cut_session(self, cut: int) -> None:
        """End the session with what came before the clock was set; the next repeats nothing of it."""
        before, self._pending = self._pending[:cut], self._pending[cut:]
        octets = sum(len(chunk.octets) for chunk in before)
        self._octets += octets
        self._pending_octets -= octets
        self._cut, self._kept, self._closed_at = None, [], None
        await self._write(_OCTETS, pack_rows(before))
        await self._close()
        await self._open()

    async def _store(self) -> None:
        if self._cut is not None:
            await self._cut_session(self._cut)
            if self._session is None:
                return
        rows = pack_rows(self._pending)
        self._octets += self._pending_octets
        self._pending, self._pending_octets = [], 0
        await self._write(_OCTETS, rows)
        horizon = (self._closed_at or self._now()) - timedelta(seconds=self._pace.overlap_s)
        self._kept = [row for row in (*self._kept, *rows) if row[0] >= horizon]
        age_s = (self._now() - self._session_began).total_seconds()
        just_closed = self._closed_at is not None and self._closed_at >= self._session_began
        is_due = age_s >= self._pace.session_s or self._is_day_over()
        if is_due and (just_closed or age_s >= 2 * self._pace.session_s):
            await self._close()
            self._closed_at = None
            await self._open()

    def _is_day_over(self) -> bool:
        """Whether the market day's last interval has ended: the daily run, soon after midnight, wants it.

        Half an interval of allowance: an end that comes at 23:59:58 of a fast clock is that of midnight.
        """
        if self._closed_at is None:
            return False
        zone = self._settings.market.tzinfo
        end = (self._closed_at + timedelta(seconds=self._target.interval_s / 2)).astimezone(zone)
        return end.date() > self._session_began.astimezone(zone).date()

    async def _open(self) -> bool:
        now = self._now()
        self._session = await self._worker.call(open_session, self._collector, self._target, now)
        if self._session is None:
            return False  # another collector reads this line or this meter
        self._session_began = now
        self._seq = 0
        self._octets = 0
        self._opened, self._good = self._line.state.opened, self._decoder.quality.good
        head = head_row(
            {
                "protocol": STREAM_PROFILES[self._target.profile].protocol,
                "profile": self._target.profile,
                "interval_s": self._target.interval_s,
                "rate_bit_s": self._line.state.rate_bit_s,
                **self._decoder.facts(),
            }
        )
        await self._write(_HEAD, [(now, head)])
        await self._write(_OCTETS, self._kept)
        return True

    async def _write(self, command: int, rows: Sequence[tuple[datetime, bytes]]) -> None:
        assert self._session is not None
        encoded = []
        for at, payload in rows:
            self._seq += 1
            encoded.append(sessions.encode_frame(self._session, self._seq, at, False, command, None, payload))
        if encoded:
            await self._worker.call(sessions.write_frames, encoded)

    async def _close(self) -> None:
        assert self._session is not None
        state = self._line.state
        # A session cut right after its start has proved nothing against the line.
        is_young = (self._now() - self._session_began).total_seconds() < self._pace.line.silence_s
        is_sound = is_young or self._decoder.quality.good > self._good
        ended = EndedSession(
            self._session,
            outcome="complete" if is_sound else "failed",
            failed_stage=None if is_sound else ("synchronise" if self._octets else "connect"),
            fault=None if is_sound else self._silence(),
            bytes_sent=0,
            bytes_received=self._octets,
            retries=max(0, state.opened - self._opened - (self._opened == 0)),
        )
        self._session = None
        merged = await self._worker.call(merge_sessions, [ended], self._settings, self._now())
        for one in merged:
            log.info(
                "stream.merged",
                meter=self._target.serial,
                outcome=one.outcome,
                days=list(map(str, one.touched)),
            )

    def _silence(self) -> Fault:
        if self._line.state.fault is not None and not self._octets:
            return self._line.state.fault
        if self._unit and self._line.state.opened == self._opened:
            what = f"unit {self._unit} is not connected"
            return RetryFault(what, where=self._target.url or "", remedy=NOT_CONNECTED_REMEDY)
        what = f"{self._octets} octets and no valid record" if self._octets else "nothing was heard"
        return RetryFault(
            what,
            where=self._target.url or "",
            remedy="check wiring, polarity and rate (docs/saida_serial.md); smf read shows the line live",
        )


# --- in the database ----------------------------------------------------------------------------------------


def stream_targets(conn: Connection, at: datetime) -> list[Target]:
    """Meters installed now that speak by themselves and have a unit."""
    rows = conn.execute(
        "SELECT m.id, m.serial, mm.profile, i.interval_s, i.active_channel, i.unit_id, u.url, u.cell "
        "FROM installation i JOIN meter m ON m.id = i.meter_id JOIN meter_model mm ON mm.id = m.model_id "
        "JOIN unit u ON u.id = i.unit_id WHERE i.valid @> %s AND mm.profile = ANY(%s) ORDER BY m.id",
        [at, list(STREAM_PROFILES)],
    )
    return [Target(*row) for row in rows]


def open_session(conn: Connection, collector: str, target: Target, at: datetime) -> int | None:
    """A new session, or None where the meter or its line is in one."""
    protocol = STREAM_PROFILES[target.profile].protocol
    wanted = sessions.NewSession(target.meter_id, target.unit_id, PURPOSE, protocol, target.url)
    return sessions.open_sessions(conn, collector, [wanted], at)[0]


def stream_status(conn: Connection) -> list[dict[str, Any]]:
    """The newest session of each meter that speaks by itself, see `storage.sessions.newest_streams`."""
    return sessions.newest_streams(conn, PURPOSE)
