"""People's decisions about values: one row each, never deleted, its state the only thing that changes.

`editing` makes them; the derivation reads those in force. Suspects, holds and approvals are settled in their
own tables in the same transaction; the rest (`VALUE_KINDS`) acts through this table alone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

import orjson
import polars as pl
import psycopg

from faults import OperatorFault
from storage.bulk import array_literal, read_frame

Connection = psycopg.Connection[Any]


class DecisionKind(StrEnum):
    """What a decision does. The words are those of `smf decide` and `smf edit`."""

    ACCEPT = "accept"
    """Suspects are right: their values pass."""
    REJECT = "reject"
    """Suspects are wrong, or slots are: missing, and estimated like any gap."""
    CHOOSE = "choose"
    """Of two readings of the same slots, one counts."""
    SET = "set"
    """Slots get values that a person names."""
    SCALE = "scale"
    """Slots get their values times a factor."""
    COPY = "copy"
    """Slots get the values of another day."""
    ESTIMATE = "estimate"
    """The day is estimated by a named strategy, with some slots set aside where so asked."""
    APPROVE = "approve"
    """An estimate that needs a person's word has it."""
    RELEASE = "release"
    """Held readings are used as they are."""
    SHIFT = "shift"
    """Held readings are used under other times."""
    DISCARD = "discard"
    """Held readings are never used."""


class DecisionState(StrEnum):
    WAITING = "waiting"
    """A second person must agree."""
    IN_FORCE = "in_force"
    REFUSED = "refused"
    UNDONE = "undone"
    LAPSED = "lapsed"
    """Nobody decided while it could still change what is sent."""


VALUE_KINDS = (
    DecisionKind.REJECT,
    DecisionKind.CHOOSE,
    DecisionKind.SET,
    DecisionKind.SCALE,
    DecisionKind.COPY,
    DecisionKind.ESTIMATE,
)


@dataclass(frozen=True, slots=True)
class NewDecision:
    """A decision as it is asked for.

    Attributes:
        uc_id, day, first_slot, last_slot: what it is about, slots 0-based and inclusive; None for held
            readings, which may be of many days.
        payload: what the kind needs, in plain values (see `derivation.known.decided`).
        preview: what the person was shown.
        energy_before_kwh, energy_after_kwh: of the days concerned, as sent to CCEE.
        second_why: why a second person must agree; empty where none must.
    """

    kind: DecisionKind
    reason: str
    asked_by: str
    asked_at: dt.datetime
    uc_id: int | None = None
    day: dt.date | None = None
    first_slot: int | None = None
    last_slot: int | None = None
    suspect_ids: tuple[int, ...] = ()
    hold_ids: tuple[int, ...] = ()
    quarantine_id: int | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)
    preview: Mapping[str, Any] = field(default_factory=dict)
    energy_before_kwh: Decimal | None = None
    energy_after_kwh: Decimal | None = None
    second_why: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """A row of `decision`, see `NewDecision`."""

    id: int
    kind: DecisionKind
    state: DecisionState
    uc_id: int | None
    uc_code: str | None
    day: dt.date | None
    first_slot: int | None
    last_slot: int | None
    suspect_ids: tuple[int, ...]
    hold_ids: tuple[int, ...]
    quarantine_id: int | None
    payload: dict[str, Any]
    preview: dict[str, Any]
    reason: str
    asked_by: str
    asked_at: dt.datetime
    second_why: str
    answered_by: str | None
    answered_at: dt.datetime | None
    answer: str | None
    undone_by: str | None
    undone_at: dt.datetime | None
    undo_reason: str | None
    energy_before_kwh: Decimal | None
    energy_after_kwh: Decimal | None


_COLUMNS = (
    "d.id, d.kind, d.state, d.uc_id, u.code, d.day, d.first_slot, d.last_slot, d.suspect_ids, d.hold_ids, "
    "d.quarantine_id, d.payload, d.preview, d.reason, d.asked_by, d.asked_at, d.second_why, d.answered_by, "
    "d.answered_at, d.answer, d.undone_by, d.undone_at, d.undo_reason, d.energy_before_kwh, "
    "d.energy_after_kwh"
)

IN_FORCE_SCHEMA: dict[str, pl.DataType] = {
    "id": pl.Int64(),
    "kind": pl.String(),
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "first_slot": pl.Int16(),
    "last_slot": pl.Int16(),
    "quarantine_id": pl.Int64(),
    "payload": pl.String(),
}
_IN_FORCE = """
    SELECT id, kind, uc_id, day, first_slot, last_slot, quarantine_id, payload::text AS payload
    FROM decision
    WHERE state = 'in_force' AND kind = ANY($3::text::text[]) AND day = ANY($1::text::date[])
      AND uc_id IN (SELECT unnest($2::text::bigint[]))
    ORDER BY id
"""


def in_force(connection: Any, uc_ids: Collection[int], days: Collection[dt.date]) -> pl.DataFrame:
    """Decisions about values of these UC-days, IN_FORCE_SCHEMA, in order.

    Args: connection: as `storage.bulk.read_frame` takes it.
    """
    rows = read_frame(
        connection, _IN_FORCE, [array_literal(days), array_literal(uc_ids), array_literal(VALUE_KINDS)]
    )
    return rows.select(pl.col(name).cast(kind) for name, kind in IN_FORCE_SCHEMA.items())


def add(conn: Connection, new: NewDecision) -> Decision:
    """Write a decision down; waiting where a second person must agree, else in force."""
    state = DecisionState.WAITING if new.second_why else DecisionState.IN_FORCE
    row = conn.execute(
        "INSERT INTO decision (kind, state, uc_id, day, first_slot, last_slot, suspect_ids, hold_ids, "
        "quarantine_id, payload, preview, reason, asked_by, asked_at, second_why, energy_before_kwh, "
        "energy_after_kwh) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
        "RETURNING id",
        [
            new.kind, state, new.uc_id, new.day, new.first_slot, new.last_slot, list(new.suspect_ids),
            list(new.hold_ids), new.quarantine_id, _json(new.payload), _json(new.preview), new.reason,
            new.asked_by, new.asked_at, new.second_why, new.energy_before_kwh, new.energy_after_kwh,
        ],
    ).fetchone()  # fmt: skip
    assert row is not None
    return one(conn, int(row[0]))


# Approvals that wait: days without them, and those that wait for a second person.
_UNGIVEN = """
    SELECT o.uc_id, o.day, NULL::bigint AS decision_id
    FROM uc_day_outcome o
    WHERE o.state = 'incomplete' AND o.cause = 'no_history_needs_approval' AND NOT EXISTS (
        SELECT FROM decision d
        WHERE d.uc_id = o.uc_id AND d.day = o.day AND d.kind = 'approve' AND d.state IN ('lapsed', 'waiting'))
    UNION ALL
    SELECT uc_id, day, id FROM decision WHERE kind = 'approve' AND state = 'waiting'
    ORDER BY 2, 1
"""


def ungiven_approvals(conn: Connection) -> list[tuple[int, dt.date, int | None]]:
    """Approvals that nobody has given: UC, day, and the decision that waits for a second person, if any."""
    return conn.execute(_UNGIVEN).fetchall()


def lapse(
    conn: Connection, uc_id: int, day: dt.date, waiting_id: int | None, *, by: str, at: dt.datetime, why: str
) -> Decision:
    """End an approval that nobody gave: the decision that waits, or a new row that says so."""
    if waiting_id is not None:
        return answer(conn, waiting_id, DecisionState.LAPSED, by=by, at=at, why=why)
    row = conn.execute(
        "INSERT INTO decision (kind, state, uc_id, day, reason, asked_by, asked_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING id",
        [DecisionKind.APPROVE, DecisionState.LAPSED, uc_id, day, why, by, at],
    ).fetchone()
    assert row is not None
    return one(conn, int(row[0]))


def answer(
    conn: Connection, decision_id: int, state: DecisionState, *, by: str, at: dt.datetime, why: str
) -> Decision:
    """The second person's word: in force, or refused; or lapsed, because there was none."""
    conn.execute(
        "UPDATE decision SET state = %s, answered_by = %s, answered_at = %s, answer = %s "
        "WHERE id = %s AND state = 'waiting'",
        [state, by, at, why, decision_id],
    )
    return one(conn, decision_id)


def undo(conn: Connection, decision_id: int, *, by: str, at: dt.datetime, why: str) -> Decision:
    conn.execute(
        "UPDATE decision SET state = 'undone', undone_by = %s, undone_at = %s, undo_reason = %s "
        "WHERE id = %s AND state = 'in_force'",
        [by, at, why, decision_id],
    )
    return one(conn, decision_id)


def one(conn: Connection, decision_id: int, *, lock: bool = False) -> Decision:
    """A decision by its number. Raises: OperatorFault: there is none."""
    if lock:
        conn.execute("SELECT FROM decision WHERE id = %s FOR UPDATE", [decision_id])
    rows = _select(conn, "WHERE d.id = %s", [decision_id])
    if not rows:
        raise OperatorFault(
            f"no decision {decision_id}", where=f"D{decision_id}", remedy="smf decide list shows them"
        )
    return rows[0]


def listed(
    conn: Connection,
    *,
    states: Sequence[DecisionState] = (),
    uc_id: int | None = None,
    day: dt.date | None = None,
    limit: int = 1000,
) -> list[Decision]:
    """Decisions, the newest first."""
    return _select(
        conn,
        "WHERE (%(states)s::text[] = '{}' OR d.state = ANY(%(states)s)) "
        "AND (%(uc)s::bigint IS NULL OR d.uc_id = %(uc)s) AND (%(day)s::date IS NULL OR d.day = %(day)s) "
        "ORDER BY d.id DESC LIMIT %(limit)s",
        {"states": [str(state) for state in states], "uc": uc_id, "day": day, "limit": limit},
    )


def _select(conn: Connection, clause: str, parameters: Any) -> list[Decision]:
    cursor = conn.cursor(row_factory=psycopg.rows.tuple_row)
    cursor.execute(f"SELECT {_COLUMNS} FROM decision d LEFT JOIN uc u ON u.id = d.uc_id {clause}", parameters)
    rows = []
    for row in cursor:
        values: list[Any] = [tuple(value) if isinstance(value, list) else value for value in row]
        values[1], values[2] = DecisionKind(values[1]), DecisionState(values[2])
        rows.append(Decision(*values))
    return rows


def _json(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()
