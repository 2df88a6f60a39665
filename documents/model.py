"""The parts of a document: what it says, without how it looks.

Values stay values (days, exact numbers) until a writer puts them down, so that a sheet can be calculated with
and a page reads like a page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

from documents import wording
from documents.wording import Language

Cell = str | int | Decimal | date | datetime | bool | None


class Kind(StrEnum):
    """What a column holds. A CODE (key, hash) is never cut and set in a fixed width; a SHARE is of one."""

    TEXT = "text"
    CODE = "code"
    NUMBER = "number"
    SHARE = "share"


class Tone(StrEnum):
    """How a text is meant. GOOD, WARN and BAD are verdicts, and say so in words as well."""

    PLAIN = "plain"
    NOTE = "note"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True)
class Column:
    """One column. `decimals`: of a NUMBER, None for as many as each value has."""

    title: str
    kind: Kind = Kind.TEXT
    decimals: int | None = 0

    @property
    def is_number(self) -> bool:
        return self.kind in (Kind.NUMBER, Kind.SHARE)

    def written(self, value: Cell, language: Language) -> str:
        """A value of this column as text; nothing where there is none."""
        if value is None:
            return ""
        if isinstance(value, bool):
            return wording.flag(value, language)
        if isinstance(value, datetime):
            return wording.instant(value, language)
        if isinstance(value, date):
            return wording.day(value, language)
        if isinstance(value, (int, Decimal)):
            if self.kind is Kind.SHARE:
                return wording.share(Decimal(value), language)
            return wording.number(value, language, self.decimals)
        return value


@dataclass(frozen=True)
class Table:
    """Rows under a head. `name`: of its sheet, 31 characters at most. `empty`: what is said without rows.

    Attributes:
        total: a last row that sums up.
    """

    name: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    empty: str = ""
    total: Sequence[Cell] | None = None


@dataclass(frozen=True)
class Text:
    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True)
class Fact:
    """A label and what belongs to it."""

    label: str
    value: str
    is_code: bool = False


@dataclass(frozen=True)
class Facts:
    facts: Sequence[Fact]


@dataclass(frozen=True)
class Mark:
    """Octets `first` to `last`, both included, of a dump, and what they are."""

    first: int
    last: int
    what: str


@dataclass(frozen=True)
class Octets:
    """Raw octets with some of them marked. `start`: number of the first one."""

    data: bytes
    marks: Sequence[Mark] = ()
    start: int = 0


Block = Table | Text | Facts | Octets


@dataclass(frozen=True)
class Section:
    title: str
    blocks: Sequence[Block]

    def caption_of(self, block: Block) -> str:
        """A table's name, where a section has several of them."""
        tables = [one for one in self.blocks if isinstance(one, Table)]
        return block.name if isinstance(block, Table) and len(tables) > 1 else ""


@dataclass(frozen=True)
class Document:
    """A report.

    Attributes:
        verdict: the answer in one sentence, before all else.
        facts: what the report is about: keys, dates, the zone of its times.
        foot: what stands at its end: how it was made.
    """

    title: str
    subtitle: str
    verdict: Text
    sections: Sequence[Section]
    facts: Facts = Facts(())
    foot: str = ""
    language: Language = Language.PORTUGUESE


def rows_left_out(shown: int, whole: int, language: Language) -> str:
    """What is said below a table of which only the first rows are shown."""
    if shown >= whole:
        return ""
    some, all_ = (wording.number(count, language) for count in (shown, whole))
    if language is Language.PORTUGUESE:
        return f"As primeiras {some} de {all_} linhas; todas estão na planilha (XLSX)."
    return f"The first {some} of {all_} rows; all of them are in the sheet (XLSX)."
