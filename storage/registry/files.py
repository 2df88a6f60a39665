"""Registry files: workbooks, folders of CSV files, single CSV files, and back."""

from __future__ import annotations

import csv
import datetime as dt
import difflib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import xlsxwriter

from faults import OperatorFault
from storage.registry.cells import Cell
from storage.registry.explained import HEADINGS, NOTES, as_text, explained, explanations, flat_as_text
from storage.registry.sheets import BY_NAME, SHEETS, Sheet
from storage.registry.workbook import Rows, read_workbook

Row = tuple[str | None, ...]


@dataclass(frozen=True)
class Issue:
    """What is wrong, or doubtful, in a file. `row` counts as a spreadsheet does: the heading is row 1."""

    source: str
    row: int | None
    column: str | None
    message: str
    remedy: str
    is_warning: bool = False

    @property
    def where(self) -> str:
        parts = [self.source]
        if self.row is not None:
            parts.append(f"row {self.row}")
        if self.column:
            parts.append(f"column {self.column}")
        return ", ".join(parts)


@dataclass(frozen=True)
class RawSheet:
    """Cells as they stand. `labels` are the headings in the file; in a flat file they are not the sheet's
    column names. `separator`: of a CSV file.
    """

    sheet: Sheet
    source: str
    numbers: list[int]
    cells: dict[str, list[Cell | None]]
    labels: Mapping[str, str]
    is_flat: bool = False
    separator: str = ""


@dataclass(frozen=True)
class _Grid:
    """A table as it stands in a file: headings, and rows with their numbers; empty cells are None."""

    source: str
    heading: list[str]
    numbers: list[int]
    rows: list[dict[int, Cell]]
    separator: str = ""

    def column(self, name: str) -> list[Cell | None]:
        at = self.heading.index(name)
        return [row.get(at) for row in self.rows]


# One row per UC: column of the flat file -> where it goes. A sheet gets a row where its first column is
# filled.
_FLAT: tuple[tuple[str, dict[str, str], dict[str, str]], ...] = (
    ("distributors", {"code": "distributor_code", "name": "distributor_name"}, {}),
    ("agents", {"code": "agent_code", "name": "agent_name", "distributor_code": "distributor_code"}, {}),
    ("customers", {"code": "customer_code", "name": "customer_name", "tax_id": "customer_tax_id"}, {}),
    (
        "ucs",
        {"code": "uc_code", "name": "uc_name", "agent_code": "agent_code", "customer_code": "customer_code",
         "cea_date": "cea_date"},
        {},
    ),
    ("status", {"status": "status", "uc_code": "uc_code", "valid_from": "valid_from"}, {}),
    (
        "contracts",
        {"tariff_subgroup": "tariff_subgroup", "uc_code": "uc_code", "tariff_modality": "tariff_modality",
         "contracted_demand_kw": "contracted_demand_kw", "supply_voltage_kv": "supply_voltage_kv",
         "valid_from": "valid_from"},
        {},
    ),
    ("musd", {"musd_kw": "musd_kw", "uc_code": "uc_code", "valid_from": "valid_from"}, {}),
    ("estimation", {"strategy": "strategy", "uc_code": "uc_code", "valid_from": "valid_from"}, {}),
    ("points", {"code": "point_code", "uc_code": "uc_code"}, {}),
    (
        "losses",
        {"percent": "transformation_loss_percent", "point_code": "point_code", "valid_from": "valid_from"},
        {"kind": "transformation"},
    ),
    (
        "losses",
        {"percent": "line_loss_percent", "point_code": "point_code", "valid_from": "valid_from"},
        {"kind": "line"},
    ),
    ("schedules", {"kind": "schedule", "point_code": "point_code", "valid_from": "valid_from"}, {}),
    ("meter_models", {"code": "meter_model", "profile": "meter_profile"}, {}),
    ("meters", {"serial": "meter_serial", "model_code": "meter_model"}, {}),
    ("units", {"code": "unit_code", "url": "unit_url", "cell": "unit_cell"}, {}),
    (
        "installations",
        {"meter_serial": "meter_serial", "point_code": "point_code", "unit_code": "unit_code",
         "active_channel": "active_channel", "pulse_energy_num": "pulse_energy_num",
         "pulse_energy_den": "pulse_energy_den", "tp_ratio": "tp_ratio", "tc_ratio": "tc_ratio",
         "constant_includes_ratios": "constant_includes_ratios", "element_count": "element_count",
         "interval_s": "interval_s", "valid_from": "valid_from"},
        {"role": "main"},
    ),
)  # fmt: skip


def flat_columns() -> list[str]:
    """Headings of the file with one row per UC, for the simple case: one meter, one period."""
    return list(dict.fromkeys(label for _, labels, _ in _FLAT for label in labels.values()))


def read(path: Path) -> tuple[list[RawSheet], list[Issue]]:
    """Read a registry file into sheets of text.

    Args:
        path: a workbook (.xlsx), a folder of CSV files named after the sheets, one such file, or a CSV file
        of any
            other name with one row per UC (`flat_columns`).
    Raises:
        OperatorFault: no such file, or none of these.
    """
    if path.is_dir():
        files = sorted(path.glob("*.csv"))
        grids = {file.stem: _read_csv(file) for file in files}
    elif not path.is_file():
        raise OperatorFault(
            "no such file", where=str(path), remedy="name a workbook, a CSV file or a folder of them"
        )
    elif path.suffix.lower() == ".xlsx":
        grids = {
            name: _grid(f"{path.name}, sheet {name}", rows) for name, rows in read_workbook(path).items()
        }
    elif path.suffix.lower() == ".csv" and path.stem in BY_NAME:
        grids = {path.stem: _read_csv(path)}
    elif path.suffix.lower() == ".csv":
        return _read_flat(_read_csv(path))
    else:
        raise OperatorFault(
            f"{path.suffix or 'a file without ending'} is not a registry",
            where=str(path),
            remedy="use .xlsx or .csv",
        )
    sheets: list[RawSheet] = []
    issues: list[Issue] = []
    for name, grid in grids.items():
        if name in BY_NAME:
            sheets.append(_named(BY_NAME[name], grid, issues))
        elif name != NOTES:
            issues.append(
                Issue(grid.source, None, None, "no such table in the registry", _nearest(name, list(BY_NAME)))
            )
    if not grids:
        issues.append(
            Issue(path.name, None, None, "nothing to load", "make a file with: smf registry template FILE")
        )
    return sheets, issues


def write(
    path: Path, tables: Mapping[str, Sequence[Row]], zone: dt.tzinfo, *, with_notes: bool = False
) -> None:
    """Write sheets (all of them, empty ones too) to a workbook, or to a folder of CSV files."""
    shown = {sheet.name: [_shown(sheet, row, zone) for row in tables.get(sheet.name, ())] for sheet in SHEETS}
    try:
        if path.suffix.lower() == ".xlsx":
            _write_workbook(path, shown, with_notes)
        else:
            path.mkdir(parents=True, exist_ok=True)
            for sheet in SHEETS:
                with (path / f"{sheet.name}.csv").open("w", newline="", encoding="utf-8") as file:
                    csv.writer(file, lineterminator="\n").writerows([sheet.names, *shown[sheet.name]])
    except OSError as error:
        raise OperatorFault(
            f"cannot be written: {error.strerror}", where=str(path), remedy="name a file you may write"
        ) from error


def write_template(path: Path, zone: dt.tzinfo) -> list[Path]:
    """Write an empty registry whose columns are explained in Portuguese; returns the files written.

    Args:
        path: a workbook (.xlsx, the explanations on its second sheet), one .csv file (one row per UC), or a
            folder for CSV files; with these, the explanations are a text file beside them.
    """
    if path.suffix.lower() == ".xlsx":
        write(path, {}, zone, with_notes=True)
        return [path]
    is_flat = path.suffix.lower() == ".csv"
    notes = path.with_suffix(f".{NOTES}.txt") if is_flat else path / f"{NOTES}.txt"
    try:
        if is_flat:
            path.write_text(",".join(flat_columns()) + "\n", encoding="utf-8")
        else:
            write(path, {}, zone)
        labels = ((label, sheet, name) for sheet, of_sheet, _ in _FLAT for name, label in of_sheet.items())
        notes.write_text(flat_as_text(labels) if is_flat else as_text(), encoding="utf-8")
        return [path, notes]
    except OSError as error:
        raise OperatorFault(
            f"cannot be written: {error.strerror}", where=str(path), remedy="name a file you may write"
        ) from error


def _shown(sheet: Sheet, row: Row, zone: dt.tzinfo) -> list[str]:
    """Canonical times are UTC; people read market time."""
    cells = []
    for column, value in zip(sheet.columns, row, strict=True):
        if value and column.kind == "time":
            value = dt.datetime.fromisoformat(value).astimezone(zone).isoformat(" ")
        cells.append(value or "")
    return cells


def _write_workbook(path: Path, shown: Mapping[str, Sequence[Sequence[str]]], with_notes: bool) -> None:
    # All cells are text: a spreadsheet takes the zeros off the front of a number.
    octets = io.BytesIO()
    with xlsxwriter.Workbook(octets, {"in_memory": True, "strings_to_numbers": False}) as book:
        bold, text = book.add_format({"bold": True}), book.add_format({"num_format": "@"})
        for sheet in SHEETS:
            page = book.add_worksheet(sheet.name)
            if with_notes and sheet is SHEETS[0]:
                _write_notes(book.add_worksheet(NOTES), bold)
            page.freeze_panes(1, 0)
            page.ignore_errors({"number_stored_as_text": "A1:Z1048576"})
            page.set_column(0, len(sheet.columns) - 1, 20, text)
            for at, column in enumerate(sheet.columns):
                page.write_string(0, at, column.name, bold)
                note = explained(sheet.name, column)
                page.write_comment(0, at, f"{'obrigatória: ' if column.required else ''}{note}")
            for number, row in enumerate(shown[sheet.name], 1):
                for at, cell in enumerate(row):
                    if cell:
                        page.write_string(number, at, cell, text)
    path.write_bytes(octets.getvalue())


def _write_notes(page: xlsxwriter.workbook.Worksheet, bold: xlsxwriter.workbook.Format) -> None:
    page.freeze_panes(1, 0)
    page.set_column(0, 1, 24)
    page.set_column(3, 3, 110)
    for number, row in enumerate((HEADINGS, *explanations())):
        for at, text in enumerate(row):
            # The first row, and the rows that say what a sheet is.
            page.write_string(number, at, text, bold if number == 0 or not row[1] else None)


def _read_csv(path: Path) -> _Grid:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise OperatorFault(
            f"not UTF-8 text (octet {error.start})", where=str(path), remedy="save it as CSV UTF-8"
        ) from error
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    rows: Rows = {}
    # Read as a stream: of the marks that Unicode calls line ends, only CR and LF end a row of CSV.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        for number, row in enumerate(reader, 1):
            rows[number] = {at: Cell(cell) for at, cell in enumerate(row) if cell.strip()}
    except csv.Error as error:
        raise OperatorFault(
            f"not CSV: {error}", where=f"{path.name}, line {reader.line_num}", remedy="save it as CSV UTF-8"
        ) from error
    return _grid(path.name, rows, separator)


def _grid(source: str, rows: Rows, separator: str = "") -> _Grid:
    first = rows.get(1, {})
    heading = [first[at].text.strip() if at in first else "" for at in range(max(first, default=-1) + 1)]
    filled = {
        number: {at: cell._replace(text=cell.text.strip()) for at, cell in row.items()}
        for number, row in sorted(rows.items())
        if number > 1 and row
    }
    return _Grid(source, heading, list(filled), list(filled.values()), separator)


def _named(sheet: Sheet, grid: _Grid, issues: list[Issue]) -> RawSheet:
    known = {column.name: column.name for column in sheet.columns}
    _check_heading(grid, list(known), {c.name for c in sheet.columns if c.required}, issues)
    cells = {name: grid.column(name) for name in known if name in grid.heading}
    return RawSheet(sheet, grid.source, grid.numbers, cells, known, separator=grid.separator)


def _read_flat(grid: _Grid) -> tuple[list[RawSheet], list[Issue]]:
    issues: list[Issue] = []
    _check_heading(grid, flat_columns(), {"uc_code"}, issues)
    if issues:
        return [], issues
    sheets = []
    for name, labels, constants in _FLAT:
        first = next(iter(labels.values()))
        if first not in grid.heading:
            continue
        chosen = [at for at, value in enumerate(grid.column(first)) if value]
        cells: dict[str, list[Cell | None]] = {}
        for column, label in labels.items():
            if label in grid.heading:
                values = grid.column(label)
                cells[column] = [values[at] for at in chosen]
        for column, value in constants.items():
            cells[column] = [Cell(value)] * len(chosen)
        numbers = [grid.numbers[at] for at in chosen]
        sheets.append(
            RawSheet(
                BY_NAME[name], grid.source, numbers, cells, labels, is_flat=True, separator=grid.separator
            )
        )
    return sheets, issues


def _check_heading(grid: _Grid, known: list[str], required: set[str], issues: list[Issue]) -> None:
    for name in grid.heading:
        if name not in known:
            issues.append(Issue(grid.source, 1, name or "(empty)", "unknown column", _nearest(name, known)))
        elif grid.heading.count(name) > 1:
            issues.append(Issue(grid.source, 1, name, "the column comes twice", "keep one of them"))
    for number, row in zip(grid.numbers, grid.rows, strict=True):
        # Typically a decimal comma that nobody quoted: all cells behind it stand in the wrong column.
        if max(row) >= len(grid.heading):
            issues.append(
                Issue(
                    grid.source, number, None, f"{max(row) + 1} cells for {len(grid.heading)} headings",
                    "a cell with the separator in it needs quotes" if grid.separator
                    else "cells without a heading are not read: delete them, or give them one",
                    is_warning=not grid.separator,
                )
            )  # fmt: skip
    for name in sorted(required - set(grid.heading)):
        issues.append(Issue(grid.source, 1, name, "the column is missing", f"columns are {', '.join(known)}"))


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
