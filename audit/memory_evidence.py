"""Which octets of which frame, or of which imported file, carry one count of a mass memory.

What belongs here: the place of one interval's word in the evidence of a session. `collector.decode` tells
which blocks became readings; the count in their octets and the value that was stored must agree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import psycopg

from collector.decoded import Decoded, Frame, MeterContext
from collector.files.decode import TEXT, lay_out
from collector.files.importing import file_name_of
from collector.nbr14522.decode import memories_taken
from collector.store import decoder_of
from protocols.nbr14522.frames import RESPONSE_CONTENT_SIZE, Addressing, unwrap_response
from protocols.nbr14522.memory import CHANNELS_PER_GROUP, WORDS_PER_BLOCK, split_channels, unpack_words
from protocols.nbr14522.messages import block_mark
from protocols.nbr14522.profile import MeterProfile
from protocols.public_format.scan import scan_text
from protocols.public_format.text import CELL, CELLS_FROM, CURRENT, LINE, PREVIOUS, WORDS_PER_LINE

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


@dataclass(frozen=True)
class FilePlace:
    """The place of one count in an imported file.

    Attributes:
        where: in words of the format: a block and its word, or a line and its characters.
        first_octet: 1-based in the file.
        octets: those that hold the count (in FK7 with a neighbour's).
        around: the block or line that they are part of.
        around_first_octet: of `around`, 1-based in the file.
    """

    name: str
    sha256: str
    size: int
    where: str
    first_octet: int
    octets: bytes
    around: bytes
    around_first_octet: int
    pulses: int


def locate_in_file(
    format_name: str, url: str, octets: bytes, profile: MeterProfile, interval_end: datetime, channel: int
) -> FilePlace | None:
    """Find the count of one interval in an imported file; None where the file does not hold it.

    Args:
        format_name, url: protocol and URL of the session that the import is.
        interval_end: naive, as the meter's clock has it.
        channel: 1-based.
    """
    plain = replace(profile, addressing=Addressing.P0)
    layout = lay_out(format_name, octets, plain)
    word = locate_word(layout.frames, plain, interval_end, channel, has_times=False)
    if word is None:
        return None
    if format_name == TEXT:
        found = _in_text(octets, word)
    else:
        found = _in_fk7(octets, word, layout.sources.get(word.frame_seq))
    if found is None:
        return None
    where, first_octet, count, around_first_octet, around_count = found
    start = around_first_octet - 1
    return FilePlace(
        name=file_name_of(url),
        sha256=hashlib.sha256(octets).hexdigest(),
        size=len(octets),
        where=where,
        first_octet=first_octet,
        octets=octets[first_octet - 1 : first_octet - 1 + count],
        around=octets[start : start + around_count],
        around_first_octet=around_first_octet,
        pulses=word.pulses,
    )


_Place = tuple[str, int, int, int, int]
"""Words, first octet and count of the count; first octet and count of what is around. From 1."""


def _in_fk7(octets: bytes, word: Word, offset: int | None) -> _Place | None:
    if offset is None:
        return None
    where = f"command {word.command}, block {word.block}, word {word.word}"
    return where, offset + word.first_octet, len(word.octets), offset + 1, RESPONSE_CONTENT_SIZE


def _in_text(octets: bytes, word: Word) -> _Place | None:
    label = PREVIOUS if word.command == "27" else CURRENT
    number, place = divmod((word.block - 1) * WORDS_PER_BLOCK + word.word - 1, WORDS_PER_LINE)
    line = next(
        (one for one in scan_text(octets).lines if (one.label, one.number) == (label, number + 1)), None
    )
    if line is None:
        return None
    character = CELLS_FROM + place * CELL
    where = f"line {label}{line.number:03d}, characters {character + 1} to {character + CELL}"
    return where, line.offset + character + 1, CELL, line.offset + 1, LINE


class Evidence:
    """The frames of sessions, and what they decode to; each session is read and decoded once."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        """`conn` gives rows as dictionaries."""
        self._conn = conn
        self._frames: dict[int, list[Frame]] = {}
        self._decoded: dict[int, Decoded] = {}

    def frames(self, session_id: int) -> list[Frame]:
        """The evidence of one session, in order."""
        if session_id not in self._frames:
            rows = self._conn.execute(
                "SELECT seq, at, direction, crc_ok, payload FROM frame WHERE session_id = %s ORDER BY seq",
                [session_id],
            ).fetchall()
            self._frames[session_id] = [
                Frame(
                    seq=row["seq"],
                    at=row["at"],
                    is_sent=row["direction"] in (">", b">"),
                    # None where the evidence has no CRC: a command as sent, a file.
                    crc_ok=row["crc_ok"] is not False,
                    payload=bytes(row["payload"]),
                )
                for row in rows
            ]
        return self._frames[session_id]

    def pulses(
        self, session: dict[str, Any], profile: str, context: MeterContext, day: date, index: int
    ) -> int | None:
        """The count of one slot as the collector's own decoder makes it from the frames.

        Args:
            session: its row; `profile` is the name of its meter's.
        """
        session_id = session["id"]
        if session_id not in self._decoded:
            decoder = decoder_of(session["protocol"])
            self._decoded[session_id] = decoder.decode(self.frames(session_id), profile, context)
        for vector in self._decoded[session_id].vectors:
            if (vector.channel, vector.day) == (context.active_channel, day) and vector.present[index]:
                return int(vector.pulses[index])
        return None
