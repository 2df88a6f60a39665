"""Meters' passwords: where they are kept, and whether one may be tried.

They stand in a file of their own (`collector.meter_passwords_path`), read when a session needs one, and
nowhere else: not in the database, evidence, logs or messages. A password that a meter refused is not tried
again until the file says that another has been entered since, because meters lock after a few wrong ones.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from collector.batching import Connection
from faults import OperatorFault
from protocols.nbr14522.passwords import PASSWORD_SIZE

OPENING = "command 11"
"""Where a refused password fails: the stage of its session, by which it is found again."""
# Unanswered attempts in a day after which a person must look: the meter may count them as wrong.
_UNANSWERED = 2
_DAY = timedelta(days=1)
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class MeterPasswords:
    """What the file has for a meter. `since`: when these were entered; refusals before it do not count."""

    write: bytes | None = field(default=None, repr=False)
    read: bytes | None = field(default=None, repr=False)
    user: int = 0
    since: datetime = _BEGINNING


def find_passwords(path: Path | None, serial: str, profile: str) -> MeterPasswords:
    """The entry of a meter, else that of its profile.

    Raises:
        OperatorFault: no file, it cannot be read, an entry is wrong, or there is none. No message quotes it.
    """
    if path is None:
        raise OperatorFault(
            f"meter {serial} needs its password, and no file of passwords is named",
            where="password",
            remedy="name it with collector.meter_passwords_path",
        )
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        # The cause is left out: a message of the parser may quote the line.
        raise OperatorFault(
            f"the meter passwords cannot be read: {type(error).__name__}",
            where=str(path),
            remedy="correct the file, or collector.meter_passwords_path",
        ) from None
    tables = [content.get(name, {}) for name in ("meters", "profiles")]
    if content.keys() - {"meters", "profiles"} or not all(isinstance(one, dict) for one in tables):
        raise _wrong(str(path), "only tables [meters.SERIAL] and [profiles.NAME] belong here")
    for (kind, key), table in zip((("meters", serial), ("profiles", profile)), tables, strict=True):
        if key in table:
            return _entry(table[key], f"{path} [{kind}.{key!r}]")
    raise OperatorFault(
        f"no password for meter {serial}",
        where="password",
        remedy=f"add [meters.{serial!r}] or [profiles.{profile!r}] to {path}",
    )


def _wrong(where: str, message: str) -> OperatorFault:
    return OperatorFault(message, where=where, remedy="see docs/comandos_e_relogios.md, Senhas")


def _entry(table: Any, where: str) -> MeterPasswords:
    known = {"write", "read", "write_hex", "read_hex", "user", "since"}
    if not isinstance(table, dict) or table.keys() - known:
        raise _wrong(where, f"an entry has {', '.join(sorted(known))}")
    user, since = table.get("user", 0), table.get("since", _BEGINNING)
    if type(user) is not int or not 0 <= user <= 99:
        raise _wrong(where, "user is a number of two digits")
    if not isinstance(since, datetime) or since.tzinfo is None:
        raise _wrong(where, "since is an instant with its offset: 2026-11-20T10:00:00-03:00")
    return MeterPasswords(_octets(table, "write", where), _octets(table, "read", where), user, since)


def _octets(table: Mapping[str, Any], name: str, where: str) -> bytes | None:
    text, hexadecimal = table.get(name), table.get(f"{name}_hex")
    if text is None and hexadecimal is None:
        return None
    try:
        octets = str(text).encode("ascii") if hexadecimal is None else bytes.fromhex(str(hexadecimal))
    except ValueError:
        octets = b""
    if len(octets) != PASSWORD_SIZE or (text is not None and hexadecimal is not None):
        raise _wrong(
            where,
            f"{name} is {PASSWORD_SIZE} ASCII characters, or {name}_hex {2 * PASSWORD_SIZE} hex digits",
        )
    return octets


def permit_attempt(conn: Connection, meter_id: int, since: datetime, at: datetime) -> None:
    """Refuse an attempt that would repeat a password the meter refused, or did not answer to.

    Raises:
        OperatorFault: it was refused since it was entered, or twice in a day nothing was answered.
    """
    row = conn.execute(
        "SELECT count(*) FILTER (WHERE failed_stage = %(stage)s AND error ->> 'actor' = 'operator'), "
        "count(*) FILTER (WHERE starts_with(failed_stage, %(stage)s) AND error ->> 'actor' = 'retry' "
        "AND started_at > %(day)s) FROM session WHERE meter_id = %(meter)s AND started_at >= %(since)s "
        "AND starts_with(failed_stage, %(stage)s)",
        {"stage": OPENING, "day": at - _DAY, "meter": meter_id, "since": since},
    ).fetchone()
    refused, unanswered = row or (0, 0)
    if refused or unanswered >= _UNANSWERED:
        raise OperatorFault(
            "the meter refused this password: it is not tried again"
            if refused
            else f"the meter left its password unanswered {unanswered} times in a day: it is not tried again",
            where="password",
            remedy="correct it in collector.meter_passwords_path and set its since to now: a meter may lock "
            "after a few wrong ones",
        )
