"""One session with one meter: a script of commands over a stream, each frame recorded as it goes and comes.

The link layer is the protocol's (`ReaderLink`, sans-IO); this module gives it octets and time. It runs inside
the callbacks of the event loop, without a task that waits for each frame.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from collector.lines.transports import Endpoint, Stream, Timeouts, open_stream
from collector.nbr14522.sequences import Answered, GuardedWrite, Script
from collector.session import Recorder, SessionResult, Way
from faults import DeveloperFault, Fault, OperatorFault, RetryFault
from protocols.nbr14522.frames import NAK, Addressing
from protocols.nbr14522.link import (
    NEED_DATA,
    AnswerComplete,
    BlockReceived,
    Event,
    FrameReceived,
    FrameSent,
    LinkFailed,
    ReaderLink,
    SignalSent,
    Skipped,
    SkipReason,
)
from protocols.nbr14522.messages import Request, Response, decode_response
from protocols.nbr14522.profile import MeterProfile
from protocols.nbr14522.sending.secrets import redact

# Executed twice, a demand reset closes two periods: after an unknown outcome it is never sent again.
_NEVER_REPEATED = frozenset({0x20})
# How often a session looks at its deadlines, at most: waking seldom is cheaper than keeping a timer exact
# that every octet moves.
_LOOK_S = 0.5
_CODE_OFFSET = {Addressing.P0: 0, Addressing.P8: 5, Addressing.P2: 2}
_ANSWER_OFFSET = {Addressing.P0: 0, Addressing.P8: 0, Addressing.P2: 2}


# How often a session calls again to take up an answer that broke off, how long it waits before, and how long
# for the old connection to end.
_TAKE_UPS = 3
_TAKE_UP_PAUSE_S = 2.0
_HANG_UP_S = 5.0


@dataclass(frozen=True, slots=True)
class Line:
    """Where a meter is and how it is spoken to."""

    endpoint: Endpoint
    profile: MeterProfile
    meter_serial: str
    reader_serial: str
    timeouts: Timeouts


async def read_meter(
    line: Line,
    script: Script,
    record: Recorder,
    now: Callable[[], datetime],
    progress: Callable[[Response], None] | None = None,
    way: Way = open_stream,
) -> SessionResult:
    """Run a script against a meter and return how it went; raises nothing that a line or a meter can cause.

    Args:
        record: gets every frame, in order, before it is acted on.
        now: reference time, for the evidence and the meter's drift.
        progress: gets each good block.
        way: opens the stream to the endpoint.
    Cancelling closes the connection; the frames recorded until then stay good.
    """
    conversation = _Conversation(line, script, record, now, progress, way)
    try:
        stream = await way(line.endpoint, conversation, line.timeouts.connect_s)
    except (RetryFault, OperatorFault) as fault:
        return SessionResult("failed", "connect", fault, 0, 0, 0, 0)
    return await conversation.run(stream)


class _Conversation:
    """The receiver of a stream, between it and the link."""

    __slots__ = (
        "_answer_at",
        "_answers",
        "_code_at",
        "_content",
        "_done",
        "_gone",
        "_guarding",
        "_is_answered",
        "_is_lost",
        "_last_heard_s",
        "_line",
        "_link",
        "_loop",
        "_now",
        "_progress",
        "_record",
        "_request",
        "_retries",
        "_script",
        "_skipped",
        "_stream",
        "_take_ups",
        "_timer",
        "_until_s",
        "_way",
    )

    def __init__(
        self,
        line: Line,
        script: Script,
        record: Recorder,
        now: Callable[[], datetime],
        progress: Callable[[Response], None] | None,
        way: Way,
    ) -> None:
        self._line = line
        self._link = ReaderLink(line.profile, line.meter_serial)
        self._script = script
        self._record = record
        self._now = now
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[SessionResult] = self._loop.create_future()
        self._stream: Stream | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._until_s = 0.0
        self._last_heard_s = 0.0
        self._request: Request | None = None
        self._content: bytes | None = None
        self._code_at = _CODE_OFFSET[line.profile.addressing]
        self._answer_at = _ANSWER_OFFSET[line.profile.addressing]
        self._guarding: asyncio.Task[None] | None = None
        self._way = way
        self._gone: list[Stream] = []
        self._take_ups = 0
        self._is_lost = False
        self._is_answered = True
        self._answers = 0
        self._retries = 0
        self._skipped: dict[SkipReason, tuple[int, bytes]] = {}

    async def run(self, stream: Stream) -> SessionResult:
        self._stream = stream
        started = self._loop.time()
        self._until_s = started + self._line.timeouts.total_s
        self._last_heard_s = started
        try:
            self._next(None)
            self._pump()
            return await self._done
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if self._guarding is not None:
                self._guarding.cancel()
            self._script.close()
            if self._stream is not None:
                self._stream.close()

    # What the stream tells.

    def data_received(self, data: bytes) -> None:
        if self._done.done():
            return
        self._last_heard_s = self._loop.time()
        self._link.receive(data, self._last_heard_s)
        self._pump()

    def connection_lost(self, error: Exception | None) -> None:
        self._is_lost = True
        if not self._done.done():
            self._link.disconnected(self._loop.time())
            self._pump()

    # What time tells.

    def _look(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        if now_s >= self._until_s or now_s >= self._last_heard_s + self._line.timeouts.idle_s:
            self._link.abort(now_s)
        self._link.advance(now_s)
        self._pump()

    def _arm(self) -> None:
        deadline = self._link.next_deadline()
        due = min(self._loop.time() + _LOOK_S, deadline if deadline is not None else self._until_s)
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._look)

    # What the link tells.

    def _pump(self) -> None:
        link = self._link
        try:
            while not self._done.done() and (event := link.next_event()) is not NEED_DATA:
                self._handle(event)
        except Exception as error:  # a bug must end this session, not the loop that carries all the others
            fault = DeveloperFault(f"{type(error).__name__}: {error}", where=self._line.endpoint.url)
            fault.__cause__ = error
            self._finish(self._stage(), fault)
        self._write()
        if not self._done.done():
            self._arm()

    def _write(self) -> None:
        data = self._link.data_to_send()
        if data and self._stream is not None:
            self._stream.write(data)

    def _handle(self, event: Event) -> None:
        # The most frequent first: this runs three times a block in every session.
        if isinstance(event, FrameReceived):
            kept = redact(event.octets, self._line.profile.addressing, is_command=False).octets
            self._record(self._now(), False, kept[self._answer_at], event.crc_ok, kept)
        elif isinstance(event, BlockReceived):
            self._is_answered = True
            self._answers += 1
            self._content = event.content if event.number is None else None
            if self._progress is not None:
                self._progress(decode_response(event.content))
        elif isinstance(event, SignalSent):
            self._retries += event.signal == NAK
        elif isinstance(event, FrameSent):
            self._retries += not self._is_answered
            self._is_answered = False
            kept = redact(event.octets, self._line.profile.addressing, is_command=True).octets
            self._record(self._now(), True, kept[self._code_at], None, kept)
        elif isinstance(event, AnswerComplete):
            self._next(Answered(self._content, event.blocks))
        elif isinstance(event, LinkFailed):
            if self._link.can_resume and self._take_ups < _TAKE_UPS:
                self._take_ups += 1
                self._guarding = self._loop.create_task(self._take_up(event))
            else:
                self._finish(event.stage, event.fault())
        elif isinstance(event, Skipped):
            heard = redact(event.octets, self._line.profile.addressing, is_command=True).octets
            known, sample = self._skipped.get(event.reason, (0, heard))
            self._skipped[event.reason] = (known + event.count, sample)
        # Signals that came, and answers nobody asked for, need nothing done.

    def _next(self, answered: Answered | None) -> None:
        """Take the script's next request, or end."""
        try:
            request = next(self._script) if answered is None else self._script.send(answered)
        except StopIteration:
            self._finish(None, None)
            return
        except Fault as fault:
            self._finish(fault.where, fault)
            return
        if isinstance(request, GuardedWrite):
            self._guarding = self._loop.create_task(self._send_guarded(request))
            return
        self._send(request, may_repeat=request.code not in _NEVER_REPEATED)

    def _send(self, request: Request, *, may_repeat: bool) -> None:
        self._request = request
        self._is_answered = True
        frame = request.encode(self._line.reader_serial)
        self._link.send(frame, self._loop.time(), may_repeat=may_repeat)

    async def _send_guarded(self, write: GuardedWrite) -> None:
        """Send a write once what it needs beforehand is done; the line is kept meanwhile."""
        fault: Fault
        try:
            request = await write.prepare()
            if self._is_lost:
                raise RetryFault("the connection closed before the write", where=self._line.endpoint.url)
        except Fault as found:
            fault = found
        except Exception as error:  # as in `_pump`
            fault = DeveloperFault(f"{type(error).__name__}: {error}", where=self._line.endpoint.url)
            fault.__cause__ = error
        else:
            if not self._done.done():
                self._last_heard_s = self._loop.time()
                self._send(request, may_repeat=False)
                self._pump()
            return
        self._finish("write", fault)

    async def _take_up(self, failed: LinkFailed) -> None:
        """Connect again and go on with the answer that broke off."""
        try:
            await self._hang_up()
            await asyncio.sleep(_TAKE_UP_PAUSE_S)
            self._is_lost = False
            self._stream = await self._way(self._line.endpoint, self, self._line.timeouts.connect_s)
        except (RetryFault, OperatorFault, TimeoutError):
            self._finish(failed.stage, failed.fault())
            return
        except Exception as error:  # as in `_pump`
            fault = DeveloperFault(f"{type(error).__name__}: {error}", where=self._line.endpoint.url)
            fault.__cause__ = error
            self._finish(failed.stage, fault)
            return
        if not self._done.done():
            self._last_heard_s = self._loop.time()
            self._link.resume(self._last_heard_s)
            self._pump()

    async def _hang_up(self) -> None:
        """End the connection. The next one must not begin before this one has told of its end."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        self._gone.append(stream)
        stream.close()
        async with asyncio.timeout(_HANG_UP_S):
            while not self._is_lost:  # noqa: ASYNC110 -- rare, and nobody else waits for this
                await asyncio.sleep(0.05)

    def _stage(self) -> str:
        return "session" if self._request is None else f"command {self._request.code:02X}"

    def _finish(self, stage: str | None, fault: Fault | None) -> None:
        if self._done.done():
            return
        self._write()  # the last ACK belongs to the traffic, too
        outcome = "complete" if fault is None else "partial" if self._answers else "failed"
        streams = [*self._gone, *([self._stream] if self._stream else [])]
        self._done.set_result(
            SessionResult(
                outcome=outcome,
                failed_stage=stage,
                fault=fault,
                bytes_sent=sum(stream.bytes_sent for stream in streams),
                bytes_received=sum(stream.bytes_received for stream in streams),
                retries=self._retries,
                answers=self._answers,
                skipped=tuple((reason, count, sample) for reason, (count, sample) in self._skipped.items()),
            )
        )
