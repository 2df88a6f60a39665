"""The check of sizes itself: it finds what is too large, and takes a reason."""

from __future__ import annotations

from pathlib import Path

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


def test_the_house_keeps_its_sizes() -> None:
    assert house.problems(house.tracked()) == []
