"""The purchased meter models as data: `meters.toml`, loaded and checked (section 7).

A model is added by data alone: an entry here, or in a file of the utility's own that is laid over it
(`add_catalogue`). An entry takes all of the one that it `extends`. Reading that file is the caller's part.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from faults import OperatorFault
from faults.toml_tables import Key, Problem, build
from protocols.catalogues import Catalogue, Entry, ModelRow, Models, layered
from protocols.celesc.timing import RATES_BIT_S

OWN_SOURCE = "meters.toml"
PREFIX = "celesc-"
_MANUAL = "docs/saida_serial.md"


_REGISTERS = ("active", "active_reverse", "capacitive", "inductive")


def _code(text: str) -> tuple[int, int]:
    octets = bytes.fromhex(text)
    if len(octets) != 2:
        raise ValueError("not two octets")
    return octets[0], octets[1]


class Need(StrEnum):
    """How firmly the documents ask for a packet."""

    REQUIRED = "required"
    EXPECTED = "expected"


@dataclass(frozen=True, slots=True)
class ExpectedPacket:
    """A packet of a model: (scope, index), the register that it carries, and how firmly it is asked for."""

    code: Annotated[tuple[int, int], Key(convert=_code)]
    register: Annotated[str, Key(choices=_REGISTERS)]
    need: Need
    confidence: Annotated[str, Key(choices=("A", "B", "C"))]

    @property
    def code_text(self) -> str:
        """As documents write it, "0A02"."""
        return f"{self.code[0]:02X}{self.code[1]:02X}"


@dataclass(frozen=True, slots=True)
class NamedRegister:
    """A register by its code on the display or in the meter, and what it counts; "" where none is said."""

    code: str
    quantity: str


@dataclass(frozen=True, slots=True)
class CelescMeter:
    """One model. Values common to all five are the defaults.

    Attributes:
        code: the utility's material code.
        bought: quantity of the purchase; 0: specified, not bought.
        register_digits: digits after which a register starts again. The display has five, a sixth may be
            sent (section 6, default inferred): a value beyond five digits proves six.
        accumulation: "ratchet": only load-direction energy adds to the direct total; "not_said".
    """

    code: str
    description: str
    description_pt: str
    bought: int
    phases: Annotated[int, Key("phases and elements are 1 to 3", least=1, most=3)]
    elements: Annotated[int, Key("phases and elements are 1 to 3", least=1, most=3)]
    wires: Annotated[int, Key(least=2, most=4)]
    max_current_a: int
    display: tuple[NamedRegister, ...]
    packets: tuple[ExpectedPacket, ...]
    registers: tuple[NamedRegister, ...] = ()
    nominal_voltage_v: int = 240
    nominal_current_a: int = 15
    frequency_hz: int = 60
    accuracy_class: Annotated[str, Key(choices=("A", "B", "C", "D"))] = "B"
    display_digits: int = 5
    register_digits: Annotated[int, Key("registers have 5 or 6 digits", choices=(5, 6))] = 5
    rate_bit_s: Annotated[int, Key(choices=tuple(sorted(RATES_BIT_S)))] = 2400
    is_bidirectional: bool = False
    accumulation: Annotated[str, Key(choices=("not_said", "ratchet"))] = "not_said"

    @property
    def profile(self) -> str:
        """Its name as a protocol profile of the registry."""
        return f"{PREFIX}{self.code}"


def meter_named(code: str) -> CelescMeter:
    """A model by material code, or by its profile's name.

    Raises:
        OperatorFault: none has that code.
    """
    found = meters().get(code.removeprefix(PREFIX))
    if found is None:
        raise OperatorFault(
            f"no meter model {code!r} with CELESC's serial output",
            where="meter model",
            remedy=f"use one of: {', '.join(meters())}; or add an entry, see {_MANUAL}",
        )
    return found


def load_meters(*sources: tuple[str, str]) -> Mapping[str, CelescMeter]:
    """Catalogues laid one over the other: of an entry that both have, the later one's keys count.

    Args:
        sources: (name for messages, TOML text) of each, the product's own first.

    Raises:
        OperatorFault: not TOML, an unknown or missing key, or a bad value; names entry and key.
    """
    return {code: _meter(code, entry) for code, entry in layered("meters", sources, _MANUAL).items()}


_IN_FORCE = Catalogue("protocols.celesc", OWN_SOURCE, load_meters)
meters, add_catalogue, remove_catalogue = _IN_FORCE.in_force, _IN_FORCE.add, _IN_FORCE.remove


def _meter(code: str, entry: Entry) -> CelescMeter:
    return build(
        CelescMeter,
        {**entry.table, "code": code},
        f"{entry.where},",
        remedy=f"correct the entry; see {_MANUAL}",
        check=lambda meter: list(_contradictions(meter)),
    )


def _contradictions(meter: CelescMeter) -> Iterator[Problem]:
    if meter.max_current_a < meter.nominal_current_a:
        yield Problem("max_current_a", "the maximum current is not below the nominal")
    codes = [packet.code for packet in meter.packets]
    if len(set(codes)) != len(codes) or not codes:
        yield Problem("packets", "a packet is named twice, or none is")
    if meter.is_bidirectional != any(packet.register == "active_reverse" for packet in meter.packets):
        yield Problem("is_bidirectional", "a bidirectional meter, and no other, sends the reverse register")


class _CelescModels:
    """See `protocols.table.Models`."""

    def names(self) -> Collection[str]:
        return {meter.profile for meter in meters().values()}

    def rows(self) -> Iterator[ModelRow]:
        for meter in meters().values():
            yield ModelRow(meter.profile, "", meter.description, "")

    def add(self, source: str, text: str) -> None:
        add_catalogue(source, text)


MODELS: Models = _CelescModels()
