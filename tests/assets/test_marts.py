"""Where dbt works for a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets.marts import target_folder


def test_dbt_gets_a_place_that_does_not_depend_on_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert target_folder(Path("data"), "run", 3) == tmp_path / "data" / "dbt" / "run-3"
