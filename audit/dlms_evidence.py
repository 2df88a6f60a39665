"""Which octets of which frames of a DLMS session carry one interval.

What belongs here: walking a session's record to the cells of a load profile, and to what says what they
count. What does not: the value itself, which `collector.dlms.decode` makes from the same record; both are
shown, and must agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from fractions import Fraction
from typing import Any

from audit.evidence import FramePart, Locator
from collector.decoded import Frame, MeterContext
from collector.dlms.decode import (
    column_of,
    is_running_total,
    pulses_of_one,
    row_end,
    row_flags,
    whole_number,
)
from collector.dlms.script import PROFILE
from protocols.dlms.axdr import NULL, Data, Reader, decode
from protocols.dlms.errors import RemoteProtocolError
from protocols.dlms.framing import FLAG
from protocols.dlms.models import DlmsModel, model_named
from protocols.dlms.profile import (
    BUFFER,
    COLUMNS,
    LAST_IN_FIRST_OUT,
    PERIOD,
    SORT_METHOD,
    CaptureObject,
    ScalerUnit,
    decode_capture_objects,
    decode_rows,
    decode_scaler_unit,
    row_step_s,
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
    raw: int


@dataclass(frozen=True)
class DlmsPlace:
    """The place of one interval in a DLMS session.

    Attributes:
        profile, column: OBIS codes; column_octets: where the list of columns names it.
        rows: one with the energy of the period, or two whose running totals differ by it, the older first.
        is_newest_first: each row is the period before the one above it, not after.
        scaler_octets: where scaler and unit stand.
        pulse_wh: of the meter's model: energy of one pulse.
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
    place = record.column(channel)
    if place is None or record.period_s <= 0:
        return None
    column, (scaler, scaler_from) = record.columns[place], record.scalers[record.columns[place].obis]
    ends = [interval_end]
    if is_running_total(column, scaler):
        ends.insert(0, interval_end - timedelta(seconds=record.period_s))
    rows = [record.row(end, place, zone) for end in ends]
    if None in rows or record.columns_from is None:
        return None
    told = tuple(row for row in rows if row is not None)
    raw = told[-1].raw - (told[0].raw if len(told) > 1 else 0)
    pulses = raw * pulses_of_one(scaler, model)
    return DlmsPlace(
        profile=model.load_profile,
        column=column.obis,
        column_octets=record.octets(record.columns_from, (place,)),
        rows=told,
        scaler=scaler.scaler,
        unit=scaler.unit_name,
        scaler_octets=record.octets(scaler_from, ()),
        pulse_wh=model.pulse_wh,
        pulses=int(pulses) if pulses.denominator == 1 else None,
        is_newest_first=record.sort_method == LAST_IN_FIRST_OUT,
    )


def _pass_over(error: RemoteProtocolError) -> None:
    """The decoder says what is wrong with a row."""


@dataclass(frozen=True)
class _Row:
    """A decoded row, and where its octets are."""

    answer: Exchange
    number: int
    end: datetime
    values: tuple[Data, ...]


@dataclass
class _Record:
    """What a session's exchanges say of the load profile."""

    frames: Sequence[Frame]
    model: DlmsModel
    columns: tuple[CaptureObject, ...] = ()
    columns_from: Exchange | None = None
    period_s: int = 0
    sort_method: int | None = None
    scalers: dict[str, tuple[ScalerUnit, Exchange]] = field(default_factory=dict)
    answers: list[Exchange] = field(default_factory=list)

    def __post_init__(self) -> None:
        record = (Recorded(frame.at, frame.is_sent, frame.payload) for frame in self.frames)
        for exchange in exchanges(record, self.model.tolerates_trailing):
            if exchange.value is not None:
                try:
                    self._take(exchange, exchange.value)
                except RemoteProtocolError:
                    continue  # An answer of no sense: the decoder has put it into quarantine.

    def _take(self, exchange: Exchange, value: Data) -> None:
        about = exchange.attribute
        if about.class_id != PROFILE:
            if about.index in (3, 4) and isinstance(value.value, tuple):
                self.scalers[about.obis] = decode_scaler_unit(value), exchange
        elif about.obis == self.model.load_profile:
            if about.index == COLUMNS:
                self.columns, self.columns_from = decode_capture_objects(value), exchange
            elif about.index == PERIOD:
                self.period_s = whole_number(value) or 0
            elif about.index == SORT_METHOD:
                self.sort_method = whole_number(value)
            elif about.index == BUFFER:
                self.answers.append(exchange)

    def column(self, channel: int) -> int | None:
        """Place of the channel's column, from 0, where its scaler is known."""
        wanted = next((one for one in self.model.channels if one.channel == channel), None)
        place = None if wanted is None else column_of(wanted, self.columns)
        return None if place is None or self.columns[place].obis not in self.scalers else place

    def row(self, end: datetime, column: int, zone: tzinfo) -> RowPlace | None:
        """The row that ends then: the first of equal ones; None where two contradict each other."""
        found = [row for row in self._rows(zone) if row.end == end]
        if not found or any(row.values != found[0].values for row in found):
            return None
        row, raw = found[0], whole_number(found[0].values[column])
        if raw is None:
            return None
        clock = next(place for place, one in enumerate(self.columns) if one.is_clock)
        return RowPlace(end, self._cell(row, clock), self._cell(row, column), raw)

    def _rows(self, zone: tzinfo) -> Iterator[_Row]:
        """Rows that the decoder takes, too."""
        for answer in self.answers:
            assert answer.value is not None
            step_s = row_step_s(self.period_s, self.sort_method)
            rows = decode_rows(answer.value, self.columns, step_s, zone, _pass_over)
            try:
                for row in rows:
                    flags = row_flags(row, self.columns, self.model)
                    if not flags & self.model.invalid_flags and not row.clock.is_invalid:
                        end = row_end(row, self.model, self.period_s, zone)
                        yield _Row(answer, row.number, end, row.values)
            except RemoteProtocolError:
                continue  # The decoder says what is wrong with this answer.

    def _cell(self, row: _Row, column: int) -> Cell:
        assert row.answer.value is not None
        rows, teller = row.answer.value.value, row.number
        while rows[teller - 1].value[column] == NULL:
            teller -= 1
        told_by = () if teller == row.number else self.octets(row.answer, (teller - 1, column))
        octets = self.octets(row.answer, (row.number - 1, column))
        return Cell(row.number, column + 1, octets, teller, told_by)

    def octets(self, answer: Exchange, path: Sequence[int]) -> tuple[FramePart, ...]:
        """Where the element at `path` of an answer's value stands; empty where the record does not say."""
        raw = b"".join(
            self.frames[one.frame].payload[one.first : one.first + one.count] for one in answer.pieces
        )
        try:
            first, count = Reader(raw).find(path)
            if decode(raw, self.model.tolerates_trailing) != answer.value:
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
