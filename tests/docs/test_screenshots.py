"""The manuals' pictures show the pages as they are."""

from __future__ import annotations

import pytest

from tests import screenshots


@pytest.mark.req("TR-5.2")
def test_pictures_are_of_the_pages_of_today() -> None:
    assert screenshots.stale() == [], "make screenshots"


def test_a_changed_page_makes_them_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(screenshots.SHOTS, "dagster_inicio", ("dagster", "/overview", "runs"))
    assert screenshots.stale() == ["the pages have changed since the pictures were made"]
