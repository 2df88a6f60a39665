"""Pages for auditors: they say what held and what did not, and load nothing from elsewhere."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from derivation import expectations

GOOD = {
    "uc_code": "001347925802810",
    "day": "2026-11-20",
    "version": 1,
    "denominator": 1000,
    "slots": 288,
    "expected_slots": 288,
    "missing": 0,
    "measured": 280,
    "adjusted": 8,
    "intervals_by_kind": 288,
    "smallest_milli_kwh": 0,
    "energy_milli_kwh": 1_234_567,
    "outcome_milli_kwh": 1_234_567,
}


@pytest.mark.req("X-trace")
def test_a_days_pages_show_each_run_and_need_no_network(tmp_path: Path) -> None:
    folder = expectations.docs_folder(tmp_path, date(2026, 11, 20), 0, 1)
    frame = pl.DataFrame([GOOD], schema=expectations.SCHEMA)
    assert expectations.validate(frame, folder, "first").is_met
    broken = frame.with_columns(missing=pl.lit(3, pl.Int64))
    verdict = expectations.validate(broken, folder, "second")
    assert not verdict.is_met
    assert any("missing" in failed for failed in verdict.failed)
    index = verdict.page.read_text()
    assert index.index("second") < index.index("first")
    assert "Nenhum intervalo sem valor em um dia pronto" in index
    assert "não cumprida" in index
    pages = list(folder.glob("**/*.html"))
    assert len(pages) == 4
    for page in pages:
        text = page.read_text()
        assert "://" not in text, page.name
        assert "<script" not in text
        assert "<img" not in text
    assert not (folder / "static").exists()
