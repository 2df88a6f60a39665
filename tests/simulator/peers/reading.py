"""A reader that asks a simulated meter without a line."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np

from protocols.nbr14522.memory import payloads_to_words, split_channels
from protocols.nbr14522.messages import (
    decode_request,
    decode_response,
    request_for,
)
from simulator.load.curves import Ints
from simulator.load.grid import MARKET_ZONE
from simulator.nbr14522.answers import Conversation
from simulator.nbr14522.meter import SimulatedMeter

NOW = datetime(2026, 11, 21, 0, 10, tzinfo=MARKET_ZONE)


class Reader:
    """Asks one meter and decodes, without a line between."""

    def __init__(self, meter: SimulatedMeter, now: datetime = NOW) -> None:
        self.meter, self.now, self._talk = meter, now, Conversation(meter)

    def ask(self, code: int, **values: Any) -> Any:
        return decode_response(self.blocks(code, **values)[0])

    def raw(self, frame: bytes) -> Any:
        return decode_response(self._talk.answer(decode_request(frame), self.now)[0])

    def blocks(self, code: int, **values: Any) -> list[bytes]:
        request = decode_request(request_for(code, **values).encode("000003"))
        return self._talk.answer(request, self.now)

    def words(self, code: int, count: int | None) -> Ints:
        blocks = [decode_response(block) for block in self.blocks(code)]
        assert [block.number for block in blocks] == list(range(1, len(blocks) + 1))
        assert [block.is_last for block in blocks] == [False] * (len(blocks) - 1) + [True]
        words = payloads_to_words([block.payload for block in blocks], count)
        return split_channels(words).astype(np.int64)
