"""The conformance plugin itself: marks become rows, wrong ids stop the run, a hole in CI is a failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import conformance

ROOT = Path(conformance.__file__).parent.parent


def run_pytest(folder: Path, body: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one file of tests in a fresh pytest that has the plugin."""
    (folder / "test_probe.py").write_text(body)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = req(*ids): x\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conformance", str(folder)]
    return subprocess.run(
        command,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_requirement_text_is_present_once() -> None:
    rows = conformance.read_requirements()
    assert len({row[0] for row in rows}) == len(rows)
    assert all(text for _, _, text in rows)
    assert {"TR-2a", "TR-5.9a", "TR-5.9m", "CE-A-test", "X-trace"} <= {row[0] for row in rows}


@pytest.mark.req("X-conf")
def test_table_lists_each_test_once_and_keeps_unproven_items() -> None:
    page = conformance.render({"TR-2a": {"tests/vee/test_a.py::test_x", "tests/ccee/test_b.py::test_y"}})
    row = next(line for line in page.splitlines() if line.startswith("| TR-2a |"))
    assert "`ccee/test_b.py::test_y`<br>`vee/test_a.py::test_x`" in row
    unproven = next(line for line in page.splitlines() if line.startswith("| X-scale |"))
    assert "sem teste" in unproven


@pytest.mark.req("X-conf")
def test_each_item_says_whether_it_is_whole_and_what_is_missing() -> None:
    states = conformance.read_states()
    assert set(states) == {row[0] for row in conformance.read_requirements()}
    page = conformance.render({"X-conf": {"tests/docs/test_a.py::test_x"}, "X-score": {"tests/a.py::test_y"}})
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in page.splitlines()}
    assert "| inteiro |  |" in lines["X-conf"]
    # A test begins what nobody has claimed yet; without one, nothing is claimed.
    assert "| em parte | O erro esperado" in lines["X-score"]
    assert "ainda não (sem teste)" in lines["TR-2a"]
    assert "X-sim" in conformance.unproven_claims({})


def test_a_mark_on_a_rule_called_by_hand_is_refused() -> None:
    class Item:
        nodeid = "tests/vee/test_a.py::test_b"

        def iter_markers(self, name: str) -> list[pytest.Mark]:
            return [pytest.mark.req("TR-2b").mark]

    with pytest.raises(pytest.UsageError, match="by hand"):
        conformance.requirements_of([Item()])  # type: ignore[list-item]


@pytest.mark.req("X-conf")
def test_unknown_id_stops_the_run(tmp_path: Path) -> None:
    body = "import pytest\n@pytest.mark.req('TR-99z')\ndef test_a():\n    pass\n"
    result = run_pytest(tmp_path, body)
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "TR-99z" in result.stderr


@pytest.mark.parametrize(
    ("reason", "environment", "code"),
    [
        ("TimescaleDB not available", {}, 0),
        ("TimescaleDB not available", {"CI": "true"}, 1),
        ("real data absent", {"CI": "true"}, 0),
    ],
)
def test_not_run_is_said_and_fails_in_ci(
    tmp_path: Path, reason: str, environment: dict[str, str], code: int
) -> None:
    body = f"import pytest\ndef test_a():\n    pass\ndef test_b():\n    pytest.skip({reason!r})\n"
    result = run_pytest(tmp_path, body, **environment)
    assert result.returncode == code
    assert f"1 test not run: {reason}" in result.stdout
