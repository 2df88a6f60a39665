"""Profiles of meters that speak by themselves: what the registry writes as a meter model's profile. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from protocols.celesc.catalogue import CelescMeter, meters
from protocols.ssu import Format

SSU, CELESC = "ssu", "celesc"
# ssu.md 1: 110 bit/s for normal and extended, 600 for mixed (one source).
SSU_RATE_BIT_S, MIXED_RATE_BIT_S = 110, 600


@dataclass(frozen=True, slots=True)
class StreamProfile:
    """One way of speaking.

    Attributes:
        formats: of SSU blocks; more than one: found out from the stream.
        meter: the model in CELESC's catalogue.
        rate_bit_s: of a serial port whose URL names none.
    """

    name: str
    protocol: str
    rate_bit_s: int
    formats: tuple[Format, ...] = ()
    meter: CelescMeter | None = None


_SSU = (
    StreamProfile("ssu", SSU, SSU_RATE_BIT_S, (Format.NORMAL, Format.EXTENDED)),
    StreamProfile("ssu-normal", SSU, SSU_RATE_BIT_S, (Format.NORMAL,)),
    StreamProfile("ssu-extended", SSU, SSU_RATE_BIT_S, (Format.EXTENDED,)),
    StreamProfile("ssu-mixed", SSU, MIXED_RATE_BIT_S, (Format.MIXED,)),
)

STREAM_PROFILES: Mapping[str, StreamProfile] = {
    profile.name: profile
    for profile in (
        *_SSU,
        *(StreamProfile(one.profile, CELESC, one.rate_bit_s, meter=one) for one in meters().values()),
    )
}
