"""Who changed the registry rows of a UC, from the audit trail.

What belongs here: which entries of the trail are about one UC, its points and its meters. What does not: the
registry's rows themselves (`storage.registry`), checking the trail's chain (`storage.audit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

_CHANGES = """
    SELECT a.id, a.at, a.actor, split_part(a.object, '/', 2) AS sheet, a.before, a.after
    FROM audit a
    WHERE a.action LIKE 'registry.%%'
      AND EXISTS (SELECT FROM unnest(%(wanted)s::jsonb[]) AS w (row)
                  WHERE a.after @> w.row OR a.before @> w.row)
    ORDER BY a.id
"""


@dataclass(frozen=True)
class RegistryChange:
    """One entry of the trail: rows of one sheet that were replaced (`before`) and written (`after`)."""

    id: int
    at: datetime
    actor: str
    sheet: str
    before: list[dict[str, Any]]
    after: list[dict[str, Any]]


def registry_changes(
    conn: psycopg.Connection[Any], uc_code: str, points: Sequence[str], serials: Sequence[str]
) -> list[RegistryChange]:
    """Entries about a UC, its points and its meters, oldest first; of each only the rows about them."""
    keys = [
        {"uc_code": uc_code},
        *({"point_code": code} for code in points),
        *({"meter_serial": serial} for serial in serials),
    ]
    with conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        rows = cursor.execute(
            _CHANGES, {"wanted": [Jsonb([key]) for key in (*keys, {"code": uc_code})]}
        ).fetchall()

    def about(side: Any, sheet: str) -> list[dict[str, Any]]:
        wanted = [*keys, {"code": uc_code}] if sheet == "ucs" else keys
        return [row for row in side or [] if any(key.items() <= row.items() for key in wanted)]

    made = [
        RegistryChange(number, at, actor, sheet, about(before, sheet), about(after, sheet))
        for number, at, actor, sheet, before, after in rows
    ]
    return [change for change in made if change.before or change.after]
