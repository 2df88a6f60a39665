"""What a decision would change: the UC-days before and after, interval by interval, as CCEE would get them.

Nothing is written: the days are computed from what is stored, once as they are and once as decided.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import orjson
import polars as pl
import psycopg

from derivation.known.decided import with_decisions
from derivation.layers import Facts, Layers
from derivation.run import recompute
from editing.proposals import Proposal, parameters_of
from storage.database import Database
from storage.review.decisions import IN_FORCE_SCHEMA, VALUE_KINDS, DecisionKind
from storage.review.hold_decisions import moved
from storage.review.suspects import DECIDED_SCHEMA
from vee.frames import split_by_slots, to_matrix
from vee.layers.edits import values_of
from vee.quality import Origin, Reason

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Change:
    """One interval that would change. Energy as CCEE would get it, kWh, None where it is missing."""

    slot: int
    before_kwh: Decimal | None
    after_kwh: Decimal | None
    before_reason: str
    after_reason: str


@dataclass(frozen=True, slots=True)
class DayPreview:
    """One UC-day before and after. `sent_version`: of what CCEE has; None where it has nothing."""

    uc_code: str
    day: dt.date
    state_before: str
    state_after: str
    cause_after: str
    energy_before_kwh: Decimal
    energy_after_kwh: Decimal
    adjusted_after: int
    missing_after: int
    changes: list[Change]
    sent_version: int | None

    @property
    def sentence(self) -> str:
        """What would happen to the delivery."""
        if not self.changes and self.state_before == self.state_after:
            return "nothing changes"
        if self.state_after != "ready":
            return f"not sent: {self.state_after}, {self.cause_after}"
        if self.sent_version is None:
            return "sent to CCEE as version 1"
        return f"sent to CCEE again, as version {self.sent_version + 1}"


@dataclass(frozen=True, slots=True)
class Preview:
    """All UC-days that a decision touches, in order."""

    days: list[DayPreview]

    @property
    def energy_before_kwh(self) -> Decimal:
        return sum((day.energy_before_kwh for day in self.days), Decimal(0))

    @property
    def energy_after_kwh(self) -> Decimal:
        return sum((day.energy_after_kwh for day in self.days), Decimal(0))

    def document(self) -> dict[str, Any]:
        """Plain values, as they are kept with the decision."""
        return {
            "energy_before_kwh": str(self.energy_before_kwh),
            "energy_after_kwh": str(self.energy_after_kwh),
            "days": [
                {
                    "uc": day.uc_code,
                    "day": day.day.isoformat(),
                    "state_before": day.state_before,
                    "state_after": day.state_after,
                    "cause_after": day.cause_after,
                    "energy_before_kwh": str(day.energy_before_kwh),
                    "energy_after_kwh": str(day.energy_after_kwh),
                    "delivery": day.sentence,
                    "changes": [
                        [
                            one.slot,
                            _text(one.before_kwh),
                            _text(one.after_kwh),
                            one.before_reason,
                            one.after_reason,
                        ]
                        for one in day.changes
                    ],
                }
                for day in self.days
            ],
        }


def preview(db: Database, proposal: Proposal, as_of: dt.datetime) -> Preview:
    """What the decision would change, computed from what is stored now.

    Args: as_of: now, aware.
    """
    with db.connect() as conn:
        uc_days = touched_days(conn, proposal)
        sent = _sent(conn, uc_days)
    days, parameters = [], parameters_of(db)
    for uc_id, code, day in uc_days:
        before = recompute(db, uc_id, day, as_of=as_of, parameters=parameters)
        after = recompute(
            db,
            uc_id,
            day,
            as_of=as_of,
            amend=lambda facts: as_decided(facts, proposal),
            parameters=parameters,
        )
        days.append(_compared(uc_id, code, day, before, after, sent.get((uc_id, day))))
    return Preview(days)


def touched_days(conn: Connection, proposal: Proposal) -> list[tuple[int, str, dt.date]]:
    """UC-days that derive otherwise by a decision: id, code, day."""
    if proposal.uc_id is not None and proposal.day is not None:
        return [(proposal.uc_id, proposal.uc_code, proposal.day)]
    pairs = {(hold.meter_id, hold.day) for hold in proposal.held}
    if proposal.kind is DecisionKind.SHIFT:
        shift_s = int(proposal.payload["shift_s"])
        pairs |= set(moved(proposal.held, shift_s).select("meter_id", "day").iter_rows())
    return uc_days_of(conn, pairs)


def uc_days_of(conn: Connection, pairs: Collection[tuple[int, dt.date]]) -> list[tuple[int, str, dt.date]]:
    """UC-days (id, code, day) of these meters' days."""
    rows = conn.execute(
        "SELECT DISTINCT u.id, u.code, k.day "
        "FROM unnest(%s::bigint[], %s::date[]) AS k (meter_id, day) "
        "JOIN installation i ON i.meter_id = k.meter_id "
        "AND i.valid && tstzrange(market_day_start(k.day), market_day_start(k.day + 1)) "
        "JOIN point p ON p.id = i.point_id JOIN uc u ON u.id = p.uc_id ORDER BY u.code, k.day",
        [[meter_id for meter_id, _ in pairs], [day for _, day in pairs]],
    ).fetchall()
    return [(row[0], row[1], row[2]) for row in rows]


def as_decided(facts: Facts, proposal: Proposal) -> Facts:
    """Facts as they would be with the decision in force."""
    kind = proposal.kind
    if proposal.suspect_ids:
        return _with_suspects(facts, proposal)
    if kind is DecisionKind.APPROVE:
        row = {"uc_id": proposal.uc_id, "day": proposal.day, "method": proposal.payload["method"]}
        added = pl.DataFrame([row | {"approved_by": "preview"}], schema=facts.approvals.schema)
        return replace(facts, approvals=pl.concat([facts.approvals, added]))
    if kind in VALUE_KINDS:
        return with_decisions(facts, _as_row(proposal))
    if kind in (DecisionKind.RELEASE, DecisionKind.SHIFT):
        arriving = moved(proposal.held, int(proposal.payload.get("shift_s", 0)))
        return replace(facts, readings=_filled(facts.readings, arriving))
    return facts


def _as_row(proposal: Proposal) -> pl.DataFrame:
    row = {
        "id": 0,
        "kind": str(proposal.kind),
        "uc_id": proposal.uc_id,
        "day": proposal.day,
        "first_slot": proposal.first_slot,
        "last_slot": proposal.last_slot,
        "quarantine_id": proposal.quarantine_id,
        "payload": orjson.dumps(dict(proposal.payload)).decode(),
    }
    return pl.DataFrame([row], schema=IN_FORCE_SCHEMA)


def _filled(readings: pl.DataFrame, arriving: pl.DataFrame) -> pl.DataFrame:
    """Day vectors with their holes filled by readings that arrive; days that were not there are added."""
    rows = {(row["meter_id"], row["channel"], row["day"]): row for row in readings.iter_rows(named=True)}
    days = {day for _, _, day in rows} | set(arriving["day"].to_list())
    for new in arriving.iter_rows(named=True):
        key = (new["meter_id"], new["channel"], new["day"])
        known = rows.get(key)
        if known is None:
            if new["day"] in days:
                rows[key] = new | {"version": 1}
        elif len(known["pulses"]) == len(new["pulses"]):
            pairs = zip(known["pulses"], new["pulses"], strict=True)
            known["pulses"] = [ours if ours is not None else theirs for ours, theirs in pairs]
    return pl.DataFrame(list(rows.values()), schema=readings.schema)


def _compared(
    uc_id: int, code: str, day: dt.date, before: Layers, after: Layers, sent_version: int | None
) -> DayPreview:
    old, new = _slots(before.ccee, uc_id, day), _slots(after.ccee, uc_id, day)
    changes = [
        Change(slot, was[0], will[0], was[1], will[1])
        for slot, (was, will) in enumerate(zip(old, new, strict=True))
        if was != will
    ]
    state_before, _ = _state(before.outcomes, uc_id, day)
    state_after, cause_after = _state(after.outcomes, uc_id, day)
    return DayPreview(
        uc_code=code,
        day=day,
        state_before=state_before,
        state_after=state_after,
        cause_after=cause_after,
        energy_before_kwh=sum((kwh for kwh, _, _ in old if kwh is not None), Decimal(0)),
        energy_after_kwh=sum((kwh for kwh, _, _ in new if kwh is not None), Decimal(0)),
        adjusted_after=sum(origin not in (Origin.MEASURED, Origin.MISSING) for _, _, origin in new),
        missing_after=sum(kwh is None for kwh, _, _ in new),
        changes=changes,
        sent_version=sent_version,
    )


def _slots(series: pl.DataFrame, uc_id: int, day: dt.date) -> list[tuple[Decimal | None, str, int]]:
    """Energy, reason and origin of each interval of a UC-day."""
    row = series.filter((pl.col("uc_id") == uc_id) & (pl.col("day") == day))
    found: list[tuple[Decimal | None, str, int]] = []
    for part in split_by_slots(row):
        matrix = to_matrix(part)
        for slot, value in enumerate(values_of(part, uc_id, day)):
            kwh = None if value is None else Decimal(value.numerator) / Decimal(value.denominator)
            reason = Reason(int(matrix.reason[0, slot])).name.lower()
            found.append((kwh, reason, int(matrix.origin[0, slot])))
    return found


def _state(outcomes: pl.DataFrame, uc_id: int, day: dt.date) -> tuple[str, str]:
    rows = outcomes.filter((pl.col("uc_id") == uc_id) & (pl.col("day") == day))
    if rows.is_empty():
        return "not_expected", ""
    return str(rows["state"][0]), str(rows["cause"][0])


def _sent(conn: Connection, uc_days: Sequence[tuple[int, str, dt.date]]) -> Mapping[tuple[int, dt.date], int]:
    rows = conn.execute(
        "SELECT s.uc_id, s.day, max(s.version) FROM submission s "
        "JOIN unnest(%s::bigint[], %s::date[]) AS k (uc_id, day) USING (uc_id, day) GROUP BY 1, 2",
        [[uc_id for uc_id, _, _ in uc_days], [day for _, _, day in uc_days]],
    ).fetchall()
    return {(row[0], row[1]): row[2] for row in rows}


def _text(value: Decimal | None) -> str | None:
    return None if value is None else str(value)


def _with_suspects(facts: Facts, proposal: Proposal) -> Facts:
    state = "accepted" if proposal.kind is DecisionKind.ACCEPT else "rejected"
    rows = [{**suspect, "state": state} for suspect in proposal.suspects]
    decided = pl.DataFrame(rows, schema=DECIDED_SCHEMA)
    rules = replace(facts.rules, decided=pl.concat([facts.rules.decided, decided]))
    return replace(facts, rules=rules)
