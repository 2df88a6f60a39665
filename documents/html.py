"""A document as one HTML file: nothing from elsewhere, no script, fit for a telephone and for paper."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources

from documents.model import Block, Cell, Document, Facts, Kind, Octets, Table, Text, rows_left_out
from documents.wording import Language

# A page with more rows than this does not open quickly on a telephone.
MOST_ROWS = 2000
# Of a key: at most this many characters stay on one line.
_ONE_LINE = 24
_OCTETS_A_LINE = 16


def to_html(document: Document) -> str:
    """The whole file."""
    style = (resources.files("documents") / "page.css").read_text(encoding="utf-8")
    language = "pt-BR" if document.language is Language.PORTUGUESE else "en"
    sections = "".join(
        f"<section><h2>{escape(section.title)}</h2>"
        + "".join(
            _caption(section.caption_of(block)) + _block(block, document.language) for block in section.blocks
        )
        + "</section>"
        for section in document.sections
    )
    return (
        f'<!doctype html>\n<html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(document.title)}</title><style>{style}</style></head><body><main>"
        f"<header><h1>{escape(document.title)}</h1><p class=sub>{escape(document.subtitle)}</p></header>"
        f"{_text(document.verdict, 'verdict')}{_facts(document.facts)}{sections}"
        f"<footer>{escape(document.foot)}</footer></main></body></html>\n"
    )


def _caption(text: str) -> str:
    return f"<h3>{escape(text)}</h3>" if text else ""


def _block(block: Block, language: Language) -> str:
    if isinstance(block, Text):
        return _text(block)
    if isinstance(block, Facts):
        return _facts(block)
    if isinstance(block, Octets):
        return _octets(block)
    return _table(block, language)


def _text(text: Text, also: str = "") -> str:
    return f'<p class="{f"{also} {text.tone}".strip()}">{escape(text.text)}</p>' if text.text else ""


def _facts(facts: Facts) -> str:
    rows = "".join(
        f"<dt>{escape(fact.label)}</dt><dd{' class=code' if fact.is_code else ''}>{escape(fact.value)}</dd>"
        for fact in facts.facts
    )
    return f"<dl>{rows}</dl>" if rows else ""


def _class_of(table: Table, position: int) -> str:
    """Of a column: numbers to the right; a key on one line, unless one is as long as a hash."""
    column = table.columns[position]
    if column.is_number:
        return "number"
    longest = max(len(str(row[position] or "")) for row in table.rows)
    return "code key" if column.kind is Kind.CODE and longest <= _ONE_LINE else column.kind.value


def _table(table: Table, language: Language) -> str:
    if not table.rows:
        return f"<p class=note>{escape(table.empty)}</p>"
    kinds = [_class_of(table, position) for position in range(len(table.columns))]
    head = "".join(
        f'<th class="{kind}" scope=col>{escape(column.title)}</th>'
        for column, kind in zip(table.columns, kinds, strict=True)
    )

    def row(cells: Sequence[Cell]) -> str:
        written = (
            f'<td class="{kind}" data-head="{escape(column.title)}">'
            f"{escape(column.written(value, language))}</td>"
            for column, kind, value in zip(table.columns, kinds, cells, strict=True)
        )
        return f"<tr>{''.join(written)}</tr>"

    shown = table.rows[:MOST_ROWS]
    body = "".join(row(cells) for cells in shown)
    foot = f"<tfoot>{row(table.total)}</tfoot>" if table.total is not None else ""
    left_out = rows_left_out(len(shown), len(table.rows), language)
    note = f"<p class=note>{escape(left_out)}</p>" if left_out else ""
    whole = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>{foot}</table>"
    return f"<div class=wide>{whole}</div>{note}"


def _octets(octets: Octets) -> str:
    """Lines of 16, numbered, the marked ones named on hover and below."""
    named: dict[int, int] = {}
    for number, mark in enumerate(octets.marks):
        named |= dict.fromkeys(range(mark.first, mark.last + 1), number)
    lines = []
    for begin in range(0, len(octets.data), _OCTETS_A_LINE):
        cells = []
        for offset, octet in enumerate(octets.data[begin : begin + _OCTETS_A_LINE], octets.start + begin):
            found = named.get(offset)
            cells.append(
                f"{octet:02x}"
                if found is None
                else f'<mark class=m{found % 4} title="{escape(octets.marks[found].what)}">{octet:02x}</mark>'
            )
        lines.append(f"<b>{octets.start + begin:5d}</b>  {' '.join(cells)}")
    legend = "".join(
        f"<li><mark class=m{number % 4}>{mark.first}"
        + (f" – {mark.last}" if mark.last > mark.first else "")
        + f"</mark> {escape(mark.what)}</li>"
        for number, mark in enumerate(octets.marks)
    )
    return f"<pre>{chr(10).join(lines)}</pre>" + (f"<ul class=legend>{legend}</ul>" if legend else "")
