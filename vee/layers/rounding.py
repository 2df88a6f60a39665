"""Layer 5: the one rounding. Half up, to three decimals of a kWh, into integers over 1000.

Three decimals are what was seen on CCEE's side; in a 31-day month the error is at most 4.464 kWh
(vee_rules.md section 2). Nothing after this step computes with other than these integers.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import polars as pl

from faults import DeveloperFault
from vee.frames import (
    INT64_MAX,
    SeriesMatrix,
    in_order,
    max_abs,
    split_by_slots,
    to_frame,
    to_matrix,
)

MILLI = 1000


def round_half_up(value: Fraction) -> int:
    """Milli-units of a value that is not negative.

    >>> round_half_up(Fraction("12.653625")), round_half_up(Fraction("0.0005"))
    (12654, 1)
    """
    return (2 * MILLI * value.numerator + value.denominator) // (2 * value.denominator)


def to_ccee(adjusted: pl.DataFrame) -> pl.DataFrame:
    """Series frame of layer 5: denominator 1000 everywhere, rows as given, missing stays missing.

    Raises:
        DeveloperFault: a rounded value does not fit 64 bits; `losses.adjust` sets such UC-days aside.
    """
    series: list[pl.DataFrame] = []
    for part in split_by_slots(adjusted):
        matrix = to_matrix(part)
        _round(matrix)
        series.append(to_frame(matrix))
    return in_order(adjusted, series)


def _round(matrix: SeriesMatrix) -> None:
    """Round in place: in 64 bits where the bound allows, else in unbounded integers."""
    den = matrix.denominator
    fits = (max_abs(matrix.numerators) <= (INT64_MAX - den) // (2 * MILLI)) & (den <= INT64_MAX // 2)
    fast = np.flatnonzero(fits)
    half = den[fast][:, None]
    matrix.numerators[fast] = (matrix.numerators[fast] * (2 * MILLI) + half) // (2 * half)
    for row in np.flatnonzero(~fits).tolist():
        divisor = int(den[row])
        rounded = [round_half_up(Fraction(number, divisor)) for number in matrix.numerators[row].tolist()]
        if max(rounded) > INT64_MAX:
            raise DeveloperFault(
                "a rounded value does not fit 64 bits",
                where=f"UC {matrix.uc_id[row]} day {matrix.day_of(row)}",
                remedy="run losses.adjust first: it sets such days aside",
            )
        matrix.numerators[row] = rounded
    matrix.denominator[:] = MILLI
