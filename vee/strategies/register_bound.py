"""Estimated energy against the meter's registers: V06 as a check, E0 as a scale.

A register period says how much energy the main meter counted over a run of slots, which may cross midnight.
It bounds a row when every other slot of the period is known. The official value stands by default and a
difference opens a case; with `scale` the estimate is multiplied so that period and register agree exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction

import numpy as np
import polars as pl

from vee.calendars import ONE_DAY
from vee.frames import as_fraction
from vee.layers.rounding import MILLI, round_half_up
from vee.quality import Origin, Reason
from vee.strategies.filling import Fill, Filling


@dataclass(frozen=True)
class RegisterPeriod:
    """Slots from (first_day, first_slot) to (last_day, last_slot), both inclusive, and what registers say."""

    first_day: date
    first_slot: int
    last_day: date
    last_slot: int
    energy_kwh: Fraction
    step_kwh: Fraction


@dataclass(frozen=True)
class BoundOutcome:
    """The fills (scaled or as they were), and what to report of the slots concerned."""

    fills: list[Fill]
    slots: tuple[int, ...]
    is_case: bool
    is_negative: bool
    detail: dict[str, object]


def periods_by_uc(registers: pl.DataFrame) -> dict[int, list[RegisterPeriod]]:
    """Register periods of each UC, in order of their start."""
    periods: dict[int, list[RegisterPeriod]] = {}
    if registers.is_empty():
        return periods
    for entry in registers.sort("uc_id", "first_day", "first_slot").iter_rows(named=True):
        periods.setdefault(entry["uc_id"], []).append(
            RegisterPeriod(
                entry["first_day"],
                entry["first_slot"],
                entry["last_day"],
                entry["last_slot"],
                as_fraction(entry["energy_kwh"]),
                as_fraction(entry["step_kwh"]),
            )
        )
    return periods


def bound_row(
    work: Filling, row: int, period: RegisterPeriod, fills: list[Fill], *, scale: bool
) -> BoundOutcome | None:
    """Compare (and with `scale`, correct) the fills of a row that lie in a period.

    Returns:
        None when the period says nothing of this row: it does not touch the fills, or is not complete.
    """
    known = _known_energy(work, row, period)
    begin, end = _span(work, row, period)
    estimated = {s: v for fill in fills for s, v in fill.values.items() if begin <= s <= end}
    if known is None or not estimated:
        return None
    gap = ~work.good[row, begin : end + 1]
    if int(gap.sum()) > len(estimated):
        return None
    replaced = sum((v for s in estimated if (v := _good_value(work, row, s)) is not None), Fraction(0))
    missing = period.energy_kwh - (known - replaced)
    total = sum(estimated.values(), Fraction(0))
    params = work.params
    tolerance = max(params.register_tolerance * period.energy_kwh, params.register_steps * period.step_kwh)
    detail: dict[str, object] = {
        "register_kwh": period.energy_kwh,
        "missing_kwh": missing,
        "estimated_kwh": total,
        "tolerance_kwh": tolerance,
    }
    slots = tuple(sorted(estimated))
    if missing < 0:
        return BoundOutcome(fills, slots, True, True, detail)
    if not scale:
        return BoundOutcome(fills, slots, abs(missing - total) > tolerance, False, detail)
    return BoundOutcome(_scaled(fills, estimated, missing), slots, False, False, detail)


def _scaled(fills: list[Fill], estimated: dict[int, Fraction], missing: Fraction) -> list[Fill]:
    """x_i = profile_i x missing / sum of profile; flat where the profile is all zero.

    Each value is rounded as it will be sent, and the residue goes to the largest: what is sent adds up to the
    register.
    """
    total = sum(estimated.values(), Fraction(0))
    if total == missing:
        return fills
    factor = missing / total if total else None
    exact = {
        slot: value * factor if factor is not None else missing / len(estimated)
        for slot, value in estimated.items()
    }
    scaled = {slot: Fraction(round_half_up(value), MILLI) for slot, value in exact.items()}
    largest = max(scaled, key=lambda slot: (scaled[slot], -slot))
    scaled[largest] += missing - sum(scaled.values(), Fraction(0))
    if scaled[largest] < 0:
        # So many tiny values that their roundings outweigh the largest: the exact ones say it better.
        scaled = exact
    return [_with_scaled(fill, scaled, factor) for fill in fills]


def _with_scaled(fill: Fill, scaled: dict[int, Fraction], factor: Fraction | None) -> Fill:
    values = {slot: scaled.get(slot, value) for slot, value in fill.values.items()}
    if values == dict(fill.values):
        return fill
    detail = {**fill.detail, "register_factor": "flat" if factor is None else factor}
    return replace(fill, values=values, reason=Reason.REGISTER_SCALED, detail=detail, origin=Origin.ESTIMATED)


def _good_value(work: Filling, row: int, slot: int) -> Fraction | None:
    return work.matrix.value(row, slot) if work.good[row, slot] else None


def _span(work: Filling, row: int, period: RegisterPeriod) -> tuple[int, int]:
    """First and last slot of the row's day inside the period; empty (first > last) outside."""
    day = work.matrix.day_of(row)
    if not period.first_day <= day <= period.last_day:
        return 0, -1
    begin = period.first_slot if day == period.first_day else 0
    end = period.last_slot if day == period.last_day else work.matrix.slots - 1
    return begin, end


def _known_energy(work: Filling, row: int, period: RegisterPeriod) -> Fraction | None:
    """Collected energy of the period; None when another day of it is absent or has gaps."""
    uc_id, total, day = int(work.matrix.uc_id[row]), Fraction(0), period.first_day
    while day <= period.last_day:
        at = work.matrix.row_of(uc_id, day)
        if at is None:
            return None
        begin, end = _span(work, at, period)
        good = work.good[at, begin : end + 1]
        if at != row and not good.all():
            return None
        numerators = work.matrix.numerators[at, begin : end + 1][good]
        total += Fraction(int(np.sum(numerators, dtype=object)), int(work.matrix.denominator[at]))
        day += ONE_DAY
    return total
