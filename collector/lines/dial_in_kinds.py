"""Kinds of units that dial in, as data: no maker's hello is public, so none is in the code.

Reference: nbr14522_gaps.md 6.2.

The file is TOML, one table for each kind::

    [kinds.discam]
    hello = 'UNIDADE (?P<unit>[^;]{1,32});'   # regular expression over the octets as Latin-1, from the first
    reply_hex = "06"                           # what the unit wants to hear back; nothing by default
    keep_alive_hex = "00FF00"                  # presence octets, dropped wherever they come alone
    source = "manual of the maker, page 12"

The group named `unit` is the code of `dialin://CODE`; a group named `serial` is the serial of its meter.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults import OperatorFault

MAX_HELLO_OCTETS = 256
# A shorter keep-alive cannot be told from a signal of the link (nbr14522.md 1.2).
_MIN_KEEP_ALIVE_OCTETS = 2
_KEYS = {"hello", "reply_hex", "keep_alive_hex", "source"}


@dataclass(frozen=True, slots=True)
class DialInKind:
    """One kind of unit: how it says who it is."""

    name: str
    hello: re.Pattern[bytes]
    reply: bytes = b""
    keep_alive: bytes = b""


@dataclass(frozen=True, slots=True)
class Hello:
    """What a hello said: the unit's code, or the serial of its meter."""

    kind: DialInKind
    unit: str | None
    serial: str | None


def recognise(heard: bytes, kinds: Sequence[DialInKind]) -> Hello | None:
    """The first kind whose hello these octets begin with."""
    for kind in kinds:
        if found := kind.hello.match(heard):
            groups = {name: text.decode("latin-1") for name, text in found.groupdict().items() if text}
            if groups:
                return Hello(kind, groups.get("unit"), groups.get("serial"))
    return None


def load_kinds(path: Path | None) -> tuple[DialInKind, ...]:
    """The kinds of a file, in its order; none without a file.

    Raises:
        OperatorFault: the file cannot be read, or an entry is wrong; names the entry.
    """
    if path is None:
        return ()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OperatorFault(
            f"cannot read the kinds of units: {error}",
            where=str(path),
            remedy="correct collector.dial_in_kinds_path, or the file",
        ) from error
    tables = document.get("kinds", {})
    if document.keys() - {"kinds"} or not isinstance(tables, dict):
        raise OperatorFault(
            "only tables [kinds.NAME] belong here", where=str(path), remedy="correct the file"
        )
    return tuple(_kind(str(path), name, table) for name, table in tables.items())


def _kind(source: str, name: str, table: Any) -> DialInKind:
    where = f"{source}, kind {name}"
    try:
        if not isinstance(table, dict) or table.keys() - _KEYS:
            raise ValueError(f"a kind has {', '.join(sorted(_KEYS))} and nothing else")
        hello = re.compile(table["hello"].encode("latin-1"), re.DOTALL)
        keep_alive = bytes.fromhex(table.get("keep_alive_hex", ""))
        if not hello.groupindex.keys() & {"unit", "serial"}:
            raise ValueError("hello needs a group (?P<unit>...) or (?P<serial>...)")
        if 0 < len(keep_alive) < _MIN_KEEP_ALIVE_OCTETS:
            raise ValueError("keep_alive_hex of one octet cannot be told from a signal")
        return DialInKind(name, hello, bytes.fromhex(table.get("reply_hex", "")), keep_alive)
    except (ValueError, KeyError, AttributeError, TypeError, re.error) as error:
        raise OperatorFault(
            f"not a kind of unit: {error}", where=where, remedy="correct the entry"
        ) from error
