"""Reports that people read, keep and print: one model, written as HTML, XLSX or PDF.

Charter: the parts of a document (`model`), how numbers, days and instants are written in each language
(`wording`), and the three ways to write a document down (`html`, `xlsx`, `pdf`). Not here: what a report says
(`closing`, `audit`), where it is kept, a database.
"""

from documents.html import to_html
from documents.model import (
    Block,
    Cell,
    Column,
    Document,
    Fact,
    Facts,
    Kind,
    Mark,
    Octets,
    Section,
    Table,
    Text,
    Tone,
)
from documents.pdf import to_pdf
from documents.wording import Language
from documents.xlsx import to_xlsx

__all__ = [
    "Block",
    "Cell",
    "Column",
    "Document",
    "Fact",
    "Facts",
    "Kind",
    "Language",
    "Mark",
    "Octets",
    "Section",
    "Table",
    "Text",
    "Tone",
    "to_html",
    "to_pdf",
    "to_xlsx",
]
