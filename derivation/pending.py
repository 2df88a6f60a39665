"""What waits to be done: days touched since they were derived, and ready UC-days CCEE does not have.

What belongs here: the questions that sensors ask of the database each half minute, so each is one indexed
query with a small answer. What does not: deciding to run (sensors), the work itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, datetime

from storage.database import Database
from storage.submission_states import ANSWERED, OWED


@dataclass(frozen=True)
class TouchedDay:
    """Readings that came in for one day of one shard; the newest of them and when."""

    day: date
    shard: int
    last_seq: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True)
class UnsentDay:
    """A day of one shard with UC-days that are ready and not in the ledger as they now are.

    Args:
        fingerprint: of the UC-days and versions concerned; the same work has the same fingerprint.
        changed_at: newest change among them.
    """

    day: date
    shard: int
    uc_days: int
    fingerprint: str
    changed_at: datetime


_TOUCHED = """
    SELECT t.day, (p.uc_id %% %(shards)s)::int AS shard, max(t.seq), min(t.touched_at), max(t.touched_at)
    FROM touched_day t
    JOIN installation i ON i.meter_id = t.meter_id
    JOIN point p ON p.id = i.point_id
    WHERE t.seq > %(after_seq)s
    GROUP BY 1, 2
    ORDER BY 1, 2
"""

_UNSENT = """
    WITH latest AS (
        SELECT o.uc_id, o.day, o.updated_at, s.version, b.id, b.series_version, b.state, b.state_at,
               b.agent_id <> c.agent_id AS is_anothers
        FROM uc_day_outcome o
        JOIN LATERAL (
            SELECT version FROM series_day
            WHERE uc_id = o.uc_id AND quantity = 1 AND layer = 5 AND day = o.day
              -- Known before the rows are: TimescaleDB leaves out chunks by them, not by the day of a row.
              AND day BETWEEN %(first_day)s AND %(last_day)s
            ORDER BY version DESC LIMIT 1
        ) s ON true
        LEFT JOIN LATERAL (
            SELECT id, series_version, state, state_at, agent_id FROM submission_state
            WHERE uc_id = o.uc_id AND day = o.day
            ORDER BY version DESC LIMIT 1
        ) b ON true
        LEFT JOIN uc_agent c ON c.uc_id = o.uc_id AND c.valid @> o.day
        WHERE o.state = 'ready' AND o.day BETWEEN %(first_day)s AND %(last_day)s
    )
    SELECT day, (uc_id %% %(shards)s)::int AS shard, count(*), max(greatest(updated_at, state_at)),
           string_agg(concat_ws(':', uc_id, version, id, state, state_at), ',' ORDER BY uc_id)
    FROM latest
    WHERE id IS NULL OR series_version <> version OR is_anothers
       OR (state = ANY(%(unsettled)s) AND state_at < %(retry_before)s)
    GROUP BY 1, 2
    ORDER BY 1, 2
"""

# Hours above the limit are resent under another MUSD; which MUSD a version was made under is kept only then.
_MUSD_CHANGED = """
    SELECT s.day, (s.uc_id %% %(shards)s)::int AS shard, count(*), max(b.state_at),
           string_agg(concat_ws(':', s.uc_id, s.id, m.musd_kw), ',' ORDER BY s.uc_id)
    FROM submission_event e
    JOIN submission s ON s.id = e.submission_id
    JOIN submission_state b ON b.id = s.id
    LEFT JOIN uc_musd m ON m.uc_id = s.uc_id AND m.valid @> s.day
    WHERE e.detail ? 'musd_kw' AND s.day BETWEEN %(first_day)s AND %(last_day)s
      AND (e.detail ->> 'musd_kw')::numeric <> coalesce(m.musd_kw, %(musd_default_kw)s)
      AND b.state = ANY(%(settled)s)
      AND NOT EXISTS (
          SELECT FROM submission n WHERE n.uc_id = s.uc_id AND n.day = s.day AND n.version > s.version)
    GROUP BY 1, 2
    ORDER BY 1, 2
"""


def touched_days(db: Database, after_seq: int, shards: int) -> list[TouchedDay]:
    """Days with readings touched after a sequence number, oldest first."""
    with db.connect() as conn:
        rows = conn.execute(_TOUCHED, {"after_seq": after_seq, "shards": shards}).fetchall()
    return [TouchedDay(*row) for row in rows]


def unsent_days(
    db: Database,
    first_day: date,
    last_day: date,
    shards: int,
    retry_before: datetime,
    musd_default_kw: int | None = None,
) -> list[UnsentDay]:
    """Days with ready UC-days that the ledger does not have as they are, or could not deliver, oldest first.

    Args:
        retry_before: a delivery that failed or ended unknown before this time counts as waiting again.
        musd_default_kw: what CCEE assumes where no MUSD was declared; None: a MUSD that changed since hours
            were sent as above the limit is not a reason to send them again.
    """
    parameters = {
        "first_day": first_day,
        "last_day": last_day,
        "shards": shards,
        "unsettled": [state.value for state in OWED],
        "settled": [state.value for state in ANSWERED],
        "retry_before": retry_before,
        "musd_default_kw": musd_default_kw,
    }
    with db.connect() as conn:
        rows = conn.execute(_UNSENT, parameters).fetchall()
        if musd_default_kw is not None:
            rows += conn.execute(_MUSD_CHANGED, parameters).fetchall()
    by_day: dict[tuple[date, int], list[tuple[int, str, datetime]]] = {}
    for day, shard, count, changed_at, work in rows:
        by_day.setdefault((day, shard), []).append((count, work, changed_at))
    return [
        UnsentDay(
            day,
            shard,
            sum(count for count, _, _ in parts),
            hashlib.sha256("|".join(work for _, work, _ in parts).encode()).hexdigest()[:16],
            max(changed_at for _, _, changed_at in parts),
        )
        for (day, shard), parts in sorted(by_day.items())
    ]
