"""Readings that cannot be of this time or channel: V24, a block that was there before; V25, swapped ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np

from vee.frames import Mask
from vee.parameters import bounded
from vee.rules.base import DayRows, Found, NotJudged, RuleParams, rounded
from vee.rules.traits import BLOCKS, block_marks, reactive_ratios, windows


@dataclass(frozen=True)
class RepeatParams(RuleParams):
    """Parameters of V24.

    Attributes:
        slots: so many counts in the same order as elsewhere in the day are a repeat; 12 counts that vary by
            three pulses and more repeat by chance once in some millions of days.
        distinct: of which so many are different: two machines that take turns are a repeat of nothing.
    """

    slots: int = bounded(12, low=6, high=144)
    distinct: int = bounded(6, low=2)


def v24_repeated_block(rows: DayRows, params: RepeatParams) -> Iterator[Found | NotJudged]:
    unknown = np.isnan(rows.plant.pulse_kwh)
    if unknown.any():
        yield NotJudged(unknown, "no_constant")
    mask = rows.none()
    sources: dict[int, dict[str, object]] = {}
    for row, first, origin, length in _within(rows, params):
        mask[row, first : first + length] = True
        sources.setdefault(row, {"of": "day", "first_slot": origin, "slots": length})
    for row, block, day in _of_other_days(rows):
        length = rows.slots // BLOCKS
        part = slice(block * length, (block + 1) * length)
        if len(np.unique(rows.counts[row, part])) >= params.distinct:
            mask[row, part] = True
            sources.setdefault(row, {"of": "other_day", "day": day, "slots": length})
    if mask.any():
        yield Found(
            mask,
            lambda row, first, last: sources[row],
            lambda row, first, last: max(
                abs(rows.energy(row, first, last) - rows.usual(row, first, last)),
                0.01 * rows.energy(row, first, last),
            ),
        )


def _within(rows: DayRows, params: RepeatParams) -> Iterator[tuple[int, int, int, int]]:
    """(row, first slot of the repeat, first slot of what it repeats, slots) of each window that was there."""
    marks, varies = windows(rows.counts, params.slots)
    # What does not vary gets marks of its own, so that it is equal to nothing.
    own = np.arange(marks.shape[1], dtype=np.uint64)
    ordered = np.sort(np.where(varies, marks, own), axis=1)
    repeated = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    for row in np.flatnonzero(repeated).tolist():
        seen: dict[int, int] = {}
        for place in np.flatnonzero(varies[row]).tolist():
            origin = seen.setdefault(int(marks[row, place]), place)
            window = rows.counts[row, place : place + params.slots]
            # A window that overlaps what it repeats is a pattern, not a copy.
            if place - origin >= params.slots and len(np.unique(window)) >= params.distinct:
                yield row, place, origin, params.slots


def _of_other_days(rows: DayRows) -> Iterator[tuple[int, int, date]]:
    """(row, block, day) of each part of the day that an earlier day has as well, at the same hours."""
    known = rows.reference
    if not len(known.marks):
        return
    own = block_marks(rows)
    for place, day in enumerate(known.mark_days):
        same = (known.marks[place] == own) & (own != 0)
        for row, block in np.argwhere(same).tolist():
            yield row, block, day


@dataclass(frozen=True)
class SwapParams(RuleParams):
    """Parameters of V25.

    Attributes:
        times: reactive per active count above the highest similar day by this factor,
        tolerance: and the inverse of the usual one, within this (in logarithms) or what it moves by day,
        level: and as much reactive energy as active energy on similar days, within this factor.
        min_days: similar days wanted; where there are fewer, the last days of any kind.
    """

    times: float = bounded(1.5, low=1)
    tolerance: float = bounded(0.1, low=0)
    level: float = bounded(2.0, low=1)
    min_days: int = bounded(3, low=1)


def v25_swapped_channels(rows: DayRows, params: SwapParams) -> Iterator[Found | NotJudged]:
    """Table `reactive`: see `inputs.REACTIVE_SCHEMA`; what the main meter's reactive channels counted."""
    known = rows.latest
    ratio = reactive_ratios(rows)
    told = ~np.isnan(ratio)
    if not told.all():
        yield NotJudged(~told, "no_reactive")
    has_history = (known.reactive_days >= params.min_days) & (known.reactive_ratio > 0) & (known.day_kwh > 0)
    unknown = told & ~has_history
    if unknown.any():
        yield NotJudged(unknown, "no_history")
    judged = np.flatnonzero(told & ~unknown & (ratio > params.times * known.highest_reactive_ratio))
    if not len(judged):
        return
    inverse = np.abs(np.log(ratio[judged] * known.reactive_ratio[judged]))
    with np.errstate(divide="ignore"):
        spread = np.log(known.highest_reactive_ratio[judged] / known.lowest_reactive_ratio[judged])
    reactive_kwh = ratio[judged] * rows.kwh[judged].sum(axis=1)
    level = np.abs(np.log(reactive_kwh / known.day_kwh[judged]))
    swapped = judged[(inverse <= np.maximum(params.tolerance, spread)) & (level <= np.log(params.level))]
    if not len(swapped):
        return
    mask: Mask = rows.none()
    mask[swapped] = rows.measured[swapped]
    yield Found(
        mask,
        lambda row, first, last: {
            "reactive_ratio": rounded(float(ratio[row]), 4),
            "usual_ratio": rounded(float(known.reactive_ratio[row]), 4),
            "highest_ratio": rounded(float(known.highest_reactive_ratio[row]), 4),
            "similar_days": int(known.reactive_days[row]),
        },
        lambda row, first, last: abs(rows.energy(row, first, last) - rows.usual(row, first, last)),
    )
