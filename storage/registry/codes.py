"""Codes that a spreadsheet has made into numbers: their leading zeros, given back or asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from storage.registry.cells import Cell, Column, Form
from storage.registry.files import RawSheet, Row
from storage.registry.sheets import BY_NAME, Sheet


class KnownCodes:
    """The codes that registry and file have as text.

    Args:
        stored: rows by sheet; raws: the file.
        completed: by "sheet.column", the full code that digits without their zeros stand for, or None.
    """

    def __init__(
        self,
        stored: Mapping[str, Sequence[Row]],
        raws: Sequence[RawSheet],
        completed: Mapping[str, Callable[[str], str | None]],
    ) -> None:
        self._stored, self._raws, self._completed = stored, raws, completed
        # Former codes and aliases of UCs -> the code each has now.
        self.current: dict[str, str] = {}
        self._stored_by_digits: dict[tuple[str, str], dict[str, set[str]]] = {}
        self._all_by_digits: dict[tuple[str, str], dict[str, set[str]]] = {}

    def restored(self, sheet: Sheet, column: Column, cell: Cell, doubts: list[str]) -> Cell:
        """The cell with its code as text; what was done to it is added to `doubts`.

        Raises:
            ValueError: zeros at the front may be lost, and nothing tells how many.
        """
        place = column.refers or (sheet.name, column.name)
        if column.kind == "codes":
            place = (sheet.name, sheet.key[0])
        target = next(item for item in BY_NAME[place[0]].columns if item.name == place[1])
        if cell.form is not Form.NUMBER:
            return self._as_text(place, target, cell)
        if not cell.text.isdecimal():
            return cell
        known = self._codes(place).get(cell.text.lstrip("0"), set())
        if cell.text in known or (target.digits and len(cell.text) >= target.digits):
            return Cell(cell.text)
        complete = self._completed.get(".".join(place))
        full = complete(cell.text) if complete is not None else None
        candidates = known or ({full} if full else set())
        if len(candidates) == 1:
            (code,) = candidates
            why = "the registry or the file has it so" if known else "its check digits fit"
            doubts.append(
                f"the cell is a number ({cell.text}) without its leading zeros: read as {code}, since {why}"
            )
            return Cell(code)
        if candidates or target.digits:
            raise ValueError(
                f"the cell is a number ({cell.text}), and the zeros at its front are lost"
                + (f": it may be {' or '.join(sorted(candidates))}" if candidates else "")
                + "; format the column as text and write the code whole"
            )
        return Cell(cell.text)

    def _as_text(self, place: tuple[str, str], target: Column, cell: Cell) -> Cell:
        """A text that is a stored code but for the zeros at its front lost them on its way."""
        text = cell.text
        if target.digits and text.isdecimal() and len(text) < target.digits:
            stored = self._stored_codes(place).get(text.lstrip("0"), set())
            longer = sorted(code for code in stored if len(code) > len(text))
            if longer and text not in stored:
                raise ValueError(
                    f"{text!r} lacks the zeros of {' or '.join(longer)}, which is registered: write it whole"
                )
        return cell

    def _stored_codes(self, place: tuple[str, str]) -> dict[str, set[str]]:
        """The registry's codes by their digits without leading zeros."""
        if place not in self._stored_by_digits:
            at = BY_NAME[place[0]].names.index(place[1])
            self._stored_by_digits[place] = _by_digits(row[at] for row in self._stored[place[0]])
        return self._stored_by_digits[place]

    def _codes(self, place: tuple[str, str]) -> dict[str, set[str]]:
        """The same, with those that the file has as text."""
        if place not in self._all_by_digits:
            cells = [
                cell
                for raw in self._raws
                for column in raw.sheet.columns
                if place in ((raw.sheet.name, column.name), column.refers)
                for cell in raw.cells.get(column.name, ())
                if cell is not None and cell.form is Form.TEXT
            ]
            found = _by_digits(cell.text for cell in cells)
            for digits, codes in self._stored_codes(place).items():
                found.setdefault(digits, set()).update(codes)
            self._all_by_digits[place] = found
        return self._all_by_digits[place]


def _by_digits(codes: Iterable[str | None]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for code in codes:
        if code is not None and code.isdecimal():
            found.setdefault(code.lstrip("0"), set()).add(code)
    return found
