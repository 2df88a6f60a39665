"""V07: a few intervals far above what the UC has at that hour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vee.frames import Mask, runs
from vee.parameters import bounded
from vee.rules.base import F64, DayRows, Found, NotJudged, RuleParams, rounded


@dataclass(frozen=True)
class SpikeParams(RuleParams):
    """Parameters of V07.

    Attributes:
        times: above the similar days' mean of the hour and its neighbours by this factor.
        demand_share: and above this share of MUSD (or contracted demand), in kW.
        most_slots: longer than this is no spike but another kind of day (V16).
        min_days: similar days wanted; with fewer, the day itself is compared with.
        around_slots: then, so many slots before and after.
    """

    times: float = bounded(4.0, low=1)
    demand_share: float = bounded(0.5, low=0)
    most_slots: int = bounded(3, low=1)
    min_days: int = bounded(2, low=1)
    around_slots: int = bounded(36, low=6)


def v07_spike(rows: DayRows, params: SpikeParams) -> Iterator[Found | NotJudged]:
    demand = np.fmax(rows.plant.musd_kw, rows.plant.demand_kw)
    unknown = np.isnan(demand)
    if unknown.any():
        yield NotJudged(unknown, "no_demand")
    floor_kwh = np.where(unknown, np.inf, demand * params.demand_share) * rows.interval_s / 3600
    expected = _expected(rows, params)
    by_days = ~np.isnan(expected)
    high = rows.kwh > floor_kwh[:, None]
    if not high.any():
        return
    hours = rows.slots // rows.per_hour
    per_hour = rows.kwh.reshape(len(rows), hours, rows.per_hour)
    above = per_hour > (np.nan_to_num(expected, nan=np.inf) * params.times)[:, :, None]
    mask = high & above.reshape(high.shape)
    for row in np.flatnonzero((high & np.repeat(~by_days, rows.per_hour, axis=1)).any(axis=1)).tolist():
        unseen = high[row] & np.repeat(~by_days[row], rows.per_hour)
        mask[row] |= unseen & _stands_out(rows.kwh[row], rows.measured[row], params)
    for row in np.flatnonzero(mask.any(axis=1)).tolist():
        for first, last in runs(mask[row]):
            if last - first + 1 > params.most_slots:
                mask[row, first : last + 1] = False
    if mask.any():
        yield Found(mask, lambda *run: _evidence(rows, expected, *run), rows.excess)


def _expected(rows: DayRows, params: SpikeParams) -> F64:
    """(n, hours) kWh of an interval as other days have it: the largest of the hour and its neighbours.

    A shift that begins an hour earlier than usual is no spike.
    """
    hours = np.pad(rows.reference.hours, ((0, 0), (1, 1)), mode="edge")
    widest = np.fmax(np.fmax(hours[:, :-2], hours[:, 1:-1]), hours[:, 2:]) / rows.per_hour
    return np.asarray(np.where((rows.reference.days >= params.min_days)[:, None], widest, np.nan), np.float64)


def _stands_out(kwh: F64, measured: Mask, params: SpikeParams) -> Mask:
    """Far above the median of the slots around, which no few slots can move."""
    usual = np.median(kwh[measured])
    values = np.where(measured, kwh, usual)
    width = min(2 * params.around_slots + 1, len(kwh))
    windows = np.lib.stride_tricks.sliding_window_view(values, width)
    middle = np.partition(windows, width // 2, axis=1)[:, width // 2]
    # At the ends of the day the window is the first or the last whole one.
    at = np.clip(np.arange(len(kwh)) - params.around_slots, 0, len(middle) - 1)
    out: Mask = measured & (kwh > params.times * middle[at])
    return out


def _evidence(rows: DayRows, expected: F64, row: int, first: int, last: int) -> dict[str, object]:
    hour = first // rows.per_hour
    usual = expected[row, hour]
    return {
        "largest_kwh": rounded(float(rows.kwh[row, first : last + 1].max())),
        "expected_kwh": rounded(float(usual)),
        "similar_days": int(rows.reference.days[row]),
        "basis": "day" if np.isnan(usual) else "similar_days",
    }
