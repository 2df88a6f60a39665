"""Dead phases, from what a meter tells of each phase: stretches of intervals that rules V22 and C look at.

Two kinds of witness. Channels of volt-hours and ampere-hours (or the columns of a load profile that say the
same) speak of each interval: they prove. A page of instantaneous values speaks of one moment: it proves
nothing of the time between two pages, and makes that time suspect.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Any

import polars as pl

from vee.calendars import ONE_DAY, day_start, slots_per_day
from vee.layers.validation import PHASE_LOSS_SCHEMA

PHASES = (1, 2, 3)
VOLTAGES = tuple(f"voltage_{k}_v" for k in PHASES)
CURRENTS = tuple(f"current_{k}_a" for k in PHASES)
# Quantity codes of the channels: volt-hours and ampere-hours of each phase (nbr14522.md 9.1), and, ours, what
# a load profile captured at the end of each interval.
AVERAGES: dict[int, str] = dict(zip(range(17, 23), (*VOLTAGES, *CURRENTS), strict=True))
INSTANTS: dict[int, str] = dict(zip(range(81, 87), (*VOLTAGES, *CURRENTS), strict=True))

CHANNEL_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "element_count": pl.Int16(),
    "quantity_code": pl.Int16(),
    "interval_s": pl.Int32(),
    "pulses": pl.List(pl.Int32()),
}
"""Days of a main meter's phase channels, as its memory counted them."""

SAMPLE_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "at": pl.Datetime("us", "UTC"),
    "element_count": pl.Int16(),
    **{name: pl.Float64() for name in (*VOLTAGES, *CURRENTS)},
}
"""Instantaneous values of a main meter's phases."""

# Pages further apart than this say nothing of the time between them.
_MOST_APART = timedelta(hours=36)
_KEY = ["uc_id", "day"]
TOLD_SCHEMA: dict[str, pl.DataType] = {"uc_id": pl.Int64(), "day": pl.Date()}
"""UC-days of which a meter tells anything of its phases."""


def phase_losses(
    channels: pl.DataFrame,
    samples: pl.DataFrame,
    days: Collection[date],
    zone: str,
    interval_s: int,
    *,
    zero_current_proves: bool = False,
    loaded_share: float = 0.2,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Dead phases of these days (PHASE_LOSS_SCHEMA), and UC-days of which meters tell anything (TOLD_SCHEMA).

    Args:
        channels, samples: CHANNEL_SCHEMA, SAMPLE_SCHEMA; samples count for UC-days without channels only.
    """
    found = by_intervals(
        channels, interval_s, zero_current_proves=zero_current_proves, loaded_share=loaded_share
    )
    sampled = by_samples(samples, days, zone, interval_s) if samples.height else found.clear()
    by_channel = channels.select(_KEY).unique()
    of_days = [_of_day(samples, day, zone) for day in (days if samples.height else ())]
    told = pl.concat([by_channel, *of_days, sampled.select(_KEY)])
    return (
        pl.concat([found, sampled.join(by_channel, on=_KEY, how="anti")]).sort("uc_id", "day", "first_slot"),
        told.unique().select(pl.col(name).cast(kind) for name, kind in TOLD_SCHEMA.items()),
    )


def _of_day(samples: pl.DataFrame, day: date, zone: str) -> pl.DataFrame:
    is_within = (pl.col("at") >= day_start(day, zone)) & (pl.col("at") < day_start(day + ONE_DAY, zone))
    return samples.filter(is_within).select("uc_id", pl.lit(day, pl.Date()).alias("day"))


def by_intervals(
    channels: pl.DataFrame,
    interval_s: int,
    *,
    zero_current_proves: bool = False,
    loaded_share: float = 0.2,
) -> pl.DataFrame:
    """Dead phases by interval: PHASE_LOSS_SCHEMA, in market slots.

    Averages prove. What was captured at the end of each interval counts for UC-days without averages, and
    proves nothing of the time between.

    Args:
        channels: CHANNEL_SCHEMA.
        interval_s: of the market; a meter's own interval may be longer.
    """
    averages = channels.filter(pl.col("quantity_code").is_in(list(AVERAGES)))
    ends = channels.join(averages.select(_KEY).unique(), on=_KEY, how="anti")
    found = [pl.DataFrame(schema=PHASE_LOSS_SCHEMA)]
    for part, names in ((averages, AVERAGES), (ends, INSTANTS)):
        if part.height:
            spread = _spread(part, names, interval_s)
            lost = detect_phase_loss(
                spread, zero_current_proves=zero_current_proves, loaded_share=loaded_share
            )
            found.append(lost if names is AVERAGES else lost.with_columns(is_proven=pl.lit(False)))
    return pl.concat(found)


def _spread(channels: pl.DataFrame, names: dict[int, str], interval_s: int) -> pl.DataFrame:
    """One row a UC, day and market slot, one column a quantity."""
    repeats = (pl.col("interval_s") // interval_s).clip(1)
    spread = (
        channels.with_columns(meter_slot=pl.int_ranges(pl.col("pulses").list.len()), repeats=repeats)
        .explode("pulses", "meter_slot", empty_as_null=False)
        .with_columns(
            slot=pl.int_ranges(
                pl.col("meter_slot") * pl.col("repeats"), (pl.col("meter_slot") + 1) * pl.col("repeats")
            )
        )
        .explode("slot", empty_as_null=False)
        .with_columns(name=pl.col("quantity_code").replace_strict(names, return_dtype=pl.String))
        .pivot("name", index=[*_KEY, "element_count", "slot"], values="pulses", aggregate_function="first")
    )
    missing = [name for name in (*VOLTAGES, *CURRENTS) if name not in spread.columns]
    return spread.with_columns(pl.lit(None, pl.Int32).alias(name) for name in missing)


def detect_phase_loss(
    engineering: pl.DataFrame, *, zero_current_proves: bool = False, loaded_share: float = 0.2
) -> pl.DataFrame:
    """Intervals with a dead phase, from the meter's own engineering data (rule V22).

    What a meter does not tell of a phase speaks neither for nor against it. A weak but not dead phase is not
    covered by rule C and is not listed. Without voltage a phase is lost; without current only, it may be that
    nothing is connected to it.

    Args:
        engineering: `uc_id, day, slot, element_count, voltage_1..3_v, current_1..3_a`, one row per interval;
            elements that the meter does not have are null.
        zero_current_proves: a phase without current only is proven, too.
        loaded_share: it counts where another phase carries so much of the day's highest current: at night
            many loads are on one phase.

    Returns:
        PHASE_LOSS_SCHEMA rows, runs of slots joined.
    """
    no_voltage = [(pl.col(name) == 0).fill_null(False) for name in VOLTAGES]
    highest = pl.max_horizontal(CURRENTS)
    is_loaded = (highest >= loaded_share * highest.max().over(_KEY)).fill_null(False)
    no_current = [(pl.col(name) == 0).fill_null(False) & is_loaded for name in CURRENTS]
    lost = [a | b for a, b in zip(no_voltage, no_current, strict=True)]
    told = [
        pl.col(a).is_not_null() | pl.col(b).is_not_null() for a, b in zip(VOLTAGES, CURRENTS, strict=True)
    ]
    loaded = [one & ~other for one, other in zip(told, lost, strict=True)]
    key = ["uc_id", "day", "element_count", "phases_lost"]
    found = (
        engineering.with_columns(
            phases_lost=pl.sum_horizontal(lost).cast(pl.Int16),
            phases_loaded=pl.sum_horizontal(loaded).cast(pl.Int16),
            without_voltage=pl.sum_horizontal(no_voltage).cast(pl.Int16),
        )
        .filter(
            pl.col("phases_lost") >= 1,
            pl.col("phases_lost") + pl.col("phases_loaded") == pl.col("element_count"),
            pl.col("phases_loaded") >= 1,
        )
        .sort("uc_id", "day", "slot")
        .with_columns(run=(pl.col("slot") - pl.int_range(pl.len()).over(key)))
    )
    return (
        found.group_by(*key, "run", maintain_order=True)
        .agg(
            first_slot=pl.col("slot").min(),
            last_slot=pl.col("slot").max(),
            is_proven=(pl.col("without_voltage") == pl.col("phases_lost")).all() | zero_current_proves,
        )
        .with_columns(proof=pl.lit("meter engineering data"))
        .select(pl.col(name).cast(kind) for name, kind in PHASE_LOSS_SCHEMA.items())
    )


def by_samples(samples: pl.DataFrame, days: Collection[date], zone: str, interval_s: int) -> pl.DataFrame:
    """Dead phases by pages of instantaneous values: the time from the page before to the page after.

    Unproven. Only a missing voltage counts: without current for a moment is how many loads are.

    Args:
        samples: SAMPLE_SCHEMA, of these days and of the pages around them.

    Returns:
        PHASE_LOSS_SCHEMA, of these days.
    """
    dead = samples.with_columns(
        phases_lost=pl.sum_horizontal([(pl.col(name) == 0).fill_null(False) for name in VOLTAGES]),
        phases_told=pl.sum_horizontal([pl.col(name).is_not_null() for name in VOLTAGES]),
    ).with_columns(
        is_dead=(pl.col("phases_lost") > 0)
        & (pl.col("phases_lost") < pl.col("element_count"))
        # A two-element meter may fill the place of its third phase with zeros: that is none that is lost.
        & (pl.col("phases_told") - pl.col("phases_lost") < pl.col("element_count"))
    )
    if not dead["is_dead"].any():
        return pl.DataFrame(schema=PHASE_LOSS_SCHEMA)
    rows: list[tuple[object, ...]] = []
    pages = dead.sort("uc_id", "at").iter_rows(named=True)
    for _, group in groupby(pages, key=lambda page: page["uc_id"]):
        of_uc = list(group)
        for number, page in enumerate(of_uc):
            if page["is_dead"]:
                before = of_uc[number - 1]["at"] if number else page["at"]
                after = of_uc[number + 1]["at"] if number + 1 < len(of_uc) else page["at"]
                rows += _stretch(page, before, after, days, zone, interval_s)
    table = pl.DataFrame(rows, schema=PHASE_LOSS_SCHEMA, orient="row")
    # Two dead pages in a row name the time between them twice.
    key = ["uc_id", "day", "element_count", "phases_lost", "is_proven"]
    return (
        table.group_by(*key, maintain_order=True)
        .agg(pl.col("first_slot").min(), pl.col("last_slot").max(), pl.col("proof").first())
        .select(list(PHASE_LOSS_SCHEMA))
    )


def _stretch(
    page: dict[str, Any],
    before: datetime,
    after: datetime,
    days: Collection[date],
    zone: str,
    interval_s: int,
) -> list[tuple[object, ...]]:
    at: datetime = page["at"]
    start = before if at - before <= _MOST_APART else at
    end = after if after - at <= _MOST_APART else at
    rows: list[tuple[object, ...]] = []
    for day in days:
        midnight, slots = day_start(day, zone), slots_per_day(day, zone, interval_s)
        first = int((start - midnight).total_seconds() // interval_s)
        last = int((end - midnight).total_seconds() // interval_s)
        if last >= 0 and first < slots:
            place = (max(first, 0), min(last, slots - 1))
            lost = page["element_count"], page["phases_lost"]
            rows.append(
                (page["uc_id"], day, *place, *lost, False, f"instantaneous values of {at.isoformat()}")
            )
    return rows
