"""A decision before it is made: what it is about and what it needs, checked against what is stored."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import psycopg

from ccee.profile import DEFAULT_PROFILE, load_profile
from derivation.known.decided import KEPT, REFUSED
from derivation.layers import DerivationParameters
from derivation.parameters import parameters_in_force
from derivation.run import recompute
from faults import OperatorFault
from storage.database import Database
from storage.review.decisions import DecisionKind
from storage.review.holds import Hold, HoldState, holds
from vee.calendars import slots_per_day
from vee.frames import DEFAULT_INTERVAL_S
from vee.layers.edits import values_of
from vee.layers.estimation import STRATEGIES

Connection = psycopg.Connection[Any]
_MINUTES_OF_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Proposal:
    """What somebody wants to decide, see `storage.review.decisions.NewDecision` for the fields.

    Attributes:
        held: the readings of `hold_ids`. suspects: those of `suspect_ids`, by the names of
            `storage.review.suspects.DECIDED_SCHEMA`.
    """

    kind: DecisionKind
    uc_id: int | None = None
    uc_code: str = ""
    day: dt.date | None = None
    first_slot: int | None = None
    last_slot: int | None = None
    suspect_ids: tuple[int, ...] = ()
    hold_ids: tuple[int, ...] = ()
    quarantine_id: int | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)
    held: tuple[Hold, ...] = ()
    suspects: tuple[Mapping[str, Any], ...] = ()

    @property
    def slots(self) -> range:
        if self.first_slot is None or self.last_slot is None:
            return range(0)
        return range(self.first_slot, self.last_slot + 1)


@dataclass(frozen=True, slots=True)
class Span:
    """Slots of one UC-day, 0-based and inclusive."""

    uc_id: int
    uc_code: str
    day: dt.date
    first_slot: int
    last_slot: int

    @property
    def count(self) -> int:
        return self.last_slot - self.first_slot + 1


def span(conn: Connection, uc_code: str, day: dt.date, begin: str, end: str, zone: str) -> Span:
    """The slots of a UC-day from `begin` to `end`, market time as HH:MM; empty texts mean the whole day.

    Raises:
        OperatorFault: no such UC, or times that are no grid of the day.
    """
    uc_id, code = uc(conn, uc_code)
    count = slots_per_day(day, zone, DEFAULT_INTERVAL_S)
    first = _slot(begin or "00:00", "--from")
    last = (_slot(end, "--to") if end else count) - 1
    if not 0 <= first <= last < count:
        raise OperatorFault(
            f"{begin or '00:00'} to {end or '24:00'} is no part of {day}",
            where="--from, --to",
            remedy=f"the day has {count} intervals of 5 minutes; --to is where the last one ends",
        )
    return Span(uc_id, code, day, first, last)


def _slot(text: str, option: str) -> int:
    hours, _, minutes = text.partition(":")
    if not (hours.isdigit() and minutes.isdigit() and len(minutes) == 2):
        raise OperatorFault(f"{text!r} is not a time", where=option, remedy="write HH:MM, to 24:00")
    at = int(hours) * 60 + int(minutes)
    step = DEFAULT_INTERVAL_S // 60
    if at % step or at > _MINUTES_OF_DAY or int(minutes) > 59:
        raise OperatorFault(f"{text} is no border of an interval", where=option, remedy="write 10:05, 10:10")
    return at // step


def parameters_of(db: Database) -> DerivationParameters:
    """The rules' parameters that a derivation would take now."""
    contract = load_profile(db.settings.ccee.profile_path or DEFAULT_PROFILE)
    return parameters_in_force(db.settings.market, contract.musd.params)


def uc(conn: Connection, code: str) -> tuple[int, str]:
    """Id and code of a UC by its code or an alias. Raises: OperatorFault: there is none."""
    row = conn.execute(
        "SELECT id, code FROM uc WHERE code = %(code)s OR %(code)s = ANY(aliases) "
        "ORDER BY code = %(code)s DESC",
        {"code": code},
    ).fetchone()
    if row is None:
        raise OperatorFault(f"no UC {code}", where="UC", remedy="smf queue and the registry show the codes")
    return int(row[0]), str(row[1])


# --- suspects -----------------------------------------------------------------------------------------------


def of_suspects(conn: Connection, kind: DecisionKind, suspect_ids: Sequence[int]) -> Proposal:
    """Accept or reject suspects, of one UC-day at a time.

    Raises:
        OperatorFault: no such suspect, one that does not wait, or several UC-days.
    """
    rows = conn.execute(
        "SELECT s.id, s.uc_id, u.code, s.day, s.first_slot, s.last_slot, s.state, s.rule, "
        "s.values_hash FROM suspect s "
        "JOIN uc u ON u.id = s.uc_id WHERE s.id = ANY(%s) ORDER BY s.id",
        [list(suspect_ids)],
    ).fetchall()
    known = {row[0] for row in rows}
    for number in suspect_ids:
        if number not in known:
            raise OperatorFault(f"no suspect S{number}", where=f"S{number}", remedy="smf queue lists them")
    for row in rows:
        if row[6] != "open":
            raise OperatorFault(
                f"suspect S{row[0]} is {row[6]}, it waits for nobody",
                where=f"UC {row[2]}, {row[3]}",
                remedy="undo the decision about it first (smf decide list)",
            )
    if len({(row[1], row[3]) for row in rows}) > 1:
        raise OperatorFault(
            "suspects of several UC-days at once",
            where=", ".join(f"S{row[0]}" for row in rows),
            remedy="decide day by day, so that each preview can be read",
        )
    return Proposal(
        kind,
        uc_id=rows[0][1],
        uc_code=rows[0][2],
        day=rows[0][3],
        first_slot=min(row[4] for row in rows),
        last_slot=max(row[5] for row in rows),
        suspect_ids=tuple(row[0] for row in rows),
        suspects=tuple(
            {
                "uc_id": row[1],
                "day": row[3],
                "rule": row[7],
                "first_slot": row[4],
                "last_slot": row[5],
                "values_hash": bytes(row[8]),
            }
            for row in rows
        ),
    )


# --- held readings ------------------------------------------------------------------------------------------


def of_holds(conn: Connection, kind: DecisionKind, hold_ids: Sequence[int], shift_s: int = 0) -> Proposal:
    """Release, shift or discard held readings.

    Raises:
        OperatorFault: no such hold, or one that is decided.
    """
    rows = {hold.id: hold for hold in holds(conn, list(hold_ids))}
    for number in hold_ids:
        if number not in rows:
            raise OperatorFault(f"no hold H{number}", where=f"H{number}", remedy="smf queue lists them")
        if rows[number].state is not HoldState.HELD:
            raise OperatorFault(
                f"hold H{number} is {rows[number].state}",
                where=f"meter {rows[number].serial}, {rows[number].day}",
                remedy="undo the decision about it first (smf decide list)",
            )
    payload = {"shift_s": shift_s} if kind is DecisionKind.SHIFT else {}
    return Proposal(kind, hold_ids=tuple(rows), payload=payload, held=tuple(rows.values()))


# --- two readings of the same slots -------------------------------------------------------------------------


def of_conflict(conn: Connection, quarantine_id: int, take: str) -> Proposal:
    """Choose between the reading that is stored (`kept`) and the one that contradicts it (`refused`).

    Raises:
        OperatorFault: no such contradiction, one of another kind, or a word that is neither.
    """
    if take not in (KEPT, REFUSED):
        raise OperatorFault(f"{take!r} is neither reading", where="--take", remedy=f"{KEPT} or {REFUSED}")
    row = conn.execute(
        "SELECT p.uc_id, u.code, q.day, q.meter_id, q.detail, r.interval_s FROM quarantine q "
        "JOIN installation i ON i.meter_id = q.meter_id AND i.role = 'main' "
        "AND i.valid && tstzrange(market_day_start(q.day), market_day_start(q.day + 1)) "
        "JOIN point p ON p.id = i.point_id JOIN uc u ON u.id = p.uc_id "
        "JOIN reading_latest r ON r.meter_id = q.meter_id AND r.day = q.day "
        "AND r.channel = (q.detail ->> 'channel')::smallint "
        "WHERE q.id = %s AND q.stage = 'merge' AND q.detail ? 'slots'",
        [quarantine_id],
    ).fetchone()
    if row is None:
        raise OperatorFault(
            f"no contradiction of two readings Q{quarantine_id}",
            where=f"Q{quarantine_id}",
            remedy="smf queue lists those that wait",
        )
    uc_id, code, day, meter_id, detail, interval_s = row
    slots = detail["slots"]
    payload = {
        "take": take,
        "meter_id": meter_id,
        "channel": detail["channel"],
        "slots": slots,
        "pulses": detail[take],
        "sessions": detail[f"{take}_sessions"],
    }
    return Proposal(
        DecisionKind.CHOOSE,
        uc_id=uc_id,
        uc_code=code,
        day=day,
        first_slot=min(slots) * interval_s // DEFAULT_INTERVAL_S,
        last_slot=((max(slots) + 1) * interval_s - 1) // DEFAULT_INTERVAL_S,
        quarantine_id=quarantine_id,
        payload=payload,
    )


# --- edits --------------------------------------------------------------------------------------------------


def set_values(
    where: Span, *, each_kwh: Fraction | None = None, total_kwh: Fraction | None = None
) -> Proposal:
    """The same energy in each slot, or one total shared out evenly. Exact, kWh.

    Raises:
        OperatorFault: neither or both, or a negative energy.
    """
    if (each_kwh is None) == (total_kwh is None):
        raise OperatorFault("no energy", where="--each, --total", remedy="give one of them, in kWh")
    value = each_kwh if each_kwh is not None else Fraction(total_kwh or 0) / where.count
    if value < 0:
        raise OperatorFault(
            f"{float(value)} kWh is less than nothing", where="energy", remedy="give the energy consumed"
        )
    how = {"each_kwh": str(each_kwh)} if each_kwh is not None else {"total_kwh": str(total_kwh)}
    return _edit(DecisionKind.SET, where, {"kwh": [str(value)] * where.count, **how})


def scale(db: Database, where: Span, factor: Fraction, as_of: dt.datetime) -> Proposal:
    """The slots' present values times a factor: of layer 3, or of layer 1 where a slot is held.

    Raises:
        OperatorFault: a factor that is not positive, or a slot without a value.
    """
    if factor <= 0:
        raise OperatorFault(f"a factor of {factor}", where="--factor", remedy="give a positive number")
    layers = recompute(db, where.uc_id, where.day, as_of=as_of, parameters=parameters_of(db))
    raw = values_of(layers.primary, where.uc_id, where.day)
    present = values_of(layers.estimated, where.uc_id, where.day)
    values = [
        _known(present[slot] if present[slot] is not None else raw[slot], slot) for slot in _slots(where)
    ]
    kwh = [str(value * factor) for value in values]
    return _edit(DecisionKind.SCALE, where, {"kwh": kwh, "factor": str(factor)})


def copy(db: Database, where: Span, source: dt.date, as_of: dt.datetime) -> Proposal:
    """The same slots of another day of the UC, as they stand in layer 3 now.

    Raises:
        OperatorFault: the day itself, or a slot that the other day lacks.
    """
    if source == where.day:
        raise OperatorFault("a day copied onto itself", where="--from-day", remedy="name another day")
    layers = recompute(db, where.uc_id, source, as_of=as_of, parameters=parameters_of(db))
    values = values_of(layers.estimated, where.uc_id, source)
    kwh = [str(_known(values[slot] if slot < len(values) else None, slot)) for slot in _slots(where)]
    return _edit(DecisionKind.COPY, where, {"kwh": kwh, "from_day": source.isoformat()})


def estimate(where: Span, strategy: str, *, aside: bool) -> Proposal:
    """Estimate a day by a named strategy; `aside`: what the slots hold is set aside first.

    Raises:
        OperatorFault: no such strategy.
    """
    if strategy not in STRATEGIES:
        raise OperatorFault(
            f"no strategy {strategy!r}", where="--strategy", remedy=f"one of {', '.join(sorted(STRATEGIES))}"
        )
    return _edit(DecisionKind.ESTIMATE, where, {"strategy": strategy, "aside": aside})


def reject_slots(where: Span) -> Proposal:
    """Set slots aside: missing from layer 2 on, and estimated like any gap."""
    return _edit(DecisionKind.REJECT, where, {})


def approve(conn: Connection, uc_code: str, day: dt.date, method: str) -> Proposal:
    """Allow an estimate that needs a person's word (no history, cycle mean).

    Raises:
        OperatorFault: no such UC, or it is approved already.
    """
    uc_id, code = uc(conn, uc_code)
    known = conn.execute(
        "SELECT approved_by FROM estimate_approval WHERE uc_id = %s AND day = %s AND method = %s",
        [uc_id, day, method],
    ).fetchone()
    if known:
        raise OperatorFault(
            f"{method} is approved already, by {known[0]}", where=f"UC {code}, {day}", remedy="nothing to do"
        )
    return Proposal(DecisionKind.APPROVE, uc_id=uc_id, uc_code=code, day=day, payload={"method": method})


def _edit(kind: DecisionKind, where: Span, payload: Mapping[str, Any]) -> Proposal:
    return Proposal(
        kind,
        uc_id=where.uc_id,
        uc_code=where.uc_code,
        day=where.day,
        first_slot=where.first_slot,
        last_slot=where.last_slot,
        payload=payload,
    )


def _slots(where: Span) -> range:
    return range(where.first_slot, where.last_slot + 1)


def _known(value: Fraction | None, slot: int) -> Fraction:
    if value is None:
        raise OperatorFault(
            f"the interval that begins at {slot * 5 // 60:02}:{slot * 5 % 60:02} has no value",
            where="slots",
            remedy="leave it out, set it, or have it estimated",
        )
    return value
