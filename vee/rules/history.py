"""The UC against its own past: V16, the day against similar days; V23, the month against earlier months."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from vee.frames import Mask
from vee.parameters import bounded
from vee.rules.base import DayRows, Found, NotJudged, RuleParams, Severity, rounded


@dataclass(frozen=True)
class ShapeParams(RuleParams):
    """Parameters of V16.

    Attributes:
        day_times: the day above the highest similar day by this factor is suspect.
        hour_times: so is an hour above the highest hour of the similar days by this factor.
        demand_share: either only above this share of MUSD (or contracted demand), as mean power: small loads
            multiply by nothing worth a person's time.
        low_share: the day below this share of the similar days' mean is listed, and passes: a holiday of the
            customer's own is the usual reason.
        min_days: similar days wanted.
    """

    day_times: float = bounded(3.0, low=1)
    hour_times: float = bounded(4.0, low=1)
    demand_share: float = bounded(0.05, low=0)
    low_share: float = bounded(0.25, low=0, high=1)
    min_days: int = bounded(3, low=1)


def v16_history(rows: DayRows, params: ShapeParams) -> Iterator[Found | NotJudged]:
    reference = rows.reference
    unknown = (reference.days < params.min_days) | np.isnan(reference.day_kwh)
    if unknown.any():
        yield NotJudged(unknown, "no_history")
    demand = np.fmax(rows.plant.musd_kw, rows.plant.demand_kw)
    floor_kw = np.nan_to_num(demand * params.demand_share)
    whole = rows.measured.all(axis=1)
    day_kwh = np.where(whole, rows.kwh.sum(axis=1), np.nan)
    day_hours = rows.slots / rows.per_hour
    with np.errstate(invalid="ignore"):
        high_day = (
            ~unknown
            & (day_kwh > params.day_times * reference.highest_day_kwh)
            & (day_kwh > floor_kw * day_hours)
        )
        highest_hour = np.fmax.reduce(reference.hours, axis=1)
        high_hour = rows.hour_kwh > (params.hour_times * highest_hour)[:, None]
        high_hour &= (rows.hour_kwh > floor_kw[:, None]) & ~unknown[:, None]
        low_day = ~unknown & (day_kwh < params.low_share * reference.day_kwh)
    mask: Mask = np.repeat(high_hour, rows.per_hour, axis=1) | high_day[:, None]
    mask &= rows.measured
    if mask.any():
        yield Found(
            mask,
            lambda row, first, last: {
                "kind": "day" if high_day[row] else "hours",
                "day_kwh": rounded(float(day_kwh[row])),
                "largest_hour_kwh": rounded(_largest(rows, row)),
                "similar_days": int(reference.days[row]),
                "similar_day_kwh": rounded(float(reference.day_kwh[row])),
                "highest_day_kwh": rounded(float(reference.highest_day_kwh[row])),
                "highest_hour_kwh": rounded(float(highest_hour[row])),
            },
            rows.excess,
        )
    if low_day.any():
        yield Found(
            np.asarray(rows.measured & low_day[:, None]),
            lambda row, first, last: {
                "kind": "low",
                "day_kwh": rounded(float(day_kwh[row])),
                "similar_days": int(reference.days[row]),
                "similar_day_kwh": rounded(float(reference.day_kwh[row])),
            },
            lambda row, first, last: max(0.0, rows.usual(row, first, last) - rows.energy(row, first, last)),
            Severity.INFO,
        )


def _largest(rows: DayRows, row: int) -> float:
    hours = rows.hour_kwh[row]
    return float("nan") if np.isnan(hours).all() else float(np.nanmax(hours))


@dataclass(frozen=True)
class MonthParams(RuleParams):
    """Parameters of V23.

    Attributes:
        low, high: the month's mean power may be between these shares of the months before it.
        min_months: months wanted; up to 12 count.
    """

    severity: Severity = Severity.INFO
    low: float = bounded(0.5, low=0, high=1)
    high: float = bounded(1.5, low=1)
    min_months: int = bounded(1, low=1, high=12)


def v23_month(rows: DayRows, params: MonthParams) -> Iterator[Found | NotJudged]:
    """Table `months`: see `inputs.MONTH_SCHEMA`; there are rows on the last day of a month only."""
    has = rows.has_rows("months")
    if not rows.tables.get("months", pl.DataFrame()).height:
        return
    strange: dict[int, dict[str, object]] = {}
    unknown = ~has
    for row, entry in rows.table("months"):
        if entry["months"] < params.min_months or not entry["history_kw"]:
            unknown[row] = True
            continue
        hours = (entry["other_slots"] + int(rows.measured[row].sum())) / rows.per_hour
        if not hours:
            continue
        mean_kw = (entry["other_kwh"] + rows.energy(row)) / hours
        share = mean_kw / entry["history_kw"]
        if not params.low <= share <= params.high:
            strange[row] = {
                "mean_kw": round(mean_kw, 3),
                "history_kw": round(entry["history_kw"], 3),
                "share": round(share, 3),
                "months": entry["months"],
                "stake_kwh": abs(mean_kw - entry["history_kw"]) * hours,
            }
    if unknown.any():
        yield NotJudged(unknown, "no_history")
    if strange:
        mask = rows.none()
        mask[list(strange)] = True
        yield Found(
            mask,
            lambda row, first, last: {k: v for k, v in strange[row].items() if k != "stake_kwh"},
            lambda row, first, last: float(str(strange[row]["stake_kwh"])),
        )
