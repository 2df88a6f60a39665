"""What waits for a person, worst first: suspects, held readings, contradictions, approvals, decisions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from storage.database import Database
from storage.review.decisions import DecisionKind
from vee.calendars import Calendars, deadline

# What waits for a second person already is listed as that alone: nobody can decide about it twice.
# One query a kind; each gives key, UC, agent, day, rule, slots, energy at stake in kWh, what and since when.
_SUSPECTS = """
    SELECT 'S' || s.id, u.code, a.code, s.day, s.rule, s.first_slot::int, s.last_slot::int, s.energy_kwh,
           s.severity, s.evidence, s.opened_at
    FROM suspect s JOIN uc u ON u.id = s.uc_id
    JOIN uc_agent ua ON ua.uc_id = u.id AND ua.valid @> s.day
    JOIN agent a ON a.id = ua.agent_id
    WHERE s.state = 'open' AND NOT EXISTS (
        SELECT FROM decision d WHERE d.state = 'waiting' AND s.id = ANY(d.suspect_ids))
"""
_HOLDS = """
    SELECT 'H' || h.id, u.code, a.code, h.day, CASE h.rule WHEN '' THEN h.reason ELSE h.rule END,
           NULL::int, NULL::int,
           (SELECT sum(p) FROM unnest(h.pulses) AS p) * i.pulse_energy_num::numeric / i.pulse_energy_den,
           h.reason, h.evidence || jsonb_build_object('likely_shift_s', h.likely_shift_s), h.held_at
    FROM reading_hold h
    JOIN installation i ON i.meter_id = h.meter_id AND i.active_channel = h.channel
        AND i.valid && tstzrange(market_day_start(h.day), market_day_start(h.day + 1))
    JOIN point p ON p.id = i.point_id JOIN uc u ON u.id = p.uc_id
    JOIN uc_agent ua ON ua.uc_id = u.id AND ua.valid @> h.day
    JOIN agent a ON a.id = ua.agent_id
    WHERE h.state = 'held' AND NOT EXISTS (
        SELECT FROM decision d WHERE d.state = 'waiting' AND h.id = ANY(d.hold_ids))
"""
_CONFLICTS = """
    SELECT 'Q' || q.id, u.code, a.code, q.day, 'V03', NULL::int, NULL::int,
           (SELECT sum(abs(k.p::numeric - r.p::numeric))
            FROM jsonb_array_elements_text(q.detail -> 'kept') WITH ORDINALITY AS k (p, n)
            JOIN jsonb_array_elements_text(q.detail -> 'refused') WITH ORDINALITY AS r (p, n) USING (n))
           * i.pulse_energy_num::numeric / i.pulse_energy_den,
           'two readings', q.detail, q.at
    FROM quarantine q
    JOIN installation i ON i.meter_id = q.meter_id AND i.role = 'main'
        AND i.active_channel = (q.detail ->> 'channel')::smallint
        AND i.valid && tstzrange(market_day_start(q.day), market_day_start(q.day + 1))
    JOIN point p ON p.id = i.point_id JOIN uc u ON u.id = p.uc_id
    JOIN uc_agent ua ON ua.uc_id = u.id AND ua.valid @> q.day
    JOIN agent a ON a.id = ua.agent_id
    WHERE q.stage = 'merge' AND q.detail ? 'slots'
      AND NOT EXISTS (
          SELECT FROM decision d
          WHERE d.quarantine_id = q.id AND d.state IN ('in_force', 'waiting'))
"""
_APPROVALS = """
    SELECT 'A' || u.code || ':' || o.day, u.code, a.code, o.day, 'annex 7.2', NULL::int, NULL::int,
           NULL::numeric, o.cause,
           (o.detail - 'slots_by_reason' - 'missing_by_cause')
               || coalesce(o.detail -> 'missing_by_cause', '{}'),
           o.updated_at
    FROM uc_day_outcome o JOIN uc u ON u.id = o.uc_id
    JOIN uc_agent ua ON ua.uc_id = u.id AND ua.valid @> o.day
    JOIN agent a ON a.id = ua.agent_id
    WHERE o.state = 'incomplete' AND o.cause = 'no_history_needs_approval' AND NOT EXISTS (
        SELECT FROM decision d
        WHERE d.uc_id = o.uc_id AND d.day = o.day AND d.kind = 'approve' AND d.state = 'waiting')
"""
_SECOND = """
    SELECT 'D' || d.id, coalesce(u.code, ''), a.code, d.day, d.kind, d.first_slot::int, d.last_slot::int,
           abs(d.energy_after_kwh - d.energy_before_kwh), 'second person',
           jsonb_build_object('asked_by', d.asked_by, 'reason', d.reason, 'why', d.second_why), d.asked_at
    FROM decision d LEFT JOIN uc u ON u.id = d.uc_id LEFT JOIN agent a ON a.id = u.agent_id
    WHERE d.state = 'waiting'
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One thing that waits.

    Attributes:
        key: what `smf decide` takes: S suspect, H held readings, Q two readings, A approval, D decision that
            needs a second person; then its number (of an approval, UC and day).
        rule: rule or reason that stopped it. first_slot, last_slot: 0-based, None for whole days.
        energy_kwh: at stake; None where nobody can say.
        days_left: to the last day for the month's data; negative once it is past.
    """

    key: str
    uc_code: str
    agent_code: int | None
    day: dt.date | None
    rule: str
    first_slot: int | None
    last_slot: int | None
    energy_kwh: Decimal | None
    what: str
    evidence: Mapping[str, Any]
    since: dt.datetime
    days_left: int | None


def waiting(
    db: Database,
    calendars: Calendars,
    today: dt.date,
    *,
    rule: str = "",
    uc_code: str = "",
    agent_code: int | None = None,
) -> list[Waiting]:
    """All that waits, the most energy first; what the deadline presses (2 days or less) before all else, and
    what is past it behind.

    Args: today: in market time. rule, uc_code, agent_code: only those.
    """
    rows = []
    with db.connect() as conn:
        for query in (_SUSPECTS, _HOLDS, _CONFLICTS, _APPROVALS, _SECOND):
            rows += conn.execute(query).fetchall()
    found = []
    for key, code, agent, day, by_rule, first, last, kwh, what, evidence, since in rows:
        left = None if day is None else (deadline(day.replace(day=1), calendars) - today).days
        energy = None if kwh is None else round(Decimal(kwh), 3)
        found.append(
            Waiting(key, code, agent, day, by_rule, first, last, energy, what, evidence, since, left)
        )
    # Where readings are held, the word about them comes before one about an estimate in their place.
    held = {(one.uc_code, one.day) for one in found if one.key[0] == "H"}
    chosen = [
        one
        for one in found
        if not (one.key[0] == "A" and (one.uc_code, one.day) in held)
        # An approval serves a delivery; without one left, it ends (`timeouts.lapse_approvals`).
        if not (_is_approval(one) and one.days_left is not None and one.days_left < 0)
        if (not rule or one.rule == rule)
        and (not uc_code or one.uc_code == uc_code)
        and (agent_code is None or one.agent_code == agent_code)
    ]
    return sorted(chosen, key=_urgency)


def _is_approval(one: Waiting) -> bool:
    return one.key[0] == "A" or (one.key[0] == "D" and one.rule == DecisionKind.APPROVE)


def _urgency(one: Waiting) -> tuple[int, Decimal, dt.datetime]:
    left = one.days_left
    # What is past its deadline can change no delivery any more, only what is kept: it comes last.
    turn = 1 if left is None or left > PRESSING_DAYS else 0 if left >= 0 else 2
    return turn, -(one.energy_kwh or Decimal(0)), one.since


PRESSING_DAYS = 2
