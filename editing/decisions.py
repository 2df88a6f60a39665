"""Decisions asked for, agreed to by a second person where one is needed, refused, undone.

Each is one transaction: the decision's row, what it settles (suspects, held readings, approvals), the audit
record, and the touch by which its days derive again by themselves.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg

from derivation.run import derive_ucs
from editing.preview import Preview, preview, uc_days_of
from editing.proposals import Proposal, parameters_of
from faults import OperatorFault
from storage import audit
from storage.database import Database
from storage.review import decisions, hold_decisions, suspects
from storage.review.decisions import Decision, DecisionKind, DecisionState, NewDecision
from storage.settings import EditingSettings

Connection = psycopg.Connection[Any]
UcDays = list[tuple[int, dt.date]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a decision. `touched`: UC-days that derive again, id and day."""

    decision: Decision
    preview: Preview | None
    touched: UcDays


def ask(
    db: Database, proposal: Proposal, *, by: str, why: str, at: dt.datetime, is_policy: bool = False
) -> Outcome:
    """Make a decision, or put it before a second person where it moves more than the limit.

    Args:
        by: login of the person, or name of the policy. why: in words. at: now, aware.
        is_policy: a rule's time-out decides; whoever set the rule's parameters has agreed to it.
    Raises: OperatorFault: no reason, or a decision about the same that waits already.
    """
    if not why.strip():
        raise OperatorFault("a decision without a reason", where="--why", remedy="say why, in words")
    shown = preview(db, proposal, at)
    new = NewDecision(
        kind=proposal.kind,
        reason=why.strip(),
        asked_by=by,
        asked_at=at,
        uc_id=proposal.uc_id,
        day=proposal.day,
        first_slot=proposal.first_slot,
        last_slot=proposal.last_slot,
        suspect_ids=proposal.suspect_ids,
        hold_ids=proposal.hold_ids,
        quarantine_id=proposal.quarantine_id,
        payload=proposal.payload,
        preview=shown.document(),
        energy_before_kwh=shown.energy_before_kwh,
        energy_after_kwh=shown.energy_after_kwh,
        second_why="" if is_policy else second_person(shown, db.settings.editing),
    )
    with db.connect() as conn, conn.transaction():
        _refuse_doubles(conn, new)
        decision = decisions.add(conn, new)
        _record(conn, decision, by, "decision.ask")
        touched = _apply(conn, decision, at) if decision.state is DecisionState.IN_FORCE else []
    return Outcome(decision, shown, touched)


def second_person(shown: Preview, limits: EditingSettings) -> str:
    """Why a second person must agree; empty where none must.

    What counts is the energy that changes hands interval by interval: two errors that cancel out are two.
    """
    moved = sum(
        (_moved(change.before_kwh, change.after_kwh) for day in shown.days for change in day.changes),
        Decimal(0),
    )
    whole = max(shown.energy_before_kwh, shown.energy_after_kwh)
    if moved > Decimal(str(limits.second_person_kwh)):
        return f"{moved} kWh change, more than {limits.second_person_kwh:g} kWh"
    if whole and moved / whole > Decimal(str(limits.second_person_share)):
        return f"{moved / whole:.1%} of the energy changes, more than {limits.second_person_share:.1%}"
    return ""


def _moved(before: Decimal | None, after: Decimal | None) -> Decimal:
    # What was missing and is estimated now is no change of a value that anybody has.
    return abs(after - before) if before is not None and after is not None else Decimal(0)


def agree(db: Database, decision_id: int, *, by: str, why: str, at: dt.datetime) -> Outcome:
    """The second person agrees: the decision is in force.

    Raises: OperatorFault: it does not wait, or the same person asked.
    """
    with db.connect() as conn, conn.transaction():
        decision = _waiting(conn, decision_id, by)
        decision = decisions.answer(conn, decision.id, DecisionState.IN_FORCE, by=by, at=at, why=why)
        _record(conn, decision, by, "decision.agree")
        touched = _apply(conn, decision, at)
    return Outcome(decision, None, touched)


def refuse(db: Database, decision_id: int, *, by: str, why: str, at: dt.datetime) -> Outcome:
    """The second person does not agree: nothing changes.

    Raises: OperatorFault: it does not wait, the same person asked, or no reason.
    """
    if not why.strip():
        raise OperatorFault("a refusal without a reason", where="--why", remedy="say why, in words")
    with db.connect() as conn, conn.transaction():
        decision = _waiting(conn, decision_id, by)
        decision = decisions.answer(conn, decision.id, DecisionState.REFUSED, by=by, at=at, why=why)
        _record(conn, decision, by, "decision.refuse")
    return Outcome(decision, None, [])


def undo(db: Database, decision_id: int, *, by: str, why: str, at: dt.datetime) -> Outcome:
    """Take a decision back: what it settled waits again, and its days derive as without it.

    Raises: OperatorFault: it is not in force, or no reason.
    """
    if not why.strip():
        raise OperatorFault("an undo without a reason", where="--why", remedy="say why, in words")
    with db.connect() as conn, conn.transaction():
        decision = decisions.one(conn, decision_id, lock=True)
        if decision.state is not DecisionState.IN_FORCE:
            raise OperatorFault(
                f"decision D{decision.id} is {decision.state}, not in force",
                where=f"D{decision.id}",
                remedy="smf decide list shows those that are",
            )
        touched = _settle(conn, decision, at, back=why)
        decision = decisions.undo(conn, decision.id, by=by, at=at, why=why)
        _record(conn, decision, by, "decision.undo")
    return Outcome(decision, None, touched)


def lapse(
    db: Database, uc_id: int, day: dt.date, waiting_id: int | None, *, by: str, at: dt.datetime, why: str
) -> Outcome:
    """End an approval that nobody gave in time; no value changes.

    Args: waiting_id: the decision that waits for a second person, where there is one.
    """
    with db.connect() as conn, conn.transaction():
        decision = decisions.lapse(conn, uc_id, day, waiting_id, by=by, at=at, why=why)
        _record(conn, decision, by, "decision.lapse")
    return Outcome(decision, None, [])


def derive_touched(db: Database, outcome: Outcome, at: dt.datetime) -> None:
    """Derive the days of a decision now, rather than when the sensor finds them."""
    by_day: dict[dt.date, list[int]] = {}
    for uc_id, day in outcome.touched:
        by_day.setdefault(day, []).append(uc_id)
    parameters = parameters_of(db)
    for day, uc_ids in sorted(by_day.items()):
        derive_ucs(
            db, uc_ids, (day, day), as_of=at, run_id=f"decision-{outcome.decision.id}", parameters=parameters
        )


def _apply(conn: Connection, decision: Decision, at: dt.datetime) -> UcDays:
    return _settle(conn, decision, at, back="")


def _settle(conn: Connection, decision: Decision, at: dt.datetime, *, back: str) -> UcDays:
    """Put a decision into force, or with `back` (the reason) take it out; returns the UC-days concerned."""
    kind, by = decision.kind, decision.answered_by or decision.asked_by
    if decision.hold_ids:
        return _settle_holds(conn, decision, at, by, back)
    assert decision.uc_id is not None
    assert decision.day is not None
    uc_day = (decision.uc_id, decision.day)
    if decision.suspect_ids:
        state = "open" if back else "accepted" if kind is DecisionKind.ACCEPT else "rejected"
        suspects.decide(conn, decision.suspect_ids, state, at)
    elif kind is DecisionKind.APPROVE:
        key = [*uc_day, decision.payload["method"]]
        if back:
            conn.execute("DELETE FROM estimate_approval WHERE uc_id = %s AND day = %s AND method = %s", key)
        else:
            conn.execute(
                "INSERT INTO estimate_approval (uc_id, day, method, approved_by, approved_at, note) "
                "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                [*key, by, at, decision.reason],
            )
        suspects.touch(conn, [uc_day], at)
    else:
        _settle_covered(conn, decision, at, back=bool(back))
        suspects.touch(conn, [uc_day], at)
    return [uc_day]


def _settle_covered(conn: Connection, decision: Decision, at: dt.datetime, *, back: bool) -> None:
    """Suspects wholly inside the slots of an edit: their values are replaced, so they are decided with it."""
    wanted, state = ("rejected", "open") if back else ("open", "rejected")
    rows = conn.execute(
        "SELECT id FROM suspect WHERE uc_id = %s AND day = %s AND state = %s "
        "AND first_slot >= %s AND last_slot <= %s",
        [decision.uc_id, decision.day, wanted, decision.first_slot, decision.last_slot],
    ).fetchall()
    if decision.kind is DecisionKind.ESTIMATE and not decision.payload.get("aside"):
        return
    if decision.kind is not DecisionKind.CHOOSE and rows:
        suspects.decide(conn, [row[0] for row in rows], state, at)


def _settle_holds(conn: Connection, decision: Decision, at: dt.datetime, by: str, back: str) -> UcDays:
    if back:
        done = hold_decisions.undo(conn, decision.hold_ids, actor=by, why=back, at=at)
    elif decision.kind is DecisionKind.RELEASE:
        done = hold_decisions.release(conn, decision.hold_ids, actor=by, why=decision.reason, at=at)
    elif decision.kind is DecisionKind.SHIFT:
        shift_s = int(decision.payload["shift_s"])
        done = hold_decisions.shift(conn, decision.hold_ids, shift_s, actor=by, why=decision.reason, at=at)
    else:
        done = hold_decisions.reject(conn, decision.hold_ids, actor=by, why=decision.reason, at=at)
    return [(uc_id, day) for uc_id, _, day in uc_days_of(conn, set(done.touched))]


def _waiting(conn: Connection, decision_id: int, by: str) -> Decision:
    decision = decisions.one(conn, decision_id, lock=True)
    if decision.state is not DecisionState.WAITING:
        raise OperatorFault(
            f"decision D{decision.id} is {decision.state}, it waits for nobody",
            where=f"D{decision.id}",
            remedy="smf queue shows what waits",
        )
    if decision.asked_by == by:
        raise OperatorFault(
            f"{by} asked for it: a second person must answer",
            where=f"D{decision.id}",
            remedy="let somebody else look at the preview (smf decide show)",
        )
    return decision


def _refuse_doubles(conn: Connection, new: NewDecision) -> None:
    """The same thing must not wait twice."""
    row = conn.execute(
        "SELECT id, asked_by FROM decision WHERE state = 'waiting' AND (suspect_ids && %s::bigint[] "
        "OR hold_ids && %s::bigint[] OR quarantine_id = %s) LIMIT 1",
        [list(new.suspect_ids), list(new.hold_ids), new.quarantine_id],
    ).fetchone()
    if row is not None:
        raise OperatorFault(
            f"decision D{row[0]} about the same waits for a second person, asked by {row[1]}",
            where=f"D{row[0]}",
            remedy="agree to it or refuse it first",
        )


def _record(conn: Connection, decision: Decision, actor: str, action: str) -> None:
    holds = ", ".join(f"H{number}" for number in decision.hold_ids)
    about = f"uc/{decision.uc_code} {decision.day}" if decision.uc_code else holds
    after = {
        "kind": decision.kind,
        "state": decision.state,
        "reason": decision.reason,
        "slots": [decision.first_slot, decision.last_slot],
        "suspects": list(decision.suspect_ids),
        "payload": decision.payload,
        "energy_before_kwh": decision.energy_before_kwh,
        "energy_after_kwh": decision.energy_after_kwh,
        "answer": decision.answer,
        "undo_reason": decision.undo_reason,
    }
    audit.append(conn, actor=actor, action=action, object=f"decision/{decision.id} {about}", after=after)
