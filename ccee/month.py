"""A whole month: what CCEE counts of it by our ledger, and its closing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from ccee import notices
from ccee.body import SLOTS_PER_HOUR, STORED_DECIMALS
from ccee.deadlines import closing_of
from ccee.ledger import DELIVERED, Event, State, append
from ccee.profile import Profile
from faults import OperatorFault
from storage.bulk import read_frame
from storage.database import Database
from storage.series import ACTIVE_ENERGY, Layer
from vee.calendars import Calendars, Period, parse_zone
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
WHERE u.code = $1 AND s.day >= $2 AND s.day < $3
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


def close_month(
    db: Database, month: date, profile: Profile, calendars: Calendars, *, now: datetime
) -> tuple[int, int]:
    """After the deadline: accepted versions become final, others are lost with a notice. Repeatable.

    Returns: (made final now, lost now). Raises: OperatorFault: the month is still open.
    """
    closing = closing_of(profile, calendars, month)
    today = now.astimezone(parse_zone(profile.send.offset)).date()
    if today <= closing.data:
        raise OperatorFault(
            f"the month is open until {closing.data}",
            where=f"{month:%Y-%m}",
            remedy="close it after that day",
        )
    with db.connect() as conn:
        rows = conn.execute(
            "SELECT DISTINCT ON (s.uc_id, s.day) s.id, s.agent_id, u.code, s.day, s.state "
            "FROM submission_state s JOIN uc u ON u.id = s.uc_id "
            "WHERE s.day >= %s AND s.day < %s ORDER BY s.uc_id, s.day, s.version DESC",
            [month.replace(day=1), (month.replace(day=1) + timedelta(days=31)).replace(day=1)],
        ).fetchall()
        final = [row for row in rows if row[4] == State.ACCEPTED]
        lost = [row for row in rows if row[4] not in (*DELIVERED, State.LOST)]
        events = [Event(row[0], State.FINAL, now) for row in final]
        events += [Event(row[0], State.LOST, now, {"before": row[4]}) for row in lost]
        append(conn, events)
        for agent_id in sorted({row[1] for row in lost}):
            names = [f"{row[2]} ({row[3]:%d/%m})" for row in lost if row[1] == agent_id]
            notices.month_lost(conn, agent_id, month, names, closing.data)
    return len(final), len(lost)
