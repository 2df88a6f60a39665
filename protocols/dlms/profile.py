"""Load profiles: what to ask for, and what the rows mean (reference, section 6).

Columns are found by what they capture (class, OBIS code, attribute), never by position. A null clock is the
previous clock plus the capture period; another null column is "as above".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import MAXYEAR, datetime, timedelta, tzinfo
from decimal import Decimal

from protocols.dlms.apdu import obis_octets, obis_text
from protocols.dlms.axdr import NULL, Data, Tag, array, octets, structure
from protocols.dlms.clock import ClockReading, decode_date_time, encode_date_time
from protocols.dlms.errors import LocalProtocolError, RemoteProtocolError

CLOCK_OBIS = "0-0:1.0.0.255"
CLOCK_CLASS = 8
# Group D of the OBIS code tells increments of the period from running totals (section 6, rule 8).
INCREMENT_D = (29, 30)
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
    255: "",
}


@dataclass(frozen=True)
class CaptureObject:
    """One column: what it captures."""

    class_id: int
    obis: str
    attribute: int

    @property
    def is_clock(self) -> bool:
        """The column of the row's moment."""
        return self.class_id == CLOCK_CLASS and self.obis == CLOCK_OBIS

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
    unit: int = 255

    def apply(self, raw: int) -> Decimal:
        """Exact value."""
        return Decimal(raw).scaleb(self.scaler)

    @property
    def unit_name(self) -> str:
        """Unit as text."""
        return UNITS.get(self.unit, f"unit {self.unit}")


@dataclass(frozen=True)
class ProfileRow:
    """One row: its moment as sent (start or end of the period is the model's affair) and the raw columns."""

    clock: ClockReading
    values: tuple[Data, ...]
    was_filled: bool


def decode_capture_objects(data: Data) -> tuple[CaptureObject, ...]:
    """Attribute 3 of a profile."""
    columns = []
    for element in _elements(data, "capture objects"):
        parts = _elements(element, "capture object")
        if len(parts) < 3 or not isinstance(parts[1].value, bytes) or len(parts[1].value) != 6:
            raise RemoteProtocolError("a capture object without class, code and attribute", where="profile")
        columns.append(CaptureObject(parts[0].value, obis_text(parts[1].value), parts[2].value))
    return tuple(columns)


def decode_scaler_unit(data: Data) -> ScalerUnit:
    """Attribute 3 of a register (4 of a demand register)."""
    parts = _elements(data, "scaler")
    if len(parts) != 2 or not all(isinstance(part.value, int) for part in parts):
        raise RemoteProtocolError("a scaler is two numbers", where="scaler")
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


def decode_rows(
    data: Data, columns: tuple[CaptureObject, ...], period_s: int, zone: tzinfo
) -> Iterator[ProfileRow]:
    """Rows of attribute 2, nulls filled.

    Raises:
        RemoteProtocolError: the first row has a null, a row has another number of columns, there is no clock
            column, or the clock runs out of the calendar.
    """
    places = [place for place, column in enumerate(columns) if column.is_clock]
    if not places:
        raise RemoteProtocolError("the profile captures no clock", where="profile")
    clock_place = places[0]
    before: ProfileRow | None = None
    for number, element in enumerate(_elements(data, "profile buffer"), start=1):
        values = _elements(element, f"profile row {number}")
        if len(values) != len(columns):
            raise RemoteProtocolError(
                f"{len(values)} columns, {len(columns)} captured", where=f"profile row {number}"
            )
        nulls = [place for place, value in enumerate(values) if value == NULL]
        if nulls and before is None:
            raise RemoteProtocolError("the first row has nulls: nothing to take from", where="profile row 1")
        if before is None or values[clock_place] != NULL:
            raw = values[clock_place].value
            if not isinstance(raw, bytes):
                raise RemoteProtocolError("the clock column is no date-time", where=f"profile row {number}")
            clock = decode_date_time(raw, zone)
        else:
            clock = ClockReading(_later(before.clock.at, period_s, number))
        filled = tuple(
            before.values[place] if value == NULL and place != clock_place and before else value
            for place, value in enumerate(values)
        )
        before = ProfileRow(clock, filled, bool(nulls))
        yield before


def _later(at: datetime, period_s: int, row: int) -> datetime:
    try:
        later = at + timedelta(seconds=period_s)
    except OverflowError:
        later = None
    if later is None or later.year == MAXYEAR:
        raise RemoteProtocolError("the clock runs out of the calendar", where=f"profile row {row}")
    return later


def _elements(data: Data, what: str) -> tuple[Data, ...]:
    if data.tag not in (Tag.ARRAY, Tag.STRUCTURE):
        raise RemoteProtocolError(f"{what}: {data.tag.name.lower()} instead of a list", where="profile")
    return tuple(data.value)
