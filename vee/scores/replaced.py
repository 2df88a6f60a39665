"""Estimates that gave way to what the meter had: found, and their differences, exact."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from fractions import Fraction

import numpy as np
import polars as pl

from vee.frames import SeriesMatrix, runs, split_by_slots, to_matrix
from vee.quality import Origin
from vee.scores.classes import length_of, scored_method
from vee.scores.errors import ERROR_SCHEMA

# Estimates of these are replaced by no late reading: their slots were collected.
_NOT_REPLACED = frozenset({"C"})
REPLACED_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "first_slot": pl.Int16(),
    "last_slot": pl.Int16(),
    "strategy": pl.String(),
    "method": pl.String(),
    "gap_slots": pl.Int16(),
    "estimated_kwh": pl.String(),
    "measured_kwh": pl.String(),
    "interval_error_kwh": pl.String(),
}
"""Slots whose estimate gave way to what the meter had; energies to nine decimals, as text."""

_KEY = ["uc_id", "day"]


def is_now_measured(estimates: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """The UC-days, `uc_id, day`, of which some slot that an estimate filled is measured now.

    Args:
        estimates: `uc_id, day, first_slot, last_slot, method`. after: layer 3 as it is now.
    """
    found = estimates.filter(~pl.col("method").is_in(list(_NOT_REPLACED))).join(
        after.select(*_KEY, "origin"), on=_KEY
    )
    keep = [
        Origin.MEASURED in origin[first : last + 1]
        for first, last, origin in found.select("first_slot", "last_slot", "origin").iter_rows()
    ]
    return found.filter(pl.Series(keep, dtype=pl.Boolean)).select(_KEY).unique().sort(_KEY)


def differences(estimates: pl.DataFrame, before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """REPLACED_SCHEMA: what the meter had in place of what was estimated.

    Args:
        estimates: of the version before, `uc_id, day, first_slot, last_slot, strategy, method, detail`.
        before, after: layer 3 of the same UC-days, as it was and as it is now.
    """
    was = {key: row for key, row in _rows_by_uc_day(before)}
    now = {key: row for key, row in _rows_by_uc_day(after)}
    found: list[tuple[object, ...]] = []
    for uc_id, day, first, last, strategy, method, detail in estimates.select(
        *_KEY, "first_slot", "last_slot", "strategy", "method", "detail"
    ).iter_rows():
        if method in _NOT_REPLACED or (uc_id, day) not in was or (uc_id, day) not in now:
            continue
        (old, i), (new, j) = was[uc_id, day], now[uc_id, day]
        if old.slots != new.slots:
            continue
        gave_way = np.zeros(old.slots, np.bool_)
        gave_way[first : last + 1] = (new.origin[j, first : last + 1] == Origin.MEASURED) & old.known[
            i, first : last + 1
        ]
        filled = np.isin(old.origin[i], [Origin.ESTIMATED, Origin.BACKUP])
        gaps = runs(filled)
        for begin, end in runs(gave_way):
            pairs = [(old.value(i, slot), new.value(j, slot)) for slot in range(begin, end + 1)]
            both = [(a, b) for a, b in pairs if a is not None and b is not None]
            gap = next((b - a + 1 for a, b in gaps if a <= begin <= b), end - begin + 1)
            energies = (
                sum((a for a, _ in both), Fraction(0)),
                sum((b for _, b in both), Fraction(0)),
                sum((abs(a - b) for a, b in both), Fraction(0)),
            )
            name = scored_method(method, detail)
            found.append((uc_id, day, begin, end, strategy, name, gap, *map(_nine_decimals, energies)))
    return pl.DataFrame(found, schema=REPLACED_SCHEMA, orient="row")


def errors_of_replaced(found: pl.DataFrame, classes: pl.DataFrame, slots_per_hour: int) -> pl.DataFrame:
    """ERROR_SCHEMA of REPLACED_SCHEMA, a row each.

    Args:
        classes: `uc_id, uc_class`; a UC that has none counts in no class.
    """
    return (
        found.with_columns(
            pl.col("estimated_kwh", "measured_kwh", "interval_error_kwh").cast(pl.Float64),
            slots=(pl.col("last_slot") - pl.col("first_slot") + 1).cast(pl.Int64),
            gap_length=length_of(pl.col("gap_slots").cast(pl.Int64), slots_per_hour),
        )
        .join(classes, on="uc_id", how="left", maintain_order="left")
        .with_columns(pl.col("uc_class").fill_null(""))
        .select(pl.col(name).cast(kind) for name, kind in ERROR_SCHEMA.items())
    )


def _rows_by_uc_day(frame: pl.DataFrame) -> Sequence[tuple[tuple[int, date], tuple[SeriesMatrix, int]]]:
    found = []
    for part in split_by_slots(frame):
        matrix = to_matrix(part)
        keys = zip(matrix.uc_id.tolist(), matrix.day.tolist(), strict=True)
        found += [(key, (matrix, row)) for row, key in enumerate(keys)]
    return found


def _nine_decimals(amount: Fraction) -> str:
    scaled = round(abs(amount) * 10**9)
    return f"{'-' if amount < 0 else ''}{scaled // 10**9}.{scaled % 10**9:09d}"
