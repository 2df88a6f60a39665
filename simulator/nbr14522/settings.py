"""What a meter is set to: everything that a write can change, as one frozen value.

A write makes a new value; the meter keeps the one in force and counts by it from then on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from protocols.nbr14522.messages import Constant, DayMonth, Season
from simulator.load.counting import ReactiveRule, SegmentTable

EXTENDED_HOLIDAYS = 82


@dataclass(frozen=True)
class GenericValues:
    """What 80 shows and 95 changes."""

    ke: Constant
    kh: Constant
    voltage_transformer: Constant
    current_transformer: Constant
    active_mode: int = 0
    reactive_mode: int = 0
    ke_reactive: Constant | None = None
    quantity_type: int = 0
    connection_type: int = 1
    user_output: int = 1
    kp: Constant | None = None


@dataclass(frozen=True)
class DaylightSaving:
    """Kept and shown. It moves nothing here: what real meters do to their count is not known (8.4, C)."""

    is_on: bool = False
    winter_end: DayMonth | None = None
    summer_end: DayMonth | None = None


@dataclass(frozen=True)
class MeterSettings:
    """All settings of one meter.

    Attributes:
        quantities: code of each channel; `constants` belongs to it, numerator and denominator.
        holidays: the 15 of command 32; None: the coming national ones.
        automatic_reset_day: None: off.
        shown_codes: display codes (79).
        presentation: three pairs (90).
    """

    memory_interval_s: int
    demand_interval_s: int
    previous_demand_interval_s: int
    quantities: tuple[int, ...]
    constants: tuple[tuple[int, int], ...]
    segments: SegmentTable
    reactive: ReactiveRule
    generic: GenericValues
    intermediate_starts: tuple[int, ...] = ()
    holidays: tuple[date | None, ...] | None = None
    extended_holidays: tuple[date, ...] = ()
    seasons: tuple[Season | None, ...] = (None,) * 5
    automatic_reset_day: int | None = None
    automatic_reset_hour: int = 0
    daylight_saving: DaylightSaving = DaylightSaving()
    shown_codes: frozenset[int] = frozenset({1, 2, 3, 4, 6, 8, 10, 12, 14, 23, 24, 31, 33, 88})
    presentation: tuple[int, ...] = (0x00,) * 6
    installation_code: str = ""
    installation_condition: int = 1
    nominal_voltage_v: float = 127.0
    nominal_frequency_hz: float = 60.0
