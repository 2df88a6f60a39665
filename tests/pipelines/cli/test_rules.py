"""`smf rules`: what differs for a UC, checked before it is stored, with its record."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from pipelines.cli.rules import app
from storage.database import Database
from tests.derivation.world import add_points

runner = CliRunner()
UC = "0000000001"
OPERATOR = 11


@pytest.fixture(autouse=True)
def _environment(embedded_db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMF_DATABASE_URL", embedded_db.url)
    with embedded_db.connect() as conn:
        add_points(conn, 1)


def run(*words: str, exit_code: int = 0) -> str:
    result = runner.invoke(app, list(words))
    assert result.exit_code == exit_code, result.output
    return result.output


def set_hours(*more: str, exit_code: int = 0) -> str:
    words = ("set", "V14", "hours", "8", "--why", "bombas", "--from", "2026-11-01", "--as", "ana")
    return run(*words, *more, exit_code=exit_code)


@pytest.mark.req("TR-2b")
def test_an_override_is_set_shown_and_ended(embedded_db: Database) -> None:
    assert json.loads(set_hours("--uc", UC, "--json")) == {"override": 1}
    (entry,) = json.loads(run("list", "V14", "--json"))["overrides"]
    assert (entry["parameter"], entry["value"], entry["scope"]) == ("hours", "8", f"UC {UC}")
    assert "number 1 has hours = 8 in these days" in " ".join(
        set_hours("--uc", UC, exit_code=OPERATOR).split()
    )
    run("end", "1", "--on", "2026-12-01", "--as", "bia")
    set_hours("--subgroup", "A4", "--to", "2026-12-31")
    shown = " ".join(run("list").split())
    assert "bombas" in shown
    assert "subgroup A4" in shown
    with embedded_db.connect() as conn:
        actions = conn.execute("SELECT actor, action, object FROM audit ORDER BY id").fetchall()
        valid = conn.execute("SELECT valid::text FROM rule_override ORDER BY id").fetchall()
    assert actions[:2] == [
        ("ana", "rules.override", f"rule/V14/hours/UC/{UC}"),
        ("bia", "rules.end_override", f"rule/V14/hours/UC/{UC}"),
    ]
    assert valid == [("[2026-11-01,2026-12-01)",), ("[2026-11-01,2026-12-31)",)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("set", "V99", "hours", "8", "--uc", UC), "no rule 'V99'"),
        (("set", "V14", "minutes", "8", "--uc", UC), "no parameter 'minutes'"),
        (("set", "V14", "hours", "many", "--uc", UC), "'many' is not a number"),
        (("set", "V14", "hours", "1", "--uc", UC), "sure_hours 2.0 is above hours 1.0"),
        (("set", "V14", "hours", "8"), "one scope is needed"),
        (("set", "V14", "hours", "8", "--uc", UC, "--agent", "1"), "one scope is needed"),
        (("set", "V14", "hours", "8", "--uc", "9"), "no such UC"),
        (("set", "V14", "hours", "8", "--uc", UC, "--to", "2026-10-01"), "before it begins"),
        (("end", "7", "--on", "2026-10-01"), "no override 7"),
    ],
)
def test_what_is_wrong_is_said_and_not_stored(
    embedded_db: Database, words: tuple[str, ...], message: str
) -> None:
    more = ("--why", "x", "--from", "2026-11-01") if words[0] == "set" else ()
    assert message in " ".join(run(*words, *more, exit_code=OPERATOR).split())
    with embedded_db.connect() as conn:
        assert conn.execute("SELECT count(*) FROM rule_override").fetchone() == (0,)
