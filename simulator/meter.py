"""One simulated meter: what it is, what has happened to it, and what it holds at a given instant.

`now` is always an argument, so the same meter can be read in the past, in the present and by a test. What
commands change (demand resets, clock, log) is kept; all else follows from the specification. How the
quantities become octets is `simulator.answers`' business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

import numpy as np

from faults import DeveloperFault
from protocols.nbr14522.profile import ClockChange, MeterProfile, WordsUpTo
from protocols.nbr14522.profiles import DEFAULT
from simulator.clock import ClockModel
from simulator.counting import SEGMENTS, Counter, Dead, ReactiveRule, SegmentTable
from simulator.curves import CHANNELS, Floats, Ints, PulseSource
from simulator.grid import DAY_S, day_number, local_seconds, wall_clock

CODE_RESET, CODE_DATE, CODE_TIME, CODE_INITIALISATION = 0x20, 0x29, 0x30, 0x38
NO_READER = "000000"  # the meter's own doing


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
        source: the load, channel by channel: kWh, kvarh inductive, kvarh capacitive.
        started_at: when it was installed; memory and registers begin here. Naive: its own clock.
        pulse_constant: kWh (kvarh) per pulse of every channel, as the meter states it.
        base_totals: pulses per channel and segment on the registers at `started_at`.
        capacity_days: depth of the mass memory; the oldest interval falls out first.
        automatic_reset_day: day of the month on which it closes the billing period at 00:00; None: never.
        memory_cleared: instants at which the memory was lost (logged as an initialisation, code 38).
        reset_protection_s: a second reset within this time is refused with occurrence 45 (B).
        register_step: whether registers move at the end of each memory interval or with each pulse (C).
        occurrences: conditions that make it answer 40 until command 37 clears them.
        connection_type: reference 4.3: 1 star, 2 open delta.
        phase_voltage_v, rated_kw: nominal primary values behind the fiscal page.
    """

    serial: str
    source: PulseSource
    started_at: datetime
    clock: ClockModel
    pulse_constant: tuple[int, int] = (72, 10_000)
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
    phase_voltage_v: float = 127.0
    rated_kw: float = 0.0
    installation_code: str = ""
    model_code: int = 1681
    software_version: int = 7131

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


@dataclass(frozen=True)
class Change:
    """One entry of the change log: the command's code, who sent it, when (meter clock, local seconds)."""

    code: int
    reader: str
    at_s: int


@dataclass(frozen=True)
class Registers:
    """The register block of 23 or 24, in pulses; arrays of (channels,) or (channels, segments)."""

    totals: Ints
    last_demand: Ints
    maxima: Ints
    accumulated: Ints
    ufer: Ints
    dmcr: Ints
    accumulated_dmcr: Ints


@dataclass(frozen=True)
class Stretch:
    """Intervals `first` .. `stop - 1` of the mass memory."""

    first: int
    stop: int

    def __len__(self) -> int:
        return max(self.stop - self.first, 0)


@dataclass
class _Life:
    """What commands have changed since the meter was switched on."""

    clock: ClockModel
    resets: list[tuple[int, str]] = field(default_factory=list)
    cleared: list[int] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    occurrences: list[int] = field(default_factory=list)


class SimulatedMeter:
    """A meter's state. Interval numbers are those of `simulator.grid`."""

    def __init__(self, spec: MeterSpec) -> None:
        self.spec = spec
        self.interval_s = spec.source.interval_s
        self.per_demand = spec.demand_interval_s // self.interval_s
        self.first = int(-(-local_seconds(spec.started_at) // self.interval_s))
        self._life = _Life(spec.clock, occurrences=list(spec.occurrences))
        self._counter = Counter(
            spec.source,
            self.first,
            demand_interval_s=spec.demand_interval_s,
            segments=spec.segments,
            reactive=spec.reactive,
            dead=[Dead(int(local_seconds(o.start)), int(local_seconds(o.end))) for o in spec.outages],
        )

    # --- time -----------------------------------------------------------------------------------------

    def meter_seconds(self, now: datetime) -> int:
        """The meter's clock, local seconds."""
        return self._life.clock.meter_seconds(now)

    def meter_now(self, now: datetime) -> datetime:
        """The meter's clock as it shows it, naive."""
        return wall_clock(self.meter_seconds(now))

    def clock_error_s(self, now: datetime) -> float:
        """Meter minus true time."""
        return self._life.clock.error_s(now)

    def is_powered(self, now: datetime) -> bool:
        """False during an outage: a meter without supply does not answer."""
        at = self.meter_seconds(now)
        return not any(local_seconds(o.start) <= at < local_seconds(o.end) for o in self.spec.outages)

    def memory_stop(self, now: datetime) -> int:
        """Number of the interval now running: all before it are complete."""
        return self.meter_seconds(now) // self.interval_s

    def demand_stop(self, now: datetime) -> int:
        """The same, cut to the end of the last complete demand interval."""
        stop = self.memory_stop(now)
        return stop - stop % self.per_demand

    def seconds(self, interval: int) -> int:
        """Local seconds at which an interval begins, which is where the one before it ended."""
        return interval * self.interval_s

    # --- billing periods ------------------------------------------------------------------------------

    def resets(self, now: datetime) -> list[tuple[int, str]]:
        """Demand resets so far, oldest first: border (interval number) and reader; the own ones included."""
        return sorted([*self._automatic_resets(self.memory_stop(now)), *self._life.resets])

    def periods(self, now: datetime) -> tuple[int, int]:
        """Where the previous and the current billing period begin (both `first` before any reset)."""
        borders = [border for border, _ in self.resets(now)]
        return (
            borders[-2] if len(borders) > 1 else self.first,
            borders[-1] if borders else self.first,
        )

    def reset_demand(self, now: datetime, reader: str) -> bool:
        """Close the billing period, booked back to the last complete demand interval (reference 3.2).

        Returns:
            False where the meter refuses: inside the protection time. A second reset on one border, as a
            repeated command makes it, closes nothing and is no refusal.
        """
        border = self.demand_stop(now)
        last = max((b for b, _ in self.resets(now)), default=None)
        protection_s = self.spec.reset_protection_s
        if last is not None and protection_s and self.meter_seconds(now) - self.seconds(last) < protection_s:
            return False
        self._close_period(border, reader, now)
        return True

    def _close_period(self, border: int, reader: str, now: datetime) -> None:
        if border > self.first and all(border != known for known, _ in self.resets(now)):
            self._life.resets.append((border, reader))

    # --- mass memory ----------------------------------------------------------------------------------

    def whole_memory(self, now: datetime, limit_intervals: int | None = None) -> Stretch:
        """All that 52 gives: since the memory began, or its newest `limit_intervals`."""
        stop = self.memory_stop(now)
        first = self._memory_first(now)
        if limit_intervals is not None:
            first = max(first, stop - limit_intervals)
        return Stretch(first, stop)

    def current_period(self, now: datetime) -> Stretch:
        """All that 26 gives: up to the interval that o13-18 names as its end."""
        by_demand = self.spec.profile.words_up_to is WordsUpTo.DEMAND_INTERVAL
        stop = self.demand_stop(now) if by_demand else self.memory_stop(now)
        return Stretch(max(self.periods(now)[1], self._memory_first(now)), stop)

    def previous_period(self, now: datetime) -> Stretch:
        """All that 27 gives."""
        previous, current = self.periods(now)
        return Stretch(max(previous, self._memory_first(now)), current)

    def pulses(self, stretch: Stretch) -> Ints:
        """Words of a stretch, shape (intervals, 3)."""
        return self._counter.pulses(stretch.first, max(stretch.stop, stretch.first))

    # --- registers ------------------------------------------------------------------------------------

    def current_registers(self, now: datetime) -> Registers:
        """What 23 shows."""
        stop = self.memory_stop(now)
        registers = self._registers(now, self.periods(now)[1], stop, len(self.resets(now)))
        if self.spec.register_step == "pulse":
            running = self._counter.pulses(stop, stop + 1)[0]
            elapsed = self.meter_seconds(now) - self.seconds(stop)
            registers.totals[:, self._counter.segment(stop)] += running * elapsed // self.interval_s
        return registers

    def reset_registers(self, now: datetime) -> Registers:
        """What 24 shows: the state at the last reset."""
        previous, current = self.periods(now)
        return self._registers(now, previous, current, max(len(self.resets(now)) - 1, 0))

    def _registers(self, now: datetime, period_first: int, stop: int, resets_before: int) -> Registers:
        total = self._counter.summary(self.first, stop)
        period = self._counter.summary(period_first, stop)
        accumulated = np.zeros((CHANNELS, SEGMENTS), dtype=np.int64)
        accumulated_dmcr: Floats = np.zeros(SEGMENTS)
        start = self.first
        for border, _ in self.resets(now)[:resets_before]:
            closed = self._counter.summary(start, border)
            accumulated = accumulated + closed.maxima
            accumulated_dmcr = accumulated_dmcr + np.floor(closed.dmcr)
            start = border
        return Registers(
            totals=total.totals + np.array(self.spec.base_totals, dtype=np.int64),
            last_demand=self._counter.demand(stop),
            maxima=period.maxima,
            accumulated=accumulated,
            ufer=_whole(total.ufer),
            dmcr=_whole(period.dmcr),
            accumulated_dmcr=_whole(accumulated_dmcr),
        )

    # --- what was recorded ----------------------------------------------------------------------------

    def outages(self, now: datetime) -> list[Outage]:
        """Power failures that are over, oldest first."""
        at = self.meter_seconds(now)
        over = [o for o in self.spec.outages if local_seconds(o.end) <= at]
        return sorted(over, key=lambda o: o.start)

    def changes(self, now: datetime) -> list[Change]:
        """The whole change log, oldest first; a reset stands at its border, not at its command."""
        at = self.meter_seconds(now)
        resets = [Change(CODE_RESET, reader, self.seconds(border)) for border, reader in self.resets(now)]
        cleared = [
            Change(CODE_INITIALISATION, NO_READER, int(local_seconds(instant)))
            for instant in self.spec.memory_cleared
            if local_seconds(instant) <= at
        ]
        return sorted([*resets, *cleared, *self._life.changes], key=lambda change: change.at_s)

    # --- what commands do -----------------------------------------------------------------------------

    def occurrences(self) -> list[int]:
        """Conditions that wait to be cleared."""
        return list(self._life.occurrences)

    def clear_occurrence(self, code: int) -> bool:
        """Command 37; False where no such condition waits."""
        if code not in self._life.occurrences:
            return False
        self._life.occurrences.remove(code)
        return True

    def set_date(self, day: date, now: datetime, reader: str) -> None:
        """Command 29: the time of day stays."""
        self._set_clock(day_number(day) * DAY_S + self.meter_seconds(now) % DAY_S, now, CODE_DATE, reader)

    def set_time(self, seconds_of_day: int, now: datetime, reader: str) -> None:
        """Command 30: the date stays."""
        before = self.meter_seconds(now)
        self._set_clock(before - before % DAY_S + seconds_of_day, now, CODE_TIME, reader)

    def initialise(self, now: datetime, reader: str) -> None:
        """Command 38: the memory begins anew; registers go on (C: no source says)."""
        at = self.meter_seconds(now)
        self._life.cleared.append(at)
        self._life.changes.append(Change(CODE_INITIALISATION, reader, at))

    def _set_clock(self, target_s: int, now: datetime, code: int, reader: str) -> None:
        """The words keep to the calendar (C): what a step forward leaves out reads zero, what a step back
        goes through again is counted once."""
        if self.spec.profile.clock_change is ClockChange.CLOSE_PERIOD:
            self._close_period(self.demand_stop(now), reader, now)
        before = self.meter_seconds(now)
        if target_s > before:
            self._counter.add_dead(Dead(before, target_s))
        self._life.clock = self._life.clock.set_to(target_s, now)
        self._life.changes.append(Change(code, reader, target_s))

    # --- helpers --------------------------------------------------------------------------------------

    def power(self, now: datetime) -> tuple[float, float]:
        """Mean kW and kvar of the running interval; nothing while the supply is gone."""
        if not self.is_powered(now):
            return 0.0, 0.0
        return self.spec.source.load(self.memory_stop(now))

    def _memory_first(self, now: datetime) -> int:
        at = self.meter_seconds(now)
        spec_cleared = [local_seconds(instant) for instant in self.spec.memory_cleared]
        cleared = [s for s in (*spec_cleared, *self._life.cleared) if s <= at]
        capacity = self.spec.capacity_days * DAY_S // self.interval_s
        begins = [self.first, self.memory_stop(now) - capacity]
        begins.extend(int(-(-s // self.interval_s)) for s in cleared)
        return max(begins)

    def _automatic_resets(self, stop: int) -> Iterator[tuple[int, str]]:
        reset_day = self.spec.automatic_reset_day
        if reset_day is None:
            return
        month = wall_clock(self.seconds(self.first)).date().replace(day=1)
        while True:
            border = day_number(month.replace(day=reset_day)) * DAY_S // self.interval_s
            if border > stop:
                return
            if border > self.first:
                yield border, NO_READER
            month = date(month.year + month.month // 12, month.month % 12 + 1, 1)


def _whole(values: Floats) -> Ints:
    return np.floor(values).astype(np.int64)
