"""Files that are damaged in places: the good part, and each bad region with its place and reason.

`read_fk7` and `read_text` take a file or refuse it; here the parts that hold stay. Both scans run in time
linear to the file, and account for every octet: it is in a part or in a damage.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from protocols.nbr14522.frames import RESPONSE_CONTENT_SIZE
from protocols.nbr14522.memory import WORD_LIMIT
from protocols.public_format.errors import FileRefused
from protocols.public_format.fk7 import KNOWN_CODES
from protocols.public_format.text import (
    BYTE_ORDER_MARK,
    CELL,
    CURRENT,
    HEADER_LINES,
    LINE,
    MAX_LINES,
    NEWLINE,
    PREVIOUS,
    WORDS_PER_LINE,
    TextFile,
    announced_words,
    counts_of,
    read_text,
)

HEADER_OCTETS = HEADER_LINES * (LINE + len(NEWLINE))
# What ends the lines after a copy between systems, and what such copies leave at a file's end.
_NEWLINES = (NEWLINE.encode(), b"\r\r\n", b"\n", b"\r")
_FILE_ENDS = b"\r\n\x1a"
_LABELS = (PREVIOUS.encode(), CURRENT.encode())
# So many whole lines in a row without a label are not damage to labels; a header has eight, one perhaps cut.
_STRAYS_OF_A_HEADER = 3
# A file has 2,000 lines or 4,000 blocks at most: one with more damages than that is not to be trusted.
MAX_DAMAGES = 4000


@dataclass(frozen=True, slots=True)
class Damage:
    """`count` octets from `offset` (0-based) on that were left out, and why."""

    offset: int
    count: int
    reason: str


@dataclass(frozen=True, slots=True)
class Fk7Block:
    """256 octets of content at an offset of the file."""

    offset: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Fk7Scan:
    """The meter that most blocks name, its blocks in order of the file, and the rest."""

    meter_serial: str
    blocks: tuple[Fk7Block, ...]
    damages: tuple[Damage, ...]


@dataclass(frozen=True, slots=True)
class TextLine:
    """One memory line: its period (SALV or CONT), its number from 1, its words (up to 72)."""

    offset: int
    label: str
    number: int
    words: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TextScan:
    """The header as a file without memory, the good memory lines, and the rest."""

    header: TextFile
    lines: tuple[TextLine, ...]
    damages: tuple[Damage, ...]

    def words(self, label: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Words of one period, zero where a line was lost, and (first word, count) of what is lost.

        As many as the header announces and 999 lines can hold; where it announces none, as many as are there.
        """
        mine = [line for line in self.lines if line.label == label]
        held = max(((line.number - 1) * WORDS_PER_LINE + len(line.words) for line in mine), default=0)
        announced = announced_words(self.header, label) or held
        count = min(announced, MAX_LINES * WORDS_PER_LINE) if mine else 0
        words, known = [0] * count, bytearray(count)
        for line in mine:
            first = (line.number - 1) * WORDS_PER_LINE
            words[first : first + len(line.words)] = line.words
            known[first : first + len(line.words)] = b"\x01" * len(line.words)
        lost, place = [], 0
        while (place := known.find(0, place)) >= 0:
            end = known.find(1, place)
            end = count if end < 0 else end
            lost.append((place, end - place))
            place = end
        return words, lost


def scan_fk7(octets: bytes) -> Fk7Scan:
    """Blocks of one meter; anything else is damage.

    There is no CRC: a damage inside a block shows only where octets are lost or added, by the next block's
    head being elsewhere.

    Raises:
        FileRefused: not one block of 256 octets with a known code, or more than MAX_DAMAGES damages.
    """
    serial = _main_serial(octets)
    size = RESPONSE_CONTENT_SIZE
    blocks: list[Fk7Block] = []
    damages: list[Damage] = []
    place = 0
    while place < len(octets):
        if _is_head(octets, place, serial) and len(octets) - place >= size:
            end = place + size
            if end >= len(octets) or _is_head(octets, end, serial):
                blocks.append(Fk7Block(place, octets[place:end]))
                place = end
                continue
            following = _next_head(octets, place + 1, serial)
            if following < 0 or (following - place) % size == 0:
                # The rest is the end of the file, or whole blocks of something else.
                blocks.append(Fk7Block(place, octets[place:end]))
                place = end
                continue
            reason = f"octets were lost or added before the next block, {following - place} octets on"
        else:
            following = _next_head(octets, place + 1, serial)
            reason = _why_no_block(octets, place, serial)
        end = following if following >= 0 else len(octets)
        _add(damages, Damage(place, end - place, reason))
        place = end
    return Fk7Scan(serial.hex().upper(), tuple(blocks), tuple(damages))


def _add(damages: list[Damage], damage: Damage) -> None:
    if len(damages) == MAX_DAMAGES:
        raise FileRefused(
            f"more than {MAX_DAMAGES:,} damaged places",
            where=f"octet {damage.offset}",
            remedy="the file is of another format, or too damaged to trust any of it",
        )
    damages.append(damage)


def _main_serial(octets: bytes) -> bytes:
    size = RESPONSE_CONTENT_SIZE
    last = len(octets) - size
    grid = range(0, last + 1, size)
    seen = Counter(octets[place + 1 : place + 5] for place in grid if octets[place] in KNOWN_CODES)
    if not seen or 2 * max(seen.values()) <= len(grid):
        # Octets lost or added near the beginning move all the rest: two heads a block apart tell the meter.
        seen += Counter(
            octets[place + 1 : place + 5]
            for place in range(last - size + 1)
            if octets[place] in KNOWN_CODES and _is_head(octets, place + size, octets[place + 1 : place + 5])
        )
    if not seen:
        raise FileRefused(
            f"{len(octets)} octets hold no block of {size} with a known code",
            where="FK7 file",
            remedy="the file is of another format, or damaged from its first block on",
        )
    return seen.most_common(1)[0][0]


def _is_head(octets: bytes, place: int, serial: bytes) -> bool:
    return octets[place] in KNOWN_CODES and octets[place + 1 : place + 5] == serial


def _next_head(octets: bytes, start: int, serial: bytes) -> int:
    """Offset of the next block's code, or -1."""
    place = start
    while (place := octets.find(serial, place + 1)) >= 0:
        if octets[place - 1] in KNOWN_CODES:
            return place - 1
    return -1


def _why_no_block(octets: bytes, place: int, serial: bytes) -> str:
    if _is_head(octets, place, serial):
        return f"a block cut off after {len(octets) - place} of {RESPONSE_CONTENT_SIZE} octets"
    if octets[place] not in KNOWN_CODES:
        return f"no block begins with {octets[place]:02X}"
    return f"meter {octets[place + 1 : place + 5].hex()} in a file of meter {serial.hex()}"


def scan_text(octets: bytes) -> TextScan:
    """The header and the good memory lines.

    What copies between systems add or change (byte order mark, line ends, the end sign of DOS) is not damage.

    Raises:
        FileRefused: a header that cannot be read: without it the memory has neither meter nor times. Or more
            than MAX_DAMAGES damages.
    """
    begin = len(BYTE_ORDER_MARK) if octets.startswith(BYTE_ORDER_MARK) else 0
    newline = next((one for one in _NEWLINES if octets.startswith(one, begin + LINE)), _NEWLINES[0])
    place = begin + HEADER_LINES * (LINE + len(newline))
    header = read_text(octets[begin:place].replace(newline, _NEWLINES[0]))
    lines: list[TextLine] = []
    damages: list[Damage] = []
    seen: set[tuple[str, int]] = set()
    strays = 0
    last = len(octets.rstrip(_FILE_ENDS))
    while place < last:
        end = octets.find(newline, place)
        stop = len(octets) if end < 0 else end + len(newline)
        line = octets[place : last if end < 0 else end]
        strays = strays + 1 if len(line) == LINE and line[:4] not in _LABELS else 0
        if strays == _STRAYS_OF_A_HEADER:
            # Its memory would get the times of this header.
            _add(damages, Damage(place, len(octets) - place, "the header of another file; it ends this one"))
            break
        found = _memory_line(place, line)
        if isinstance(found, TextLine):
            reason = _misfit(header, found, seen)
            seen.add((found.label, found.number))
        else:
            reason = found
        if isinstance(found, TextLine) and not reason:
            lines.append(found)
        else:
            _add(damages, Damage(place, stop - place, reason))
        place = stop
    return TextScan(header, tuple(lines), tuple(damages))


def _memory_line(offset: int, octets: bytes) -> TextLine | str:
    """The line, or why it is none."""
    if len(octets) != LINE:
        return f"{len(octets)} characters instead of {LINE}"
    if not octets.isascii():
        return "not ASCII"
    text = octets.decode("ascii")
    label, digits = text[:4], text[4:7]
    if label not in (PREVIOUS, CURRENT):
        return f"label {label!r} instead of SALV or CONT"
    if not digits.isdecimal() or not 1 <= int(digits) <= MAX_LINES:
        return f"line number {digits!r}"
    counts = counts_of(text)
    if isinstance(counts, int):
        return f"{text[counts : counts + CELL]!r} at character {counts + 1} is not a count"
    if max(counts, default=0) >= WORD_LIMIT:
        return f"a count of {max(counts)} does not fit 12 bits"
    return TextLine(offset, label, int(digits), counts)


def _misfit(header: TextFile, line: TextLine, seen: set[tuple[str, int]]) -> str:
    """Why a line that is good in itself does not belong where it is, or nothing."""
    if (line.label, line.number) in seen:
        return f"line {line.label}{line.number:03d} for the second time"
    announced = announced_words(header, line.label)
    if not announced:
        return ""
    belonging = min(announced - (line.number - 1) * WORDS_PER_LINE, WORDS_PER_LINE)
    if len(line.words) > max(belonging, 0):
        return f"{len(line.words)} words where the announced {announced} leave {max(belonging, 0)}"
    return ""
