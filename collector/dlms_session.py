"""One session with one DLMS meter: the client over a stream, each frame recorded as it goes and comes.

Whatever the peer does, a session ends: by the patience for one answer, for a silent line, for the whole, by
the octets that it may send, and by the bounds of the protocol core.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import structlog

from collector.dlms_secrets import Secrets
from collector.session import Recorder, SessionResult, Way
from collector.transports import Endpoint, Stream, Timeouts
from faults import DeveloperFault, Fault, OperatorFault, RetryFault
from protocols.dlms.apdu import Attribute, Mechanism
from protocols.dlms.client import AccessRefused, Credentials, DlmsClient, Steps
from protocols.dlms.errors import LimitExceeded
from protocols.dlms.models import DlmsModel
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
    """Where a meter is, how it is spoken to, and how we prove ourselves.

    `is_counter_known`: whether counters of this key were used before; else the meter is asked for its own.
    """

    endpoint: Endpoint
    model: DlmsModel
    timeouts: Timeouts
    secrets: Secrets
    title: bytes
    reserve: Reserve
    is_counter_known: Callable[[str, str], Awaitable[bool]]


async def read_dlms(
    line: DlmsLine, work: Work, record: Recorder, now: Callable[[], datetime], way: Way
) -> SessionResult:
    """Associate, do the work, release; raises nothing that a line or a meter can cause."""
    conversation = _Conversation(line, record, now)
    try:
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
            fault = OperatorFault(
                f"the meter refuses {refused}",
                where=self._line.endpoint.url,
                remedy="check the rights of the client in the meter, and the objects of its model",
            )
        except Exception as error:  # a bug must end this session, not the service with all the others
            fault = DeveloperFault(f"{type(error).__name__}: {error}", where=self._line.endpoint.url)
            fault.__cause__ = error
        finally:
            stream.close()
        answers = self._frames if self._stage == "reading" else 0
        outcome = "complete" if fault is None else "partial" if answers else "failed"
        return SessionResult(
            outcome=outcome,
            failed_stage=None if fault is None else self._stage,
            fault=fault,
            bytes_sent=stream.bytes_sent,
            bytes_received=stream.bytes_received,
            retries=0,
            answers=answers,
        )

    async def _converse(self, work: Work) -> None:
        model = self._line.model
        if model.authentication is Mechanism.GMAC:
            await self._find_counter()
        client = self._client(model.client, self._credentials())
        await self.drive(client.open())
        self._stage = "reading"
        await work(Talk(client, self))
        await self._release(client)

    async def _find_counter(self) -> None:
        """Before a key's first use here: the meter's own counter, through the client without security."""
        model, secrets = self._line.model, self._line.secrets
        if model.counter_object and not await self._line.is_counter_known(
            secrets.key_id, self._line.title.hex()
        ):
            public = self._client(model.public_client, Credentials())
            await self.drive(public.open())
            self._above = await self.drive(_counter(public, model.counter_object))
            await self._release(public)
        self._is_ciphered = True
        await self._reserve()

    async def _reserve(self) -> None:
        line = self._line
        key_id, title = line.secrets.key_id, line.title.hex()
        first = await line.reserve(key_id, title, self._above, _COUNTER_RUN)
        self._counters += range(first, first + _COUNTER_RUN)

    def _client(self, client: int, credentials: Credentials) -> DlmsClient:
        model = self._line.model
        return DlmsClient(
            model.framing_for(client, self._came),
            credentials,
            max_apdu=model.max_apdu,
            tolerate_trailing=model.tolerates_trailing,
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
        self._until_s = min(self._until_s, self._loop.time() + _RELEASE_S)
        try:
            await self.drive(client.release())
        except RetryFault as fault:
            log.debug("dlms.release", url=self._line.endpoint.url, fault=str(fault))
        finally:
            self._until_s = max(self._until_s, self._loop.time() + self._line.timeouts.total_s)

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

    def _send(self, octets: bytes) -> None:
        kept = redact(octets) if self._stage == "association" else octets
        self._record(self._now(), True, label(kept), None, kept)
        assert self._stream is not None
        self._stream.write(octets)

    async def _hear(self, due_s: float) -> bytes:
        """What has come since, at least an octet."""
        until_s = min(due_s, self._until_s, self._loop.time() + self._line.timeouts.idle_s)
        while not self._inbox:
            if self._received > _MAX_OCTETS:
                raise LimitExceeded(f"more than {_MAX_OCTETS} octets", where=self._stage)
            if self._is_lost:
                raise RetryFault("the connection closed", where=self._line.endpoint.url)
            self._heard.clear()
            try:
                async with asyncio.timeout_at(until_s):
                    await self._heard.wait()
            except TimeoutError as error:
                raise RetryFault(
                    "the meter does not answer",
                    where=self._line.endpoint.url,
                    remedy="check framing and addresses of its model: wrong ones mean silence",
                ) from error
        heard = bytes(self._inbox)
        self._inbox.clear()
        if self._loop.time() >= until_s:
            raise RetryFault("the meter is too slow", where=self._line.endpoint.url)
        return heard

    def _came(self, frame: bytes) -> None:
        self._frames += 1
        self._record(self._now(), False, label(frame), True, frame)

    def _plain(self, is_sent: bool, apdu: bytes) -> None:
        self._record(self._now(), is_sent, apdu[0] if apdu else 0, None if is_sent else True, apdu)


def _counter(client: DlmsClient, obis: str) -> Steps[int]:
    value = (yield from client.get(Attribute(1, obis, 2))).value
    if not isinstance(value, int):
        raise OperatorFault("the invocation counter is no number", where=obis, remedy="correct the model")
    return value
