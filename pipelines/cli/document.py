"""Documents on the command line: in the terminal with every key whole, as CSV, and as files."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from documents import Document, Facts, Text, to_html, to_pdf, to_xlsx
from documents import Table as DocumentTable
from documents.wording import Language
from faults import OperatorFault
from pipelines.cli.output import console

_WRITERS: dict[str, Callable[[Document], str | bytes]] = {".html": to_html, ".pdf": to_pdf, ".xlsx": to_xlsx}


def show_document(document: Document, most_rows: int | None = None) -> None:
    """Every word of a document; of each table `most_rows`, and a line that says how many more there are."""
    console.print(f"[bold]{escape(document.title)}[/]  {escape(document.subtitle)}", highlight=False)
    console.print(f"[bold]{escape(document.verdict.text)}[/]", highlight=False)
    for title, blocks in (("", [document.facts]), *((part.title, part.blocks) for part in document.sections)):
        if title:
            console.print(f"\n[bold]{escape(title)}[/]", highlight=False)
        for block in blocks:
            if isinstance(block, Text) and block.text:
                console.print(escape(block.text), highlight=False)
            elif isinstance(block, Facts):
                for fact in block.facts:
                    console.print(escape(f"{fact.label}: {fact.value}"), highlight=False, soft_wrap=True)
            elif isinstance(block, DocumentTable):
                show_table(block, document.language, most_rows)


def show_table(block: DocumentTable, language: Language, most_rows: int | None = None) -> None:
    """A table, the first rows of it."""
    if not block.rows:
        console.print(escape(block.empty), highlight=False)
        return
    table = Table(box=None, pad_edge=False)
    for column in block.columns:
        table.add_column(column.title, justify="right" if column.is_number else "left")
    for row in block.rows[:most_rows]:
        written = (column.written(value, language) for column, value in zip(block.columns, row, strict=True))
        table.add_row(*(escape(text) for text in written))
    console.print(table, highlight=False)
    if most_rows is not None and len(block.rows) > most_rows:
        more = len(block.rows) - most_rows
        console.print(
            f"e mais {more}: --csv, --xlsx"
            if language is Language.PORTUGUESE
            else f"and {more} more: --csv, --xlsx",
            highlight=False,
        )


def write_csv(block: DocumentTable) -> None:
    """A table to standard output: a head, plain values, a comma between."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([column.title for column in block.columns])
    writer.writerows(["" if value is None else value for value in row] for row in block.rows)


def write_file(document: Document, file: Path) -> None:
    """A document as a file; the ending says which kind.

    Raises:
        OperatorFault: the ending, or it cannot be written there.
    """
    write = _WRITERS.get(file.suffix.lower())
    if write is None:
        endings = ", ".join(_WRITERS)
        raise OperatorFault(
            f"{file.name!r} does not say which kind of file", where=str(file), remedy=f"end it in {endings}"
        )
    content = write(document)
    try:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise OperatorFault(
            f"cannot write: {error.strerror}",
            where=str(file),
            remedy="name another file, in a folder that exists",
        ) from error


def tell_written(*files: Path | None) -> None:
    """One line for each file that was wanted."""
    for file in files:
        if file is not None:
            console.print(f"written {file}", highlight=False, soft_wrap=True)
