"""What stands in a cell of a spreadsheet, and what of it reaches the registry."""

from __future__ import annotations

import datetime as dt
import zipfile
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter

from exchange.registry_rules import RULES
from faults import OperatorFault
from storage.database import Database
from storage.registry import ImportResult, RegistryFault, load_registry
from storage.registry.cells import Cell, Column, DecimalMark, Doubt, Reading, decimal_mark, parse
from storage.registry.files import flat_columns, write_template
from storage.registry.sheets import SHEETS as SHEETS_OF_REGISTRY
from storage.registry.workbook import read_workbook
from tests.storage.registry_sheets import SHEETS, as_folder, as_workbook

READING = Reading(dt.timezone(dt.timedelta(hours=-3)), DecimalMark(None, "nothing"))
NATIONAL = "001347925802810"
# A row of `installations` as a list, by column.
INSTALLATION = dict(zip(SHEETS["installations"][0], SHEETS["installations"][1], strict=True))


def load(db: Database, path: Path) -> ImportResult:
    return load_registry(db, path, rules=RULES)


def errors(db: Database, path: Path) -> dict[tuple[str, int | None, str | None], str]:
    """What keeps a file from loading: (source, row, column) -> words."""
    with pytest.raises(RegistryFault) as caught:
        load(db, path)
    return {(i.source, i.row, i.column): i.message for i in caught.value.issues if not i.is_warning}


def value(db: Database, query: str) -> Any:
    with db.connect() as conn:
        row = conn.execute(query).fetchone()
        assert row is not None
        return row[0]


def with_cell(sheet: str, column: str, text: str) -> dict[str, list[list[str]]]:
    """SHEETS with another text in the first row of a sheet."""
    heading, first, *rest = SHEETS[sheet]
    named = {**dict(zip(heading, first, strict=True)), column: text}
    return {**SHEETS, sheet: [list(named), list(named.values()), *[[*row] for row in rest]]}


# --- numbers that can be read in two ways (B1) -----------------------------------------------------------


@pytest.mark.case("B1")
@pytest.mark.req("X-preflight")
def test_whole_number_with_a_mark_is_refused(embedded_db: Database, tmp_path: Path) -> None:
    sheets = with_cell("installations", "pulse_energy_den", "1.000")
    found = errors(embedded_db, as_folder(tmp_path / "in", sheets))
    (words,) = found.values()
    assert list(found) == [("installations.csv", 2, "pulse_energy_den")]
    assert "1000 or 1" in words


@pytest.mark.parametrize(
    ("separator", "other", "stored"),
    [
        (",", "80.5", "1.5"),
        (",", "80,5", "1500"),
        (";", "80,25", "1500"),
        (";", "80.25", "1.5"),
        (",", "", "1.5"),
        (";", "", "1500"),
        (";", "1.234.567", "1500"),
        ("\t", "1.234,5", "1500"),
        ("\t", "1,234.5", "1.5"),
    ],
)
def test_decimal_mark_is_the_files_own(
    embedded_db: Database, tmp_path: Path, separator: str, other: str, stored: str
) -> None:
    musd = [
        ["uc_code", "musd_kw", "confirmed_on"],
        [NATIONAL, "1.500", "2026-11-02"],
        ["000001000000471", other, ""],
    ]
    # The other files of the folder have no decimals.
    sheets = {name: rows for name, rows in SHEETS.items() if name not in ("losses", "contracts")}
    path = as_folder(tmp_path / "in", {**sheets, "musd": musd}, separator)
    result = load(embedded_db, path)
    assert str(value(embedded_db, "SELECT trim_scale(musd_kw) FROM uc_musd u JOIN uc ON uc.id = u.uc_id "
                                  f"WHERE uc.code = '{NATIONAL}'")) == stored  # fmt: skip
    assert any("'1.500' is read as " + stored in warning.message for warning in result.warnings)


@pytest.mark.case("B1")
def test_ambiguous_decimal_without_a_sign_says_both_readings(embedded_db: Database, tmp_path: Path) -> None:
    load(embedded_db, as_folder(tmp_path / "in", SHEETS))
    path = as_folder(tmp_path / "tabs", {"musd": [["uc_code", "musd_kw"], [NATIONAL, "1,500"]]}, "\t")
    ((place, words),) = errors(embedded_db, path).items()
    assert place == ("musd.csv", 2, "musd_kw")
    assert "1500 with a decimal point" in words
    assert "1.5 with a decimal comma" in words


def test_text_in_a_workbook_is_as_ambiguous_as_in_a_csv(embedded_db: Database, tmp_path: Path) -> None:
    sheets = {**SHEETS, "musd": [["uc_code", "musd_kw"], [NATIONAL, "1.500"]],
              "contracts": SHEETS["contracts"][:1], "losses": SHEETS["losses"][:1]}  # fmt: skip
    found = errors(embedded_db, as_workbook(tmp_path / "r.xlsx", sheets))
    assert list(found) == [("r.xlsx, sheet musd", 2, "musd_kw")]


def test_signs_that_contradict_each_other_decide_nothing() -> None:
    mark = decimal_mark(["2,5", "2.5"], separator=";")
    assert mark.mark is None
    assert "'2,5'" in mark.sign
    with pytest.raises(ValueError, match="1500"):
        parse(Column("x", "", "decimal"), Cell("1.500"), Reading(dt.UTC, mark))


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("0,500", "0.5"), ("1234.500", "1234.5"), ("1.234,56", "1234.56"), ("1,234.56", "1234.56"),
        ("1.234.567", "1234567"), ("2,5", "2.5"), ("1e3", "1000"), ("-0", "0"),
    ],
)  # fmt: skip
def test_decimals_with_one_reading(text: str, stored: str) -> None:
    assert parse(Column("x", "", "decimal"), Cell(text), READING) == stored


@pytest.mark.parametrize("text", ["1.000", "1,000", "1.234.567", "2.5", "x", "", "1e400", "9" * 25])
def test_what_is_no_whole_number(text: str) -> None:
    with pytest.raises(ValueError, match=r"whole|number|large|measure"):
        parse(Column("x", "", "integer"), Cell(text), READING)


def test_a_decimal_comma_without_quotes_is_named(embedded_db: Database, tmp_path: Path) -> None:
    path = as_folder(tmp_path / "in", SHEETS)
    (path / "musd.csv").write_text(f"uc_code,musd_kw,confirmed_on\n{NATIONAL},150,5,2026-11-02\n")
    found = errors(embedded_db, path)
    assert "4 cells for 3 headings" in found["musd.csv", 2, None]


# --- cells of workbooks (B2, B3, B4) ---------------------------------------------------------------------


def workbook(path: Path, cells: dict[str, dict[str, tuple[Any, str]]]) -> Path:
    """A workbook of SHEETS; `cells`: sheet -> column -> (value of the first row, number format)."""
    with xlsxwriter.Workbook(path) as book:
        for name, rows in SHEETS.items():
            page = book.add_worksheet(name)
            for number, row in enumerate(rows):
                page.write_row(number, 0, row)
            for column, (content, form) in cells.get(name, {}).items():
                at = rows[0].index(column)
                style = book.add_format({"num_format": form})
                if isinstance(content, str) and content.startswith("#"):
                    page.write_formula(1, at, "=NA()", style, content)
                elif isinstance(content, str):
                    page.write_string(1, at, content, style)
                else:
                    page.write_number(1, at, content, style)
    return path


@pytest.mark.case("B2")
@pytest.mark.req("TR-2c")
@pytest.mark.parametrize(
    ("content", "form", "stored"),
    [
        (0.025, "0.0%", "2.5"),
        (0.025, "0%;[Red]-0%", "2.5"),
        (2.5, "0.0", "2.5"),
        (2.5, '0.0"%"', "2.5"),
        ("2,5%", "@", "2.5"),
        (0.1 + 0.2, "General", "0.3"),
    ],
)
def test_percent_is_what_the_cell_shows(
    embedded_db: Database, tmp_path: Path, content: Any, form: str, stored: str
) -> None:
    load(embedded_db, workbook(tmp_path / "r.xlsx", {"losses": {"percent": (content, form)}}))
    assert stored in [
        str(percent)
        for (percent,) in rows(embedded_db, "SELECT trim_scale(percent) FROM point_loss WHERE kind <> 'line'")
    ]


def rows(db: Database, query: str) -> list[tuple[Any, ...]]:
    with db.connect() as conn:
        return conn.execute(query).fetchall()


@pytest.mark.case("B3")
@pytest.mark.parametrize(
    ("sheet", "column", "content", "form", "words"),
    [
        ("musd", "musd_kw", "#N/A", "General", "#N/A"),
        ("ucs", "name", "#REF!", "General", "#REF!"),
        ("status", "valid_from", "#VALUE!", "General", "#VALUE!"),
        ("installations", "pulse_energy_num", "#DIV/0!", "0", "#DIV/0!"),
        ("musd", "musd_kw", 0.15, "0%", "15%"),
        ("musd", "musd_kw", 1500, "0.0,", "thousands"),
        ("musd", "confirmed_on", 46345, "0", "not a date"),
        ("musd", "musd_kw", 46345, "dd/mm/yyyy", "not a number"),
    ],
)  # fmt: skip
def test_cells_that_hold_something_else(
    embedded_db: Database, tmp_path: Path, sheet: str, column: str, content: Any, form: str, words: str
) -> None:
    found = errors(embedded_db, workbook(tmp_path / "r.xlsx", {sheet: {column: (content, form)}}))
    assert words in found[f"r.xlsx, sheet {sheet}", 2, column]


@pytest.mark.parametrize("text", ["#N/A", "#N/D", "#VALOR!", "#####"])
def test_errors_of_a_spreadsheet_in_a_csv(embedded_db: Database, tmp_path: Path, text: str) -> None:
    found = errors(embedded_db, as_folder(tmp_path / "in", with_cell("musd", "musd_kw", text)))
    assert text in found["musd.csv", 2, "musd_kw"]


@pytest.mark.case("B4")
def test_a_number_is_matched_to_the_code_it_was(embedded_db: Database, tmp_path: Path) -> None:
    path = workbook(tmp_path / "r.xlsx", {"ucs": {"code": (1347925802810, "0")},
                                          "points": {"uc_code": (1347925802810, "0")},
                                          "meters": {"serial": (12345, "0")}})  # fmt: skip
    result = load(embedded_db, path)
    assert rows(embedded_db, "SELECT code FROM uc ORDER BY 1") == [("000001000000471",), (NATIONAL,)]
    told = [(w.source, w.row, w.column) for w in result.warnings if NATIONAL in w.message]
    assert told == [("r.xlsx, sheet ucs", 2, "code"), ("r.xlsx, sheet points", 2, "uc_code")]
    assert any("00012345" in warning.message for warning in result.warnings), "installations have it as text"
    again = workbook(tmp_path / "again.xlsx", {"ucs": {"code": (1347925802810, "0")}})
    assert not load(embedded_db, again).has_changes


@pytest.mark.parametrize(
    ("sheet", "column", "content"),
    [("ucs", "code", 1347925802811), ("ucs", "code", 12), ("ucs", "aliases", 77)],
)
def test_a_code_that_cannot_be_told_is_refused(
    embedded_db: Database, tmp_path: Path, sheet: str, column: str, content: int
) -> None:
    found = errors(embedded_db, workbook(tmp_path / "r.xlsx", {sheet: {column: (content, "0")}}))
    assert "zeros at its front are lost" in found[f"r.xlsx, sheet {sheet}", 2, column]


def test_a_csv_that_lost_the_zeros_makes_no_second_uc(embedded_db: Database, tmp_path: Path) -> None:
    load(embedded_db, as_folder(tmp_path / "in", SHEETS))
    later = {"ucs": [SHEETS["ucs"][0], [NATIONAL.lstrip("0"), *SHEETS["ucs"][1][1:]]]}
    found = errors(embedded_db, as_folder(tmp_path / "later", later))
    assert NATIONAL in found["ucs.csv", 2, "code"]


def test_a_formula_without_its_result_is_no_empty_cell(embedded_db: Database, tmp_path: Path) -> None:
    path = as_workbook(tmp_path / "r.xlsx", SHEETS)
    rewrite(path, tmp_path / "f.xlsx", "musd", b'<c r="B2"', b'<c r="B2"><f>1+1</f></c><c r="Z99"')
    assert (
        "without its result" in errors(embedded_db, tmp_path / "f.xlsx")["f.xlsx, sheet musd", 2, "musd_kw"]
    )


def rewrite(path: Path, to: Path, sheet: str, old: bytes, new: bytes) -> None:
    """Copy a workbook with other octets in one sheet."""
    part = f"xl/worksheets/sheet{list(SHEETS).index(sheet) + 1}.xml"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as target:
        for item in source.infolist():
            octets = source.read(item)
            target.writestr(item.filename, octets.replace(old, new, 1) if item.filename == part else octets)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"<worksheet", b"<!DOCTYPE x [<!ENTITY a 'aaaa'>]><worksheet", "entities"),
        (b'r="B2"', b'r="XFE2"', "more cells"),
        (b'r="B2"', b'r="B1048577"', "more cells"),
        (b"</sheetData>", b"", "not a workbook"),
        (b'<c r="B2" t="s"><v>', b'<c r="B2" t="s"><v>99', "not a workbook"),
    ],
)
def test_hostile_workbooks_are_refused(
    embedded_db: Database, tmp_path: Path, old: bytes, new: bytes, words: str
) -> None:
    rewrite(as_workbook(tmp_path / "r.xlsx", SHEETS), tmp_path / "bad.xlsx", "agents", old, new)
    with pytest.raises(OperatorFault, match=words):
        load(embedded_db, tmp_path / "bad.xlsx")


def test_a_workbook_that_unpacks_without_end_is_not_unpacked(embedded_db: Database, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(9):
            archive.writestr(f"xl/{number}.xml", b"0" * 2**26)
    with pytest.raises(OperatorFault, match="unpacks to more than 512 MB"):
        load(embedded_db, tmp_path / "bomb.xlsx")


# --- texts, ends and URLs (B5, B6, B7) -------------------------------------------------------------------


@pytest.mark.case("B5")
@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_marks_that_are_no_line_end_split_no_row(embedded_db: Database, tmp_path: Path, mark: str) -> None:
    name = f"Padaria{mark}São João"
    load(embedded_db, as_folder(tmp_path / "in", with_cell("ucs", "name", name)))
    assert value(embedded_db, f"SELECT name FROM uc WHERE code = '{NATIONAL}'") == name
    again = as_workbook(tmp_path / "again.xlsx", with_cell("ucs", "name", name))
    assert not load(embedded_db, again).has_changes


def test_a_character_no_text_has_is_named(embedded_db: Database, tmp_path: Path) -> None:
    found = errors(embedded_db, as_folder(tmp_path / "in", with_cell("ucs", "name", "Padaria\x00")))
    assert "U+0000" in found["ucs.csv", 2, "name"]


@pytest.mark.case("B6")
@pytest.mark.parametrize(
    "end", ["31/12/9999 23:59:59", "9999-12-31", "31/12/2999", "9999-12-31T23:59:59-03:00"]
)
def test_an_end_out_of_reach_is_open(embedded_db: Database, tmp_path: Path, end: str) -> None:
    heading, first, *_ = SHEETS["installations"]
    sheets = {**SHEETS, "installations": [heading, [*first[:10], end]]}
    result = load(embedded_db, as_folder(tmp_path / "in", sheets))
    assert value(embedded_db, "SELECT upper_inf(valid) FROM installation")
    assert any("never ends" in warning.message for warning in result.warnings)


@pytest.mark.parametrize("start", ["0001-01-01", "31/12/9999 23:59:59", "1899-12-31", "2200-01-01"])
def test_a_start_out_of_reach_is_an_error(embedded_db: Database, tmp_path: Path, start: str) -> None:
    found = errors(embedded_db, as_folder(tmp_path / "in", with_cell("installations", "valid_from", start)))
    assert "out of reach" in found["installations.csv", 2, "valid_from"]


@pytest.mark.case("B7")
@pytest.mark.parametrize(
    "url",
    ["tcp://10.0.0.7", "tcp://10.0.0.7:99999", "tcp://10.0.0.7:0", "htp://x", "tcp://:9000", "serial://",
     "dialin://", "tcp://10.0.0.7:9000?conect_s=3", "tcp://10.0.0.7:9000?baud=fast", "10.0.0.7:9000"],
)  # fmt: skip
def test_a_url_the_collector_would_refuse_is_refused(embedded_db: Database, tmp_path: Path, url: str) -> None:
    assert ("units.csv", 2, "url") in errors(
        embedded_db, as_folder(tmp_path / "in", with_cell("units", "url", url))
    )


def test_an_interpreted_cell_keeps_its_bounds() -> None:
    column = Column("x", "", "decimal", below=100)
    read = parse(column, Cell("1.500"), Reading(dt.UTC, DecimalMark(".", "the test")))
    assert isinstance(read, Doubt)
    with pytest.raises(ValueError, match="less than 100"):
        parse(column, Cell("1.500"), Reading(dt.UTC, DecimalMark(",", "the test")))


# --- the template ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["t.xlsx", "pasta", "t.csv"])
def test_the_template_explains_each_column_and_loads(
    embedded_db: Database, tmp_path: Path, name: str
) -> None:
    written = write_template(tmp_path / name, READING.zone)
    if name == "t.xlsx":
        sheets = read_workbook(tmp_path / name)
        assert list(sheets)[1] == "leia-me"
        told = {
            (row[0].text, row[1].text): row[3].text
            for row in sheets["leia-me"].values()
            if 1 in row and 3 in row
        }
        assert {(sheet.name, column.name) for sheet in SHEETS_OF_REGISTRY for column in sheet.columns} <= set(
            told
        )
        assert "por cento" in told["losses", "percent"]
    else:
        notes = written[1].read_text()
        columns = flat_columns() if name == "t.csv" else ["percent", "pulse_energy_den", "aliases", "sign"]
        assert all(f"  {column}" in notes for column in columns)
    assert not load(embedded_db, tmp_path / name).has_changes
