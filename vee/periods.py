"""Verdicts of consecutive days joined into periods: what an operator works from instead of days.

A period is a run of days on each of which a rule said the same of a UC. It begins at the first slot named on
its first day and ends at the last slot named on its last; it is open while the last day that was judged
belongs to it. Periods are a function of the verdicts alone, so they grow, split and close as days are judged,
in whatever order: only their numbers and when they were first seen are carried over.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import polars as pl

from vee.quality import Result

# Results that leave something to be done; what is only informed of is listed elsewhere.
JOINED = (Result.MISSING, Result.REFUSED, Result.HELD, Result.SUSPECT)
PERIOD_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "rule": pl.String(),
    "cause": pl.String(),
    "result": pl.String(),
    "first_day": pl.Date(),
    "first_slot": pl.Int16(),
    "last_day": pl.Date(),
    "last_slot": pl.Int16(),
    "days": pl.Int32(),
    "slots": pl.Int32(),
    "evidence": pl.String(),
    "state": pl.String(),
}
_WHOSE = ["uc_id", "rule", "cause"]


def join_periods(verdicts: pl.DataFrame, last_judged: Mapping[int, date]) -> pl.DataFrame:
    """All periods that these verdicts make, PERIOD_SCHEMA.

    Args:
        verdicts: `frames.VERDICT_SCHEMA`; only results in `JOINED` count. Missing runs are told apart by
            `detail.cause`.
        last_judged: by UC, the latest day that has an outcome.
    """
    wanted = verdicts.filter(pl.col("result").is_in([result.value for result in JOINED]))
    if wanted.is_empty():
        return pl.DataFrame(schema=PERIOD_SCHEMA)
    cause = pl.col("detail").str.json_path_match("$.cause").fill_null("")
    by_day = (
        wanted.with_columns(cause=pl.when(pl.col("rule") == "V01").then(cause).otherwise(pl.lit("")))
        .sort("uc_id", "rule", "cause", "day", "first_slot")
        .group_by(*_WHOSE, "day", maintain_order=True)
        .agg(
            pl.col("result").last(),
            pl.col("first_slot").first(),
            pl.col("last_slot").max(),
            (pl.col("last_slot") - pl.col("first_slot") + 1).cast(pl.Int32).sum().alias("slots"),
            pl.col("detail").last().alias("evidence"),
        )
    )
    # Consecutive days keep the same distance to their own number.
    number = pl.int_range(pl.len()).over(_WHOSE)
    joined = (
        by_day.with_columns(run=pl.col("day").to_physical().cast(pl.Int64) - number)
        .group_by(*_WHOSE, "run", maintain_order=True)
        .agg(
            pl.col("result").last(),
            pl.col("day").first().alias("first_day"),
            pl.col("first_slot").first(),
            pl.col("day").last().alias("last_day"),
            pl.col("last_slot").last(),
            pl.len().cast(pl.Int32).alias("days"),
            pl.col("slots").sum(),
            pl.col("evidence").last(),
        )
    )
    last = pl.DataFrame(
        list(last_judged.items()), schema={"uc_id": pl.Int64, "judged": pl.Date}, orient="row"
    )
    is_open = pl.col("last_day") >= pl.col("judged")
    return (
        joined.join(last, on="uc_id", how="left", maintain_order="left")
        .with_columns(state=pl.when(is_open.fill_null(True)).then(pl.lit("open")).otherwise(pl.lit("closed")))
        .select(pl.col(name).cast(kind) for name, kind in PERIOD_SCHEMA.items())
    )
