"""What OBIS codes stand for, by the Brazilian object list: for people who look at a meter's objects.

The list, `nbr16968_objects.csv`, is of a single public extract of ABNT NBR 16968 and confidence B throughout
(reference "dlms_cosem", section 7). Nothing is read or decoded by it: a model says what is asked for.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from protocols.dlms.apdu import OBIS_OCTETS, obis_octets, obis_text
from protocols.dlms.axdr import Data, Tag
from protocols.dlms.errors import RemoteProtocolError

SOURCE = "nbr16968_objects.csv"
_ANY = "x"


@dataclass(frozen=True, slots=True)
class KnownObject:
    """An entry of the list. `name`: in the list's words, such as `active_energy_import_total`."""

    obis: str
    class_id: int
    name: str
    confidence: str


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An entry of a meter's own list: what this association may see."""

    class_id: int
    version: int
    obis: str


def decode_object_list(data: Data) -> tuple[ListedObject, ...]:
    """Attribute 2 of an association.

    Raises:
        RemoteProtocolError: it is not a list of class, version and code.
    """
    if data.tag is not Tag.ARRAY:
        raise RemoteProtocolError("no list of objects", where="object list")
    return tuple(_listed(number, element) for number, element in enumerate(data.value, start=1))


def _listed(number: int, element: Data) -> ListedObject:
    parts = element.plain()
    match parts:
        case [int(class_id), int(version), bytes(code), *_] if len(code) == OBIS_OCTETS:
            return ListedObject(class_id, version, obis_text(code))
    raise RemoteProtocolError("an object without class, version and code", where=f"object list {number}")


def known_object(obis: str) -> KnownObject | None:
    """The entry of a code, or that of all tariffs or harmonics, of which it is one; None: not listed."""
    groups = tuple(obis_octets(obis))
    exact, ranges = _objects()
    return (
        exact.get(groups)
        or ranges.get((*groups[:3], -1, groups[4], groups[5]))
        or ranges.get((*groups[:4], -1, groups[5]))
    )


def known_objects() -> tuple[KnownObject, ...]:
    """The whole list, in its order."""
    text = resources.files("protocols.dlms").joinpath(SOURCE).read_text(encoding="ascii")
    return tuple(
        KnownObject(row["obis"], int(row["class_id"]), row["key"], row["confidence"])
        for row in csv.DictReader(text.splitlines())
    )


Groups = tuple[int, ...]


@cache
def _objects() -> tuple[Mapping[Groups, KnownObject], Mapping[Groups, KnownObject]]:
    exact: dict[Groups, KnownObject] = {}
    ranges: dict[Groups, KnownObject] = {}
    for one in known_objects():
        if _ANY in one.obis:
            lowest = tuple(obis_octets(one.obis.replace(_ANY, "0")))
            place = [part == _ANY for part in one.obis.replace("-", ".").replace(":", ".").split(".")]
            ranges[tuple(-1 if is_any else part for part, is_any in zip(lowest, place, strict=True))] = one
        else:
            exact[tuple(obis_octets(one.obis))] = one
    return exact, ranges
