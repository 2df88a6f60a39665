"""The way from a file of pulses to CCEE's receipt: every command of the manual's page, run as it stands."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from datetime import datetime, time, timedelta
from pathlib import Path

import pytest

from storage.database import Database
from tests.derivation.world import DAY, curve
from tests.exchange.registered import CODE, query

PAGE = (Path(__file__).parents[2] / "docs" / "cadastro.md").read_text(encoding="utf-8")
_SMF = [sys.executable, "-c", "import sys; from pipelines.cli import main; sys.exit(main())"]


def commands() -> list[list[str]]:
    lines = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.S) for line in block.splitlines()]
    return [line.split()[1:] for line in lines]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the page's registry and a file of pulses that another system had."""
    made = tmp_path / "work"
    made.mkdir()
    (table,) = re.findall(r"```csv\n(.*?)```", PAGE, re.S)
    (made / "cadastro.csv").write_text(table, encoding="utf-8")
    midnight = datetime.combine(DAY, time())
    ends = [midnight + timedelta(minutes=5 * (slot + 1)) for slot in range(288)]
    rows = [f"00000001;{end.isoformat()};{pulses}" for end, pulses in zip(ends, curve(1), strict=True)]
    (made / "pulsos.csv").write_text("\n".join(["meter_serial;interval_end;pulses", *rows]), encoding="utf-8")
    return made


@pytest.mark.req("TR-5.2", "X-preflight", "TR-2g")
def test_every_command_of_the_page_works_in_order(embedded_db: Database, folder: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SMF_")},
        "SMF_DATABASE_URL": embedded_db.url, "SMF_DATA_DIR": str(folder),
        "SMF_AGENT_4711_CLIENT_ID": "CONCESSIONARIA_4711", "SMF_AGENT_4711_CLIENT_SECRET": "standin",
        "COLUMNS": "200",
    }  # fmt: skip
    standin = None
    shown: dict[str, str] = {}
    try:
        for words in commands():
            if words[:2] == ["ccee", "standin"]:
                standin = subprocess.Popen(
                    [*_SMF, *words, "--port", "0", "--json"], env=environment, cwd=folder,
                    stdout=subprocess.PIPE, text=True,
                )  # fmt: skip
                assert standin.stdout is not None
                told = ""
                while not told.rstrip().endswith("}"):
                    line = standin.stdout.readline()
                    assert line, "the stand-in ended"
                    told += line
                environment["SMF_CCEE_BASE_URL"] = json.loads(told)["base_url"]
                continue
            done = subprocess.run(
                [*_SMF, *words], env=environment, cwd=folder, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"smf {' '.join(words)}\n{done.stdout}\n{done.stderr}"
            shown[" ".join(words[:2])] = done.stdout
    finally:
        if standin is not None:
            standin.send_signal(signal.SIGTERM)
            assert standin.wait(60) == 0
    assert "1 accepted" in shown["ccee deliver"]
    assert CODE in shown["ccee ledger"]
    assert "0 blocks, 0 attention, 0 info" in shown["registry check"]
    assert query(embedded_db, "SELECT state FROM submission_state") == [("aceito",)]
