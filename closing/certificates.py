"""Certificates of closed months: each version as it was made, with the hash of its content.

What belongs here: the SQL of `month_certificate`, and the canonical form of what is kept. What does not: what
a certificate says (`freeze`, `recount`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import orjson
import psycopg

from storage import audit

ACTOR = "closing"


@dataclass(frozen=True)
class Certificate:
    """One version. Version 1 is the month as frozen; a later one lists what has changed since."""

    month: date
    version: int
    content: bytes
    sha256: bytes
    made_at: datetime
    run_id: str

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = orjson.loads(self.content)
        return document

    @property
    def file_name(self) -> str:
        return f"{self.month:%Y-%m}-certificado-v{self.version}.json"


def certificates(conn: psycopg.Connection[Any], month: date) -> list[Certificate]:
    """All versions of a month's certificate, oldest first."""
    rows = conn.execute(
        "SELECT month, version, content, content_sha256, made_at, run_id FROM month_certificate "
        "WHERE month = %s ORDER BY version",
        [month],
    ).fetchall()
    return [
        Certificate(day, version, bytes(content), bytes(digest), made_at, run_id)
        for day, version, content, digest, made_at, run_id in rows
    ]


def keep(
    conn: psycopg.Connection[Any],
    month: date,
    version: int,
    document: Mapping[str, Any],
    *,
    made_at: datetime,
    run_id: str,
) -> Certificate:
    """Store a version, and say so in the audit trail."""
    content = orjson.dumps(document, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)
    made = Certificate(month, version, content, hashlib.sha256(content).digest(), made_at, run_id)
    conn.execute(
        "INSERT INTO month_certificate (month, version, content, content_sha256, made_at, run_id) "
        "VALUES (%s, %s, %s, %s, %s, %s)",
        [made.month, made.version, made.content, made.sha256, made.made_at, made.run_id],
    )
    audit.append(
        conn,
        actor=ACTOR,
        action="closing.certificate",
        object=f"month/{month:%Y-%m}",
        after={"version": version, "sha256": made.sha256.hex(), "run_id": run_id},
    )
    return made
