"""Layer 5: the one rounding. Half up, to three decimals of a kWh, into integers over 1000.

Three decimals are what was seen on CCEE's side; in a 31-day month the error is at most 4.464 kWh
(vee_rules.md section 2). Nothing after this step computes with other than these integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from fractions import Fraction

import numpy as np
import polars as pl

from vee.frames import (
    INT64_MAX,
    QUARANTINE_SCHEMA,
    SeriesMatrix,
    clear_row,
    empty_series,
    max_abs,
    split_by_slots,
    to_frame,
    to_matrix,
)
from vee.quality import Cause

MILLI = 1000


def round_half_up(value: Fraction) -> int:
    """Milli-units of a value that is not negative.

    >>> round_half_up(Fraction("12.653625")), round_half_up(Fraction("0.0005"))
    (12654, 1)
    """
    return (2 * MILLI * value.numerator + value.denominator) // (2 * value.denominator)


@dataclass(frozen=True)
class RoundingResult:
    """Layer 5 (denominator 1000 everywhere, missing stays missing) and the UC-days that do not fit 64 bits."""

    series: pl.DataFrame
    quarantined: pl.DataFrame


def to_ccee(adjusted: pl.DataFrame) -> RoundingResult:
    """Round the adjusted series, rows as given. A UC-day set aside has all its slots missing."""
    order = adjusted.select("uc_id", "day")
    series = [empty_series()]
    bad: list[tuple[int, date, str, str, str]] = []
    for part in split_by_slots(adjusted):
        matrix = to_matrix(part)
        for row in _round(matrix):
            uc_id, day = int(matrix.uc_id[row]), matrix.day_of(row)
            bad.append((uc_id, day, "arithmetic", Cause.ARITHMETIC.value, "{}"))
            clear_row(matrix, row)
        matrix.denominator[:] = MILLI
        series.append(to_frame(matrix))
    return RoundingResult(
        series=order.join(pl.concat(series), on=["uc_id", "day"], how="left", maintain_order="left"),
        quarantined=pl.DataFrame(bad, schema=QUARANTINE_SCHEMA, orient="row"),
    )


def _round(matrix: SeriesMatrix) -> list[int]:
    """Round in place; returns the rows whose result does not fit."""
    den = matrix.denominator
    fits = (max_abs(matrix.numerators) <= (INT64_MAX - den) // (2 * MILLI)) & (den <= INT64_MAX // 2)
    fast = np.flatnonzero(fits)
    half = den[fast][:, None]
    matrix.numerators[fast] = (matrix.numerators[fast] * (2 * MILLI) + half) // (2 * half)
    bad = []
    for row in np.flatnonzero(~fits).tolist():
        divisor = int(den[row])
        rounded = [round_half_up(Fraction(number, divisor)) for number in matrix.numerators[row].tolist()]
        if max(rounded) > INT64_MAX:
            bad.append(row)
        else:
            matrix.numerators[row] = rounded
    return bad
