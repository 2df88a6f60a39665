"""Answer to 20, 21, 22 and 51: the parameters of one channel group (section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time
from fractions import Fraction

from protocols.nbr14522.messages.base import Response
from protocols.nbr14522.messages.codecs import Bcd, Clock, Date, Digits, Flag, Octet, Raw, TimeDate
from protocols.nbr14522.messages.layout import Part, Table, at

UNUSED_START = b"\x99\x00"

Starts = tuple[time | None, ...]


@dataclass(frozen=True, kw_only=True)
class DayMonth(Table):
    """A day of the year."""

    SIZE = 2

    day: int | None = at(1, Bcd(1))
    month: int | None = at(2, Bcd(1))


@dataclass(frozen=True, kw_only=True)
class Constant(Table):
    """A channel constant: engineering units of one pulse as numerator / denominator."""

    SIZE = 6

    numerator: int | None = at(1, Bcd(3))
    denominator: int | None = at(4, Bcd(3))

    @property
    def fraction(self) -> Fraction | None:
        """The exact value, or None where it was not readable or the denominator is zero."""
        if self.numerator is None or not self.denominator:
            return None
        return Fraction(self.numerator, self.denominator)


@dataclass(frozen=True, kw_only=True)
class Parameters(Response):
    """Answer to 20, 21, 22, 51. Fields in octet order; see section 3.1 for the confidence of each.

    `last_interval_end` is the end of the last demand interval, for 51 of the last memory interval.
    `words_current` is o75-77: words of the running period, for 51 of the whole memory.
    """

    meter_time: datetime | None = at(6, TimeDate())
    weekday: int | None = at(12, Bcd(1))
    last_interval_end: datetime | None = at(13, TimeDate())
    last_reset: datetime | None = at(19, TimeDate())
    previous_reset: datetime | None = at(25, TimeDate())
    former_fields: bytes | None = at(31, Raw(20))
    peak_starts: Starts = at(51, Clock(2), 4, UNUSED_START)
    off_peak_starts: Starts = at(59, Clock(2), 4, UNUSED_START)
    reserved_starts: Starts = at(67, Clock(2), 4, UNUSED_START)
    words_current: int | None = at(75, Bcd(3))
    words_previous: int | None = at(78, Bcd(3))
    reset_count: int | None = at(81, Bcd(1))
    demand_interval_min: int | None = at(82, Bcd(1))
    previous_demand_interval_min: int | None = at(83, Bcd(1))
    holidays: tuple[date | None, ...] = at(84, Date(), 15)
    constants: tuple[Constant | None, ...] = at(129, Part(Constant), 3)
    has_battery_problem: bool | None = at(147, Flag())
    software_version: str | None = at(148, Digits(2))
    is_reserved_segment_on: bool | None = at(150, Flag())
    demand_calculation: int | None = at(151, Octet())
    model: str | None = at(153, Digits(2))
    additional_codes_channel_2: int | None = at(155, Octet())
    is_automatic_reset_on: bool | None = at(156, Flag())
    automatic_reset_day: int | None = at(157, Bcd(1))
    is_daylight_saving_on: bool | None = at(158, Flag())
    winter_end: DayMonth | None = at(159, Part(DayMonth, empty_is_none=True))
    summer_end: DayMonth | None = at(161, Part(DayMonth, empty_is_none=True))
    second_set_flag: int | None = at(163, Octet())
    set_starts: tuple[DayMonth | None, ...] = at(164, Part(DayMonth, empty_is_none=True), 4)
    peak_starts_set_2: Starts = at(172, Clock(2), 4, UNUSED_START)
    off_peak_starts_set_2: Starts = at(180, Clock(2), 4, UNUSED_START)
    reserved_starts_set_2: Starts = at(188, Clock(2), 4, UNUSED_START)
    quantities: tuple[int | None, ...] = at(196, Bcd(1), 3)
    power_factor_composition: str | None = at(199, Digits(1))
    time_base: int | None = at(200, Octet())
    memory_interval_min: int | None = at(204, Bcd(1))
    memory_interval_extra_s: int | None = at(205, Bcd(1))
    memory_interval_extra_hundredths: int | None = at(206, Bcd(1))
    pulse_reversal: int | None = at(207, Octet())
    saturday_segments: int | None = at(210, Bcd(1))
    sunday_segments: int | None = at(211, Bcd(1))
    holiday_segments: int | None = at(212, Bcd(1))
    tariff: int | None = at(213, Bcd(1))
    reactive_energy_interval_min: int | None = at(214, Bcd(2))
    reactive_demand_interval_min: int | None = at(216, Bcd(2))
    reference_power_factor_inductive_pct: int | None = at(218, Bcd(1))
    reference_power_factor_capacitive_pct: int | None = at(219, Bcd(1))
    inductive_starts: Starts = at(220, Clock(2), 2, UNUSED_START)
    capacitive_starts: Starts = at(224, Clock(2), 2, UNUSED_START)
    inductive_starts_set_2: Starts = at(228, Clock(2), 2, UNUSED_START)
    capacitive_starts_set_2: Starts = at(232, Clock(2), 2, UNUSED_START)
    reactive_validity: str | None = at(236, Digits(2))
    """Four codes: working days, Saturdays, Sundays, holidays."""
    segment_count: int | None = at(238, Bcd(1))
    has_command_80: bool | None = at(240, Flag())
    user_output: int | None = at(241, Octet())
    upgrade_flag: int | None = at(242, Octet())
    synchronism_interval_h: int | None = at(243, Octet())
    time_zone: int | None = at(244, Octet())
    has_password: bool | None = at(245, Flag())
    has_command_14: bool | None = at(246, Flag())
    group_count: int | None = at(247, Bcd(1))
    automatic_reset_hour: int | None = at(249, Octet())
    flags: bytes | None = at(253, Raw(4))

    @property
    def memory_interval_s(self) -> int | None:
        """Length of a memory interval in seconds; None if unreadable, zero or not whole seconds."""
        if self.memory_interval_min is None or self.memory_interval_extra_s is None:
            return None
        if self.memory_interval_extra_hundredths:
            return None
        return self.memory_interval_min * 60 + self.memory_interval_extra_s or None

    @property
    def memory_word_count(self) -> int | None:
        """Words that the memory command belonging to this answer brings: 27 after 22, else 26 or 52."""
        return self.words_previous if self.code == 0x22 else self.words_current
