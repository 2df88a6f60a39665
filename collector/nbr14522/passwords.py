"""Meters' passwords: where they are kept, and whether one may be tried.

They stand in a file of their own (`collector.meter_passwords_path`), read when a session needs one, and
nowhere else: not in the database, evidence, logs or messages. A password that a meter refused is not tried
again until the file says that another has been entered since, because meters lock after a few wrong ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from collector.batching import Connection
from faults import OperatorFault
from faults.toml_tables import Key, Tables, build, load_toml
from protocols.nbr14522.sending.passwords import PASSWORD_SIZE
from storage import sessions

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
    document = build(
        _Document,
        load_toml(
            path,
            what="the meter passwords",
            remedy="correct the file, or collector.meter_passwords_path",
            is_secret=True,
        ),
        str(path),
        remedy=_REMEDY,
        is_secret=True,
    )
    for kind, tables, name in (
        ("meters", document.meters, serial),
        ("profiles", document.profiles, profile),
    ):
        if name in tables:
            where = f"{path} [{kind}.{name!r}]"
            entry = build(_Entry, tables[name], where, remedy=_REMEDY, is_secret=True)
            break
    else:
        raise OperatorFault(
            f"no password for meter {serial}",
            where="password",
            remedy=f"add [meters.{serial!r}] or [profiles.{profile!r}] to {path}",
        )
    write, read = entry.write or entry.write_hex, entry.read or entry.read_hex
    return MeterPasswords(write, read, entry.user, entry.since)


_REMEDY = "see docs/comandos_e_relogios.md, Senhas"


def _text(text: str) -> bytes:
    octets = text.encode("ascii") if text.isascii() else b""
    if len(octets) != PASSWORD_SIZE:
        raise ValueError(f"not {PASSWORD_SIZE} ASCII characters")
    return octets


def _digits(text: str) -> bytes:
    try:
        octets = bytes.fromhex(text)
    except ValueError:
        octets = b""
    if len(octets) != PASSWORD_SIZE:
        raise ValueError(f"not {2 * PASSWORD_SIZE} hexadecimal digits")
    return octets


def _instant(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("without its offset")
    return value


_Text = Annotated[bytes | None, Key(f"give {PASSWORD_SIZE} ASCII characters", convert=_text)]
_Digits = Annotated[bytes | None, Key(f"give {2 * PASSWORD_SIZE} hexadecimal digits", convert=_digits)]


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the file says of a meter or of a profile."""

    write: _Text = field(default=None, repr=False)
    read: _Text = field(default=None, repr=False)
    write_hex: _Digits = field(default=None, repr=False)
    read_hex: _Digits = field(default=None, repr=False)
    user: Annotated[int, Key("user is a number of two digits", least=0, most=99)] = 0
    since: Annotated[
        datetime, Key("give an instant with its offset: 2026-11-20T10:00:00-03:00", convert=_instant)
    ] = _BEGINNING

    def __post_init__(self) -> None:
        if (self.write and self.write_hex) or (self.read and self.read_hex):
            raise ValueError(
                f"a password is {PASSWORD_SIZE} ASCII characters or hexadecimal digits, not both"
            )


@dataclass(frozen=True, slots=True)
class _Document:
    meters: Tables = field(default_factory=dict)
    profiles: Tables = field(default_factory=dict)


def permit_attempt(conn: Connection, meter_id: int, since: datetime, at: datetime) -> None:
    """Refuse an attempt that would repeat a password the meter refused, or did not answer to.

    Raises:
        OperatorFault: it was refused since it was entered, or twice in a day nothing was answered.
    """
    refused, unanswered = sessions.failures_at(conn, meter_id, OPENING, since, at - _DAY)
    if refused or unanswered >= _UNANSWERED:
        raise OperatorFault(
            "the meter refused this password: it is not tried again"
            if refused
            else f"the meter left its password unanswered {unanswered} times in a day: it is not tried again",
            where="password",
            remedy="correct it in collector.meter_passwords_path and set its since to now: a meter may lock "
            "after a few wrong ones",
        )
