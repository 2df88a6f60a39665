"""Meter models: a catalogue in TOML, and the profiles that it gives (section 11).

A model is added by data alone: an entry in `models.toml`, or in a file of the utility's own whose entries are
added or laid over those (`add_catalogue`). Reading that file is the caller's part.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any

from faults import OperatorFault
from protocols.nbr14522.commands import parse_command
from protocols.nbr14522.errors import LocalProtocolError
from protocols.nbr14522.frames import Addressing
from protocols.nbr14522.memory import Packing
from protocols.nbr14522.passwords import PASSWORD_TRANSFORMS
from protocols.nbr14522.profile import (
    DEFAULT,
    GENERIC,
    RELAXED,
    STRICT,
    ClockChange,
    EmptyMemory,
    GapRecovery,
    HandShake,
    LimitedCount,
    LinkLimits,
    LinkTiming,
    MeterProfile,
    PasswordAnswer,
    WordsUpTo,
)
from protocols.nbr14522.write_layouts import Coding, LayoutField, WriteLayout

OWN_SOURCE = "models.toml"


@dataclass(frozen=True, slots=True)
class Fact:
    """Something known of a model that no setting expresses."""

    text: str
    confidence: str


@dataclass(frozen=True, slots=True)
class MeterModel:
    """One model.

    Attributes:
        model_codes: o153-154 of its answer to 21.
        confidence: of the entry as a whole.
        facts: its own, without those of the entry that it extends.
    """

    name: str
    maker: str
    description: str
    model_codes: tuple[str, ...]
    confidence: str
    facts: tuple[Fact, ...]
    profile: MeterProfile


class Models(Mapping[str, MeterModel]):
    """The catalogue, by name."""

    def __init__(self, models: Mapping[str, MeterModel]) -> None:
        self._models = dict(models)

    def __getitem__(self, name: str) -> MeterModel:
        return self._models[name]

    def __iter__(self) -> Any:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def with_code(self, model_code: str) -> tuple[MeterModel, ...]:
        """Models whose answer to 21 says so in o153-154."""
        return tuple(model for model in self._models.values() if model_code in model.model_codes)


def load_models(*sources: tuple[str, str]) -> Models:
    """Catalogues laid one over the other: of an entry that both have, the later one's keys count.

    Args:
        sources: (name for messages, TOML text) of each, the product's own first.

    Raises:
        OperatorFault: not TOML, an unknown key, a bad value, or a circle of `extends`; names entry and key.
    """
    entries: dict[str, _Entry] = {}
    for source, text in sources:
        for name, table in _tables(source, text).items():
            known = entries.get(name)
            merged = table if known is None else {**known.table, **table}
            entries[name] = _Entry(f"{source}, model {name}", merged)
    built: dict[str, MeterModel] = {}
    for name in entries:
        _build(name, entries, built, ())
    return Models({name: built[name] for name in entries})


_EXTRA: dict[str, str] = {}


def add_catalogue(source: str, text: str) -> None:
    """Lay a utility's own catalogue over the product's, for this process.

    Args:
        source: its name in messages; adding the same again replaces it.

    Raises:
        OperatorFault: as `load_models`; nothing has then changed.
    """
    extra = {**_EXTRA, source: text}
    load_models((OWN_SOURCE, _own_text()), *extra.items())
    _EXTRA.update(extra)
    models.cache_clear()


def remove_catalogue(source: str) -> None:
    """Take a catalogue out again."""
    _EXTRA.pop(source, None)
    models.cache_clear()


@cache
def models() -> Models:
    """The catalogue in force: the product's own, and what was added."""
    return load_models((OWN_SOURCE, _own_text()), *_EXTRA.items())


def profile_for(model: str) -> MeterProfile:
    """The profile of a model, by its name in the catalogue or the code in its answer to 21.

    Raises:
        OperatorFault: none has that name or code, or several have that code.
    """
    if model in models():
        return models()[model].profile
    found = models().with_code(model)
    if len(found) == 1:
        return found[0].profile
    names = ", ".join(one.name for one in found) or ", ".join(sorted(models()))
    raise OperatorFault(
        f"{len(found)} meter models have the code {model!r}" if found else f"no meter model {model!r}",
        where="meter model",
        remedy=f"use one of: {names}; or add an entry, see docs/modelos_de_medidor.md",
    )


def _own_text() -> str:
    return resources.files("protocols.nbr14522").joinpath(OWN_SOURCE).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class _Entry:
    where: str
    table: Mapping[str, Any]


def _tables(source: str, text: str) -> Mapping[str, Mapping[str, Any]]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OperatorFault(f"not TOML: {error}", where=source, remedy="correct the line named") from error
    tables = document.get("models", {})
    if document.keys() - {"models"} or not isinstance(tables, dict):
        raise _bad(source, "only tables [models.NAME] belong here")
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise _bad(f"{source}, model {name}", "not a table")
        if name in GENERIC:
            raise _bad(f"{source}, model {name}", "the name of a general profile: extend it instead")
    return tables


def _bad(where: str, message: str) -> OperatorFault:
    return OperatorFault(message, where=where, remedy="correct the entry; see docs/modelos_de_medidor.md")


def _build(
    name: str, entries: Mapping[str, _Entry], built: dict[str, MeterModel], path: tuple[str, ...]
) -> MeterModel:
    if name in built:
        return built[name]
    entry = entries[name]
    if name in path:
        raise _bad(entry.where, f"extends itself: {' > '.join((*path, name))}")
    above = _above(entry, entries, built, (*path, name))
    table = entry.table
    unknown = table.keys() - _MODEL_KEYS - _PROFILE_KEYS.keys() - {"add_commands", "remove_commands"}
    if unknown:
        known = ", ".join(sorted(_MODEL_KEYS | _PROFILE_KEYS.keys() | {"add_commands", "remove_commands"}))
        raise _bad(entry.where, f"unknown key {', '.join(sorted(unknown))}; known: {known}")
    built[name] = MeterModel(
        name=name,
        maker=_value(entry, "maker", _text, above.maker),
        description=_value(entry, "description", _text, ""),
        model_codes=_value(entry, "model_codes", _texts, ()),
        confidence=_value(entry, "confidence", _confidence, above.confidence),
        facts=_value(entry, "facts", _facts, ()),
        profile=_profile(name, entry, above.profile),
    )
    return built[name]


def _above(
    entry: _Entry, entries: Mapping[str, _Entry], built: dict[str, MeterModel], path: tuple[str, ...]
) -> MeterModel:
    base = _value(entry, "extends", _text, DEFAULT.name)
    if base in GENERIC:
        return MeterModel(base, "", "", (), "C", (), GENERIC[base])
    if base not in entries:
        raise _bad(entry.where, f"extends {base!r}, which is neither a general profile nor a model")
    return _build(base, entries, built, path)


def _profile(name: str, entry: _Entry, above: MeterProfile) -> MeterProfile:
    changes = {
        key: _value(entry, key, read, None) for key, read in _PROFILE_KEYS.items() if key in entry.table
    }
    if "timing" in changes:
        changes["timing"] = _timing(entry, above.timing)
    commands = changes.get("commands", above.commands)
    commands |= _value(entry, "add_commands", _codes, frozenset())
    commands -= _value(entry, "remove_commands", _codes, frozenset())
    changes |= {"commands": commands, "name": name}
    changes.setdefault("description", "")
    try:
        return replace(above, **changes)
    except ValueError as error:
        raise _bad(entry.where, str(error)) from error


def _value(entry: _Entry, key: str, read: Callable[[Any], Any], default: Any) -> Any:
    if key not in entry.table:
        return default
    value = entry.table[key]
    try:
        return read(value)
    except (ValueError, TypeError, KeyError, AttributeError, LocalProtocolError) as error:
        reason = error.message if isinstance(error, LocalProtocolError) else str(error)
        raise _bad(f"{entry.where}, {key}", f"{value!r}: {reason}") from error


def _typed(kind: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"not {kind.__name__}")
        return value

    return read


_text, _whole, _truth = _typed(str), _typed(int), _typed(bool)


def _choice(kind: type[StrEnum]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if value not in list(kind):
            raise ValueError(f"none of {', '.join(kind)}")
        return kind(value)

    return read


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_text(one) for one in _typed(list)(value))


def _confidence(value: Any) -> str:
    if value not in ("A", "B", "C"):
        raise ValueError("none of A, B, C")
    return str(value)


def _facts(value: Any) -> tuple[Fact, ...]:
    return tuple(Fact(_text(one["text"]), _confidence(one["confidence"])) for one in _typed(list)(value))


def _codes(value: Any) -> frozenset[int]:
    found = [parse_command(_text(one)) for one in _typed(list)(value)]
    if any(sub_code is not None for _, sub_code in found):
        raise ValueError("sub-codes belong in extended_commands")
    return frozenset(code for code, _ in found)


def _sub_codes(value: Any) -> frozenset[int]:
    found = [parse_command(_text(one)) for one in _typed(list)(value)]
    if any(code != 0x98 or sub_code is None for code, sub_code in found):
        raise ValueError("only sub-codes of 98, as 98/30")
    return frozenset(sub_code for _, sub_code in found if sub_code is not None)


def _command_keys(value: Any) -> frozenset[str]:
    keys = frozenset(_texts(value))
    for key in keys:
        parse_command(key)
    return keys


def _transform(value: Any) -> str:
    if value not in PASSWORD_TRANSFORMS:
        raise ValueError(f"none of {', '.join(sorted(PASSWORD_TRANSFORMS))}")
    return str(value)


def _octet(value: Any) -> int:
    if not 0 <= _whole(value) <= 0xFF:
        raise ValueError("no octet")
    return int(value)


def _limits(value: Any) -> LinkLimits:
    return LinkLimits(**{key: _whole(one) for key, one in _typed(dict)(value).items()})


def _timing(entry: _Entry, above: LinkTiming) -> LinkTiming:
    """`"strict"`, `"relaxed"`, or a table of seconds by name that differ from the timing above."""
    given = entry.table["timing"]
    named = {timing.name: timing for timing in (STRICT, RELAXED)}
    if isinstance(given, str) and given in named:
        return named[given]
    seconds = {item.name for item in fields(LinkTiming)} - {"name"}
    if not isinstance(given, dict) or given.keys() - seconds:
        raise _bad(
            f"{entry.where}, timing",
            f"{given!r}: strict, relaxed, or a table of {', '.join(sorted(seconds))}",
        )
    if not all(isinstance(one, int | float) and one >= 0 for one in given.values()):
        raise _bad(f"{entry.where}, timing", f"{given!r}: seconds")
    return replace(above, name="own", **{key: float(one) for key, one in given.items()})


def _layouts(value: Any) -> tuple[WriteLayout, ...]:
    return tuple(_layout(dict(one)) for one in _typed(list)(value))


def _layout(table: dict[str, Any]) -> WriteLayout:
    if table.keys() != {"command", "source", "fields"}:
        raise ValueError("a write layout has command, source and fields")
    parse_command(table["command"])
    return WriteLayout(
        command=_text(table["command"]),
        source=_text(table["source"]),
        fields=tuple(_layout_field(dict(one)) for one in _typed(list)(table["fields"])),
    )


def _layout_field(table: dict[str, Any]) -> LayoutField:
    if "coding" in table:
        table["coding"] = _choice(Coding)(table["coding"])
    if "allowed" in table:
        table["allowed"] = tuple(_typed(list)(table["allowed"]))
    for key in ("octet", "size"):
        if key in table:
            _whole(table[key])
    made = LayoutField(**table)
    if made.fixed is not None:
        made.encode(made.fixed)
    for one in made.allowed:
        made.encode(one)
    return made


_MODEL_KEYS = frozenset({"extends", "maker", "description", "model_codes", "confidence", "facts"})

_PROFILE_KEYS: dict[str, Callable[[Any], Any]] = {
    "description": _text,
    "addressing": _choice(Addressing),
    "address": _whole,
    "timing": lambda value: value,
    "limits": _limits,
    "commands": _codes,
    "extended_commands": _sub_codes,
    "groups": _whole,
    "has_reverse_channels": _truth,
    "write_layouts": _layouts,
    "inferred_writes": _command_keys,
    "password_commands": _command_keys,
    "password_answer": _choice(PasswordAnswer),
    "password_transform": _transform,
    "serial_prefixes": _texts,
    "has_serial_check_digit": _truth,
    "instantaneous_filling": _octet,
    "packing": _choice(Packing),
    "enq_required": _whole,
    "p2_hand_shake": _choice(HandShake),
    "resumes_broken_answer": _truth,
    "tolerates_echo": _truth,
    "gap_recovery": _choice(GapRecovery),
    "empty_memory": _choice(EmptyMemory),
    "filler_word": _whole,
    "block_after_999": _whole,
    "sign_bit": _truth,
    "hours_limit_is_trusted": _truth,
    "limited_count": _choice(LimitedCount),
    "words_up_to": _choice(WordsUpTo),
    "clock_change": _choice(ClockChange),
    "second_set_active_octet": _octet,
    "sunday": _whole,
}
"""How each setting of a profile is read from TOML: all fields of `MeterProfile` but its name."""
