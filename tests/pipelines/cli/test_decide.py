"""`smf queue`, `smf decide`, `smf edit` as an analyst types them, in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from derivation.run import derive
from storage.database import Database
from tests.derivation.world import DAY, NOW, Point, add_points, curve, put_readings


@pytest.fixture
def point(embedded_db: Database) -> Point:
    with embedded_db.connect() as conn:
        point = add_points(conn, 1)[0]
    other = list(curve(1))
    other[100] = (other[100] or 0) + 7
    put_readings(embedded_db, [(point.meter_id, DAY, curve(1))])
    put_readings(embedded_db, [(point.meter_id, DAY, other)])
    derive(embedded_db, DAY, DAY, as_of=NOW, run_id="test")
    return point


@pytest.fixture
def smf(embedded_db: Database, tmp_path: Path):
    def run(*words: str, expect: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-c", "import sys; from pipelines.cli import main; sys.exit(main())", *words],
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(tmp_path),
                "LOGNAME": "ana",
                "SMF_DATABASE_URL": embedded_db.url,
                "SMF_DATA_DIR": str(tmp_path),
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.req("TR-2b", "X-decide")
def test_an_analyst_works_the_queue_to_its_end(point: Point, smf) -> None:
    (row,) = json.loads(smf("queue", "--json", expect=1))["rows"]
    assert point.uc_code in smf("queue", "--rule", "V03", expect=1)
    assert "nothing waits" in smf("queue", "--rule", "V07")

    key = row["key"]
    assert "sent to CCEE as version 1" in smf("decide", "choose", key, "--take", "refused", "--preview")
    assert "in_force" in smf("decide", "choose", key, "--take", "refused", "--why", "the later one is whole")
    assert "nothing waits" in smf("queue")
    shown = smf("decide", "show", "D1")
    assert "the later one is whole" in shown
    assert "asked by ana" in shown
    assert "undone" in smf("decide", "undo", "D1", "--why", "it was not")
    assert json.loads(smf("queue", "--json", expect=1))["waiting"] == 1


@pytest.mark.req("X-decide")
def test_an_edit_above_the_limit_needs_somebody_else(point: Point, smf) -> None:
    day = str(DAY)
    smf("edit", "set", point.uc_code, day, "--each", "0.1", "--why", "the test bench ran", "--as", "ana")
    assert "D1" in smf("queue", expect=1)
    smf("decide", "agree", "D1", "--as", "ana", expect=11)
    assert "in_force" in smf("decide", "agree", "D1", "--as", "bruno", "--why", "checked")
    rows = json.loads(smf("decide", "list", "--uc", point.uc_code, "--json"))
    assert [(row["kind"], row["asked_by"], row["answered_by"]) for row in rows] == [("set", "ana", "bruno")]


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (["decide", "accept", "H1", "--why", "x"], "H1"),
        (["decide", "accept", "S99", "--why", "x"], "S99"),
        (["decide", "release", "H99", "--why", "x"], "H99"),
        (["decide", "choose", "Q99", "--take", "kept", "--why", "x"], "Q99"),
        (["edit", "set", "0000000001", "2026-11-20", "--each", "1", "--total", "2"], "--each, --total"),
        (["edit", "set", "0000000001", "2026-11-20", "--each", "1"], "--why"),
        (["edit", "set", "99", "2026-11-20", "--each", "1"], "UC"),
        (["edit", "estimate", "0000000001", "2026-11-20", "--strategy", "guess"], "--strategy"),
    ],
)
def test_what_cannot_be_decided_says_where_and_what_to_do(
    point: Point, smf, words: list[str], where: str
) -> None:
    error = json.loads(smf(*words, "--json", expect=11))["error"]
    assert (error["where"], bool(error["remedy"])) == (where, True)
