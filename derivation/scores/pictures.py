"""A score in two pictures: the expected error by method and length, and each gap estimated against measured.

What belongs here: their drawing as SVG, and their files. What does not: the numbers (`scoring`), where the
pictures are shown (assets).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import polars as pl

from derivation.day_picture import INK, RULE, WIDTH, number, round_up
from derivation.scores.scoring import MASKED, NEED_APPROVAL
from vee.scores.classes import ALL, LENGTHS

# Folder below the data folder.
PICTURES = "score_pictures"
LENGTHS_PT = {
    "under_1h": "< 1 h",
    "1h_to_2h": "1 a < 2 h",
    "2h_to_6h": "2 a < 6 h",
    "6h_to_24h": "6 a < 24 h",
    "whole_day": "dia inteiro",
    ALL: "todas",
}
# One hue from light to dark: lengths have an order.
_COLOURS = dict(
    zip([name for name, _ in LENGTHS], ["#A9C4DE", "#7FA6CB", "#5586B5", "#35679A", "#1E446B"], strict=True)
)
# Gaps as they are filled, and as they would be if somebody allowed it.
_DOT, _ASKED = "#35679A", "#B3740A"
_LEFT, _TOP, _BAR, _BETWEEN, _RIGHT = 240, 56, 12, 10, 104
# So many gaps are drawn at most: more are a blot, and a large file.
_MOST_DOTS = 1200
_SQUARE = 360


def store_pictures(run: int, scores: pl.DataFrame, errors: pl.DataFrame, data_dir: Path) -> tuple[Path, Path]:
    """Draw a run into its two files."""
    folder = data_dir / PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    bars, dots = folder / f"{run}-erro.svg", folder / f"{run}-lacunas.svg"
    for path, text in ((bars, error_bars(scores)), (dots, estimated_against_measured(errors))):
        fresh = path.with_suffix(".new")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    return bars, dots


def error_bars(scores: pl.DataFrame) -> str:
    """Mean absolute error by method and length, and where nine of ten gaps end, in percent of the energy."""
    shown = scores.filter(
        pl.col("source") == MASKED,
        pl.col("uc_class") == ALL,
        pl.col("gap_length") != ALL,
        pl.col("mae_share").is_not_null(),
    )
    order = [name for name, _ in LENGTHS]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in sorted(
        shown.iter_rows(named=True),
        key=lambda row: (row["strategy"], row["method"], order.index(row["gap_length"])),
    ):
        groups.setdefault((row["strategy"], row["method"]), []).append(row)
    # What somebody must allow is far off and would flatten all others: it is cut, its number stands beside.
    means = sorted(
        row["mae_share"] for row in shown.iter_rows(named=True) if row["method"] not in NEED_APPROVAL
    )
    top = round_up(100 * max(means[int(0.9 * (len(means) - 1) + 0.5)] * 1.5, 0.001)) if means else 1.0
    height = _TOP + sum(_BAR * len(rows) + _BETWEEN for rows in groups.values()) + 24
    width = WIDTH - _LEFT - _RIGHT

    def x(share: float) -> float:
        return _LEFT + width * min(100 * share / top, 1.0)

    parts = [_head(WIDTH, height), _legend()]
    for quarter in range(5):
        at = _LEFT + width * quarter / 4
        parts.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP - 6}" y2="{height - 20}" stroke="{RULE}"/>'
            f'<text x="{at:.1f}" y="{height - 6}" text-anchor="middle">{number(top * quarter / 4)} %</text>'
        )
    y = float(_TOP)
    for (strategy, method), rows in groups.items():
        middle = y + _BAR * len(rows) / 2 + 4
        parts.append(
            f'<text x="{_LEFT - 8}" y="{middle:.1f}" text-anchor="end">{escape(strategy)} '
            f'<tspan font-weight="bold">{escape(method)}</tspan></text>'
        )
        for row in rows:
            end, ninth = x(row["mae_share"]), x(row["p90_share"] or 0.0)
            parts.append(
                f'<rect x="{_LEFT}" y="{y + 1:.1f}" width="{max(end - _LEFT, 0.5):.1f}" height="{_BAR - 2}" '
                f'fill="{_COLOURS[row["gap_length"]]}"/>'
                f'<line x1="{ninth:.1f}" x2="{ninth:.1f}" y1="{y + 1:.1f}" y2="{y + _BAR - 1:.1f}" '
                f'stroke="{INK}" stroke-width="1.5"/>'
                f'<text x="{max(end, ninth) + 5:.1f}" y="{y + _BAR - 2:.1f}" font-size="9">'
                f"{number(round(100 * row['mae_share'], 1))} % · n {row['gaps']}</text>"
            )
            y += _BAR
        y += _BETWEEN
    return "".join([*parts, "</svg>"])


def _legend() -> str:
    texts = [
        f'<text x="{_LEFT}" y="14" font-weight="bold">Erro médio por método e duração da lacuna</text>',
        f'<text x="{_LEFT}" y="46" font-size="9">barra: erro médio; traço: nove de cada dez lacunas erram '
        "menos</text>",
    ]
    at = float(_LEFT)
    for name, colour in _COLOURS.items():
        words = LENGTHS_PT[name]
        texts.append(
            f'<rect x="{at:.0f}" y="22" width="12" height="10" fill="{colour}"/>'
            f'<text x="{at + 16:.0f}" y="31">{escape(words)}</text>'
        )
        at += 36 + 6.2 * len(words)
    return "".join(texts)


def estimated_against_measured(errors: pl.DataFrame) -> str:
    """Each gap as a dot on logarithmic axes; on the diagonal the estimate is what was measured."""
    found = errors.filter(pl.col("estimated_kwh") > 0, pl.col("measured_kwh") > 0)
    found = found.gather_every(max(1, -(-found.height // _MOST_DOTS)))
    both = [*found["estimated_kwh"].to_list(), *found["measured_kwh"].to_list()] or [1.0]
    low, high = math.floor(math.log10(min(both))), math.ceil(math.log10(max(both)))
    high = max(high, low + 1)
    left, top = 62, 30
    width, height = left + _SQUARE + 190, top + _SQUARE + 46

    def place(kwh: float) -> float:
        return _SQUARE * (math.log10(kwh) - low) / (high - low)

    parts = [
        _head(width, height),
        f'<text x="{left}" y="14" font-weight="bold">Estimado contra medido, kWh por lacuna</text>',
    ]
    for power in range(low, high + 1):
        at = place(10.0**power)
        label = number(10.0**power) if power >= 0 else f"{10.0**power:g}".replace(".", ",")
        parts.append(
            f'<line x1="{left}" x2="{left + _SQUARE}" y1="{top + _SQUARE - at:.1f}" '
            f'y2="{top + _SQUARE - at:.1f}" stroke="{RULE}"/>'
            f'<line x1="{left + at:.1f}" x2="{left + at:.1f}" y1="{top}" y2="{top + _SQUARE}" '
            f'stroke="{RULE}"/>'
            f'<text x="{left - 6}" y="{top + _SQUARE - at + 4:.1f}" text-anchor="end">{label}</text>'
            f'<text x="{left + at:.1f}" y="{top + _SQUARE + 16}" text-anchor="middle">{label}</text>'
        )
    parts.append(
        f'<line x1="{left}" y1="{top + _SQUARE}" x2="{left + _SQUARE}" y2="{top}" stroke="{INK}" '
        'stroke-dasharray="4 3"/>'
    )
    is_asked = pl.col("method").is_in(list(NEED_APPROVAL))
    for line, (which, colour, words) in enumerate(
        [(~is_asked, _DOT, "estimado"), (is_asked, _ASKED, "estimado, se aprovado")]
    ):
        pairs = found.filter(which).select("measured_kwh", "estimated_kwh").rows()
        if pairs:
            y = top + 10 + 18 * line
            parts.append(
                f'<rect x="{left + _SQUARE + 16}" y="{y - 8}" width="10" height="10" fill="{colour}"/>'
                f'<text x="{left + _SQUARE + 32}" y="{y + 1}">{words}</text>'
            )
        parts += _dots(pairs, colour, left, top, place)
    parts.append(
        f'<text x="{left + _SQUARE / 2:.0f}" y="{height - 8}" text-anchor="middle">medido</text>'
        f'<text x="14" y="{top + _SQUARE / 2:.0f}" text-anchor="middle" '
        f'transform="rotate(-90 14 {top + _SQUARE / 2:.0f})">estimado</text></svg>'
    )
    return "".join(parts)


def _dots(pairs: Sequence[tuple[float, float]], colour: str, left: int, top: int, place: Any) -> list[str]:
    return [
        f'<circle cx="{left + place(measured):.1f}" cy="{top + _SQUARE - place(estimated):.1f}" r="2.2" '
        f'fill="{colour}" fill-opacity="0.45"/>'
        for measured, estimated in pairs
    ]


def _head(width: int, height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="11" fill="{INK}">'
        f'<rect width="{width}" height="{height}" fill="#FFFFFF"/>'
    )
