"""One block of the answers to 26, 27 and 52 (section 8.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.nbr14522.bcd import encode_bcd
from protocols.nbr14522.errors import LocalProtocolError
from protocols.nbr14522.memory import MAX_BLOCK_NUMBER, OCTETS_PER_BLOCK, Packing, unpack_words
from protocols.nbr14522.messages.base import Response
from protocols.nbr14522.messages.codecs import BadField, Raw
from protocols.nbr14522.messages.layout import at


@dataclass(frozen=True, slots=True)
class BlockMark:
    """o6-7: high nibble 1 on the last block, then three decimal digits of the block's number."""

    size: int = 2

    def decode(self, octets: bytes) -> tuple[int, bool]:
        digits = octets.hex()
        if digits[0] not in "01" or not digits.isdecimal():
            raise BadField("no block number")
        return int(digits[1:]), digits[0] == "1"

    def encode(self, value: tuple[int, bool]) -> bytes:
        number, is_last = value
        if not 0 <= number <= MAX_BLOCK_NUMBER:
            raise LocalProtocolError(f"block number {number} is outside 0..999", where="memory block")
        return encode_bcd(number + 1000 * is_last, 2)


@dataclass(frozen=True, kw_only=True)
class MemoryBlock(Response):
    """166 words in 249 octets.

    Attributes:
        mark: (block number from 1 to 999, whether it is the last one).
        payload: the packed words.
    """

    mark: tuple[int, bool] | None = at(6, BlockMark())
    payload: bytes = at(8, Raw(OCTETS_PER_BLOCK))

    @property
    def number(self) -> int | None:
        return None if self.mark is None else self.mark[0]

    @property
    def is_last(self) -> bool | None:
        return None if self.mark is None else self.mark[1]

    def words(self, packing: Packing = Packing.S) -> NDArray[np.uint16]:
        """The 166 words, filler of the last block included."""
        return unpack_words(self.payload, packing)

    def to_json(self) -> dict[str, Any]:
        told = super().to_json() | {"number": self.number, "is_last": self.is_last}
        del told["mark"]
        return told


def block_mark(content: bytes) -> tuple[int, bool] | None:
    """(number, is last) of a memory block's content, or None where o6-7 are not a block number."""
    try:
        return BlockMark().decode(content[5:7])
    except BadField:
        return None


def memory_blocks(code: int, meter_serial: str, payloads: list[bytes], after_999: int = 0) -> list[bytes]:
    """The plain 258-octet frames of a composite answer, numbered from 001.

    Args:
        after_999: what follows block 999 (`MeterProfile.block_after_999`).
    """
    blocks = []
    number = 1
    for index, payload in enumerate(payloads):
        mark = (number, index == len(payloads) - 1)
        blocks.append(MemoryBlock(code=code, mark=mark, payload=payload).encode(meter_serial))
        number = number + 1 if number < MAX_BLOCK_NUMBER else after_999
    return blocks
