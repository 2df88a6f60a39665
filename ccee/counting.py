"""What CCEE counts by our ledger: the days it accepted, and a whole month of one unit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from math import floor
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ccee.body import SLOTS_PER_HOUR, STORED_DECIMALS
from ccee.profile import Profile
from faults import DeveloperFault
from storage.bulk import read_frame
from storage.database import Database
from storage.series import ACTIVE_ENERGY, Layer
from vee.calendars import Period
from vee.layers.rounding import MILLI

# What became of an hour at CCEE, in the words of its read call; the third is ours.
CONSISTENT, REJECTED, ABSENT = "CONSISTIDA", "REJEITADA", "AUSENTE"

_MONTH = """
SELECT DISTINCT ON (s.day) s.day, s.series_version, l.denominator, l.numerators, m.musd_kw::text AS musd_kw
FROM submission s
JOIN uc u ON u.id = s.uc_id
JOIN series_day l ON l.uc_id = s.uc_id AND l.quantity = $4 AND l.layer = $5 AND l.day = s.day
     AND l.version = s.series_version
LEFT JOIN uc_musd m ON m.uc_id = s.uc_id AND m.valid @> s.day
WHERE (u.code = $1 OR $1 = ANY(u.aliases)) AND s.day >= $2 AND s.day < $3
  AND EXISTS (SELECT 1 FROM submission_event e WHERE e.submission_id = s.id AND e.state = 'aceito')
ORDER BY s.day, s.version DESC
"""


def month_view(db: Database, profile: Profile, uc_code: str, month: date) -> dict[str, Any]:
    """What we believe CCEE counts of a unit's month: last accepted versions, zero for hours above the limit.

    Returns: the same document as the stand-in's `/__contabilizacao/{uc}/{mes}`, so that both can be compared.
    """
    period = Period.month(month)
    frame = read_frame(db, _MONTH, [uc_code, period.start, period.following, ACTIVE_ENERGY, int(Layer.CCEE)])
    delivered = {row["day"]: row for row in frame.iter_rows(named=True)}
    hours: list[dict[str, Any]] = []
    counted = rejected = Decimal(0)
    tally = dict.fromkeys((CONSISTENT, REJECTED, ABSENT), 0)
    day = period.start
    while day < period.following:
        row = delivered.get(day)
        for hour in range(1, 25):
            kwh = None if row is None else _hour_kwh(row["numerators"], row["denominator"], hour)
            limit = Decimal((row or {}).get("musd_kw") or profile.musd.default_kw) * profile.musd.factor
            status = ABSENT if kwh is None else REJECTED if kwh > limit else CONSISTENT
            tally[status] += 1
            rejected += kwh if kwh is not None and status == REJECTED else 0
            valid = kwh if kwh is not None and status == CONSISTENT else Decimal(0)
            counted += valid
            hours.append({"dia": day.isoformat(), "hora": hour, "kwh": str(valid), "situacao": status})
        day += timedelta(days=1)
    return {
        "codigoUnidadeConsumidora": uc_code,
        "mes": f"{period.start:%Y-%m}",
        "totalKwh": str(counted),
        "rejeitadoKwh": str(rejected),
        "horasConsistidas": tally[CONSISTENT],
        "horasRejeitadas": tally[REJECTED],
        "horasAusentes": tally[ABSENT],
        "diasRecebidos": len(delivered),
        "horas": hours,
    }


def _hour_kwh(numerators: Sequence[int | None], denominator: int, hour: int) -> Decimal | None:
    """Energy of a clock hour; None where an interval is missing, since such hours are not sent."""
    block = numerators[(hour - 1) * SLOTS_PER_HOUR : hour * SLOTS_PER_HOUR]
    values = [value for value in block if value is not None]
    if len(values) < SLOTS_PER_HOUR or denominator != MILLI:
        return None
    return Decimal(sum(values)).scaleb(-STORED_DECIMALS)


_ACCEPTED = """
SELECT DISTINCT ON (s.uc_id) s.uc_id, s.id AS submission_id, s.version, s.series_version, s.body_sha256,
       s.uc_code, s.agent_id, l.numerators, l.denominator, m.musd_kw::text AS musd_kw
FROM submission s
LEFT JOIN series_day l ON l.uc_id = s.uc_id AND l.quantity = $2 AND l.layer = $3 AND l.day = s.day
     AND l.version = s.series_version
LEFT JOIN uc_musd m ON m.uc_id = s.uc_id AND m.valid @> s.day
WHERE s.day = $1
  AND EXISTS (SELECT 1 FROM submission_event e WHERE e.submission_id = s.id AND e.state = 'aceito')
ORDER BY s.uc_id, s.version DESC
"""
COUNTED_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "submission_id": pl.Int64(),
    "version": pl.Int32(),
    "series_version": pl.Int32(),
    "body_sha256": pl.Binary(),
    "uc_code": pl.String(),
    "agent_id": pl.Int64(),
    "musd_kw": pl.String(),
    "sent_milli": pl.Int64(),
    "zeroed_milli": pl.Int64(),
    "zeroed_hours": pl.Int64(),
}


def counted_days(source: Database | Any, profile: Profile, days: Sequence[date]) -> pl.DataFrame:
    """What CCEE has of these days: the last accepted version of each UC-day, and its energy.

    Returns: COUNTED_SCHEMA; energy in Wh, of the body's whole hours (others are not sent); `zeroed` of it in
        hours above the limit by the MUSD in the register now.
    """
    return pl.concat([pl.DataFrame(schema=COUNTED_SCHEMA), *(_counted(source, profile, day) for day in days)])


def _counted(source: Database | Any, profile: Profile, day: date) -> pl.DataFrame:
    rows = read_frame(source, _ACCEPTED, [day, ACTIVE_ENERGY, int(Layer.CCEE)])
    gone = rows.filter(pl.col("numerators").is_null() | (pl.col("denominator") != MILLI))
    if gone.height:
        raise DeveloperFault(
            f"the sealed series of {gone.height} UC-days is gone or was changed",
            where=f"UC {gone['uc_code'][0]}, {day}, series version {gone['series_version'][0]}",
            remedy="restore it from a backup: what CCEE accepted cannot be proved without it",
        )
    sent, zeroed, hours = judged(whole_hours(rows["numerators"]), rows["musd_kw"].to_list(), profile)
    return rows.with_columns(
        day=pl.lit(day),
        sent_milli=pl.Series(sent, dtype=pl.Int64),
        zeroed_milli=pl.Series(zeroed, dtype=pl.Int64),
        zeroed_hours=pl.Series(hours, dtype=pl.Int64),
    ).select(pl.col(name).cast(kind) for name, kind in COUNTED_SCHEMA.items())


def whole_hours(numerators: pl.Series) -> NDArray[np.int64]:
    """Energy of each clock hour, a row a UC-day; zero where an interval is missing, as such hours are not
    sent. All rows have the same number of intervals.
    """
    flat = numerators.explode(empty_as_null=False)
    if not len(flat):
        return np.zeros((0, 0), dtype=np.int64)
    shape = (len(numerators), -1, SLOTS_PER_HOUR)
    known = flat.is_not_null().to_numpy().reshape(shape).all(axis=2)
    hours: NDArray[np.int64] = flat.fill_null(0).to_numpy().reshape(shape).sum(axis=2)
    return np.where(known, hours, 0)


def judged(
    hours_milli: NDArray[np.int64], musd_kw: Sequence[str | None], profile: Profile
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """By UC-day: energy sent, energy in hours above the limit, and how many such hours there are."""
    if not len(hours_milli):
        none = np.zeros(0, dtype=np.int64)
        return none, none, none
    limits = [
        # Strictly above: for whole numbers, above the limit's whole part.
        floor(Decimal(kw or profile.musd.default_kw) * profile.musd.factor * MILLI)
        for kw in musd_kw
    ]
    above = hours_milli > np.array(limits, dtype=np.int64)[:, None]
    return hours_milli.sum(axis=1), np.where(above, hours_milli, 0).sum(axis=1), above.sum(axis=1)
