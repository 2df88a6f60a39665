"""Exceptions 39 and 40, and everything whose layout no public source gives."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from protocols.nbr14522 import frames
from protocols.nbr14522.messages.base import Response
from protocols.nbr14522.messages.codecs import Octet, Raw
from protocols.nbr14522.messages.layout import at


class Occurrence(IntEnum):
    """Occurrences of answer 40 that are known (section 7, B); octets as on the wire."""

    BATTERY = 0x30
    PROGRAM_INTEGRITY = 0x31
    CLOCK = 0x33
    PASSWORD_INVALID = 0x36
    WATCHDOG = 0x37
    PASSWORD_WRONG = 0x41
    SESSION_NEEDED = 0x43
    LOCKED = 0x45
    INVALID_PARAMETER = 0x46
    VENDOR = 0xAB


@dataclass(frozen=True, kw_only=True)
class NotImplementedAnswer(Response):
    """Answer 39: the meter does not have the command."""

    code: int = at(1, Octet(), default=frames.NOT_IMPLEMENTED)
    refused_code: int | None = at(6, Octet())


@dataclass(frozen=True, kw_only=True)
class OccurrenceAnswer(Response):
    """Answer 40: something at the meter stands in the way. 30-70 are treated as clearable by 37 (B)."""

    code: int = at(1, Octet(), default=frames.OCCURRENCE)
    occurrence: int | None = at(6, Octet())
    detail: int | None = at(7, Octet())
    waiting_count: int | None = at(8, Octet())


@dataclass(frozen=True, kw_only=True)
class OpaqueResponse(Response):
    """Any other code (41-46 among them): kept raw."""

    data: bytes | None = at(6, Raw(251))
