"""Which octets of which frame of NBR 14522 carry one count of a mass memory.

What belongs here: the place of one interval's word in the evidence of a session. `collector.decode` tells
which blocks became readings; the count in their octets and the value that was stored must agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from audit.evidence import Locator
from collector.decoded import Frame, MeterContext
from collector.nbr14522.decode import memories_taken
from protocols.nbr14522.frames import unwrap_response
from protocols.nbr14522.memory import CHANNELS_PER_GROUP, WORDS_PER_BLOCK, split_channels, unpack_words
from protocols.nbr14522.messages import block_mark
from protocols.nbr14522.profile import MeterProfile
from protocols.nbr14522.profiles import profile_named

_FIRST_DATA_OCTET = 8  # 1-based, after code, serial and block number
_OCTETS_OF_A_PAIR = 3


@dataclass(frozen=True)
class Word:
    """The place of one 12-bit count in a stored frame.

    Attributes:
        command: code of the memory command, two hexadecimal digits.
        block: number that the block carries.
        word: 1-based in the block.
        first_octet: 1-based in the frame as it travelled; the count shares three octets with a neighbour.
        octets: those three.
        payload: the whole frame, CRC included.
        pulses: the count that the three octets hold, with the sign that the profile gives it.
    """

    frame_seq: int
    frame_at: datetime
    command: str
    block: int
    word: int
    first_octet: int
    octets: bytes
    payload: bytes
    pulses: int


def locate_word(
    frames: Sequence[Frame],
    profile: MeterProfile,
    interval_end: datetime,
    channel: int,
    *,
    has_times: bool = True,
) -> Word | None:
    """Find the count of one interval; None where the session's frames do not hold it.

    Args:
        frames: of one session, in order.
        interval_end: naive, as the meter's clock has it.
        channel: 1-based.
        has_times: see `collector.decode.decode_session`.
    """
    group, column = divmod(channel - 1, CHANNELS_PER_GROUP)
    for memory in memories_taken(frames, profile, has_times=has_times):
        interval, rest = divmod(interval_end - memory.first_end, timedelta(seconds=memory.interval_s))
        if memory.group != group or rest or not 0 <= interval < memory.intervals:
            continue
        block, place = divmod(interval * CHANNELS_PER_GROUP + column, WORDS_PER_BLOCK)
        if block < len(memory.seqs):
            frame = next(one for one in frames if one.seq == memory.seqs[block])
            return _word(frame, profile, place)
    return None


def _word(frame: Frame, profile: MeterProfile, place: int) -> Word:
    """The word at a place, from 0, of a memory block's frame."""
    content = unwrap_response(frame.payload, profile.addressing)
    mark = block_mark(content)
    assert mark is not None  # The decoder takes no block without one.
    offset = _FIRST_DATA_OCTET - 1 + place // 2 * _OCTETS_OF_A_PAIR
    octets = content[offset : offset + _OCTETS_OF_A_PAIR]
    words = unpack_words(octets, profile.packing)
    return Word(
        frame_seq=frame.seq,
        frame_at=frame.at,
        command=f"{content[0]:02X}",
        block=mark[0],
        word=place + 1,
        first_octet=frame.payload.index(content) + offset + 1,
        octets=octets,
        payload=frame.payload,
        pulses=int(split_channels(words, 1, sign_bit=profile.sign_bit)[place % 2, 0]),
    )


class WordLocator:
    """See `audit.evidence.Locator`."""

    key, holder, whole = "word", "frame", "session's frames"

    def locate(
        self,
        session: Mapping[str, Any],
        frames: Sequence[Frame],
        profile: str,
        context: MeterContext,
        interval_end: datetime,
    ) -> Word | None:
        return locate_word(frames, profile_named(profile), interval_end, context.active_channel)


LOCATOR: Locator = WordLocator()
