"""The meter's own registers and words against what came: V06, V11, V12."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import polars as pl

from vee.frames import Mask
from vee.parameters import bounded
from vee.quality import Reason
from vee.rules.base import DayRows, Found, NotJudged, RuleParams, Severity, rounded

REGISTER_MODULUS = 10**10  # ten digits (NBR 14522, answer to 23)


@dataclass(frozen=True)
class RegisterParams(RuleParams):
    """Parameters of V06.

    Attributes:
        share, steps: register and intervals may differ by the larger of this share of what the register
            gained and so many of its steps, beyond the interval that each reading cuts. A quarter per cent:
            an error of one per cent of a day that lies in two periods, each with twice the day's energy,
            is seen.
    """

    share: float = bounded(0.0025, low=0)
    steps: float = bounded(2.0, low=0)


def v06_registers(rows: DayRows, params: RegisterParams) -> Iterator[Found | NotJudged]:
    """Table `registers`: see `inputs.REGISTER_SCHEMA`; one row a period between two readings."""
    has = rows.has_rows("registers")
    if not has.all():
        yield NotJudged(~has, "no_registers")
    if not has.any():
        return
    periods = _without_rejected(rows, rows.tables["registers"])
    gained = pl.col("gained") % REGISTER_MODULUS
    low = pl.col("inner") - gained
    high = gained - pl.col("inner") - pl.col("edge")
    whole = (pl.col("inner_missing") == 0) & (pl.col("edge_missing") == 0)
    # With intervals missing, the register can only be too low.
    off = pl.max_horizontal(low, pl.when(whole).then(high).otherwise(0))
    allowed = pl.max_horizontal(gained * params.share, pl.lit(params.steps))
    broken = periods.with_columns(off=off, total=gained).filter(off > allowed)
    # A slot that a reading cuts belongs to two periods: those of a row are told in two turns.
    masks = rows.none(), rows.none()
    entries: tuple[dict[int, list[dict[str, Any]]], ...] = ({}, {})
    turns: dict[int, int] = {}
    for entry in broken.sort("uc_id", "first_slot").iter_rows(named=True):
        row, slots = rows.matrix.row_of(entry["uc_id"], rows.day), _slots(entry)
        # What a person replaced is in the sum as it was read: the register says nothing more about it.
        if row is None or (rows.matrix.reason[row, slots] == Reason.REJECTED_BY_ANALYST).any():
            continue
        turn = turns[row] = 1 - turns.get(row, 1)
        masks[turn][row, slots] = rows.measured[row, slots]
        entries[turn].setdefault(row, []).append(entry)
    for mask, by_row in zip(masks, entries, strict=True):
        if by_row:
            yield _periods_found(rows, mask, by_row)


def _slots(entry: dict[str, Any]) -> slice:
    return slice(entry["first_slot"], entry["last_slot"] + 1)


def _without_rejected(rows: DayRows, periods: pl.DataFrame) -> pl.DataFrame:
    """Intervals that a decision took out are missing from the sums of their periods."""
    if not rows.rejected:
        return periods
    changed = []
    for entry in periods.iter_rows(named=True):
        row = rows.matrix.row_of(entry["uc_id"], rows.day)
        if row is not None and row in rows.rejected and not np.isnan(rows.plant.pulse_kwh[row]):
            counts = np.rint(
                rows.rejected[row][entry["first_slot"] : entry["last_slot"] + 1] / rows.plant.pulse_kwh[row]
            )
            # Of a slot that a reading cuts, part lies outside: missing says enough for it.
            entry["inner"] -= int(np.nansum(counts))
            entry["inner_missing"] += int((~np.isnan(counts)).sum())
        changed.append(entry)
    return pl.DataFrame(changed, schema=periods.schema)


def _periods_found(rows: DayRows, mask: Mask, by_row: dict[int, list[dict[str, Any]]]) -> Found:
    def of_run(row: int, first: int) -> dict[str, Any]:
        return next(entry for entry in by_row[row] if entry["first_slot"] <= first <= entry["last_slot"])

    def evidence(row: int, first: int, last: int) -> dict[str, object]:
        entry = of_run(row, first)
        return {
            "from": entry["before_at"],
            "to": entry["at"],
            "register_pulses": entry["total"],
            "interval_pulses": entry["inner"],
            "cut_interval_pulses": entry["edge"],
            "off_pulses": entry["off"],
        }

    return Found(
        mask,
        evidence,
        lambda row, first, last: of_run(row, first)["off"] * float(np.nan_to_num(rows.plant.pulse_kwh[row])),
    )


@dataclass(frozen=True)
class ConstantParams(RuleParams):
    """Parameters of V11: none but what follows. The comparison is exact."""

    severity: Severity = Severity.HOLD


def v11_constants(rows: DayRows, params: ConstantParams) -> Iterator[Found | NotJudged]:
    """Table `constants`: see `inputs.CONSTANT_SCHEMA`; what the meter said last, beside the registry."""
    has = rows.has_rows("constants")
    if not has.all():
        yield NotJudged(~has, "not_told")
    by_row: dict[int, list[dict[str, str]]] = {}
    for row, entry in rows.table("constants"):
        if not same_constant(entry["registered"], entry["told"]):
            by_row.setdefault(row, []).append(
                {name: str(entry[name]) for name in ("fact", "registered", "told")}
            )
    if not by_row:
        return
    mask = rows.none()
    mask[list(by_row)] = rows.measured[list(by_row)]
    yield Found(
        mask,
        lambda row, first, last: {"differences": by_row[row]},
        lambda row, first, last: rows.energy(row, first, last) * _factor(by_row[row]),
    )


def same_constant(registered: object, told: object) -> bool:
    """Equal as exact numbers where both are numbers, else as text; what nobody said is no difference."""
    if registered is None or told is None:
        return True
    first, second = _number(registered), _number(told)
    if first is None or second is None:
        return str(registered).strip().casefold() == str(told).strip().casefold()
    return first == second


def _number(value: object) -> Fraction | None:
    try:
        return Fraction(str(value).strip())
    except (ValueError, ZeroDivisionError):
        return None


def _factor(differences: list[dict[str, str]]) -> float:
    """By how much of the energy the worst of the differences is wrong; all of it where it is no number."""
    worst = 0.0
    for entry in differences:
        registered, told = _number(entry["registered"]), _number(entry["told"])
        worst = max(worst, abs(float(told / registered) - 1) if registered and told is not None else 1.0)
    return worst


@dataclass(frozen=True)
class BackupParams(RuleParams):
    """Parameters of V12.

    Attributes:
        share: main and backup may differ by this share of the main's energy in the days compared.
        days: the day and the days before it, together so many.
        min_hours: with fewer hours that both measured, nothing is said.
        steps: a difference of fewer pulses of the main meter than this is none.
    """

    share: float = bounded(0.01, low=0)
    days: int = bounded(7, low=1)
    min_hours: float = bounded(6.0, low=0)
    steps: float = bounded(10.0, low=0)


def v12_backup(rows: DayRows, params: BackupParams) -> Iterator[Found | NotJudged]:
    """Table `pairs`: see `inputs.PAIR_SCHEMA`; what both meters counted in the slots that both have."""
    has = rows.has_rows("pairs")
    if not has.all():
        yield NotJudged(~has, "no_backup")
    by_row: dict[int, dict[str, object]] = {}
    for row, entry in rows.table("pairs"):
        difference = backup_difference(entry["main_kwh"], entry["backup_kwh"])
        step = np.nan_to_num(rows.plant.pulse_kwh[row]) * params.steps
        if entry["slots"] < params.min_hours * rows.per_hour or difference is None:
            continue
        if difference > params.share and abs(entry["main_kwh"] - entry["backup_kwh"]) > step:
            by_row[row] = {
                "main_kwh": rounded(entry["main_kwh"]),
                "backup_kwh": rounded(entry["backup_kwh"]),
                "difference": round(difference, 6),
                "slots": entry["slots"],
                "days": params.days,
            }
    if not by_row:
        return
    mask = rows.none()
    mask[list(by_row)] = rows.measured[list(by_row)]
    yield Found(
        mask,
        lambda row, first, last: by_row[row],
        lambda row, first, last: rows.energy(row, first, last) * float(str(by_row[row]["difference"])),
    )


def backup_difference(main_kwh: float, backup_kwh: float) -> float | None:
    """|main - backup| / main; all of it where only the main meter stood still; None where both did."""
    if main_kwh:
        return abs(main_kwh - backup_kwh) / abs(main_kwh)
    return 1.0 if backup_kwh else None
