"""What a meter says to each command: the meter's state put into the protocol's messages.

One `Conversation` is what a meter remembers between the commands of one session: the part of the memory that
51 asked for. Frames leave here plain, 258 octets each; the link wraps them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

import numpy as np

from protocols.nbr14522.memory import words_to_payloads
from protocols.nbr14522.messages import (
    Change,
    ChangeLog,
    ChannelRegisters,
    ClearOccurrenceRequest,
    Constant,
    DateSet,
    LimitUnit,
    MeasurementParameters,
    NotImplementedAnswer,
    Occurrence,
    OccurrenceAnswer,
    OccurrenceCleared,
    OpaqueResponse,
    Parameters,
    Period,
    PowerFailure,
    PowerFailures,
    PowerFailuresRequest,
    Registers,
    Request,
    Response,
    SetDateRequest,
    SetTimeRequest,
    TimeSet,
    WholeMemoryParametersRequest,
    memory_blocks,
    weekday_of,
)
from protocols.nbr14522.profile import EmptyMemory, LimitedCount
from simulator.counting import Segment
from simulator.curves import CHANNELS, holiday_days
from simulator.grid import DAY_S, EPOCH_DAY, day_number, local_seconds, wall_clock
from simulator.instants import instantaneous
from simulator.meter import Registers as MeterRegisters
from simulator.meter import SimulatedMeter, Stretch

INVALID_DATE, UNSUPPORTED = 0x14, 0x29  # details of occurrence 46 (reference 7, B)
CLEAR_OCCURRENCE, INITIALISE = 0x37, 0x38
QUANTITIES = (1, 10, 11)  # kWh, kvarh inductive, kvarh capacitive (reference 9.1)
OFF_PEAK_AND_RESERVED = 6
BOTH_REACTIVE_IN_THEIR_HOURS = "3333"
POWER_FAILURES, CHANGES, HOLIDAYS = 20, 16, 15
UNIT_S = {LimitUnit.DAYS: DAY_S, LimitUnit.HOURS: 3_600}


class Conversation:
    """One session with a meter."""

    def __init__(self, meter: SimulatedMeter) -> None:
        self._meter = meter
        self._limit: int | None = None
        self._handlers: dict[int, Callable[[Any, datetime], Response]] = {
            0x14: lambda _, now: instantaneous(meter, now),
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
        handler = self._handlers.get(code)
        waiting = self._meter.occurrences()
        if (handler is None and code not in self._memories) or code not in self._meter.spec.profile.commands:
            return [NotImplementedAnswer(refused_code=code).encode(serial)]
        if waiting and code != CLEAR_OCCURRENCE:
            answer = OccurrenceAnswer(occurrence=waiting[0], detail=0, waiting_count=len(waiting))
            return [answer.encode(serial)]
        if handler is None:
            return self._memory(code, now)
        group = getattr(request, "group", None)
        if request.problems or group:
            return [_refusal(INVALID_DATE if code in (0x29, 0x30) else UNSUPPORTED).encode(serial)]
        return [handler(request, now).encode(serial)]

    # --- memory ---------------------------------------------------------------------------------------

    def _memory(self, code: int, now: datetime) -> list[bytes]:
        meter = self._meter
        profile = meter.spec.profile
        words = meter.pulses(self._memories[code](now)).reshape(-1)
        if not words.size and profile.empty_memory is EmptyMemory.OCCURRENCE:
            return [_refusal(UNSUPPORTED).encode(meter.spec.serial)]
        payloads = words_to_payloads(words, profile.packing, profile.filler_word)
        return memory_blocks(code, meter.spec.serial, payloads, profile.block_after_999)

    # --- parameters -----------------------------------------------------------------------------------

    def _reset(self, request: Request, now: datetime) -> Response:
        if not self._meter.reset_demand(now, request.reader_serial or "000000"):
            return OccurrenceAnswer(occurrence=Occurrence.LOCKED, detail=0, waiting_count=0)
        last = self._meter.periods(now)[1]
        # The real answer to 20 says 0 words although intervals had ended since the border (reference 3.2).
        return self._parameters(0x20, now, last_end=last, words=0)

    def _current_parameters(self, _: Request, now: datetime) -> Response:
        period = self._meter.current_period(now)
        return self._parameters(0x21, now, last_end=period.stop, words=CHANNELS * len(period))

    def _previous_parameters(self, _: Request, now: datetime) -> Response:
        return self._parameters(0x22, now, last_end=self._meter.periods(now)[1], words=0)

    def _whole_parameters(self, request: WholeMemoryParametersRequest, now: datetime) -> Response:
        meter = self._meter
        unit_s = UNIT_S.get(request.unit or LimitUnit.EVERYTHING)
        self._limit = None if unit_s is None else (request.amount or 0) * unit_s // meter.interval_s
        counts_part = meter.spec.profile.limited_count is LimitedCount.LIMITED
        memory = meter.whole_memory(now, self._limit if counts_part else None)
        return self._parameters(0x51, now, last_end=memory.stop, words=CHANNELS * len(memory))

    def _parameters(self, code: int, now: datetime, *, last_end: int, words: int) -> Parameters:
        meter, spec = self._meter, self._meter.spec
        shown = meter.meter_now(now)
        previous, last = meter.periods(now)
        demand_min = spec.demand_interval_s // 60
        memory_min, memory_s = divmod(meter.interval_s, 60)
        constant = Constant(numerator=spec.pulse_constant[0], denominator=spec.pulse_constant[1])
        return Parameters(
            code=code,
            meter_time=shown,
            weekday=weekday_of(shown.date(), spec.profile.sunday),
            last_interval_end=wall_clock(meter.seconds(last_end)),
            last_reset=wall_clock(meter.seconds(last)),
            previous_reset=wall_clock(meter.seconds(previous)),
            peak_starts=_starts(spec.segments.peak),
            off_peak_starts=_starts(spec.segments.off_peak),
            reserved_starts=_starts(spec.segments.reserved),
            words_current=words,
            words_previous=CHANNELS * len(meter.previous_period(now)),
            reset_count=len(meter.resets(now)) % 100,
            demand_interval_min=demand_min,
            previous_demand_interval_min=demand_min,
            holidays=_holidays(shown.date()),
            constants=(constant,) * CHANNELS,
            has_battery_problem=Occurrence.BATTERY in meter.occurrences(),
            software_version=f"{spec.software_version:04d}",
            is_reserved_segment_on=True,
            demand_calculation=0,
            model=f"{spec.model_code:04d}",
            is_automatic_reset_on=spec.automatic_reset_day is not None,
            automatic_reset_day=spec.automatic_reset_day or 0,
            is_daylight_saving_on=False,
            quantities=QUANTITIES,
            memory_interval_min=memory_min,
            memory_interval_extra_s=memory_s,
            memory_interval_extra_hundredths=0,
            saturday_segments=OFF_PEAK_AND_RESERVED,
            sunday_segments=OFF_PEAK_AND_RESERVED,
            holiday_segments=OFF_PEAK_AND_RESERVED,
            tariff=1,
            reactive_energy_interval_min=60,
            reactive_demand_interval_min=60,
            reference_power_factor_inductive_pct=spec.reactive.reference_percent,
            reference_power_factor_capacitive_pct=spec.reactive.reference_percent,
            inductive_starts=_starts((spec.reactive.inductive_from_h * 60,), 2),
            capacitive_starts=_starts((spec.reactive.capacitive_from_h * 60,), 2),
            reactive_validity=BOTH_REACTIVE_IN_THEIR_HOURS,
            segment_count=len(Segment),
            has_command_80=0x80 in spec.profile.commands,
            has_command_14=0x14 in spec.profile.commands,
            group_count=1,
        )

    def _measurement(self, _: Request, now: datetime) -> Response:
        spec = self._meter.spec
        one = Constant(numerator=1, denominator=1)
        return MeasurementParameters(
            code=0x80,
            ke=Constant(numerator=spec.pulse_constant[0], denominator=spec.pulse_constant[1]),
            kh=one,
            voltage_transformer=Constant(numerator=spec.tp_ratio[0], denominator=spec.tp_ratio[1]),
            current_transformer=Constant(numerator=spec.tc_ratio[0], denominator=spec.tc_ratio[1]),
            display_time_s=6,
            has_instantaneous=int(0x14 in spec.profile.commands),
            connection_type=spec.connection_type,
            installation_code=spec.installation_code.rjust(14)[-14:],
        )

    # --- registers and logs ---------------------------------------------------------------------------

    def _registers(self, code: int, registers: MeterRegisters) -> Registers:
        return Registers(code=code, channels=tuple(_channel(registers, c) for c in range(CHANNELS)))

    def _power_failures(self, request: PowerFailuresRequest, now: datetime) -> Response:
        meter = self._meter
        over = meter.outages(now)
        previous, last = (meter.seconds(border) for border in meter.periods(now))
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
        entries = [
            Change(code=change.code, reader_serial=change.reader, at_time=wall_clock(change.at_s))
            for change in self._meter.changes(now)[-CHANGES:]
        ]
        return ChangeLog(code=0x28, changes=_padded(entries, CHANGES))

    # --- writes ---------------------------------------------------------------------------------------

    def _set_date(self, request: SetDateRequest, now: datetime) -> Response:
        if request.day is None:
            return _refusal(INVALID_DATE)
        self._meter.set_date(request.day, now, request.reader_serial or "000000")
        today = self._meter.meter_now(now).date()
        return DateSet(code=0x29, day=today, weekday=weekday_of(today, self._meter.spec.profile.sunday))

    def _set_time(self, request: SetTimeRequest, now: datetime) -> Response:
        if request.clock is None:
            return _refusal(INVALID_DATE)
        clock = request.clock
        seconds = clock.hour * 3_600 + clock.minute * 60 + clock.second
        self._meter.set_time(seconds, now, request.reader_serial or "000000")
        return TimeSet(code=0x30, clock=self._meter.meter_now(now).time())

    def _clear(self, request: ClearOccurrenceRequest, now: datetime) -> Response:
        if request.occurrence is None or not self._meter.clear_occurrence(request.occurrence):
            return _refusal(UNSUPPORTED)
        return OccurrenceCleared(code=0x37, occurrence=request.occurrence)

    def _initialise(self, request: Request, now: datetime) -> Response:
        self._meter.initialise(now, request.reader_serial or "000000")
        return OpaqueResponse(code=INITIALISE)


def _refusal(detail: int) -> OccurrenceAnswer:
    return OccurrenceAnswer(occurrence=Occurrence.INVALID_PARAMETER, detail=detail, waiting_count=0)


def _padded(records: Sequence[Any], size: int) -> tuple[Any, ...]:
    return (*records, *[None] * (size - len(records)))


def _starts(minutes: Sequence[int], slots: int = 4) -> tuple[time | None, ...]:
    return _padded([time(minute // 60, minute % 60) for minute in minutes], slots)


def _holidays(today: date) -> tuple[date | None, ...]:
    first = day_number(today)
    coming = sorted(day for day in holiday_days(first, first + 731) if day >= first)[:HOLIDAYS]
    return _padded([EPOCH_DAY + timedelta(days=day) for day in coming], HOLIDAYS)


def _channel(registers: MeterRegisters, channel: int) -> ChannelRegisters:
    peak, off_peak, reserved = Segment.PEAK, Segment.OFF_PEAK, Segment.RESERVED
    totals, maxima = registers.totals[channel], registers.maxima[channel]
    accumulated = registers.accumulated[channel]
    # UFER and DMCR belong to the active channel; on the others the slots mean something else (C).
    nothing = np.zeros(len(Segment), dtype=np.int64)
    ufer = registers.ufer if channel == 0 else nothing
    dmcr = registers.dmcr if channel == 0 else nothing
    accumulated_dmcr = registers.accumulated_dmcr if channel == 0 else nothing
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
