"""What came in and must not flow on: the table `quarantine`.

Nothing that came in is lost, nothing bad flows on: each row says at which stage what was set aside, of whom,
and why. The same trouble seen again is one row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import orjson
import psycopg


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One thing set aside.

    Attributes:
        stage: where it was found: frame, decode, merge ...
        reason: in words, for a person.
        dedup_key: what makes it the same trouble; without it stage, owner, reason and day do.
    """

    stage: str
    reason: str
    meter_id: int | None = None
    uc_id: int | None = None
    day: date | None = None
    session_id: int | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    dedup_key: str = ""

    @property
    def key(self) -> str:
        owner = f"uc:{self.uc_id}" if self.meter_id is None else f"{self.meter_id}"
        return self.dedup_key or f"{self.stage}:{owner}:{self.reason}:{self.day}"


def put(conn: psycopg.Connection[Any], rows: Sequence[Quarantined], at: datetime | None = None) -> None:
    """Set things aside, in the caller's transaction; what is there already stays as it was.

    Args:
        at: without it the database's own time.
    """
    if not rows:
        return
    records = [
        {
            "stage": row.stage,
            "reason": row.reason,
            "meter_id": row.meter_id,
            "uc_id": row.uc_id,
            "day": row.day,
            "session_id": row.session_id,
            "detail": row.detail,
            "dedup_key": row.key,
        }
        for row in rows
    ]
    conn.execute(
        "INSERT INTO quarantine (at, stage, reason, meter_id, uc_id, day, session_id, detail, dedup_key) "
        "SELECT coalesce(%s, now()), stage, reason, meter_id, uc_id, day, session_id, detail, dedup_key "
        "FROM jsonb_to_recordset(%s) AS r (stage text, reason text, meter_id bigint, uc_id bigint, day date, "
        "session_id bigint, detail jsonb, dedup_key text) ON CONFLICT (dedup_key) DO NOTHING",
        [at, orjson.dumps(records, default=str).decode()],
    )


def of_session(conn: psycopg.Connection[Any], session_id: int) -> list[dict[str, Any]]:
    """What of a session was set aside: stage, day, reason, detail."""
    rows = conn.execute(
        "SELECT stage, day, reason, detail FROM quarantine WHERE session_id = %s ORDER BY id", [session_id]
    )
    return [
        {"stage": stage, "day": day, "reason": reason, "detail": detail}
        for stage, day, reason, detail in rows
    ]
