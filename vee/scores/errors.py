"""The difference of an estimate to the truth, gap by gap, and what many differences come to."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from vee.frames import Mask, SeriesMatrix, to_matrix
from vee.quality import Origin
from vee.scores.classes import ALL, length_of, scored_method

ERROR_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "strategy": pl.String(),
    "method": pl.String(),
    "gap_length": pl.String(),
    "uc_class": pl.String(),
    "slots": pl.Int64(),
    "estimated_kwh": pl.Float64(),
    "measured_kwh": pl.Float64(),
    "interval_error_kwh": pl.Float64(),
}
"""One gap of a day by one method: energies, and the sum of what each interval differs by."""
SCORE_SCHEMA: dict[str, pl.DataType] = {
    "strategy": pl.String(),
    "method": pl.String(),
    "gap_length": pl.String(),
    "uc_class": pl.String(),
    "gaps": pl.Int64(),
    "intervals": pl.Int64(),
    "measured_kwh": pl.Float64(),
    "bias_share": pl.Float64(),
    "mae_share": pl.Float64(),
    "interval_mae_share": pl.Float64(),
    "p90_share": pl.Float64(),
}
"""What many errors come to; shares are null where nothing was used."""

F64 = npt.NDArray[np.float64]
_KEY = ["uc_id", "day"]


def gap_errors(
    pieces: pl.DataFrame,
    truth: pl.DataFrame,
    estimated: pl.DataFrame,
    estimates: pl.DataFrame,
    slots_per_hour: int,
) -> pl.DataFrame:
    """ERROR_SCHEMA of gaps that were estimated. Slots that nobody measured count in neither energy.

    Args:
        pieces: PIECE_SCHEMA, one a UC-day. truth, estimated: series of their UC-days, of one number of slots.
        estimates: as `estimation` made them.
    """
    lying = estimates.with_columns(
        method=pl.struct("method", "detail").map_elements(
            lambda row: scored_method(row["method"], row["detail"]), return_dtype=pl.String
        )
    ).join(pieces, on=_KEY, suffix="_gap")
    if lying.is_empty():
        return pl.DataFrame(schema=ERROR_SCHEMA)
    uc_days = lying.select(_KEY).unique(maintain_order=True).with_row_index("row")
    made, told = (
        to_matrix(uc_days.join(frame, on=_KEY, how="inner", maintain_order="left"))
        for frame in (estimated, truth)
    )
    counts = told.known & (told.origin == Origin.MEASURED) & made.known
    ours, theirs = (_kwh(matrix, counts) for matrix in (made, told))
    rows = lying.join(uc_days, on=_KEY)
    at = rows["row"].to_numpy()
    first = rows.select(pl.max_horizontal("first_slot", "first_slot_gap")).to_series().to_numpy()
    end = rows.select(pl.min_horizontal("last_slot", "last_slot_gap") + 1).to_series().to_numpy()

    def within(values: F64) -> F64:
        sums = np.concatenate([np.zeros((len(values), 1)), values.cumsum(axis=1)], axis=1)
        return np.asarray(sums[at, end] - sums[at, first], np.float64)

    length = pl.col("last_slot_gap") - pl.col("first_slot_gap") + 1
    return (
        rows.with_columns(
            slots=pl.Series(within(counts.astype(np.float64)).astype(np.int64)),
            estimated_kwh=pl.Series(within(ours)),
            measured_kwh=pl.Series(within(theirs)),
            interval_error_kwh=pl.Series(within(np.abs(ours - theirs))),
            gap_length=length_of(length.cast(pl.Int64), slots_per_hour),
        )
        # A rule may fill a gap piece by piece: it is one estimate all the same.
        .group_by("gap", *_KEY, "strategy", "method", "gap_length", "uc_class", maintain_order=True)
        .agg(pl.col("slots", "estimated_kwh", "measured_kwh", "interval_error_kwh").sum())
        .filter(pl.col("slots") > 0)
        .select(pl.col(name).cast(kind) for name, kind in ERROR_SCHEMA.items())
    )


def _kwh(matrix: SeriesMatrix, counts: Mask) -> F64:
    return np.where(counts, matrix.numerators / matrix.denominator[:, None], 0.0)


def scores_of(found: pl.DataFrame) -> pl.DataFrame:
    """SCORE_SCHEMA of ERROR_SCHEMA: by length and class, by length, by class, and of all together.

    `mae_share` = sum of |estimated - measured| over sum of measured, gap by gap; `bias_share` the same with
    the sign; `interval_mae_share` interval by interval; `p90_share`: nine of ten gaps that used energy differ
    by no more of it.
    """
    each = found.with_columns(
        error=pl.col("estimated_kwh") - pl.col("measured_kwh"),
        share=(pl.col("estimated_kwh") - pl.col("measured_kwh")).abs() / pl.col("measured_kwh"),
    )
    used = pl.col("measured_kwh").sum()

    def of_all(amount: pl.Expr) -> pl.Expr:
        return pl.when(used > 0).then(amount.sum() / used)

    whole = []
    for kept in ([], ["gap_length"], ["uc_class"], ["gap_length", "uc_class"]):
        rolled = [pl.lit(ALL).alias(name) for name in ("gap_length", "uc_class") if name not in kept]
        whole.append(
            # A UC of no class counts only where all classes are together.
            (each.filter(pl.col("uc_class") != "") if "uc_class" in kept else each)
            .with_columns(*rolled)
            .group_by("strategy", "method", "gap_length", "uc_class")
            .agg(
                gaps=pl.len(),
                intervals=pl.col("slots").sum(),
                measured_kwh=used,
                bias_share=of_all(pl.col("error")),
                mae_share=of_all(pl.col("error").abs()),
                interval_mae_share=of_all(pl.col("interval_error_kwh")),
                p90_share=pl.col("share").filter(pl.col("measured_kwh") > 0).quantile(0.9, "linear"),
            )
            .select(pl.col(name).cast(kind) for name, kind in SCORE_SCHEMA.items())
        )
    return pl.concat(whole).sort("strategy", "method", "gap_length", "uc_class")
