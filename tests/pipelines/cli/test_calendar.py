"""`smf calendar` as a user types it."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from pipelines.cli.calendar import app


def smf_calendar(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.mark.req("TR-2d")
def test_the_month_shows_every_milestone() -> None:
    result = smf_calendar("month", "2026-11", "--json")
    assert result.exit_code == 0
    found = orjson.loads(result.stdout)
    dates = {row["label"]: row["date"] for row in found["milestones"]}
    assert (dates["MS+3du"], dates["MS+7du"]) == ("2026-12-03", "2026-12-09")
    assert {
        "M-12du",
        "MS+1du",
        "MS+2du",
        "MS+5du",
        "MS+6du",
        "MS+9du",
        "MS+11du",
        "MS+12du",
        "MS+21du",
    } <= set(dates)
    assert found["calendar"] == "nacional"


@pytest.mark.req("TR-2d")
def test_the_table_is_for_people() -> None:
    result = smf_calendar("month", "2026-11")
    assert result.exit_code == 0
    assert "MS+3du" in result.stdout
    assert "2026-12-09" in result.stdout


@pytest.mark.req("TR-2d")
def test_the_deadline() -> None:
    assert orjson.loads(smf_calendar("deadline", "2025-10", "--json").stdout)["deadline"] == "2025-11-11"
    other = smf_calendar("deadline", "2025-02", "--calendar", "bancario", "--json")
    assert orjson.loads(other.stdout)["deadline"] == "2025-03-13"
    assert "2025-11-11" in smf_calendar("deadline", "2025-10").stdout


def test_a_file_of_ones_own_is_used(tmp_path: Path) -> None:
    path = tmp_path / "ccee.csv"
    path.write_text("calendar,date,name,source\nccee,2026-05-04,Recesso,aviso\n", encoding="utf-8")
    found = orjson.loads(smf_calendar("deadline", "2026-04", "--calendar-file", str(path), "--json").stdout)
    assert (found["calendar"], found["deadline"]) == ("ccee", "2026-05-13")


@pytest.mark.parametrize(
    "words",
    [
        ("2025-13",),
        ("2025-10", "--calendar", "lunar"),
        ("2025-10", "--calendar-file", "absent.csv"),
        ("2050-01",),
    ],
)
def test_a_mistake_is_one_clear_error(words: tuple[str, ...]) -> None:
    result = smf_calendar("deadline", *words, "--json")
    assert result.exit_code == 11
    error = orjson.loads(result.stdout)["error"]
    assert error["message"]
    assert error["remedy"]
