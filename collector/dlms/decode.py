"""From the frames of a DLMS session to what they mean. Pure, as `decode` is for NBR 14522.

Reference "dlms_cosem", sections 5 and 6: columns by what they capture, exact scalers, totals told from
increments by group D, status words by the model's masks. Doubtful rows are left out with a reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from fractions import Fraction
from typing import Any

import numpy as np

from collector.decoded import (
    ChangeRow,
    ClockReading,
    DayVector,
    Decoded,
    Frame,
    Issue,
    MeterContext,
    ParametersRow,
    RegisterRow,
)
from collector.dlms.script import CLOCK, DATA, PROFILE, REGISTER
from collector.planning import day_of
from protocols.dlms.axdr import Data, Tag
from protocols.dlms.clock import decode_date_time
from protocols.dlms.describe import shown
from protocols.dlms.errors import RemoteProtocolError
from protocols.dlms.models import Channel, DlmsModel, Timestamps
from protocols.dlms.profile import (
    BUFFER,
    COLUMNS,
    NO_UNIT,
    PERIOD,
    SORT_METHOD,
    CaptureObject,
    ProfileRow,
    ScalerUnit,
    decode_capture_objects,
    decode_rows,
    decode_scaler_unit,
    row_step_s,
)
from protocols.dlms.transcript import Exchange, Recorded, exchanges

_DAY_S = 86_400
_MAX_PULSES = (1 << 31) - 1
_ENERGY_UNITS = frozenset({30, 31, 32})  # Wh, VAh, varh
_MAX_CODE = (1 << 15) - 1
_EVENT_CODES = "0-0:96.11."
# A million bad rows say no more than these.
_MAX_ISSUES = 500


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of the load profile: when its period ended (naive, meter local) and its columns."""

    end: datetime
    values: tuple[Data, ...]


@dataclass(slots=True)
class _Profile:
    """What was read of one profile object."""

    columns: tuple[CaptureObject, ...] = ()
    period_s: int = 0
    sort_method: int | None = None
    buffers: list[tuple[Data, datetime]] = field(default_factory=list)
    """Each with the time at which it was there."""

    @property
    def step_s(self) -> int | None:
        return row_step_s(self.period_s, self.sort_method)


def decode_dlms(stored: Iterable[Frame], model: DlmsModel, context: MeterContext) -> Decoded:
    """Decode all frames of one session, in order of `seq`. An answer that broke off gives nothing."""
    reader = _Reader(model, context)
    record = (Recorded(frame.at, frame.is_sent, frame.payload) for frame in stored)
    for exchange in exchanges(record, model.tolerates_trailing):
        reader.take(exchange)
    return reader.finish()


class _Reader:
    def __init__(self, model: DlmsModel, context: MeterContext) -> None:
        self._model = model
        self._context = context
        self._profiles: dict[str, _Profile] = {}
        self._scalers: dict[str, ScalerUnit] = {}
        self._registers: dict[str, int] = {}
        self._issues: list[Issue] = []
        self._refused: dict[str, int] = {}
        self._serial: str | None = None
        self._clock: ClockReading | None = None
        self._clock_at: datetime | None = None
        self._heard_at: datetime | None = None
        self._blocks = 0
        self._flags: dict[str, int] = {}

    def take(self, exchange: Exchange) -> None:
        attribute, value = exchange.attribute, exchange.value
        name = f"{attribute.obis} attribute {attribute.index}"
        self._blocks += exchange.blocks
        self._heard_at = self._heard_at or exchange.received_at
        if exchange.code:
            self._refused[name] = exchange.code
            return
        if value is None:
            self._issue("frame", f"{name}: {exchange.problem}", {})
            return
        try:
            self._value(exchange, value)
        except RemoteProtocolError as error:
            self._issue("decode", f"{name}: {error.message}", {})

    def _value(self, exchange: Exchange, value: Data) -> None:
        class_id, obis, index = (
            exchange.attribute.class_id,
            exchange.attribute.obis,
            exchange.attribute.index,
        )
        if class_id == DATA and obis == self._model.serial_object:
            self._serial = self._serial or text_of(value)
        elif class_id == CLOCK and index == 2:
            self._read_clock(exchange, value)
        elif class_id == PROFILE:
            self._read_profile(self._profiles.setdefault(obis, _Profile()), exchange, value)
        elif index in (3, 4) and isinstance(value.value, tuple):
            self._scalers[obis] = decode_scaler_unit(value)
        elif class_id == REGISTER and index == 2:
            self._read_register(obis, value)

    def _read_register(self, obis: str, value: Data) -> None:
        number = whole_number(value)
        if number is None:
            self._issue("decode", f"register {obis} is no whole number", {"value": shown(value)})
        else:
            self._registers[obis] = number

    def _read_clock(self, exchange: Exchange, value: Data) -> None:
        if self._clock is not None or not isinstance(value.value, bytes):
            return
        told = decode_date_time(value.value, self._context.zone)
        round_trip = exchange.received_at - exchange.sent_at
        drift = told.at - (exchange.sent_at + round_trip / 2)
        self._clock = ClockReading(told.at, drift.total_seconds(), round_trip.total_seconds())
        self._clock_at = exchange.received_at
        if told.is_invalid or told.is_doubtful:
            self._issue("decode", "the meter says that its clock is invalid or doubtful", {})

    @staticmethod
    def _read_profile(profile: _Profile, exchange: Exchange, value: Data) -> None:
        index = exchange.attribute.index
        if index == COLUMNS:
            profile.columns = decode_capture_objects(value)
        elif index == PERIOD:
            profile.period_s = whole_number(value) or 0
        elif index == SORT_METHOD:
            profile.sort_method = whole_number(value)
        elif index == BUFFER:
            profile.buffers.append((value, exchange.received_at))

    # --- what it comes to ----------------------------------------------------------------------------

    def finish(self) -> Decoded:
        is_held = self._blocks > 0 and self._serial != self._context.serial
        if is_held and self._serial is None:
            self._issue("decode", "V10: the meter does not tell its serial number; held", {})
        elif is_held:
            detail = {"registered": self._context.serial, "answered": self._serial}
            self._issue("decode", "V10: another meter answered than the registry names; held", detail)
        for obis in sorted(self._registers.keys() - self._scalers.keys()):
            del self._registers[obis]
            self._issue("decode", f"register {obis} has no scaler: left out", {})
        load = self._profiles.get(self._model.load_profile)
        rows = [] if load is None else self._rows(load)
        vectors = [] if load is None else list(self._vectors(load, rows))
        changes = tuple(self._events())
        return Decoded(
            vectors=tuple(vectors),
            registers=tuple(self._register_rows()),
            changes=changes,
            parameters=tuple(self._parameters(load)),
            issues=tuple(self._issues),
            meter_serial=self._serial,
            clock=self._clock,
            last_end=max((row.end for row in rows), default=None),
            blocks=self._blocks,
            is_held=is_held,
        )

    def _rows(self, load: _Profile) -> list[_Row]:
        """Rows of all answers by the end of their period; doubled ones once, contradicting ones not."""
        if not load.buffers:
            return []
        if not load.columns or load.period_s <= 0 or _DAY_S % load.period_s:
            detail = {"columns": len(load.columns), "period_s": load.period_s}
            self._issue(
                "decode", "load profile without columns, or with a period that divides no day", detail
            )
            return []
        found: dict[datetime, list[_Row]] = {}
        for buffer, received_at in load.buffers:
            latest = self._latest_end(received_at)
            for row in self._buffer(buffer, load, latest):
                known = found.setdefault(row.end, [])
                if row not in known:
                    known.append(row)
        for end in sorted(end for end, rows in found.items() if len(rows) > 1):
            # Both are kept, with their reason; neither is taken.
            told = [[shown(value) for value in row.values] for row in found.pop(end)]
            reason = "two rows of the load profile end at one time: the clock was set"
            self._issue("decode", reason, {"end": end.isoformat(), "rows": told}, day_of(end))
        return [found[end][0] for end in sorted(found)]

    def _latest_end(self, received_at: datetime) -> datetime:
        """No period has ended later than our clock and the meter's own say, which tells whole seconds."""
        latest = received_at
        if self._clock is not None and self._clock_at is not None:
            told = self._clock.meter_time + (received_at - self._clock_at) + timedelta(seconds=1)
            latest = max(latest, told)
        return latest.astimezone(self._context.zone).replace(tzinfo=None)

    def _buffer(self, buffer: Data, load: _Profile, latest: datetime) -> Iterator[_Row]:
        def bad(error: RemoteProtocolError) -> None:
            self._issue("decode", f"load profile: {error}", {})

        try:
            for row in decode_rows(buffer, load.columns, load.step_s, self._context.zone, bad):
                taken = self._timed(row, load, latest)
                if taken is not None:
                    yield taken
        except RemoteProtocolError as error:
            bad(error)

    def _timed(self, row: ProfileRow, load: _Profile, latest: datetime) -> _Row | None:
        end = row_end(row, self._model, load.period_s, self._context.zone)
        if end > latest:
            limits = {"end": end.isoformat(), "latest": latest.isoformat()}
            self._issue("decode", "a row of the load profile ends in the future", limits)
            return None
        since_midnight = end - datetime.combine(end.date(), datetime.min.time())
        if since_midnight % timedelta(seconds=load.period_s):
            self._issue("decode", "a row of the load profile is off the grid", {"end": end.isoformat()})
            return None
        bad = self._status(row, load.columns) & self._model.invalid_flags
        if row.clock.is_invalid:
            bad = bad | {"clock invalid"}
        if bad:
            detail = {"end": end.isoformat(), "flags": sorted(bad)}
            self._issue("decode", "the meter marks rows of its load profile as invalid", detail, day_of(end))
            return None
        return _Row(end, row.values)

    def _status(self, row: ProfileRow, columns: Sequence[CaptureObject]) -> frozenset[str]:
        """Names of the flags that are set; counted, so that the record shows what the meter reported."""
        names = row_flags(row, columns, self._model)
        for name in names:
            self._flags[name] = self._flags.get(name, 0) + 1
        return names

    def _vectors(self, load: _Profile, rows: Sequence[_Row]) -> Iterable[DayVector]:
        for channel in self._model.channels:
            place = column_of(channel, load.columns)
            if place is not None and rows:
                pulses = self._pulses(channel, load, rows, place)
                yield from _by_day(channel, load.period_s, pulses)

    def _pulses(
        self, channel: Channel, load: _Profile, rows: Sequence[_Row], place: int
    ) -> dict[datetime, int]:
        """Pulses by end of interval: what rows say, or what a running total has grown by."""
        column = load.columns[place]
        step = timedelta(seconds=load.period_s)
        weight = self._weight(column)
        is_total = column.obis in self._scalers and is_running_total(column, self._scalers[column.obis])
        found: dict[datetime, int] = {}
        if weight is None:
            return found
        before: tuple[datetime, int] | None = None
        for row in rows:
            raw = whole_number(row.values[place])
            if raw is None:
                self._issue("decode", f"column {column.obis} is no whole number", {}, day_of(row.end))
                continue
            amount: int | None = raw
            if is_total:
                amount = raw - before[1] if before is not None and before[0] + step == row.end else None
                before = (row.end, raw)
            if amount is None:
                continue
            pulses = Fraction(amount) * weight
            if pulses.denominator != 1 or not 0 <= pulses <= _MAX_PULSES:
                reason = f"column {column.obis} is no whole number of pulses, or out of range"
                detail = {"end": row.end.isoformat(), "value": amount, "channel": channel.channel}
                self._issue("decode", reason, detail, day_of(row.end))
                continue
            found[row.end] = int(pulses)
        return found

    def _weight(self, column: CaptureObject) -> Fraction | None:
        """Pulses of one raw unit of the column; None where nothing says what it counts."""
        scaler = self._scalers.get(column.obis)
        if scaler is None:
            self._issue("decode", f"column {column.obis} has no scaler: left out", {})
            return None
        return pulses_of_one(scaler, self._model)

    @property
    def _at(self) -> datetime | None:
        """When the meter was read: by its clock, or by ours where that tells no moment."""
        return self._heard_at if self._clock is None else self._clock.meter_time

    def _register_rows(self) -> Iterable[RegisterRow]:
        for number, obis in enumerate(self._model.registers, start=1):
            if obis in self._registers and self._at is not None:
                scaler = self._scalers[obis]
                values = {"raw": self._registers[obis], "scaler": scaler.scaler, "unit": scaler.unit}
                yield RegisterRow(REGISTER, number, self._at, values)

    def _parameters(self, load: _Profile | None) -> Iterable[ParametersRow]:
        """What the meter's objects look like: columns with a hash that tells of a change, and refusals."""
        at = self._at
        if at is None:
            return
        if self._registers:
            shown = {
                obis: {
                    "value": str(self._scalers[obis].apply(raw)),
                    "unit": self._scalers[obis].unit_name,
                }
                for obis, raw in self._registers.items()
            }
            yield ParametersRow(REGISTER, at, {"registers": shown})
        if load is not None and load.columns:
            columns = [[column.class_id, column.obis, column.attribute] for column in load.columns]
            values: dict[str, Any] = {"columns": columns, "period_s": load.period_s}
            values["hash"] = hashlib.sha256(repr(values).encode()).hexdigest()[:16]
            yield ParametersRow(
                PROFILE, at, values | {"flags": dict(self._flags), "refused": dict(self._refused)}
            )

    def _events(self) -> Iterable[ChangeRow]:
        """Rows of the event logs as changes: code, and the log where NBR 14522 has the reader."""
        for obis in self._model.event_logs:
            log = self._profiles.get(obis)
            if log is None or not log.columns:
                continue
            for buffer, _ in log.buffers:
                yield from self._log_rows(obis, log, buffer)

    def _log_rows(self, obis: str, log: _Profile, buffer: Data) -> Iterator[ChangeRow]:
        def bad(error: RemoteProtocolError) -> None:
            self._issue("decode", f"event log {obis}: {error}", {})

        place = _code_column(log.columns)
        try:
            for row in decode_rows(buffer, log.columns, log.step_s, self._context.zone, bad):
                code = None if place is None else whole_number(row.values[place])
                if code is not None and 0 <= code <= _MAX_CODE:
                    yield ChangeRow(row.clock.at, code, obis)
                else:
                    at = row.clock.at.isoformat()
                    self._issue("decode", f"event log {obis}: no event code", {"at": at})
        except RemoteProtocolError as error:
            bad(error)

    def _issue(self, stage: str, reason: str, detail: Mapping[str, Any], day: date | None = None) -> None:
        if len(self._issues) < _MAX_ISSUES:
            self._issues.append(Issue(stage, reason, dict(detail), day))


def _code_column(columns: Sequence[CaptureObject]) -> int | None:
    """Place of a log's event codes: the column that captures a last code, else the first beside the clock."""
    others = [place for place, column in enumerate(columns) if not column.is_clock]
    codes = [place for place in others if columns[place].obis.startswith(_EVENT_CODES)]
    return next(iter(codes or others), None)


def _by_day(channel: Channel, period_s: int, pulses: Mapping[datetime, int]) -> Iterable[DayVector]:
    slots = _DAY_S // period_s
    days: dict[date, list[datetime]] = {}
    for end in pulses:
        days.setdefault(day_of(end), []).append(end)
    for day in sorted(days):
        counts, present = np.zeros(slots, np.int32), np.zeros(slots, np.bool_)
        midnight = datetime.combine(day, datetime.min.time())
        for end in days[day]:
            index = int((end - midnight).total_seconds()) // period_s - 1
            counts[index], present[index] = pulses[end], True
        yield DayVector(channel.channel, day, channel.quantity, period_s, counts, present)


def row_end(row: ProfileRow, model: DlmsModel, period_s: int, zone: tzinfo) -> datetime:
    """End of the period of a row of the load profile, naive, as the meter's clock has it."""
    end = row.clock.at.astimezone(zone).replace(tzinfo=None)
    return end + timedelta(seconds=period_s) if model.timestamps is Timestamps.START else end


def row_flags(row: ProfileRow, columns: Sequence[CaptureObject], model: DlmsModel) -> frozenset[str]:
    """Names of the flags that a row's status columns set."""
    words = [
        status_word(value)
        for column, value in zip(columns, row.values, strict=True)
        if column.obis in model.status_objects
    ]
    return frozenset(name for word in words for mask, name in model.status_flags.items() if word & mask)


def column_of(channel: Channel, columns: Sequence[CaptureObject]) -> int | None:
    """Place of a channel's column, from 0: the first of its objects that is captured."""
    return next(
        (
            number
            for wanted in channel.objects
            for number, column in enumerate(columns)
            if column.obis == wanted and column.attribute == 2
        ),
        None,
    )


def is_running_total(column: CaptureObject, scaler: ScalerUnit) -> bool:
    """Whether intervals are what the column has grown by from row to row: group D tells, of counts, too."""
    return not column.is_increment and scaler.unit in (*_ENERGY_UNITS, NO_UNIT)


def pulses_of_one(scaler: ScalerUnit, model: DlmsModel) -> Fraction:
    """Pulses of one raw unit of a column with that scaler; counts of no energy are pulses themselves."""
    if scaler.unit not in _ENERGY_UNITS:
        return Fraction(1)
    return Fraction(10) ** scaler.scaler / model.pulse_wh


def whole_number(value: Data) -> int | None:
    """A value that is a whole number."""
    return value.value if isinstance(value.value, int) and not isinstance(value.value, bool) else None


def text_of(value: Data) -> str | None:
    """A serial number as text: octets as ASCII or else hexadecimal, numbers as digits."""
    raw = value.value
    if isinstance(raw, str):
        raw = raw.encode("utf-8" if value.tag is Tag.UTF8_STRING else "latin-1", "surrogateescape")
    if isinstance(raw, bytes):
        text = raw.rstrip(b"\0 ").decode("latin-1")
        return text.strip() if text.isprintable() and text.isascii() else raw.hex()
    number = whole_number(value)
    return None if number is None else str(number)


def status_word(value: Data) -> int:
    """A status column as a number, whatever type carries it."""
    raw = value.value
    if isinstance(raw, bytes):
        return int.from_bytes(raw, "big")
    if isinstance(raw, str):
        return int(raw, 2) if raw and set(raw) <= {"0", "1"} else 0
    return raw if isinstance(raw, int) else 0
