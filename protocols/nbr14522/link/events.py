"""What can happen on a link. Frozen values, in the order in which they happened.

`FrameSent`, `FrameReceived`, `SignalSent`, `SignalReceived` and `Skipped` together account for every octet
of the line, so they are the evidence that is stored; the others say what it meant. Times are the
caller's `now_s`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Final

from faults import RetryFault


class NeedData(Enum):
    """The type of `NEED_DATA`."""

    NEED_DATA = auto()


NEED_DATA: Final = NeedData.NEED_DATA
"""Nothing complete has happened yet: give octets, or time."""

SAMPLE_OCTETS = 64


class SkipReason(StrEnum):
    """Why octets were passed over."""

    IDLE = "between exchanges"
    NOISE_BEFORE_ENQ = "before the first ENQ"
    NOISE_BEFORE_FRAME = "before a frame's first octet"
    TELNET = "telnet option"
    DRAINED = "while the line was drained"
    BROKEN = "broke the sequence"
    TRUNCATED = "frame broke off"
    ECHO = "echo of our own octets"
    DUPLICATE_BLOCK = "block already held"
    BAD_FRAME = "frame with a bad CRC"
    LATE = "too late after ENQ"
    STRAY_SIGNAL = "signal outside its place"
    OTHER_METER = "addressed to another meter"
    BUSY = "while a command is worked on"


class FailureReason(StrEnum):
    """Why an exchange ended without its whole answer."""

    NO_ENQ = "no ENQ came"
    NO_ANSWER = "no answer to the command"
    REFUSED = "the meter refused the command's CRC too often"
    BAD_CRC = "a block stayed damaged"
    WAITED_TOO_LONG = "the meter asked to wait too often"
    SEQUENCE_BROKEN = "unexpected octets too often"
    BROKEN_OFF = "the answer broke off between blocks"
    OUTCOME_UNKNOWN = "a command that must not be repeated got no readable answer"
    BLOCK_OUT_OF_ORDER = "a block is missing"
    ANSWER_CHANGED = "a repeated block has other content"
    MALFORMED_BLOCK = "a block with a good CRC has no block number"
    TOO_LONG = "the answer does not end"
    FLOOD = "too many octets that belong to nothing"
    DISCONNECTED = "the connection closed"
    ABORTED = "given up by the caller"


@dataclass(frozen=True, slots=True)
class Synchronised:
    """The meter's ENQ were seen; the command goes out."""

    at_s: float


@dataclass(frozen=True, slots=True)
class FrameSent:
    """A frame as it goes on the wire."""

    octets: bytes
    at_s: float


@dataclass(frozen=True, slots=True)
class FrameReceived:
    """A frame as it came from the wire, good or not."""

    octets: bytes
    crc_ok: bool
    at_s: float


@dataclass(frozen=True, slots=True)
class SignalSent:
    """ENQ, ACK, NAK or WAIT, `count` times in a row."""

    signal: int
    at_s: float
    count: int = 1


@dataclass(frozen=True, slots=True)
class SignalReceived:
    """ENQ, ACK, NAK or WAIT, `count` times in a row."""

    signal: int
    at_s: float
    count: int = 1


@dataclass(frozen=True, slots=True)
class Skipped:
    """Octets passed over: how many, why, and the first of them (at most SAMPLE_OCTETS)."""

    reason: SkipReason
    count: int
    octets: bytes
    at_s: float


@dataclass(frozen=True, slots=True)
class BlockReceived:
    """A good block of the answer, delivered at once: what came before a failure is not lost.

    Attributes:
        content: 256 octets, for `messages.decode_response`.
        number: block number of a composite answer, else None.
    """

    content: bytes
    number: int | None
    is_last: bool
    at_s: float


@dataclass(frozen=True, slots=True)
class AnswerComplete:
    """The answer is whole. `code` is the command's, or 0x39, 0x40."""

    command: int
    code: int
    blocks: int
    at_s: float

    @property
    def is_exception(self) -> bool:
        return self.code != self.command


@dataclass(frozen=True, slots=True)
class LinkFailed:
    """The exchange ended without its whole answer.

    Attributes:
        stage: "synchronise", "command 26", "command 26 block 3" (the block that was awaited).
        last_block: number of the last good block of a composite answer, None before the first.
        blocks: good blocks delivered.
    """

    reason: FailureReason
    stage: str
    command: int
    last_block: int | None
    blocks: int
    at_s: float

    def fault(self) -> RetryFault:
        """The failure as an error that may be raised."""
        return RetryFault(self.reason.value, where=self.stage, remedy="read again; what came is kept")


@dataclass(frozen=True, slots=True)
class UnaskedOccurrence:
    """An answer 40 that nobody asked for (P8, P2), set aside: 256 octets of content."""

    content: bytes
    at_s: float


@dataclass(frozen=True, slots=True)
class CommandReceived:
    """Meter: a good command. Answer with `send`, `delay` or `forget`.

    Attributes:
        frame: the plain 66 octets.
        is_repeat: it was sent again after a WAIT, as the meter asked.
    """

    frame: bytes
    is_repeat: bool
    at_s: float


@dataclass(frozen=True, slots=True)
class AnswerDelivered:
    """Meter: the reader took every block (ACK), or the last one was sent where there is no ACK."""

    code: int
    blocks: int
    at_s: float


@dataclass(frozen=True, slots=True)
class AnswerAbandoned:
    """Meter: the reader stopped taking blocks after `blocks` of them."""

    reason: FailureReason
    code: int
    blocks: int
    at_s: float


Event = (
    Synchronised
    | FrameSent
    | FrameReceived
    | SignalSent
    | SignalReceived
    | Skipped
    | BlockReceived
    | AnswerComplete
    | LinkFailed
    | UnaskedOccurrence
    | CommandReceived
    | AnswerDelivered
    | AnswerAbandoned
)
