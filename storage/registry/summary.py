"""The registry in a few numbers: rows by table, and its last change.

What belongs here: counts for those who watch the registry from outside. What does not: what is wrong in it
(`closing.preflight`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

# In the order in which a person thinks of them.
_TABLES = (
    "agent", "uc", "uc_agent", "uc_status", "uc_musd", "uc_contract", "uc_estimation", "point", "point_loss",
    "point_schedule", "installation", "meter", "meter_model", "unit",
)  # fmt: skip


@dataclass(frozen=True)
class RegistrySummary:
    """Rows by table; the last audited change: number, when (None: never) and by whom."""

    rows: Mapping[str, int]
    change: int
    changed_at: datetime | None
    changed_by: str


def registry_summary(conn: psycopg.Connection[Any]) -> RegistrySummary:
    """Count what is there; a few milliseconds for a large fleet's tables."""
    query = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {}, count(*) FROM {}").format(sql.Literal(name), sql.Identifier(name))
        for name in _TABLES
    )
    rows = {str(name): int(count) for name, count in conn.execute(query).fetchall()}
    last = conn.execute(
        "SELECT id, at, actor FROM audit WHERE action LIKE 'registry.%' ORDER BY id DESC LIMIT 1"
    ).fetchone()
    change, changed_at, changed_by = last or (0, None, "")
    return RegistrySummary({name: rows[name] for name in _TABLES}, change, changed_at, changed_by)
