"""What has changed in a closed month since it was frozen: a list for the recount, never another certificate.

Each list that says something new is kept as a further version of the month's certificate. A UC-day is in it
where what we would tell CCEE now is not what it accepted: other values, another agent or code, other hours
above the limit, a day that was lost and is ready by now, or one that the registry no longer sends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import groupby
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ccee import ledger, notices
from ccee.body import SLOTS_PER_HOUR
from ccee.counting import judged, whole_hours
from ccee.profile import Profile
from closing.certificates import Certificate, certificates, keep
from closing.report import kwh
from storage.bulk import array_literal, read_frame
from storage.database import Database
from storage.locks import CLOSING_LOCK
from storage.series import ACTIVE_ENERGY, Layer
from vee.calendars import Period
from vee.quality import Origin

# What became of a UC-day after the freezing.
CONTENT, OWNER, LIMIT, LATE, WITHDRAWN = "content", "owner", "musd", "late", "withdrawn"
WORDS_PT = {
    CONTENT: "valores mudaram depois do fechamento",
    OWNER: "outro agente ou outro código de UC",
    LIMIT: "outras horas acima do limite do MUSD",
    LATE: "perdido no fechamento, pronto agora",
    WITHDRAWN: "o cadastro já não o envia",
}
_SIX = Decimal("0.000001")

# UC-days of a frozen month of which something that decides is not as it was.
_CANDIDATES = """
    WITH series AS (
        SELECT uc_id, day, max(version) AS version FROM series_day
        WHERE quantity = $3 AND layer = $4 AND day BETWEEN $1::date AND $2::date
        GROUP BY 1, 2
    ), expected AS (
        SELECT o.uc_id, o.day, s.version, c.agent_id, m.musd_kw, o.state,
               coalesce(is_submitted(st.status), false) AS is_due
        FROM uc_day_outcome o
        JOIN series s ON s.uc_id = o.uc_id AND s.day = o.day
        LEFT JOIN uc_status st ON st.uc_id = o.uc_id AND st.valid @> o.day
        LEFT JOIN uc_agent c ON c.uc_id = o.uc_id AND c.valid @> o.day
        LEFT JOIN uc_musd m ON m.uc_id = o.uc_id AND m.valid @> o.day
        WHERE o.day BETWEEN $1::date AND $2::date
    )
    SELECT n.uc_id, n.day, u.name AS uc_name, n.is_due, n.state = 'ready' AS is_ready,
           coalesce(uc_code_on(u.id, u.code, n.day), u.code) AS uc_code,
           a.id AS agent_id, a.code AS agent_code,
           n.version AS series_version, n.musd_kw::text AS musd_kw, d.musd_kw::text AS frozen_musd_kw,
           coalesce(d.fate, 'lost') AS fate,
           b.version AS frozen_version, b.series_version AS frozen_series_version,
           b.body_sha256 AS frozen_sha256, b.uc_code AS frozen_uc_code, b.agent_id AS frozen_agent_id,
           fa.code AS frozen_agent_code, coalesce(d.sent_kwh, 0)::text AS frozen_sent_kwh,
           coalesce(d.zeroed_kwh, 0)::text AS frozen_zeroed_kwh
    FROM expected n
    JOIN uc u ON u.id = n.uc_id
    LEFT JOIN agent a ON a.id = n.agent_id
    LEFT JOIN closed_day d ON d.uc_id = n.uc_id AND d.day = n.day
    LEFT JOIN submission b ON b.id = d.submission_id
    LEFT JOIN agent fa ON fa.id = b.agent_id
    WHERE CASE WHEN d.fate = 'final' THEN NOT n.is_due OR n.state = 'ready' AND (
                   n.version <> b.series_version OR n.agent_id <> b.agent_id
                   OR coalesce(uc_code_on(u.id, u.code, n.day), u.code) <> b.uc_code
                   OR n.musd_kw IS DISTINCT FROM d.musd_kw)
               ELSE n.is_due AND n.state = 'ready' AND n.agent_id IS NOT NULL END
    ORDER BY u.code, n.day
"""
_VALUES = """
    SELECT s.uc_id, s.version, s.layer, s.numerators, s.denominator, s.origin FROM series_day s
    WHERE s.quantity = $1 AND s.day = $2 AND s.layer IN ($3, $4) AND s.uc_id = ANY($5::text::bigint[])
"""


@dataclass(frozen=True)
class Recount:
    """What has changed. `certificate`: the version that says so, None where nothing ever did."""

    changes: list[dict[str, Any]]
    certificate: Certificate | None
    is_new: bool

    @property
    def difference_kwh(self) -> Decimal:
        return sum((Decimal(change["difference_kwh"]) for change in self.changes), Decimal(0))


def recount(db: Database, month: date, profile: Profile, *, now: datetime, run_id: str) -> Recount:
    """Compare a frozen month with what is known now, and keep the list where it is new. Repeatable."""
    period = Period.month(month)
    changes = _changes(db, period, profile)
    with db.connect() as conn:
        conn.execute("SELECT pg_advisory_xact_lock(%s, %s)", [CLOSING_LOCK, period.start.toordinal()])
        kept = certificates(conn, period.start)
        last = kept[-1]
        said = last.document.get("changes", [])
        if said == changes:
            return Recount(changes, last if last.version > 1 else None, is_new=False)
        certificate = keep(
            conn,
            period.start,
            last.version + 1,
            {
                "kind": "changes since frozen",
                "month": f"{period.start:%Y-%m}",
                "version": last.version + 1,
                "found_at": now,
                "frozen_sha256": kept[0].sha256.hex(),
                "previous_sha256": last.sha256.hex(),
                "difference_kwh": str(sum((Decimal(one["difference_kwh"]) for one in changes), Decimal(0))),
                "changes": changes,
            },
            made_at=now,
            run_id=run_id,
        )
        _tell(conn, changes, period.start, certificate.version)
    return Recount(changes, certificate, is_new=True)


def _changes(db: Database, period: Period, profile: Profile) -> list[dict[str, Any]]:
    last_day = date.fromordinal(period.following.toordinal() - 1)
    found = []
    with db.connect_arrow() as source:
        rows = read_frame(source, _CANDIDATES, [period.start, last_day, ACTIVE_ENERGY, int(Layer.CCEE)])
        for part in rows.partition_by("day", maintain_order=True):
            found += _of_day(db, source, profile, part)
    return sorted(found, key=lambda change: (change["uc_code"], change["day"]))


def _of_day(db: Database, source: Any, profile: Profile, rows: pl.DataFrame) -> list[dict[str, Any]]:
    day: date = rows["day"][0]
    values = read_frame(
        source,
        _VALUES,
        [ACTIVE_ENERGY, day, int(Layer.ESTIMATED), int(Layer.CCEE), array_literal(rows["uc_id"])],
    )
    series = {(row["uc_id"], row["version"], row["layer"]): row for row in values.iter_rows(named=True)}
    told = rows.filter(pl.col("is_due") & pl.col("is_ready") & pl.col("agent_id").is_not_null())
    drafts = {code: body.sha256.hex() for code, body in ledger.drafts(db, profile, day, told)}
    made = [_change(row, series, drafts, profile) for row in rows.iter_rows(named=True)]
    return [change for change in made if change is not None]


def _change(
    row: dict[str, Any],
    series: dict[tuple[int, int, int], dict[str, Any]],
    drafts: dict[str, str],
    profile: Profile,
) -> dict[str, Any] | None:
    """One line of the list; None where CCEE would be told the very same."""
    is_final = row["fate"] == "final"
    was = series.get((row["uc_id"], row["frozen_series_version"], Layer.CCEE)) if is_final else None
    now = series.get((row["uc_id"], row["series_version"], Layer.CCEE)) if row["is_due"] else None
    before_losses = series.get((row["uc_id"], row["series_version"], Layer.ESTIMATED)) if now else None
    was_hours, now_hours = _hours(was), _hours(now)
    sent, zeroed, _ = judged(now_hours[None, :], [row["musd_kw"]], profile) if now else ([0], [0], [0])
    counted_then = Decimal(row["frozen_sent_kwh"]) - Decimal(row["frozen_zeroed_kwh"])
    counted_now = kwh(int(sent[0]) - int(zeroed[0]))
    what = _what(row, was, now, is_same_energy=counted_then == counted_now)
    if what is None:
        return None
    return {
        "uc_code": row["frozen_uc_code"] or row["uc_code"],
        "uc_name": row["uc_name"],
        "agent_code": row["frozen_agent_code"] if is_final else row["agent_code"],
        "day": row["day"].isoformat(),
        "what": what,
        "frozen": {
            "version": row["frozen_version"],
            "body_sha256": bytes(row["frozen_sha256"]).hex() if is_final else None,
            "sent_kwh": row["frozen_sent_kwh"],
            "counted_kwh": str(counted_then),
        },
        "now": {
            "series_version": row["series_version"],
            "body_sha256": drafts.get(row["uc_code"]) if now else None,
            "agent_code": row["agent_code"],
            "uc_code": row["uc_code"],
            "sent_kwh": str(kwh(int(sent[0]))),
            "counted_kwh": str(counted_now),
        },
        "difference_kwh": str(counted_now - counted_then),
        "hours": _hour_lines(was_hours, now_hours, before_losses),
    }


def _what(
    row: dict[str, Any], was: dict[str, Any] | None, now: dict[str, Any] | None, *, is_same_energy: bool
) -> str | None:
    if row["fate"] != "final":
        return LATE
    if now is None or was is None:
        return WITHDRAWN
    if was["numerators"] != now["numerators"] or _adjusted(was) != _adjusted(now):
        return CONTENT
    if row["agent_id"] != row["frozen_agent_id"] or row["uc_code"] != row["frozen_uc_code"]:
        return OWNER
    return None if is_same_energy else LIMIT


def _adjusted(row: dict[str, Any]) -> list[bool]:
    return [octet != Origin.MEASURED for octet in bytes(row["origin"])]


def _hours(row: dict[str, Any] | None) -> NDArray[np.int64]:
    if row is None:
        return np.zeros(24, dtype=np.int64)
    hours: NDArray[np.int64] = whole_hours(pl.Series([row["numerators"]], dtype=pl.List(pl.Int64)))[0]
    return hours


def _hour_lines(
    was: NDArray[np.int64], now: NDArray[np.int64], before_losses: dict[str, Any] | None
) -> list[dict[str, Any]]:
    """Hours whose energy is another one: as frozen, as known now, and the latter without losses."""
    lines = []
    for hour in range(max(len(was), len(now))):
        then_milli, now_milli = (int(side[hour]) if hour < len(side) else 0 for side in (was, now))
        if then_milli == now_milli:
            continue
        lines.append(
            {
                "hour": hour + 1,
                "frozen_kwh": str(kwh(then_milli)),
                "now_kwh": str(kwh(now_milli)),
                "now_without_losses_kwh": _without_losses(before_losses, hour),
            }
        )
    return lines


def _without_losses(row: dict[str, Any] | None, hour: int) -> str | None:
    if row is None:
        return None
    block = row["numerators"][hour * SLOTS_PER_HOUR : (hour + 1) * SLOTS_PER_HOUR]
    exact = Fraction(sum(value for value in block if value is not None), row["denominator"])
    return str((Decimal(exact.numerator) / exact.denominator).quantize(_SIX, ROUND_HALF_UP))


def _tell(conn: Any, changes: Sequence[dict[str, Any]], month: date, version: int) -> None:
    ids = dict(conn.execute("SELECT code, id FROM agent").fetchall())
    order = sorted(changes, key=lambda one: (one["agent_code"] is None, one["agent_code"] or 0))
    for agent_code, group in groupby(order, key=lambda one: one["agent_code"]):
        rows = list(group)
        lines = [
            f"UC {one['uc_code']}, {date.fromisoformat(one['day']):%d/%m}: {WORDS_PT[one['what']]}"
            for one in rows
        ]
        difference = sum((Decimal(one["difference_kwh"]) for one in rows), Decimal(0))
        notices.month_changed(conn, ids.get(agent_code), month, version, lines, difference)
