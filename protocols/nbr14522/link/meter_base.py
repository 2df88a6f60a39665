"""What the meter does on every line: hand commands to the host, send its answer block by block."""

from __future__ import annotations

from collections.abc import Sequence

from protocols.nbr14522.errors import LocalProtocolError
from protocols.nbr14522.frames import RESPONSE_SIZE, wrap_response
from protocols.nbr14522.link.events import AnswerAbandoned, AnswerDelivered, FailureReason
from protocols.nbr14522.link.machine import Machine
from protocols.nbr14522.profile import MeterProfile


class MeterMachine(Machine):
    """Base of the meter's machines."""

    def __init__(self, profile: MeterProfile) -> None:
        super().__init__()
        self._profile = profile
        self._timing = profile.timing
        self._limits = profile.limits
        self._buffer = bytearray()
        self._blocks: list[bytes] = []
        self._index = 0

    def _take_answer(self, blocks: Sequence[bytes], now_s: float) -> None:
        if not blocks or any(len(block) != RESPONSE_SIZE for block in blocks):
            raise LocalProtocolError("an answer is one or more blocks of 258 octets", where="link")
        self.advance(now_s)
        self._blocks = list(blocks)
        self._index = 0

    def _send_block(self) -> None:
        block = self._blocks[self._index]
        self._send_frame(wrap_response(block, self._profile.addressing, address=self._profile.address))

    def _delivered(self) -> None:
        self._events.append(AnswerDelivered(self._blocks[0][0], len(self._blocks), self._now))

    def _abandoned(self, reason: FailureReason) -> None:
        self._events.append(AnswerAbandoned(reason, self._blocks[0][0], self._index, self._now))
        self._blocks = []
