"""What every command shares, whatever its meter speaks: the work, its outcome, what it is given. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import StrEnum
from typing import Any

from collector.commands.policy import ClockPolicy

NOW = "now"
CHECK_MODEL = "check the meter's model and profile in the registry"


class Verdict(StrEnum):
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    MISMATCH = "mismatch"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Writing:
    """What goes on record before a write leaves. `frame`: the plain command, 66 octets; of DLMS its APDU."""

    before: Mapping[str, Any]
    frame: bytes
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pending:
    """A write that was begun and whose outcome nobody knows: its record."""

    before: Mapping[str, Any]
    detail: Mapping[str, Any]


@dataclass(slots=True)
class Execution:
    """What a script found out. `postpone_s`: it ended untried, to come back after so long."""

    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    postpone_s: float | None = None

    def end(self, verdict: Verdict, **detail: Any) -> None:
        self.verdict = verdict
        self.detail |= detail


@dataclass(frozen=True, slots=True)
class CommandWork:
    """A command to carry out: `values` as in `Request.to_json`."""

    request_id: int
    command: str
    values: Mapping[str, Any]
    clock: ClockPolicy = field(default_factory=ClockPolicy)
    pending: Pending | None = None
    execution: Execution = field(default_factory=Execution)


@dataclass(frozen=True, slots=True)
class Tools:
    """What a script may not have by itself: time, waiting, the record, our serial number."""

    now: Callable[[], datetime]
    zone: timezone
    sleep: Callable[[float], Awaitable[None]]
    commit: Callable[[Writing], Awaitable[None]]
    reader_serial: str

    def local(self) -> datetime:
        """Reference time as meters show it: naive, fixed market time."""
        return self.now().astimezone(self.zone).replace(tzinfo=None)
