"""Which octets of an imported public file carry one count of a mass memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from audit.evidence import Locator
from audit.nbr14522_evidence import Word, locate_word
from collector.decoded import Frame, MeterContext
from collector.files.decode import FK7, TEXT, file_of, file_profile, lay_out
from collector.files.importing import file_name_of
from protocols.nbr14522.frames import RESPONSE_CONTENT_SIZE, Addressing
from protocols.nbr14522.memory import WORDS_PER_BLOCK
from protocols.nbr14522.profile import MeterProfile
from protocols.public_format.scan import scan_text
from protocols.public_format.text import CELL, CELLS_FROM, CURRENT, LINE, PREVIOUS, WORDS_PER_LINE


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


class FileLocator:
    """See `audit.evidence.Locator`."""

    key, holder, whole = "file", "file", "file"

    def __init__(self, format_name: str) -> None:
        self._format_name = format_name

    def locate(
        self,
        session: Mapping[str, Any],
        frames: Sequence[Frame],
        profile: str,
        context: MeterContext,
        interval_end: datetime,
    ) -> FilePlace | None:
        octets, how = file_of(frames), file_profile(profile)
        return locate_in_file(
            self._format_name, session["url"], octets, how, interval_end, context.active_channel
        )


FK7_LOCATOR: Locator = FileLocator(FK7)
TEXT_LOCATOR: Locator = FileLocator(TEXT)
