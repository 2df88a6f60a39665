"""`smf calendar` as a user types it."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from pipelines.cli.calendar import app
from pipelines.jobs import closing_month_of
from storage.settings import Settings
from vee.calendars import load_calendars, market_calendars


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


CCEE_LIST = "calendar,date,name,source\nccee,2026-05-04,Recesso,aviso\n"


@pytest.mark.case("E12")
@pytest.mark.req("TR-2d")
@pytest.mark.parametrize("ccee_list", ["", CCEE_LIST])
def test_a_date_counted_back_is_the_earliest_of_all_calendars(tmp_path: Path, ccee_list: str) -> None:
    # Case E12: neither `nacional` nor this list of CCEE's has Carnival (16 and 17 February 2026).
    words = ["month", "2026-03", "--json"]
    if ccee_list:
        (tmp_path / "ccee.csv").write_text(ccee_list, encoding="utf-8")
        words += ["--calendar-file", str(tmp_path / "ccee.csv")]
    rows = {row["code"]: row for row in orjson.loads(smf_calendar(*words).stdout)["milestones"]}
    assert rows["register_in"]["date"] == "2026-02-10"
    assert rows["register_in"]["calendar"] == "earliest of all"
    of_national = orjson.loads(smf_calendar(*words, "--calendar", "nacional").stdout)["milestones"]
    assert {row["code"]: row["date"] for row in of_national}["register_in"] == "2026-02-12"


@pytest.mark.case("E13")
@pytest.mark.req("TR-2d")
def test_ccee_list_is_one_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Case E13: the closing's schedule and the command line know the same list.
    (tmp_path / "ccee.csv").write_text(CCEE_LIST, encoding="utf-8")
    monkeypatch.setenv("SMF_MARKET_CALENDAR_PATH", str(tmp_path / "ccee.csv"))
    assert orjson.loads(smf_calendar("deadline", "2026-04", "--json").stdout)["deadline"] == "2026-05-13"
    known = market_calendars(Settings.load().market)
    assert closing_month_of(date(2026, 5, 15), known) == date(2026, 4, 1)
    assert closing_month_of(date(2026, 5, 15), load_calendars()) is None


def test_nothing_works_by_calendars_of_its_own() -> None:
    root = Path(__file__).parents[3]
    rooms = ("assets", "sensors", "derivation", "closing", "ccee", "audit", "exchange", "pipelines")
    users = {
        str(path.relative_to(root))
        for room in rooms
        for path in (root / room).rglob("*.py")
        if "load_calendars" in path.read_text(encoding="utf-8")
    }
    assert users == {"pipelines/cli/calendar.py"}


def test_other_milestones_are_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = Path(__file__).parents[3] / "vee" / "data" / "milestones.csv"
    text = packaged.read_text(encoding="utf-8").replace("measurement,MS,7,", "measurement,MS,8,")
    (tmp_path / "marcos.csv").write_text(text, encoding="utf-8")
    monkeypatch.setenv("SMF_MARKET_MILESTONES_PATH", str(tmp_path / "marcos.csv"))
    row = orjson.loads(smf_calendar("deadline", "2025-10", "--json").stdout)
    assert (row["label"], row["deadline"]) == ("MS+8du", "2025-11-12")
