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
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from faults import OperatorFault
from faults.toml_tables import Key, Tables, build, load_toml
from protocols.dlms.apdu import Mechanism
from protocols.dlms.models import DlmsModel
from protocols.dlms.security import Keys

_KEY_SIZE = 16


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
    if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise OperatorFault(
            "the file of secrets may be read by others", where=str(path), remedy=f"chmod 600 {path.name}"
        )
    document = build(
        _Document,
        load_toml(path, what="the secrets", remedy="correct collector.dlms_secrets_path", is_secret=True),
        str(path),
        is_secret=True,
    )
    # What the meter has of its own counts before what its model has.
    entries = [
        build(_Entry, tables.get(name, {}), f"{path} [{kind}.{name!r}]", is_secret=True)
        for kind, tables, name in (
            ("meters", document.meters, serial),
            ("models", document.models, model.name),
        )
    ]
    where = f"{path}, {f'meter {serial} or ' if serial else ''}model {model.name}"
    wanted = _OF_KEYS if model.authentication is Mechanism.GMAC else ("password",)
    values = {name: next((own for e in entries if (own := e.octets(name))), None) for name in wanted}
    for name, value in values.items():
        if value is None:
            raise OperatorFault(f"no {name}", where=where, remedy="add it to the file")
    octets = [value for value in values.values() if value is not None]
    return Secrets(keys=Keys(*octets)) if wanted is _OF_KEYS else Secrets(octets[0])


_OF_KEYS = ("encryption_key", "authentication_key")


def _ascii(text: str) -> bytes:
    if not text.isascii():
        raise ValueError("not ASCII")
    return text.encode("ascii")


def _hexadecimal(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ValueError("not hexadecimal digits") from None


def _key(text: str) -> bytes:
    octets = _hexadecimal(text)
    if len(octets) != _KEY_SIZE:
        raise ValueError(f"a key is {2 * _KEY_SIZE} hexadecimal digits")
    return octets


_Key = Annotated[bytes, Key(f"give {2 * _KEY_SIZE} hexadecimal digits", convert=_key)]


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the file has for a meter or a model."""

    password: Annotated[bytes, Key("give an ASCII text", convert=_ascii)] = field(default=b"", repr=False)
    password_hex: Annotated[bytes, Key("give hexadecimal digits", convert=_hexadecimal)] = field(
        default=b"", repr=False
    )
    encryption_key: _Key = field(default=b"", repr=False)
    authentication_key: _Key = field(default=b"", repr=False)

    def octets(self, name: str) -> bytes:
        own: bytes = getattr(self, name)
        return self.password_hex or own if name == "password" else own


@dataclass(frozen=True, slots=True)
class _Document:
    meters: Tables = field(default_factory=dict)
    models: Tables = field(default_factory=dict)
