"""Commands that change a meter, and their answers, with the layouts that are known (sections 6.2, 6.3).

One table serves a command and its answer: what was sent in o5 comes back in o6 (`layout.sent`). An answer
tells what is now in force; some meters answer with zeros. How sure each layout is, and whether it may be
sent at all, is told by `commands`; layouts that only a maker's manual gives are `write_layouts` of a profile.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, time
from typing import ClassVar

from protocols.nbr14522.messages.base import Request, Response
from protocols.nbr14522.messages.codecs import (
    Bcd,
    Clock,
    Date,
    Digits,
    DisplayCodes,
    Flag,
    Octet,
    Text,
)
from protocols.nbr14522.messages.flagged_writes import (
    ExtendedHolidays,
    ExtendedHolidaysRequest,
    GenericParameters,
    GenericRequest,
    NominalValues,
    NominalValuesRequest,
)
from protocols.nbr14522.messages.layout import Part, Table, at, sent
from protocols.nbr14522.messages.parameters import UNUSED_START, Constant, DayMonth, Starts

NO_HOLIDAY = b"\x01\x01\x01"
"""01/01/2001 in an unused slot of 32: a frame with 15 of them meant "none" (section 6.2)."""

DISPLAY_CODES = 59


@dataclass(frozen=True, kw_only=True)
class _DateFields(Table):
    day: date | None = sent(5, Date(), required=True)
    weekday: int | None = sent(8, Bcd(1), required=True)


@dataclass(frozen=True, kw_only=True)
class SetDateRequest(_DateFields, Request):
    """29: set the date. `weekday` 1 is Sunday; see `weekday_of`."""

    CODE: ClassVar[int] = 0x29


@dataclass(frozen=True, kw_only=True)
class DateSet(_DateFields, Response):
    """Answer to 29: the date now in force."""


@dataclass(frozen=True, kw_only=True)
class _TimeFields(Table):
    clock: time | None = sent(5, Clock(3), required=True)


@dataclass(frozen=True, kw_only=True)
class SetTimeRequest(_TimeFields, Request):
    """30: set the time."""

    CODE: ClassVar[int] = 0x30


@dataclass(frozen=True, kw_only=True)
class TimeSet(_TimeFields, Response):
    """Answer to 30: the time now in force."""


@dataclass(frozen=True, kw_only=True)
class _DemandIntervalFields(Table):
    interval_min: int | None = sent(5, Bcd(1), required=True)


@dataclass(frozen=True, kw_only=True)
class SetDemandIntervalRequest(_DemandIntervalFields, Request):
    """31: set the demand interval, minutes."""

    CODE: ClassVar[int] = 0x31


@dataclass(frozen=True, kw_only=True)
class DemandIntervalSet(_DemandIntervalFields, Response):
    """Answer to 31."""


@dataclass(frozen=True, kw_only=True)
class _HolidayFields(Table):
    holidays: tuple[date | None, ...] = sent(5, Date(unused=NO_HOLIDAY), 15, NO_HOLIDAY)


@dataclass(frozen=True, kw_only=True)
class SetHolidaysRequest(_HolidayFields, Request):
    """32: set the 15 holidays; None is an unused slot."""

    CODE: ClassVar[int] = 0x32


@dataclass(frozen=True, kw_only=True)
class HolidaysSet(_HolidayFields, Response):
    """Answer to 32."""


@dataclass(frozen=True, kw_only=True)
class _ConstantFields(Table):
    constants: tuple[Constant | None, ...] = sent(5, Part(Constant), 3, required=True)


@dataclass(frozen=True, kw_only=True)
class SetConstantsRequest(_ConstantFields, Request):
    """33: set the constants of the three visible channels."""

    CODE: ClassVar[int] = 0x33


@dataclass(frozen=True, kw_only=True)
class ConstantsSet(_ConstantFields, Response):
    """Answer to 33."""


@dataclass(frozen=True, kw_only=True)
class Season(Table):
    """Start of a wet season and of the dry one after it."""

    SIZE = 4

    wet_start: DayMonth | None = at(1, Part(DayMonth, empty_is_none=True))
    dry_start: DayMonth | None = at(3, Part(DayMonth, empty_is_none=True))


@dataclass(frozen=True, kw_only=True)
class _SeasonFields(Table):
    seasons: tuple[Season | None, ...] = sent(5, Part(Season, empty_is_none=True), 5)


@dataclass(frozen=True, kw_only=True)
class SetSeasonsRequest(_SeasonFields, Request):
    """34: set the seasons. The layout follows the reader's record in the text file (C)."""

    CODE: ClassVar[int] = 0x34


@dataclass(frozen=True, kw_only=True)
class SeasonsSet(_SeasonFields, Response):
    """Answer to 34."""


@dataclass(frozen=True, kw_only=True)
class _SegmentFields(Table):
    peak_starts: Starts = sent(5, Clock(2), 4, UNUSED_START)
    off_peak_starts: Starts = sent(13, Clock(2), 4, UNUSED_START)
    reserved_starts: Starts = sent(21, Clock(2), 4, UNUSED_START)
    intermediate_starts: Starts = sent(29, Clock(2), 4, UNUSED_START)
    segment_count: int | None = sent(37, Bcd(1), default=0)


@dataclass(frozen=True, kw_only=True)
class SetSegmentsRequest(_SegmentFields, Request):
    """35: set the starts of the time segments; None is an unused slot (`99 00`).

    The order of the segments is that of the answer to 21 (section 3.1), the fourth one last.
    """

    CODE: ClassVar[int] = 0x35


@dataclass(frozen=True, kw_only=True)
class SegmentsSet(_SegmentFields, Response):
    """Answer to 35."""


@dataclass(frozen=True, kw_only=True)
class _ReservedSegmentFields(Table):
    is_on: bool | None = sent(5, Flag(), required=True)


@dataclass(frozen=True, kw_only=True)
class SetReservedSegmentRequest(_ReservedSegmentFields, Request):
    """36: switch the reserved segment on or off. `01`/`00` as in o150 is likely, not known (C)."""

    CODE: ClassVar[int] = 0x36


@dataclass(frozen=True, kw_only=True)
class ReservedSegmentSet(_ReservedSegmentFields, Response):
    """Answer to 36."""


@dataclass(frozen=True, kw_only=True)
class _OccurrenceFields(Table):
    occurrence: int | None = sent(5, Octet(), required=True)


@dataclass(frozen=True, kw_only=True)
class ClearOccurrenceRequest(_OccurrenceFields, Request):
    """37: clear an occurrence that answer 40 named."""

    CODE: ClassVar[int] = 0x37


@dataclass(frozen=True, kw_only=True)
class OccurrenceCleared(_OccurrenceFields, Response):
    """Answer to 37."""


@dataclass(frozen=True, kw_only=True)
class InitialiseRequest(Request):
    """38: initialise; one make needs it after changes of parameters (B)."""

    CODE: ClassVar[int] = 0x38


@dataclass(frozen=True, kw_only=True)
class Initialised(Response):
    """Answer to 38."""


@dataclass(frozen=True, kw_only=True)
class _DaylightSavingFields(Table):
    is_on: bool | None = sent(5, Flag(), required=True)
    winter_end: DayMonth | None = sent(6, Part(DayMonth, empty_is_none=True))
    summer_end: DayMonth | None = sent(8, Part(DayMonth, empty_is_none=True))


@dataclass(frozen=True, kw_only=True)
class SetDaylightSavingRequest(_DaylightSavingFields, Request):
    """64: daylight saving on or off; the end of winter is where it starts."""

    CODE: ClassVar[int] = 0x64


@dataclass(frozen=True, kw_only=True)
class DaylightSavingSet(_DaylightSavingFields, Response):
    """Answer to 64."""


@dataclass(frozen=True, kw_only=True)
class _ReactiveTariffFields(Table):
    power_factor_composition: str | None = sent(5, Digits(1), required=True)
    energy_interval_min: int | None = sent(6, Bcd(2), required=True)
    demand_interval_min: int | None = sent(8, Bcd(2), required=True)
    reference_power_factor_inductive_pct: int | None = sent(10, Bcd(1), required=True)
    reference_power_factor_capacitive_pct: int | None = sent(11, Bcd(1), required=True)
    inductive_starts: Starts = sent(12, Clock(2), 2, UNUSED_START)
    capacitive_starts: Starts = sent(16, Clock(2), 2, UNUSED_START)
    inductive_starts_set_2: Starts = sent(20, Clock(2), 2, UNUSED_START)
    capacitive_starts_set_2: Starts = sent(24, Clock(2), 2, UNUSED_START)
    validity: str | None = sent(28, Digits(2), required=True)


@dataclass(frozen=True, kw_only=True)
class SetReactiveTariffRequest(_ReactiveTariffFields, Request):
    """67: reactive tariff. The order is inferred from o199 and o214-237 of the answer to 21 (C)."""

    CODE: ClassVar[int] = 0x67


@dataclass(frozen=True, kw_only=True)
class ReactiveTariffSet(_ReactiveTariffFields, Response):
    """Answer to 67."""


@dataclass(frozen=True, kw_only=True)
class _MemoryIntervalFields(Table):
    interval_min: int | None = sent(5, Bcd(1), required=True)
    extra_s: int | None = sent(6, Bcd(1), default=0)
    extra_hundredths: int | None = sent(7, Bcd(1), default=0)


@dataclass(frozen=True, kw_only=True)
class SetMemoryIntervalRequest(_MemoryIntervalFields, Request):
    """73: memory interval. Up to 9 minutes decimal and binary are the same octet; above, decimal is the
    protocol's habit but the one source sends binary (C): such a meter gets a write layout in its model.
    """

    CODE: ClassVar[int] = 0x73


@dataclass(frozen=True, kw_only=True)
class MemoryIntervalSet(_MemoryIntervalFields, Response):
    """Answer to 73."""


@dataclass(frozen=True, kw_only=True)
class _DisplayFields(Table):
    is_shown: bool | None = sent(5, Flag(), required=True)
    codes: tuple[int, ...] | None = sent(6, DisplayCodes(DISPLAY_CODES), required=True)


@dataclass(frozen=True, kw_only=True)
class ShowDisplayCodesRequest(_DisplayFields, Request):
    """79: show or hide display codes (section 9.2)."""

    CODE: ClassVar[int] = 0x79


@dataclass(frozen=True, kw_only=True)
class DisplayCodesShown(_DisplayFields, Response):
    """Answer to 79."""


@dataclass(frozen=True, kw_only=True)
class _InstallationFields(Table):
    is_read: bool | None = sent(5, Flag(), required=True)
    condition: int | None = sent(6, Octet(), default=0)
    """0 none, 1 on, 2 off."""
    installation_code: str | None = sent(7, Text(14))
    """14 characters, blanks on the left in the one reader that writes them."""


@dataclass(frozen=True, kw_only=True)
class InstallationCodeRequest(_InstallationFields, Request):
    """87: read or change the installation code."""

    CODE: ClassVar[int] = 0x87


@dataclass(frozen=True, kw_only=True)
class InstallationCode(_InstallationFields, Response):
    """Answer to 87."""


@dataclass(frozen=True, kw_only=True)
class _PresentationFields(Table):
    modes: tuple[int | None, ...] = sent(5, Octet(), 6, required=True)
    """Pairs (energy, demand; C) of channels 1 to 3: high nibble decimals, low nibble 0 pulses, 1 unit,
    2 kilo, 3 mega."""


@dataclass(frozen=True, kw_only=True)
class SetPresentationRequest(_PresentationFields, Request):
    """90: how quantities are presented."""

    CODE: ClassVar[int] = 0x90


@dataclass(frozen=True, kw_only=True)
class PresentationSet(_PresentationFields, Response):
    """Answer to 90."""


WRITES: dict[int, tuple[type[Request], type[Response]]] = {
    request.CODE: (request, answer)
    for request, answer in (
        (SetDateRequest, DateSet),
        (SetTimeRequest, TimeSet),
        (SetDemandIntervalRequest, DemandIntervalSet),
        (SetHolidaysRequest, HolidaysSet),
        (SetConstantsRequest, ConstantsSet),
        (SetSeasonsRequest, SeasonsSet),
        (SetSegmentsRequest, SegmentsSet),
        (SetReservedSegmentRequest, ReservedSegmentSet),
        (ClearOccurrenceRequest, OccurrenceCleared),
        (InitialiseRequest, Initialised),
        (SetDaylightSavingRequest, DaylightSavingSet),
        (SetReactiveTariffRequest, ReactiveTariffSet),
        (SetMemoryIntervalRequest, MemoryIntervalSet),
        (ShowDisplayCodesRequest, DisplayCodesShown),
        (InstallationCodeRequest, InstallationCode),
        (SetPresentationRequest, PresentationSet),
        (GenericRequest, GenericParameters),
    )
}
"""Request and answer by command code."""

EXTENDED_WRITES: dict[int, tuple[type[Request], type[Response]]] = {
    0x32: (ExtendedHolidaysRequest, ExtendedHolidays),
    0x95: (NominalValuesRequest, NominalValues),
}
"""Request and answer by sub-code of command 98."""
