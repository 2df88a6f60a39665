"""Parameters of rules for one UC, one tariff subgroup or one agent: dated rows of `rule_override`.

Whether rule, parameter and value exist is the caller's to check (`vee.parameters.with_value`); here are
scope, validity, author and the audit record. An override is never deleted: it ends. Days that it concerns are
judged by it when they are derived again.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import psycopg

from faults import OperatorFault
from storage import audit


@dataclass(frozen=True)
class Scope:
    """Whom an override is for: exactly one of the three."""

    uc_code: str | None = None
    tariff_subgroup: str | None = None
    agent_code: int | None = None

    def __str__(self) -> str:
        if self.uc_code is not None:
            return f"UC {self.uc_code}"
        if self.tariff_subgroup is not None:
            return f"subgroup {self.tariff_subgroup}"
        return f"agent {self.agent_code}"


@dataclass(frozen=True)
class Override:
    """A row as it is shown. `valid_to` is the first day without it; None: no end."""

    id: int
    rule: str
    parameter: str
    value: str
    scope: Scope
    valid_from: dt.date
    valid_to: dt.date | None
    reason: str
    set_by: str


_ROWS = """
    SELECT o.id, o.rule, o.parameter, o.value, u.code, o.tariff_subgroup, o.agent_code, lower(o.valid),
           upper(o.valid), o.reason, o.set_by
    FROM rule_override o LEFT JOIN uc u ON u.id = o.uc_id
"""


def overrides(conn: psycopg.Connection[Any], rule: str = "") -> list[Override]:
    """All of them, or those of one rule, in order of rule, parameter and time."""
    rows = conn.execute(
        _ROWS + "WHERE %(rule)s = '' OR o.rule = %(rule)s ORDER BY o.rule, o.parameter, lower(o.valid), o.id",
        {"rule": rule},
    ).fetchall()
    return [_override(row) for row in rows]


def _override(row: tuple[Any, ...]) -> Override:
    number, rule, parameter, value, uc_code, subgroup, agent, begin, end, reason, by = row
    scope = Scope(uc_code, subgroup, agent)
    return Override(number, rule, parameter, value, scope, begin, end, reason, by)


def set_override(
    conn: psycopg.Connection[Any],
    rule: str,
    parameter: str,
    value: str,
    scope: Scope,
    valid_from: dt.date,
    valid_to: dt.date | None,
    *,
    reason: str,
    actor: str,
) -> int:
    """Add an override and its audit record; returns its number.

    Raises:
        OperatorFault: not exactly one scope, no reason, an unknown UC, an empty validity, or another value of
            the same parameter and scope in these days.
    """
    named = [one for one in (scope.uc_code, scope.tariff_subgroup, scope.agent_code) if one is not None]
    if len(named) != 1:
        raise OperatorFault(
            "one scope is needed", where="rule_override", remedy="name a UC, a subgroup or an agent"
        )
    if not reason.strip():
        raise OperatorFault("a reason is needed", where=str(scope), remedy="say why this differs")
    if valid_to is not None and valid_to <= valid_from:
        raise OperatorFault(
            f"it would end on {valid_to}, before it begins on {valid_from}",
            where=str(scope),
            remedy="the end is the first day without it",
        )
    uc_id = None
    if scope.uc_code is not None:
        found = conn.execute("SELECT id FROM uc WHERE code = %s", [scope.uc_code]).fetchone()
        if found is None:
            raise OperatorFault("no such UC", where=str(scope), remedy="use the code of the registry")
        uc_id = found[0]
    place = {"rule": rule, "parameter": parameter, "uc": uc_id, "group": scope.tariff_subgroup}
    span = {"agent": scope.agent_code, "first": valid_from, "end": valid_to}
    # Two writers of one parameter wait for each other: nobody reads half of the table.
    conn.execute("LOCK TABLE rule_override IN SHARE ROW EXCLUSIVE MODE")
    other = conn.execute(
        "SELECT id, value FROM rule_override WHERE rule = %(rule)s AND parameter = %(parameter)s "
        "AND uc_id IS NOT DISTINCT FROM %(uc)s::bigint "
        "AND tariff_subgroup IS NOT DISTINCT FROM %(group)s::text "
        "AND agent_code IS NOT DISTINCT FROM %(agent)s::integer "
        "AND valid && daterange(%(first)s::date, %(end)s::date)",
        place | span,
    ).fetchone()
    if other is not None:
        raise OperatorFault(
            f"number {other[0]} has {parameter} = {other[1]} in these days",
            where=f"{rule} {scope}",
            remedy=f"end it first: smf rules end {other[0]}",
        )
    row = conn.execute(
        "INSERT INTO rule_override (rule, parameter, value, uc_id, tariff_subgroup, agent_code, valid, "
        "reason, set_by) VALUES (%(rule)s, %(parameter)s, %(value)s, %(uc)s, %(group)s, %(agent)s, "
        "daterange(%(first)s::date, %(end)s::date), %(reason)s, %(actor)s) RETURNING id",
        place | span | {"value": value, "reason": reason, "actor": actor},
    ).fetchone()
    assert row is not None
    after = {"value": value, "from": valid_from.isoformat(), "to": str(valid_to or ""), "reason": reason}
    _record(conn, actor, "rules.override", rule, parameter, scope, None, after)
    return int(row[0])


def end_override(conn: psycopg.Connection[Any], number: int, end: dt.date, *, actor: str) -> Override:
    """Have an override hold no more from `end` on; returns it as it was.

    Raises:
        OperatorFault: no such override, or it ended before, or it would never have begun.
    """
    row = conn.execute(_ROWS + "WHERE o.id = %s FOR UPDATE OF o", [number]).fetchone()
    if row is None:
        raise OperatorFault(
            f"no override {number}", where="rule_override", remedy="list them with smf rules list"
        )
    before = _override(row)
    if end <= before.valid_from or (before.valid_to is not None and end >= before.valid_to):
        raise OperatorFault(
            f"it is valid from {before.valid_from} to {before.valid_to or 'further notice'}",
            where=f"override {number}",
            remedy="choose a day within",
        )
    conn.execute("UPDATE rule_override SET valid = daterange(lower(valid), %s) WHERE id = %s", [end, number])
    was = {"value": before.value, "to": str(before.valid_to or "")}
    now = {"value": before.value, "to": end.isoformat()}
    _record(conn, actor, "rules.end_override", before.rule, before.parameter, before.scope, was, now)
    return before


def _record(
    conn: psycopg.Connection[Any],
    actor: str,
    action: str,
    rule: str,
    parameter: str,
    scope: Scope,
    before: Any,
    after: Any,
) -> None:
    place = f"rule/{rule}/{parameter}/{str(scope).replace(' ', '/')}"
    audit.append(conn, actor=actor, action=action, object=place, before=before, after=after)
