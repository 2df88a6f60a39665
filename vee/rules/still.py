"""Values that stand still: V08, a frozen value; V14, zeros that no outage explains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vee.frames import Mask, runs
from vee.parameters import bounded
from vee.quality import Reason
from vee.rules.base import DayRows, Found, NotJudged, RuleParams, rounded
from vee.rules.traits import equal_neighbours, run_lengths


@dataclass(frozen=True)
class FrozenParams(RuleParams):
    """Parameters of V08: how long a count may stay the same, by its size.

    A steady load counts the same small number for hours: the fewer pulses, the longer it may.

    Attributes:
        slots, pulses: so many slots with the same count of at least so many pulses.
        low_slots, low_pulses: the same for smaller counts; still smaller ones are not judged.
        known_slots, known_times: so many slots suffice, if they are so many times the longest run of equal
            counts of the similar days (of 100 pulses or more); for counts of `pulses` or more.
        min_days: similar days wanted for that.
    """

    slots: int = bounded(36, low=2)
    pulses: int = bounded(100, low=1)
    low_slots: int = bounded(72, low=2)
    low_pulses: int = bounded(20, low=1)
    known_slots: int = bounded(12, low=3)
    known_times: float = bounded(2.0, low=1)
    min_days: int = bounded(3, low=1)

    def __post_init__(self) -> None:
        if self.low_pulses > self.pulses:
            raise ValueError(f"low_pulses {self.low_pulses} is above pulses {self.pulses}")


def v08_frozen(rows: DayRows, params: FrozenParams) -> Iterator[Found | NotJudged]:
    unknown = np.isnan(rows.plant.pulse_kwh)
    if unknown.any():
        yield NotJudged(unknown, "no_constant")
    known = rows.reference
    by_history = np.maximum(np.ceil(params.known_times * known.longest_run), params.known_slots)
    by_history = np.where(known.run_days >= params.min_days, by_history, np.inf)
    same = equal_neighbours(rows, params.low_pulses)
    shortest = np.minimum(by_history, min(params.slots, params.low_slots))
    mask = rows.none()
    for row in np.flatnonzero(run_lengths(same).max(axis=1) >= shortest).tolist():
        for first, last in runs(same[row]):
            pulses = int(rows.counts[row, first])
            is_large = pulses >= params.pulses
            needed = min(params.slots, by_history[row]) if is_large else params.low_slots
            # A run of n equal neighbours is n + 1 slots.
            if last - first + 2 >= needed:
                mask[row, first : last + 2] = True
    if mask.any():
        yield Found(
            mask,
            lambda row, first, last: {
                "kwh": rounded(float(rows.kwh[row, first])),
                "pulses": int(rows.counts[row, first]),
                "slots": last - first + 1,
                "longest_before": int(known.longest_run[row]),
                "similar_days": int(known.run_days[row]),
            },
            lambda row, first, last: abs(rows.energy(row, first, last) - rows.usual(row, first, last)),
        )


@dataclass(frozen=True)
class ZeroParams(RuleParams):
    """Parameters of V14.

    Attributes:
        hours: so many hours of zeros where similar days are loaded.
        sure_hours: fewer suffice where no similar day was ever below `sure_share` of its mean in these hours.
        loaded_share: an hour is loaded above this share of the similar days' mean hour.
        sure_share: see `sure_hours`.
        short_hours, short_share, short_days: still fewer, where so many similar days are known and even the
            least loaded of them has so much of a usual day's energy in them.
        min_days: similar days wanted.
    """

    hours: float = bounded(6.0, low=0.25)
    sure_hours: float = bounded(2.0, low=0.25)
    loaded_share: float = bounded(0.2, low=0)
    sure_share: float = bounded(0.5, low=0)
    short_hours: float = bounded(0.25, low=0.05)
    short_share: float = bounded(0.01, low=0)
    short_days: int = bounded(5, low=1)
    min_days: int = bounded(2, low=1)

    def __post_init__(self) -> None:
        if self.sure_hours > self.hours:
            raise ValueError(f"sure_hours {self.sure_hours} is above hours {self.hours}")


_IN_OUTAGE = (Reason.ZERO_IN_OUTAGE, Reason.ZERO_FROM_OUTAGE_LOG, Reason.PARTIAL_OUTAGE)


def v14_zeros(rows: DayRows, params: ZeroParams) -> Iterator[Found | NotJudged]:
    known = rows.latest
    unknown = known.days < params.min_days
    if unknown.any():
        yield NotJudged(unknown, "no_history")
    zeros = rows.measured & (rows.matrix.numerators == 0)
    shortest = int(min(params.short_hours, params.sure_hours) * rows.per_hour)
    candidates = np.flatnonzero((zeros.sum(axis=1) >= shortest) & ~unknown)
    if not len(candidates):
        return
    zeros &= ~np.isin(rows.matrix.reason, np.array(_IN_OUTAGE, np.uint8))
    mask = rows.none()
    for row in candidates.tolist():
        for first, last in runs(zeros[row]):
            mask[row, first : last + 1] = _is_suspect(rows, row, first, last, params)
    if mask.any():
        yield Found(
            mask,
            lambda row, first, last: {
                "slots": last - first + 1,
                "expected_kwh": rounded(rows.usual(row, first, last)),
                "similar_days": int(known.days[row]),
            },
            rows.usual,
        )


def _is_suspect(rows: DayRows, row: int, first: int, last: int, params: ZeroParams) -> bool:
    length = last - first + 1
    if length < params.sure_hours * rows.per_hour:
        return length >= params.short_hours * rows.per_hour and _is_loaded(rows, row, first, last, params)
    touched = slice(first // rows.per_hour, last // rows.per_hour + 1)
    reference = rows.latest
    mean = reference.day_kwh[row] / (rows.slots // rows.per_hour)
    loaded: Mask = reference.hours[row, touched] > params.loaded_share * mean
    never_low: Mask = reference.lowest[row, touched] > params.sure_share * mean
    if never_low.all():
        return True
    return length >= params.hours * rows.per_hour and 2 * int(loaded.sum()) > len(loaded)


def _is_loaded(rows: DayRows, row: int, first: int, last: int, params: ZeroParams) -> bool:
    """Whether even the least loaded similar day has a good part of a day's energy in these slots."""
    hours = np.repeat(rows.latest.lowest[row] / rows.per_hour, rows.per_hour)
    least = float(hours[first : last + 1].sum())
    enough = rows.latest.days[row] >= params.short_days
    return bool(enough and least >= params.short_share * rows.latest.day_kwh[row] > 0)
