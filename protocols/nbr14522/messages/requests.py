"""Requests that only read, the demand reset, and the way from a frame to its request (sections 2, 2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import IntEnum
from typing import Any, ClassVar

from protocols.nbr14522 import frames
from protocols.nbr14522.errors import RemoteProtocolError
from protocols.nbr14522.messages.base import Request
from protocols.nbr14522.messages.codecs import Bcd, Choice, Raw
from protocols.nbr14522.messages.flagged_writes import EXTENDED
from protocols.nbr14522.messages.layout import at
from protocols.nbr14522.messages.session import OpenSessionRequest, SeedRequest
from protocols.nbr14522.messages.writes import EXTENDED_WRITES, WRITES


class LimitUnit(IntEnum):
    """Unit of the limit in command 51, o7. HOURS is an inference (C): `profile.hours_limit_is_trusted`."""

    EVERYTHING = 0
    HOURS = 1
    DAYS = 2


class Period(IntEnum):
    """Which period command 25 is asked for, o5."""

    PREVIOUS = 0
    CURRENT = 1


@dataclass(frozen=True, kw_only=True)
class InstantaneousRequest(Request):
    """14: instantaneous quantities (fiscal page)."""

    CODE: ClassVar[int] = 0x14


@dataclass(frozen=True, kw_only=True)
class _GroupRequest(Request):
    """Parameters of a channel group: 0 is channels 1-3, 1 is 4-6 ... The group stays the visible one."""

    group: int | None = at(6, Bcd(1), default=0)


@dataclass(frozen=True, kw_only=True)
class DemandResetRequest(_GroupRequest):
    """20: parameters *with demand reset*. Changes the meter: never repeated after an unknown outcome."""

    CODE: ClassVar[int] = 0x20


@dataclass(frozen=True, kw_only=True)
class CurrentParametersRequest(_GroupRequest):
    """21: parameters now (verification)."""

    CODE: ClassVar[int] = 0x21


@dataclass(frozen=True, kw_only=True)
class PreviousParametersRequest(_GroupRequest):
    """22: parameters as of the last reset (recovery)."""

    CODE: ClassVar[int] = 0x22


@dataclass(frozen=True, kw_only=True)
class CurrentRegistersRequest(Request):
    """23: registers of the visible channels, now."""

    CODE: ClassVar[int] = 0x23


@dataclass(frozen=True, kw_only=True)
class PreviousRegistersRequest(Request):
    """24: registers of the visible channels at the last reset."""

    CODE: ClassVar[int] = 0x24


@dataclass(frozen=True, kw_only=True)
class PowerFailuresRequest(Request):
    """25: power failures."""

    CODE: ClassVar[int] = 0x25

    period: Period | None = at(5, Choice(Period), default=Period.CURRENT)


@dataclass(frozen=True, kw_only=True)
class CurrentMemoryRequest(Request):
    """26: mass memory since the last reset (composite)."""

    CODE: ClassVar[int] = 0x26


@dataclass(frozen=True, kw_only=True)
class PreviousMemoryRequest(Request):
    """27: mass memory of the closed period (composite)."""

    CODE: ClassVar[int] = 0x27


@dataclass(frozen=True, kw_only=True)
class ChangeLogRequest(Request):
    """28: change log."""

    CODE: ClassVar[int] = 0x28


@dataclass(frozen=True, kw_only=True)
class WholeMemoryParametersRequest(_GroupRequest):
    """51: parameters for reading the whole memory, or its newest `amount` of `unit`."""

    CODE: ClassVar[int] = 0x51

    unit: LimitUnit | None = at(7, Choice(LimitUnit), default=LimitUnit.EVERYTHING)
    amount: int | None = at(8, Bcd(2), default=0)


@dataclass(frozen=True, kw_only=True)
class WholeMemoryRequest(Request):
    """52: the whole mass memory (composite)."""

    CODE: ClassVar[int] = 0x52


@dataclass(frozen=True, kw_only=True)
class MeasurementParametersRequest(Request):
    """80: measurement parameters."""

    CODE: ClassVar[int] = 0x80


@dataclass(frozen=True, kw_only=True)
class OpaqueRequest(Request):
    """Any other code, its 60 parameter octets as they are."""

    parameters: bytes = at(5, Raw(60), default=bytes(60))


_READS: tuple[type[Request], ...] = (
    InstantaneousRequest,
    DemandResetRequest,
    CurrentParametersRequest,
    PreviousParametersRequest,
    CurrentRegistersRequest,
    PreviousRegistersRequest,
    PowerFailuresRequest,
    CurrentMemoryRequest,
    PreviousMemoryRequest,
    ChangeLogRequest,
    WholeMemoryParametersRequest,
    WholeMemoryRequest,
    MeasurementParametersRequest,
    SeedRequest,
    OpenSessionRequest,
)

REQUESTS: dict[int, type[Request]] = {kind.CODE: kind for kind in _READS} | {
    code: request for code, (request, _) in WRITES.items()
}
"""Typed requests by command code."""

EXTENDED_REQUESTS: dict[int, type[Request]] = {
    sub_code: request for sub_code, (request, _) in EXTENDED_WRITES.items()
}
"""Typed requests of command 98 by sub-code."""


def decode_request(frame: bytes) -> Request:
    """The request in a plain command frame: 66 octets with CRC (checked), or 64 without.

    Raises:
        RemoteProtocolError: wrong size or bad CRC. Bad values are `problems` of the request.
    """
    content = frame
    if len(frame) != frames.COMMAND_CONTENT_SIZE:
        content = frames.unwrap_command(frame, frames.Addressing.P0)[:-2]
    if not content[0]:
        raise RemoteProtocolError("code 00 is not a command", where="command frame")
    kind = EXTENDED_REQUESTS.get(content[4]) if content[0] == EXTENDED else REQUESTS.get(content[0])
    return (kind or OpaqueRequest).read(content)


def request_for(code: int, sub_code: int | None = None, **values: Any) -> Request:
    """A fresh request for a command code, its parameters by name (`request_for(0x51, group=1)`).

    Args:
        sub_code: o5 of command 98.
    """
    kind = REQUESTS.get(code) if code != EXTENDED or sub_code is None else EXTENDED_REQUESTS.get(sub_code)
    return OpaqueRequest(code=code, **values) if kind is None else kind(**values)


def weekday_of(day: date, sunday: int = 1) -> int:
    """The weekday's number as meters count it: `sunday` for Sunday and on from there.

    >>> weekday_of(date(2013, 1, 2)), weekday_of(date(2024, 3, 8))
    (4, 6)
    """
    return day.isoweekday() % 7 + sunday
