"""A document as PDF: A4 across, heads repeated on each page, pages numbered, fonts within the file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from io import BytesIO
from typing import Any

from reportlab.lib import colors
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4, landscape
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import LongTable, Paragraph, SimpleDocTemplate, Spacer, TableStyle, XPreformatted

from documents.model import (
    Block,
    Cell,
    Column,
    Document,
    Facts,
    Kind,
    Octets,
    Table,
    Text,
    Tone,
    rows_left_out,
)
from documents.wording import Language

# Paper with more rows than this is read by nobody.
MOST_ROWS = 1000
_FONT, _BOLD, _CODE = "Vera", "VeraBd", "Courier"
_INK, _INK2, _LINE, _SUNKEN = (colors.HexColor(c) for c in ("#15202b", "#465364", "#c5ccd6", "#eef1f4"))
_TONES = {
    Tone.PLAIN: _INK,
    Tone.NOTE: _INK2,
    Tone.GOOD: colors.HexColor("#17703d"),
    Tone.WARN: colors.HexColor("#855400"),
    Tone.BAD: colors.HexColor("#b3261e"),
}
_MARKS = ("#cfe0fa", "#fbe3b0", "#d5efdf", "#ead9fb")
# The fonts have no arrow.
_INSTEAD = str.maketrans({"→": "->", "←": "<-", "✓": "OK", "✗": "X"})
_MARGIN = 14 * mm
_PAGE = landscape(A4)
_WIDTH = _PAGE[0] - 2 * _MARGIN
_OCTETS_A_LINE = 16
_TEXT = 8.5


def to_pdf(document: Document) -> bytes:
    """The file's octets; the same document gives the same ones."""
    for name in (_FONT, _BOLD):
        if name not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(name, f"{name}.ttf"))
    target = BytesIO()
    language = document.language
    made = SimpleDocTemplate(
        target,
        pagesize=_PAGE,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=document.title,
        author="smf",
        lang="pt-BR" if language is Language.PORTUGUESE else "en",
        # Without the time and a number made at random.
        invariant=1,
    )
    story: list[Any] = [
        _paragraph(document.title, size=15, font=_BOLD),
        _paragraph(document.subtitle, size=9, color=_INK2),
        Spacer(0, 3 * mm),
        _paragraph(document.verdict.text, size=11, font=_BOLD, color=_TONES[document.verdict.tone]),
        Spacer(0, 2 * mm),
        *_facts(document.facts),
    ]
    for section in document.sections:
        story += [Spacer(0, 4 * mm), _paragraph(section.title, size=11, font=_BOLD, keep=True)]
        for block in section.blocks:
            if caption := section.caption_of(block):
                story += [Spacer(0, 2 * mm), _paragraph(caption, font=_BOLD, color=_INK2, keep=True)]
            story += _block(block, language)
    story += [Spacer(0, 4 * mm), _paragraph(document.foot, size=7, color=_INK2)]

    def numbered(canvas: Any, template: Any) -> None:
        canvas.setFont(_FONT, 7)
        canvas.setFillColor(_INK2)
        canvas.drawRightString(
            _PAGE[0] - _MARGIN, 8 * mm, f"{_drawable(document.title)}   {canvas.getPageNumber()}"
        )

    made.build(story, onFirstPage=numbered, onLaterPages=numbered)
    return target.getvalue()


def _block(block: Block, language: Language) -> list[Any]:
    if isinstance(block, Text):
        return [_paragraph(block.text, color=_TONES[block.tone])] if block.text else []
    if isinstance(block, Facts):
        return _facts(block)
    if isinstance(block, Octets):
        return _octets(block)
    return _table(block, language)


def _drawable(text: str) -> str:
    """Text of which each character has a picture in the font."""
    face = pdfmetrics.getFont(_FONT).face.charToGlyph
    return "".join(c if ord(c) in face else "?" for c in text.translate(_INSTEAD))


def _style(size: float, font: str, color: Any, *, right: bool = False, keep: bool = False) -> ParagraphStyle:
    return ParagraphStyle(
        "",
        fontName=font,
        fontSize=size,
        leading=size * 1.3,
        textColor=color,
        alignment=TA_RIGHT if right else 0,
        keepWithNext=keep,
        # A hash has no blank to break at.
        splitLongWords=1,
        wordWrap="CJK" if font == _CODE else None,
    )


def _paragraph(
    text: str,
    *,
    size: float = _TEXT,
    font: str = _FONT,
    color: Any = _INK,
    right: bool = False,
    keep: bool = False,
) -> Any:
    return Paragraph(escape(_drawable(text)), _style(size, font, color, right=right, keep=keep))


def _facts(facts: Facts) -> list[Any]:
    if not facts.facts:
        return []
    rows = [
        [_paragraph(fact.label, color=_INK2), _paragraph(fact.value, font=_CODE if fact.is_code else _FONT)]
        for fact in facts.facts
    ]
    shape = [("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0), *_TIGHT]
    labels = max(pdfmetrics.stringWidth(_drawable(fact.label), _FONT, _TEXT) for fact in facts.facts)
    label_width = min(labels + 18, _WIDTH / 3)
    return [_long_table(rows, colWidths=[label_width, _WIDTH - label_width], style=TableStyle(shape))]


_TIGHT = [("TOPPADDING", (0, 0), (-1, -1), 1.5), ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5)]


def _table(table: Table, language: Language) -> list[Any]:
    if not table.rows:
        return [_paragraph(table.empty, color=_INK2)]
    shown = table.rows[:MOST_ROWS]
    rows: list[list[Any]] = [
        [_paragraph(one.title, size=7, color=_INK2, right=one.is_number) for one in table.columns]
    ]
    rows += [_cells(table.columns, cells, language) for cells in shown]
    shape: list[Any] = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("LINEBELOW", (0, 0), (-1, 0), 0.7, _LINE),
        ("LINEBELOW", (0, 1), (-1, -1), 0.25, _LINE),
        *_TIGHT,
    ]
    if table.total is not None:
        rows.append(_cells(table.columns, table.total, language))
        shape.append(("BACKGROUND", (0, -1), (-1, -1), _SUNKEN))
    widths = _widths(table, shown, language)
    left_out = rows_left_out(len(shown), len(table.rows), language)
    note = [_paragraph(left_out, color=_INK2)] if left_out else []
    return [_long_table(rows, colWidths=widths, repeatRows=1, style=TableStyle(shape)), *note]


def _long_table(rows: list[list[Any]], **options: Any) -> LongTable:
    """A table that goes over pages; a cell that is longer than a page does, too."""
    return LongTable(rows, hAlign="LEFT", splitInRow=1, **options)


def _cells(columns: Sequence[Column], cells: Sequence[Cell], language: Language) -> list[Any]:
    return [
        _paragraph(
            column.written(value, language),
            size=7,
            font=_CODE if column.kind is Kind.CODE else _FONT,
            right=column.is_number,
        )
        for column, value in zip(columns, cells, strict=True)
    ]


def _widths(table: Table, rows: Sequence[Sequence[Cell]], language: Language) -> list[float]:
    """Columns as wide as what they hold; where that is too much, the widest give way."""
    wanted = []
    for at, column in enumerate(table.columns):
        font = _CODE if column.kind is Kind.CODE else _FONT
        written = [column.written(row[at], language) for row in (*rows[:200], table.total or ())[:201] if row]
        words = max(column.title.split() or [""], key=len)
        texts = [*written, words] if column.is_number else [*written, column.title[:16]]
        wanted.append(max(pdfmetrics.stringWidth(_drawable(text), font, 7) for text in texts) + 12)
    while sum(wanted) > _WIDTH:
        widest = max(range(len(wanted)), key=wanted.__getitem__)
        wanted[widest] -= max(1.0, (sum(wanted) - _WIDTH) / 8)
    return wanted


def _octets(octets: Octets) -> list[Any]:
    named: dict[int, int] = {}
    for number, mark in enumerate(octets.marks):
        named |= dict.fromkeys(range(mark.first, mark.last + 1), number)
    lines = []
    for begin in range(0, len(octets.data), _OCTETS_A_LINE):
        cells = [
            f"{octet:02x}"
            if offset not in named
            else f'<font backColor="{_MARKS[named[offset] % len(_MARKS)]}"><u>{octet:02x}</u></font>'
            for offset, octet in enumerate(octets.data[begin : begin + _OCTETS_A_LINE], octets.start + begin)
        ]
        lines.append(f"{octets.start + begin:5d}  {' '.join(cells)}")
    legend = [_paragraph(f"{mark.first} – {mark.last}: {mark.what}", size=7.5) for mark in octets.marks]
    return [XPreformatted("\n".join(lines), _style(7.5, _CODE, _INK)), *legend]
