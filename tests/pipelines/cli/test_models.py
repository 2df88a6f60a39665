"""The utility's own models file is in force for every `smf` command, whichever looks a profile up."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from protocols.nbr14522.frames import Addressing, wrap_command
from protocols.nbr14522.messages import CurrentParametersRequest
from storage.database import Database
from tests.pipelines.cli.command import smf
from tests.simulator.peers.command import SMF, simulated
from tests.storage.registry_sheets import SHEETS, as_folder

MODELS = """
[models.own-p2]
extends = "p2-generic"
address = 7
[models.own-p2.timing]
max_response_s = 2.0
"""


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder whose smf.toml names a folder of models."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "nbr14522.toml").write_text(MODELS)
    (tmp_path / "smf.toml").write_text(f'[collector]\nmeter_models_path = "{tmp_path / "own"}"\n')
    for name in [name for name in os.environ if name.startswith("SMF_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SMF_CONFIG", str(tmp_path / "smf.toml"))
    return tmp_path


@pytest.mark.req("TR-5.1")
def test_commands_that_look_a_profile_up_know_the_own_models(configured: Path, embedded_db: Database) -> None:
    frame = wrap_command(CurrentParametersRequest().encode("000001"), Addressing.P2, address=7)
    decoded = smf(
        "decode", "nbr14522-command", "--profile", "own-p2", "--hex", frame.hex(), url=None, cwd=configured
    )
    assert decoded.returncode == 0, decoded.stderr
    assert json.loads(decoded.stdout)["code"] == "21"

    listed = smf("command", "list", "--profile", "own-p2", "--json", url=None, cwd=configured)
    assert "31" in {row["command"] for row in json.loads(listed.stdout)}

    models = [["code", "maker", "profile"], ["M", "Fabricante", "own-p2"]]
    as_folder(configured / "in", {**SHEETS, "meter_models": models})
    checked = smf("registry", "import", "in", "--check", "--json", url=embedded_db.url, cwd=configured)
    assert checked.returncode == 0, checked.stdout
    assert {s["sheet"]: s["added"] for s in json.loads(checked.stdout)["sheets"]}["meter_models"] == 1


@pytest.mark.req("TR-5.1", "X-sim")
def test_a_meter_of_an_own_model_is_simulated_and_read(configured: Path) -> None:
    with simulated("--profile", "own-p2", "--serial", "10000007", command=SMF) as told:
        read = smf(
            *("read", "nbr14522", told["url"], "--profile", "own-p2", "--commands", "21", "--json"),
            url=None,
            cwd=configured,
        )
        assert read.returncode == 0, read.stdout + read.stderr
        assert "10000007" in read.stdout


@pytest.mark.req("TR-5.1")
def test_a_wrong_models_file_is_named_and_help_stays(configured: Path) -> None:
    (configured / "own" / "nbr14522.toml").write_text("[models.own-p2]\ncolour = 1\n")
    shown = smf("decode", "nbr14522-command", "--hex", "00", "--json", url=None, cwd=configured)
    assert shown.returncode == 11
    assert "unknown key colour" in json.loads(shown.stdout)["error"]["message"]
    assert smf("decode", "--help", url=None, cwd=configured).returncode == 0
