"""Register readings around a gap as bounds of what may be estimated in it (V06 and E0 of estimation).

What belongs here: making of two register readings the energy of the intervals of one day between them,
exactly, or nothing. What does not: reading them (`known`), comparing or scaling
(`vee.strategies.register_bound`).

A period bounds a day where all that is missing in it lies in that day, and where no interval with energy is
cut by a reading: half an interval has no exact energy.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from fractions import Fraction
from typing import Any

import polars as pl

from vee.layers.primary import energy_factor

_SCHEMA = {
    "uc_id": pl.Int64,
    "first_day": pl.Date,
    "first_slot": pl.Int64,
    "last_day": pl.Date,
    "last_slot": pl.Int64,
    "energy_kwh": pl.String,
    "step_kwh": pl.String,
}


def register_bounds(
    registers: pl.DataFrame, readings: pl.DataFrame, installations: pl.DataFrame, interval_s: int
) -> pl.DataFrame:
    """Bounds as `estimation.EstimationInput.registers` takes them.

    Args:
        registers: `vee.rules.inputs.REGISTER_SCHEMA`.
        readings, installations: of the same UCs and days, as `primary.from_pulses` takes them.
        interval_s: of the market.
    """
    wanted = registers.filter(
        (pl.col("inner_missing") > 0) & (pl.col("edge") == 0) & (pl.col("edge_missing") == 0)
    )
    if wanted.is_empty():
        return pl.DataFrame(schema=_SCHEMA)
    # A UC with several main meters or points has no one register that counts it all.
    mains = (
        installations.filter(pl.col("role") == "main")
        .filter(pl.len().over("uc_id") == 1)
        .filter((pl.col("sign") == 1) & (pl.col("share_num") == pl.col("share_den")))
    )
    by_uc = {row["uc_id"]: row for row in mains.iter_rows(named=True)}
    by_day: dict[tuple[int, date], Mapping[str, Any]] = {
        (row["meter_id"], row["day"]): row
        for row in readings.select("meter_id", "day", "interval_s", "pulses").iter_rows(named=True)
    }
    found = []
    for period in wanted.iter_rows(named=True):
        main = by_uc.get(period["uc_id"])
        reading = by_day.get((main["meter_id"], period["day"])) if main else None
        if main is None or reading is None:
            continue
        pulses = _within(reading, period["first_slot"], period["last_slot"], interval_s)
        if pulses.count(None) != period["inner_missing"]:
            continue
        known = sum(value for value in pulses if value is not None)
        pulse_kwh = energy_factor(
            main["pulse_energy_num"],
            main["pulse_energy_den"],
            main["tp_ratio"],
            main["tc_ratio"],
            main["constant_includes_ratios"],
        )
        energy = (known + period["gained"] - period["inner"]) * pulse_kwh
        found.append(_row(period, energy, pulse_kwh))
    return pl.DataFrame(found, schema=_SCHEMA, orient="row")


def _within(reading: Mapping[str, Any], first_slot: int, last_slot: int, interval_s: int) -> list[int | None]:
    """The meter's own intervals that lie in these slots of the market."""
    length_s: int = reading["interval_s"]
    first = -(-first_slot * interval_s // length_s)
    last = (last_slot + 1) * interval_s // length_s
    pulses: list[int | None] = reading["pulses"][first:last]
    return pulses


def _row(period: Mapping[str, Any], energy: Fraction, pulse_kwh: Fraction) -> tuple[Any, ...]:
    day, first, last = period["day"], period["first_slot"], period["last_slot"]
    return period["uc_id"], day, first, day, last, str(energy), str(pulse_kwh)
