"""Models of meters with a user output as data: formats, rate, and what no source settles (`SsuSettings`).

A model is added by an entry in a file of the utility's own (`add_catalogue`), laid over `models.toml`; an
entry takes all of the one that it `extends`. The demand interval is the registry's and no key here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from faults import OperatorFault
from protocols.catalogues import (
    Catalogue,
    Entry,
    ModelRow,
    Models,
    layered,
    typed,
    values_of,
    whole,
    wrong,
)
from protocols.ssu.blocks import Format
from protocols.ssu.settings import HOUR_POSTS, SsuSettings

OWN_SOURCE = "models.toml"
PREFIX = "ssu"
_MANUAL = "docs/saida_serial.md"
_RATE_BIT_S = 110  # section 1, normal and extended


@dataclass(frozen=True, slots=True)
class SsuModel:
    """One way of using the output.

    Attributes:
        formats: of blocks; more than one: found out from the stream.
        rate_bit_s: of a serial port whose URL names none.
        settings: of its stream, with the interval's length still to be told.
    """

    name: str
    description: str
    description_pt: str
    formats: tuple[Format, ...]
    rate_bit_s: int
    settings: SsuSettings


def load_models(*sources: tuple[str, str]) -> Mapping[str, SsuModel]:
    """Catalogues laid one over the other, the product's own first.

    Args:
        sources: (name for messages, TOML text) of each.

    Raises:
        OperatorFault: not TOML, an unknown key, a bad value; names entry and key.
    """
    return {name: _model(name, entry) for name, entry in layered("models", sources, _MANUAL).items()}


_IN_FORCE = Catalogue("protocols.ssu", OWN_SOURCE, load_models)
models, add_catalogue, remove_catalogue = _IN_FORCE.in_force, _IN_FORCE.add, _IN_FORCE.remove


def model_named(name: str) -> SsuModel:
    """A model by its name, with or without the prefix; "auto" is the one that finds the format out.

    Raises:
        OperatorFault: none has that name.
    """
    full = PREFIX if name == "auto" else name if name in models() else f"{PREFIX}-{name}"
    if full not in models():
        raise OperatorFault(
            f"no SSU model {name!r}",
            where="SSU model",
            remedy=f"use one of: {', '.join(models())}; or add an entry, see {_MANUAL}",
        )
    return models()[full]


def _model(name: str, entry: Entry) -> SsuModel:
    if name != PREFIX and not name.startswith(f"{PREFIX}-"):
        raise wrong(entry.where, f"the name of an SSU model begins with {PREFIX}-", _MANUAL)
    values = values_of(entry, _READERS, _MANUAL)
    if "formats" not in values:
        raise wrong(entry.where, "formats is missing", _MANUAL)
    return SsuModel(
        name=name,
        description=values.pop("description", ""),
        description_pt=values.pop("description_pt", ""),
        formats=values.pop("formats"),
        rate_bit_s=values.pop("rate_bit_s", _RATE_BIT_S),
        settings=SsuSettings(**values),
    )


def _formats(value: Any) -> tuple[Format, ...]:
    found = tuple(Format(one) for one in value) if isinstance(value, list) else ()
    if not found or len(set(found)) != len(found):
        raise ValueError(f"a list of {', '.join(Format)}, each at most once")
    if Format.MIXED in found and len(found) > 1:
        raise ValueError("mixed has a rate of its own and stands alone")
    return found


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value < 1:
        raise ValueError("no seconds between 0 and 1")
    return float(value)


def _hour_post(value: Any) -> str:
    if value not in HOUR_POSTS:
        raise ValueError(f"none of {', '.join(HOUR_POSTS)}")
    return str(value)


_READERS: dict[str, Callable[[Any], Any]] = {
    "description": typed(str),
    "description_pt": typed(str),
    "formats": _formats,
    "rate_bit_s": whole(50, 115_200),
    "silence_s": _seconds,
    "seconds_tolerance": whole(0, 10),
    "lock_after": whole(1, 1000),
    "unlock_after": whole(1, 1000),
    "complete_within_s": whole(0, 30),
    "normal_closings": whole(0, 3),
    "unnoticed_s": whole(0, 60),
    "mixed_hour_post": _hour_post,
}


class _SsuModels:
    """See `protocols.table.Models`."""

    def names(self) -> Collection[str]:
        return models()

    def rows(self) -> Iterator[ModelRow]:
        for model in models().values():
            yield ModelRow(model.name, "", model.description, "")

    def add(self, source: str, text: str) -> None:
        add_catalogue(source, text)


MODELS: Models = _SsuModels()
