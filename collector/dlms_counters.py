"""Invocation counters: each value is used once for ever with one key, so it is stored before it is used."""

from __future__ import annotations

from typing import Any

import psycopg

from faults import FieldCrewFault

_MOST = (1 << 32) - 1


def reserve(conn: psycopg.Connection[Any], key_id: str, title: str, above: int, count: int) -> int:
    """Take `count` counters that nobody has used, in the caller's transaction; the first of them.

    Args:
        key_id: of the encryption key; title: of our side, hexadecimal. One key may serve many meters, and
            the pair of counter and title must not come twice under it, so meters do not matter here.
        above: the meter's own counter, where it was read: what we use is greater.

    Raises:
        FieldCrewFault: the 32 bits are used up: the key must be changed.
    """
    row = conn.execute(
        "INSERT INTO dlms_counter (key_id, title, last_used) VALUES (%s, %s, %s) "
        "ON CONFLICT (key_id, title) DO UPDATE "
        "SET last_used = greatest(dlms_counter.last_used, %s) + %s RETURNING last_used",
        [key_id, title, above + count, above, count],
    ).fetchone()
    last = int(row[0]) if row else _MOST + 1
    if last > _MOST:
        raise FieldCrewFault(
            "the invocation counters of a key are used up", where=f"key {key_id}", remedy="change the key"
        )
    return last - count + 1


def is_known(conn: psycopg.Connection[Any], key_id: str, title: str) -> bool:
    """Whether a counter of this key was ever used."""
    query = "SELECT 1 FROM dlms_counter WHERE key_id = %s AND title = %s"
    return conn.execute(query, [key_id, title]).fetchone() is not None
