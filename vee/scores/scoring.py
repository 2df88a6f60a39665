"""How far estimates lie from what was measured: gaps laid over good days, errors, and scores by class.

What belongs here: which shapes gaps have, which good days they are laid over, the difference of an estimate
to the truth, and what many differences come to. What does not: estimating (`estimation`, the same that fills
real gaps), reading and keeping (`derivation.scores`). Scores are floats: they are shown, and alter nothing.

A *gap* here is what is missing in a row within one day; one that crosses midnight counts once in each day.
Its *length* is one of `LENGTHS`. A *class* of UCs says how much they use (`LEVELS`, by the mean energy of a
day) and how evenly (`STEADY_FROM`: mean over largest hour). Both only sort what is shown; no rule uses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, time
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl

from vee.calendars import ONE_DAY
from vee.frames import Mask, SeriesMatrix, runs, split_by_slots, to_matrix
from vee.quality import Origin

ALL = "all"
"""In place of a length or a class: whatever it is."""
# A gap is of the first length whose hours it does not reach.
LENGTHS: tuple[tuple[str, float], ...] = (
    ("under_1h", 1),
    ("1h_to_2h", 2),
    ("2h_to_6h", 6),
    ("6h_to_24h", 24),
    ("whole_day", float("inf")),
)
# A UC is of the first level whose kWh a day it does not reach: 10 kW, 100 kW and 1 MW on the mean.
LEVELS: tuple[tuple[str, float], ...] = (
    ("under_240_kwh", 240),
    ("under_2400_kwh", 2_400),
    ("under_24000_kwh", 24_000),
    ("from_24000_kwh", float("inf")),
)
STEADY_FROM = 0.6
STEADY, VARYING = "steady", "varying"
# Estimates of these are replaced by no late reading: their slots were collected.
_NOT_REPLACED = frozenset({"C"})

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

F64 = npt.NDArray[np.float64]
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


def scored_method(method: str, detail: str) -> str:
    """The name under which an estimate is scored: its method, and E0 where a register bound it.

    Args:
        detail: of the estimate, JSON.
    """
    return f"{method}+E0" if "register_factor" in orjson.loads(detail) else method


def length_name(slots: int, slots_per_hour: int) -> str:
    """Of how many slots in a row within a day.

    >>> length_name(11, 12), length_name(12, 12), length_name(288, 12)
    ('under_1h', '1h_to_2h', 'whole_day')
    """
    return next(name for name, hours in LENGTHS if slots < hours * slots_per_hour)


def uc_classes(shapes: pl.DataFrame) -> pl.DataFrame:
    """`uc_id, uc_class` of the UCs that have a whole day.

    Args:
        shapes: `uc_id, hours_wh` of days, as `vee.shapes` makes them.
    """
    hours = pl.col("hours_wh")
    days = shapes.filter(hours.list.drop_nulls().list.len() == hours.list.len()).select(
        "uc_id", kwh=hours.list.sum() / 1000, top=hours.list.max() / 1000, hours=hours.list.len()
    )
    means = days.group_by("uc_id").agg(pl.col("kwh", "top", "hours").mean()).sort("uc_id")
    level = pl.lit(LEVELS[-1][0])
    for name, below in reversed(LEVELS[:-1]):
        level = pl.when(pl.col("kwh") < below).then(pl.lit(name)).otherwise(level)
    is_steady = pl.col("kwh") / pl.col("hours") >= STEADY_FROM * pl.col("top")
    evenness = pl.when(is_steady).then(pl.lit(STEADY)).otherwise(pl.lit(VARYING))
    return means.select("uc_id", uc_class=pl.concat_str(level, pl.lit("/"), evenness))


# --- gaps ---------------------------------------------------------------------------------------------------


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


# --- errors -------------------------------------------------------------------------------------------------


def errors(
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
            gap_length=_length(length.cast(pl.Int64), slots_per_hour),
        )
        # A rule may fill a gap piece by piece: it is one estimate all the same.
        .group_by("gap", *_KEY, "strategy", "method", "gap_length", "uc_class", maintain_order=True)
        .agg(pl.col("slots", "estimated_kwh", "measured_kwh", "interval_error_kwh").sum())
        .filter(pl.col("slots") > 0)
        .select(pl.col(name).cast(kind) for name, kind in ERROR_SCHEMA.items())
    )


def _length(slots: pl.Expr, slots_per_hour: int) -> pl.Expr:
    names = pl.lit(LENGTHS[-1][0])
    for name, hours in reversed(LENGTHS[:-1]):
        names = pl.when(slots < hours * slots_per_hour).then(pl.lit(name)).otherwise(names)
    return names


def _kwh(matrix: SeriesMatrix, counts: Mask) -> F64:
    return np.where(counts, matrix.numerators / matrix.denominator[:, None], 0.0)


def scores(found: pl.DataFrame) -> pl.DataFrame:
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


# --- estimates that gave way --------------------------------------------------------------------------------


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


def replaced(estimates: pl.DataFrame, before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
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
            gap_length=_length(pl.col("gap_slots").cast(pl.Int64), slots_per_hour),
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
