"""A session with a meter, whatever the protocol: how it is recorded, how it ended, what it came to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from collector.decoded import Decoded
from collector.lines.transports import Endpoint, Receiver, Stream
from collector.work.planning import Goal, Span
from faults import Fault

Way = Callable[[Endpoint, Receiver, float], Awaitable[Stream]]
"""Opens a stream to an endpoint for a receiver within so many seconds; see `open_stream`."""

Recorder = Callable[[datetime, bool, int, bool | None, bytes], None]
"""Takes each frame before anybody decodes it: time, whether it was sent, command code, CRC good, octets."""


@dataclass(frozen=True, slots=True)
class SessionResult:
    """How a conversation ended. What it brought is in its frames.

    Attributes:
        outcome: complete; partial (the link failed after answers had come); failed (nothing came).
        failed_stage: connect, synchronise, command 26, command 26 block 3.
        skipped: octets passed over: reason, count, the first ones of each kind, for a person who looks for
            the failing layer.
    """

    outcome: str
    failed_stage: str | None
    fault: Fault | None
    bytes_sent: int
    bytes_received: int
    retries: int
    answers: int
    skipped: tuple[tuple[StrEnum, int, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class EndedSession:
    """A session that is over, still to be decoded. Defaults are those of a session whose collector died.

    `asked`: the intervals that it was to bring, meter local; empty: none by time, or it did not come so far.
    """

    session_id: int
    outcome: str = "aborted"
    failed_stage: str | None = None
    fault: Fault | None = None
    bytes_sent: int | None = None
    bytes_received: int | None = None
    retries: int = 0
    asked: tuple[Span, ...] = ()

    @classmethod
    def of(cls, session_id: int, result: SessionResult, goal: Goal | None = None) -> EndedSession:
        """The end of a session that had its conversation; `goal`: of its visit."""
        return cls(
            session_id=session_id,
            outcome=result.outcome,
            failed_stage=result.failed_stage,
            fault=result.fault,
            bytes_sent=result.bytes_sent,
            bytes_received=result.bytes_received,
            retries=result.retries,
            asked=() if goal is None or result.outcome == "failed" else goal.spans,
        )


@dataclass(frozen=True, slots=True)
class MergedSession:
    """What a session came to: decoded, merged and closed.

    Attributes:
        touched: days of its meter whose readings changed.
    """

    session_id: int
    request_id: int | None
    meter_id: int
    outcome: str
    failed_stage: str | None
    fault: Fault | None
    decoded: Decoded
    touched: tuple[date, ...] = ()
    bytes_sent: int = 0
    bytes_received: int = 0
