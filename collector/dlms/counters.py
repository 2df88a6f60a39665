"""Invocation counters: each value is used once for ever with one key, so it is stored before it is used."""

from __future__ import annotations

from typing import Any

import psycopg

from faults import FieldCrewFault, OperatorFault
from protocols.dlms.security import MOST_COUNTER

# Anybody on the line can say that the meter's counter is so high, and what is used up stays so. No two
# systems that share a key are further apart: it is a quarter of a million sessions.
_MOST_AHEAD = 1 << 24


def reserve(conn: psycopg.Connection[Any], key_id: str, title: str, above: int, count: int) -> int:
    """Take `count` counters that nobody has used, in the caller's transaction; the first of them.

    Args:
        key_id: of the encryption key; title: of our side, hexadecimal. One key may serve many meters, and
            the pair of counter and title must not come twice under it, so meters do not matter here.
        above: the meter's own counter, where it was read: what we use is greater.

    Raises:
        FieldCrewFault: the 32 bits are used up: the key must be changed.
        OperatorFault: the meter's counter is too far above those of a key that was used before.
    """
    row = conn.execute(
        "INSERT INTO dlms_counter (key_id, title, last_used) VALUES (%s, %s, %s) "
        "ON CONFLICT (key_id, title) DO UPDATE "
        "SET last_used = greatest(dlms_counter.last_used, %s) + %s "
        "WHERE dlms_counter.last_used + %s >= %s RETURNING last_used",
        [key_id, title, above + count, above, count, _MOST_AHEAD, above],
    ).fetchone()
    if row is None:
        raise OperatorFault(
            f"the meter's counter is {above}, more than {_MOST_AHEAD} above ours: none is used",
            where=f"key {key_id}",
            remedy="find out who else uses this key, or answers in the meter's place; then change the key",
        )
    last = int(row[0])
    if last > MOST_COUNTER:
        raise FieldCrewFault(
            "the invocation counters of a key are used up", where=f"key {key_id}", remedy="change the key"
        )
    return last - count + 1
