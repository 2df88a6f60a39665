"""A document as a workbook: a sheet that says what a page says, and one for each table, with all its rows."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any

import xlsxwriter

from documents.model import Cell, Column, Document, Facts, Kind, Table, Text
from documents.wording import Language

# What the format allows; the rows after it go on in another sheet.
_MOST_ROWS = 1_048_575
_WIDEST = 60
# Said of each file, so that the same document gives the same octets.
_CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def to_xlsx(document: Document) -> bytes:
    """The file's octets; the same document gives the same ones.

    Numbers are numbers: a sheet keeps 15 digits of them, which is more than a month's energy has.
    """
    target = BytesIO()
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    book = xlsxwriter.Workbook(target, options)
    book.set_properties({"title": document.title, "created": _CREATED})
    formats = _Formats(book, document.language)
    _summary(book, document, formats)
    for section in document.sections:
        for block in section.blocks:
            if isinstance(block, Table):
                _sheets(book, block, formats)
    book.close()
    return target.getvalue()


class _Formats:
    """Each way a cell can look, once."""

    def __init__(self, book: Any, language: Language) -> None:
        self.language = language
        self._book, self._made = book, dict[tuple[str, bool], Any]()
        self.head = book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "bottom"})
        self.title = book.add_format({"bold": True, "font_size": 14})
        self.bold = book.add_format({"bold": True})
        self.wrapped = book.add_format({"text_wrap": True, "valign": "top"})
        self._day = "dd/mm/yyyy" if language is Language.PORTUGUESE else "yyyy-mm-dd"

    def of(self, column: Column, value: Cell, *, is_total: bool = False) -> Any:
        if isinstance(value, datetime):
            shape = f"{self._day} hh:mm:ss"
        elif isinstance(value, date):
            shape = self._day
        elif column.kind is Kind.SHARE:
            shape = "0.00%"
        elif column.kind is Kind.NUMBER and column.decimals is not None:
            shape = "#,##0" + ("." + "0" * column.decimals if column.decimals else "")
        else:
            shape = "@" if column.kind is Kind.CODE else "General"
        key = shape, is_total
        if key not in self._made:
            self._made[key] = self._book.add_format({"num_format": shape, "bold": is_total})
        return self._made[key]


def _summary(book: Any, document: Document, formats: _Formats) -> None:
    sheet = book.add_worksheet("Resumo" if document.language is Language.PORTUGUESE else "Summary")
    sheet.set_column(0, 0, 34)
    sheet.set_column(1, 1, 90)
    lines: list[tuple[str, str, Any]] = [
        (document.title, "", formats.title),
        (document.subtitle, "", None),
        (document.verdict.text, "", formats.bold),
        *((fact.label, fact.value, None) for fact in document.facts.facts),
    ]
    for section in document.sections:
        lines += [("", "", None), (section.title, "", formats.bold)]
        for block in section.blocks:
            if isinstance(block, Text):
                lines.append((block.text, "", None))
            elif isinstance(block, Facts):
                lines += [(fact.label, fact.value, None) for fact in block.facts]
            elif isinstance(block, Table):
                lines.append((block.name, block.empty if not block.rows else str(len(block.rows)), None))
    lines += [("", "", None), (document.foot, "", None)]
    for row, (label, value, shape) in enumerate(lines):
        sheet.write_string(row, 0, label, shape)
        if value:
            sheet.write_string(row, 1, value, formats.wrapped)


def _sheets(book: Any, table: Table, formats: _Formats) -> None:
    for part, begin in enumerate(range(0, max(1, len(table.rows)), _MOST_ROWS)):
        name = table.name[:31] if not part else f"{table.name[:27]} {part + 1}"
        sheet = book.add_worksheet(name)
        rows = table.rows[begin : begin + _MOST_ROWS]
        sheet.freeze_panes(1, 0)
        for at, column in enumerate(table.columns):
            sheet.write_string(0, at, column.title, formats.head)
            lengths = (len(column.written(row[at], formats.language)) for row in rows[:500])
            sheet.set_column(at, at, min(_WIDEST, max([len(column.title) // 2 + 2, *lengths]) + 2))
        for number, cells in enumerate(rows, 1):
            for at, (column, value) in enumerate(zip(table.columns, cells, strict=True)):
                _write(sheet, number, at, value, formats.of(column, value), formats.language)
        if rows:
            sheet.autofilter(0, 0, len(rows), len(table.columns) - 1)
        if table.total is not None and begin + _MOST_ROWS >= len(table.rows):
            for at, (column, value) in enumerate(zip(table.columns, table.total, strict=True)):
                shape = formats.of(column, value, is_total=True)
                _write(sheet, len(rows) + 1, at, value, shape, formats.language)


def _write(sheet: Any, row: int, at: int, value: Cell, shape: Any, language: Language) -> None:
    if value is None:
        return
    if isinstance(value, bool):
        sheet.write_string(row, at, Column("").written(value, language), shape)
    elif isinstance(value, datetime):
        sheet.write_datetime(row, at, value.replace(tzinfo=None), shape)
    elif isinstance(value, date):
        sheet.write_datetime(row, at, value, shape)
    elif isinstance(value, (int, Decimal)):
        sheet.write_number(row, at, value, shape)
    else:
        sheet.write_string(row, at, value, shape)
