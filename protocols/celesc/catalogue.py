"""The purchased meter models as data: `meters.toml`, loaded and checked (section 7).

A model is added by data alone: an entry here, or in a file of the utility's own that is laid over it
(`add_catalogue`). An entry takes all of the one that it `extends`. Reading that file is the caller's part.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from faults import OperatorFault
from protocols.catalogues import Catalogue, Entry, ModelRow, Models, layered, wrong
from protocols.celesc.timing import RATES_BIT_S

OWN_SOURCE = "meters.toml"
PREFIX = "celesc-"
_MANUAL = "docs/saida_serial.md"


class Need(StrEnum):
    """How firmly the documents ask for a packet."""

    REQUIRED = "required"
    EXPECTED = "expected"


@dataclass(frozen=True, slots=True)
class ExpectedPacket:
    """A packet of a model: (scope, index), the register that it carries, and how firmly it is asked for."""

    code: tuple[int, int]
    register: str
    need: Need
    confidence: str

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
        voltage_range_percent, memory_h: None where nothing is said.
        open: what the documents leave open.
    """

    code: str
    description: str
    description_pt: str
    bought: int
    phases: int
    elements: int
    wires: int
    max_current_a: int
    temperature_c: tuple[int, int]
    display: tuple[NamedRegister, ...]
    packets: tuple[ExpectedPacket, ...]
    registers: tuple[NamedRegister, ...] = ()
    nominal_voltage_v: int = 240
    calibration_voltage_v: int = 240
    max_voltage_between_phases_v: int | None = None
    voltage_range_percent: tuple[int, int] | None = None
    nominal_current_a: int = 15
    frequency_hz: int = 60
    accuracy_class: str = "B"
    display_digits: int = 5
    register_digits: int = 5
    register_constant: int = 1
    rate_bit_s: int = 2400
    is_bidirectional: bool = False
    accumulation: str = "not_said"
    supply: str = "not_said"
    memory_h: int | None = None
    optical_port: str = "not_said"
    open: tuple[str, ...] = ()

    @property
    def profile(self) -> str:
        """Its name as a protocol profile of the registry."""
        return f"{PREFIX}{self.code}"


_CHOICES = {
    "accumulation": {"not_said", "ratchet"},
    "optical_port": {"not_said", "optional", "required"},
    "accuracy_class": {"A", "B", "C", "D"},
}
_REGISTERS = {"active", "active_reverse", "inductive", "capacitive"}


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
    where = entry.where
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entry.table.items()
    }
    try:
        values["display"] = tuple(NamedRegister(**row) for row in values["display"])
        values["registers"] = tuple(NamedRegister(**row) for row in values.get("registers", ()))
        values["packets"] = tuple(_packet(row, where) for row in values["packets"])
        values["open"] = tuple(row["text"] for row in values.get("open", ()))
        meter = CelescMeter(code=code, **values)
    except (KeyError, TypeError, ValueError) as error:
        raise _bad(where, f"missing, unknown or wrong key: {error}") from error
    _check(meter, where)
    return meter


def _packet(row: Mapping[str, Any], where: str) -> ExpectedPacket:
    code = bytes.fromhex(row["code"])
    if len(code) != 2:
        raise _bad(where, f"packet code {row['code']!r} is not two octets")
    if row["register"] not in _REGISTERS:
        raise _bad(where, f"register {row['register']!r} is none of {', '.join(sorted(_REGISTERS))}")
    return ExpectedPacket((code[0], code[1]), row["register"], Need(row["need"]), row["confidence"])


def _check(meter: CelescMeter, where: str) -> None:
    for field in fields(meter):
        value = getattr(meter, field.name)
        kind = str(field.type).removesuffix(" | None")
        if kind in ("int", "bool", "str") and value is not None and type(value).__name__ != kind:
            raise _bad(where, f"{field.name} = {value!r} is not {kind}")
    for name, allowed in _CHOICES.items():
        if getattr(meter, name) not in allowed:
            raise _bad(where, f"{name} is none of {', '.join(sorted(allowed))}")
    if meter.elements not in (1, 2, 3) or meter.phases not in (1, 2, 3) or meter.wires not in (2, 3, 4):
        raise _bad(where, "phases and elements are 1 to 3, wires 2 to 4")
    if meter.register_digits not in (5, 6) or meter.max_current_a < meter.nominal_current_a:
        raise _bad(where, "registers have 5 or 6 digits, and the maximum current is not below the nominal")
    if meter.rate_bit_s not in RATES_BIT_S:
        raise _bad(where, f"rate_bit_s is none of {', '.join(map(str, sorted(RATES_BIT_S)))}")
    codes = [packet.code for packet in meter.packets]
    if len(set(codes)) != len(codes) or not codes:
        raise _bad(where, "a packet is named twice, or none is")
    if meter.is_bidirectional != any(packet.register == "active_reverse" for packet in meter.packets):
        raise _bad(where, "a bidirectional meter, and no other, sends the reverse register")


def _bad(where: str, message: str) -> OperatorFault:
    return wrong(where, message, _MANUAL)


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
