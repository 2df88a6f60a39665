"""`smf status`, `smf series` and `smf find` as a person types them, in processes of their own."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Protocol

import polars as pl
import pytest

from derivation.run import derive
from storage.database import Database
from tests.derivation.world import AGENT, DAY, NOW, Point, add_points, curve, put_readings, with_gap
from tests.pipelines.cli.command import smf

AS_OF = "2026-11-21T06:00"


class Run(Protocol):
    def __call__(self, *words: str, expect: int = 0, **variables: str) -> str: ...


@pytest.fixture
def points(embedded_db: Database) -> list[Point]:
    """Of four UCs one was not read, one has a short gap, one was suspended the day before."""
    with embedded_db.connect() as conn:
        made = add_points(conn, 4)
        suspended = made[3]
        conn.execute(
            "UPDATE uc SET name = 'Condomínio São João', aliases = '{0000999}' WHERE id = %s", [made[0].uc_id]
        )
        conn.execute(
            "UPDATE uc_status SET valid = '[2026-01-01,2026-11-20)' WHERE uc_id = %s", [suspended.uc_id]
        )
        conn.execute(
            "INSERT INTO uc_status (uc_id, valid, status) VALUES (%s, '[2026-11-20,)', 'suspended')",
            [suspended.uc_id],
        )
    days = [(point.meter_id, DAY, curve(1)) for point in (made[0], suspended)]
    days.append((made[1].meter_id, DAY, with_gap(curve(1), 120, 121)))
    put_readings(embedded_db, days)
    derive(embedded_db, DAY, DAY, as_of=NOW, run_id="r")
    return made


@pytest.fixture
def run(embedded_db: Database, points: list[Point], tmp_path: Path) -> Run:
    def go(*words: str, expect: int = 0, **variables: str) -> str:
        done = smf(*words, url=embedded_db.url, cwd=tmp_path, **variables)
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + (done.stderr if expect > 1 else "")

    return go


@pytest.mark.req("TR-2d", "TR-2g", "TR-5.2")
class TestStatus:
    def test_it_says_why_who_acts_and_by_when(self, run: Run, points: list[Point]) -> None:
        shown = run("status", "--day", str(DAY), "--as-of", AS_OF, expect=1)
        lines = [line.strip() for line in shown.splitlines()]
        assert "CCEE lacks 3 of 3 UCs." in lines
        assert "points read: 3 of 4" in lines
        assert "Ready, not delivered to CCEE (not_delivered): 2" in lines
        assert f"{points[0].uc_code}  Condomínio São João  agent {AGENT}" in lines
        waits = lines.index(
            "operator, by 2026-12-08: Send it (smf ccee deliver) and look at the answer in the ledger"
        )
        assert lines[waits + 1].startswith(points[0].uc_code)
        assert any(line.startswith(f"{points[2].uc_code}  UC 3") and "288 missing" in line for line in lines)
        suspended = lines.index("UC suspended: nothing is sent (suspended): 1")
        assert lines[suspended + 1].startswith("nobody")
        assert lines[suspended + 2].startswith(points[3].uc_code)

    def test_csv_and_json_have_every_uc_with_the_same_figures(self, run: Run, points: list[Point]) -> None:
        rows = list(csv.DictReader(io.StringIO(run("status", "--as-of", AS_OF, "--csv", expect=1))))
        assert [row["UC"] for row in rows] == [point.uc_code for point in points]
        document = json.loads(run("status", "--as-of", AS_OF, "--json", expect=1))
        assert document["day"] == str(DAY), "the last day that is over at that moment"
        by_code = {uc["uc_code"]: uc for uc in document["ucs"]}
        for row in rows[:3]:
            uc = by_code[row["UC"]]
            assert (row["energy, kWh"], row["what to do"]) == (uc["energy_kwh"], uc["remedy_en"])
        energy_kwh = sum(round(pulse * 9 * 1000 / 1250 + 1e-9) for pulse in curve(1)) / 1000
        assert Decimal(by_code[points[0].uc_code]["energy_kwh"]) == Decimal(str(energy_kwh))
        assert by_code[points[1].uc_code]["intervals"]["estimated"] == 2
        assert document["waiting"] == [points[0].uc_code, points[1].uc_code, points[2].uc_code]

    def test_portuguese_by_setting_on_eighty_columns_keeps_keys(self, run: Run, points: list[Point]) -> None:
        shown = run("status", "--as-of", AS_OF, expect=1, SMF_LANG="pt", COLUMNS="80")
        assert "Faltam 3 de 3 UCs na CCEE." in shown
        assert "Pronto, não entregue à CCEE (not_delivered): 2" in shown
        for point in points:
            assert point.uc_code in shown
        assert "…" not in shown

    def test_files_hold_all_tables(self, run: Run, points: list[Point], tmp_path: Path) -> None:
        run("status", "--as-of", AS_OF, "--xlsx", "s.xlsx", "--html", "s.html", expect=1)
        page = (tmp_path / "s.html").read_text()
        assert all(point.uc_code in page for point in points)
        assert "xl/worksheets/sheet1.xml" in zipfile.ZipFile(tmp_path / "s.xlsx").namelist()
        sheet = pl.read_excel(tmp_path / "s.xlsx", sheet_name="UCs", engine="calamine")
        assert sheet["UC"].to_list() == [point.uc_code for point in points]

    def test_an_unknown_agent_or_ending_says_what_to_do(self, run: Run) -> None:
        assert f"use one of the registry's: {AGENT}" in run("status", "--agent", "5", expect=11)
        assert "end it in .html, .pdf, .xlsx" in run("status", "--as-of", AS_OF, "--xlsx", "s.ods", expect=11)


@pytest.mark.req("TR-5.6e")
class TestSeries:
    def test_a_day_has_its_energy_and_what_was_not_measured(self, run: Run, points: list[Point]) -> None:
        shown = run("series", points[1].uc_code, str(DAY))
        assert "2026-11-20 10:00" in shown
        assert "inside hour; method inside_hour" in shown
        assert "All was measured." in run("series", points[0].uc_code, str(DAY))
        assert "All was measured." in run("series", "0000999", str(DAY)), "by its old code"
        unread = run("series", points[2].uc_code, str(DAY))
        assert "288  missing" in unread
        assert "xxxx" in unread

    def test_csv_has_every_interval_as_the_export(
        self, run: Run, points: list[Point], tmp_path: Path
    ) -> None:
        uc = points[1].uc_code
        rows = list(csv.DictReader(io.StringIO(run("series", uc, str(DAY), "--csv"))))
        assert len(rows) == 288
        assert [row["origin"] for row in rows[120:122]] == ["estimated", "estimated"]
        run("series", uc, str(DAY), "--file", "one.csv")
        assert list(csv.DictReader((tmp_path / "one.csv").open())) == rows
        run("series", uc, str(DAY), "--file", "one.parquet", "--layer", "primary")
        assert pl.read_parquet(tmp_path / "one.parquet").height == 288

    def test_no_series_an_unknown_uc_and_layer_say_so(self, run: Run, points: list[Point]) -> None:
        assert "no series from 2026-11-01" in run("series", points[0].uc_code, "2026-11-01", expect=1)
        assert "no UC has one of the codes 42" in run("series", "42", str(DAY), expect=11)
        said = run("series", points[0].uc_code, str(DAY), "--layer", "raw", expect=11)
        assert "use one of primary, validated, estimated, adjusted, ccee" in said


@pytest.mark.req("TR-5.6c")
class TestFind:
    @pytest.mark.parametrize(
        "words", [["sao joao"], ["JOÃO", "condom"], ["0000999"], ["0000000001"]], ids=str
    )
    def test_accents_case_order_and_parts_do_not_matter(self, run: Run, words: list[str]) -> None:
        shown = run("find", *words)
        assert "Condomínio São João" in shown
        assert len(shown.splitlines()) == 2

    def test_a_serial_is_found_and_a_slip_is_guessed(self, run: Run, points: list[Point]) -> None:
        document = json.loads(run("find", "00000003", "--json"))
        assert [hit["uc_code"] for hit in document["hits"]] == [points[2].uc_code]
        assert "Did you mean: Condomínio São João" in run("find", "condomino sao joa", expect=1)


@pytest.mark.case("F1")
def test_commands_say_the_same_whatever_style_of_dates_the_server_has(
    embedded_db: Database, run: Run, points: list[Point], tmp_path: Path
) -> None:
    def said() -> list[str]:
        words = ("series", points[1].uc_code, str(DAY), "--csv")
        trace = run("trace", points[1].uc_code, f"{DAY}T10:05", "--json")
        run("registry", "export", "registry")
        sheets = [sheet.read_text() for sheet in sorted((tmp_path / "registry").glob("*.csv"))]
        run("registry", "import", "registry")
        return [run(*words), trace, *sheets]

    before = said()
    with embedded_db.connect(autocommit=True) as conn:
        conn.execute(f"ALTER DATABASE {embedded_db.name} SET datestyle = 'SQL, DMY'")
    assert said() == before
