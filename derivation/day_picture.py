"""A day of all UCs as one picture: the load by where each value comes from, and what is missing below it.

What belongs here: the sums by interval and quality, and their drawing as SVG. What does not: the rows
(`checking.layer_chunks` has all layers; this needs only the last), where the picture is shown (assets).

Sums are floats: they are looked at, never sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt

from derivation.window import Window
from storage.bulk import read_frame
from storage.database import Database
from vee.frames import SeriesMatrix, split_by_slots, to_matrix
from vee.quality import Origin

# Colours, patterns and words of the portal's design, light theme.
_QUALITIES = (
    (Origin.MEASURED, "Medido", "#35679A", None),
    (Origin.BACKUP, "Retaguarda", "#0F7F75", "M0 2H4"),
    (Origin.ESTIMATED, "Estimado", "#B3740A", "M0 4L4 0"),
    (Origin.EDITED, "Editado", "#7A48B8", "M1 1h1"),
)
_MISSING = ("Faltante", "#B3261E")
INK, RULE = "#465364", "#E1E5EA"
# Folder below the data folder.
PICTURES = "day_pictures"
WIDTH, HEIGHT = 760, 260
_LEFT, _TOP, _PLOT_WIDTH, _PLOT_HEIGHT, _BAND = 62, 34, 684, 150, 16
_CHUNK_UCS = 4000

_ROWS = """
    SELECT s.uc_id, s.day, s.denominator, s.numerators, s.origin, s.reason
    FROM series_day s
    WHERE s.day = $1 AND s.quantity = 1 AND s.layer = 5 AND s.uc_id % $2::bigint = $3::bigint
      AND s.uc_id > $4::bigint AND s.uc_id <= $5::bigint
      AND NOT EXISTS (
        SELECT 1 FROM series_day n
        WHERE n.uc_id = s.uc_id AND n.quantity = 1 AND n.layer = 5 AND n.day = s.day AND n.version > s.version
      )
"""
_LAST_UC = "SELECT coalesce(max(id), 0) AS last FROM uc"


@dataclass(frozen=True)
class DayCurve:
    """Energy of all UCs by interval and quality, and how many UCs have no value.

    Attributes:
        energy_kwh: (qualities, slots), in the order of `_QUALITIES`.
        missing: (slots,) UCs without a value.
        ucs: with rows of the day.
    """

    energy_kwh: npt.NDArray[np.float64]
    missing: npt.NDArray[np.int64]
    ucs: int

    @property
    def slots(self) -> int:
        return len(self.missing)


def day_curve(db: Database, window: Window, day: date) -> DayCurve:
    """The series for CCEE of one day, some UCs at a time."""
    total = DayCurve(np.zeros((len(_QUALITIES), 288)), np.zeros(288, dtype=np.int64), 0)
    with db.connect_arrow() as connection:
        last = int(read_frame(connection, _LAST_UC, [])["last"][0])
        for after in range(0, last, _CHUNK_UCS):
            rows = read_frame(
                connection, _ROWS, [day, window.shards, window.shard, after, after + _CHUNK_UCS]
            )
            total = _with(total, (to_matrix(part) for part in split_by_slots(rows)))
    return total


def _with(total: DayCurve, matrices: Iterable[SeriesMatrix]) -> DayCurve:
    for matrix in matrices:
        values = np.where(matrix.known, matrix.numerators, 0) / matrix.denominator[:, None]
        energy = np.stack(
            [np.where(matrix.origin == origin, values, 0.0).sum(axis=0) for origin, *_ in _QUALITIES]
        )
        missing = (~matrix.known).sum(axis=0)
        if total.ucs == 0:
            total = DayCurve(energy, missing, len(matrix))
        elif total.slots == matrix.slots:
            total = DayCurve(total.energy_kwh + energy, total.missing + missing, total.ucs + len(matrix))
        # Rows of other interval lengths in the same day cannot be laid over these; they are few, or none.
    return total


def store_picture(curve: DayCurve, data_dir: Path, window: Window, day: date) -> Path:
    """Draw a day into its file; a shard has its own where there are several."""
    folder = data_dir / PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (f"{day}.svg" if window.shards == 1 else f"{day}-{window.shard}.svg")
    fresh = path.with_suffix(".new")
    fresh.write_text(picture(curve, day), encoding="utf-8")
    fresh.replace(path)
    return path


def picture(curve: DayCurve, day: date) -> str:
    """The day as SVG: stacked load in kW or MW, and a band with the share of UCs without a value."""
    load_kw = curve.energy_kwh * curve.slots / 24
    peak = float(load_kw.sum(axis=0).max(initial=0.0))
    unit, scale = ("MW", 1000.0) if peak >= 10_000 else ("kW", 1.0)
    top = round_up(peak / scale) if peak else 1.0
    step = _PLOT_WIDTH / curve.slots

    def y(value: float) -> float:
        return _TOP + _PLOT_HEIGHT * (1 - value / scale / top)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="sans-serif" font-size="11" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#FFFFFF"/>',
        "<defs>"
        + "".join(
            f'<pattern id="q{origin.value}" width="4" height="4" patternUnits="userSpaceOnUse">'
            f'<rect width="4" height="4" fill="{colour}" fill-opacity="0.25"/>'
            + (f'<path d="{lines}" stroke="{colour}" stroke-width="1.2"/>' if lines else "")
            + "</pattern>"
            for origin, _, colour, lines in _QUALITIES
        )
        + "</defs>",
        _legend(curve, day),
    ]
    for part in range(5):
        level = top * scale * part / 4
        parts.append(
            f'<line x1="{_LEFT}" x2="{_LEFT + _PLOT_WIDTH}" y1="{y(level):.1f}" y2="{y(level):.1f}" '
            f'stroke="{RULE}"/><text x="{_LEFT - 6}" y="{y(level) + 4:.1f}" text-anchor="end">'
            f"{number(level / scale)}</text>"
        )
    parts.append(f'<text x="{_LEFT - 6}" y="{_TOP - 8}" text-anchor="end">{unit}</text>')
    below = np.zeros(curve.slots)
    for index, (origin, *_) in enumerate(_QUALITIES):
        if load_kw[index].any():
            above = below + load_kw[index]
            edge = " ".join(_steps(above, step, y))
            base = " ".join(reversed(list(_steps(below, step, y))))
            parts.append(f'<polygon points="{edge} {base}" fill="url(#q{origin.value})"/>')
            below = above
    if peak:
        line = " ".join(_steps(below, step, y))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{_QUALITIES[0][2]}" stroke-width="1"/>')
    band = _TOP + _PLOT_HEIGHT + 10
    share = curve.missing / max(curve.ucs, 1)
    parts.append(
        f'<text x="{_LEFT - 6}" y="{band + 12}" text-anchor="end">falta</text>'
        f'<rect x="{_LEFT}" y="{band}" width="{_PLOT_WIDTH}" height="{_BAND}" fill="none" '
        f'stroke="{_MISSING[1]}" stroke-dasharray="3 3" stroke-opacity="0.5"/>'
    )
    parts += [
        f'<rect x="{_LEFT + slot * step:.2f}" y="{band}" width="{step + 0.1:.2f}" height="{_BAND}" '
        f'fill="{_MISSING[1]}" fill-opacity="{0.15 + 0.85 * share[slot]:.2f}"/>'
        for slot in np.flatnonzero(share)
    ]
    for hour in range(0, 25, 3):
        x = _LEFT + _PLOT_WIDTH * hour / 24
        parts.append(f'<text x="{x:.1f}" y="{band + _BAND + 16}" text-anchor="middle">{hour:02d}h</text>')
    parts.append("</svg>")
    return "".join(parts)


def _legend(curve: DayCurve, day: date) -> str:
    total = float(curve.energy_kwh.sum())
    texts = [f'<text x="{_LEFT}" y="14" font-weight="bold">{day:%d/%m/%Y} · {curve.ucs} UCs</text>']
    x = _LEFT + 150.0
    for index, (origin, name, colour, _) in enumerate(_QUALITIES):
        energy = float(curve.energy_kwh[index].sum())
        if energy:
            words = f"{name} {number(100 * energy / total)} %"
            texts.append(
                f'<rect x="{x:.0f}" y="5" width="12" height="10" fill="url(#q{origin.value})" '
                f'stroke="{colour}"/>'
                f'<text x="{x + 16:.0f}" y="14">{words}</text>'
            )
            x += 40 + 6.2 * len(words)
    missing = int(curve.missing.sum())
    if missing:
        texts.append(
            f'<rect x="{x:.0f}" y="5" width="12" height="10" fill="none" stroke="{_MISSING[1]}" '
            f'stroke-dasharray="3 2"/><text x="{x + 16:.0f}" y="14">{_MISSING[0]} {missing} intervalos</text>'
        )
    return "".join(texts)


def _steps(values: npt.NDArray[np.float64], step: float, y: Callable[[float], float]) -> Iterable[str]:
    for slot, value in enumerate(values):
        height = y(float(value))
        yield f"{_LEFT + slot * step:.1f},{height:.1f}"
        yield f"{_LEFT + (slot + 1) * step:.1f},{height:.1f}"


def round_up(value: float) -> float:
    """The next 1, 2, 4, 5 or 8 times a power of ten: quarters of it are short numbers."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(power * step for step in (1, 2, 4, 5, 8, 10) if power * step >= value))


def number(value: float) -> str:
    text = f"{value:,.1f}" if value < 100 and value % 1 else f"{value:,.0f}"
    return text.translate(str.maketrans(",.", ".,"))
