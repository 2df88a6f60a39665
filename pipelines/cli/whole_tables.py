"""A console whose tables cut nothing: no word is broken, and what is too wide becomes a block a row.

Rich shortens columns to the screen and ends them with an ellipsis; a key that lost its end is of no use.
"""

from __future__ import annotations

import csv
from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group
from rich.table import Column, Table
from rich.text import Text

# Between the columns, and at both edges.
_PADDING = 2


class WholeConsole(Console):
    """Prints as Rich does, tables excepted.

    Attributes:
        as_csv: tables go out as CSV, each with its head, and nothing else does: `smf ... --csv`.
        tables: how many were printed.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.as_csv = False
        self.tables = 0

    def print(self, *objects: Any, **options: Any) -> None:
        if len(objects) == 1 and isinstance(objects[0], Group):
            for part in objects[0].renderables:
                self.print(part, **options)
        elif len(objects) == 1 and isinstance(objects[0], Table):
            self._print_table(objects[0], options)
        elif not self.as_csv:
            super().print(*objects, **options)

    def _print_table(self, table: Table, options: dict[str, Any]) -> None:
        self.tables += 1
        if self.as_csv:
            self._write_csv(table)
            return
        # One look for all tables; a box costs a screen of 80 columns two words a row.
        table.box, table.title_justify = None, "left"
        if not table.row_count:
            super().print(f"{table.title}: none" if table.title else "none", **options)
            return
        widths = fitted_widths(table, self.width)
        if widths is None:
            for line in blocks(table):
                super().print(line, **{"highlight": False, **options, "soft_wrap": True})
            return
        for column, width in zip(table.columns, widths, strict=True):
            column.width, column.no_wrap, column.overflow = width, False, "fold"
        super().print(table, **options)

    def _write_csv(self, table: Table) -> None:
        writer = csv.writer(self.file, lineterminator="\n")
        if table.show_header:
            writer.writerow([_text(column.header).plain for column in table.columns])
        cells = [[_text(cell).plain for cell in column.cells] for column in table.columns]
        writer.writerows(zip(*cells, strict=True))


def fitted_widths(table: Table, width: int) -> list[int] | None:
    """Of each column at least its longest word, the rest shared; None: even the words do not fit."""
    frame = len(table.columns) * _PADDING
    lines = [_lines(column, table) for column in table.columns]
    wanted = [max((cell_len(line) for line in part), default=1) or 1 for part in lines]
    words = [max((cell_len(word) for line in part for word in line.split()), default=1) for part in lines]
    least = [
        whole if column.no_wrap else word
        for column, whole, word in zip(table.columns, wanted, words, strict=True)
    ]
    room = width - frame - sum(least)
    if room < 0:
        return None
    widths = list(least)
    # Who lacks least is served first, with at most an equal share: long texts wrap, short ones do not.
    for left, column in enumerate(sorted(range(len(widths)), key=lambda at: wanted[at] - least[at])):
        more = min(wanted[column] - least[column], room // (len(widths) - left))
        widths[column] += more
        room -= more
    return widths


def blocks(table: Table) -> list[Text]:
    """Each row as lines of a name and a value; empty cells are left out."""
    lines = [Text(str(table.title), style="italic")] if table.title else []
    names = [_text(column.header) for column in table.columns]
    longest = max((cell_len(name.plain) for name in names), default=0)
    cells = [list(column.cells) for column in table.columns]
    for number in range(table.row_count):
        if number:
            lines.append(Text())
        for name, values in zip(names, cells, strict=True):
            value = _text(values[number])
            if value.plain.strip():
                pad = " " * (longest - cell_len(name.plain) + _PADDING)
                lines.append(Text.assemble((name.plain, "bold"), pad if longest else "", value))
    return lines


def _text(cell: Any) -> Text:
    if isinstance(cell, Text):
        return cell
    return Text.from_markup(cell) if isinstance(cell, str) else Text(str(cell))


def _lines(column: Column, table: Table) -> list[str]:
    cells = [*([column.header] if table.show_header else []), *column.cells]
    return [line for cell in cells for line in _text(cell).plain.splitlines()]
