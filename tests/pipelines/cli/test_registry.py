"""`smf registry` and `smf db` as a person, and as a program, uses them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from storage.database import Database
from storage.migrations.run import newest_revision
from tests.pipelines.cli.command import smf
from tests.storage.registry_sheets import SHEETS, as_folder


def test_template_import_export(embedded_db: Database, tmp_path: Path) -> None:
    url = embedded_db.url
    assert smf("registry", "template", "t.xlsx", url=url, cwd=tmp_path).returncode == 0
    assert smf("registry", "template", "t.csv", url=url, cwd=tmp_path).returncode == 0
    assert "uc_code" in (tmp_path / "t.csv").read_text()
    as_folder(tmp_path / "in", SHEETS)
    checked = smf("registry", "import", "in", "--check", "--json", url=url, cwd=tmp_path)
    assert {s["sheet"]: s["added"] for s in json.loads(checked.stdout)["sheets"]}["losses"] == 3
    loaded = smf("registry", "import", "in", url=url, cwd=tmp_path)
    assert loaded.returncode == 0, loaded.stderr
    assert "losses" in loaded.stdout
    again = smf("registry", "import", "in", url=url, cwd=tmp_path)
    assert "already is as the file says" in again.stdout
    exported = smf("registry", "export", "out.xlsx", "--json", url=url, cwd=tmp_path)
    assert json.loads(exported.stdout)["rows"]["ucs"] == 2


def test_refusal_names_all_places(embedded_db: Database, tmp_path: Path) -> None:
    as_folder(
        tmp_path / "in",
        {
            **SHEETS,
            "estimation": [["uc_code", "strategy"], ["001347925802810", "guess"]],
            "losses": [["point_code", "kind", "percent"], ["P1", "line", "abc"]],
        },
    )
    shown = smf("registry", "import", "in", url=embedded_db.url, cwd=tmp_path)
    assert shown.returncode == 11
    for words in ("estimation.csv", "losses.csv", "percent", "'abc' is not a number", "ccee-pdc-1.8-r1"):
        assert words in shown.stderr
    told = json.loads(smf("registry", "import", "in", "--json", url=embedded_db.url, cwd=tmp_path).stdout)
    assert {(issue["source"], issue["row"], issue["column"]) for issue in told["issues"]} == {
        ("estimation.csv", 2, "strategy"),
        ("losses.csv", 2, "percent"),
    }


@pytest.mark.parametrize("embedded", [True, False])
def test_db_commands(embedded_db: Database, shared_dir: Path, tmp_path: Path, embedded: bool) -> None:
    url = None if embedded else embedded_db.url
    # Of this test alone: it is removed while other workers are at work.
    cwd = shared_dir / f"cli{os.getpid()}"
    cwd.mkdir(exist_ok=True)
    try:
        first = smf("db", "migrate", "--json", url=url, cwd=cwd)
        told = json.loads(first.stdout)
        assert bool(told["applied"]) == embedded, "the test's own database is migrated already"
        assert told["revision"] == newest_revision()
        assert "XDG" not in first.stderr
        assert "Nothing to do" in smf("db", "migrate", url=url, cwd=cwd).stdout
        found = json.loads(smf("db", "status", "--json", url=url, cwd=cwd).stdout)
        assert found["revision"] == found["newest_revision"]
        assert found["rows"]["uc"] == 0
        assert smf("db", "url", url=url, cwd=cwd).stdout.startswith("postgresql://")
    finally:
        subprocess.run(["rm", "-rf", str(cwd)], check=True)


def test_no_server_is_one_message_with_a_remedy(tmp_path: Path) -> None:
    done = smf("db", "status", "--json", url="postgresql://u:pw@127.0.0.1:1/x", cwd=tmp_path)
    assert done.returncode == 10
    error = json.loads(done.stdout)["error"]
    assert error["actor"] == "retry"
    assert error["remedy"]
    assert "pw" not in done.stdout


@pytest.mark.parametrize("name", ["missing/cadastro.xlsx", "missing"], ids=str)
def test_an_export_to_a_folder_that_is_not_there_names_it(
    embedded_db: Database, tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / name
    done = smf("registry", "export", str(target), "--json", url=embedded_db.url, cwd=tmp_path)
    assert done.returncode == 11, done.stderr
    assert json.loads(done.stdout)["error"]["where"].startswith(str(tmp_path / "file"))
