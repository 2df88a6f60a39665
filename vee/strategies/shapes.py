"""The shape of a day: its clock hours, its largest interval and its traits; later days are compared with it.

A day that a rule doubts has no shape until somebody accepts it, so a fault that lasts never becomes what is
usual. Similar days are the UC's last days of the same kind: workdays, Saturdays, Sundays with holidays.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from vee.calendars import ONE_DAY, Calendars
from vee.parameters import bounded
from vee.rules.base import F64, DayRows, Reference
from vee.rules.traits import BLOCKS, block_marks, longest_runs, reactive_ratios

SHAPE_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "hours_wh": pl.List(pl.Int64()),
    "peak_wh": pl.Int64(),
    "longest_run": pl.Int16(),
    "marks": pl.List(pl.Int64()),
    "reactive_ratio": pl.Float64(),
}
Ids = npt.NDArray[np.int64]
_SATURDAY, _SUNDAY = 5, 6
_WH = 1000.0
# Of a UC with fewer similar days than this, the last days of any kind are looked at, so many.
FEW_DAYS, LATEST_DAYS = 3, 7
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


def compared_days(days: Collection[date], calendars: Calendars, params: SimilarDays) -> list[date]:
    """Earlier days that any of these is compared with: similar ones, and the day before, for repeats."""
    earlier = {one for day in days for one in similar_days(day, calendars, params)}
    return sorted((earlier | {day - ONE_DAY for day in days}) - set(days))


def _kind(day: date, calendars: Calendars, params: SimilarDays) -> int:
    if calendars.holiday(day, params.holiday_calendar) is not None:
        return _SUNDAY
    return max(day.weekday(), _SATURDAY - 1)


@dataclass(frozen=True)
class _Day:
    """Shapes of one day, by UC in order; traits that days of older versions lack are -1, 0 and NaN."""

    uc_id: Ids
    hour_kwh: F64
    peak_kwh: F64
    longest_run: Ids
    marks: Ids
    reactive_ratio: F64


class ShapeStore:
    """Shapes of some UCs by day: looked up for many rows at once, and added to as days are judged."""

    def __init__(self, shapes: pl.DataFrame) -> None:
        self._days: dict[date, _Day] = {}
        for (day,), part in shapes.sort("uc_id").partition_by("day", as_dict=True).items():
            hours = part["hours_wh"].explode(empty_as_null=True).cast(pl.Float64).to_numpy()
            has_marks = part["marks"].list.len().fill_null(0) == BLOCKS
            none = pl.Series("marks", [[0] * BLOCKS], dtype=pl.List(pl.Int64()))
            marks = part["marks"].zip_with(has_marks, none.new_from_index(0, part.height))
            self._days[day] = _Day(
                part["uc_id"].to_numpy(),
                hours.reshape(part.height, -1) / _WH,
                part["peak_wh"].to_numpy() / _WH,
                part["longest_run"].fill_null(-1).cast(pl.Int64).to_numpy(),
                marks.explode(empty_as_null=True).fill_null(0).to_numpy().reshape(part.height, BLOCKS),
                part["reactive_ratio"].fill_null(np.nan).to_numpy(),
            )

    def add(self, day: date, shapes: _Day) -> None:
        """Shapes of a day that was just judged."""
        order = np.argsort(shapes.uc_id)
        self._days[day] = _Day(*(getattr(shapes, item.name)[order] for item in fields(_Day)))

    def latest(self, uc_id: Ids, day: date, hours: int, similar: Reference) -> Reference:
        """The same of the last days of any kind, where fewer than `FEW_DAYS` similar ones are known."""
        few = similar.days < FEW_DAYS
        if not few.any():
            return similar
        days = [day - ONE_DAY * n for n in range(1, LATEST_DAYS + 1)]
        return self.reference(uc_id, days, day, hours).where(few, similar)

    def reference(self, uc_id: Ids, days: Collection[date], day: date, hours: int) -> Reference:
        """What these days looked like for each of these UCs; and the marks of the day before `day`, too."""
        known = [self._days[one] for one in days if one in self._days]
        known = [one for one in known if len(one.uc_id) and one.hour_kwh.shape[1] == hours]
        n, count = len(uc_id), len(known)
        shapes = np.full((count, n, hours), np.nan)
        peaks, ratios = np.full((count, n), np.nan), np.full((count, n), np.nan)
        longest = np.full((count, n), -1, np.int64)
        for k, one in enumerate(known):
            at, there = _find(one.uc_id, uc_id)
            shapes[k, there] = one.hour_kwh[at[there]]
            peaks[k, there] = one.peak_kwh[at[there]]
            ratios[k, there] = one.reactive_ratio[at[there]]
            longest[k, there] = one.longest_run[at[there]]
        totals = shapes.sum(axis=2)
        mark_days = [one for one in dict.fromkeys((day - ONE_DAY, *days)) if one in self._days]
        return Reference(
            days=(~np.isnan(peaks)).sum(axis=0),
            hours=_median(shapes),
            lowest=_least(shapes),
            day_kwh=_median(totals),
            highest_day_kwh=_most(totals),
            peak_kwh=_most(peaks),
            longest_run=longest.max(axis=0, initial=-1),
            run_days=(longest >= 0).sum(axis=0),
            reactive_ratio=_median(ratios),
            highest_reactive_ratio=_most(ratios),
            lowest_reactive_ratio=_least(ratios),
            reactive_days=(~np.isnan(ratios)).sum(axis=0),
            marks=self._marks(uc_id, mark_days),
            mark_days=tuple(mark_days),
        )

    def _marks(self, uc_id: Ids, days: Collection[date]) -> Ids:
        marks = np.zeros((len(days), len(uc_id), BLOCKS), np.int64)
        for k, day in enumerate(days):
            one = self._days[day]
            if len(one.uc_id):
                at, there = _find(one.uc_id, uc_id)
                marks[k, there] = one.marks[at[there]]
        return marks


def _find(ordered: Ids, wanted: Ids) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    at = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    return at, ordered[at] == wanted


def _most(stack: F64) -> F64:
    return np.asarray(np.fmax.reduce(stack, axis=0, initial=np.nan), np.float64)


def _least(stack: F64) -> F64:
    return np.asarray(np.fmin.reduce(stack, axis=0, initial=np.nan), np.float64)


def _median(stack: F64) -> F64:
    """Median over the first axis, of what is known. numpy's own is ten times slower with NaN."""
    if not len(stack):
        return np.full(stack.shape[1:], np.nan)
    ordered = np.sort(stack, axis=0)
    count = (~np.isnan(ordered)).sum(axis=0)
    # NaN is sorted to the end, so the known ones are the first `count`.
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0)[None] // 2, axis=0)[0]
    high = np.take_along_axis(ordered, (count // 2).clip(0, len(stack) - 1)[None], axis=0)[0]
    return np.asarray(np.where(count > 0, (low + high) / 2, np.nan), np.float64)


def shapes_of(rows: DayRows, chosen: npt.NDArray[np.intp]) -> _Day:
    """Shapes of some rows of a day that was judged."""
    return _Day(
        rows.matrix.uc_id[chosen],
        rows.hour_kwh[chosen],
        rows.kwh[chosen].max(axis=1, initial=0.0),
        longest_runs(rows)[chosen],
        block_marks(rows)[chosen],
        reactive_ratios(rows)[chosen],
    )


def shape_frame(day: date, shapes: _Day) -> pl.DataFrame:
    """Rows to be kept, SHAPE_SCHEMA."""
    n, hours = shapes.hour_kwh.shape
    known = ~np.isnan(shapes.hour_kwh)
    wh = np.rint(np.clip(np.where(known, shapes.hour_kwh, 0.0) * _WH, 0, _LARGEST_WH)).astype(np.int64)
    flat = pl.DataFrame({"wh": wh.ravel(), "known": known.ravel()}).select(
        pl.when("known").then("wh").alias("hours_wh")
    )
    no_list = pl.Series([], dtype=pl.List(pl.Int64))
    return pl.DataFrame(
        {
            "uc_id": pl.Series(shapes.uc_id, dtype=pl.Int64),
            "day": pl.Series([day] * n, dtype=pl.Date),
            "hours_wh": flat.to_series().reshape((n, hours)).arr.to_list() if n else no_list,
            "peak_wh": np.rint(np.clip(shapes.peak_kwh * _WH, 0, _LARGEST_WH)).astype(np.int64),
            "longest_run": shapes.longest_run.astype(np.int16),
            "marks": pl.Series(shapes.marks.ravel()).reshape((n, BLOCKS)).arr.to_list() if n else no_list,
            "reactive_ratio": pl.Series(shapes.reactive_ratio).fill_nan(None),
        },
        schema=SHAPE_SCHEMA,
    )
