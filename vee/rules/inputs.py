"""What rules look at besides the values: frames in, the arrays of `DayRows` out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from vee.calendars import ONE_DAY, day_start
from vee.rules.base import F64, Plant
from vee.strategies.shapes import SHAPE_SCHEMA

REGISTER_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "first_slot": pl.Int16(),
    "last_slot": pl.Int16(),
    "before_at": pl.Datetime("us", "UTC"),
    "at": pl.Datetime("us", "UTC"),
    "gained": pl.Int64(),
    "inner": pl.Int64(),
    "inner_missing": pl.Int64(),
    "edge": pl.Int64(),
    "edge_missing": pl.Int64(),
}
"""A period between two readings of the main meter's register, as it lies in one day. In pulses: what the
register gained, what the intervals wholly inside add up to, and those that a reading cuts."""

CONSTANT_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "fact": pl.String(),
    "registered": pl.String(),
    "told": pl.String(),
}
"""A constant as the registry has it and as the meter told it: `pulse_energy`, `tp_ratio`, `quantity` ..."""

PAIR_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "main_kwh": pl.Float64(),
    "backup_kwh": pl.Float64(),
    "slots": pl.Int64(),
}
"""Main and backup meter over the slots that both measured, of the day and the days before it."""

ENGINEERING_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "slot": pl.Int16(),
    **{f"voltage_{k}_v": pl.Float64() for k in (1, 2, 3)},
    **{f"current_{k}_a": pl.Float64() for k in (1, 2, 3)},
}
"""Voltages and currents of the phases at one time; null for elements that the meter does not have.
A slot below zero is one of an earlier day."""

REACTIVE_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "pulses": pl.Int64(),
}
"""What the reactive channels of the only main meter counted in the whole day."""

COUNT_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "adjusted": pl.Int64(),
    "slots": pl.Int64(),
}
"""Intervals of the earlier days of the month, and how many of them were not measured."""

MONTH_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "other_kwh": pl.Float64(),
    "other_slots": pl.Int64(),
    "history_kw": pl.Float64(),
    "months": pl.Int64(),
}
"""On the last day of a month: its other days, and the mean power of the months before."""

DECIDED_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "rule": pl.String(),
    "first_slot": pl.Int16(),
    "last_slot": pl.Int16(),
    "values_hash": pl.Binary(),
    "state": pl.String(),
}
"""Suspects that somebody accepted or rejected."""

OVERRIDE_SCHEMA: dict[str, pl.DataType] = {
    "rule": pl.String(),
    "parameter": pl.String(),
    "value": pl.String(),
    "uc_id": pl.Int64(),
    "tariff_subgroup": pl.String(),
    "agent_code": pl.Int64(),
    "valid_from": pl.Date(),
    "valid_to": pl.Date(),
}
"""Parameters of a rule for one UC, one tariff subgroup or one agent; `valid_to` is the first day without."""


@dataclass(frozen=True)
class RuleInput:
    """Facts for some UCs and days. An empty frame means that none are known, and rules say they skipped.

    Attributes:
        registry: `uc_id, day`, and where known `musd_kw, contracted_demand_kw, supply_voltage_kv,
            tariff_subgroup, agent_code`.
        installations: as `primary.from_pulses` takes them.
        shapes: of earlier days (`shapes.SHAPE_SCHEMA`).
        tables: what single rules look at, by name: `registers`, `constants`, `pairs`, `engineering`,
            `reactive`, `phase_loss`, `phases_told`, `musd_hours`, `month_counts`, `months`.
        decided: DECIDED_SCHEMA. overrides: OVERRIDE_SCHEMA.
    """

    registry: pl.DataFrame
    installations: pl.DataFrame = field(default_factory=pl.DataFrame)
    shapes: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SHAPE_SCHEMA))
    tables: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    decided: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=DECIDED_SCHEMA))
    overrides: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=OVERRIDE_SCHEMA))


class Plants:
    """`Plant` of any day's rows; what does not change within the chunk is made once."""

    def __init__(self, inputs: RuleInput, zone: str) -> None:
        self._zone = zone
        columns = ("musd_kw", "contracted_demand_kw", "supply_voltage_kv")
        known = [name for name in columns if name in inputs.registry.columns]
        registry = inputs.registry.select("uc_id", "day", pl.col(known).cast(pl.Float64))
        registry = registry.with_columns(
            pl.lit(None, pl.Float64).alias(name) for name in columns if name not in known
        )
        self._registry = {
            day: part for (day,), part in registry.sort("uc_id").partition_by("day", as_dict=True).items()
        }
        self._mains = _mains(inputs.installations)
        changes = pl.concat([self._mains["valid_from"], self._mains["valid_to"]]).drop_nulls()
        self._changes: list[datetime] = changes.unique().sort().to_list()
        self._made: dict[tuple[datetime, ...], tuple[npt.NDArray[np.int64], F64, F64]] = {}

    def of(self, day: date, uc_id: npt.NDArray[np.int64]) -> Plant:
        part = self._registry.get(day)
        nothing = np.full(len(uc_id), np.nan)
        musd, demand, voltage = nothing, nothing, nothing
        if part is not None:
            at, there = _find(part["uc_id"].to_numpy(), uc_id)
            musd, demand, voltage = (
                np.where(there, part[name].to_numpy().astype(np.float64)[at], np.nan)
                for name in ("musd_kw", "contracted_demand_kw", "supply_voltage_kv")
            )
        ucs, pulse, tc = self._installed(day)
        at, there = _find(ucs, uc_id)
        if len(ucs):
            pulse, tc = np.where(there, pulse[at], np.nan), np.where(there, tc[at], np.nan)
        else:
            pulse, tc = nothing, nothing
        return Plant(pulse, musd, demand, voltage, tc)

    def _installed(self, day: date) -> tuple[npt.NDArray[np.int64], F64, F64]:
        """UCs with exactly one main meter on the day, its energy of a pulse and its TC ratio."""
        start, end = day_start(day, self._zone), day_start(day + ONE_DAY, self._zone)
        # Days between the same changes have the same meters.
        key = (
            *[at for at in self._changes if at <= start][-1:],
            *[at for at in self._changes if start < at < end],
        )
        if key not in self._made:
            mains = self._mains.filter(
                (pl.col("valid_from").is_null() | (pl.col("valid_from") < end))
                & (pl.col("valid_to").is_null() | (pl.col("valid_to") > start))
            )
            single = mains.filter(pl.len().over("uc_id") == 1).sort("uc_id")
            self._made[key] = (
                single["uc_id"].to_numpy(),
                single["pulse_kwh"].to_numpy(),
                single["tc"].to_numpy(),
            )
        return self._made[key]


def _find(
    sorted_ids: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Where each wanted id is, and whether it is there at all."""
    if not len(sorted_ids):
        return np.zeros(len(wanted), np.intp), np.zeros(len(wanted), np.bool_)
    at = np.minimum(np.searchsorted(sorted_ids, wanted), len(sorted_ids) - 1)
    return at, sorted_ids[at] == wanted


def _mains(installations: pl.DataFrame) -> pl.DataFrame:
    if installations.is_empty():
        zone = pl.Datetime("us", "UTC")
        schema = {"uc_id": pl.Int64, "pulse_kwh": pl.Float64, "tc": pl.Float64}
        return pl.DataFrame(schema={**schema, "valid_from": zone, "valid_to": zone})
    ratio = pl.col("tp_ratio").cast(pl.Float64) * pl.col("tc_ratio").cast(pl.Float64)
    pulse = pl.col("pulse_energy_num").cast(pl.Float64) / pl.col("pulse_energy_den").cast(pl.Float64)
    return installations.filter(role="main").select(
        "uc_id",
        "valid_from",
        "valid_to",
        pulse_kwh=pl.when("constant_includes_ratios").then(pulse).otherwise(pulse * ratio),
        tc=pl.col("tc_ratio").cast(pl.Float64),
    )
