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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from faults.toml_tables import Key, build, load_toml

MAX_HELLO_OCTETS = 256
# A shorter keep-alive cannot be told from a signal of the link (nbr14522.md 1.2).
_MIN_KEEP_ALIVE_OCTETS = 2


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


def _hello(text: str) -> re.Pattern[bytes]:
    hello = re.compile(text.encode("latin-1"), re.DOTALL)
    if not hello.groupindex.keys() & {"unit", "serial"}:
        raise ValueError("hello needs a group (?P<unit>...) or (?P<serial>...)")
    return hello


def _keep_alive(text: str) -> bytes:
    octets = bytes.fromhex(text)
    if 0 < len(octets) < _MIN_KEEP_ALIVE_OCTETS:
        raise ValueError("keep_alive_hex of one octet cannot be told from a signal")
    return octets


@dataclass(frozen=True, slots=True)
class _Entry:
    hello: Annotated[
        re.Pattern[bytes], Key("give a regular expression with a group unit or serial", convert=_hello)
    ]
    reply_hex: Annotated[bytes, Key("give hexadecimal octets", convert=bytes.fromhex)] = b""
    keep_alive_hex: Annotated[bytes, Key("give hexadecimal octets, two at least", convert=_keep_alive)] = b""
    source: str = ""


@dataclass(frozen=True, slots=True)
class _Document:
    kinds: Mapping[str, _Entry] = field(default_factory=dict)


def load_kinds(path: Path | None) -> tuple[DialInKind, ...]:
    """The kinds of a file, in its order; none without a file.

    Raises:
        OperatorFault: the file cannot be read, or an entry is wrong; names the entry.
    """
    if path is None:
        return ()
    document = load_toml(
        path, what="the kinds of units", remedy="correct collector.dial_in_kinds_path, or the file"
    )
    return tuple(
        DialInKind(name, entry.hello, entry.reply_hex, entry.keep_alive_hex)
        for name, entry in build(_Document, document, str(path)).kinds.items()
    )
