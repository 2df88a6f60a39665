"""One simulated meter: what has happened to it, and what it holds at a given instant.

`now` is always an argument, so the same meter can be read in the past, in the present and by a test. What
commands change (demand resets, clock, settings, log) is kept; all else follows from the specification. How
the quantities become octets is `simulator.answers`' business, what a write means `simulator.writes`'.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime

import numpy as np

from protocols.nbr14522.profile import ClockChange, WordsUpTo
from simulator.load.channels import ChannelLoad
from simulator.load.clock import ClockModel
from simulator.load.counting import SEGMENTS, Dead
from simulator.load.curves import Floats, Ints, PulseSource
from simulator.load.grid import DAY_S, day_number, local_seconds, wall_clock
from simulator.nbr14522.history import CountingRules, History
from simulator.nbr14522.settings import MeterSettings
from simulator.nbr14522.spec import MeterSpec, Outage

CODE_RESET, CODE_DATE, CODE_TIME, CODE_INITIALISATION = 0x20, 0x29, 0x30, 0x38
NO_READER = "000000"  # the meter's own doing
HOUR_S = 3_600


@dataclass(frozen=True)
class Change:
    """One entry of the change log: the command's code, who sent it, when (meter clock, local seconds).

    Extended changes, of command 98, are kept by its sub-code in a list of their own.
    """

    code: int
    reader: str
    at_s: int
    is_extended: bool = False


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


@dataclass(frozen=True)
class _ResetRule:
    """When the meter closes the period by itself, from `from_s` on."""

    from_s: int
    day: int | None
    hour: int


@dataclass
class _Life:
    """What commands have changed since the meter was switched on. Borders are local seconds."""

    clock: ClockModel
    settings: MeterSettings
    source: PulseSource
    reset_rules: list[_ResetRule]
    resets: list[tuple[int, str]] = field(default_factory=list)
    cleared: list[int] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    occurrences: list[int] = field(default_factory=list)


class SimulatedMeter:
    """A meter's state. Interval numbers are those of `simulator.grid`, in the grid now in force."""

    def __init__(self, spec: MeterSpec) -> None:
        self.spec = spec
        step_s = spec.source.interval_s
        self._first_s = int(-(-local_seconds(spec.started_at) // step_s)) * step_s
        settings = spec.settings()
        self._life = _Life(
            spec.clock,
            settings,
            spec.source,
            [_ResetRule(self._first_s, settings.automatic_reset_day, settings.automatic_reset_hour)],
            occurrences=list(spec.occurrences),
        )
        dead = [Dead(int(local_seconds(o.start)), int(local_seconds(o.end))) for o in spec.outages]
        self._history = History(self._first_s, self._rules(settings), dead)
        self._wrong_passwords = 0

    @property
    def is_locked(self) -> bool:
        """Whether so many wrong passwords came that no session can be opened any more."""
        rules = self.spec.passwords
        return rules is not None and self._wrong_passwords >= rules.tries

    def note_password(self, *, is_right: bool) -> None:
        """Count wrong passwords in a row."""
        self._wrong_passwords = 0 if is_right else self._wrong_passwords + 1

    @property
    def settings(self) -> MeterSettings:
        """What the meter is set to now."""
        return self._life.settings

    @property
    def interval_s(self) -> int:
        """Length of a memory interval."""
        return self._life.settings.memory_interval_s

    @property
    def channels(self) -> int:
        return len(self._life.settings.quantities)

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

    def demand_stop_s(self, now: datetime) -> int:
        """End of the last complete demand interval, local seconds."""
        at, step_s = self.meter_seconds(now), self._life.settings.demand_interval_s
        return at // step_s * step_s

    # --- billing periods ------------------------------------------------------------------------------

    def resets(self, now: datetime) -> list[tuple[int, str]]:
        """Demand resets so far, oldest first: border (local seconds) and reader; the own ones included."""
        return sorted([*self._automatic_resets(self.meter_seconds(now)), *self._life.resets])

    def periods(self, now: datetime) -> tuple[int, int]:
        """Where the previous and the current billing period begin, local seconds (both the meter's own
        beginning before any reset)."""
        borders = [border for border, _ in self.resets(now)]
        return (
            borders[-2] if len(borders) > 1 else self._first_s,
            borders[-1] if borders else self._first_s,
        )

    def reset_demand(self, now: datetime, reader: str) -> bool:
        """Close the billing period, booked back to the last complete demand interval (reference 3.2).

        Returns:
            False where the meter refuses: inside the protection time. A second reset on one border, as a
            repeated command makes it, closes nothing and is not a refusal.
        """
        last = max((b for b, _ in self.resets(now)), default=None)
        protection_s = self.spec.reset_protection_s
        if last is not None and protection_s and self.meter_seconds(now) - last < protection_s:
            return False
        self._close_period(self.demand_stop_s(now), reader, now)
        return True

    def _close_period(self, border: int, reader: str, now: datetime) -> None:
        if border > self._first_s and all(border != known for known, _ in self.resets(now)):
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
        stop = self.demand_stop_s(now) // self.interval_s if by_demand else self.memory_stop(now)
        return Stretch(max(self.periods(now)[1] // self.interval_s, self._memory_first(now)), stop)

    def previous_period(self, now: datetime) -> Stretch:
        """All that 27 gives."""
        previous, current = (border // self.interval_s for border in self.periods(now))
        return Stretch(max(previous, self._memory_first(now)), current)

    def pulses(self, stretch: Stretch) -> Ints:
        """Words of a stretch, shape (intervals, channels)."""
        return self._history.pulses(stretch.first, max(stretch.stop, stretch.first))

    # --- registers ------------------------------------------------------------------------------------

    def current_registers(self, now: datetime) -> Registers:
        """What 23 shows."""
        stop_s = self._history.counted_until_s(self.meter_seconds(now))
        registers = self._registers(now, self.periods(now)[1], stop_s, len(self.resets(now)))
        if self.spec.register_step == "pulse":
            stop = self.memory_stop(now)
            running = self._history.pulses(stop, stop + 1)[0]
            elapsed = self.meter_seconds(now) - stop * self.interval_s
            registers.totals[:, self._history.segment(stop)] += running * elapsed // self.interval_s
        return registers

    def reset_registers(self, now: datetime) -> Registers:
        """What 24 shows: the state at the last reset."""
        previous, current = self.periods(now)
        return self._registers(now, previous, current, max(len(self.resets(now)) - 1, 0))

    def _registers(self, now: datetime, period_s: int, stop_s: int, resets_before: int) -> Registers:
        total = self._history.summary(self._first_s, stop_s)
        period = self._history.summary(period_s, stop_s)
        accumulated = np.zeros((self.channels, SEGMENTS), dtype=np.int64)
        accumulated_dmcr: Floats = np.zeros(SEGMENTS)
        start_s = self._first_s
        for border, _ in self.resets(now)[:resets_before]:
            closed = self._history.summary(start_s, border)
            accumulated = accumulated + closed.maxima
            accumulated_dmcr = accumulated_dmcr + np.floor(closed.dmcr)
            start_s = border
        base = np.zeros((self.channels, SEGMENTS), dtype=np.int64)
        known = self.spec.base_totals[: self.channels]
        base[: len(known)] = known
        return Registers(
            totals=total.totals + base,
            last_demand=self._history.demand(stop_s // self.interval_s),
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
        resets = [Change(CODE_RESET, reader, border) for border, reader in self.resets(now)]
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

    def set_clock(self, meter_seconds: int, now: datetime, reader: str) -> None:
        """Date and time at once, as DLMS has it."""
        self._set_clock(meter_seconds, now, CODE_TIME, reader)

    def adjust_clock(self, seconds: float, now: datetime) -> None:
        """Fine adjustment: the clock makes up so many seconds (negative: backwards) little by little."""
        self._life.clock = self._life.clock.adjusted_by(seconds, now, self.spec.micro_adjust_ppm)

    def initialise(self, now: datetime, reader: str) -> None:
        """Command 38: the memory begins anew; registers go on (C: no source says)."""
        self._life.cleared.append(self.meter_seconds(now))
        self.log(CODE_INITIALISATION, now, reader)

    def log(self, code: int, now: datetime, reader: str, *, is_extended: bool = False) -> None:
        """Enter a change into the log of 28."""
        self._life.changes.append(Change(code, reader, self.meter_seconds(now), is_extended))

    def change_settings(self, new: MeterSettings, now: datetime) -> bool:
        """Count and answer by these settings from now on (see `History.change`).

        Returns:
            False where the meter cannot: its load is not known in such intervals or on such channels, or
            the intervals do not fit each other.
        """
        old, old_rules = self._life.settings, self._rules(self._life.settings)
        demand_s, memory_s = new.demand_interval_s, new.memory_interval_s
        if memory_s <= 0 or DAY_S % memory_s or HOUR_S % memory_s or demand_s % memory_s or DAY_S % demand_s:
            return False
        if (new.memory_interval_s, new.quantities) != (old.memory_interval_s, old.quantities):
            source = self._life.source.variant(interval_s=memory_s, quantities=new.quantities)
            if source is None:
                return False
            self._life.source = source
        at_s = self.meter_seconds(now)
        if (new.automatic_reset_day, new.automatic_reset_hour) != (
            old.automatic_reset_day,
            old.automatic_reset_hour,
        ):
            rule = _ResetRule(at_s, new.automatic_reset_day, new.automatic_reset_hour)
            self._life.reset_rules.append(rule)
        self._life.settings = new
        rules = self._rules(new)
        if rules != old_rules:
            self._history.change(at_s, rules)
        return True

    def _set_clock(self, target_s: int, now: datetime, code: int, reader: str) -> None:
        """The words keep to the calendar (C): what a step forward leaves out reads zero, what a step back
        goes through again is counted once."""
        if self.spec.profile.clock_change is ClockChange.CLOSE_PERIOD:
            self._close_period(self.demand_stop_s(now), reader, now)
        before = self.meter_seconds(now)
        if target_s > before:
            self._history.add_dead(Dead(before, target_s))
        self._life.clock = self._life.clock.set_to(target_s, now)
        self._life.changes.append(Change(code, reader, target_s))

    # --- helpers --------------------------------------------------------------------------------------

    def power(self, now: datetime) -> tuple[float, float]:
        """Mean kW and kvar of the running interval; nothing while the supply is gone."""
        if not self.is_powered(now):
            return 0.0, 0.0
        return self._life.source.load(self.memory_stop(now))

    def has_voltage(self, phase: int, now: datetime) -> bool:
        """Whether a phase (0 to 2) has voltage at its terminals."""
        source = self._life.source
        return not isinstance(source, ChannelLoad) or source.is_live(phase, self.memory_stop(now))

    def _rules(self, settings: MeterSettings) -> CountingRules:
        days = None
        if settings.holidays is not None:
            chosen = (*settings.holidays, *settings.extended_holidays)
            days = frozenset(day_number(day) for day in chosen if day is not None)
        return CountingRules(
            self._life.source, settings.demand_interval_s, settings.segments, settings.reactive, days
        )

    def _memory_first(self, now: datetime) -> int:
        at = self.meter_seconds(now)
        spec_cleared = [local_seconds(instant) for instant in self.spec.memory_cleared]
        cleared = [s for s in (*spec_cleared, *self._life.cleared) if s <= at]
        capacity = self.spec.capacity_days * DAY_S // self.interval_s
        begins = [self._history.memory_from_s // self.interval_s, self.memory_stop(now) - capacity]
        begins.extend(int(-(-s // self.interval_s)) for s in cleared)
        return max(begins)

    def _automatic_resets(self, until_s: int) -> Iterator[tuple[int, str]]:
        rules = self._life.reset_rules
        ends = [*(rule.from_s for rule in rules[1:]), until_s + 1]
        for rule, end_s in zip(rules, ends, strict=True):
            if rule.day is None:
                continue
            month = wall_clock(rule.from_s).date().replace(day=1)
            while True:
                border = day_number(month.replace(day=rule.day)) * DAY_S + rule.hour * HOUR_S
                if border >= end_s or border > until_s:
                    break
                if border > rule.from_s:
                    yield border, NO_READER
                month = date(month.year + month.month // 12, month.month % 12 + 1, 1)


def _whole(values: Floats) -> Ints:
    return np.floor(values).astype(np.int64)
