"""The check of sizes itself: it finds what is too large, and takes a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import house

BODY = "x = 1\n" * 501


def test_long_files_full_folders_and_long_test_names_are_listed(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "long.py").write_text("x = 1\n" * 501)
    (tmp_path / "reasoned.py").write_text(
        '"""A table.\n\nOver 500 lines: one row a code.\n"""\n' + "x = 1\n" * 501
    )
    (tmp_path / "tests" / "test_a.py").write_text(f"def test_{'a' * 66}():\n    pass\n")
    full = [f"full/part_{number}.txt" for number in range(16)]
    listed = house.problems(
        ["long.py", "reasoned.py", "tests/test_a.py", *full, "full/__init__.py"], tmp_path
    )
    assert [line.split(":")[0] for line in listed] == ["full", "long.py", "tests/test_a.py"]


def test_what_only_tests_name_is_listed(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "core.py").write_text(
        "def called():\n    pass\n\n\ndef idle():\n    pass\n\n\nclass Meter:\n"
        "    def rest(self):\n        pass\n\n\n@app.command('go')\ndef go_on():\n"
        "    return Meter(), called()\n"
    )
    (tmp_path / "tests" / "test_core.py").write_text("idle()\nMeter().rest()\n")
    listed = house.unused(["core.py", "tests/test_core.py"], tmp_path)
    assert [line.split(": take")[0] for line in listed] == [
        "core.py:5: nothing names idle",
        "core.py:10: nothing names rest",
    ]


def test_a_vague_name_more_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house, "VAGUE", {"told": 1, "found": 1})
    (tmp_path / "core.py").write_text(
        "def count(told):\n    found = told\n    for found in told:\n        pass\n"
    )
    (line,) = house.vague_names(["core.py"], tmp_path)
    assert line.startswith("variables named found: 2, 1 at most")


def test_the_house_keeps_its_sizes_and_names_all_it_has() -> None:
    files = house.tracked()
    assert house.problems(files) + house.unused(files) + house.vague_names(files) == []
