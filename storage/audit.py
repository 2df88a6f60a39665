"""Who did what to what: rows in a chain of hashes, so that a change or a loss in the middle shows.

A row taken off the end leaves a shorter, valid chain; who wants to exclude that keeps the head (`verify`
returns it) elsewhere and compares.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import Any

import orjson
import psycopg
from psycopg.types.json import Jsonb

from storage.locks import AUDIT_LOCK

_GENESIS = bytes(32)


@dataclass(frozen=True)
class AuditReport:
    """Outcome of `verify`. `broken_id` is the first row that does not follow from the one before."""

    rows: int
    head: bytes
    broken_id: int | None = None

    @property
    def is_whole(self) -> bool:
        return self.broken_id is None


def append(
    conn: psycopg.Connection[Any],
    *,
    actor: str,
    action: str,
    object: str,
    before: Any = None,
    after: Any = None,
) -> int:
    """Add a row in the caller's transaction, which from here on keeps others from appending; returns its id.

    Args:
        actor: login, service or run that acted.
        action: what was done, `room.verb` (registry.import).
        object: what it was done to, `kind/name` (uc/0123456).
        before, after: JSON values; None where there was, or is, nothing.
    """
    conn.execute("SELECT pg_advisory_xact_lock(%s)", [AUDIT_LOCK])
    row = conn.execute(
        "SELECT clock_timestamp(), %s::jsonb::text, %s::jsonb::text, "
        "(SELECT hash FROM audit ORDER BY id DESC LIMIT 1)",
        [_json(before), _json(after)],
    ).fetchone()
    assert row is not None
    at, before_text, after_text, last = row
    previous = _GENESIS if last is None else bytes(last)
    added = conn.execute(
        "INSERT INTO audit (at, actor, action, object, before, after, prev_hash, hash) "
        "VALUES (%s, %s, %s, %s, %s::jsonb, %s::jsonb, %s, %s) RETURNING id",
        [
            at, actor, action, object, before_text, after_text, previous,
            _hash(previous, at, actor, action, object, before_text, after_text),
        ],
    ).fetchone()  # fmt: skip
    assert added is not None
    return int(added[0])


def verify(conn: psycopg.Connection[Any]) -> AuditReport:
    """Recompute the whole chain."""
    previous, rows = _GENESIS, 0
    with conn.transaction(), conn.cursor(name="audit_chain") as cursor:
        cursor.itersize = 10_000
        cursor.execute(
            "SELECT id, prev_hash, hash, at, actor, action, object, before::text, after::text "
            "FROM audit ORDER BY id"
        )
        for number, told_previous, told, *content in cursor:
            if bytes(told_previous) != previous or bytes(told) != _hash(previous, *content):
                return AuditReport(rows=rows, head=previous, broken_id=number)
            previous, rows = bytes(told), rows + 1
    return AuditReport(rows=rows, head=previous)


def _hash(previous: bytes, at: dt.datetime, *texts: str | None) -> bytes:
    content = orjson.dumps([at.astimezone(dt.UTC).isoformat(timespec="microseconds"), *texts])
    return hashlib.sha256(previous + content).digest()


def _json(value: Any) -> Jsonb | None:
    return None if value is None else Jsonb(value, dumps=lambda content: orjson.dumps(content, default=str))
