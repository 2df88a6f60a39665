"""CSV files of pulses and kWh into the readings, as `smf import pulses` takes them: used, held or refused."""

from __future__ import annotations

import json
from datetime import datetime, time, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from storage.database import Database
from tests.derivation.world import DAY, curve
from tests.exchange.registered import CODE, SHEETS, load, query
from tests.pipelines.cli.command import smf

pytestmark = [pytest.mark.slow, pytest.mark.req("TR-2b", "X-acquire")]

SERIAL = "00000001"
OWN = """
name = "mine"
separator = ","
decimal = "."
meter = "medidor"
time = "inicio"
time_is = "start"
time_format = "%d/%m/%Y %H:%M"
constant = "constante"

[[value]]
column = "pulsos"

[[value]]
column = "kvarh"
channel = 2
quantity = 10
"""


def ends(minutes: int = 5) -> list[datetime]:
    count = 1440 // minutes
    return [datetime.combine(DAY, time()) + timedelta(minutes=minutes * (slot + 1)) for slot in range(count)]


def lines(values: list[Any], times: list[datetime] | None = None, meter: str = SERIAL) -> list[str]:
    return [f"{meter};{at.isoformat()};{value}" for at, value in zip(times or ends(), values, strict=True)]


def imported(db: Database, folder: Path, rows: list[str], *words: str, heading: str = "") -> tuple[int, Any]:
    text = "\n".join([heading or "meter_serial;interval_end;pulses", *rows])
    (folder / "p.csv").write_text(text, encoding="utf-8")
    done = smf("import", "pulses", "p.csv", "--json", *words, url=db.url, cwd=folder)
    return done.returncode, json.loads(done.stdout)


def stored(db: Database, channel: int = 1) -> list[Any]:
    return query(db, "SELECT day, interval_s, pulses FROM reading_day WHERE channel = %s", channel)


def reasons(results: list[dict[str, Any]]) -> list[str]:
    return [one["reason"] for result in results for one in result["quarantined"]]


@pytest.fixture
def db(embedded_db: Database, tmp_path: Path) -> Database:
    load(embedded_db, tmp_path, SHEETS)
    return embedded_db


def test_a_day_of_pulses_is_taken_once_and_traced_to_its_line(db: Database, tmp_path: Path) -> None:
    assert imported(db, tmp_path, lines(curve(1)))[0] == 0
    assert stored(db) == [(DAY, 300, curve(1))]
    code, (again,) = imported(db, tmp_path, lines(curve(1)))
    assert (code, again["state"]) == (0, "known")
    ((statement,),) = query(db, "SELECT statement FROM session")
    # The file states no constant, and says so rather than pass the check.
    assert any("cannot be checked" in one["reason"] for one in statement["decisions"])


def test_kwh_is_exact_in_pulses_of_the_registry_or_not_taken(db: Database, tmp_path: Path) -> None:
    ((num, den),) = query(db, "SELECT pulse_energy_num, pulse_energy_den FROM installation LIMIT 1")
    heading, constant = "uc_code;interval_end;active_energy_kwh", Fraction(num, den)
    kwh = [f"{float(constant * value):.6f}".replace(".", ",") for value in curve(1)]
    kwh[7] = f"{float(constant / 2):.6f}".replace(".", ",")  # half a pulse
    code, results = imported(db, tmp_path, lines(kwh, meter=CODE), "--layout", "kwh", heading=heading)
    expected: list[int | None] = list(curve(1))
    expected[7] = None
    assert (code, stored(db)) == (1, [(DAY, 300, expected)])
    assert [one for one in reasons(results) if "no whole number of pulses" in one]


def test_what_a_line_cannot_say_is_quarantined_with_its_line(db: Database, tmp_path: Path) -> None:
    values: list[Any] = list(curve(1))
    values[3], values[4], values[5] = "", "1.000", -4
    rows = lines(values)
    rows.append(rows[10].rsplit(";", 1)[0] + ";1")  # another count for one interval
    rows[20] = rows[20].replace(":00;", ":07;")
    rows += [f"99999999;{ends()[0].isoformat()};5", "x;y"]
    code, results = imported(db, tmp_path, rows)

    assert code == 11
    expected: list[int | None] = list(curve(1))
    for slot in (3, 4, 5, 10, 20):
        expected[slot] = None
    assert stored(db) == [(DAY, 300, expected)]
    told = " | ".join(reasons(results))
    for words in ("is empty: missing", "'1.000' is no number", "out of range", "that differ", "off the grid"):
        assert words in told, words
    refused = [result["error"]["message"] for result in results if result["state"] == "refused"]
    assert [("99999999" in one, "1 lines name no meter" in one) for one in refused] == [
        (False, True), (True, False),
    ]  # fmt: skip
    ((detail,),) = query(db, "SELECT detail FROM quarantine WHERE reason LIKE '%%is empty%%'")
    assert detail["lines"] == [5]


def test_another_length_and_another_constant_are_held(db: Database, tmp_path: Path) -> None:
    code, _ = imported(db, tmp_path, lines([3] * 96, ends(15)))
    assert (code, stored(db)) == (1, [])
    assert query(db, "SELECT rule, reason FROM reading_hold") == [("V11", "interval")]

    (tmp_path / "mine.toml").write_text(OWN, encoding="utf-8")
    rows = [
        f"{SERIAL},{(at - timedelta(minutes=5)):%d/%m/%Y %H:%M},{value},2,9.5"
        for at, value in zip(ends(), curve(1), strict=True)
    ]
    code, results = imported(
        db, tmp_path, rows, "--layout", "mine.toml", heading="medidor,inicio,pulsos,kvarh,constante"
    )
    assert (code, results[0]["held"]) == (1, 1)
    assert ("V11", "constant") in query(db, "SELECT rule, reason FROM reading_hold")
    assert stored(db) == []
    assert stored(db, 2) == [(DAY, 300, [2] * 288)]


@pytest.mark.parametrize(
    ("heading", "words"),
    [("a;b", "no column meter_serial"), ("meter_serial;interval_end;pulses;pulses", "pulses twice")],
)
def test_a_file_of_another_layout_names_its_headings(
    db: Database, tmp_path: Path, heading: str, words: str
) -> None:
    code, (result,) = imported(db, tmp_path, ["1;2;3"], heading=heading)
    assert (code, words in result["error"]["message"]) == (11, True)
    assert query(db, "SELECT count(*) FROM session") == [(0,)]
