"""Layer 4: transformation and line losses, exact, by validity.

Factor = (1 + t)(1 + l), or 1 + t + l where the setting says additive (vee_rules.md section 5). A percentage
is valid by day: a change at 00:00 of D acts from the interval that ends at 00:05 of D. What the meter already
compensates is not applied again, and `platform` is refused for a meter that reports a compensation.

The default percentage for metering on the secondary (1% or 2.5% by voltage, REN 1.000 art. 305) is the
registry's matter: it is written there, marked as derived, before it reaches this layer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Any

import numpy as np
import polars as pl

from faults import OperatorFault
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
        factors: `uc_id, day, factor_num, factor_den`, only where the factor is not 1.
        quarantined: QUARANTINE_SCHEMA; reason is a `quality.Cause` (arithmetic, compensated_twice).
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
    compensating_ucs: Collection[int] = (),
) -> LossResult:
    """Apply the losses in force on each day.

    Args:
        estimated: series frame of layer 3.
        losses: `uc_id, kind ('transformation' | 'line'), valid_from, valid_to (Date, null = open), percent
            (Decimal, int or text), compensated_at ('meter' | 'platform' | 'none')`.
        compensating_ucs: UCs whose meter reports that it compensates losses itself.
    """
    by_uc: dict[int, list[_Loss]] = {}
    for entry in losses.filter(pl.col("compensated_at") == "platform").iter_rows(named=True):
        by_uc.setdefault(entry["uc_id"], []).append(_Loss(entry))
    series: list[pl.DataFrame] = []
    applied: list[tuple[int, date, int, int]] = []
    bad: list[tuple[int, date, str, str, str]] = []
    for part in split_by_slots(estimated):
        matrix = to_matrix(part)
        rows_by_percents: dict[tuple[str, str], list[int]] = {}
        for row, (uc_id, day) in enumerate(zip(matrix.uc_id.tolist(), matrix.day.tolist(), strict=True)):
            if uc_id in by_uc:
                rows_by_percents.setdefault(_percents_on(by_uc[uc_id], day), []).append(row)
        for percents, rows in rows_by_percents.items():
            factor = loss_factor(*percents, mode)
            if factor == 1:
                continue
            twice = [row for row in rows if int(matrix.uc_id[row]) in compensating_ucs]
            bad += _set_aside(matrix, twice, "losses", Cause.COMPENSATED_TWICE)
            once = [row for row in rows if int(matrix.uc_id[row]) not in compensating_ucs]
            applied += [
                (int(matrix.uc_id[row]), matrix.day_of(row), factor.numerator, factor.denominator)
                for row in once
            ]
            overflow = _multiply(matrix, np.array(once, dtype=np.int64), factor)
            bad += _set_aside(matrix, overflow, "arithmetic", Cause.ARITHMETIC)
        bad += _set_aside(matrix, _beyond_milli(matrix), "arithmetic", Cause.ARITHMETIC)
        series.append(to_frame(matrix))
    factors = {"uc_id": pl.Int64, "day": pl.Date, "factor_num": pl.Int64, "factor_den": pl.Int64}
    return LossResult(
        adjusted=in_order(estimated, series),
        factors=pl.DataFrame(applied, schema=factors, orient="row"),
        quarantined=pl.DataFrame(bad, schema=QUARANTINE_SCHEMA, orient="row"),
    )


class _Loss:
    """One percentage, as text so that it groups rows and loses nothing, and its dates."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.is_line = entry["kind"] == "line"
        self.begin: date = entry["valid_from"] or date.min
        self.end: date = entry["valid_to"] or date.max
        self.percent = str(entry["percent"])


def _percents_on(entries: Sequence[_Loss], day: date) -> tuple[str, str]:
    """Transformation and line percentage in force on a day."""
    transformation = line = "0"
    for entry in entries:
        if entry.begin <= day < entry.end:
            if entry.is_line:
                line = entry.percent
            else:
                transformation = entry.percent
    return transformation, line


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
    return [int(row) for row in rows[~fits] if not _multiply_exactly(matrix, int(row), factor)]


def _multiply_exactly(matrix: SeriesMatrix, row: int, factor: Fraction) -> bool:
    """The same in unbounded integers and lowest terms: may still fit where the plain product does not."""
    values = {
        slot: value * factor for slot in range(matrix.slots) if (value := matrix.value(row, slot)) is not None
    }
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
