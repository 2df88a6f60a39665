"""What a simulated meter is, before anybody talks to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from faults import DeveloperFault
from protocols.nbr14522.messages import Constant
from protocols.nbr14522.profile import MeterProfile
from protocols.nbr14522.profiles import DEFAULT
from simulator.load.clock import ClockModel
from simulator.load.counting import ReactiveRule, SegmentTable
from simulator.load.curves import CHANNELS, PulseSource
from simulator.load.grid import DAY_S
from simulator.nbr14522.passwords import PasswordRules
from simulator.nbr14522.settings import GenericValues, MeterSettings

PhaseSequence = Literal["ABC", "CBA"]


@dataclass(frozen=True)
class Outage:
    """The supply failed between two instants of the meter's clock."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class MeterSpec:
    """What a meter is, before anybody talks to it.

    Args:
        serial: eight digits.
        source: the load, channel by channel.
        started_at: when it was installed; memory and registers begin here. Naive: its own clock.
        pulse_constant: kWh (kvarh) per pulse of every channel, as the meter states it.
        channel_constants: the same channel by channel, where they differ.
        base_totals: pulses per channel and segment on the registers at `started_at`.
        capacity_days: depth of the mass memory; the oldest interval falls out first.
        automatic_reset_day: day of the month on which it closes the billing period at 00:00; None: never.
        memory_cleared: instants at which the memory was lost (logged as an initialisation, code 38).
        reset_protection_s: a second reset within this time is refused with occurrence 45 (B).
        register_step: whether registers move at the end of each memory interval or with each pulse (C).
        occurrences: conditions that make it answer 40 until command 37 clears them.
        connection_type: reference 4.3: 1 star, 2 open delta.
        phase_sequence: order in which the voltages follow one another at the meter's terminals.
        phase_voltage_v, rated_kw: nominal primary values behind the fiscal page.
        passwords: None: it has none.
        micro_adjust_ppm: how much faster or slower its clock runs while a fine adjustment is made up (C).
    """

    serial: str
    source: PulseSource
    started_at: datetime
    clock: ClockModel
    pulse_constant: tuple[int, int] = (72, 10_000)
    channel_constants: tuple[tuple[int, int], ...] = ()
    base_totals: tuple[tuple[int, int, int], ...] = ((0, 0, 0),) * CHANNELS
    profile: MeterProfile = DEFAULT
    demand_interval_s: int = 900
    capacity_days: int = 140
    automatic_reset_day: int | None = 1
    segments: SegmentTable = field(default_factory=SegmentTable)
    reactive: ReactiveRule = field(default_factory=ReactiveRule)
    outages: tuple[Outage, ...] = ()
    memory_cleared: tuple[datetime, ...] = ()
    reset_protection_s: int = 0
    register_step: Literal["memory_interval", "pulse"] = "memory_interval"
    occurrences: tuple[int, ...] = ()
    tp_ratio: tuple[int, int] = (1, 1)
    tc_ratio: tuple[int, int] = (1, 1)
    connection_type: int = 1
    phase_sequence: PhaseSequence = "ABC"
    phase_voltage_v: float = 127.0
    rated_kw: float = 0.0
    installation_code: str = ""
    model_code: int = 1681
    software_version: int = 7131
    passwords: PasswordRules | None = None
    micro_adjust_ppm: float = 10_000.0

    def __post_init__(self) -> None:
        step = self.source.interval_s
        if self.demand_interval_s % step or DAY_S % self.demand_interval_s:
            raise DeveloperFault(
                f"a demand interval of {self.demand_interval_s} s over memory intervals of {step} s",
                where=f"meter {self.serial}",
                remedy="choose whole multiples that divide the day",
            )
        if self.automatic_reset_day is not None and not 1 <= self.automatic_reset_day <= 28:
            raise DeveloperFault(
                f"automatic reset on day {self.automatic_reset_day}",
                where=f"meter {self.serial}",
                remedy="choose 1 to 28: a day that every month has",
            )
        channels = len(self.source.quantities)
        if channels % CHANNELS or (self.channel_constants and len(self.channel_constants) != channels):
            raise DeveloperFault(
                f"{channels} channels with {len(self.channel_constants)} constants",
                where=f"meter {self.serial}",
                remedy="give channels in groups of three, and a constant for each or for none",
            )

    def settings(self) -> MeterSettings:
        """What the meter is set to when it is switched on."""
        one = Constant(numerator=1, denominator=1)
        constants = self.channel_constants or (self.pulse_constant,) * len(self.source.quantities)
        return MeterSettings(
            memory_interval_s=self.source.interval_s,
            demand_interval_s=self.demand_interval_s,
            previous_demand_interval_s=self.demand_interval_s,
            quantities=self.source.quantities,
            constants=constants,
            segments=self.segments,
            reactive=self.reactive,
            generic=GenericValues(
                ke=Constant(numerator=self.pulse_constant[0], denominator=self.pulse_constant[1]),
                kh=one,
                voltage_transformer=Constant(numerator=self.tp_ratio[0], denominator=self.tp_ratio[1]),
                current_transformer=Constant(numerator=self.tc_ratio[0], denominator=self.tc_ratio[1]),
                connection_type=self.connection_type,
            ),
            automatic_reset_day=self.automatic_reset_day,
            installation_code=self.installation_code.rjust(14)[-14:],
            nominal_voltage_v=self.phase_voltage_v,
        )
