"""Commands 95 and 98/95, whose flags say which fields count, and 98/32; and their answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import IntEnum, IntFlag
from typing import ClassVar

from protocols.nbr14522.messages.base import Request, Response
from protocols.nbr14522.messages.codecs import Binary32, Choice, Date, Flag, FlagOctets, Octet
from protocols.nbr14522.messages.layout import Part, Table, at, sent
from protocols.nbr14522.messages.parameters import Constant

EXTENDED = 0x98


class GenericFlags(IntFlag):
    """Which fields of command 95 count: o63 in the low octet, o64 in the high one."""

    NONE = 0
    KE = 0x01
    KH = 0x02
    VOLTAGE_TRANSFORMER = 0x04
    CURRENT_TRANSFORMER = 0x08
    ACTIVE_MODE = 0x10
    REACTIVE_MODE = 0x20
    KE_REACTIVE = 0x40
    QUANTITY_TYPE = 0x80
    CONNECTION_TYPE = 0x0100
    USER_OUTPUT = 0x0200
    MAXIMUM_DEMAND = 0x0400
    KP = 0x0800


INFERRED_GENERIC_FLAGS = GenericFlags(0x04FF)
"""Fields of 95 whose place mirrors the answer to 80, or is not known at all (maximum demand), and was never
seen (C)."""


@dataclass(frozen=True, kw_only=True)
class _GenericFields(Table):
    ke: Constant | None = sent(5, Part(Constant, empty_is_none=True))
    kh: Constant | None = sent(11, Part(Constant, empty_is_none=True))
    voltage_transformer: Constant | None = sent(17, Part(Constant, empty_is_none=True))
    current_transformer: Constant | None = sent(23, Part(Constant, empty_is_none=True))
    active_mode: int | None = sent(29, Octet(), default=0)
    reactive_mode: int | None = sent(30, Octet(), default=0)
    ke_reactive: Constant | None = sent(31, Part(Constant, empty_is_none=True))
    quantity_type: int | None = sent(37, Octet(), default=0)
    connection_type: int | None = sent(38, Octet(), default=0)
    user_output: int | None = sent(39, Octet(), default=0)
    kp: Constant | None = sent(40, Part(Constant, empty_is_none=True))


@dataclass(frozen=True, kw_only=True)
class GenericRequest(_GenericFields, Request):
    """95: change the fields whose `flags` (`GenericFlags`) are set; with no flag it only reads."""

    CODE: ClassVar[int] = 0x95

    flags: int | None = at(63, FlagOctets(), default=0)


@dataclass(frozen=True, kw_only=True)
class GenericParameters(_GenericFields, Response):
    """Answer to 95. Flags keep their place from the end of the frame (section 6.2)."""

    flags: int | None = at(255, FlagOctets())


class ExtendedMode(IntEnum):
    """o7 of command 98/32."""

    NONE = 0
    OVERWRITE = 2
    ADD = 4


@dataclass(frozen=True, kw_only=True)
class ExtendedHolidaysRequest(Request):
    """98/32: read the 82 extended holidays, or write 19 of them, over the old ones or in addition."""

    CODE: ClassVar[int] = EXTENDED
    SUB_CODE: ClassVar[int] = 0x32

    sub_code: int = at(5, Octet(), default=0x32)
    is_write: bool | None = at(6, Flag(), required=True)
    mode: ExtendedMode | None = at(7, Choice(ExtendedMode), default=ExtendedMode.NONE)
    holidays: tuple[date | None, ...] = at(8, Date(), 19)


@dataclass(frozen=True, kw_only=True)
class ExtendedHolidays(Response):
    """Answer to 98/32."""

    sub_code: int = at(6, Octet(), default=0x32)
    is_write: bool | None = at(7, Flag())
    mode: ExtendedMode | None = at(8, Choice(ExtendedMode))
    holidays: tuple[date | None, ...] = at(9, Date(), 82)


class NominalFlags(IntFlag):
    """o63 of command 98/95: which of its fields count."""

    NONE = 0
    VOLTAGE = 1
    FREQUENCY = 2


@dataclass(frozen=True, kw_only=True)
class _NominalFields(Table):
    sub_code: int = sent(5, Octet(), default=0x95)
    voltage_v: float | None = sent(6, Binary32(), default=0.0)
    frequency_hz: float | None = sent(10, Binary32(), default=0.0)


@dataclass(frozen=True, kw_only=True)
class NominalValuesRequest(_NominalFields, Request):
    """98/95: change the nominal primary voltage or frequency; with no flag it only reads."""

    CODE: ClassVar[int] = EXTENDED
    SUB_CODE: ClassVar[int] = 0x95

    flags: int | None = at(63, Octet(), default=0)


@dataclass(frozen=True, kw_only=True)
class NominalValues(_NominalFields, Response):
    """Answer to 98/95."""

    flags: int | None = at(255, Octet())
