"""Which octets of which frames of a DLMS session carry one interval.

What belongs here: walking a session's record to the cells of a load profile, and to what says what they
count. What does not: the value itself, which `collector.dlms.decode` makes from the same record; both are
shown, and must agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from fractions import Fraction
from typing import Any

from audit.evidence import FramePart, Locator
from collector.decoded import Frame, MeterContext
from collector.dlms.columns import Column, choose, row_flags
from collector.dlms.rows import LoadProfile, Row, timed_rows
from collector.dlms.script import DEMAND_REGISTER
from protocols.acquisition import Holds, Nulls, whole_pulses
from protocols.dlms.axdr import NULL, OctetCursor, decode_first
from protocols.dlms.errors import RemoteProtocolError
from protocols.dlms.framing import FLAG
from protocols.dlms.models import DlmsModel, model_named
from protocols.dlms.profile import (
    BUFFER,
    COLUMNS,
    LAST_IN_FIRST_OUT,
    PERIOD,
    PROFILE,
    SORT_METHOD,
    ScalerUnit,
    decode_capture_objects,
    decode_scaler_unit,
    number_of,
)
from protocols.dlms.transcript import Exchange, Recorded, cut, exchanges


@dataclass(frozen=True)
class Cell:
    """One column of one row of an answer, both counted from 1.

    Attributes:
        octets: as it stands, type first; one 00 where it is null.
        told_by_row: the row whose octets give the value: this one, or the last above that is not null there.
        told_by: those octets; empty where `octets` say it themselves.
    """

    row: int
    column: int
    octets: tuple[FramePart, ...]
    told_by_row: int
    told_by: tuple[FramePart, ...]

    @property
    def is_null(self) -> bool:
        return self.told_by_row != self.row


@dataclass(frozen=True)
class RowPlace:
    """A row of the load profile: the end of its period (naive), its clock, and the column with its number."""

    end: datetime
    clock: Cell
    value: Cell
    raw: int | Fraction


@dataclass(frozen=True)
class DlmsPlace:
    """The place of one interval in a DLMS session.

    Attributes:
        profile, column: OBIS codes; column_octets: where the list of columns names it.
        rows: one with the energy of the period, or two whose running totals differ by it, the older first.
        is_newest_first: each row is the period before the one above it, not after.
        scaler_octets: where scaler and unit stand.
        pulse_wh: of the meter's model: energy of one pulse.
        average_s: length by which an average power is multiplied; None: the column holds energy.
        pulses: what it comes to; None where that is no whole number.
    """

    profile: str
    column: str
    column_octets: tuple[FramePart, ...]
    rows: tuple[RowPlace, ...]
    scaler: int
    unit: str
    scaler_octets: tuple[FramePart, ...]
    pulse_wh: Fraction
    average_s: int | None
    pulses: int | None
    is_newest_first: bool


def locate_row(
    frames: Sequence[Frame], model: DlmsModel, zone: tzinfo, interval_end: datetime, channel: int
) -> DlmsPlace | None:
    """Find one interval; None where the session's frames do not hold it.

    Args:
        frames: of one session, in order.
        zone: of the meter. interval_end: naive, as the meter's clock has it.
    """
    record = _Record(frames, model)
    column = record.column(channel)
    if column is None or record.columns_from is None:
        return None
    rows = record.rows(zone)
    row = record.row_of(rows, interval_end)
    if row is None or row.length_s is None:
        return None
    ends = [interval_end]
    if column.holds is Holds.TOTAL:
        ends.insert(0, interval_end - timedelta(seconds=row.length_s))
    found = [record.place_of(rows, end, column) for end in ends]
    if None in found:
        return None
    told = tuple(one for one in found if one is not None)
    raw = told[-1].raw - (told[0].raw if len(told) > 1 else 0)
    return DlmsPlace(
        profile=model.load_profile,
        column=column.name,
        column_octets=record.octets(record.columns_from, (column.place,)),
        rows=told,
        scaler=column.scaler.scaler,
        unit=column.scaler.unit_name,
        scaler_octets=record.octets(record.scalers[column.name][1], ()),
        pulse_wh=model.pulse_wh,
        average_s=row.length_s if column.holds is Holds.AVERAGE else None,
        pulses=whole_pulses(column.energy_wh(raw, row.length_s), model.pulse_wh),
        is_newest_first=record.load.sort_method == LAST_IN_FIRST_OUT,
    )


def _pass_over(error: RemoteProtocolError) -> None:
    """The decoder says what is wrong with a row."""


@dataclass
class _Record:
    """What a session's exchanges say of the load profile."""

    frames: Sequence[Frame]
    model: DlmsModel
    load: LoadProfile = field(default_factory=LoadProfile)
    columns_from: Exchange | None = None
    scalers: dict[str, tuple[ScalerUnit, Exchange]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        record = (Recorded(frame.at, frame.is_sent, frame.payload) for frame in self.frames)
        for exchange in exchanges(record, self.model.tolerates_trailing):
            if exchange.value is not None:
                try:
                    self._take(exchange)
                except RemoteProtocolError:
                    continue  # An answer of no sense: the decoder has put it into quarantine.

    def _take(self, exchange: Exchange) -> None:
        about, value = exchange.attribute, exchange.value
        assert value is not None
        if about.class_id != PROFILE:
            if about.index == (4 if about.class_id == DEMAND_REGISTER else 3) and isinstance(
                value.value, tuple
            ):
                self.scalers[about.obis] = decode_scaler_unit(value), exchange
        elif about.obis == self.model.load_profile:
            if about.index == COLUMNS:
                self.load.columns, self.columns_from = decode_capture_objects(value), exchange
            elif about.index == PERIOD:
                self.load.period_s = value.value if type(value.value) is int and value.value > 0 else 0
            elif about.index == SORT_METHOD:
                self.load.sort_method = value.value if type(value.value) is int else None
            elif about.index == BUFFER:
                self.load.answers.append(exchange)

    def column(self, channel: int) -> Column | None:
        """The channel's column, as the decoder chooses it."""
        wanted = next((one for one in self.model.channels if one.channel == channel), None)
        scalers = {obis: scaler for obis, (scaler, _) in self.scalers.items()}
        return None if wanted is None else choose(wanted, self.load.columns, scalers, self.model).column

    def rows(self, zone: tzinfo) -> list[Row]:
        """Rows that the decoder takes, too."""
        found = timed_rows(self.load, self.model, zone, _pass_over) if self.load.columns else []
        return [
            row
            for row in found
            if row.is_on_grid
            and not row.profile.clock.is_invalid
            and not row_flags(row.profile, self.load.columns, self.model) & self.model.invalid_flags
        ]

    @staticmethod
    def row_of(rows: Sequence[Row], end: datetime) -> Row | None:
        """The row that ends then: the first of equal ones; None where two contradict each other."""
        found = [row for row in rows if row.end == end]
        if not found or any(row.profile.values != found[0].profile.values for row in found):
            return None
        return found[0]

    def place_of(self, rows: Sequence[Row], end: datetime, column: Column) -> RowPlace | None:
        """Where the row that ends then says what, in a column."""
        row = self.row_of(rows, end)
        if row is None:
            return None
        is_null = column.place in row.profile.nulls
        raw = number_of(row.profile.values[column.place])
        if raw is None or (is_null and self.model.null_values is Nulls.MISSING):
            return None
        clock = next(place for place, one in enumerate(self.load.columns) if one.is_clock)
        return RowPlace(end, self._cell(row, clock), self._cell(row, column.place), raw)

    def _cell(self, row: Row, column: int) -> Cell:
        assert row.answer.value is not None
        number = row.profile.number
        rows, teller = row.answer.value.value, number
        while rows[teller - 1].value[column] == NULL:
            teller -= 1
        told_by = () if teller == number else self.octets(row.answer, (teller - 1, column))
        octets = self.octets(row.answer, (number - 1, column))
        return Cell(number, column + 1, octets, teller, told_by)

    def octets(self, answer: Exchange, path: Sequence[int]) -> tuple[FramePart, ...]:
        """Where the element at `path` of an answer's value stands; empty where the record does not say."""
        raw = b"".join(
            self.frames[one.frame].payload[one.first : one.first + one.count] for one in answer.pieces
        )
        try:
            first, count = OctetCursor(raw).find(path)
            if decode_first(raw)[0] != answer.value:
                return ()
        except RemoteProtocolError:
            return ()
        return tuple(self._part(one.frame, one.first, one.count) for one in cut(answer.pieces, first, count))

    def _part(self, number: int, first: int, count: int) -> FramePart:
        frame = self.frames[number]
        return FramePart(
            frame_seq=frame.seq,
            frame_at=frame.at,
            first_octet=first + 1,
            octets=frame.payload[first : first + count],
            payload=frame.payload,
            is_plain=frame.payload[:1] != bytes([FLAG]) and frame.payload[:2] != b"\0\1",
        )


class RowLocator:
    """See `audit.evidence.Locator`."""

    key, holder, whole = "dlms", "frame", "session's frames"

    def locate(
        self,
        session: Mapping[str, Any],
        frames: Sequence[Frame],
        profile: str,
        context: MeterContext,
        interval_end: datetime,
    ) -> DlmsPlace | None:
        return locate_row(frames, model_named(profile), context.zone, interval_end, context.active_channel)


LOCATOR: Locator = RowLocator()
