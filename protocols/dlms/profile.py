"""Load profiles: what to ask for, and what the rows mean (reference, section 6).

Columns are found by what they capture (class, OBIS code, attribute), never by position. A null clock is the
previous clock plus the capture period; another null column is "as above".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import MAXYEAR, MINYEAR, datetime, timedelta, tzinfo
from decimal import Decimal

from protocols.dlms.apdu import OBIS_OCTETS, obis_octets, obis_text
from protocols.dlms.axdr import NULL, Data, Tag, array, octets, structure
from protocols.dlms.clock import ClockReading, decode_date_time, encode_date_time
from protocols.dlms.errors import LocalProtocolError, RemoteProtocolError

CLOCK_OBIS = "0-0:1.0.0.255"
CLOCK_CLASS = 8
# An i8 on the wire; what is beyond any quantity would make numbers without end.
MAX_SCALER = 127
# Group D of the OBIS code tells increments of the period from running totals (section 6, rule 8).
INCREMENT_D = (29, 30)
BUFFER, COLUMNS, PERIOD, SORT_METHOD, ENTRIES_IN_USE = 2, 3, 4, 5, 7
"""Attributes of a profile."""
NO_UNIT = 255
_LISTS = (Tag.ARRAY, Tag.STRUCTURE)
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
    56: "%",
    NO_UNIT: "",
}


@dataclass(frozen=True)
class CaptureObject:
    """One column: what it captures."""

    class_id: int
    obis: str
    attribute: int

    @property
    def is_clock(self) -> bool:
        """The column of the row's moment, not one of the clock's other attributes."""
        return (self.class_id, self.obis, self.attribute) == (CLOCK_CLASS, CLOCK_OBIS, 2)

    @property
    def is_increment(self) -> bool:
        """Energy of the period, not a running total."""
        return int(self.obis.split(":")[1].split(".")[1]) in INCREMENT_D

    @property
    def scaler_attribute(self) -> int:
        """Attribute of the captured register that holds its scaler: 4 for demand registers, else 3."""
        return 4 if self.class_id == 5 else 3


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
    raw columns, null in the place of the clock."""

    number: int
    clock: ClockReading
    values: tuple[Data, ...]
    was_filled: bool


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
        columns.append(CaptureObject(parts[0].value, obis_text(parts[1].value), parts[2].value))
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
    start: datetime, end: datetime, *, with_deviation: bool = True, with_weekday: bool = False
) -> Data:
    """Selection of the rows of [start, end], both ends included; selector 1, all columns."""
    clock = structure(
        Data(Tag.UINT16, CLOCK_CLASS), octets(obis_octets(CLOCK_OBIS)), Data(Tag.INT8, 2), Data(Tag.UINT16, 0)
    )
    ends = [
        octets(encode_date_time(at, with_deviation=with_deviation, with_weekday=with_weekday))
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
) -> Iterator[ProfileRow]:
    """Rows of attribute 2, nulls filled.

    Args:
        step_s: from one row to the next; see `row_step_s`.
        on_bad: gets what is wrong with the clock of a row, which is then passed over, as are those whose
            nulls stand for something of it; None: it is raised.

    Raises:
        RemoteProtocolError: there is no clock column, the first row has a null, or a row has another number
            of columns: what follows may mean something else, too. Without `on_bad`, a clock that is none.
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
        if number == 1 and NULL in values:
            raise RemoteProtocolError("the first row has nulls: nothing to take from", where=where)
        try:
            filled = _filled(values, clocks[0], before, where)
            clock = _clock(values[clocks[0]], before, step_s, zone, where)
        except RemoteProtocolError as error:
            if on_bad is None:
                raise
            before = None
            on_bad(error)
        else:
            before = ProfileRow(number, clock, filled, NULL in values)
            yield before


def _clock(
    told: Data, before: ProfileRow | None, step_s: int | None, zone: tzinfo, where: str
) -> ClockReading:
    if told == NULL and before is not None:
        return replace(before.clock, at=_later(before.clock.at, step_s, where))
    if not isinstance(told.value, bytes):
        raise RemoteProtocolError("the clock column is no date-time", where=where)
    return decode_date_time(told.value, zone)


def _filled(
    values: tuple[Data, ...], clock_place: int, before: ProfileRow | None, where: str
) -> tuple[Data, ...]:
    if NULL in values and before is None:
        raise RemoteProtocolError("nulls after a row that cannot be used", where=where)
    above = values if before is None else before.values
    filled = [above[place] if value == NULL else value for place, value in enumerate(values)]
    filled[clock_place] = NULL
    return tuple(filled)


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
