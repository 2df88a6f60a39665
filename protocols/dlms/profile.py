"""Load profiles: what to ask for, and what the rows mean (reference, section 6).

Columns are found by what they capture (class, OBIS code, attribute, index), never by position. A null clock
is the previous clock plus the capture period; what another null means is the model's affair.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import MAXYEAR, MINYEAR, datetime, timedelta, tzinfo
from decimal import Decimal
from fractions import Fraction
from math import isfinite

from protocols.acquisition import Holds
from protocols.dlms.apdu import OBIS_OCTETS, obis_octets, obis_text
from protocols.dlms.axdr import NULL, Data, Tag, array, octets, structure
from protocols.dlms.clock import (
    ClockReading,
    ClockRules,
    decode_date_time,
    decode_unix_time,
    encode_date_time,
)
from protocols.dlms.errors import LocalProtocolError, RemoteProtocolError

CLOCK_OBIS, UNIX_CLOCK_OBIS = "0-0:1.0.0.255", "0-0:1.1.0.255"
_DATA, DEMAND, PROFILE, CLOCK_CLASS = 1, 5, 7, 8
# An i8 on the wire; what is beyond any quantity would make numbers without end.
MAX_SCALER = 127
# Group D of the OBIS code tells increments of the period from running totals (section 6, rule 8), and both
# from averages over a period (current and last) and from what is no integral over time at all.
INCREMENT_D = (29, 30)
_AVERAGE_D = frozenset({4, 5, 14, 15, 24, 25, 27, 28})
_CURRENT_D = frozenset({4, 14, 24, 27, 28})
_TOTAL_D = frozenset({8, 9, 10, 17, 18, 19, 20})
BUFFER, COLUMNS, PERIOD, SORT_METHOD, ENTRIES_IN_USE = 2, 3, 4, 5, 7
"""Attributes of a profile."""
NO_UNIT = 255
BITS = {
    Tag.UINT8: 8,
    Tag.UINT16: 16,
    Tag.UINT32: 32,
    Tag.UINT64: 64,
    Tag.INT8: 8,
    Tag.INT16: 16,
    Tag.INT32: 32,
    Tag.INT64: 64,
    Tag.ENUM: 8,
}
"""Of whole numbers, by their type."""
WH, VAH, VARH = 30, 31, 32
PER_WH = 48
"""Unit of a meter's constant: pulses per Wh."""
# Unit of the energy by that of the power that it is the integral of.
ENERGY_OF_POWER = {27: WH, 28: VAH, 29: VARH}
_ENERGY_BY_C = {1: WH, 2: WH, **dict.fromkeys(range(3, 9), VARH), 9: VAH, 10: VAH}
_LISTS = (Tag.ARRAY, Tag.STRUCTURE)
_FLOAT32 = struct.Struct(">f")
FIRST_IN_FIRST_OUT, LAST_IN_FIRST_OUT = 1, 2
UNITS = {
    8: "deg",
    27: "W",
    28: "VA",
    29: "var",
    30: "Wh",
    31: "VAh",
    32: "varh",
    33: "A",
    35: "V",
    44: "Hz",
    PER_WH: "1/Wh",
    56: "%",
    NO_UNIT: "",
}


@dataclass(frozen=True)
class CaptureObject:
    """One column: what it captures. `data_index`: which of several values; 0 is the present one."""

    class_id: int
    obis: str
    attribute: int
    data_index: int = 0

    @property
    def is_clock(self) -> bool:
        """The column of the row's moment, not one of the clock's other attributes; or the one of a clock of
        seconds since 1970."""
        clocks = (CLOCK_CLASS, CLOCK_OBIS, 2), (_DATA, UNIX_CLOCK_OBIS, 2)
        return (self.class_id, self.obis, self.attribute) in clocks

    @property
    def _group_d(self) -> int:
        return int(self.obis.split(":")[1].split(".")[1])

    @property
    def is_increment(self) -> bool:
        """Energy of the period, not a running total."""
        return self._group_d in INCREMENT_D

    @property
    def holds(self) -> Holds | None:
        """What the values are by the code; None: no integral over time, nor an average over a period that is
        over (the current one of a demand register is still growing)."""
        if self.is_increment:
            return Holds.INCREMENT
        if self._group_d in _TOTAL_D:
            return Holds.TOTAL
        if self._group_d not in _AVERAGE_D:
            return None
        is_last = self.attribute == 3 if self.class_id == DEMAND else self._group_d not in _CURRENT_D
        return Holds.AVERAGE if is_last else None

    @property
    def energy_unit(self) -> int | None:
        """Unit of the energy that the code is of; None: it does not tell.

        Group C: 1 and 2 are active, 3 to 8 reactive, 9 and 10 apparent energy, 20 higher for each phase.
        """
        group_c = int(self.obis.split(":")[1].split(".")[0])
        if not self.obis.startswith("1-") or not 1 <= group_c <= 80:
            return None
        return _ENERGY_BY_C.get((group_c - 1) % 20 + 1)

    @property
    def value_attribute(self) -> int:
        """Attribute that holds the value of a period that is over."""
        return 3 if self.class_id == DEMAND else 2

    @property
    def scaler_attribute(self) -> int:
        """Attribute of the captured register that holds its scaler: 4 for demand registers, else 3."""
        return 4 if self.class_id == DEMAND else 3


@dataclass(frozen=True)
class ScalerUnit:
    """Value = raw x 10^scaler in the unit."""

    scaler: int = 0
    unit: int = NO_UNIT

    def apply(self, raw: int) -> Decimal:
        """Exact value."""
        return Decimal(raw).scaleb(self.scaler)

    @property
    def unit_name(self) -> str:
        """Unit as text."""
        return UNITS.get(self.unit, f"unit {self.unit}")


@dataclass(frozen=True)
class ProfileRow:
    """One row, counted from 1: its moment as sent (start or end of the period is the model's affair) and the
    raw columns, null in the place of the clock.

    Attributes:
        values: a null has the value above it, where there is one.
        nulls: places of columns beside the clock that were null.
        was_filled: some column was null. has_clock: it states its own moment.
    """

    number: int
    clock: ClockReading
    values: tuple[Data, ...]
    was_filled: bool
    nulls: frozenset[int] = frozenset()
    has_clock: bool = True


def decode_capture_objects(data: Data) -> tuple[CaptureObject, ...]:
    """Attribute 3 of a profile."""
    columns = []
    for element in _elements(data, "capture objects"):
        parts = _elements(element, "capture object")
        if (
            len(parts) < 3
            or not _is_number(parts[0])
            or not _is_number(parts[2])
            or not isinstance(parts[1].value, bytes)
            or len(parts[1].value) != OBIS_OCTETS
        ):
            raise RemoteProtocolError("a capture object without class, code and attribute", where="profile")
        index = parts[3].value if len(parts) > 3 and _is_number(parts[3]) else 0
        columns.append(CaptureObject(parts[0].value, obis_text(parts[1].value), parts[2].value, index))
    return tuple(columns)


def decode_scaler_unit(data: Data) -> ScalerUnit:
    """Attribute 3 of a register (4 of a demand register)."""
    parts = _elements(data, "scaler")
    if len(parts) != 2 or not all(map(_is_number, parts)):
        raise RemoteProtocolError("a scaler is two numbers", where="scaler")
    if not -MAX_SCALER <= parts[0].value <= MAX_SCALER:
        raise RemoteProtocolError(f"a scaler of {parts[0].value}", where="scaler")
    return ScalerUnit(parts[0].value, parts[1].value)


def by_range(
    start: datetime,
    end: datetime,
    *,
    with_deviation: bool = True,
    with_weekday: bool = False,
    rules: ClockRules | None = None,
) -> Data:
    """Selection of the rows of [start, end], both ends included; selector 1, all columns."""
    clock = structure(
        Data(Tag.UINT16, CLOCK_CLASS), octets(obis_octets(CLOCK_OBIS)), Data(Tag.INT8, 2), Data(Tag.UINT16, 0)
    )
    ends = [
        octets(encode_date_time(at, with_deviation=with_deviation, with_weekday=with_weekday, rules=rules))
        for at in (start, end)
    ]
    return structure(clock, *ends, array())


def by_entry(first: int, last: int = 0) -> Data:
    """Selection of rows by number from 1, oldest first; last 0 is the newest; selector 2, all columns."""
    if first < 1:
        raise LocalProtocolError(f"rows count from 1, not {first}")
    return structure(
        Data(Tag.UINT32, first), Data(Tag.UINT32, last), Data(Tag.UINT16, 1), Data(Tag.UINT16, 0)
    )


def row_step_s(period_s: int, sort_method: int | None) -> int | None:
    """From one row of a profile to the next, s: back in time where the newest is the first.

    Args:
        sort_method: attribute 5; None: not told, and taken for the usual one, oldest first.

    Returns:
        None where rows are sorted by something else than the order in which they were captured.
    """
    if sort_method is None or sort_method == FIRST_IN_FIRST_OUT:
        return period_s
    return -period_s if sort_method == LAST_IN_FIRST_OUT else None


def decode_rows(
    data: Data,
    columns: tuple[CaptureObject, ...],
    step_s: int | None,
    zone: tzinfo,
    on_bad: Callable[[RemoteProtocolError], None] | None = None,
    rules: ClockRules | None = None,
) -> Iterator[ProfileRow]:
    """Rows of attribute 2, nulls filled.

    Args:
        step_s: from one row to the next; see `row_step_s`.
        on_bad: gets what is wrong with the clock of a row, which is then passed over, as are those whose
            null clock stands for something of it; None: it is raised.
        rules: how the make states its time.

    Raises:
        RemoteProtocolError: there is no clock column, the first row has a null clock, or a row has another
            number of columns: what follows may mean something else, too. Without `on_bad`, a clock that is
            none.
    """
    clocks = [place for place, column in enumerate(columns) if column.is_clock]
    if not clocks:
        raise RemoteProtocolError("the profile captures no clock", where="profile")
    before: ProfileRow | None = None
    for number, element in enumerate(_elements(data, "profile buffer"), start=1):
        where = f"profile row {number}"
        values = _elements(element, where)
        if len(values) != len(columns):
            raise RemoteProtocolError(f"{len(values)} columns, {len(columns)} captured", where=where)
        if number == 1 and values[clocks[0]] == NULL:
            raise RemoteProtocolError("the first row has no clock: nothing to take from", where=where)
        try:
            clock = _clock(values[clocks[0]], before, step_s, zone, rules, where)
        except RemoteProtocolError as error:
            if on_bad is None:
                raise
            before = None
            on_bad(error)
        else:
            nulls = frozenset(place for place, value in enumerate(values) if value == NULL) - {clocks[0]}
            has_clock = values[clocks[0]] != NULL
            filled = _filled(values, clocks[0], before)
            before = ProfileRow(number, clock, filled, NULL in values, nulls, has_clock)
            yield before


def _clock(
    told: Data,
    before: ProfileRow | None,
    step_s: int | None,
    zone: tzinfo,
    rules: ClockRules | None,
    where: str,
) -> ClockReading:
    if told == NULL:
        if before is None:
            raise RemoteProtocolError("nulls after a row that cannot be used", where=where)
        return replace(before.clock, at=_later(before.clock.at, step_s, where))
    if _is_number(told):
        return decode_unix_time(told.value)
    if not isinstance(told.value, bytes):
        raise RemoteProtocolError("the clock column is no date-time", where=where)
    return decode_date_time(told.value, zone, rules)


def _filled(values: tuple[Data, ...], clock_place: int, before: ProfileRow | None) -> tuple[Data, ...]:
    above = values if before is None else before.values
    filled = [above[place] if value == NULL else value for place, value in enumerate(values)]
    filled[clock_place] = NULL
    return tuple(filled)


def number_of(value: Data) -> int | Fraction | None:
    """A value as an exact number; None where it is none.

    A float is the shortest decimal that stands for it in its width: 0.05 is five hundredths, not what binary
    makes of it.
    """
    if isinstance(value.value, bool) or not isinstance(value.value, int | float):
        return None
    if isinstance(value.value, int):
        return value.value
    if not isfinite(value.value):
        return None
    exact = Fraction(repr(value.value) if value.tag is Tag.FLOAT64 else _shortest32(value.value))
    return exact.numerator if exact.denominator == 1 else exact


def _shortest32(value: float) -> str:
    """The shortest decimal that is this number in 32 bits; nine digits always are."""
    octets_ = _FLOAT32.pack(value)
    texts = (f"{value:.{digits}g}" for digits in range(1, 9))
    return next((text for text in texts if _packed(text) == octets_), f"{value:.9g}")


def _packed(text: str) -> bytes:
    try:
        return _FLOAT32.pack(float(text))
    except OverflowError:  # rounded up beyond the largest
        return b""


def _is_number(data: Data) -> bool:
    return isinstance(data.value, int) and not isinstance(data.value, bool)


def _later(at: datetime, step_s: int | None, where: str) -> datetime:
    if step_s is None:
        raise RemoteProtocolError("a null clock in a profile that is not sorted by time", where=where)
    try:
        later = at + timedelta(seconds=step_s)
    except OverflowError:
        later = None
    if later is None or not MINYEAR < later.year < MAXYEAR:
        raise RemoteProtocolError("the clock runs out of the calendar", where=where)
    return later


def _elements(data: Data, what: str) -> tuple[Data, ...]:
    if data.tag not in _LISTS:
        raise RemoteProtocolError(f"{what}: {data.tag.name.lower()} instead of a list", where="profile")
    return tuple(data.value)
