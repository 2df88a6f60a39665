"""The text format: 2,400 characters of header, then lines of mass memory (section 10.2).

The header is the digits of the meter's answers at other places, so it is one table of (characters, answer,
octets); reading gives back blocks of 256 octets, which then go the way of any reading. Blank characters mean
"not read": the octets are zero and the answer is absent if all of it is blank.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from protocols.public_format.errors import FileRefused

LINE = 300
HEADER_LINES = 8
HEADER = LINE * HEADER_LINES
NEWLINE = "\r\n"
# What an editor puts before the first character.
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
BLOCK = 256
INTERVALS_PER_LINE = 24
CHANNELS = 3
WORDS_PER_LINE = INTERVALS_PER_LINE * CHANNELS
# 0-based place of a memory line's first count, and characters of each.
CELLS_FROM, CELL = 12, 4
# What follows line 999 is unknown (section 13, gap 9): such a memory is refused, not guessed.
MAX_LINES = 999
# Four digits a count.
MAX_COUNT = 9999
_TENS = np.array([1000, 100, 10, 1])
PREVIOUS, CURRENT = "SALV", "CONT"


@dataclass(frozen=True)
class _Place:
    """Octets `first`..`last` of an answer as digits from character `char` on, all 1-based."""

    char: int
    answer: str
    first: int
    last: int

    @property
    def width(self) -> int:
        return 2 * (self.last - self.first + 1)


# Answers by a name that covers the codes which share a place.
PARAMETERS, REGISTERS_NOW, REGISTERS_RESET, FAILURES, CHANGES = "parameters", "23", "24", "25", "28"

_PLACES = (
    _Place(1, PARAMETERS, 2, 5),
    _Place(15, PARAMETERS, 6, 150),
    _Place(305, FAILURES, 54, 245),  # the newest 16 of the 20 records
    _Place(689, REGISTERS_NOW, 6, 227),
    _Place(1133, REGISTERS_RESET, 6, 227),
    _Place(1907, CHANGES, 6, 165),
    _Place(2227, PARAMETERS, 213, 213),
    _Place(2229, PARAMETERS, 159, 162),
    _Place(2237, PARAMETERS, 157, 157),
    _Place(2239, PARAMETERS, 164, 195),
    _Place(2303, PARAMETERS, 151, 151),
    _Place(2305, PARAMETERS, 153, 154),
    _Place(2309, PARAMETERS, 196, 199),
    _Place(2317, PARAMETERS, 204, 206),
    _Place(2323, PARAMETERS, 210, 212),
    _Place(2329, PARAMETERS, 214, 237),
)
_CODES = {REGISTERS_NOW: 0x23, REGISTERS_RESET: 0x24, FAILURES: 0x25, CHANGES: 0x28}
INSTALLATION_CODE = 14
"""Characters of the installation code."""
_INSTALLATION_CODE = slice(2377, 2377 + INSTALLATION_CODE)
_USER_OUTPUT = 2376
_READER_RECORD = slice(1576, 1906)
_DIGITS = frozenset(string.hexdigits + " ")
# o75-77 and o78-80 of the parameters.
_ANNOUNCED = {CURRENT: slice(74, 77), PREVIOUS: slice(77, 80)}

# Characters that no source describes; written blank.
UNDESCRIBED = ((2392, 2400),)

# Labels of the reader's record, their first character and the width of the value after them.
RECORD_FIELDS = {
    "DATA": (1577, 8),
    "HORA": (1589, 6),
    "INTE": (1599, 2),
    "FERN": (1605, 90),
    "CONS": (1699, 36),
    "PSAZ": (1739, 40),
    "PDIA": (1783, 48),
    "ERRO": (1835, 12),
    "ALER": (1851, 12),
    "INIC": (1867, 0),
    "NIMP": (1871, 6),
    "DIGI": (1881, 18),
    "ATPR": (1903, 0),
    "DTPR": (1903, 0),
}
# These labels are themselves blank when nothing was commanded.
_OPTIONAL_LABELS = frozenset({"INIC", "ATPR", "DTPR"})


@dataclass(frozen=True)
class ReaderRecord:
    """What the reader commanded in this visit: label to value; an absent label commanded nothing."""

    values: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for label, value in self.values.items():
            if label not in RECORD_FIELDS or len(value) > RECORD_FIELDS[label][1]:
                raise FileRefused(f"{label!r} with {value!r} does not fit", where="reader's record")

    def render(self) -> str:
        """The 330 characters."""
        out = [" "] * (_READER_RECORD.stop - _READER_RECORD.start)
        for label, (char, width) in RECORD_FIELDS.items():
            if label in _OPTIONAL_LABELS and label not in self.values:
                continue
            start = char - 1 - _READER_RECORD.start
            out[start : start + 4 + width] = label + self.values.get(label, "").ljust(width)
        return "".join(out)


@dataclass(frozen=True)
class TextFile:
    """A whole file.

    Attributes:
        reader_serial: six digits.
        blocks: answers of 256 octets by name: "parameters", "23", "24", "25", "28"; absent = not read.
        record: what the reader commanded.
        installation_code: fourteen characters, blank = none.
        user_output: one digit, blank = not known.
        previous_words, current_words: memory of the last closed and of the running period, channel by
            channel, oldest interval first.
    """

    reader_serial: str
    blocks: dict[str, bytes]
    record: ReaderRecord = field(default_factory=ReaderRecord)
    installation_code: str = ""
    user_output: str = " "
    previous_words: tuple[int, ...] = ()
    current_words: tuple[int, ...] = ()


def write_text(file: TextFile) -> bytes:
    """The file's octets.

    Raises:
        FileRefused: a block of the wrong size, a count of more than four digits, a memory beyond 999 lines.
    """
    out = [" "] * HEADER
    out[8:14] = file.reader_serial.rjust(6, "0")
    for place in _PLACES:
        block = file.blocks.get(place.answer)
        if block is None:
            continue
        if len(block) != BLOCK:
            raise FileRefused(f"{len(block)} octets, a block has {BLOCK}", where=f"answer {place.answer}")
        digits = block[place.first - 1 : place.last].hex().upper()
        out[place.char - 1 : place.char - 1 + place.width] = digits
    out[_READER_RECORD] = file.record.render()
    out[_USER_OUTPUT] = file.user_output
    out[_INSTALLATION_CODE] = file.installation_code.ljust(INSTALLATION_CODE)[:INSTALLATION_CODE]
    header = "".join(out)
    lines = [header[place : place + LINE] for place in range(0, HEADER, LINE)]
    lines += _memory_lines(PREVIOUS, file.previous_words)
    lines += _memory_lines(CURRENT, file.current_words)
    return "".join(line + NEWLINE for line in lines).encode("ascii")


def _memory_lines(label: str, words: Sequence[int]) -> list[str]:
    count = -(-len(words) // WORDS_PER_LINE)
    if count > MAX_LINES:
        raise FileRefused(
            f"{count} lines of memory: what follows line {MAX_LINES} is not known",
            where=label,
            remedy="export a shorter period, or use FK7",
        )
    counts = np.asarray(words, dtype=np.int64)
    if counts.size and not 0 <= int(counts.min()) <= int(counts.max()) <= MAX_COUNT:
        raise FileRefused(f"a count outside 0..{MAX_COUNT}", where=label)
    digits = (counts[:, None] // _TENS % 10 + ord("0")).astype(np.uint8).tobytes().decode("ascii")
    cells = WORDS_PER_LINE * len(_TENS)
    return [
        (f"{label}{number + 1:03d}" + " " * 5 + digits[number * cells : (number + 1) * cells]).ljust(LINE)
        for number in range(count)
    ]


def read_text(octets: bytes) -> TextFile:
    """Read a file.

    Raises:
        FileRefused: naming line and character of the first thing that is not of this format.
    """
    try:
        lines = octets.decode("ascii").split(NEWLINE)
    except UnicodeDecodeError as error:
        raise FileRefused(f"octet {error.start} is not ASCII", where="text file") from error
    if lines and not lines[-1]:
        lines.pop()
    if len(lines) < HEADER_LINES:
        raise FileRefused(
            f"{len(lines)} lines, the header alone has {HEADER_LINES}",
            where="text file",
            remedy="the copy is cut off, or the file is of another format",
        )
    for number, line in enumerate(lines, start=1):
        if len(line) != LINE:
            raise FileRefused(f"{len(line)} characters instead of {LINE}", where=f"line {number}")
    header = "".join(lines[:HEADER_LINES])
    memory = {PREVIOUS: _Memory(), CURRENT: _Memory()}
    for number, line in enumerate(lines[HEADER_LINES:], start=HEADER_LINES + 1):
        label = line[:4]
        if label not in memory:
            raise FileRefused(f"label {label!r} instead of SALV or CONT", where=f"line {number}")
        memory[label].add(line, number)
    file = TextFile(
        reader_serial=header[8:14],
        blocks=_blocks(header),
        record=_record(header),
        installation_code=header[_INSTALLATION_CODE].rstrip(),
        user_output=header[_USER_OUTPUT],
        previous_words=tuple(memory[PREVIOUS].words),
        current_words=tuple(memory[CURRENT].words),
    )
    _check_counts(file)
    return file


class _Memory:
    """Lines of one period, in order."""

    def __init__(self) -> None:
        self.words: list[int] = []
        self._lines = 0
        self._is_closed = False

    def add(self, line: str, number: int) -> None:
        self._lines += 1
        if line[4:7] != f"{self._lines:03d}":
            raise FileRefused(
                f"memory line {line[4:7]!r} instead of {self._lines:03d}", where=f"line {number}"
            )
        counts = counts_of(line)
        if isinstance(counts, int):
            cell = line[counts : counts + CELL]
            raise FileRefused(f"{cell!r} is not a count", where=f"line {number}, character {counts + 1}")
        if self._is_closed:
            raise FileRefused("memory goes on after its last word", where=f"line {number}")
        self._is_closed = len(counts) < WORDS_PER_LINE
        self.words += counts


def counts_of(line: str) -> tuple[int, ...] | int:
    """The counts of a memory line up to its blank cells, or the place (0-based) of the first wrong one."""
    cells = line[CELLS_FROM:].rstrip(" ")
    if (not cells or cells.isdecimal()) and len(cells) % CELL == 0:
        return tuple(int(cells[place : place + CELL]) for place in range(0, len(cells), CELL))
    places = range(CELLS_FROM, len(line), CELL)
    return next(place for place in places if not line[place : place + CELL].isdecimal())


def _blocks(header: str) -> dict[str, bytes]:
    found: dict[str, bytearray] = {}
    serial = _octets(header[:8], 1)
    for place in _PLACES:
        digits = header[place.char - 1 : place.char - 1 + place.width]
        if not digits.strip():
            continue
        content = _octets(digits, place.char)
        block = found.setdefault(place.answer, bytearray(BLOCK))
        block[place.first - 1 : place.last] = content
    if PARAMETERS not in found:
        raise FileRefused("the header holds no parameters", where="text file")
    for name, block in found.items():
        # Which of 20, 21, 22 and 51 was asked is not in the file; 21 has no side of its own.
        block[0] = _CODES.get(name, 0x21)
        block[1:5] = serial
    return {name: bytes(block) for name, block in found.items()}


def _octets(digits: str, char: int) -> bytes:
    """Two digits an octet, blanks as zeros. `bytes.fromhex` alone would pass over line ends and tabs."""
    if not _DIGITS.issuperset(digits):
        raise FileRefused(f"{digits!r} are not digits", where=f"header character {char}")
    return bytes.fromhex(digits.replace(" ", "0"))


def _record(header: str) -> ReaderRecord:
    values = {}
    for label, (char, width) in RECORD_FIELDS.items():
        if header[char - 1 : char + 3] != label:
            continue
        value = header[char + 3 : char + 3 + width].rstrip()
        if value or label in _OPTIONAL_LABELS:
            values[label] = value
    return ReaderRecord(values)


def has_place(answer: str, first: int, last: int) -> bool:
    """Whether octets `first`..`last` of an answer (1-based) stand in the header."""
    return any(p.answer == answer and p.first <= first and last <= p.last for p in _PLACES)


def announced_words(file: TextFile, label: str) -> int | None:
    """Words of memory that the header announces for SALV or CONT; None where it says nothing readable."""
    octets = file.blocks[PARAMETERS][_ANNOUNCED[label]]
    return int(octets.hex()) if octets.hex().isdecimal() else None


def _check_counts(file: TextFile) -> None:
    for name, words in ((PREVIOUS, file.previous_words), (CURRENT, file.current_words)):
        announced = announced_words(file, name)
        if words and announced is not None and announced != len(words):
            raise FileRefused(
                f"{len(words)} words of memory, the header announces {announced}",
                where=name,
                remedy="the copy is cut off or was edited",
            )
