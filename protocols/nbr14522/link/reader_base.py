"""What the reader does on every line: begin an exchange, deliver blocks, end it."""

from __future__ import annotations

from abc import abstractmethod

from protocols.nbr14522.errors import LocalProtocolError
from protocols.nbr14522.frames import COMMAND_SIZE
from protocols.nbr14522.link.events import (
    AnswerComplete,
    BlockReceived,
    FailureReason,
    LinkFailed,
    SkipReason,
)
from protocols.nbr14522.link.exchange import COMPOSITE_CODES, MAX_JUNK_OCTETS, BlockKind, Exchange
from protocols.nbr14522.link.machine import Machine
from protocols.nbr14522.link.tables import Branch
from protocols.nbr14522.profile import MeterProfile


class ReaderMachine(Machine):
    """Base of the reader's machines."""

    def __init__(self, profile: MeterProfile) -> None:
        super().__init__()
        self._profile = profile
        self._timing = profile.timing
        self._limits = profile.limits
        self._exchange: Exchange | None = None
        self._stop_reason = FailureReason.ABORTED
        self._buffer = bytearray()

    @property
    def is_idle(self) -> bool:
        return self._exchange is None

    def send(
        self, frame: bytes, now_s: float, *, may_repeat: bool = True, composite: bool | None = None
    ) -> None:
        """Begin an exchange; see `ReaderLink.send`."""
        if self._exchange is not None:
            raise LocalProtocolError(
                f"command {frame[:1].hex()} while command {self._exchange.command:02X} runs", where="link"
            )
        if len(frame) != COMMAND_SIZE:
            raise LocalProtocolError(f"a command frame has 66 octets, not {len(frame)}", where="link")
        self.advance(now_s)
        self._exchange = Exchange(
            frame=frame,
            composite=frame[0] in COMPOSITE_CODES if composite is None else composite,
            may_repeat=may_repeat,
            after_999=self._profile.block_after_999,
        )
        self._begin()

    def stop(self, reason: FailureReason, now_s: float) -> None:
        """End the running exchange from outside: the caller gives up, or the connection closed."""
        self.advance(now_s)
        if self._exchange is not None:
            self._stop_reason = reason
            self._stop()

    @abstractmethod
    def _begin(self) -> None:
        """Act on the input BEGIN."""

    @abstractmethod
    def _stop(self) -> None:
        """Act on the input STOP, with `_stop_reason`."""

    def _fail_stopped(self) -> Branch:
        return self._fail(self._stop_reason)

    @property
    def _running(self) -> Exchange:
        assert self._exchange is not None
        return self._exchange

    def _stage(self) -> str:
        return self._running.stage

    def _deliver(self, content: bytes) -> BlockKind:
        """Judge a block with a good CRC and hand it on; ends the exchange where it does not fit."""
        exchange = self._running
        kind = exchange.judge(content)
        if kind is BlockKind.DUPLICATE:
            self._skip(content, SkipReason.DUPLICATE_BLOCK)
        elif kind is BlockKind.UNFIT:
            self._fail(exchange.failure)
        else:
            number = exchange.last_number if exchange.code == exchange.command else None
            is_last = kind is BlockKind.LAST
            self._events.append(
                BlockReceived(content, number if exchange.composite else None, is_last, self._now)
            )
        return kind

    def _complete(self) -> None:
        exchange = self._running
        self._events.append(AnswerComplete(exchange.command, exchange.code, exchange.blocks, self._now))
        self._end()

    def _fail(self, reason: FailureReason) -> Branch:
        exchange = self._running
        if self._buffer:
            self._skip(bytes(self._buffer), SkipReason.TRUNCATED)
        self._events.append(
            LinkFailed(
                reason, self._stage(), exchange.command, exchange.last_number, exchange.blocks, self._now
            )
        )
        self._end()
        return Branch.FAILED

    def _end(self) -> None:
        self._buffer.clear()
        self._exchange = None
        self._deadline = None

    def _junk(self, count: int) -> bool:
        """Count octets that belong to nothing; False when there were too many and the exchange has ended."""
        self._running.junk += count
        if self._running.junk <= MAX_JUNK_OCTETS:
            return True
        self._stop_reason = FailureReason.FLOOD
        self._stop()
        return False
