"""One document as page, sheet and paper: nothing is cut, nothing is read as something else."""

from __future__ import annotations

import datetime as dt
import io
import re
import zipfile
from decimal import Decimal

import polars as pl
import pytest

from documents import (
    Column,
    Document,
    Fact,
    Facts,
    Kind,
    Language,
    Mark,
    Octets,
    Section,
    Table,
    Text,
    Tone,
    html,
    pdf,
    to_html,
    to_pdf,
    to_xlsx,
)

pytestmark = pytest.mark.req("TR-5.6e")

SHA256 = "17b58c3a02de97bc61721869a7aedf597c80ab93376b116c8c01c904c60d20b0"
COLUMNS = [
    Column("UC", Kind.CODE),
    Column("Nome"),
    Column("Dia"),
    Column("Energia, kWh", Kind.NUMBER, 3),
    Column("Parte", Kind.SHARE),
    Column("SHA-256", Kind.CODE),
]


def made(rows: int = 1, language: Language = Language.PORTUGUESE) -> Document:
    cells = (
        "000000000000135",
        "=1+1 <b>",
        dt.date(2026, 11, 20),
        Decimal("1234.5"),
        Decimal("0.034"),
        SHA256,
    )
    return Document(
        title="Fechamento → 11/2026",
        subtitle="como está",
        verdict=Text("Nada falta.", Tone.GOOD),
        facts=Facts([Fact("Resumo", SHA256, is_code=True)]),
        sections=[
            Section("Lista", [Table("Lista", COLUMNS, [cells] * rows), Text("uma nota", Tone.NOTE)]),
            Section("Quadro", [Octets(bytes(range(40)), [Mark(17, 18, "os octetos do valor")])]),
            Section("Vazia", [Table("Vazia", COLUMNS, [], empty="Nada aqui.")]),
        ],
        language=language,
    )


def test_a_page_writes_values_as_its_language_does() -> None:
    page = to_html(made())
    assert ">1.234,500<" in page
    assert ">20/11/2026<" in page
    assert ">3,40 %<" in page
    assert ">1,234.500<" in to_html(made(language=Language.ENGLISH))
    assert "=1+1 &lt;b&gt;" in page, "what a cell says is never markup"
    assert page.count(SHA256) == 2
    assert "Nada aqui." in page


def test_a_page_marks_octets_by_their_number() -> None:
    page = to_html(made())
    marked = re.findall(r"<mark class=m0 title=\"os octetos do valor\">(..)</mark>", page)
    assert marked == ["11", "12"]
    assert "17 – 18</mark> os octetos do valor" in page
    assert re.search(r"<b> +16</b>  10 <mark", page), "lines begin with the number of their first octet"


def test_a_page_brings_nothing_from_elsewhere() -> None:
    page = to_html(made())
    assert not re.search(r"<script|<link|https?://|@import|url\(", page)


def test_a_sheet_has_numbers_days_and_whole_keys() -> None:
    book = to_xlsx(made(rows=2500))
    sheet = pl.read_excel(io.BytesIO(book), sheet_name="Lista", engine="calamine")
    assert sheet.height == 2500
    assert sheet.row(0) == ("000000000000135", "=1+1 <b>", dt.date(2026, 11, 20), 1234.5, 0.034, SHA256)
    assert b"<f>" not in zipfile.ZipFile(io.BytesIO(book)).read("xl/worksheets/sheet2.xml"), "no formula"


@pytest.mark.parametrize("write", [to_xlsx, to_pdf])
def test_the_same_document_gives_the_same_octets(write) -> None:
    assert write(made()) == write(made())


def test_what_is_left_out_of_a_page_is_said() -> None:
    assert "linhas; todas estão na planilha" not in to_html(made(rows=html.MOST_ROWS))
    page = to_html(made(rows=html.MOST_ROWS + 1))
    assert "As primeiras 2.000 de 2.001 linhas; todas estão na planilha (XLSX)." in page


def test_paper_repeats_heads_and_numbers_its_pages() -> None:
    paper = to_pdf(made(rows=pdf.MOST_ROWS))
    assert paper.startswith(b"%PDF-")
    pages = len(re.findall(rb"/Type /Page\b", paper))
    assert pages > 20
    assert len(re.findall(rb"/Type /Page\b", to_pdf(made()))) == 1
    assert b"BitstreamVera" in paper, "the font is within the file"


def test_paper_draws_what_the_font_has() -> None:
    pdf.to_pdf(made())
    assert pdf._drawable("a → b − 1 × 2 \u4e2d") == "a -> b − 1 × 2 ?"


def test_a_cell_that_is_longer_than_a_page_goes_over_pages() -> None:
    """CCEE's answer may repeat the whole body of a day: 27,000 characters in one cell."""
    row = ("000120000302868", "palavra " * 4000, dt.date(2026, 11, 20), Decimal(1), Decimal(0), SHA256)
    document = Document("T", "", Text("v"), [Section("S", [Table("L", COLUMNS, [row])])])
    assert len(re.findall(rb"/Type /Page\b", to_pdf(document))) > 3
