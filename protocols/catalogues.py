"""Catalogues of meter models: TOML files laid one over the other, and entries that extend others. Pure.

What the keys of an entry mean is the protocol's part.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from faults import OperatorFault


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry with all that it inherits; `where` names its source, for messages."""

    where: str
    table: Mapping[str, Any]


def layered(kind: str, sources: tuple[tuple[str, str], ...], manual: str) -> Mapping[str, Entry]:
    """The entries of catalogues, each with the keys of what it extends below its own.

    Args:
        kind: name of the table that holds them, as in [meters.NAME].
        sources: (name for messages, TOML text) of each; of an entry in several the later one's keys count.
        manual: where a person reads how an entry is written.

    Raises:
        OperatorFault: not TOML, something else than entries, or an `extends` of nothing or in a circle.
    """
    found: dict[str, Entry] = {}
    for source, text in sources:
        for name, table in _tables(kind, source, text, manual).items():
            below = found[name].table if name in found else {}
            found[name] = Entry(f"{source}, {kind} {name}", {**below, **table})
    return {name: _whole(name, found, manual) for name in found}


def wrong(where: str, message: str, manual: str) -> OperatorFault:
    """What to raise for a bad entry."""
    return OperatorFault(message, where=where, remedy=f"correct the entry; see {manual}")


def _tables(kind: str, source: str, text: str, manual: str) -> Mapping[str, Mapping[str, Any]]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OperatorFault(f"not TOML: {error}", where=source, remedy="correct the line named") from error
    tables = document.pop(kind, {})
    if document or not isinstance(tables, dict):
        raise wrong(source, f"only tables [{kind}.NAME] belong here", manual)
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise wrong(f"{source}, {kind} {name}", "not a table", manual)
    return tables


def _whole(name: str, found: Mapping[str, Entry], manual: str) -> Entry:
    path, table = [name], dict(found[name].table)
    while (base := table.pop("extends", None)) is not None:
        if not isinstance(base, str) or base not in found:
            raise wrong(found[name].where, f"extends {base!r}, which is no entry", manual)
        if base in path:
            raise wrong(found[name].where, f"extends itself: {' > '.join((*path, base))}", manual)
        path.append(base)
        table = {**found[base].table, **table}
    return Entry(found[name].where, table)
