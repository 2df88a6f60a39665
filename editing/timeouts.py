"""What nobody decided in time: suspects by the policy of their rule, approvals by the month's end."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from editing import decisions, proposals
from editing.decisions import Outcome
from storage.database import Database
from storage.review import decisions as stored
from storage.review.decisions import DecisionKind
from vee.calendars import Calendars, deadline
from vee.rules.base import RuleParams, Severity, TimeOut

_KINDS = {TimeOut.ACCEPT: DecisionKind.ACCEPT, TimeOut.REJECT: DecisionKind.REJECT}
_OPEN = """
    SELECT id, uc_id, day, rule FROM suspect
    WHERE state = 'open' AND severity = %s AND rule = ANY(%s) ORDER BY day, uc_id, rule, id
"""


def apply_timeouts(
    db: Database, rules: Mapping[str, RuleParams], calendars: Calendars, now: dt.datetime
) -> list[Outcome]:
    """Decide what rules' policies say is due now; each UC-day and rule is one decision, which can be undone.

    Args: rules: parameters by rule id. now: aware.
    """
    acting = [rule for rule, params in rules.items() if params.on_timeout is not TimeOut.WAIT]
    if not acting:
        return []
    today = now.astimezone(db.settings.market.tzinfo).date()
    with db.connect() as conn:
        rows = conn.execute(_OPEN, [Severity.SUSPECT, acting]).fetchall()
    due: dict[tuple[int, dt.date, str], list[int]] = {}
    for suspect_id, uc_id, day, rule in rows:
        left = (deadline(day.replace(day=1), calendars) - today).days
        if 0 <= left <= rules[rule].timeout_days:
            due.setdefault((uc_id, day, rule), []).append(suspect_id)
    made = []
    for (_, day, rule), suspect_ids in due.items():
        kind = _KINDS[rules[rule].on_timeout]
        with db.connect() as conn:
            proposal = proposals.of_suspects(conn, kind, suspect_ids)
        why = f"nobody decided until {rules[rule].timeout_days} days before the last day for {day:%Y-%m}"
        made.append(decisions.ask(db, proposal, by=f"policy {rule}", why=why, at=now, is_policy=True))
    return made


def lapse_approvals(db: Database, calendars: Calendars, now: dt.datetime) -> list[Outcome]:
    """End approvals whose month can no longer be sent: no word about them changes a delivery any more.

    Args: now: aware.
    """
    today = now.astimezone(db.settings.market.tzinfo).date()
    with db.connect() as conn:
        waiting = stored.ungiven_approvals(conn)
    made = []
    for uc_id, day, decision_id in waiting:
        last_day = deadline(day.replace(day=1), calendars)
        if today > last_day:
            why = f"nobody approved it until {last_day}, the last day for {day:%Y-%m}"
            made.append(decisions.lapse(db, uc_id, day, decision_id, by="policy closing", at=now, why=why))
    return made
