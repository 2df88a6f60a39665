"""Commands, profiles and ways to look at events that the tests of the link share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from protocols.nbr14522.link import (
    NEED_DATA,
    Event,
    FrameReceived,
    LinkFailed,
    MeterLink,
    ReaderLink,
    SignalReceived,
    Skipped,
    SkipReason,
)
from protocols.nbr14522.messages import (
    CurrentMemoryRequest,
    CurrentParametersRequest,
    DemandResetRequest,
    InstantaneousRequest,
)
from protocols.nbr14522.profile import STRICT, HandShake
from protocols.nbr14522.profiles import DEFAULT, P2_GENERIC, P8_GENERIC
from tests.protocols.nbr14522.pair import READER, ending

VERIFY = CurrentParametersRequest().encode(READER)
MEMORY = CurrentMemoryRequest().encode(READER)
RESET = DemandResetRequest().encode(READER)
FISCAL = InstantaneousRequest().encode(READER)

STRICT_P0 = replace(DEFAULT, timing=STRICT)
P2_ACK = replace(P2_GENERIC, p2_hand_shake=HandShake.ACK)
ALL_LINES = [DEFAULT, STRICT_P0, P8_GENERIC, P2_GENERIC, P2_ACK]
LINE_NAMES = ["P0", "P0-strict", "P8", "P2", "P2-ack"]


def failed(events: Sequence[Event]) -> LinkFailed:
    end = ending(events)
    assert isinstance(end, LinkFailed), end
    return end


def of(events: Sequence[Event], kind: type) -> list[Event]:
    return [event for event in events if isinstance(event, kind)]


def skipped(events: Sequence[Event]) -> dict[SkipReason, int]:
    found: dict[SkipReason, int] = {}
    for event in events:
        if isinstance(event, Skipped):
            found[event.reason] = found.get(event.reason, 0) + event.count
    return found


def accounted(events: Sequence[Event]) -> int:
    """Octets received, by the reader's own account."""
    return sum(
        len(event.octets) if isinstance(event, FrameReceived) else event.count
        for event in events
        if isinstance(event, FrameReceived | SignalReceived)
        or (isinstance(event, Skipped) and event.reason is not SkipReason.DUPLICATE_BLOCK)
    )


def drained(link: ReaderLink | MeterLink) -> list[Event]:
    events: list[Event] = []
    while (event := link.next_event()) is not NEED_DATA:
        events.append(event)
    return events


def once(direction: str, index: int, becomes: bytes | None = None):
    def damage(way: str, count: int, octets: bytes) -> bytes:
        if (way, count) != (direction, index):
            return octets
        return bytes([octets[0], octets[1] ^ 0x40]) + octets[2:] if becomes is None else becomes

    return damage
