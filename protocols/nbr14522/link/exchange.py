"""One command and its answer as the reader sees it: which blocks came, what a new one is, what has failed."""

from __future__ import annotations

import zlib
from array import array
from dataclasses import dataclass, field
from enum import Enum, auto

from protocols.nbr14522.frames import EXCEPTION_CODES
from protocols.nbr14522.link.events import FailureReason
from protocols.nbr14522.memory import MAX_BLOCK_NUMBER
from protocols.nbr14522.messages import block_mark

COMPOSITE_CODES = frozenset({0x26, 0x27, 0x52})

MAX_BLOCKS = 10 * MAX_BLOCK_NUMBER
"""Blocks of one answer, repeats included. A year of 5-minute words is under 2,000."""

MAX_JUNK_OCTETS = 65_536
"""Octets of one exchange that belong to nothing; h11 bounds a header at 16 KiB for the same reason."""


class BlockKind(Enum):
    """What a block with a good CRC is to the exchange."""

    NEXT = auto()
    LAST = auto()
    DUPLICATE = auto()
    UNFIT = auto()


@dataclass(slots=True)
class Exchange:
    """The running exchange.

    Attributes:
        frame: the plain command.
        may_repeat: False for a command that must not be executed twice (20): after silence it fails instead.
        after_999: the block number that follows 999.
    """

    frame: bytes
    composite: bool
    may_repeat: bool
    after_999: int
    blocks: int = 0
    last_number: int | None = None
    code: int = 0
    naks_received: int = 0
    naks_sent: int = 0
    silences: int = 0
    waits: int = 0
    delays: int = 0
    """WAIT that began a delay, each after the command had been sent (again); never zeroed before a block."""
    breaks: int = 0
    acks_repeated: int = 0
    junk: int = 0
    seen: int = 0
    failure: FailureReason = FailureReason.NO_ANSWER
    _held: array[int] = field(default_factory=lambda: array("q"))
    """Digest of each block by its number, -1: none. An array, since a month of words has 150 blocks, and a
    collector thousands of these."""

    @property
    def command(self) -> int:
        return self.frame[0]

    @property
    def expected_number(self) -> int:
        if self.last_number is None:
            return 1
        return self.after_999 if self.last_number == MAX_BLOCK_NUMBER else self.last_number + 1

    @property
    def stage(self) -> str:
        """Where the exchange is, in words."""
        where = f"command {self.command:02X}"
        return f"{where} block {self.expected_number}" if self.composite and self.blocks else where

    def is_answer_code(self, octet: int) -> bool:
        """Whether the octet may begin an answer to this command."""
        return octet == self.frame[0] or octet in EXCEPTION_CODES

    def zero_counters(self) -> None:
        self.naks_received = self.naks_sent = self.silences = self.waits = 0

    def judge(self, content: bytes) -> BlockKind:
        """Say what a block is, and remember it. `failure` tells why it is UNFIT."""
        self.seen += 1
        self.code = content[0]
        if self.code in EXCEPTION_CODES or not self.composite:
            self._take(None)
            return BlockKind.LAST
        if self.seen > MAX_BLOCKS:
            self.failure = FailureReason.TOO_LONG
            return BlockKind.UNFIT
        mark = block_mark(content)
        if mark is None:
            self.failure = FailureReason.MALFORMED_BLOCK
            return BlockKind.UNFIT
        number, is_last = mark
        digest = zlib.crc32(content)
        if number == self.expected_number:
            self._hold(number, digest)
            self._take(number)
            return BlockKind.LAST if is_last else BlockKind.NEXT
        if number >= len(self._held) or self._held[number] < 0:
            self.failure = FailureReason.BLOCK_OUT_OF_ORDER
            return BlockKind.UNFIT
        # The command was sent again and the answer starts over. If the memory moved on meanwhile, the rest
        # would not fit what is held.
        if self._held[number] != digest:
            self.failure = FailureReason.ANSWER_CHANGED
            return BlockKind.UNFIT
        return BlockKind.DUPLICATE

    def _hold(self, number: int, digest: int) -> None:
        while len(self._held) <= number:
            self._held.append(-1)
        self._held[number] = digest

    def _take(self, number: int | None) -> None:
        self.blocks += 1
        if number is not None:
            self.last_number = number
        # Section 1.6: an accepted block clears these and keeps the refusals received.
        self.naks_sent = self.silences = self.waits = self.delays = self.acks_repeated = 0
