"""V05: more than the installation can carry, and counters that show only ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vee.parameters import bounded
from vee.rules.base import F64, DayRows, Found, NotJudged, RuleParams, Severity, rounded

_SECONDARY_A = 5.0  # rated secondary current of Brazilian metering TCs


@dataclass(frozen=True)
class LimitParams(RuleParams):
    """Parameters of V05.

    Attributes:
        margin: above the limit by this factor.
        overload: what a TC carries, in rated currents: thermal factors go up to 2.
        demand_times: where voltage or TC are unknown, so many times the larger of MUSD and contracted demand.
        all_ones: counts with all bits set, of meters' 12-, 16-, 24-, 31- and 32-bit words.
        all_ones_times: such a count alone is held if it is so many times the day's median.
    """

    severity: Severity = Severity.HOLD
    margin: float = bounded(1.1, low=1)
    overload: float = bounded(2.0, low=1)
    demand_times: float = bounded(5.0, low=1)
    all_ones: tuple[int, ...] = (4095, 65535, 2**24 - 1, 2**31 - 1, 2**32 - 1)
    all_ones_times: float = bounded(4.0, low=1)


def limit_kw(rows: DayRows, params: LimitParams) -> F64:
    """(n,) the largest power believed: by TC and voltage, and by contract; NaN where nothing is known."""
    plant = rows.plant
    amperes = np.where(plant.tc_ratio > 1, plant.tc_ratio * _SECONDARY_A * params.overload, np.nan)
    by_current = np.sqrt(3) * plant.voltage_kv * amperes * params.margin
    by_demand = np.fmax(plant.musd_kw, plant.demand_kw) * params.demand_times
    return np.asarray(np.fmin(by_current, by_demand), np.float64)


def v05_limit(rows: DayRows, params: LimitParams) -> Iterator[Found | NotJudged]:
    limit = limit_kw(rows, params)
    unknown = np.isnan(limit)
    if unknown.any():
        yield NotJudged(unknown, "no_limit")
    limit_kwh = limit * rows.interval_s / 3600
    over = rows.kwh > np.where(unknown, np.inf, limit_kwh)[:, None]
    if over.any():
        yield Found(
            over,
            lambda row, first, last: {
                "kind": "limit",
                "largest_kw": rounded(_largest(rows, row, first, last) * 3600 / rows.interval_s, 3),
                "limit_kw": rounded(float(limit[row]), 3),
            },
            rows.excess,
        )
    yield from _all_ones(rows, params)


def _all_ones(rows: DayRows, params: LimitParams) -> Iterator[Found | NotJudged]:
    if not params.all_ones:
        return
    smallest = np.nan_to_num(rows.plant.pulse_kwh, nan=np.inf) * min(params.all_ones)
    # Few meters count so high: the others are passed by in one comparison.
    candidates = np.flatnonzero(rows.kwh.max(axis=1, initial=0.0) >= smallest * 0.999)
    mask = rows.none()
    for row in candidates.tolist():
        counts = np.rint(rows.kwh[row] / rows.plant.pulse_kwh[row])
        ones = np.isin(counts, params.all_ones) & rows.measured[row]
        usual = np.median(rows.kwh[row, rows.measured[row]])
        if ones.sum() > 1 or (ones.any() and rows.kwh[row, ones].max() > params.all_ones_times * usual):
            mask[row] = ones
    if mask.any():
        yield Found(
            mask,
            lambda row, first, last: {
                "kind": "all_ones",
                "count": round(float(_largest(rows, row, first, last) / rows.plant.pulse_kwh[row])),
            },
            rows.excess,
        )


def _largest(rows: DayRows, row: int, first: int, last: int) -> float:
    return float(rows.kwh[row, first : last + 1].max())
