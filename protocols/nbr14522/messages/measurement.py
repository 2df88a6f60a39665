"""Answer to 80: measurement parameters (section 5.5, B except the presentation modes)."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.nbr14522.messages.base import Response
from protocols.nbr14522.messages.codecs import Bcd, Clock, Octet, Raw, Text
from protocols.nbr14522.messages.layout import Part, at
from protocols.nbr14522.messages.parameters import UNUSED_START, Constant, Starts


@dataclass(frozen=True, kw_only=True)
class MeasurementParameters(Response):
    """Answer to 80.

    `presentation_modes`: demand and totals of channels 1, 2, 3, then one more; high nibble decimals 0-3, low
    nibble 0 pulses, 1 unit, 2 kilo, 3 mega. The universal segments (14-141) are kept raw.
    """

    presentation_modes: tuple[int | None, ...] = at(6, Octet(), 7)
    universal_segment_condition: int | None = at(13, Octet())
    universal_segments: bytes | None = at(14, Raw(128))
    ke: Constant | None = at(142, Part(Constant))
    kh: Constant | None = at(148, Part(Constant))
    voltage_transformer: Constant | None = at(154, Part(Constant))
    current_transformer: Constant | None = at(160, Part(Constant))
    active_mode: int | None = at(166, Octet())
    reactive_mode: int | None = at(167, Octet())
    ke_reactive: Constant | None = at(168, Part(Constant))
    display_time_s: int | None = at(174, Bcd(1))
    intermediate_starts: Starts = at(176, Clock(2), 4, UNUSED_START)
    intermediate_validity: tuple[int | None, ...] = at(184, Octet(), 8)
    daylight_saving_segments: int | None = at(192, Octet())
    billing_quantities: int | None = at(193, Octet())
    has_instantaneous: int | None = at(194, Octet())
    connection_type: int | None = at(195, Octet())
    user_output: int | None = at(196, Octet())
    kp: Constant | None = at(197, Part(Constant))
    installation_code: str | None = at(203, Text(14))
