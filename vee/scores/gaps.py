"""Which gaps are laid over which good days: the shapes that real gaps had, and a draw that a seed decides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, time

import numpy as np
import polars as pl

from vee.calendars import ONE_DAY

SHAPE_SCHEMA: dict[str, pl.DataType] = {
    "weekday": pl.Int8(),
    "first_slot": pl.Int32(),
    "slots": pl.Int32(),
}
"""What gaps look like: ISO weekday (0: any), first missing slot of the first day, slots in all."""
PIECE_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "first_slot": pl.Int16(),
    "last_slot": pl.Int16(),
    "gap": pl.Int64(),
    "uc_class": pl.String(),
}
"""A gap as it lies in one day."""

_KEY = ["uc_id", "day"]


@dataclass(frozen=True)
class Draw:
    """How much is drawn.

    Attributes:
        uc_days: UC-days that get a gap, at most. days: different days among them.
        seed: the same seed over the same days and shapes draws the same.
    """

    uc_days: int
    days: int
    seed: int


def gap_shapes(missing: pl.DataFrame, slots_per_day: int) -> pl.DataFrame:
    """SHAPE_SCHEMA of what was missing: runs that touch are one gap, across midnight, too.

    Args:
        missing: `uc_id, day, first_slot, last_slot`.
    """
    at = pl.col("day").to_physical().cast(pl.Int64) * slots_per_day
    ordered = (
        missing.select("uc_id", begin=at + pl.col("first_slot"), end=at + pl.col("last_slot"))
        .unique()
        .sort("uc_id", "begin", "end")
        # What was missing before may be told of twice: as missing then, and as replaced since.
        .with_columns(known_until=pl.col("end").cum_max().shift(1).over("uc_id"))
    )
    begins = (pl.col("begin") > pl.col("known_until") + 1).fill_null(True)
    return (
        ordered.with_columns(gap=begins.cum_sum())
        .group_by("gap", maintain_order=True)
        .agg(pl.col("begin").min(), pl.col("end").max())
        .select(
            weekday=(pl.col("begin") // slots_per_day).cast(pl.Int32).cast(pl.Date).dt.weekday(),
            first_slot=pl.col("begin") % slots_per_day,
            slots=pl.col("end") - pl.col("begin") + 1,
        )
        .cast(SHAPE_SCHEMA)  # type: ignore[arg-type]  # polars names a narrower mapping
    )


def shapes_of_words(words: str, interval_s: int) -> pl.DataFrame:
    """SHAPE_SCHEMA of any weekday, of words like `10:00+240`: where a gap begins, and its minutes.

    Raises:
        ValueError: naming the word that is none.
    """
    rows = []
    for word in words.split():
        try:
            begins, minutes = word.split("+")
            start, length_s = time.fromisoformat(begins), int(minutes) * 60
        except ValueError:
            raise ValueError(f"{word!r} is no gap such as 10:00+240") from None
        start_s = start.hour * 3600 + start.minute * 60
        if length_s <= 0 or start_s % interval_s or length_s % interval_s:
            raise ValueError(f"{word!r} is not made of whole intervals of {interval_s} s")
        rows.append((0, start_s // interval_s, length_s // interval_s))
    if not rows:
        raise ValueError("names no gap such as 10:00+240")
    return pl.DataFrame(rows, schema=SHAPE_SCHEMA, orient="row")


def draw_gaps(
    candidates: pl.DataFrame, shapes: pl.DataFrame, chosen: Draw, slots_per_day: int
) -> pl.DataFrame:
    """PIECE_SCHEMA: gaps laid over good days, at most one a UC in three days.

    Days are taken of all weekdays in turn, UCs of all classes in turn, and a gap has one of the shapes that
    begin on its weekday (any, where none does). A gap ends where the UC's good days end.

    Args:
        candidates: `uc_id, day, uc_class`, the good days.
    """
    rng = np.random.default_rng(chosen.seed)
    ordered = candidates.sort(_KEY)
    days = ordered.select(pl.col("day").unique().sort())
    days = (
        days.with_columns(luck=pl.Series(rng.random(days.height)), weekday=pl.col("day").dt.weekday())
        .with_columns(turn=pl.col("luck").rank("ordinal").over("weekday"))
        .sort("turn", "luck")
        .head(chosen.days)
    )
    each = -(-chosen.uc_days // max(days.height, 1))
    drawn = (
        ordered.join(days.select("day", "weekday"), on="day", maintain_order="left")
        .with_columns(luck=pl.Series(rng.random(ordered.join(days, on="day", how="semi").height)))
        .with_columns(turn=pl.col("luck").rank("ordinal").over("day", "uc_class"))
        .sort("turn", "luck")
        .filter(pl.int_range(pl.len()).over("day") < each)
        .sort(_KEY)
    )
    laid = _with_shapes(drawn, shapes, rng)
    last = pl.col("first_slot") + pl.col("slots") - 1
    pieces = (
        laid.with_row_index("gap")
        .with_columns(step=pl.int_ranges(0, last // slots_per_day + 1), last=last)
        .explode("step")
        .select(
            "uc_id",
            (pl.col("day") + pl.duration(days=pl.col("step"))).alias("day"),
            first_slot=pl.max_horizontal("first_slot", pl.col("step") * slots_per_day) % slots_per_day,
            last_slot=pl.min_horizontal("last", pl.col("step") * slots_per_day + slots_per_day - 1)
            % slots_per_day,
            gap="gap",
            uc_class="uc_class",
        )
    )
    good = pieces.join(candidates.select(*_KEY, is_good=True), on=_KEY, how="left", maintain_order="left")
    whole = good.filter(pl.col("is_good").fill_null(False).cum_min().over("gap"))
    return _apart(whole.drop("is_good")).cast(PIECE_SCHEMA)  # type: ignore[arg-type]  # as above


def _with_shapes(drawn: pl.DataFrame, shapes: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """The UC-days with a shape each."""
    parts = []
    for (weekday,), part in sorted(drawn.partition_by("weekday", as_dict=True).items()):
        fitting = shapes.filter(pl.col("weekday").is_in([0, weekday]))
        fitting = fitting if fitting.height else shapes
        taken = fitting[rng.integers(0, fitting.height, part.height)]
        parts.append(part.with_columns(taken["first_slot"], taken["slots"]))
    whole = (
        pl.concat(parts)
        if parts
        else drawn.with_columns(shapes["first_slot"].clear(), shapes["slots"].clear())
    )
    return whole.sort(_KEY)


def _apart(pieces: pl.DataFrame) -> pl.DataFrame:
    """Without gaps that begin on a day of an earlier one or right after it: none is another's neighbour."""
    spans = pieces.group_by("gap").agg(
        pl.col("uc_id").first(), begin=pl.col("day").min(), end=pl.col("day").max()
    )
    kept: list[int] = []
    ends: dict[int, date] = {}
    for gap, uc_id, begin, end in spans.sort("uc_id", "begin").iter_rows():
        if uc_id not in ends or begin > ends[uc_id] + 2 * ONE_DAY:
            kept.append(gap)
            ends[uc_id] = end
    return pieces.filter(pl.col("gap").is_in(kept))
