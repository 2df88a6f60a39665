"""Pictures of a score: the numbers are in them, at their places, and strange scores do not break them."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import polars as pl

from derivation.scores.pictures import error_bars, estimated_against_measured, store_pictures
from vee.scores.classes import ALL
from vee.scores.errors import ERROR_SCHEMA, SCORE_SCHEMA, scores_of

SVG = "{http://www.w3.org/2000/svg}"


def errors(*pairs: tuple[float, float], method: str = "A", length: str = "2h_to_6h") -> pl.DataFrame:
    rows = [
        (n, None, "chain-<e>", method, length, "under_240_kwh/steady", 48, made, told, abs(made - told))
        for n, (made, told) in enumerate(pairs)
    ]
    return pl.DataFrame(rows, schema=ERROR_SCHEMA, orient="row")


def shown(found: pl.DataFrame) -> pl.DataFrame:
    return scores_of(found).with_columns(source=pl.lit("masked"))


def test_a_bar_is_as_long_as_its_error_and_says_it() -> None:
    found = pl.concat([errors((11, 10)), errors((10.5, 10), method="E4"), errors((10, 10), method="B")])
    root = ElementTree.fromstring(error_bars(shown(found)))
    bars = [one for one in root.iter(f"{SVG}rect") if one.get("x") == "240"]
    widths = [float(one.get("width", "0")) for one in bars if one.get("y") not in ("22", None)]
    # A, B, E4: 10 %, none, 5 %.
    assert widths[0] / widths[2] == 2
    assert widths[1] == 0.5
    texts = [text.text or "" for text in root.iter(f"{SVG}text")]
    assert [text for text in texts if "· n 1" in text] == ["10 % · n 1", "0 % · n 1", "5 % · n 1"]
    assert sum("chain-<e>" in text for text in texts) == 3


def test_a_dot_lies_on_the_diagonal_where_the_estimate_is_right() -> None:
    root = ElementTree.fromstring(estimated_against_measured(errors((10, 10), (100, 10), (0, 5))))
    dots = [(float(one.get("cx", "0")), float(one.get("cy", "0"))) for one in root.iter(f"{SVG}circle")]
    assert len(dots) == 2, "a gap without energy has no place on a logarithmic axis"
    (right, high) = dots
    assert right[0] - 62 == 30 + 360 - right[1]
    assert high[1] < right[1]


def test_nothing_scored_and_no_energy_are_drawn_as_empty(tmp_path: Path) -> None:
    nothing = pl.DataFrame(schema={**SCORE_SCHEMA, "source": pl.String()})
    no_energy = errors((0, 0))
    for number, (found, each) in enumerate([(nothing, errors()), (shown(no_energy), no_energy)], start=1):
        for path in store_pictures(number, found, each, tmp_path):
            text = path.read_text(encoding="utf-8")
            ElementTree.fromstring(text)
            assert not re.search(r"nan|inf\b", text)
    row = shown(no_energy).filter(gap_length=ALL, uc_class=ALL).row(0, named=True)
    assert (row["mae_share"], row["p90_share"], row["gaps"]) == (None, None, 1)
