"""The lines of a CSV file of intervals: what each says, with its place. Pure; one line is one row.

A cell is never repaired: what is no number, no time or ambiguous is told with its column, and the rest of its
line is kept.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from fractions import Fraction

from faults import OperatorFault
from protocols.pulse_csv.layout import PulseLayout, ValueColumn

_MOST_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its number from 1 in these octets, where it begins, and its octets without their end."""

    number: int
    offset: int
    octets: bytes


@dataclass(frozen=True, slots=True)
class IntervalLine:
    """What a line says.

    Attributes:
        at: the time in it, naive, in market time; an end or a start, as the layout says.
        values: by channel; None: empty; no entry: no number. constant: kWh a pulse; None: not stated.
    """

    line: Line
    meter: str
    at: datetime
    values: Mapping[int, Fraction | None]
    constant: Fraction | None = None


@dataclass(frozen=True, slots=True)
class BadCell:
    """A cell that says nothing usable; its line's other values stand, unless it was the time or the meter."""

    line: Line
    column: str
    reason: str


def lines_of(octets: bytes) -> Iterator[Line]:
    """All lines that are not empty."""
    offset = 0
    for number, raw in enumerate(octets.split(b"\n"), 1):
        line = raw.removesuffix(b"\r")
        if line.strip():
            yield Line(number, offset, line)
        offset += len(raw) + 1


class LineReader:
    """Reads the lines of one file.

    Args:
        heading: its first line. zone: of the market.

    Raises:
        OperatorFault: the file lacks columns of the layout, or has one twice.
    """

    def __init__(self, layout: PulseLayout, heading: Line, zone: tzinfo, where: str) -> None:
        self._layout, self._zone = layout, zone
        names = [name.strip() for name in self._cells(heading) or ()]
        wanted = layout.columns
        missing = [name for name in wanted if name not in names]
        twice = [name for name in wanted if names.count(name) > 1]
        if missing or twice:
            what = f"no column {', '.join(missing)}" if missing else f"column {', '.join(twice)} twice"
            raise OperatorFault(
                f"{what}; its headings are: {', '.join(names)[:400]}",
                where=f"{where}, line {heading.number}",
                remedy=f"correct the file, or write a layout for it (this is {layout.name or 'your own'})",
            )
        self._at = {name: names.index(name) for name in wanted}
        self._width = len(names)

    def meter_of(self, line: Line) -> str | None:
        """Which meter, or UC, a line is of; None: it does not say."""
        cells = self._cells(line)
        if cells is None or len(cells) != self._width:
            return None
        return cells[self._at[self._layout.meter]].strip() or None

    def read(self, line: Line) -> tuple[IntervalLine | None, list[BadCell]]:
        """What a line says, and which of its cells say nothing usable."""
        cells = self._cells(line)
        if cells is None or len(cells) != self._width:
            count = 0 if cells is None else len(cells)
            return None, [BadCell(line, "", f"{count} cells, the heading has {self._width}")]
        text = {name: cells[place].strip() for name, place in self._at.items()}
        at = self._time(text[self._layout.time])
        if isinstance(at, str):
            return None, [BadCell(line, self._layout.time, at)]
        bad: list[BadCell] = []
        values: dict[int, Fraction | None] = {}
        for one in self._layout.value:
            known = len(bad)
            value = self._value(one, text[one.column], line, bad)
            if len(bad) == known:
                values[one.channel] = value
        constant = None
        if self._layout.constant:
            constant = self._number(text[self._layout.constant], fractions=True)
            if not constant or constant < 0:
                reason = f"{text[self._layout.constant]!r} is no energy of a pulse"
                bad.append(BadCell(line, self._layout.constant, reason))
                constant = None
        return IntervalLine(line, text[self._layout.meter], at, values, constant), bad

    def _value(self, column: ValueColumn, text: str, line: Line, bad: list[BadCell]) -> Fraction | None:
        if not text:
            return None
        value = self._number(text)
        if value is None:
            bad.append(
                BadCell(line, column.column, f"{text[:40]!r} is no number with {self._layout.decimal!r}")
            )
        return value

    def _cells(self, line: Line) -> Sequence[str] | None:
        try:
            text = line.octets.decode(self._layout.encoding)
            return next(csv.reader([text], delimiter=self._layout.separator, strict=True))
        except (UnicodeDecodeError, csv.Error, StopIteration):
            return None

    def _time(self, text: str) -> datetime | str:
        """Naive, in market time; or why it is no time."""
        try:
            if self._layout.time_format:
                at = datetime.strptime(text, self._layout.time_format)  # noqa: DTZ007 - market time as a rule
            else:
                # Hour 24 is the midnight that ends the day.
                is_24 = len(text) > 12 and text[10] in " T" and text[11:13] == "24"
                at = datetime.fromisoformat(f"{text[:11]}00{text[13:]}" if is_24 else text)
                at += timedelta(days=is_24)
        except (ValueError, OverflowError):
            return f"{text[:40]!r} is no time of the layout"
        return at if at.tzinfo is None else at.astimezone(self._zone).replace(tzinfo=None)

    def _number(self, text: str, *, fractions: bool = False) -> Fraction | None:
        """A number as the layout writes it: no separators of thousands, no exponents, no signs but minus."""
        up, slash, down = text.partition("/")
        if slash and fractions:
            ends = self._number(up), self._number(down)
            return ends[0] / ends[1] if ends[0] is not None and ends[1] else None
        whole, mark, rest = text.partition(self._layout.decimal)
        digits = whole.removeprefix("-") + rest
        is_number = digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS
        if not is_number or (mark and not rest) or not whole.removeprefix("-"):
            return None
        return Fraction(f"{whole}.{rest}" if mark else whole)
