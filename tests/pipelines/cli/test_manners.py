"""What all commands have in common: mistyped words, tables as CSV, broken commands."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from rich.table import Table

from pipelines.cli import main
from pipelines.cli.whole_tables import WholeConsole, fitted_widths
from tests.pipelines.cli.command import smf

pytestmark = pytest.mark.req("TR-2g")
HASH = "17b58c3a02de97bc61721869a7aedf597c80ab93376b116c8c01c904c60d20b0"


def test_a_mistyped_command_is_guessed(tmp_path: Path) -> None:
    done = smf("stauts", url=None, cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean smf status?" in done.stderr


def test_a_mistyped_option_is_a_usage_error(tmp_path: Path) -> None:
    done = smf("calendar", "month", "2026-11", "--calender", "x", url=None, cwd=tmp_path)
    assert done.returncode == 2
    assert "--calendar" in done.stderr


def test_any_table_goes_out_as_csv(tmp_path: Path) -> None:
    done = smf("calendar", "month", "2026-11", "--csv", url=None, cwd=tmp_path)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {row["When"] for row in rows} >= {"MS+3du", "MS+7du"}
    assert next(row["Date"] for row in rows if row["When"] == "MS+7du").startswith("2026-12-09")


def test_a_broken_command_ends_with_thirteen_and_its_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipelines.cli.calendar.parse_month", lambda text: 1 // 0)
    assert main(["calendar", "month", "2026-11"]) == 13
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said
    assert "Traceback" in said


def _table(*rows: tuple[str, ...]) -> Table:
    table = Table("UC", "cause", "SHA-256")
    for row in rows:
        table.add_row(*row)
    return table


def _printed(table: Table, width: int) -> str:
    file = io.StringIO()
    WholeConsole(file=file, width=width).print(table)
    return file.getvalue()


def test_words_stay_whole_and_what_is_too_wide_becomes_blocks() -> None:
    row = ("000120000302868", "communication failed at every attempt", HASH)
    assert fitted_widths(_table(row), 120) is not None
    for width in (200, 120, 100, 80, 70):
        shown = _printed(_table(row, row), width)
        assert all(word in shown for cell in row for word in cell.split()), width
    narrow = _printed(_table(row), 80).splitlines()
    assert narrow == [
        "UC       000120000302868",
        "cause    communication failed at every attempt",
        f"SHA-256  {HASH}",
    ]


def test_an_empty_table_says_so() -> None:
    assert _printed(_table(), 80).strip() == "none"
