"""Answers to 25 and 28: power failures and the change log (sections 5.3, 5.4). Oldest record first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from protocols.nbr14522.messages.base import Response
from protocols.nbr14522.messages.codecs import Bcd, Digits, Octet, Raw, TimeDate
from protocols.nbr14522.messages.layout import Part, Table, at


@dataclass(frozen=True, kw_only=True)
class PowerFailure(Table):
    """One interruption of supply; `end` is None while it lasts or where unreadable."""

    SIZE = 12

    start: datetime | None = at(1, TimeDate())
    end: datetime | None = at(7, TimeDate())


@dataclass(frozen=True, kw_only=True)
class PowerFailures(Response):
    """Answer to 25. The records reach back over many periods; None is an empty slot."""

    failures: tuple[PowerFailure | None, ...] = at(6, Part(PowerFailure, empty_is_none=True), 20)
    flags: bytes | None = at(246, Raw(4))
    """Flag bits and total seconds; how they are packed is not known (C)."""
    failure_count: int | None = at(250, Bcd(2))
    period_without_supply_s: int | None = at(252, Bcd(3))
    period_failure_count: int | None = at(255, Bcd(2))


@dataclass(frozen=True, kw_only=True)
class Change(Table):
    """One change of the meter: the code of the command that made it, by which reader, when."""

    SIZE = 10

    code: int | None = at(1, Octet())
    reader_serial: str | None = at(2, Digits(3))
    at_time: datetime | None = at(5, TimeDate())

    def to_json(self) -> dict[str, object]:
        return super().to_json() | {"code": None if self.code is None else f"{self.code:02X}"}


@dataclass(frozen=True, kw_only=True)
class ChangeLog(Response):
    """Answer to 28. Resets are logged as code 0x20 with the time of the interval border."""

    changes: tuple[Change | None, ...] = at(6, Part(Change, empty_is_none=True), 16)
    extended_changes: tuple[Change | None, ...] = at(166, Part(Change, empty_is_none=True), 9)
