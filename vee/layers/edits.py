"""A person's decisions about values: slots that are set aside, and values that are set.

Pure. A decision never changes what was measured (layer 1): what is set aside is missing from layer 2 on and
is estimated like any gap; what is set is missing from layer 2, too, and stands in layer 3 with origin EDITED.
Later decisions win over earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from fractions import Fraction
from typing import Any

import polars as pl

from vee.frames import SeriesMatrix, as_fraction, in_order, set_values, split_by_slots, to_frame, to_matrix
from vee.quality import Origin, Reason

# One row a run of slots of a UC-day. `kwh`: exact values as text ("5.742", "287/50"), one a slot; null sets
# the run aside. Rows in the order of the decisions.
EDIT_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "first_slot": pl.Int16(),
    "last_slot": pl.Int16(),
    "kwh": pl.List(pl.String()),
}
_KEY = ["uc_id", "day"]
_Edit = Mapping[str, Any]


def set_aside(series: pl.DataFrame, edits: pl.DataFrame) -> pl.DataFrame:
    """Layer 2 without the slots that a person holds to be wrong, or has given other values.

    Args:
        series: series frame. edits: EDIT_SCHEMA.
    """
    return _on_rows(series, edits, _clear)


def overlay(series: pl.DataFrame, edits: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Layer 3 with the values that a person set.

    Returns:
        The series frame, and `uc_id, day` of the rows that stay as they were because the exact values do not
        fit 64 bits.
    """
    refused: list[tuple[object, ...]] = []

    def put(matrix: SeriesMatrix, row: int, edit: _Edit) -> None:
        if not _set(matrix, row, edit):
            refused.append((edit["uc_id"], edit["day"]))

    done = _on_rows(series, edits.filter(pl.col("kwh").is_not_null()), put)
    schema = {"uc_id": pl.Int64, "day": pl.Date}
    return done, pl.DataFrame(refused, schema=schema, orient="row").unique(maintain_order=True)


def _on_rows(
    series: pl.DataFrame, edits: pl.DataFrame, act: Callable[[SeriesMatrix, int, _Edit], None]
) -> pl.DataFrame:
    """`act` on each edit's row; rows without an edit, nearly all, are passed by."""
    if edits.is_empty():
        return series
    touched = series.join(edits.select(_KEY), on=_KEY, how="semi", maintain_order="left")
    parts = []
    for part in split_by_slots(touched):
        matrix = to_matrix(part)
        for edit in edits.iter_rows(named=True):
            row = matrix.row_of(edit["uc_id"], edit["day"])
            if row is not None:
                act(matrix, row, edit)
        parts.append(to_frame(matrix))
    untouched = series.join(edits.select(_KEY), on=_KEY, how="anti", maintain_order="left")
    return in_order(series, [untouched.select(parts[0].columns), *parts]) if parts else series


def _clear(matrix: SeriesMatrix, row: int, edit: _Edit) -> None:
    span = _span(matrix, edit)
    matrix.known[row, span] = False
    matrix.numerators[row, span] = 0
    matrix.origin[row, span] = Origin.MISSING
    matrix.reason[row, span] = Reason.REJECTED_BY_ANALYST


def _set(matrix: SeriesMatrix, row: int, edit: _Edit) -> bool:
    span = _span(matrix, edit)
    # A run that was set for a longer day keeps the values of the slots that there are.
    pairs = zip(range(matrix.slots)[span], edit["kwh"], strict=False)
    if not set_values(matrix, row, {slot: as_fraction(text) for slot, text in pairs}):
        return False
    matrix.origin[row, span] = Origin.EDITED
    matrix.reason[row, span] = Reason.EDITED_BY_ANALYST
    return True


def _span(matrix: SeriesMatrix, edit: _Edit) -> slice:
    return slice(edit["first_slot"], min(edit["last_slot"] + 1, matrix.slots))


def values_of(series: pl.DataFrame, uc_id: int, day: date) -> list[Fraction | None]:
    """Exact values of one UC-day, kWh, one a slot; empty where the frame has no such row."""
    row = series.filter((pl.col("uc_id") == uc_id) & (pl.col("day") == day))
    if row.is_empty():
        return []
    matrix = to_matrix(row)
    return [matrix.value(0, slot) for slot in range(matrix.slots)]
