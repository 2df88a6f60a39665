"""`smf lots`: from CSV to a report, with exit codes for what needs attention."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli.lots import app
from storage.database import Database

pytestmark = pytest.mark.req("CE-lots")

runner = CliRunner()


@pytest.fixture(autouse=True)
def _environment(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMF_DATABASE_URL", db.url)


def run(*words: str, exit_code: int = 0) -> str:
    result = runner.invoke(app, list(words))
    assert result.exit_code == exit_code, result.output
    return result.stdout


def test_import_and_report(tmp_path: Path) -> None:
    lots, failures = tmp_path / "lots.csv", tmp_path / "failures.csv"
    lots.write_text("code;model;size;delivered_on;supplier\nL1;27182;100;2020-01-15;ACME\n")
    rows = "".join(f"L1;{n};2023-06-{n:02d};display;\n" for n in range(1, 4))
    failures.write_text("lot;serial;failed_on;fault;note\n" + rows)
    done = json.loads(run("import", "--lots", str(lots), "--failures", str(failures), "--json"))
    assert (done["lots"], done["failures"], done["rejected"]) == (1, 3, [])
    as_of = ("--as-of", "2023-12-31")
    (report,) = json.loads(run("report", "L1", *as_of, "--json", exit_code=1))
    assert report["is_flagged"]
    assert [year["rate"] for year in report["years"]] == [0, 0, 0, 0.03]
    assert report["years"][3]["liability"] == "above_normal"
    assert "FLAGGED" in run("report", *as_of, exit_code=1)
    assert "in warranty until 2023-01-15" in run("report", "--as-of", "2022-12-31")
    failures.write_text("lot;serial;failed_on;fault;note\nL9;1;2023-06-01;display;\n")
    assert "no lot 'L9'" in run("import", "--failures", str(failures), exit_code=1)
