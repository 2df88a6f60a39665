"""Answer to 23 and 24: energy and demand registers of the three visible channels (section 5.1).

All values are pulses (of the channel's own constant): energy is pulses x constant; a demand counts the pulses
of one demand interval, a DMCR those of one *reactive* demand interval. On channels 2 and 3 the slots
named UFER and DMCR may hold reverse quantities; which applies depends on the channel's quantity (C).
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.nbr14522.messages.base import Response
from protocols.nbr14522.messages.codecs import Bcd
from protocols.nbr14522.messages.layout import Part, Table, at


@dataclass(frozen=True, kw_only=True)
class ChannelRegisters(Table):
    """The 74 octets of one channel."""

    SIZE = 74

    total_pulses: int | None = at(1, Bcd(5))
    peak_pulses: int | None = at(6, Bcd(5))
    ufer_peak_pulses: int | None = at(11, Bcd(5))
    off_peak_pulses: int | None = at(16, Bcd(5))
    ufer_off_peak_pulses: int | None = at(21, Bcd(5))
    reserved_pulses: int | None = at(26, Bcd(5))
    ufer_reserved_pulses: int | None = at(31, Bcd(5))
    last_demand_pulses: int | None = at(36, Bcd(3))
    max_demand_peak_pulses: int | None = at(39, Bcd(3))
    dmcr_peak_pulses: int | None = at(42, Bcd(3))
    max_demand_off_peak_pulses: int | None = at(45, Bcd(3))
    dmcr_off_peak_pulses: int | None = at(48, Bcd(3))
    max_demand_reserved_pulses: int | None = at(51, Bcd(3))
    dmcr_reserved_pulses: int | None = at(54, Bcd(3))
    accumulated_demand_peak_pulses: int | None = at(57, Bcd(3))
    accumulated_dmcr_peak_pulses: int | None = at(60, Bcd(3))
    accumulated_demand_off_peak_pulses: int | None = at(63, Bcd(3))
    accumulated_dmcr_off_peak_pulses: int | None = at(66, Bcd(3))
    accumulated_demand_reserved_pulses: int | None = at(69, Bcd(3))
    accumulated_dmcr_reserved_pulses: int | None = at(72, Bcd(3))


@dataclass(frozen=True, kw_only=True)
class Registers(Response):
    """Answer to 23 (now) and 24 (last reset). The intermediate segment belongs to channel 1 only (B)."""

    channels: tuple[ChannelRegisters | None, ...] = at(6, Part(ChannelRegisters), 3)
    intermediate_total_pulses: int | None = at(228, Bcd(5))
    intermediate_ufer_pulses: int | None = at(233, Bcd(5))
    intermediate_max_demand_pulses: int | None = at(238, Bcd(3))
    intermediate_dmcr_pulses: int | None = at(241, Bcd(3))
    intermediate_accumulated_demand_pulses: int | None = at(244, Bcd(3))
    intermediate_accumulated_dmcr_pulses: int | None = at(247, Bcd(3))
