"""Hours above the contracted use (MUSD), judged on the values that will be sent.

An hour more than 25% above the MUSD is rejected by CCEE and counts as zero (PdC 1.8/3.32, 3.32.1). One kWh in
an hour is one mean kW, so the hour's kWh is compared with the factor times the MUSD in kW; equal is not
rejected. The check runs after losses and rounding: an hour within the limit as measured may be above it as
sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction

import numpy as np
import polars as pl

from faults import OperatorFault
from vee.calendars import HOUR_S
from vee.frames import (
    DEFAULT_INTERVAL_S,
    I64,
    SERIES_SCHEMA,
    SeriesMatrix,
    as_fraction,
    in_order,
    split_by_slots,
    to_frame,
    to_matrix,
)
from vee.layers.rounding import MILLI
from vee.quality import Origin, Reason

POLICIES = ("send_and_alert", "hold_day", "omit_hours")
REJECTION_FACTOR = Decimal("1.25")
"""Of the MUSD: an hour above it is rejected (PdC 1.8, 3.32)."""
DEFAULT_MUSD_KW = 500
"""What CCEE takes where no MUSD was declared (PdC 1.8, 3.15.1)."""

HOUR_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "hour": pl.Int16(),
    "energy_kwh": pl.Decimal(38, 3),
    "musd_kw": pl.Decimal(38, 9),
    "limit_kwh": pl.Decimal(38, 9),
    "is_rejected": pl.Boolean(),
}


@dataclass(frozen=True)
class MusdParams:
    """Settings of the check.

    Attributes:
        policy: `on_violation` of the contract profile: "send_and_alert" sends the truth (default),
            "hold_day" keeps the whole day for a decision, "omit_hours" leaves the hours out.
        rejection_share: 25% above, strictly [A].
        alert_share: hours above this share of the MUSD are listed (1: above the MUSD itself) [C].
        default_musd_kw: what CCEE assumes where none was declared [A]; None skips such UCs.
        interval_s: of the series.
    """

    policy: str = "send_and_alert"
    rejection_share: Fraction = Fraction(REJECTION_FACTOR)
    alert_share: Fraction = Fraction(1)
    default_musd_kw: int | None = DEFAULT_MUSD_KW
    interval_s: int = DEFAULT_INTERVAL_S


@dataclass(frozen=True)
class MusdResult:
    """What the check found.

    Attributes:
        series: layer 5; changed only by "omit_hours".
        hours: HOUR_SCHEMA, every hour above the alert share; `is_rejected` those CCEE will count as zero.
        lost: `uc_id, day, rejected_hours, lost_kwh`: kWh that would count as zero.
        held: `uc_id, day` to be held; empty unless the policy is "hold_day".
    """

    series: pl.DataFrame
    hours: pl.DataFrame
    lost: pl.DataFrame
    held: pl.DataFrame


def check(ccee: pl.DataFrame, registry: pl.DataFrame, params: MusdParams | None = None) -> MusdResult:
    """Compare each hour with the MUSD in force on its day.

    Args:
        ccee: series frame of layer 5 (denominator 1000).
        registry: `uc_id, day, musd_kw` (exact; null = not declared).
    """
    params = params or MusdParams()
    if params.policy not in POLICIES:
        raise OperatorFault(
            f"unknown policy {params.policy!r}", where="musd.on_violation", remedy=f"use one of {POLICIES}"
        )
    musd = {
        (uc_id, day): value for uc_id, day, value in registry.select("uc_id", "day", "musd_kw").iter_rows()
    }
    found: list[tuple[int, date, int, Decimal, Decimal, Decimal, bool]] = []
    series: list[pl.DataFrame] = []
    for part in split_by_slots(ccee):
        matrix = to_matrix(part)
        found += _judge(matrix, musd, params)
        series.append(to_frame(matrix) if params.policy == "omit_hours" else part.select(list(SERIES_SCHEMA)))
    hours = pl.DataFrame(found, schema=HOUR_SCHEMA, orient="row").sort("uc_id", "day", "hour")
    lost = (
        hours.filter("is_rejected")
        .group_by("uc_id", "day", maintain_order=True)
        .agg(rejected_hours=pl.len().cast(pl.Int16), lost_kwh=pl.col("energy_kwh").sum())
    )
    held = lost.select("uc_id", "day")
    return MusdResult(
        series=in_order(ccee, series),
        hours=hours,
        lost=lost,
        held=held if params.policy == "hold_day" else held.clear(),
    )


def _judge(
    matrix: SeriesMatrix, musd: dict[tuple[int, date], object], params: MusdParams
) -> list[tuple[int, date, int, Decimal, Decimal, Decimal, bool]]:
    per_hour = HOUR_S // params.interval_s
    n, hours = len(matrix), matrix.slots // per_hour
    energy = np.where(matrix.known, matrix.numerators, 0).reshape(n, hours, per_hour).sum(axis=2)
    keys = list(zip(matrix.uc_id.tolist(), matrix.day.tolist(), strict=True))
    # Few distinct values serve many UCs: the exact products are made once for each.
    declared = [musd.get(key) for key in keys]
    distinct = {value: _limits(value, params) for value in set(declared)}
    limits = [distinct[value] for value in declared]
    # An integer is above a rational exactly when it is above its floor.
    alert: I64 = np.array([limit[1] for limit in limits], dtype=np.int64)
    found = []
    for row, hour in np.argwhere(energy > alert[:, None]).tolist():
        kw, _, rejection = limits[row]
        milli = int(energy[row, hour])
        is_rejected = milli > rejection
        uc_id, day = keys[row]
        limit = kw * params.rejection_share
        found.append(
            (uc_id, day, hour + 1, Decimal(milli) / MILLI, _decimal(kw), _decimal(limit), is_rejected)
        )
        if is_rejected and params.policy == "omit_hours":
            omitted = slice(hour * per_hour, (hour + 1) * per_hour)
            matrix.known[row, omitted] = False
            matrix.numerators[row, omitted] = 0
            matrix.origin[row, omitted] = Origin.MISSING
            matrix.reason[row, omitted] = Reason.OMITTED_MUSD
    return found


_NO_LIMIT = 2**62


def _limits(musd: object, params: MusdParams) -> tuple[Fraction, int, int]:
    """MUSD in kW, and the floors in Wh of the alert and of the rejection limit."""
    value = params.default_musd_kw if musd is None else musd
    if value is None:
        return Fraction(0), _NO_LIMIT, _NO_LIMIT
    kw = as_fraction(value)
    return kw, int(kw * params.alert_share * MILLI), int(kw * params.rejection_share * MILLI)


def _decimal(value: Fraction) -> Decimal:
    return (Decimal(value.numerator) / Decimal(value.denominator)).quantize(Decimal("1e-9"))
