"""Profiles by name. A new kind of meter is a new entry here: data, no code."""

from __future__ import annotations

from faults import OperatorFault
from protocols.nbr14522.frames import Addressing
from protocols.nbr14522.profile import READ_COMMANDS, WRITE_COMMANDS, MeterProfile

DEFAULT = MeterProfile(
    name="default",
    description="A current meter alone on its line, or behind a transparent gateway: all read commands.",
)

OLD_3CH = MeterProfile(
    name="old-3ch",
    description="An outdated meter: three channels, no reverse registers, no 14, 51, 52, 80.",
    commands=(READ_COMMANDS | WRITE_COMMANDS) - {0x14, 0x51, 0x52, 0x80},
    has_reverse_channels=False,
)

P8_GENERIC = MeterProfile(
    name="p8-generic",
    description="A meter addressed by its eight-digit serial: no ENQ, no ACK, hand-shake in o5.",
    addressing=Addressing.P8,
)

P2_GENERIC = MeterProfile(
    name="p2-generic",
    description="A meter behind a remote with a two-digit address, CRC-16/MODBUS around both frames.",
    addressing=Addressing.P2,
)

PROFILES: dict[str, MeterProfile] = {
    profile.name: profile for profile in (DEFAULT, OLD_3CH, P8_GENERIC, P2_GENERIC)
}


def profile_named(name: str) -> MeterProfile:
    """The profile of that name.

    Raises:
        OperatorFault: there is none.
    """
    if name not in PROFILES:
        known = ", ".join(sorted(PROFILES))
        raise OperatorFault(f"no meter profile {name!r}", where="profile", remedy=f"use one of: {known}")
    return PROFILES[name]
