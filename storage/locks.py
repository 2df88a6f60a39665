"""Who may write what at the same time: locks of a transaction, by meter and by UC.

An advisory lock for each meter of a large batch would overflow the server's lock table, so meters and UCs
share a fixed number of locks by their id; two that share one wait for each other, which costs time and
nothing else. Locks are taken in one order by everybody, so nobody waits in a circle; they end with the
transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg

_BUCKETS = 256
# Numbers of this product's advisory locks, all of them; "SM" in front keeps them apart from others'.
_METERS = 0x534D01
_UCS = 0x534D02
AUDIT_LOCK = 0x534D03
REGISTRY_LOCK = 0x534D04
CLOSING_LOCK = 0x534D05
"""Of one month that is being frozen; the second number is made of its first day."""
SENDER_LOCK = 0x534D10
"""Of one agent's sender to CCEE; the second number is the agent."""
ALIVE_LOCK = 0x534D11
"""Says that a collector lives; the second number is made of its name."""
MIGRATION_LOCK = 0x534D46


def lock_meters(conn: psycopg.Connection[Any], meter_ids: Iterable[int]) -> None:
    """Be the only one who merges readings of these meters, until the transaction ends."""
    _lock(conn, _METERS, meter_ids, "pg_advisory_xact_lock")


def lock_ucs(conn: psycopg.Connection[Any], uc_ids: Iterable[int], *, shared: bool = False) -> None:
    """Be the only one who writes these UCs' series, until the transaction ends.

    With `shared`, only keep writers away: whoever records a submission reads the series and seals it under
    one such lock, so that what was sealed is what was read.
    """
    _lock(conn, _UCS, uc_ids, "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock")


def _lock(conn: psycopg.Connection[Any], space: int, ids: Iterable[int], function: str) -> None:
    buckets = sorted({number % _BUCKETS for number in ids})
    conn.execute(
        f"SELECT count({function}(%s, bucket)) FROM (SELECT unnest(%s::int[]) AS bucket) ordered",
        [space, buckets],
    )
