"""One session with one DLMS meter: the client over a stream, each frame recorded as it goes and comes.

Whatever the peer does, a session ends: by the patience for one answer, for a silent line, for the whole, by
the octets that it may send, and by the bounds of the protocol core. What a line loses on the way is fetched
again by the framing, when the line has been silent for `repeat_s`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import structlog

from collector.dlms.secrets import Secrets
from collector.lines.transports import Endpoint, SpeedStream, Stream, Timeouts
from collector.session import Recorder, SessionResult, Way
from faults import DeveloperFault, Fault, OperatorFault, RetryFault
from protocols.dlms.access import AccessRefused, Credentials
from protocols.dlms.apdu import Attribute, Mechanism
from protocols.dlms.client import DlmsClient, Steps
from protocols.dlms.errors import CounterRefused, LimitExceeded, NoAnswer
from protocols.dlms.framing import Framing
from protocols.dlms.mode_e import Listen, Send, SetSpeed, Step, Wait
from protocols.dlms.models import DlmsModel, FramingKind
from protocols.dlms.security import MOST_COUNTER
from protocols.dlms.transcript import label, redact

log = structlog.get_logger(__name__)

_MAX_INBOX = 1 << 20
# A month of 12 channels in 5-minute rows is 1.5 MB.
_MAX_OCTETS = 24 << 20
_RELEASE_S = 5.0
# Counters are taken in runs of so many; what a session does not use is lost, out of four thousand million.
_COUNTER_RUN = 64
_COUNTER_REST = 4

Reserve = Callable[[str, str, int, int], Awaitable[int]]
"""Stores as used, and gives the first of: key id, our title, the meter's counter, how many."""
Result = TypeVar("Result")


class Talk:
    """An open association: a client, and the way to run its operations one after the other."""

    def __init__(self, client: DlmsClient, conversation: _Conversation) -> None:
        self.client = client
        self._conversation = conversation

    async def do(self, operation: Steps[Result]) -> Result:
        """Run one operation of the client."""
        return await self._conversation.drive(operation)


Work = Callable[[Talk], Awaitable[None]]


def steps(work: Callable[[DlmsClient], Steps[None]]) -> Work:
    """Work that only asks and needs nothing else between its questions."""

    async def do(talk: Talk) -> None:
        await talk.do(work(talk.client))

    return do


@dataclass(frozen=True, slots=True)
class DlmsLine:
    """Where a meter is, how it is spoken to, and how we prove ourselves."""

    endpoint: Endpoint
    model: DlmsModel
    timeouts: Timeouts
    secrets: Secrets
    title: bytes
    reserve: Reserve


async def read_dlms(
    line: DlmsLine, work: Work, record: Recorder, now: Callable[[], datetime], way: Way
) -> SessionResult:
    """Associate, do the work, release; raises nothing that a line or a meter can cause."""
    conversation = _Conversation(line, record, now)
    try:
        if line.model.sign_on is not None and not line.endpoint.can_set_speed:
            raise OperatorFault(
                "mode E changes the speed of the line, which this way to the meter cannot",
                where=line.endpoint.url,
                remedy="use serial:// or rfc2217://, or a model whose port needs no opening",
            )
        stream = await way(line.endpoint, conversation, line.timeouts.connect_s)
    except (RetryFault, OperatorFault) as fault:
        return SessionResult("failed", "connect", fault, 0, 0, 0, 0)
    return await conversation.run(stream, work)


class _Conversation:
    """The receiver of a stream, and the driver of the client's generators over it."""

    def __init__(self, line: DlmsLine, record: Recorder, now: Callable[[], datetime]) -> None:
        self._line = line
        self._record = record
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._inbox = bytearray()
        self._received = 0
        self._heard = asyncio.Event()
        self._is_lost = False
        self._stream: Stream | None = None
        self._until_s = 0.0
        model = line.model
        self._patience_s = model.repeat_s if model.framing is FramingKind.HDLC else model.answer_s
        self._framings: list[Framing] = []
        self._sign_ons = self._openings = 0
        self._stage = "association"
        self._frames = 0
        self._counters: list[int] = []
        self._above = 0
        self._is_ciphered = False

    # What the stream tells.

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if len(self._inbox) + len(data) <= _MAX_INBOX and self._received <= _MAX_OCTETS:
            self._inbox += data
        elif self._stream is not None:
            self._stream.close()
        self._heard.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._is_lost = True
        self._heard.set()

    # The session.

    async def run(self, stream: Stream, work: Work) -> SessionResult:
        self._stream = stream
        self._until_s = self._loop.time() + self._line.timeouts.total_s
        fault: Fault | None = None
        try:
            await self._converse(work)
        except Fault as found:
            fault = found
        except AccessRefused as refused:
            fault = refused.as_fault(
                "the meter refuses",
                self._line.endpoint.url,
                "check the rights of the client in the meter, and the objects of its model",
            )
        except Exception as error:  # a bug must end this session, not the service with all the others
            fault = DeveloperFault(f"{type(error).__name__}: {error}", where=self._line.endpoint.url)
            fault.__cause__ = error
        finally:
            self._part()
            stream.close()
        answers = self._frames if self._stage == "reading" else 0
        outcome = "complete" if fault is None else "partial" if answers else "failed"
        return SessionResult(
            outcome=outcome,
            failed_stage=None if fault is None else self._stage,
            fault=fault,
            bytes_sent=stream.bytes_sent,
            bytes_received=stream.bytes_received,
            retries=sum(one.retries for one in self._framings) + max(0, self._sign_ons - self._openings),
            answers=answers,
        )

    async def _converse(self, work: Work) -> None:
        model = self._line.model
        await self._open_port()
        if model.authentication is Mechanism.GMAC:
            await self._find_counter()
        client = await self._associate()
        self._stage = "reading"
        await work(Talk(client, self))
        await self._release(client)

    async def _associate(self) -> DlmsClient:
        """An open association; where the model lets it, with the counter that a refusal states."""
        model = self._line.model
        client = self._client(model.client, self._credentials())
        try:
            await self.drive(client.open())
        except CounterRefused as refused:
            if not model.trusts_told_counter:
                raise
            await self._release(client)
            self._above = max(self._above, refused.counter)
            self._counters.clear()
            await self._reserve()
            client = self._client(model.client, self._credentials())
            await self.drive(client.open())
        return client

    async def _open_port(self) -> None:
        """Sign on where the port asks for it; what the meter says it is stays with the frames."""
        sign_on = self._line.model.sign_on
        if sign_on is None:
            return
        self._openings += 1
        self._stage = "opening"
        steps = sign_on.steps(self._came)
        try:
            step = next(steps)
            while True:
                step = steps.send(await self._carry_out(step))
        except StopIteration:
            pass  # its identification is among the frames
        except NoAnswer as silence:
            raise self._silent(silence) from silence
        finally:
            steps.close()
        self._stage = "association"

    async def _carry_out(self, step: Step) -> bytes:
        """What was heard while it was done."""
        match step:
            case SetSpeed(baud):
                assert isinstance(self._stream, SpeedStream)
                await self._stream.set_speed(baud)
            case Send(octets):
                # What came before belongs to nothing that we asked.
                self._inbox.clear()
                self._sign_ons += octets.startswith(b"/")
                self._send(octets, step.on_line)
            case Listen(patience_s):
                return await self._listen(self._loop.time() + patience_s)
            case Wait(duration_s):
                await asyncio.sleep(duration_s)
                return self._taken()
        return b""

    async def _find_counter(self) -> None:
        """The meter's own counter, through the client without security: others may have used the key, too."""
        model = self._line.model
        if model.counter_object:
            public = self._client(model.public_client, Credentials())
            await self.drive(public.open())
            self._above = await self.drive(_counter(public, model.counter_object))
            await self._release(public)
            # An optical port closes with its link.
            await self._open_port()
        self._is_ciphered = True
        await self._reserve()

    async def _reserve(self) -> None:
        line = self._line
        key_id, title = line.secrets.key_id, line.title.hex()
        first = await line.reserve(key_id, title, self._above, _COUNTER_RUN)
        self._counters += range(first, first + _COUNTER_RUN)

    def _client(self, client: int, credentials: Credentials) -> DlmsClient:
        model = self._line.model
        framing = model.framing_for(client, self._came)
        self._framings.append(framing)
        return DlmsClient(
            framing,
            credentials,
            max_apdu=model.max_apdu,
            tolerate_trailing=model.tolerates_trailing,
            on_surplus=self._surplus,
            on_plain=self._plain,
        )

    def _credentials(self) -> Credentials:
        secrets = self._line.secrets
        return Credentials(
            mechanism=self._line.model.authentication,
            password=secrets.password,
            keys=secrets.keys,
            title=self._line.title,
            next_counter=lambda: self._counters.pop(0),
            make_challenge=lambda: os.urandom(16),
        )

    async def _release(self, client: DlmsClient) -> None:
        """Say good-bye. Some meters refuse it or hang up: what was read stays good."""
        until_s = self._until_s
        self._until_s = min(until_s, self._loop.time() + _RELEASE_S)
        try:
            await self.drive(client.release())
        except RetryFault as fault:
            log.debug("dlms.release", url=self._line.endpoint.url, fault=str(fault))
        finally:
            self._part()
            self._until_s = until_s

    def _part(self) -> None:
        """Close a link that is still open, without waiting for it: the meter need not wait for us, either."""
        closing = self._framings[-1].disconnect() if self._framings else b""
        if closing and not self._is_lost:
            self._send(closing)

    # One operation.

    async def drive(self, steps: Generator[bytes, bytes, Result]) -> Result:
        """Run an operation of the client: send what it yields, give it what comes."""
        try:
            out = next(steps)
            while True:
                if out:
                    self._send(out)
                    due_s = self._loop.time() + self._line.model.answer_s
                heard = await self._hear(due_s)
                if self._is_ciphered and len(self._counters) < _COUNTER_REST:
                    await self._reserve()
                out = steps.send(heard)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # the generator's own return value
        finally:
            steps.close()

    def _send(self, octets: bytes, on_line: bytes | None = None) -> None:
        """Send and record; `on_line` where the line takes the octets in another form."""
        kept = redact(octets) if self._stage == "association" else octets
        self._record(self._now(), True, label(octets), None, kept)
        assert self._stream is not None
        self._stream.write(on_line or octets)

    async def _hear(self, due_s: float) -> bytes:
        """What has come since; nothing, when silence made us ask again."""
        heard = await self._listen(min(due_s, self._loop.time() + self._patience_s))
        if heard:
            if self._loop.time() >= min(due_s, self._until_s):
                raise RetryFault("the meter is too slow", where=self._line.endpoint.url)
            return heard
        if self._loop.time() >= due_s:
            raise self._silent()
        try:
            again = self._framings[-1].timed_out()
        except NoAnswer as silence:
            raise self._silent(silence) from silence
        if again:
            self._send(again)
        return b""

    async def _listen(self, until_s: float) -> bytes:
        """What has come since, at once; nothing, when nothing comes until then.

        Raises:
            RetryFault: the line is lost, has been silent for too long, or the session's time is over.
        """
        end_s = min(self._until_s, self._loop.time() + self._line.timeouts.idle_s)
        while not self._inbox:
            if self._received > _MAX_OCTETS:
                raise LimitExceeded(f"more than {_MAX_OCTETS} octets", where=self._stage)
            if self._is_lost:
                raise RetryFault("the connection closed", where=self._line.endpoint.url)
            self._heard.clear()
            try:
                async with asyncio.timeout_at(min(until_s, end_s)):
                    await self._heard.wait()
            except TimeoutError:
                if end_s <= until_s:
                    raise self._silent() from None
                return b""
        return self._taken()

    def _taken(self) -> bytes:
        heard = bytes(self._inbox)
        self._inbox.clear()
        return heard

    def _silent(self, silence: NoAnswer | None = None) -> RetryFault:
        asked = f" ({silence.message})" if silence is not None else ""
        return RetryFault(
            f"the meter does not answer{asked}",
            where=self._line.endpoint.url,
            remedy="check framing and addresses of its model: wrong ones mean silence",
        )

    def _came(self, frame: bytes) -> None:
        self._frames += 1
        self._record(self._now(), False, label(frame), True, frame)

    def _surplus(self, about: Attribute, octets: int) -> None:
        log.info("dlms.surplus", url=self._line.endpoint.url, object=about.obis, octets=octets)

    def _plain(self, is_sent: bool, apdu: bytes) -> None:
        self._record(self._now(), is_sent, apdu[0] if apdu else 0, None if is_sent else True, apdu)


def _counter(client: DlmsClient, obis: str) -> Steps[int]:
    value = (yield from client.get(Attribute(1, obis, 2))).value
    if type(value) is not int or not 0 <= value <= MOST_COUNTER:
        raise OperatorFault(
            f"the invocation counter is {value!r}: none",
            where=obis,
            remedy="correct counter_object of the model",
        )
    return value
