"""After the deadline: what was accepted becomes final, what was not is lost, and its agent is told.

A month is frozen once, in one transaction: the fate of each UC-day, the ledger's last events, the certificate
and the messages. From then on nothing here is changed; what changes later is `recount`'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Any

import polars as pl
import psycopg

from ccee import notices
from ccee.deadlines import closing_of
from ccee.ledger import Event, append
from ccee.profile import Profile
from closing.acting import acting_on
from closing.certificates import Certificate, certificates, keep
from closing.days import month_days
from closing.report import kwh
from faults import OperatorFault
from faults.market_time import parse_zone
from storage.bulk import copy_frame
from storage.database import Database
from storage.locks import CLOSING_LOCK
from storage.submission_states import State
from vee.calendars import Calendars, Period

FINAL, LOST = "final", "lost"


@dataclass(frozen=True)
class Frozen:
    """A frozen month. Counts are of UC-days. `is_new`: frozen by this call."""

    certificate: Certificate
    final: int
    lost: int
    is_new: bool


def freeze_month(
    db: Database, month: date, profile: Profile, calendars: Calendars, *, now: datetime, run_id: str
) -> Frozen:
    """Freeze a month after its deadline; a month that is frozen stays as it is. Repeatable.

    Args: month: its first day. now: aware.
    Raises: OperatorFault: the month is still open.
    """
    period, closing = Period.month(month), closing_of(calendars, month)
    today = now.astimezone(parse_zone(profile.send.offset)).date()
    if today <= closing.data:
        raise OperatorFault(
            f"the month is open until {closing.data}",
            where=f"{month:%Y-%m}",
            remedy="close it after that day",
        )
    with db.connect() as conn:
        conn.execute("SELECT pg_advisory_xact_lock(%s, %s)", [CLOSING_LOCK, period.start.toordinal()])
        if kept := certificates(conn, period.start):
            return Frozen(kept[0], *_fates(conn, period), is_new=False)
        days = _with_fate(month_days(db, profile, period.start, period.following - timedelta(days=1)))
        _keep_fates(conn, days)
        append(conn, _last_events(days, now))
        certificate = keep(
            conn,
            period.start,
            1,
            _document(days, period, closing.data, profile, now),
            made_at=now,
            run_id=run_id,
        )
        _tell(conn, days, period.start, closing.data)
        return Frozen(certificate, *_fates(conn, period), is_new=True)


def _with_fate(days: pl.DataFrame) -> pl.DataFrame:
    return days.with_columns(
        fate=pl.when("is_delivered").then(pl.lit(FINAL)).otherwise(pl.lit(LOST)),
        sent_milli=pl.col("sent_milli").fill_null(0),
        zeroed_milli=pl.col("zeroed_milli").fill_null(0),
        zeroed_hours=pl.col("zeroed_hours").fill_null(0),
    )


def _keep_fates(conn: psycopg.Connection[Any], days: pl.DataFrame) -> None:
    copy_frame(
        conn,
        "closed_day",
        days.select(
            "uc_id",
            "day",
            "agent_id",
            "fate",
            pl.col("reason").alias("cause"),
            "submission_id",
            "musd_kw",
            pl.Series("sent_kwh", [str(kwh(milli)) for milli in days["sent_milli"]], dtype=pl.String),
            pl.Series("zeroed_kwh", [str(kwh(milli)) for milli in days["zeroed_milli"]], dtype=pl.String),
        ),
    )


def _fates(conn: psycopg.Connection[Any], period: Period) -> tuple[int, int]:
    rows = conn.execute(
        "SELECT fate, count(*) FROM closed_day WHERE day >= %s AND day < %s GROUP BY 1",
        [period.start, period.following],
    ).fetchall()
    counts = dict(rows)
    return counts.get(FINAL, 0), counts.get(LOST, 0)


def _last_events(days: pl.DataFrame, now: datetime) -> list[Event]:
    """Accepted versions end as final; a version that was told after it, or instead, ends as lost."""
    events = [Event(number, State.FINAL, now) for number in days["submission_id"].drop_nulls()]
    lost = days.filter(
        pl.col("told_id").is_not_null()
        & (pl.col("told_id") != pl.col("submission_id").fill_null(-1))
        & (pl.col("told_state") != State.LOST)
    )
    return events + [
        Event(number, State.LOST, now, {"before": state})
        for number, state in lost.select("told_id", "told_state").iter_rows()
    ]


def _document(
    days: pl.DataFrame, period: Period, deadline: date, profile: Profile, now: datetime
) -> dict[str, Any]:
    """The month as it was counted. Of each UC-day the hash of the body stands in the ledger; here stands the
    hash of them all, by UC, so that the certificate fits a fleet and still proves each.
    """
    by_uc = [
        {"uc_code": code, "agent_code": agent, **_sums(part), "days_sha256": days_sha256(part)}
        for (code, agent), part in days.group_by("uc_code", "agent_code", maintain_order=True)
    ]
    return {
        "kind": "frozen month",
        "month": f"{period.start:%Y-%m}",
        "version": 1,
        "deadline": deadline,
        "frozen_at": now,
        "contract": profile.body_format,
        "totals": _sums(days),
        "agents": [
            {"agent_code": agent, **_sums(part)}
            for (agent,), part in sorted(
                days.group_by("agent_code"), key=lambda item: (item[0][0] is None, item[0])
            )
        ],
        "ucs": by_uc,
        "lost": [
            {
                "uc_code": row["uc_code"],
                "agent_code": row["agent_code"],
                "day": row["day"],
                "cause": row["reason"],
            }
            for row in days.filter(pl.col("fate") == LOST).iter_rows(named=True)
        ],
        "musd_zeroed": [
            {
                "uc_code": row["uc_code"],
                "day": row["day"],
                "hours": row["zeroed_hours"],
                "kwh": str(kwh(row["zeroed_milli"])),
                "musd_kw": row["musd_kw"] or str(profile.musd.default_kw),
            }
            for row in days.filter(pl.col("zeroed_hours") > 0).iter_rows(named=True)
        ],
    }


def _sums(days: pl.DataFrame) -> dict[str, Any]:
    sent, zeroed = (kwh(int(days[name].sum())) for name in ("sent_milli", "zeroed_milli"))
    return {
        "days_final": days.filter(pl.col("fate") == FINAL).height,
        "days_lost": days.filter(pl.col("fate") == LOST).height,
        "sent_kwh": str(sent),
        "zeroed_kwh": str(zeroed),
        "zeroed_hours": int(days["zeroed_hours"].sum()),
        "counted_kwh": str(sent - zeroed),
    }


def days_sha256(days: pl.DataFrame) -> str:
    """Of one line a final UC-day: day, version, hash of the body."""
    text = "".join(
        f"{day} {version} {bytes(digest).hex()}\n"
        for day, version, digest in days.filter(pl.col("fate") == FINAL)
        .sort("day")
        .select("day", "accepted_version", "body_sha256")
        .iter_rows()
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _tell(conn: psycopg.Connection[Any], days: pl.DataFrame, month: date, deadline: date) -> None:
    lost = days.filter(pl.col("fate") == LOST).sort("uc_code", "reason", "day")
    for (agent_id,), part in sorted(
        lost.group_by("agent_id", maintain_order=True), key=lambda item: (item[0][0] is None, item[0])
    ):
        lines = [
            f"UC {code}: {_days(row['day'] for row in rows)}. {acting_on(cause).text_pt}"
            for (code, cause), group in groupby(
                part.iter_rows(named=True), key=lambda row: (row["uc_code"], row["reason"])
            )
            if (rows := list(group))
        ]
        notices.month_lost(conn, agent_id, month, lines, part.height, deadline)


def _days(days: Iterable[date]) -> str:
    found = list(days)
    if len(found) == 1:
        return f"dia {found[0]:%d/%m}"
    is_whole = (found[-1] - found[0]).days == len(found) - 1
    span = f"{found[0]:%d/%m} a {found[-1]:%d/%m}"
    return f"{len(found)} dias, {span}" if is_whole else f"{len(found)} dias entre {span}"
