"""What scores are sorted by: the method, the length of a gap, the class of a UC.

A *gap* is what is missing in a row within one day; one that crosses midnight counts once in each day. Its
*length* is one of `LENGTHS`. A *class* of UCs says how much they use (`LEVELS`, by the mean energy of a day)
and how evenly (`STEADY_FROM`: mean over largest hour). Both only sort what is shown; no rule uses them.
"""

from __future__ import annotations

import orjson
import polars as pl

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
        shapes: `uc_id, hours_wh` of days, as `vee.strategies.shapes` makes them.
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


def length_of(slots: pl.Expr, slots_per_hour: int) -> pl.Expr:
    """`length_name` of a column."""
    names = pl.lit(LENGTHS[-1][0])
    for name, hours in reversed(LENGTHS[:-1]):
        names = pl.when(slots < hours * slots_per_hour).then(pl.lit(name)).otherwise(names)
    return names
