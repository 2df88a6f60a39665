"""Catalogues of meter models: TOML files laid one over the other, and entries that extend others.

What the keys of an entry mean, and what an entry takes of the one that it extends, is the protocol's part.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Generic, Protocol, TypeVar

from faults import OperatorFault
from faults.toml_tables import parse_toml, read_keys

_C = TypeVar("_C", covariant=True)


class Load(Protocol[_C]):
    """Makes a catalogue of its sources: (name for messages, TOML text) of each, the product's own first.

    Raises:
        OperatorFault: an entry is wrong.
    """

    def __call__(self, *sources: tuple[str, str]) -> _C: ...


class Catalogue(Generic[_C]):
    """The catalogue in force in this process: the product's own, and what a utility lays over it.

    Args:
        package, own_source: where the product's own file is.
        load: makes it of the files; called once until something is added or taken out.
    """

    def __init__(self, package: str, own_source: str, load: Load[_C]) -> None:
        self._package = package
        self._own_source = own_source
        self._load = load
        self._extra: dict[str, str] = {}
        self._found: _C | None = None

    def in_force(self) -> _C:
        """The product's own entries, and what was added."""
        if self._found is None:
            self._found = self._loaded(self._extra)
        return self._found

    def add(self, source: str, text: str) -> None:
        """Lay a utility's own catalogue over the product's.

        Args:
            source: its name in messages; adding the same again replaces it.

        Raises:
            OperatorFault: as of `load`; nothing has then changed.
        """
        extra = {**self._extra, source: text}
        self._found = self._loaded(extra)
        self._extra = extra

    def remove(self, source: str) -> None:
        """Take a catalogue out again."""
        self._extra.pop(source, None)
        self._found = None

    def _loaded(self, extra: Mapping[str, str]) -> _C:
        own = resources.files(self._package).joinpath(self._own_source).read_text(encoding="utf-8")
        return self._load((self._own_source, own), *extra.items())


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A meter model, for a person: the name that the registry writes as the model's profile."""

    profile: str
    maker: str
    description: str
    confidence: str


class Models(Protocol):
    """The catalogue of a protocol's meter models: the product's own, and what a utility lays over it."""

    def names(self) -> Collection[str]:
        """Profiles that a meter model of the registry may name; looked into for every session."""

    def rows(self) -> Iterable[ModelRow]:
        """All of them for a person."""

    def add(self, source: str, text: str) -> None:
        """Lay a utility's own catalogue (TOML) over the product's.

        Raises:
            OperatorFault: an entry is wrong.
        """


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry; `where` names its source, for messages."""

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
    entries = laid_over(kind, sources, manual)
    found = {}
    for name, entry in entries.items():
        table = {key: value for one in lineage(name, entries, manual) for key, value in one.table.items()}
        table.pop("extends", None)
        found[name] = Entry(entry.where, table)
    return found


def laid_over(kind: str, sources: tuple[tuple[str, str], ...], manual: str) -> Mapping[str, Entry]:
    """The entries of catalogues with their own keys alone; else as `layered`."""
    found: dict[str, Entry] = {}
    for source, text in sources:
        for name, table in _tables(kind, source, text, manual).items():
            below = found[name].table if name in found else {}
            found[name] = Entry(f"{source}, {kind.removesuffix('s')} {name}", {**below, **table})
    return found


def lineage(
    name: str, entries: Mapping[str, Entry], manual: str, roots: Collection[str] = ()
) -> tuple[Entry, ...]:
    """The entry and all that it extends, the first of them first.

    Args:
        roots: what an entry may extend besides others.

    Raises:
        OperatorFault: an `extends` of nothing, or in a circle.
    """
    path, base = [name], entries[name].table.get("extends")
    while base is not None and base not in roots:
        where = entries[path[-1]].where
        if not isinstance(base, str) or base not in entries:
            raise wrong(where, f"extends {base!r}, which is not an entry", manual)
        if base in path:
            raise wrong(where, f"extends itself: {' > '.join((*path, base))}", manual)
        path.append(base)
        base = entries[base].table.get("extends")
    return tuple(entries[one] for one in reversed(path))


def values_of(
    entry: Entry,
    readers: Mapping[str, Callable[[Any], Any]],
    manual: str,
    refused: tuple[type[Exception], ...] = (),
) -> dict[str, Any]:
    """The values of an entry, `extends` left out: each key by its reader; else as `faults.toml_tables`.

    Raises:
        OperatorFault: keys that mean nothing, or values that do not fit; names them.
    """
    table = {key: value for key, value in entry.table.items() if key != "extends"}
    return read_keys(table, readers, entry.where, _remedy(manual), refused)


def whole(least: int, most: int) -> Callable[[Any], int]:
    """A reader of whole numbers between two, both included; raises ValueError for others."""

    def read(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"not a whole number of {least} to {most}")
        return value

    return read


def typed(kind: type) -> Callable[[Any], Any]:
    """A reader of values of exactly that type; raises ValueError for others."""

    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"not {kind.__name__}")
        return value

    return read


def wrong(where: str, message: str, manual: str) -> OperatorFault:
    """What to raise for a bad entry."""
    return OperatorFault(message, where=where, remedy=_remedy(manual))


def _remedy(manual: str) -> str:
    return f"correct the entry; see {manual}"


def _tables(kind: str, source: str, text: str, manual: str) -> Mapping[str, Mapping[str, Any]]:
    document = parse_toml(text, source)
    tables = document.pop(kind, {})
    if document or not isinstance(tables, dict):
        raise wrong(source, f"only tables [{kind}.NAME] belong here", manual)
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise wrong(f"{source}, {kind.removesuffix('s')} {name}", "not a table", manual)
    return tables
