"""Keys and passwords of DLMS meters, from a file of their own: never in the database, a log or a record.

The file is TOML and readable by its owner alone:

    [meters."10000001"]
    password = "12345678"

    [models.dlms-nbr16968-remote]
    encryption_key = "000102030405060708090A0B0C0D0E0F"
    authentication_key = "D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF"

What a meter has of its own counts before what its model has.
"""

from __future__ import annotations

import hashlib
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults import OperatorFault
from protocols.dlms.apdu import Mechanism
from protocols.dlms.models import DlmsModel
from protocols.dlms.security import Keys

_PLACE = re.compile(r"\(at (line \d+|end of document)[^()]*\)$")
_TEXTS = frozenset({"password"})
_OCTETS = frozenset({"password_hex", "encryption_key", "authentication_key"})


@dataclass(frozen=True, slots=True)
class Secrets:
    """What one association needs; never shown."""

    password: bytes = field(default=b"", repr=False)
    keys: Keys | None = field(default=None, repr=False)

    @property
    def key_id(self) -> str:
        """Tells one encryption key from another without telling the key."""
        return "" if self.keys is None else hashlib.sha256(self.keys.encryption).hexdigest()[:16]


def secrets_for(path: Path | None, model: DlmsModel, serial: str) -> Secrets:
    """The secrets of a meter.

    Raises:
        OperatorFault: the model needs some and there is no file, the file may be read by others or cannot be
            read, or it lacks what the model's authentication needs. No message repeats a secret.
    """
    if model.authentication is Mechanism.NONE:
        return Secrets()
    if path is None:
        raise OperatorFault(
            f"{model.name} needs a secret, and there is no file of secrets",
            where=f"meter {serial}" if serial else f"model {model.name}",
            remedy="set collector.dlms_secrets_path",
        )
    document = _read(path)
    known = {**_table(document, "models", model.name, path), **_table(document, "meters", serial, path)}
    where = f"{path}, {f'meter {serial} or ' if serial else ''}model {model.name}"
    try:
        return _secrets(known, model.authentication)
    except KeyError as error:
        raise OperatorFault(f"no {error.args[0]}", where=where, remedy="add it to the file") from None
    except ValueError:
        raise OperatorFault(
            "a key is not 32 hexadecimal digits, or a password is not as it should be",
            where=where,
            remedy="correct the entry",
        ) from None


def _secrets(known: Mapping[str, str], mechanism: Mechanism) -> Secrets:
    if mechanism is Mechanism.GMAC:
        encryption, authentication = (
            bytes.fromhex(known[name]) for name in ("encryption_key", "authentication_key")
        )
        if len(encryption) != 16 or len(authentication) != 16:
            raise ValueError
        return Secrets(keys=Keys(encryption, authentication))
    if "password_hex" in known:
        return Secrets(bytes.fromhex(known["password_hex"]))
    return Secrets(known["password"].encode("ascii"))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise OperatorFault(
                "the file of secrets may be read by others", where=str(path), remedy=f"chmod 600 {path.name}"
            )
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorFault(
            f"cannot read the secrets: {type(error).__name__}",
            where=str(path),
            remedy="correct collector.dlms_secrets_path",
        ) from error
    except tomllib.TOMLDecodeError as error:
        # The rest of its message may quote the line, and with it a secret.
        place = _PLACE.search(str(error))
        where = f"{path}{f', {place[1]}' if place else ''}"
        raise OperatorFault("not TOML", where=where, remedy="correct the file") from None


def _table(document: Mapping[str, Any], kind: str, name: str, path: Path) -> Mapping[str, str]:
    tables = document.get(kind, {})
    found = tables.get(name, {}) if isinstance(tables, dict) else None
    if not isinstance(found, dict):
        raise OperatorFault(
            f"{kind} and what is in it are tables",
            where=str(path),
            remedy=f"write [{kind}.{name}] and its keys below it",
        )
    unknown = found.keys() - _TEXTS - _OCTETS
    if unknown or not all(isinstance(value, str) for value in found.values()):
        raise OperatorFault(
            "an unknown key, or a value that is no text",
            where=f"{path}, [{kind}.{name}]",
            remedy=f"keys are {', '.join(sorted(_TEXTS | _OCTETS))}",
        )
    return found
