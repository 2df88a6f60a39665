"""Units that dial in, by the registry; and those it does not know, into quarantine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from collector.lines.transports import parse_url
from faults import OperatorFault
from protocols.nbr14522.profiles import DEFAULT, PROFILES
from storage.review import quarantine

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Directory:
    """Codes of `dialin://CODE` in the registry, and the code by which each meter behind one is reached."""

    codes: frozenset[str] = frozenset()
    by_serial: dict[str, str] | None = None

    def find(self, *, unit: str | None = None, serial: str | None = None) -> str | None:
        """The code of a unit by what it says, or by what its meter says."""
        if unit is not None:
            return unit if unit in self.codes else None
        return (self.by_serial or {}).get((serial or "").upper().lstrip("0"))


@dataclass(frozen=True, slots=True)
class Stranger:
    """A connection that was refused: why, from where, and its first octets."""

    reason: str
    host: str
    heard: bytes = b""
    named: str = ""


def load_directory(conn: Connection, at: datetime) -> Directory:
    """All units that dial in, with the meters installed behind them at an instant."""
    rows = conn.execute(
        "SELECT u.url, m.serial, k.profile FROM unit u "
        "LEFT JOIN installation i ON i.unit_id = u.id AND i.valid @> %s "
        "LEFT JOIN meter m ON m.id = i.meter_id LEFT JOIN meter_model k ON k.id = m.model_id "
        "WHERE u.url LIKE 'dialin://%%'",
        [at],
    ).fetchall()
    by_serial: dict[str, str] = {}
    codes = set()
    for url, serial, profile in rows:
        try:
            code = parse_url(url).unit
        except OperatorFault:
            continue  # told at each request for its meters
        codes.add(code)
        if serial is not None:
            # Only meters of NBR 14522 are asked who they are; others may be told by a hello.
            known = PROFILES.get(profile, DEFAULT)
            by_serial |= dict.fromkeys(known.wire_serials(serial), code)
    return Directory(frozenset(codes), by_serial)


def record_stranger(conn: Connection, stranger: Stranger, at: datetime) -> None:
    """Keep who called in vain; the same again is one row."""
    detail = {"host": stranger.host, "heard_hex": stranger.heard.hex(), "named": stranger.named}
    row = quarantine.Quarantined(
        stage="dial-in",
        reason=stranger.reason,
        detail=detail,
        dedup_key=f"dial-in:{stranger.reason}:{stranger.named or stranger.host}",
    )
    quarantine.put(conn, [row], at)
