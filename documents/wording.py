"""How numbers, days and instants are written in Portuguese and in English."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

_MINUS = "\u2212"
# Of the decimal mark and the mark of thousands.
_BRAZILIAN = str.maketrans(",.", ".,")


class Language(StrEnum):
    """Language of a document."""

    PORTUGUESE = "pt"
    ENGLISH = "en"


def number(value: int | Decimal, language: Language, decimals: int | None = None) -> str:
    """A number with its marks.

    Args:
        decimals: digits after the mark; None: as many as the value has.

    >>> number(Decimal("-1234.5"), Language.PORTUGUESE, 3), number(1234, Language.ENGLISH)
    ('−1.234,500', '1,234')
    """
    if decimals is None:
        decimals = 0 if isinstance(value, int) else max(0, -int(value.as_tuple().exponent))
    text = f"{value:,.{decimals}f}"
    if language is Language.PORTUGUESE:
        text = text.translate(_BRAZILIAN)
    return text.replace("-", _MINUS)


def share(value: Decimal, language: Language) -> str:
    """A part of one as a percentage.

    >>> share(Decimal("0.0345"), Language.PORTUGUESE)
    '3,45 %'
    """
    return f"{number(value * 100, language, 2)} %"


def day(value: date, language: Language) -> str:
    return f"{value:%d/%m/%Y}" if language is Language.PORTUGUESE else f"{value:%Y-%m-%d}"


def instant(value: datetime, language: Language) -> str:
    """An aware instant in its own zone, which the document names once."""
    seconds = "" if not value.second and not value.microsecond else f":{value.second:02d}"
    return f"{day(value, language)} {value:%H:%M}{seconds}"


def flag(value: bool, language: Language) -> str:
    words = ("não", "sim") if language is Language.PORTUGUESE else ("no", "yes")
    return words[value]
