"""Meter models: a catalogue in TOML, and the profiles that it gives (section 11).

A model is added by data alone: an entry in `models.toml`, or in a file of the utility's own whose entries are
added or laid over those (`add_catalogue`). Reading that file is the caller's part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

from faults import OperatorFault
from protocols.catalogues import Catalogue, Entry, laid_over, lineage, typed, values_of, wrong
from protocols.nbr14522.commands import parse_command
from protocols.nbr14522.errors import LocalProtocolError
from protocols.nbr14522.frames import Addressing
from protocols.nbr14522.memory import Packing
from protocols.nbr14522.profile import (
    DEFAULT,
    GENERIC,
    RELAXED,
    STRICT,
    ClockChange,
    EmptyMemory,
    FileGroups,
    GapRecovery,
    HandShake,
    LimitedCount,
    LinkLimits,
    LinkTiming,
    MeterProfile,
    PasswordAnswer,
    WordsUpTo,
)
from protocols.nbr14522.sending.layouts import Coding, LayoutField, WriteLayout
from protocols.nbr14522.sending.passwords import PASSWORD_TRANSFORMS

OWN_SOURCE = "models.toml"
_MANUAL = "docs/modelos_de_medidor.md"


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
    entries = laid_over("models", sources, _MANUAL)
    for name, entry in entries.items():
        if name in GENERIC:
            raise _bad(entry.where, "the name of a general profile: extend it instead")
    return Models({name: _model(name, lineage(name, entries, _MANUAL, GENERIC)) for name in entries})


_IN_FORCE = Catalogue("protocols.nbr14522", OWN_SOURCE, load_models)
models, add_catalogue, remove_catalogue = _IN_FORCE.in_force, _IN_FORCE.add, _IN_FORCE.remove


def _bad(where: str, message: str) -> OperatorFault:
    return wrong(where, message, _MANUAL)


def _model(name: str, line: Sequence[Entry]) -> MeterModel:
    base = line[0].table.get("extends", DEFAULT.name)
    model = MeterModel(base, "", "", (), "C", (), GENERIC[base])
    for entry in line:
        values = values_of(entry, _READERS, _MANUAL, (LocalProtocolError,))
        model = MeterModel(
            name=name,
            maker=values.get("maker", model.maker),
            description=values.get("description", ""),
            model_codes=values.get("model_codes", ()),
            confidence=values.get("confidence", model.confidence),
            facts=values.get("facts", ()),
            profile=_profile(name, entry, values, model.profile),
        )
    return model


def _profile(name: str, entry: Entry, values: Mapping[str, Any], above: MeterProfile) -> MeterProfile:
    changes = {key: value for key, value in values.items() if key in _PROFILE_KEYS}
    if "timing" in changes:
        changes["timing"] = _timing(entry, above.timing)
    commands = changes.get("commands", above.commands)
    commands |= values.get("add_commands", frozenset())
    commands -= values.get("remove_commands", frozenset())
    changes |= {"commands": commands, "name": name}
    changes.setdefault("description", "")
    try:
        return replace(above, **changes)
    except ValueError as error:
        raise _bad(entry.where, str(error)) from error


_text, _whole, _truth = typed(str), typed(int), typed(bool)


def _choice(kind: type[StrEnum]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if value not in list(kind):
            raise ValueError(f"none of {', '.join(kind)}")
        return kind(value)

    return read


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_text(one) for one in typed(list)(value))


def _confidence(value: Any) -> str:
    if value not in ("A", "B", "C"):
        raise ValueError("none of A, B, C")
    return str(value)


def _facts(value: Any) -> tuple[Fact, ...]:
    return tuple(Fact(_text(one["text"]), _confidence(one["confidence"])) for one in typed(list)(value))


def _codes(value: Any) -> frozenset[int]:
    found = [parse_command(_text(one)) for one in typed(list)(value)]
    if any(sub_code is not None for _, sub_code in found):
        raise ValueError("sub-codes belong in extended_commands")
    return frozenset(code for code, _ in found)


def _sub_codes(value: Any) -> frozenset[int]:
    found = [parse_command(_text(one)) for one in typed(list)(value)]
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
    return LinkLimits(**{key: _whole(one) for key, one in typed(dict)(value).items()})


def _timing(entry: Entry, above: LinkTiming) -> LinkTiming:
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
    return tuple(_layout(dict(one)) for one in typed(list)(value))


def _layout(table: dict[str, Any]) -> WriteLayout:
    if table.keys() != {"command", "source", "fields"}:
        raise ValueError("a write layout has command, source and fields")
    parse_command(table["command"])
    return WriteLayout(
        command=_text(table["command"]),
        source=_text(table["source"]),
        fields=tuple(_layout_field(dict(one)) for one in typed(list)(table["fields"])),
    )


def _layout_field(table: dict[str, Any]) -> LayoutField:
    if "coding" in table:
        table["coding"] = _choice(Coding)(table["coding"])
    if "allowed" in table:
        table["allowed"] = tuple(typed(list)(table["allowed"]))
    for key in ("octet", "size"):
        if key in table:
            _whole(table[key])
    made = LayoutField(**table)
    if made.fixed is not None:
        made.encode(made.fixed)
    for one in made.allowed:
        made.encode(one)
    return made


_PROFILE_KEYS: dict[str, Callable[[Any], Any]] = {
    "description": _text,
    "addressing": _choice(Addressing),
    "address": _whole,
    "timing": lambda value: value,
    "limits": _limits,
    "commands": _codes,
    "extended_commands": _sub_codes,
    "groups": _whole,
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
    "counts_above_2047": _truth,
    "hours_limit_is_trusted": _truth,
    "limited_count": _choice(LimitedCount),
    "words_up_to": _choice(WordsUpTo),
    "clock_change": _choice(ClockChange),
    "second_set_active_octet": _octet,
    "file_groups": _choice(FileGroups),
    "sunday": _whole,
}
"""How each setting of a profile is read from TOML: all fields of `MeterProfile` but its name."""

_READERS: dict[str, Callable[[Any], Any]] = {
    **_PROFILE_KEYS,
    "maker": _text,
    "model_codes": _texts,
    "confidence": _confidence,
    "facts": _facts,
    "add_commands": _codes,
    "remove_commands": _codes,
}
