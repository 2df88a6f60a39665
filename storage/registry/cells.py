"""Cells: what stands in one, and its canonical text by the kind of its column.

Charter of numbers: what can be read in two ways is refused, never guessed. `1.500` is fifteen hundred to one
reader and one and a half to another; a file's own sign of its decimal mark decides, and is named.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import Enum, auto
from fractions import Fraction
from typing import NamedTuple

# Years a registry can mean. A date beyond them is not one of a meter: as an end it stands for "never".
FIRST_YEAR, END_YEAR = 1900, 2200

# Fewer digits than this and one mark: fifteen hundred, or one and a half.
_AMBIGUOUS = re.compile(r"[+-]?[1-9]\d{0,2}([.,])\d{3}")
_PLAIN = re.compile(r"[+-]?\d+")
_DECIMAL = re.compile(r"[+-]?(\d*[.,]\d+|\d+[.,])")
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:(?:\.\d{3})+,\d*|(?:,\d{3})+\.\d*|(?:\.\d{3}){2,}|(?:,\d{3}){2,})")
# What spreadsheets show in place of a value, in English and Portuguese.
_ERROR = re.compile(
    r"#(N/?[AD]|REF!|VALUE!|VALOR!|DIV/0!|NAME\?|NOME\?|NUM!|NÚM!|NULL!|NULO!|SPILL!|CALC!|#+)"
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f]")


class Form(Enum):
    """What a cell is in its file; a CSV file has text only.

    PERCENT: its number is a hundredth of what is shown. SCALED: shown in thousands or millions.
    """

    TEXT = auto()
    NUMBER = auto()
    PERCENT = auto()
    SCALED = auto()
    DATE = auto()
    BOOLEAN = auto()
    ERROR = auto()


class Cell(NamedTuple):
    """A filled cell. `text` of a number has a decimal point, of a date is ISO 8601."""

    text: str
    form: Form = Form.TEXT


@dataclass(frozen=True)
class Column:
    """A column: how its text is read.

    Attributes:
        help_line: for the remedy of an error; `registry.explained` says it in Portuguese, for the template.
        kind: text, integer, interval, decimal, share, boolean, date, time, choice or codes.
        required: an empty cell is an error.
        default: of an empty or left-out cell.
        choices: of kind choice.
        minimum, above, below: bounds of numbers (at least, more than, less than).
        refers: (sheet, column) whose codes it must be one of.
        pattern: of a text.
        is_percent: a number in percent.
        is_end: a date that ends a period; one that is out of reach means never.
        digits: of a code that is digits: a number with fewer may have lost zeros at its front.
    """

    name: str
    help_line: str
    kind: str = "text"
    required: bool = False
    default: str | None = None
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    above: int | None = None
    below: int | None = None
    refers: tuple[str, str] | None = None
    pattern: str = ""
    is_percent: bool = False
    is_end: bool = False
    digits: int = 0


@dataclass(frozen=True)
class DecimalMark:
    """The decimal mark of a file, and what shows it; `mark` is None where nothing does, or signs differ."""

    mark: str | None
    sign: str


@dataclass(frozen=True)
class Reading:
    """How the cells of a file are read."""

    zone: dt.tzinfo
    decimal_mark: DecimalMark


class Doubt(NamedTuple):
    """Canonical text of a cell, with what a person should know about how it was read."""

    value: str | None
    warning: str


def decimal_mark(texts: Iterable[str], separator: str = "") -> DecimalMark:
    """The sign of the decimal mark: decimals that can be read in one way only, else the separator of a CSV.

    Args:
        texts: cells of all decimal columns.
        separator: of a CSV file: a comma leaves the point for decimals, and spreadsheets separate with a
            semicolon where the comma is the decimal mark.
    """
    seen: dict[str, str] = {}
    for text in texts:
        mark = _mark_of(text.removesuffix("%").strip())
        if mark is not None:
            seen.setdefault(mark, text)
    if len(seen) == 1:
        ((mark, text),) = seen.items()
        return DecimalMark(mark, f"{text!r} elsewhere in the file")
    if seen:
        return DecimalMark(None, f"the file has both {' and '.join(repr(text) for text in seen.values())}")
    if separator in (",", ";"):
        return DecimalMark("." if separator == "," else ",", f"columns separated by {separator!r}")
    return DecimalMark(None, "the file shows its decimal mark nowhere else")


def _mark_of(text: str) -> str | None:
    """The decimal mark of a number that can be read in one way only."""
    if _AMBIGUOUS.fullmatch(text):
        return None
    if _DECIMAL.fullmatch(text):
        return "," if "," in text else "."
    if _GROUPED.fullmatch(text):
        first = "." if "." in text and ("," not in text or text.index(".") < text.index(",")) else ","
        return "," if first == "." else "."
    return None


def parse(column: Column, cell: Cell, reading: Reading) -> str | Doubt | None:
    """Canonical text of a cell; with a warning where its form had to be interpreted.

    Dates are 2026-11-20 or 20/11/2026 (day first); times are a date, with hours or not, in market time unless
    they name an offset.

    Returns: None: the cell means the same as an empty one (an end that never comes).
    Raises:
        ValueError: what is wrong, in words.
    """
    if cell.form is Form.ERROR or _ERROR.fullmatch(cell.text):
        raise ValueError(f"the cell holds an error of the spreadsheet ({cell.text}), not a value")
    if found := _CONTROL.search(cell.text):
        raise ValueError(f"the cell holds the control character U+{ord(found[0]):04X}")
    value = _READERS[column.kind](cell, column, reading)
    text = value.value if isinstance(value, Doubt) else value
    if text is not None and column.pattern and not re.fullmatch(column.pattern, text):
        raise ValueError(f"{cell.text!r} does not have the form needed")
    return value


def _bounded(number: Decimal | Fraction, column: Column) -> None:
    if column.minimum is not None and number < column.minimum:
        raise ValueError(f"{number} is less than {column.minimum}")
    if column.above is not None and number <= column.above:
        raise ValueError(f"{number} must be more than {column.above}")
    if column.below is not None and number >= column.below:
        raise ValueError(f"{number} must be less than {column.below}")


def _as_number(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a number") from None
    if not number.is_finite():
        raise ValueError(f"{text!r} is not a number")
    if number and not -40 < number.adjusted() < 40:
        raise ValueError(f"{text!r} is out of all measure")
    return number


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}" if number else "0"


def _typed_number(cell: Cell, column: Column) -> Decimal | None:
    """The number of a cell that is one in its file; None of a text."""
    if cell.form is Form.TEXT:
        return None
    if cell.form is Form.SCALED:
        raise ValueError(
            f"the cell holds {cell.text} and shows thousands as units: format it as a plain number"
        )
    if cell.form is Form.PERCENT:
        if not column.is_percent:
            raise ValueError(
                f"the cell is a percentage ({_plain(Decimal(cell.text) * 100)}%), the column not"
            )
        return Decimal(cell.text) * 100
    if cell.form is not Form.NUMBER:
        raise ValueError(f"the cell is a {cell.form.name.lower()} ({cell.text}), not a number")
    return _as_number(cell.text)


def _decimal(cell: Cell, column: Column, reading: Reading) -> str | Doubt:
    number, warning = _typed_number(cell, column), ""
    if number is None:
        text = cell.text.strip()
        if text.endswith("%"):
            if not column.is_percent:
                raise ValueError(f"{text!r} is a percentage, the column not")
            text = text[:-1].strip()
        number, warning = _written_number(text, reading.decimal_mark)
    _bounded(number, column)
    return Doubt(_plain(number), warning) if warning else _plain(number)


def _written_number(text: str, decimal_mark: DecimalMark) -> tuple[Decimal, str]:
    """The number that a text means, and how it was decided where there are two readings."""
    found = _AMBIGUOUS.fullmatch(text)
    if found is not None:
        mark = found[1]
        readings = {mark: _as_number(text.replace(",", "."))}
        other = "," if mark == "." else "."
        readings[other] = _as_number(text.replace(mark, ""))
        if decimal_mark.mark is None:
            raise ValueError(
                f"{text!r} is {_plain(readings['.'])} with a decimal point and {_plain(readings[','])} with "
                f"a decimal comma: {decimal_mark.sign}; write it without the mark, or with other decimals"
            )
        number = readings[decimal_mark.mark]
        name = "comma" if decimal_mark.mark == "," else "point"
        return number, f"{text!r} is read as {_plain(number)}: a decimal {name} by {decimal_mark.sign}"
    if _GROUPED.fullmatch(text):
        mark = _mark_of(text)
        text = text.replace("." if mark == "," else ",", "")
    return _as_number(text.replace(",", ".")), ""


def _integer(cell: Cell, column: Column, _: Reading) -> str:
    number = _typed_number(cell, column)
    if number is None:
        text = cell.text.strip()
        if _AMBIGUOUS.fullmatch(text):
            readings = re.sub(r"[.,]", "", text), _plain(_as_number(text.replace(",", ".")))
            raise ValueError(f"{text!r} is {' or '.join(readings)}: write a whole number without marks")
        if _GROUPED.fullmatch(text):
            raise ValueError(f"{text!r} has marks in it: write a whole number without them")
        # A table of numbers with a hole writes its whole numbers as 5.0.
        number = _as_number(text if _PLAIN.fullmatch(text) else text.replace(",", "."))
    if number != number.to_integral_value():
        raise ValueError(f"{cell.text!r} is not a whole number")
    if number.copy_abs() >= 2**63:
        raise ValueError(f"{cell.text!r} is too large")
    _bounded(number, column)
    return str(int(number))


def _interval(cell: Cell, column: Column, reading: Reading) -> str:
    seconds = _integer(cell, column, reading)
    if 86_400 % int(seconds):
        raise ValueError(f"{seconds} s do not divide a day")
    return seconds


def _share(cell: Cell, column: Column, reading: Reading) -> str | Doubt:
    """An exact fraction: 1/3, 0.25, or 25%."""
    warning = ""
    if found := re.fullmatch(r"(\d{1,18})\s*/\s*(\d{1,18})", cell.text.strip()):
        if int(found[2]) == 0:
            raise ValueError(f"{cell.text!r} divides by zero")
        share = Fraction(int(found[1]), int(found[2]))
    else:
        of_hundred = cell.form is Form.PERCENT or cell.text.strip().endswith("%")
        percent = Column(column.name, column.help_line, is_percent=of_hundred)
        read = _decimal(cell, percent, reading)
        text, warning = read if isinstance(read, Doubt) else (read, "")
        share = Fraction(text or "0") / (100 if of_hundred else 1)
    _bounded(share, column)
    if share.numerator >= 2**31 or share.denominator >= 2**31:
        raise ValueError(f"{cell.text!r} has more digits than can be kept exactly")
    return Doubt(str(share), warning) if warning else str(share)


def _boolean(cell: Cell, _: Column, __: Reading) -> str:
    known = {"true": "true", "1": "true", "yes": "true", "sim": "true", "verdadeiro": "true"}
    known |= {"false": "false", "0": "false", "no": "false", "não": "false", "nao": "false", "falso": "false"}
    if cell.text.lower() not in known:
        raise ValueError(f"{cell.text!r} is not true or false")
    return known[cell.text.lower()]


def _choice(cell: Cell, column: Column, _: Reading) -> str:
    if cell.text not in column.choices:
        raise ValueError(f"{cell.text!r} is not one of {', '.join(column.choices)}")
    return cell.text


def _text(cell: Cell, _: Column, __: Reading) -> str:
    if cell.form in (Form.PERCENT, Form.SCALED):
        raise ValueError("the cell is a number shown in another form: format it as text")
    return cell.text


def _codes(cell: Cell, _: Column, __: Reading) -> str:
    return " ".join(re.split(r"[\s;,]+", cell.text.strip()))


def _moment(text: str) -> dt.datetime:
    if found := re.fullmatch(r"(\d{1,2})/(\d{1,2})/(\d{4})(.*)", text):
        text = f"{found[3]}-{found[2]:0>2}-{found[1]:0>2}{found[4]}"
    return dt.datetime.fromisoformat(text)


def _dated(cell: Cell, column: Column, what: str) -> dt.datetime | None:
    if cell.form not in (Form.TEXT, Form.DATE):
        raise ValueError(f"the cell is a number ({cell.text}), not a date: format it as a date")
    try:
        moment = _moment(cell.text)
    except ValueError:
        raise ValueError(f"{cell.text!r} is not a {what}") from None
    if moment.year >= END_YEAR and column.is_end:
        return None
    if not FIRST_YEAR <= moment.year < END_YEAR:
        raise ValueError(f"{cell.text!r} is out of reach: years are {FIRST_YEAR} to {END_YEAR - 1}")
    return moment


def _never(cell: Cell) -> Doubt:
    return Doubt(None, f"{cell.text!r} is read as open: it never ends")


def _date(cell: Cell, column: Column, _: Reading) -> str | Doubt:
    moment = _dated(cell, column, "date (2026-11-20 or 20/11/2026)")
    if moment is None:
        return _never(cell)
    # A workbook's dates come with hours.
    if moment.time() != dt.time():
        raise ValueError(f"{cell.text!r} is a time, not a date")
    return moment.date().isoformat()


def _time(cell: Cell, column: Column, reading: Reading) -> str | Doubt:
    moment = _dated(cell, column, "time (2026-11-20 or 2026-11-20 14:35)")
    if moment is None:
        return _never(cell)
    if moment.microsecond:
        raise ValueError(f"{cell.text!r} has a fraction of a second")
    known = moment if moment.tzinfo else moment.replace(tzinfo=reading.zone)
    return known.astimezone(dt.UTC).isoformat(timespec="seconds")


_READERS: dict[str, Callable[[Cell, Column, Reading], str | Doubt | None]] = {
    "text": _text,
    "integer": _integer,
    "decimal": _decimal,
    "interval": _interval,
    "share": _share,
    "boolean": _boolean,
    "choice": _choice,
    "codes": _codes,
    "date": _date,
    "time": _time,
}


def written_decimals(columns: Iterable[tuple[Column, Iterable[Cell | None]]]) -> Iterator[str]:
    """Texts of all cells that show how a file writes decimals."""
    for column, cells in columns:
        if column.kind in ("decimal", "share"):
            yield from (cell.text.strip() for cell in cells if cell is not None and cell.form is Form.TEXT)
