"""After the deadline: what was accepted becomes final, what was not is lost, and its agent is told."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from ccee import notices
from ccee.deadlines import closing_of
from ccee.ledger import Event, append
from ccee.profile import Profile
from faults import OperatorFault
from faults.market_time import parse_zone
from storage.database import Database
from storage.submission_states import DELIVERED, State
from vee.calendars import Calendars


def close_month(
    db: Database, month: date, profile: Profile, calendars: Calendars, *, now: datetime
) -> tuple[int, int]:
    """After the deadline: accepted versions become final, others are lost with a notice. Repeatable.

    Returns: (made final now, lost now). Raises: OperatorFault: the month is still open.
    """
    closing = closing_of(calendars, month)
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
