"""What a meter says to each command: the meter's state put into the protocol's messages.

One `Conversation` is what a meter remembers between the commands of one session: the channel group that is
visible, the part of the memory that 51 asked for, whether a password was given. Frames leave here plain, 258
octets each; the link wraps them. Changes of settings are `simulator.writes`' business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np

from protocols.nbr14522.commands import CommandKind, changes_meter, info_of
from protocols.nbr14522.memory import words_to_payloads
from protocols.nbr14522.messages import (
    EXTENDED,
    Change,
    ChangeLog,
    ChannelRegisters,
    ClearOccurrenceRequest,
    Constant,
    DateSet,
    Initialised,
    LimitUnit,
    MeasurementParameters,
    NotImplementedAnswer,
    Occurrence,
    OccurrenceAnswer,
    OccurrenceCleared,
    OpaqueResponse,
    OpenSessionRequest,
    Parameters,
    Period,
    PowerFailure,
    PowerFailures,
    PowerFailuresRequest,
    Registers,
    Request,
    Response,
    Seed,
    SessionOpened,
    SessionResult,
    SetDateRequest,
    SetTimeRequest,
    TimeSet,
    WholeMemoryParametersRequest,
    memory_blocks,
    weekday_of,
)
from protocols.nbr14522.profile import EmptyMemory, LimitedCount
from simulator.load.counting import Segment
from simulator.load.curves import CHANNELS, holiday_days
from simulator.load.grid import DAY_S, EPOCH_DAY, day_number, local_seconds, wall_clock
from simulator.nbr14522.instants import instantaneous
from simulator.nbr14522.meter import NO_READER, SimulatedMeter, Stretch
from simulator.nbr14522.meter import Registers as MeterRegisters
from simulator.nbr14522.passwords import Guard
from simulator.nbr14522.writes import INVALID_DATE, UNSUPPORTED, Writer, refusal, starts_of

OPEN_SESSION, SEED, INSTANTANEOUS = 0x11, 0x13, 0x14
CLEAR_OCCURRENCE, INITIALISE = 0x37, 0x38
GROUP_COMMANDS = frozenset({0x20, 0x21, 0x22, 0x51})
ACTIVE_ENERGY = 1  # quantity of the channel that UFER and DMCR belong to
OFF_PEAK_AND_RESERVED = 6
# What a read whose layout is not public (41 to 46 ...) is answered with: nothing that could pass for values.
NO_PUBLIC_LAYOUT = b"SIMULATED METER: THE LAYOUT OF THIS ANSWER IS NOT PUBLIC"
POWER_FAILURES, CHANGES, EXTENDED_CHANGES, HOLIDAYS = 20, 16, 9, 15
UNIT_S = {LimitUnit.DAYS: DAY_S, LimitUnit.HOURS: 3_600}


class Conversation:
    """One session with a meter."""

    def __init__(self, meter: SimulatedMeter) -> None:
        self._meter = meter
        self._limit: int | None = None
        self._group = 0
        self._writer = Writer(meter)
        rules, profile = meter.spec.passwords, meter.spec.profile
        self._guard = None
        if rules is not None:
            self._guard = Guard(rules, profile.password_transform, meter.spec.serial)
        self._handlers: dict[int, Callable[[Any, datetime], Response]] = {
            OPEN_SESSION: self._open_session,
            SEED: self._seed,
            INSTANTANEOUS: lambda _, now: instantaneous(meter, now),
            0x20: self._reset,
            0x21: self._current_parameters,
            0x22: self._previous_parameters,
            0x23: lambda _, now: self._registers(0x23, meter.current_registers(now)),
            0x24: lambda _, now: self._registers(0x24, meter.reset_registers(now)),
            0x25: self._power_failures,
            0x28: self._change_log,
            0x29: self._set_date,
            0x30: self._set_time,
            0x37: self._clear,
            0x38: self._initialise,
            0x51: self._whole_parameters,
            0x80: self._measurement,
        }
        self._memories: dict[int, Callable[[datetime], Stretch]] = {
            0x26: meter.current_period,
            0x27: meter.previous_period,
            0x52: lambda now: meter.whole_memory(now, self._limit),
        }

    def answer(self, request: Request, now: datetime) -> list[bytes]:
        """The plain response frames to one command, one or (composite commands) several."""
        code = request.CODE if request.code is None else request.code
        serial = self._meter.spec.serial
        if not self._is_implemented(code, request):
            return [NotImplementedAnswer(refused_code=code).encode(serial)]
        waiting = self._meter.occurrences()
        if waiting and code != CLEAR_OCCURRENCE:
            answer = OccurrenceAnswer(occurrence=waiting[0], detail=0, waiting_count=len(waiting))
            return [answer.encode(serial)]
        if self._needs_session(code, request):
            locked = OccurrenceAnswer(occurrence=Occurrence.SESSION_NEEDED, detail=0, waiting_count=0)
            return [locked.encode(serial)]
        if code in self._memories:
            return self._memory(code, now)
        filling = self._meter.spec.profile.instantaneous_filling if code == INSTANTANEOUS else 0x00
        return [self._single(code, request, now).encode(serial, filling=filling)]

    def _is_implemented(self, code: int, request: Request) -> bool:
        profile = self._meter.spec.profile
        sub_code = request.write()[4] if code == EXTENDED else None
        return profile.has_command(code, sub_code)

    def _needs_session(self, code: int, request: Request) -> bool:
        rules = self._meter.spec.passwords
        if rules is None or self._guard is None or self._guard.may_write:
            return False
        if changes_meter(request):
            return code in rules.protected
        return code in rules.protected_reads and not self._guard.may_read

    def _single(self, code: int, request: Request, now: datetime) -> Response:
        handler = self._handlers.get(code)
        if handler is None:
            if info_of(request).kind is CommandKind.READ:
                return OpaqueResponse(code=code, data=NO_PUBLIC_LAYOUT.ljust(251, b"\x00"))
            answer = self._writer.answer(request, self._group, now)
            return NotImplementedAnswer(refused_code=code) if answer is None else answer
        group = getattr(request, "group", None)
        if request.problems or (group or 0) >= self._meter.channels // CHANNELS:
            return refusal(INVALID_DATE if code in (0x29, 0x30) else UNSUPPORTED)
        if code in GROUP_COMMANDS:
            self._group = group or 0
        return handler(request, now)

    @property
    def _channels(self) -> range:
        """0-based numbers of the visible channels."""
        return range(CHANNELS * self._group, CHANNELS * (self._group + 1))

    # --- session --------------------------------------------------------------------------------------

    def _seed(self, _: Request, now: datetime) -> Response:
        if self._guard is None:
            return NotImplementedAnswer(refused_code=SEED)
        return Seed(code=SEED, seed=self._guard.new_seed())

    def _open_session(self, request: OpenSessionRequest, now: datetime) -> Response:
        """Results as one maker codes them: 0 is good, 4 wrong (reference 6.1, B)."""
        if self._guard is None:
            return NotImplementedAnswer(refused_code=OPEN_SESSION)
        if self._meter.is_locked:
            return OccurrenceAnswer(occurrence=Occurrence.LOCKED, detail=0, waiting_count=0)
        fits = self._guard.open(request)
        self._meter.note_password(is_right=any(fits))
        results = [SessionResult.OK if good else SessionResult.WRONG for good in fits]
        return SessionOpened(
            code=OPEN_SESSION, write_result=results[0], read_result=results[1], user=request.user
        )

    # --- memory ---------------------------------------------------------------------------------------

    def _memory(self, code: int, now: datetime) -> list[bytes]:
        meter = self._meter
        profile = meter.spec.profile
        words = meter.pulses(self._memories[code](now))[:, self._channels].reshape(-1)
        if not words.size and profile.empty_memory is EmptyMemory.OCCURRENCE:
            return [refusal(UNSUPPORTED).encode(meter.spec.serial)]
        payloads = words_to_payloads(words, profile.packing, profile.filler_word)
        return memory_blocks(code, meter.spec.serial, payloads, profile.block_after_999)

    # --- parameters -----------------------------------------------------------------------------------

    def _reset(self, request: Request, now: datetime) -> Response:
        if not self._meter.reset_demand(now, request.reader_serial or NO_READER):
            return OccurrenceAnswer(occurrence=Occurrence.LOCKED, detail=0, waiting_count=0)
        last_s = self._meter.periods(now)[1]
        # The real answer to 20 says 0 words although intervals had ended since the border (reference 3.2).
        return self._parameters(0x20, now, last_end_s=last_s, words=0)

    def _current_parameters(self, _: Request, now: datetime) -> Response:
        period = self._meter.current_period(now)
        last_end_s = period.stop * self._meter.interval_s
        return self._parameters(0x21, now, last_end_s=last_end_s, words=CHANNELS * len(period))

    def _previous_parameters(self, _: Request, now: datetime) -> Response:
        return self._parameters(0x22, now, last_end_s=self._meter.periods(now)[1], words=0)

    def _whole_parameters(self, request: WholeMemoryParametersRequest, now: datetime) -> Response:
        meter = self._meter
        unit_s = UNIT_S.get(request.unit or LimitUnit.EVERYTHING)
        self._limit = None if unit_s is None else (request.amount or 0) * unit_s // meter.interval_s
        counts_part = meter.spec.profile.limited_count is LimitedCount.LIMITED
        memory = meter.whole_memory(now, self._limit if counts_part else None)
        last_end_s = memory.stop * meter.interval_s
        return self._parameters(0x51, now, last_end_s=last_end_s, words=CHANNELS * len(memory))

    def _parameters(self, code: int, now: datetime, *, last_end_s: int, words: int) -> Parameters:
        meter, spec, settings = self._meter, self._meter.spec, self._meter.settings
        saving, reactive = settings.daylight_saving, settings.reactive
        shown = meter.meter_now(now)
        previous, last = meter.periods(now)
        reset_day = settings.automatic_reset_day
        memory_min, memory_s = divmod(meter.interval_s, 60)
        return Parameters(
            code=code,
            meter_time=shown,
            weekday=weekday_of(shown.date(), spec.profile.sunday),
            last_interval_end=wall_clock(last_end_s),
            last_reset=wall_clock(last),
            previous_reset=wall_clock(previous),
            peak_starts=starts_of(settings.segments.peak),
            off_peak_starts=starts_of(settings.segments.off_peak),
            reserved_starts=starts_of(settings.segments.reserved),
            words_current=words,
            words_previous=CHANNELS * len(meter.previous_period(now)),
            reset_count=len(meter.resets(now)) % 100,
            demand_interval_min=settings.demand_interval_s // 60,
            previous_demand_interval_min=settings.previous_demand_interval_s // 60,
            holidays=settings.holidays or _holidays(shown.date()),
            constants=tuple(_constant(settings.constants[c]) for c in self._channels),
            has_battery_problem=Occurrence.BATTERY in meter.occurrences(),
            software_version=f"{spec.software_version:04d}",
            is_reserved_segment_on=settings.segments.has_reserved,
            demand_calculation=0,
            model=f"{spec.model_code:04d}",
            is_automatic_reset_on=reset_day is not None,
            automatic_reset_day=reset_day or 0,
            is_daylight_saving_on=saving.is_on,
            winter_end=saving.winter_end,
            summer_end=saving.summer_end,
            quantities=tuple(settings.quantities[c] for c in self._channels),
            power_factor_composition=reactive.composition,
            memory_interval_min=memory_min,
            memory_interval_extra_s=memory_s,
            memory_interval_extra_hundredths=0,
            saturday_segments=OFF_PEAK_AND_RESERVED,
            sunday_segments=OFF_PEAK_AND_RESERVED,
            holiday_segments=OFF_PEAK_AND_RESERVED,
            tariff=1,
            reactive_energy_interval_min=reactive.energy_interval_min,
            reactive_demand_interval_min=reactive.demand_interval_min,
            reference_power_factor_inductive_pct=reactive.reference_percent,
            reference_power_factor_capacitive_pct=reactive.capacitive_reference_percent,
            inductive_starts=starts_of((reactive.inductive_from_h * 60,), 2),
            capacitive_starts=starts_of((reactive.capacitive_from_h * 60,), 2),
            reactive_validity=reactive.validity,
            segment_count=len(Segment),
            has_command_80=0x80 in spec.profile.commands,
            has_command_14=0x14 in spec.profile.commands,
            has_password=self._guard is not None,
            group_count=meter.channels // CHANNELS,
            automatic_reset_hour=settings.automatic_reset_hour,
        )

    def _measurement(self, _: Request, now: datetime) -> Response:
        settings, generic = self._meter.settings, self._meter.settings.generic
        # The read block starts a pair with the demand, 90 with the energy (reference 5.5, 6.2).
        pairs = [settings.presentation[i : i + 2][::-1] for i in range(0, 2 * CHANNELS, 2)]
        return MeasurementParameters(
            code=0x80,
            presentation_modes=(*(mode for pair in pairs for mode in pair), 0),
            ke=generic.ke,
            kh=generic.kh,
            voltage_transformer=generic.voltage_transformer,
            current_transformer=generic.current_transformer,
            active_mode=generic.active_mode,
            reactive_mode=generic.reactive_mode,
            ke_reactive=generic.ke_reactive,
            display_time_s=6,
            intermediate_starts=starts_of(settings.intermediate_starts),
            has_instantaneous=int(0x14 in self._meter.spec.profile.commands),
            connection_type=generic.connection_type,
            user_output=generic.user_output,
            kp=generic.kp,
            installation_code=settings.installation_code,
        )

    # --- registers and logs ---------------------------------------------------------------------------

    def _registers(self, code: int, registers: MeterRegisters) -> Registers:
        quantities = self._meter.settings.quantities
        active = quantities.index(ACTIVE_ENERGY) if ACTIVE_ENERGY in quantities else None
        channels = tuple(_channel(registers, c, has_reactive=c == active) for c in self._channels)
        return Registers(code=code, channels=channels)

    def _power_failures(self, request: PowerFailuresRequest, now: datetime) -> Response:
        meter = self._meter
        over = meter.outages(now)
        previous, last = meter.periods(now)
        low, high = (
            (previous, last) if request.period is Period.PREVIOUS else (last, meter.meter_seconds(now))
        )
        inside = [
            (max(local_seconds(o.start), low), min(local_seconds(o.end), high))
            for o in over
            if local_seconds(o.end) > low and local_seconds(o.start) < high
        ]
        records = [PowerFailure(start=o.start, end=o.end) for o in over[-POWER_FAILURES:]]
        return PowerFailures(
            code=0x25,
            failures=_padded(records, POWER_FAILURES),
            failure_count=len(over),
            period_without_supply_s=int(sum(end - start for start, end in inside)),
            period_failure_count=len(inside),
        )

    def _change_log(self, _: Request, now: datetime) -> Response:
        changes = self._meter.changes(now)
        usual, extended = (
            [
                Change(code=change.code, reader_serial=change.reader, at_time=wall_clock(change.at_s))
                for change in changes
                if change.is_extended == is_extended
            ]
            for is_extended in (False, True)
        )
        return ChangeLog(
            code=0x28,
            changes=_padded(usual[-CHANGES:], CHANGES),
            extended_changes=_padded(extended[-EXTENDED_CHANGES:], EXTENDED_CHANGES),
        )

    # --- writes ---------------------------------------------------------------------------------------

    def _set_date(self, request: SetDateRequest, now: datetime) -> Response:
        if request.day is None:
            return refusal(INVALID_DATE)
        self._meter.set_date(request.day, now, request.reader_serial or NO_READER)
        today = self._meter.meter_now(now).date()
        return DateSet(code=0x29, day=today, weekday=weekday_of(today, self._meter.spec.profile.sunday))

    def _set_time(self, request: SetTimeRequest, now: datetime) -> Response:
        if request.clock is None:
            return refusal(INVALID_DATE)
        clock = request.clock
        seconds = clock.hour * 3_600 + clock.minute * 60 + clock.second
        self._meter.set_time(seconds, now, request.reader_serial or NO_READER)
        return TimeSet(code=0x30, clock=self._meter.meter_now(now).time())

    def _clear(self, request: ClearOccurrenceRequest, now: datetime) -> Response:
        if request.occurrence is None or not self._meter.clear_occurrence(request.occurrence):
            return refusal(UNSUPPORTED)
        return OccurrenceCleared(code=0x37, occurrence=request.occurrence)

    def _initialise(self, request: Request, now: datetime) -> Response:
        self._meter.initialise(now, request.reader_serial or NO_READER)
        return Initialised(code=INITIALISE)


def _padded(records: Sequence[Any], size: int) -> tuple[Any, ...]:
    return (*records, *[None] * (size - len(records)))


def _constant(pair: tuple[int, int]) -> Constant:
    return Constant(numerator=pair[0], denominator=pair[1])


def _holidays(today: date) -> tuple[date | None, ...]:
    first = day_number(today)
    coming = sorted(day for day in holiday_days(first, first + 731) if day >= first)[:HOLIDAYS]
    return _padded([EPOCH_DAY + timedelta(days=day) for day in coming], HOLIDAYS)


def _channel(registers: MeterRegisters, channel: int, *, has_reactive: bool) -> ChannelRegisters:
    peak, off_peak, reserved = Segment.PEAK, Segment.OFF_PEAK, Segment.RESERVED
    totals, maxima = registers.totals[channel], registers.maxima[channel]
    accumulated = registers.accumulated[channel]
    # UFER and DMCR belong to the active channel; on the others the slots mean something else (C).
    nothing = np.zeros(len(Segment), dtype=np.int64)
    ufer = registers.ufer if has_reactive else nothing
    dmcr = registers.dmcr if has_reactive else nothing
    accumulated_dmcr = registers.accumulated_dmcr if has_reactive else nothing
    return ChannelRegisters(
        total_pulses=_energy(totals.sum()),
        peak_pulses=_energy(totals[peak]),
        ufer_peak_pulses=_energy(ufer[peak]),
        off_peak_pulses=_energy(totals[off_peak]),
        ufer_off_peak_pulses=_energy(ufer[off_peak]),
        reserved_pulses=_energy(totals[reserved]),
        ufer_reserved_pulses=_energy(ufer[reserved]),
        last_demand_pulses=_demand(registers.last_demand[channel]),
        max_demand_peak_pulses=_demand(maxima[peak]),
        dmcr_peak_pulses=_demand(dmcr[peak]),
        max_demand_off_peak_pulses=_demand(maxima[off_peak]),
        dmcr_off_peak_pulses=_demand(dmcr[off_peak]),
        max_demand_reserved_pulses=_demand(maxima[reserved]),
        dmcr_reserved_pulses=_demand(dmcr[reserved]),
        accumulated_demand_peak_pulses=_demand(accumulated[peak]),
        accumulated_dmcr_peak_pulses=_demand(accumulated_dmcr[peak]),
        accumulated_demand_off_peak_pulses=_demand(accumulated[off_peak]),
        accumulated_dmcr_off_peak_pulses=_demand(accumulated_dmcr[off_peak]),
        accumulated_demand_reserved_pulses=_demand(accumulated[reserved]),
        accumulated_dmcr_reserved_pulses=_demand(accumulated_dmcr[reserved]),
    )


def _energy(pulses: np.int64) -> int:
    """Ten digits that start again at zero, as a register does."""
    return int(pulses) % 10**10


def _demand(pulses: np.int64) -> int:
    return int(pulses) % 10**6
