"""File names that carry meter and moment: `NNNNN$XX.YYY`, `&` for the text format (section 10.1, 10.2).

XXYYY are the last five base-20 digits (A = 0 ... T = 19) of seconds that count a month as 31 days. The top
digit is dropped, so a name fits about ten moments a year; the file's own time decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from protocols.public_format.errors import FileRefused

_DIGITS = "ABCDEFGHIJKLMNOPQRST"
_BASE = len(_DIGITS)
_PLACES = 5
_DAY_S = 86_400
_MONTH_S = 31 * _DAY_S


class FileKind(StrEnum):
    """The sign between serial and date."""

    FK7 = "$"
    TEXT = "&"


@dataclass(frozen=True)
class ParsedName:
    """Last five digits of the serial, and the date's value modulo 20^5."""

    kind: FileKind
    serial_end: str
    value: int

    def fits(self, at: datetime) -> bool:
        """Whether this could be the name of a file of that moment."""
        modulus: int = _BASE**_PLACES
        return _seconds(at) % modulus == self.value


def _seconds(at: datetime) -> int:
    return at.second + 60 * at.minute + 3600 * at.hour + _DAY_S * at.day + _MONTH_S * at.month


def file_name(kind: FileKind, meter_serial: str, at: datetime) -> str:
    """Name of a file; `at` is the meter's time in it.

    >>> file_name(FileKind.TEXT, "00088518", datetime(2017, 1, 9, 7, 58, 25))
    '88518&BP.LPF'
    """
    value, letters = _seconds(at), ""
    for _ in range(_PLACES):
        value, digit = divmod(value, _BASE)
        letters = _DIGITS[digit] + letters
    return f"{meter_serial[-5:]}{kind.value}{letters[:2]}.{letters[2:]}"


def parse_name(name: str) -> ParsedName:
    """Read a name, in either case of letters."""
    stem = name.upper()
    letters = stem[6:8] + stem[9:12]
    if len(stem) != 12 or stem[8] != "." or stem[5] not in "$&" or set(letters) - set(_DIGITS):
        raise FileRefused(
            f"{name!r} is not a name of the public formats",
            remedy="a name is five digits, $ (FK7) or & (text), and letters A to T as in 88518&BP.LPF",
        )
    value = 0
    for letter in letters:
        value = value * _BASE + _DIGITS.index(letter)
    return ParsedName(FileKind(stem[5]), stem[:5], value)
