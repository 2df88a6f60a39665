"""Workbooks (.xlsx) as tables of typed cells.

Read here rather than by a library of frames, because a registry needs what those drop: that a cell is shown
as a percentage, that it holds an error, that a formula's result was never stored, and that a code is a number
which has lost the zeros at its front. Office Open XML, ECMA-376 part 1, section 18.
"""

from __future__ import annotations

import datetime as dt
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path, PurePosixPath
from xml.parsers import expat

from faults import OperatorFault
from storage.registry.cells import Cell, Form

# A registry of a million rows is about 100 MB of XML; a file that unpacks to more is not a registry.
MOST_OCTETS = 512 * 2**20
MOST_CELLS = 20_000_000
# The last row and column of a workbook (Excel's limits).
_MOST_ROWS, _MOST_COLUMNS = 1_048_576, 16_384

_PERCENT_FORMATS = {9, 10}
_DATE_FORMATS = {*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)}
# What a number format says in quotes, after a backslash, or in brackets is text, a colour or a condition.
_LITERAL = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?![hms]+\])[^\]]*\]')
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
# Excel computes with 15 significant digits and shows no more; what a file has beyond them is noise.
_DIGITS = 15

Rows = dict[int, dict[int, Cell]]
Attributes = dict[str, str]


@dataclass(frozen=True)
class _Style:
    """How numbers of a cell format are shown."""

    is_percent: bool = False
    is_date: bool = False
    is_scaled: bool = False


@dataclass
class _Book:
    """What the sheets of a workbook share."""

    strings: list[str] = field(default_factory=list)
    styles: list[_Style] = field(default_factory=list)
    epoch: dt.datetime = dt.datetime(1899, 12, 30)  # noqa: DTZ001  # a workbook's dates have no zone


def read_workbook(path: Path) -> dict[str, Rows]:
    """Sheets by name, each as row number -> column number (both from 1 and 0) -> cell; empty cells are left
    out.

    Raises:
        OperatorFault: not a workbook, or one larger than any registry.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _sheets(archive)
    except _TooLarge as error:
        raise OperatorFault(
            str(error), where=str(path), remedy="is this the registry? delete what does not belong to it"
        ) from error
    # What zipfile, zlib and expat raise on damaged, encrypted (RuntimeError) and oddly packed
    # (NotImplementedError) archives, and what odd parts of one make of our own reading.
    except (
        zipfile.BadZipFile, zlib.error, expat.ExpatError, KeyError, ValueError, IndexError, EOFError,
        NotImplementedError, RuntimeError, OSError,
    ) as error:  # fmt: skip
        raise OperatorFault(
            f"not a workbook: {error}", where=str(path), remedy="save it again as .xlsx"
        ) from error


class _TooLarge(Exception):
    """More than a registry can be."""


def _sheets(archive: zipfile.ZipFile) -> dict[str, Rows]:
    if sum(part.file_size for part in archive.infolist()) > MOST_OCTETS:
        raise _TooLarge(f"unpacks to more than {MOST_OCTETS // 2**20} MB")
    names: dict[str, str] = {}
    book = _Book()

    def of_workbook(tag: str, attributes: Attributes) -> None:
        if tag == "sheet":
            names[attributes["name"]] = attributes["id"]
        elif tag == "workbookPr" and attributes.get("date1904") in ("1", "true"):
            book.epoch = dt.datetime(1904, 1, 1)  # noqa: DTZ001  # as above

    main = _target(_relations(archive, ""), "officeDocument", "")
    _parse(archive, main, start=of_workbook)
    relations = _relations(archive, main)
    targets = {number: target for number, (_, target) in relations.items()}
    for kind, read in (("sharedStrings", _read_strings), ("styles", _read_styles)):
        if any(name.endswith(f"/{kind}") for name, _ in relations.values()):
            read(archive, _target(relations, kind, main), book)
    return {
        name: _read_sheet(archive, _resolve(main, targets[number]), book) for name, number in names.items()
    }


def _relations(archive: zipfile.ZipFile, part: str) -> dict[str, tuple[str, str]]:
    """Id -> (type, target) of a part's relations."""
    at = PurePosixPath(part)
    found: dict[str, tuple[str, str]] = {}

    def start(tag: str, attributes: Attributes) -> None:
        if tag == "Relationship" and attributes.get("TargetMode") != "External":
            found[attributes["Id"]] = attributes["Type"], attributes["Target"]

    _parse(archive, str(at.parent / "_rels" / f"{at.name}.rels").removeprefix("./"), start=start)
    return found


def _target(relations: Mapping[str, tuple[str, str]], kind: str, part: str) -> str:
    for name, target in relations.values():
        if name.endswith(f"/{kind}"):
            return _resolve(part, target)
    raise ValueError(f"it has no {kind}")


def _resolve(part: str, target: str) -> str:
    if target.startswith("/"):
        return target[1:]
    parts: list[str] = []
    for name in (PurePosixPath(part).parent / target).parts:
        if name == "..":
            parts.pop()
        elif name != ".":
            parts.append(name)
    return "/".join(parts)


def _parse(
    archive: zipfile.ZipFile,
    part: str,
    *,
    start: Callable[[str, Attributes], None],
    end: Callable[[str], None] = lambda tag: None,
    text: Callable[[str], None] | None = None,
) -> None:
    """Run through a part; tags and attributes come by their local names."""
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def started(tag: str, attributes: Attributes) -> None:
        start(_local(tag), {_local(name): value for name, value in attributes.items()})

    def refuse(*_: object) -> None:
        raise ValueError("it declares entities, which no spreadsheet writes")

    parser.StartElementHandler = started
    parser.EndElementHandler = lambda tag: end(_local(tag))
    parser.StartDoctypeDeclHandler = refuse
    if text is not None:
        parser.CharacterDataHandler = text
    with archive.open(part) as file:
        parser.ParseFile(file)


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text) if "_x" in text else text


def _read_strings(archive: zipfile.ZipFile, part: str, book: _Book) -> None:
    pieces: list[str] = []
    inside: list[str] = []

    def start(tag: str, _: Attributes) -> None:
        inside.append(tag)

    def text(data: str) -> None:
        # Phonetic readings of Asian text are not part of it.
        if inside[-1] == "t" and "rPh" not in inside:
            pieces.append(data)

    def end(tag: str) -> None:
        inside.pop()
        if tag == "si":
            book.strings.append(_unescaped("".join(pieces)))
            pieces.clear()

    _parse(archive, part, start=start, end=end, text=text)


def _read_styles(archive: zipfile.ZipFile, part: str, book: _Book) -> None:
    codes: dict[int, str] = {}
    inside: list[str] = []

    def start(tag: str, attributes: Attributes) -> None:
        inside.append(tag)
        if tag == "numFmt":
            codes[int(attributes["numFmtId"])] = attributes["formatCode"]
        elif tag == "xf" and "cellXfs" in inside:
            number = int(attributes.get("numFmtId", "0"))
            book.styles.append(_style(number, codes.get(number)))

    _parse(archive, part, start=start, end=lambda tag: inside.remove(tag))


def _style(number: int, code: str | None) -> _Style:
    if code is None:
        return _Style(number in _PERCENT_FORMATS, number in _DATE_FORMATS)
    shown = _LITERAL.sub("", code.partition(";")[0])
    is_percent = "%" in shown
    is_date = not is_percent and bool(re.search(r"[dmyhs]", shown, re.IGNORECASE))
    # A comma after the last digit shows thousands as units: 1500 as 1.5.
    return _Style(is_percent, is_date, is_scaled=not is_date and bool(re.search(r"[0#?],+(?![0#?,])", shown)))


class _Sheet:
    """Cells of one sheet as they go by."""

    def __init__(self, book: _Book) -> None:
        self.book = book
        self.rows: Rows = {}
        self.row, self.column, self.cells = 0, -1, 0
        self.kind, self.style = "n", _Style()
        self.value: list[str] | None = None
        self.text: list[str] | None = None
        self.has_formula = False
        self.into: list[str] | None = None
        self.skipped = 0

    def start(self, tag: str, attributes: Attributes) -> None:
        if tag == "row":
            self.row = int(attributes.get("r", self.row + 1))
            self.column = -1
        elif tag == "c":
            self._begin(attributes)
        elif tag == "f":
            self.has_formula = True
        elif tag == "v":
            self.value = self.into = []
        elif tag == "t" and not self.skipped:
            self.text = self.text or []
            self.into = self.text
        elif tag == "rPh":
            self.skipped += 1

    def data(self, data: str) -> None:
        if self.into is not None:
            self.into.append(data)

    def end(self, tag: str) -> None:
        if tag in ("v", "t"):
            self.into = None
        elif tag == "rPh":
            self.skipped -= 1
        elif tag == "c":
            cell = self._cell()
            if cell is not None:
                self.rows.setdefault(self.row, {})[self.column] = cell

    def _begin(self, attributes: Attributes) -> None:
        place = re.fullmatch(r"([A-Z]{1,3})(\d{1,7})", attributes.get("r", ""))
        if place is None:
            self.column += 1
        else:
            self.column, self.row = _column_number(place[1]), int(place[2])
        self.cells += 1
        if not (0 < self.row <= _MOST_ROWS and self.column < _MOST_COLUMNS) or self.cells > MOST_CELLS:
            raise _TooLarge("has more cells than a registry can have")
        self.kind = attributes.get("t", "n")
        style = int(attributes.get("s", "0"))
        self.style = self.book.styles[style] if style < len(self.book.styles) else _Style()
        self.value = self.text = self.into = None
        self.has_formula = False

    def _cell(self) -> Cell | None:
        if self.kind == "inlineStr":
            return _text("".join(self.text or []))
        if self.value is None:
            return Cell("a formula without its result", Form.ERROR) if self.has_formula else None
        value = "".join(self.value)
        if self.kind == "s":
            return _text(self.book.strings[int(value)], is_escaped=False)
        if self.kind == "str":
            return _text(value)
        if self.kind == "e":
            return Cell(value, Form.ERROR)
        if self.kind == "b":
            return Cell("true" if value.strip() == "1" else "false", Form.BOOLEAN)
        if self.kind == "d":
            return Cell(value.strip().removesuffix("Z"), Form.DATE)
        return self._number(value.strip())

    def _number(self, value: str) -> Cell | None:
        if not value:
            return None
        number = Decimal(value)
        if self.style.is_date:
            return _date(number, self.book.epoch)
        # Rounded as Excel shows it: 2.5 % is kept as 2.5000000000000001E-2.
        plain = f"{Decimal(f'{number:.{_DIGITS}g}'):f}"
        plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
        if self.style.is_percent:
            return Cell(plain, Form.PERCENT)
        return Cell(plain, Form.SCALED if self.style.is_scaled else Form.NUMBER)


def _text(text: str, *, is_escaped: bool = True) -> Cell | None:
    text = _unescaped(text) if is_escaped else text
    return Cell(text) if text.strip() else None


def _date(number: Decimal, epoch: dt.datetime) -> Cell:
    try:
        moment = epoch + dt.timedelta(seconds=round(float(number) * 86_400, 3))
    except OverflowError:
        return Cell(f"{number} as a date", Form.ERROR)
    # A third of a day is not a whole number in binary: what is a millisecond off is meant to the second.
    whole = (moment + dt.timedelta(milliseconds=500)).replace(microsecond=0)
    if abs(moment - whole) <= dt.timedelta(milliseconds=1):
        moment = whole
    return Cell(moment.isoformat(), Form.DATE)


def _column_number(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


def _read_sheet(archive: zipfile.ZipFile, part: str, book: _Book) -> Rows:
    sheet = _Sheet(book)
    _parse(archive, part, start=sheet.start, end=sheet.end, text=sheet.data)
    return sheet.rows
