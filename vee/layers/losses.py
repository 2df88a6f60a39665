"""Layer 4: transformation and line losses, exact, by validity.

Factor = (1 + t)(1 + l), or 1 + t + l where the setting says additive (vee_rules.md section 5). A percentage
is valid from an instant: a change at 00:15 acts from the interval that ends at 00:20, and an interval in
which it changes keeps the one it began with. What the registry says the meter compensates is not applied
again.

The default percentage for metering on the secondary (1% or 2.5% by voltage, REN 1.000 art. 305) is the
registry's matter: it is written there, marked as derived, before it reaches this layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any

import numpy as np
import polars as pl

from faults import OperatorFault
from faults.market_time import MARKET_ZONE
from vee.calendars import ONE_DAY, day_start
from vee.frames import (
    INT64_MAX,
    QUARANTINE_SCHEMA,
    SeriesMatrix,
    as_fraction,
    clear_row,
    in_order,
    max_abs,
    set_values,
    split_by_slots,
    to_frame,
    to_matrix,
)
from vee.quality import Cause

MODES = ("product", "additive")


@dataclass(frozen=True)
class LossResult:
    """The adjusted series, the factors applied, and what was set aside.

    Attributes:
        adjusted: series frame, rows as given; a UC-day set aside has all its slots missing.
        factors: `uc_id, day, first_slot, factor_num, factor_den`, of UC-days with a factor other than 1.
        quarantined: QUARANTINE_SCHEMA; reason is a `quality.Cause` (arithmetic).
    """

    adjusted: pl.DataFrame
    factors: pl.DataFrame
    quarantined: pl.DataFrame


def loss_factor(transformation_percent: object, line_percent: object, mode: str = "product") -> Fraction:
    """Exact factor of two percentages (int, Decimal or text).

    >>> loss_factor("2.5", "1.2"), loss_factor("2.5", "1.2", "additive")
    (Fraction(10373, 10000), Fraction(1037, 1000))
    """
    if mode not in MODES:
        raise OperatorFault(f"unknown loss mode {mode!r}", where="losses.mode", remedy=f"use one of {MODES}")
    t, line = as_fraction(transformation_percent) / 100, as_fraction(line_percent) / 100
    return (1 + t) * (1 + line) if mode == "product" else 1 + t + line


def adjust(
    estimated: pl.DataFrame,
    losses: pl.DataFrame,
    mode: str = "product",
    zone: str = MARKET_ZONE,
) -> LossResult:
    """Apply the losses in force in each interval.

    Args:
        estimated: series frame of layer 3.
        losses: `uc_id, kind ('transformation' | 'line'), valid_from, valid_to (aware datetimes, or Date: its
            00:00; null = open), percent (Decimal, int or text), compensated_at ('meter' | 'platform' |
            'none')`.
    """
    percentages = Percentages(losses, "uc_id", zone)
    series: list[pl.DataFrame] = []
    applied: list[tuple[int, date, int, int, int]] = []
    bad: list[tuple[int, date, str, str, str]] = []
    for part in split_by_slots(estimated):
        matrix = to_matrix(part)
        rows_by_runs: dict[Runs, list[int]] = {}
        for row, (uc_id, day) in enumerate(zip(matrix.uc_id.tolist(), matrix.day.tolist(), strict=True)):
            if uc_id in percentages:
                rows_by_runs.setdefault(percentages.runs(uc_id, day, matrix.slots), []).append(row)
        for runs, rows in rows_by_runs.items():
            factors = [(first, loss_factor(*percents, mode)) for first, percents in runs]
            if all(factor == 1 for _, factor in factors):
                continue
            applied += [
                (int(matrix.uc_id[row]), matrix.day_of(row), first, factor.numerator, factor.denominator)
                for row in rows
                for first, factor in factors
            ]
            if len(factors) == 1:
                overflow = _multiply(matrix, np.array(rows, dtype=np.int64), factors[0][1])
            else:
                overflow = [row for row in rows if not _multiply_exactly(matrix, row, factors)]
            bad += _set_aside(matrix, overflow, "arithmetic", Cause.ARITHMETIC)
        bad += _set_aside(matrix, _beyond_milli(matrix), "arithmetic", Cause.ARITHMETIC)
        series.append(to_frame(matrix))
    schema = {
        "uc_id": pl.Int64, "day": pl.Date, "first_slot": pl.Int16, "factor_num": pl.Int64,
        "factor_den": pl.Int64,
    }  # fmt: skip
    return LossResult(
        adjusted=in_order(estimated, series),
        factors=pl.DataFrame(applied, schema=schema, orient="row"),
        quarantined=pl.DataFrame(bad, schema=QUARANTINE_SCHEMA, orient="row"),
    )


# (first slot, (transformation percentage, line percentage)) of a day, in order; the first begins at 0.
Runs = tuple[tuple[int, tuple[str, str]], ...]
_NONE: tuple[str, str] = ("0", "0")


class Percentages:
    """The percentages that the platform applies, by UC or by point, and by interval.

    Args:
        losses: as `adjust` takes them, with the column `owner` in place of, or besides, `uc_id`.
    """

    def __init__(self, losses: pl.DataFrame, owner: str, zone: str = MARKET_ZONE) -> None:
        self._zone = zone
        self._grids: dict[tuple[date, int], tuple[datetime, timedelta]] = {}
        self._entries: dict[int, list[_Loss]] = {}
        for entry in losses.filter(pl.col("compensated_at") == "platform").iter_rows(named=True):
            self._entries.setdefault(entry[owner], []).append(_Loss(entry, zone))

    def __contains__(self, owner: int) -> bool:
        return owner in self._entries

    def runs(self, owner: int, day: date, slots: int) -> Runs:
        """Percentages of a day from slot to slot."""
        entries = self._entries.get(owner, ())
        start, length = self._grid(day, slots)
        spans = [(entry, *entry.slots(start, length, slots)) for entry in entries]
        runs: list[tuple[int, tuple[str, str]]] = []
        for first in sorted({0, *(edge for _, *edges in spans for edge in edges if edge < slots)}):
            transformation, line = _NONE
            for entry, begin, end in spans:
                if begin <= first < end:
                    if entry.is_line:
                        line = entry.percent
                    else:
                        transformation = entry.percent
            if not runs or runs[-1][1] != (transformation, line):
                runs.append((first, (transformation, line)))
        return tuple(runs)

    def _grid(self, day: date, slots: int) -> tuple[datetime, timedelta]:
        """Start of a day and length of its intervals."""
        if (day, slots) not in self._grids:
            start = day_start(day, self._zone)
            self._grids[day, slots] = start, (day_start(day + ONE_DAY, self._zone) - start) / slots
        return self._grids[day, slots]


class _Loss:
    """One percentage, as text so that it groups rows and loses nothing, and when it holds."""

    def __init__(self, entry: dict[str, Any], zone: str) -> None:
        self.is_line = entry["kind"] == "line"
        self.begin = _instant(entry["valid_from"], zone)
        self.end = _instant(entry["valid_to"], zone)
        self.percent = str(entry["percent"])

    def slots(self, start: datetime, length: timedelta, slots: int) -> tuple[int, int]:
        """First slot that begins under it, and first that begins no more under it."""
        begin = 0 if self.begin is None else -((start - self.begin) // length)
        end = slots if self.end is None else -((start - self.end) // length)
        return min(max(begin, 0), slots), min(max(end, 0), slots)


def _instant(at: date | datetime | None, zone: str) -> datetime | None:
    if at is None or isinstance(at, datetime):
        return at
    return day_start(at, zone)


def _multiply(
    matrix: SeriesMatrix, rows: np.ndarray[tuple[int], np.dtype[np.int64]], factor: Fraction
) -> list[int]:
    """Multiply rows by an exact factor; returns the rows whose result does not fit 64 bits."""
    num, den = factor.numerator, factor.denominator
    if num > INT64_MAX or den > INT64_MAX:
        return [int(row) for row in rows]
    largest, divisor = max_abs(matrix.numerators[rows]), matrix.denominator[rows]
    fits = (largest <= INT64_MAX // num) & (divisor <= INT64_MAX // den)
    fast = rows[fits]
    matrix.numerators[fast] *= num
    matrix.denominator[fast] *= den
    return [int(row) for row in rows[~fits] if not _multiply_exactly(matrix, int(row), [(0, factor)])]


def _multiply_exactly(matrix: SeriesMatrix, row: int, factors: list[tuple[int, Fraction]]) -> bool:
    """The same in unbounded integers and lowest terms: may still fit where the plain product does not.

    Args:
        factors: (first slot, factor), in order.
    """
    values: dict[int, Fraction] = {}
    ends = [*(first for first, _ in factors[1:]), matrix.slots]
    for (first, factor), end in zip(factors, ends, strict=True):
        for slot in range(first, end):
            value = matrix.value(row, slot)
            if value is not None:
                values[slot] = value * factor
    return set_values(matrix, row, values)


def _beyond_milli(matrix: SeriesMatrix) -> list[int]:
    """Rows with a value that 64 bits cannot hold in thousandths, the unit of the next layer."""
    too_big = max_abs(matrix.numerators) // matrix.denominator >= INT64_MAX // 1000
    return [int(row) for row in np.flatnonzero(too_big)]


def _set_aside(
    matrix: SeriesMatrix, rows: list[int], stage: str, cause: Cause
) -> list[tuple[int, date, str, str, str]]:
    for row in rows:
        clear_row(matrix, row)
    return [(int(matrix.uc_id[row]), matrix.day_of(row), stage, cause.value, "{}") for row in rows]
