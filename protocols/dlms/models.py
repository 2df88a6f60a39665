"""DLMS meter models: what differs from make to make, as data (reference "dlms_cosem", sections 1, 3, 5, 6).

A model is added by an entry in a file of the utility's own (`add_catalogue`), laid over `models.toml`; an
entry takes all of the one that it `extends`. Keys and passwords are not here: a model is no secret.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction
from typing import Any

from faults import OperatorFault
from protocols.acquisition import Nulls
from protocols.catalogues import (
    Catalogue,
    Entry,
    ModelRow,
    Models,
    laid_over,
    lineage,
    typed,
    values_of,
    whole,
    wrong,
)
from protocols.dlms.apdu import Mechanism, obis_octets, obis_text
from protocols.dlms.clock import SHIFT_MOST_S, ClockRules, DaylightSaving, DeviationSign
from protocols.dlms.framing import Framing, HdlcAddress, HdlcFraming, WrapperFraming
from protocols.dlms.mode_e import SPEEDS, SignOn

OWN_SOURCE = "models.toml"
_MANUAL = "docs/dlms.md"
_LONGEST_S = 86_400


class FramingKind(StrEnum):
    """How APDUs travel; both over TCP and over serial lines."""

    WRAPPER = "wrapper"
    HDLC = "hdlc"


class Opening(StrEnum):
    """How a port comes to speak HDLC (section 2.3)."""

    DIRECT = "direct"
    MODE_E = "mode-e"


class Timestamps(StrEnum):
    """Which end of its period a row of the load profile names (section 6, rule 7)."""

    START = "start"
    END = "end"


class ClockDeviation(StrEnum):
    """What a clock is told about its zone when it is set."""

    MARKET = "market"
    UNSPECIFIED = "unspecified"


class DoubtfulClock(StrEnum):
    """What becomes of rows whose clock says that it is doubtful; those that say invalid are never taken."""

    TAKEN = "taken"
    REFUSED = "refused"


class AllOnes(StrEnum):
    """What a value of nothing but ones is: memory that was never written, or a count like others."""

    MISSING = "missing"
    VALUE = "value"


class Access(StrEnum):
    """Ways to ask for rows, tried in the model's order (section 6, rules 3 to 5)."""

    RANGE = "range"
    RANGE_UNSPECIFIED = "range-unspecified"
    RANGE_WEEKDAY = "range-weekday"
    ENTRY = "entry"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Channel:
    """A column of the load profile as a channel of the platform's readings.

    Attributes:
        quantity: the platform's quantity code (that of NBR 14522's channels).
        objects: OBIS codes that may carry it; the first one captured is taken.
    """

    channel: int
    quantity: int
    objects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DlmsModel:
    """How a make of meter is spoken to, and what its objects mean.

    Attributes:
        client, logical_device: SAPs. physical_device, address_octets: of the HDLC address.
        public_client: SAP without security, for the invocation counter; counter_object: that counter.
        phase_channels: voltages and currents of the phases, which rules look at.
        pulse_wh: energy of one stored pulse, Wh (varh, VAh): what the installation's constant counts.
        ratio_objects: ratios of the TC and TP that the meter was told of: numerator and denominator in turn.
        pulse_constant_object: register of its pulses per Wh (1-0:0.3.0 as a rule); None: not asked for.
        status_flags: names by mask. invalid_flags: those whose rows are not taken.
        null_values: what a null in a column beside the clock means; all_ones: what FFFF and the like mean.
        data_index: which of several values of one object a column is to have, to be the present one.
        doubtful_clock: what becomes of rows whose clock doubts itself.
        deviation_sign, daylight_saving: how it states its time, where it differs from the standard.
        grid_tolerance_s: how far from its border an interval may end and still be the one of that border.
        most_kw: highest average power that the meter can measure, kW; None: not known.
        doubling_kw: growth that at least doubles a running total is believed up to this average power, kW.
        days_per_request: rows of how many days one request asks for.
        trusts_told_counter: the invocation counter that a refusal states without proof is gone on from.
        answer_s: patience for the answer to one request, repeated or not.
        repeat_s, repeats: silence after which HDLC and the sign-on ask again, and how often in a row.
        opening, opening_address, opening_wait_s, opening_top_baud: of the port, as `mode_e.SignOn`.
        clock_shift_up_to_s: what the clock is shifted by at most (shift_time); above, it is set. 0: no shift.
        clock_deviation, clock_status, clock_hundredths, clock_weekday: what is written when the clock is set;
            the weekday is left open (FF) unless asked for.
        clock_closes_period: moving the clock closes the billing period: a second person must agree.
        command_model: the model by whose client and authentication commands are sent; None: this one.
    """

    name: str = "dlms-generic"
    maker: str = ""
    description: str = ""
    confidence: str = "B"
    framing: FramingKind = FramingKind.WRAPPER
    client: int = 16
    logical_device: int = 1
    physical_device: int | None = None
    address_octets: int = 1
    authentication: Mechanism = Mechanism.NONE
    max_apdu: int = 0xFFFF
    public_client: int = 16
    counter_object: str | None = None
    serial_object: str = "0-0:96.1.0.255"
    clock_object: str = "0-0:1.0.0.255"
    load_profile: str = "1-0:99.1.0.255"
    timestamps: Timestamps = Timestamps.END
    access: tuple[Access, ...] = tuple(Access)
    days_per_request: int = 1
    channels: tuple[Channel, ...] = ()
    phase_channels: tuple[Channel, ...] = ()
    pulse_wh: Fraction = Fraction(1)
    registers: tuple[str, ...] = ()
    ratio_objects: tuple[str, ...] = ()
    pulse_constant_object: str | None = None
    status_objects: tuple[str, ...] = ()
    status_flags: Mapping[int, str] = field(default_factory=dict)
    invalid_flags: frozenset[str] = frozenset()
    null_values: Nulls = Nulls.MISSING
    all_ones: AllOnes = AllOnes.MISSING
    data_index: int = 0
    doubtful_clock: DoubtfulClock = DoubtfulClock.TAKEN
    deviation_sign: DeviationSign = DeviationSign.STANDARD
    daylight_saving: DaylightSaving = DaylightSaving.UNDECIDED
    grid_tolerance_s: int = 5
    most_kw: Fraction | None = None
    doubling_kw: Fraction = Fraction(100)
    trusts_told_counter: bool = False
    event_logs: tuple[str, ...] = ()
    tolerates_trailing: bool = False
    answer_s: float = 60.0
    repeat_s: float = 10.0
    repeats: int = 5
    opening: Opening = Opening.DIRECT
    opening_address: str = ""
    opening_wait_s: float = 0.3
    opening_top_baud: int = 19200
    clock_shift_up_to_s: int = SHIFT_MOST_S
    clock_deviation: ClockDeviation = ClockDeviation.MARKET
    clock_status: int = 0x00
    clock_hundredths: int = 0x00
    clock_weekday: bool = False
    clock_closes_period: bool = False
    command_model: str | None = None

    def framing_for(self, client: int, on_frame: Callable[[bytes], None] | None = None) -> Framing:
        """The framing of one association; `on_frame` gets each whole frame that comes in, as it came."""
        if self.framing is FramingKind.WRAPPER:
            return WrapperFraming(client, self.logical_device, on_frame=on_frame)
        address = HdlcAddress(self.logical_device, self.physical_device, self.address_octets)
        return HdlcFraming(client, address, on_frame=on_frame, repeats=self.repeats)

    @property
    def clock_rules(self) -> ClockRules:
        """How it states its time."""
        return ClockRules(self.deviation_sign, self.daylight_saving)

    @property
    def sign_on(self) -> SignOn | None:
        """How the port is opened before HDLC; None where nothing is to be done."""
        if self.opening is Opening.DIRECT:
            return None
        return SignOn(
            self.opening_address, self.opening_wait_s, self.opening_top_baud, self.repeat_s, self.repeats
        )

    def at_address(self, physical_device: int | None) -> DlmsModel:
        """The model at a physical address of a bus, where one is given; one octet has no room for it."""
        if physical_device is None:
            return self
        address = HdlcAddress(self.logical_device, octets=self.address_octets).at(physical_device)
        return replace(self, physical_device=physical_device, address_octets=address.octets)


def load_models(*sources: tuple[str, str]) -> Mapping[str, DlmsModel]:
    """Catalogues laid one over the other, the product's own first.

    Args:
        sources: (name for messages, TOML text) of each.

    Raises:
        OperatorFault: not TOML, an unknown key, a bad value, a circle of `extends`; names entry and key.
    """
    entries = laid_over("models", sources, _MANUAL)
    found = {name: _model(name, lineage(name, entries, _MANUAL)) for name in entries}
    for name, model in found.items():
        if model.command_model is not None and model.command_model not in found:
            raise _bad(entries[name].where, f"command_model {model.command_model!r} is no model")
    return found


_IN_FORCE = Catalogue("protocols.dlms", OWN_SOURCE, load_models)
models, add_catalogue, remove_catalogue = _IN_FORCE.in_force, _IN_FORCE.add, _IN_FORCE.remove


def model_named(name: str) -> DlmsModel:
    """The model of that name.

    Raises:
        OperatorFault: there is none.
    """
    if name not in models():
        raise OperatorFault(
            f"no DLMS model {name!r}", where="profile", remedy=f"use one of: {', '.join(sorted(models()))}"
        )
    return models()[name]


def _bad(where: str, message: str) -> OperatorFault:
    return wrong(where, message, _MANUAL)


def _model(name: str, line: Sequence[Entry]) -> DlmsModel:
    if not name.startswith("dlms-"):
        raise _bad(line[-1].where, "the name of a DLMS model begins with dlms-")
    model = DlmsModel(name=name)
    for entry in line:
        model = replace(model, **{"description": ""} | values_of(entry, _READERS, _MANUAL))
    for key, message in _contradictions(model):
        raise _bad(f"{line[-1].where}, {key}", message)
    return model


def _contradictions(model: DlmsModel) -> Iterator[tuple[str, str]]:
    """Keys whose values are good alone and not together, and why."""
    is_hdlc = model.framing is FramingKind.HDLC
    if model.opening is Opening.MODE_E and not is_hdlc:
        yield "opening", "mode E opens a port for HDLC: framing is to be hdlc"
    most = 0x3FFF if model.address_octets == 4 else 0x7F
    if is_hdlc and model.logical_device > most:
        yield "logical_device", f"an address of {model.address_octets} octets has room for {most} at most"
    if is_hdlc and model.physical_device is not None and model.address_octets == 1:
        yield "physical_device", "address_octets is 1, which has no room for it: 2 or 4"
    if is_hdlc and model.physical_device is not None and model.physical_device > most:
        yield "physical_device", f"an address of {model.address_octets} octets has room for {most} at most"
    unknown = sorted(model.invalid_flags - set(model.status_flags.values()))
    if unknown:
        yield (
            "invalid_flags",
            f"{', '.join(unknown)}: no name in status_flags, so that no row would be refused",
        )
    numbers = [one.channel for one in (*model.channels, *model.phase_channels)]
    if len(numbers) != len(set(numbers)):
        yield "channels", "two with one number"
    if len(model.ratio_objects) % 2:
        yield "ratio_objects", "numerator and denominator in turn: an even number of objects"
    if not model.access:
        yield "access", "there is no way to ask for rows"


_text, _truth = typed(str), typed(bool)


def _obis(value: Any) -> str:
    return obis_text(obis_octets(_text(value)))


def _obis_list(value: Any) -> tuple[str, ...]:
    return tuple(_obis(one) for one in typed(list)(value))


def _mechanism(value: Any) -> Mechanism:
    return Mechanism[_text(value).upper()]


def _channels(value: Any) -> tuple[Channel, ...]:
    number = whole(1, 99)
    for one in typed(list)(value):
        unknown = one.keys() - {"channel", "quantity", "objects"}
        if unknown:
            raise ValueError(f"unknown key {', '.join(sorted(unknown))}")
    return tuple(
        Channel(number(one["channel"]), number(one["quantity"]), _obis_list(one["objects"])) for one in value
    )


def _flags(value: Any) -> dict[int, str]:
    return {int(mask, 16): _text(name) for mask, name in typed(dict)(value).items()}


def _positive(value: Any) -> Fraction:
    found = Fraction(_text(value))
    if found <= 0:
        raise ValueError("not above zero")
    return found


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value <= _LONGEST_S:
        raise ValueError(f"no seconds above 0 and up to {_LONGEST_S}")
    return float(value)


def _octet(value: Any) -> int:
    (octet,) = bytes.fromhex(_text(value))
    return octet


_READERS: dict[str, Callable[[Any], Any]] = {
    "maker": _text,
    "description": _text,
    "confidence": lambda value: {"A": "A", "B": "B", "C": "C"}[value],
    "framing": FramingKind,
    "client": whole(1, 127),
    "logical_device": whole(0, 0x3FFF),
    "physical_device": whole(0, 0x3FFF),
    "address_octets": lambda value: {1: 1, 2: 2, 4: 4}[value],
    "authentication": _mechanism,
    "max_apdu": whole(64, 0xFFFF),
    "public_client": whole(1, 127),
    "counter_object": _obis,
    "serial_object": _obis,
    "clock_object": _obis,
    "load_profile": _obis,
    "timestamps": Timestamps,
    "access": lambda value: tuple(Access(one) for one in typed(list)(value)),
    "days_per_request": whole(1, 366),
    "channels": _channels,
    "phase_channels": _channels,
    "pulse_wh": _positive,
    "registers": _obis_list,
    "ratio_objects": _obis_list,
    "pulse_constant_object": _obis,
    "status_objects": _obis_list,
    "status_flags": _flags,
    "invalid_flags": lambda value: frozenset(_text(one) for one in typed(list)(value)),
    "null_values": Nulls,
    "all_ones": AllOnes,
    "data_index": whole(0, 0xFFFF),
    "doubtful_clock": DoubtfulClock,
    "deviation_sign": DeviationSign,
    "daylight_saving": DaylightSaving,
    "grid_tolerance_s": whole(0, 59),
    "most_kw": _positive,
    "doubling_kw": _positive,
    "trusts_told_counter": _truth,
    "event_logs": _obis_list,
    "tolerates_trailing": _truth,
    "answer_s": _seconds,
    "repeat_s": _seconds,
    "repeats": whole(0, 100),
    "opening": Opening,
    "opening_address": lambda value: SignOn(_text(value)).address,
    "opening_wait_s": _seconds,
    "opening_top_baud": lambda value: {baud: baud for baud in SPEEDS.values()}[value],
    "clock_shift_up_to_s": whole(0, SHIFT_MOST_S),
    "clock_deviation": ClockDeviation,
    "clock_status": _octet,
    "clock_hundredths": _octet,
    "clock_weekday": _truth,
    "clock_closes_period": _truth,
    "command_model": _text,
}


class _DlmsModels:
    """See `protocols.table.Models`."""

    def names(self) -> Collection[str]:
        return models()

    def rows(self) -> Iterator[ModelRow]:
        for model in models().values():
            yield ModelRow(model.name, model.maker, model.description, model.confidence)

    def add(self, source: str, text: str) -> None:
        add_catalogue(source, text)


MODELS: Models = _DlmsModels()
