"""The shape of a day: its clock hours and its largest interval, which later days are compared with.

A day that a rule doubts has no shape until somebody accepts it, so a fault that lasts never becomes what is
usual. Similar days are the UC's last days of the same kind: workdays, Saturdays, Sundays with holidays.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from vee.calendars import ONE_DAY, Calendars
from vee.parameters import bounded
from vee.rules.base import F64, Reference

SHAPE_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "hours_wh": pl.List(pl.Int64()),
    "peak_wh": pl.Int64(),
}
Ids = npt.NDArray[np.int64]
_SATURDAY, _SUNDAY = 5, 6
_WH = 1000.0
# Above this no energy of an hour is believed, and no float is an exact whole number.
_LARGEST_WH = 2.0**52


@dataclass(frozen=True)
class SimilarDays:
    """Which earlier days a day is compared with [C].

    Attributes:
        most: so many of them at most, the latest.
        back_days: not older than this.
        holiday_calendar: whose holidays count as Sundays.
    """

    most: int = bounded(8, low=1, high=30)
    back_days: int = bounded(35, low=7, high=120)
    holiday_calendar: str = "nacional"


def similar_days(day: date, calendars: Calendars, params: SimilarDays) -> list[date]:
    """Earlier days of the same kind, latest first."""
    kind = _kind(day, calendars, params)
    found: list[date] = []
    earlier = day - ONE_DAY
    while len(found) < params.most and earlier >= day - timedelta(days=params.back_days):
        if _kind(earlier, calendars, params) == kind:
            found.append(earlier)
        earlier -= ONE_DAY
    return found


def _kind(day: date, calendars: Calendars, params: SimilarDays) -> int:
    if calendars.holiday(day, params.holiday_calendar) is not None:
        return _SUNDAY
    return max(day.weekday(), _SATURDAY - 1)


class ShapeStore:
    """Shapes of some UCs by day: looked up for many rows at once, and added to as days are judged."""

    def __init__(self, shapes: pl.DataFrame) -> None:
        self._days: dict[date, tuple[Ids, F64, F64]] = {}
        for (day,), part in shapes.sort("uc_id").partition_by("day", as_dict=True).items():
            hours = part["hours_wh"].explode(empty_as_null=True).cast(pl.Float64).to_numpy()
            self._days[day] = (
                part["uc_id"].to_numpy(),
                hours.reshape(part.height, -1) / _WH,
                part["peak_wh"].to_numpy() / _WH,
            )

    def add(self, day: date, uc_id: Ids, hour_kwh: F64, peak_kwh: F64) -> None:
        """Shapes of a day that was just judged."""
        order = np.argsort(uc_id)
        self._days[day] = (uc_id[order], hour_kwh[order], peak_kwh[order])

    def reference(self, uc_id: Ids, days: Collection[date], hours: int) -> Reference:
        """What these days looked like for each of these UCs."""
        known = [self._days[day] for day in days if day in self._days]
        known = [shapes for shapes in known if len(shapes[0]) and shapes[1].shape[1] == hours]
        n = len(uc_id)
        if not known:
            nothing = np.full(n, np.nan)
            no_hours = np.full((n, hours), np.nan)
            return Reference(np.zeros(n, np.int64), no_hours, no_hours, nothing, nothing, nothing)
        shapes = np.full((len(known), n, hours), np.nan)
        peaks = np.full((len(known), n), np.nan)
        for k, (ucs, hour_kwh, peak_kwh) in enumerate(known):
            at = np.minimum(np.searchsorted(ucs, uc_id), len(ucs) - 1)
            there = ucs[at] == uc_id
            shapes[k, there] = hour_kwh[at[there]]
            peaks[k, there] = peak_kwh[at[there]]
        totals = shapes.sum(axis=2)
        return Reference(
            days=(~np.isnan(peaks)).sum(axis=0),
            hours=_median(shapes),
            lowest=np.fmin.reduce(shapes, axis=0),
            day_kwh=_median(totals),
            highest_day_kwh=np.fmax.reduce(totals, axis=0),
            peak_kwh=np.fmax.reduce(peaks, axis=0),
        )


def _median(stack: F64) -> F64:
    """Median over the first axis, of what is known. numpy's own is ten times slower with NaN."""
    ordered = np.sort(stack, axis=0)
    count = (~np.isnan(ordered)).sum(axis=0)
    # NaN is sorted to the end, so the known ones are the first `count`.
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0)[None] // 2, axis=0)[0]
    high = np.take_along_axis(ordered, (count // 2).clip(0, len(stack) - 1)[None], axis=0)[0]
    return np.asarray(np.where(count > 0, (low + high) / 2, np.nan), np.float64)


def shape_frame(uc_id: Ids, day: date, hour_kwh: F64, peak_kwh: F64) -> pl.DataFrame:
    """Rows to be kept, SHAPE_SCHEMA."""
    n, hours = hour_kwh.shape
    known = ~np.isnan(hour_kwh)
    wh = np.rint(np.clip(np.where(known, hour_kwh, 0.0) * _WH, 0, _LARGEST_WH)).astype(np.int64)
    flat = pl.DataFrame({"wh": wh.ravel(), "known": known.ravel()}).select(
        pl.when("known").then("wh").alias("hours_wh")
    )
    return pl.DataFrame(
        {
            "uc_id": pl.Series(uc_id, dtype=pl.Int64),
            "day": pl.Series([day] * n, dtype=pl.Date),
            "hours_wh": flat.to_series().reshape((n, hours)).arr.to_list()
            if n
            else pl.Series([], dtype=pl.List(pl.Int64)),
            "peak_wh": pl.Series(np.rint(np.clip(peak_kwh * _WH, 0, _LARGEST_WH)).astype(np.int64)),
        },
        schema=SHAPE_SCHEMA,
    )
