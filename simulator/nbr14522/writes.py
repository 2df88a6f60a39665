"""What writes do to a meter: a request changes its settings, the answer shows those now in force.

Commands whose layout is public come as typed requests. One whose layout no public source gives is understood
only where the meter's profile supplies a write layout; the field names that mean something here are in
`LAYOUT_EFFECTS`, and what they do is this simulator's own invention for training, not the standard's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, datetime, time
from types import MappingProxyType
from typing import Any

from protocols.nbr14522.commands import changes_meter, key_of
from protocols.nbr14522.messages import (
    EXTENDED,
    Constant,
    ConstantsSet,
    DaylightSavingSet,
    DemandIntervalSet,
    DisplayCodesShown,
    ExtendedHolidays,
    ExtendedHolidaysRequest,
    ExtendedMode,
    GenericFlags,
    GenericParameters,
    GenericRequest,
    HolidaysSet,
    InstallationCode,
    InstallationCodeRequest,
    MemoryIntervalSet,
    NominalFlags,
    NominalValues,
    NominalValuesRequest,
    Occurrence,
    OccurrenceAnswer,
    OpaqueResponse,
    PresentationSet,
    ReactiveTariffSet,
    Request,
    ReservedSegmentSet,
    Response,
    SeasonsSet,
    SegmentsSet,
    SetConstantsRequest,
    SetDaylightSavingRequest,
    SetDemandIntervalRequest,
    SetHolidaysRequest,
    SetMemoryIntervalRequest,
    SetPresentationRequest,
    SetReactiveTariffRequest,
    SetReservedSegmentRequest,
    SetSeasonsRequest,
    SetSegmentsRequest,
    ShowDisplayCodesRequest,
)
from protocols.nbr14522.sending.layouts import WriteLayout
from simulator.load.counting import ReactiveRule, SegmentTable
from simulator.load.curves import CHANNELS
from simulator.nbr14522.meter import NO_READER, SimulatedMeter
from simulator.nbr14522.settings import EXTENDED_HOLIDAYS, DaylightSaving, MeterSettings

# Details of occurrence 46 (reference 7, B).
INVALID_DATE, BAD_SEGMENT_START, REPEATED_SEGMENTS, REPEATED_HOLIDAYS = 0x14, 0x17, 0x18, 0x19
BAD_DAYLIGHT_SAVING, UNSUPPORTED = 0x20, 0x29
FIRST_PARAMETER = 4  # 0-based place of o5


class Refused(Exception):
    """The meter does not take these values: answer 40, occurrence 46, this detail."""

    def __init__(self, detail: int = UNSUPPORTED) -> None:
        super().__init__(f"detail {detail:02X}")
        self.detail = detail


def refusal(detail: int) -> OccurrenceAnswer:
    """Answer 40: invalid parameter."""
    return OccurrenceAnswer(occurrence=Occurrence.INVALID_PARAMETER, detail=detail, waiting_count=0)


class Writer:
    """The writes of one meter."""

    def __init__(self, meter: SimulatedMeter) -> None:
        self._meter = meter

    def answer(self, request: Request, group: int, now: datetime) -> Response | None:
        """Carry a write out; None where this meter does not know it.

        Args:
            group: the visible channel group, 0 for channels 1 to 3.
        """
        layout = self._meter.spec.profile.layout_of(key_of(request))
        if layout is not None:
            return self._by_layout(layout, request, group, now)
        known = _WRITES.get(type(request))
        if known is None:
            return None
        change, show = known
        if request.problems:
            return refusal(UNSUPPORTED)
        if changes_meter(request):
            try:
                new = change(self._meter.settings, request, group)
            except Refused as refused:
                return refusal(refused.detail)
            if not self._meter.change_settings(new, now):
                return refusal(UNSUPPORTED)
            self._log(request, now)
        return show(self._meter.settings, request, group)

    def _by_layout(self, layout: WriteLayout, request: Request, group: int, now: datetime) -> Response:
        parameters = (request.octets or request.write())[FIRST_PARAMETER:]
        values = layout.read(parameters)
        effect = LAYOUT_EFFECTS.get(layout.command)
        if any(value is None for value in values.values()):
            return refusal(UNSUPPORTED)
        try:
            if effect is not None and not effect(self._meter, values, group, now):
                return refusal(UNSUPPORTED)
        except Refused as refused:
            return refusal(refused.detail)
        self._log(request, now)
        # Every field comes back one octet later (reference 6.2): where an answer's data begin.
        code = request.CODE if request.code is None else request.code
        return OpaqueResponse(code=code, data=parameters.ljust(251, b"\x00"))

    def _log(self, request: Request, now: datetime) -> None:
        key = key_of(request)
        code, _, sub_code = key.partition("/")
        reader = request.reader_serial or NO_READER
        self._meter.log(int(sub_code or code, 16), now, reader, is_extended=bool(sub_code))


# --- commands with a public layout ----------------------------------------------------------------------


def _demand_interval(old: MeterSettings, request: SetDemandIntervalRequest, _: int) -> MeterSettings:
    new_s = 60 * (request.interval_min or 0)
    if not new_s:
        raise Refused
    return replace(old, demand_interval_s=new_s, previous_demand_interval_s=old.demand_interval_s)


def _holidays(old: MeterSettings, request: SetHolidaysRequest, _: int) -> MeterSettings:
    days = [day for day in request.holidays if day is not None]
    if len(set(days)) < len(days):
        raise Refused(REPEATED_HOLIDAYS)
    return replace(old, holidays=request.holidays)


def _constants(old: MeterSettings, request: SetConstantsRequest, group: int) -> MeterSettings:
    new = list(old.constants)
    for channel, constant in enumerate(request.constants, start=CHANNELS * group):
        if constant is None or not constant.numerator or not constant.denominator:
            raise Refused
        new[channel] = (constant.numerator, constant.denominator)
    return replace(old, constants=tuple(new))


def _shown_constants(settings: MeterSettings, group: int) -> tuple[Constant, ...]:
    part = settings.constants[CHANNELS * group : CHANNELS * (group + 1)]
    return tuple(Constant(numerator=num, denominator=den) for num, den in part)


def _segments(old: MeterSettings, request: SetSegmentsRequest, _: int) -> MeterSettings:
    peak, off_peak, reserved, intermediate = (
        _minutes(starts)
        for starts in (
            request.peak_starts,
            request.off_peak_starts,
            request.reserved_starts,
            request.intermediate_starts,
        )
    )
    starts = (*peak, *off_peak, *reserved, *intermediate)
    if not (*peak, *off_peak, *reserved) or any(60 * start % old.memory_interval_s for start in starts):
        raise Refused(BAD_SEGMENT_START)
    if len(set(starts)) < len(starts):
        raise Refused(REPEATED_SEGMENTS)
    table = SegmentTable(peak, off_peak, reserved, old.segments.has_reserved)
    return replace(old, segments=table, intermediate_starts=intermediate)


def _show_segments(now: MeterSettings, _: Request, __: int) -> Response:
    table = now.segments
    used = sum(bool(starts) for starts in (table.peak, table.off_peak, table.reserved))
    return SegmentsSet(
        code=0x35,
        peak_starts=starts_of(table.peak),
        off_peak_starts=starts_of(table.off_peak),
        reserved_starts=starts_of(table.reserved),
        intermediate_starts=starts_of(now.intermediate_starts),
        segment_count=used + bool(now.intermediate_starts),
    )


def _reserved_segment(old: MeterSettings, request: SetReservedSegmentRequest, _: int) -> MeterSettings:
    return replace(old, segments=replace(old.segments, has_reserved=bool(request.is_on)))


def _daylight_saving(old: MeterSettings, request: SetDaylightSavingRequest, _: int) -> MeterSettings:
    saving = DaylightSaving(bool(request.is_on), request.winter_end, request.summer_end)
    if saving.is_on and (saving.winter_end is None or saving.summer_end is None):
        raise Refused(BAD_DAYLIGHT_SAVING)
    return replace(old, daylight_saving=saving)


def _reactive_tariff(old: MeterSettings, request: SetReactiveTariffRequest, _: int) -> MeterSettings:
    inductive, capacitive = request.inductive_starts[0], request.capacitive_starts[0]
    if inductive is None or capacitive is None or inductive.minute or capacitive.minute:
        raise Refused(BAD_SEGMENT_START)
    rule = ReactiveRule(
        reference_percent=request.reference_power_factor_inductive_pct or 0,
        capacitive_reference_percent=request.reference_power_factor_capacitive_pct or 0,
        inductive_from_h=inductive.hour,
        capacitive_from_h=capacitive.hour,
        energy_interval_min=request.energy_interval_min or 0,
        demand_interval_min=request.demand_interval_min or 0,
        composition=request.power_factor_composition,
        validity=request.validity or old.reactive.validity,
    )
    return replace(old, reactive=rule)


def _show_reactive_tariff(now: MeterSettings, _: Request, __: int) -> Response:
    rule = now.reactive
    return ReactiveTariffSet(
        code=0x67,
        power_factor_composition=rule.composition or "00",
        energy_interval_min=rule.energy_interval_min,
        demand_interval_min=rule.demand_interval_min,
        reference_power_factor_inductive_pct=rule.reference_percent,
        reference_power_factor_capacitive_pct=rule.capacitive_reference_percent,
        inductive_starts=starts_of((rule.inductive_from_h * 60,), 2),
        capacitive_starts=starts_of((rule.capacitive_from_h * 60,), 2),
        validity=rule.validity,
    )


def _memory_interval(old: MeterSettings, request: SetMemoryIntervalRequest, _: int) -> MeterSettings:
    new_s = 60 * (request.interval_min or 0) + (request.extra_s or 0)
    if request.extra_hundredths or not new_s:
        raise Refused
    return replace(old, memory_interval_s=new_s)


def _show_memory_interval(now: MeterSettings, _: Request, __: int) -> Response:
    minutes, seconds = divmod(now.memory_interval_s, 60)
    return MemoryIntervalSet(code=0x73, interval_min=minutes, extra_s=seconds, extra_hundredths=0)


def _display(old: MeterSettings, request: ShowDisplayCodesRequest, _: int) -> MeterSettings:
    codes = frozenset(request.codes or ())
    shown = old.shown_codes | codes if request.is_shown else old.shown_codes - codes
    return replace(old, shown_codes=shown)


def _show_display(now: MeterSettings, request: ShowDisplayCodesRequest, _: int) -> Response:
    """Of the codes asked about, those that are now as wanted."""
    wanted = bool(request.is_shown)
    codes = tuple(code for code in request.codes or () if (code in now.shown_codes) == wanted)
    return DisplayCodesShown(code=0x79, is_shown=wanted, codes=codes)


def _installation(old: MeterSettings, request: InstallationCodeRequest, _: int) -> MeterSettings:
    return replace(
        old,
        installation_code=(request.installation_code or "").rjust(14),
        installation_condition=request.condition or 0,
    )


def _show_installation(now: MeterSettings, request: InstallationCodeRequest, _: int) -> Response:
    return InstallationCode(
        code=0x87,
        is_read=bool(request.is_read),
        condition=now.installation_condition,
        installation_code=now.installation_code,
    )


def _presentation(old: MeterSettings, request: SetPresentationRequest, _: int) -> MeterSettings:
    modes = tuple(mode or 0 for mode in request.modes)
    if any(mode & 0x0F > 3 or mode >> 4 > 3 for mode in modes):
        raise Refused
    return replace(old, presentation=modes)


_GENERIC_FIELDS: Mapping[GenericFlags, str] = MappingProxyType(
    {
        GenericFlags.KE: "ke",
        GenericFlags.KH: "kh",
        GenericFlags.VOLTAGE_TRANSFORMER: "voltage_transformer",
        GenericFlags.CURRENT_TRANSFORMER: "current_transformer",
        GenericFlags.ACTIVE_MODE: "active_mode",
        GenericFlags.REACTIVE_MODE: "reactive_mode",
        GenericFlags.KE_REACTIVE: "ke_reactive",
        GenericFlags.QUANTITY_TYPE: "quantity_type",
        GenericFlags.CONNECTION_TYPE: "connection_type",
        GenericFlags.USER_OUTPUT: "user_output",
        GenericFlags.KP: "kp",
    }
)


def _generic(old: MeterSettings, request: GenericRequest, _: int) -> MeterSettings:
    flags = GenericFlags(request.flags or 0)
    changes = {name: getattr(request, name) for flag, name in _GENERIC_FIELDS.items() if flag in flags}
    # No public source says where the maximum demand of its flag lies.
    if GenericFlags.MAXIMUM_DEMAND in flags or any(value is None for value in changes.values()):
        raise Refused
    return replace(old, generic=replace(old.generic, **changes))


def _show_generic(now: MeterSettings, request: GenericRequest, _: int) -> Response:
    values = {name: getattr(now.generic, name) for name in _GENERIC_FIELDS.values()}
    return GenericParameters(code=0x95, flags=request.flags, **values)


def _extended_holidays(old: MeterSettings, request: ExtendedHolidaysRequest, _: int) -> MeterSettings:
    days = [day for day in request.holidays if day is not None]
    kept = () if request.mode is ExtendedMode.OVERWRITE else old.extended_holidays
    together = (*kept, *days)
    if len(set(together)) < len(together):
        raise Refused(REPEATED_HOLIDAYS)
    if len(together) > EXTENDED_HOLIDAYS or request.mode is ExtendedMode.NONE:
        raise Refused
    own = old.holidays if old.holidays is not None else (None,) * 15
    return replace(old, extended_holidays=together, holidays=own)


def _show_extended_holidays(now: MeterSettings, request: ExtendedHolidaysRequest, _: int) -> Response:
    days: tuple[date | None, ...] = now.extended_holidays
    return ExtendedHolidays(
        code=EXTENDED,
        is_write=request.is_write,
        mode=request.mode,
        holidays=(*days, *[None] * (EXTENDED_HOLIDAYS - len(days))),
    )


def _nominal(old: MeterSettings, request: NominalValuesRequest, _: int) -> MeterSettings:
    flags = NominalFlags(request.flags or 0)
    voltage_v = request.voltage_v if NominalFlags.VOLTAGE in flags else old.nominal_voltage_v
    frequency_hz = request.frequency_hz if NominalFlags.FREQUENCY in flags else old.nominal_frequency_hz
    if not voltage_v or not frequency_hz or voltage_v < 0 or frequency_hz < 0:
        raise Refused
    return replace(old, nominal_voltage_v=voltage_v, nominal_frequency_hz=frequency_hz)


def _show_nominal(now: MeterSettings, request: NominalValuesRequest, _: int) -> Response:
    return NominalValues(
        code=EXTENDED,
        voltage_v=now.nominal_voltage_v,
        frequency_hz=now.nominal_frequency_hz,
        flags=request.flags,
    )


_Change = Callable[[MeterSettings, Any, int], MeterSettings]
_Show = Callable[[MeterSettings, Any, int], Response]

_WRITES: Mapping[type[Request], tuple[_Change, _Show]] = MappingProxyType(
    {
        SetDemandIntervalRequest: (
            _demand_interval,
            lambda now, _, __: DemandIntervalSet(code=0x31, interval_min=now.demand_interval_s // 60),
        ),
        SetHolidaysRequest: (
            _holidays,
            lambda now, _, __: HolidaysSet(code=0x32, holidays=now.holidays or (None,) * 15),
        ),
        SetConstantsRequest: (
            _constants,
            lambda now, _, group: ConstantsSet(code=0x33, constants=_shown_constants(now, group)),
        ),
        SetSeasonsRequest: (
            lambda old, request, _: replace(old, seasons=request.seasons),
            lambda now, _, __: SeasonsSet(code=0x34, seasons=now.seasons),
        ),
        SetSegmentsRequest: (_segments, _show_segments),
        SetReservedSegmentRequest: (
            _reserved_segment,
            lambda now, _, __: ReservedSegmentSet(code=0x36, is_on=now.segments.has_reserved),
        ),
        SetDaylightSavingRequest: (
            _daylight_saving,
            lambda now, _, __: DaylightSavingSet(
                code=0x64,
                is_on=now.daylight_saving.is_on,
                winter_end=now.daylight_saving.winter_end,
                summer_end=now.daylight_saving.summer_end,
            ),
        ),
        SetReactiveTariffRequest: (_reactive_tariff, _show_reactive_tariff),
        SetMemoryIntervalRequest: (_memory_interval, _show_memory_interval),
        ShowDisplayCodesRequest: (_display, _show_display),
        InstallationCodeRequest: (_installation, _show_installation),
        SetPresentationRequest: (
            _presentation,
            lambda now, _, __: PresentationSet(code=0x90, modes=now.presentation),
        ),
        GenericRequest: (_generic, _show_generic),
        ExtendedHolidaysRequest: (_extended_holidays, _show_extended_holidays),
        NominalValuesRequest: (_nominal, _show_nominal),
    }
)


# --- commands whose layout a profile supplies -----------------------------------------------------------

LayoutValues = Mapping[str, int | str | None]
_Effect = Callable[[SimulatedMeter, LayoutValues, int, datetime], bool]


def _automatic_reset(meter: SimulatedMeter, values: LayoutValues, _: int, now: datetime) -> bool:
    day, hour = int(values.get("day") or 0), int(values.get("hour") or 0)
    is_on = bool(values.get("is_on", 1)) and day > 0
    if is_on and not (1 <= day <= 28 and 0 <= hour <= 23):
        raise Refused(INVALID_DATE)
    settings = replace(meter.settings, automatic_reset_day=day if is_on else None, automatic_reset_hour=hour)
    return meter.change_settings(settings, now)


def _channel_quantities(meter: SimulatedMeter, values: LayoutValues, group: int, now: datetime) -> bool:
    quantities = list(meter.settings.quantities)
    for place in range(CHANNELS):
        quantities[CHANNELS * group + place] = int(values[f"quantity_{place + 1}"] or 0)
    return meter.change_settings(replace(meter.settings, quantities=tuple(quantities)), now)


def _fine_adjustment(meter: SimulatedMeter, values: LayoutValues, _: int, now: datetime) -> bool:
    seconds = int(values.get("seconds") or 0)
    meter.adjust_clock(-seconds if values.get("backwards") else seconds, now)
    return True


LAYOUT_EFFECTS: Mapping[str, _Effect] = MappingProxyType(
    {"63": _automatic_reset, "66": _channel_quantities, "98/30": _fine_adjustment}
)
"""Command to what its fields do: 63 `is_on`, `day`, `hour`; 66 `quantity_1` to `quantity_3` of the visible
group; 98/30 `seconds`, `backwards`. A layout for any other command is taken, logged and echoed."""


def starts_of(minutes: tuple[int, ...], slots: int = 4) -> tuple[time | None, ...]:
    """Minutes of the day as start times, the rest of the slots unused."""
    return (*(time(minute // 60, minute % 60) for minute in minutes), *[None] * (slots - len(minutes)))


def _minutes(starts: tuple[time | None, ...]) -> tuple[int, ...]:
    return tuple(start.hour * 60 + start.minute for start in starts if start is not None)
