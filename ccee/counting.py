"""A whole month as CCEE counts it, by our ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from ccee.body import SLOTS_PER_HOUR, STORED_DECIMALS
from ccee.profile import Profile
from storage.bulk import read_frame
from storage.database import Database
from storage.series import ACTIVE_ENERGY, Layer
from vee.calendars import Period
from vee.rounding import MILLI

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
