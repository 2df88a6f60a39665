"""From the frames of a DLMS session to what they mean. Pure, as `nbr14522.decode` is.

Reference "dlms_cosem", sections 5 and 6. What a load profile holds is told by `rows`, `columns` and
`intervals`, what its clock states by `times`; what is doubtful is left out, or stated, with its reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

from collector.decoded import (
    ChangeRow,
    DayVector,
    Decoded,
    Frame,
    Issue,
    MeterContext,
    ParametersRow,
    RegisterRow,
)
from collector.dlms.columns import NO_SCALER, Choice, Column, choose, row_flags, unit_problem
from collector.dlms.constants import Constants
from collector.dlms.intervals import intervals_of, vectors_of
from collector.dlms.phases import phase_vectors
from collector.dlms.rows import LoadProfile, Row, add_row, lengths_s, periods_of, timed_rows
from collector.dlms.script import CLOCK, DATA, REGISTER
from collector.dlms.times import Times
from collector.work.planning import day_of
from protocols.acquisition import (
    Action,
    Decision,
    Holds,
    StatedColumn,
    StatedTotal,
    Statement,
    divides_day,
)
from protocols.dlms.apdu import result_name
from protocols.dlms.axdr import Data, Tag
from protocols.dlms.describe import shown
from protocols.dlms.errors import RemoteProtocolError
from protocols.dlms.models import DlmsModel, DoubtfulClock
from protocols.dlms.profile import (
    BUFFER,
    COLUMNS,
    DEMAND,
    PERIOD,
    PROFILE,
    SORT_METHOD,
    CaptureObject,
    ScalerUnit,
    decode_capture_objects,
    decode_rows,
    decode_scaler_unit,
    number_of,
    row_step_s,
)
from protocols.dlms.transcript import Exchange, Recorded, exchanges

_MAX_CODE = (1 << 15) - 1
_EVENT_CODES = "0-0:96.11."
# A million bad rows say no more than these.
_MAX_ISSUES = 500
_SHOWN = 24
# A clock that has lost its battery begins in 2000 or 1990; what is older would only cost memory.
_EVER = timedelta(days=40 * 365)


def decode_dlms(stored: Iterable[Frame], model: DlmsModel, context: MeterContext) -> Decoded:
    """Decode all frames of one session, in order of `seq`. An answer that broke off gives nothing."""
    reader = _Reader(model, context)
    record = (Recorded(frame.at, frame.is_sent, frame.payload) for frame in stored)
    for exchange in exchanges(record, model.tolerates_trailing, reader.passed_over):
        reader.take(exchange)
    return reader.finish()


class _Reader:
    def __init__(self, model: DlmsModel, context: MeterContext) -> None:
        self._model = model
        self._context = context
        self._profiles: dict[str, LoadProfile] = {}
        self._scalers: dict[str, ScalerUnit] = {}
        self._registers: dict[str, int] = {}
        self._constants = Constants(model)
        self._issues: list[Issue] = []
        self._decisions: list[Decision] = []
        self._questions: list[str] = []
        self._refused: dict[str, int] = {}
        self._serial: str | None = None
        self._times = Times(model, context.zone)
        self._heard_at: datetime | None = None
        self._blocks = 0
        self._flags: dict[str, int] = {}
        self._strays: dict[str, int] = {}

    def passed_over(self, what: str) -> None:
        """Count what came in between."""
        self._strays[what] = self._strays.get(what, 0) + 1

    def take(self, exchange: Exchange) -> None:
        attribute, value = exchange.attribute, exchange.value
        name = f"{attribute.obis} attribute {attribute.index}"
        self._blocks += exchange.blocks
        self._heard_at = self._heard_at or exchange.received_at
        if attribute.obis == self._model.load_profile and attribute.index == BUFFER:
            self._questions.append(question(exchange))
        if exchange.code:
            self._refused[name] = exchange.code
            return
        if exchange.is_exception:
            self._decide(Action.REFUSED, f"{name}: {exchange.problem}", 1)
            return
        if value is None:
            self._issue("frame", f"{name}: {exchange.problem}", {})
            return
        if exchange.surplus:
            reason = f"{name}: {exchange.surplus} surplus octets were passed over, as the model says"
            self._issue("frame", reason, {"octets": exchange.surplus})
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
        elif self._constants.take(obis, index, value):
            pass
        elif class_id == CLOCK and index == 2:
            told = self._times.take_clock(value, exchange.sent_at, exchange.received_at)
            if told is not None and (told.is_invalid or told.is_doubtful):
                self._issue("decode", "the meter says that its clock is invalid or doubtful", {})
        elif class_id == PROFILE:
            self._read_profile(self._profiles.setdefault(obis, LoadProfile()), exchange, value)
        elif index == (4 if class_id == DEMAND else 3) and isinstance(value.value, tuple):
            self._scalers[obis] = decode_scaler_unit(value)
        elif class_id == REGISTER and index == 2:
            self._read_register(obis, value)

    def _read_register(self, obis: str, value: Data) -> None:
        number = number_of(value)
        if isinstance(number, int):
            self._registers[obis] = number
        else:
            self._issue("decode", f"register {obis} is no whole number", {"value": shown(value)})

    @staticmethod
    def _read_profile(profile: LoadProfile, exchange: Exchange, value: Data) -> None:
        index = exchange.attribute.index
        if index == COLUMNS:
            profile.columns = decode_capture_objects(value)
        elif index == PERIOD:
            profile.period_s = max(0, whole_number(value) or 0)
        elif index == SORT_METHOD:
            profile.sort_method = whole_number(value)
        elif index == BUFFER:
            profile.answers.append(exchange)

    # --- what it comes to ----------------------------------------------------------------------------

    def finish(self) -> Decoded:
        is_held = self._blocks > 0 and self._serial != self._context.serial
        if is_held and self._serial is None:
            self._issue("decode", "V10: the meter does not tell its serial number; held", {})
        elif is_held:
            detail = {"registered": self._context.serial, "answered": self._serial}
            self._issue("decode", "V10: another meter answered than the registry names; held", detail)
        self._judge_registers()
        load = self._profiles.get(self._model.load_profile)
        all_rows = [] if load is None else self._timed(load)
        rows = [] if load is None else self._good(load, all_rows)
        totals: list[StatedTotal] = []
        columns, vectors = ([], []) if load is None or not rows else self._vectors(load, rows, totals)
        changes = tuple(self._events())
        self._count_strays()
        return Decoded(
            vectors=tuple(vectors),
            registers=tuple(self._register_rows()),
            changes=changes,
            parameters=tuple(self._parameters(load)),
            issues=tuple(self._issues),
            meter_serial=self._serial,
            clock=self._times.reading,
            last_end=max((row.end for row in rows), default=None),
            blocks=self._blocks,
            is_held=is_held,
            clock_facts=self._times.facts(),
            statement=None if load is None else self._statement(load, columns, rows, totals),
            got=None if load is None else periods_of(all_rows),
        )

    def _judge_registers(self) -> None:
        for obis in sorted(self._registers):
            scaler = self._scalers.get(obis)
            if scaler is None:
                del self._registers[obis]
                self._issue("decode", f"register {obis} has no scaler: left out", {})
                continue
            register = CaptureObject(REGISTER, obis, 2)
            problem = unit_problem(register, scaler) if register.holds is Holds.TOTAL else ""
            if problem:
                del self._registers[obis]
                self._issue("decode", f"register {obis}: {problem}: left out", {})

    def _timed(self, load: LoadProfile) -> list[Row]:
        """All rows that came, with what their moments rest on."""
        if not load.answers:
            return []
        found: list[RemoteProtocolError] = []
        rows = timed_rows(load, self._model, self._context.zone, found.append) if load.columns else []
        if not load.columns or (not divides_day(load.period_s) and all(row.length_s is None for row in rows)):
            detail = {"columns": len(load.columns), "period_s": load.period_s}
            reason = "load profile without columns, or with a period that divides no day"
            self._issue("decode", reason, detail)
            return []
        for error in found:
            self._issue("decode", f"load profile: {error}", {})
        for row in rows:
            self._times.take_row(row.profile)
        return rows

    def _good(self, load: LoadProfile, rows: Sequence[Row]) -> list[Row]:
        """Rows by the end of their interval; doubled ones once, contradicting ones not."""
        found: dict[datetime, list[Row]] = {}
        for row in rows:
            if self._is_good(load, row):
                add_row(found.setdefault(row.end, []), row)
        for end in sorted(end for end, same in found.items() if len(same) > 1):
            # Both are kept, with their reason; neither is taken.
            told = [[shown(value) for value in row.profile.values] for row in found.pop(end)]
            reason = "two rows of the load profile end at one time: the clock was set"
            self._issue("decode", reason, {"end": end.isoformat(), "rows": told}, day_of(end))
        good = [found[end][0] for end in sorted(found)]
        self._tell_lengths(load, good)
        self._mark(good)
        return good

    def _is_good(self, load: LoadProfile, row: Row) -> bool:
        latest = self._times.latest_end(row.answer.received_at)
        end = row.end.isoformat()
        if row.told > latest:
            limits = {"end": end, "latest": latest.isoformat()}
            self._issue("decode", "a row of the load profile ends in the future", limits)
            return False
        if latest - row.told > _EVER:
            self._issue("decode", "a row of the load profile is older than any meter", {"end": end})
            return False
        bad = self._status(row, load.columns) & self._model.invalid_flags
        clock = row.profile.clock
        if clock.is_invalid:
            bad = bad | {"clock invalid"}
        if clock.is_doubtful and self._model.doubtful_clock is DoubtfulClock.REFUSED:
            bad = bad | {"clock doubtful"}
        if bad:
            detail = {"end": end, "flags": sorted(bad)}
            reason = "the meter marks rows of its load profile as invalid"
            self._issue("decode", reason, detail, day_of(row.end))
            return False
        if row.length_s is not None and not row.is_on_grid:
            self._issue("decode", "a row of the load profile is off the grid", {"end": end})
            return False
        return True

    def _status(self, row: Row, columns: Sequence[CaptureObject]) -> frozenset[str]:
        """Names of the flags that are set; counted, so that the record shows what the meter reported."""
        names = row_flags(row.profile, columns, self._model)
        for name in names:
            self._flags[name] = self._flags.get(name, 0) + 1
        return names

    def _tell_lengths(self, load: LoadProfile, rows: Sequence[Row]) -> None:
        """Rows decide, and what they decide against is told."""
        counts = lengths_s(rows)
        if counts.keys() <= {load.period_s}:
            return
        changes = [
            after.end.isoformat()
            for before, after in pairwise(rows)
            if None not in (before.length_s, after.length_s) and before.length_s != after.length_s
        ]
        each = ", ".join(f"{length} s" for length in sorted(counts))
        of_each = {str(length): count for length, count in sorted(counts.items())}
        detail = {"stated_s": load.period_s, "lengths_s": of_each, "changes": changes[:_SHOWN]}
        stated = f"the load profile states a period of {load.period_s} s"
        self._issue("decode", f"{stated}, and its rows come each {each}: rows decide", detail)

    def _mark(self, rows: Sequence[Row]) -> None:
        """State what the model let pass."""
        near = [abs((row.end - row.told).total_seconds()) for row in rows if row.end != row.told]
        if near:
            detail = {"most_s": max(near), "tolerance_s": self._model.grid_tolerance_s}
            self._decide(Action.MARKED, "rows beside their border, within the tolerance", len(near), detail)
        doubtful = sum(row.profile.clock.is_doubtful for row in rows)
        if doubtful:
            self._decide(Action.MARKED, "rows whose clock says that it is doubtful", doubtful)

    def _vectors(
        self, load: LoadProfile, rows: Sequence[Row], totals: list[StatedTotal]
    ) -> tuple[list[StatedColumn], list[DayVector]]:
        columns: list[StatedColumn] = []
        vectors: list[DayVector] = []
        for channel in self._model.channels:
            choice = choose(channel, load.columns, self._scalers, self._model)
            self._tell_refused(choice)
            columns += choice.refused
            if choice.column is not None:
                columns.append(choice.column.stated(told_wh=self._constants.pulse_wh))
                vectors += self._of(choice.column, rows, totals)
        vectors += phase_vectors(load.columns, self._scalers, rows, self._model)
        if not columns:
            captured = [f"{column.obis} attribute {column.attribute}" for column in load.columns]
            reason = "no column of the load profile is one of the model's channels"
            self._issue("decode", reason, {"columns": captured})
        return columns, vectors

    def _of(self, column: Column, rows: Sequence[Row], totals: list[StatedTotal]) -> list[DayVector]:
        def on_issue(reason: str, detail: Mapping[str, Any], day: date | None) -> None:
            self._issue("decode", reason, detail, day)

        found = intervals_of(column, rows, self._model, on_issue, self._context.most_w)
        if found.total is not None:
            totals.append(found.total)
        if found.filled:
            detail = {"column": column.name, "ends": [end.isoformat() for end in found.filled[:_SHOWN]]}
            reason = "nulls that stand for the value above, as the model says"
            self._decide(Action.MARKED, reason, len(found.filled), detail)
        if column.holds is Holds.AVERAGE and found.pulses:
            reason = "average power x length of the interval"
            self._decide(Action.CONVERTED, reason, len(found.pulses), {"column": column.name})
        return list(vectors_of(column, found))

    def _tell_refused(self, choice: Choice) -> None:
        """Say why columns are not used; an older value beside the present one is no matter."""
        for refused in choice.refused:
            code = refused.name.split()[0]
            is_matter = choice.column is None or "data_index" not in refused.refused
            if is_matter and refused.refused == NO_SCALER:
                self._issue("decode", f"column {code} has no scaler: left out", {})
            elif is_matter:
                detail = {"channel": refused.channel, "column": refused.name}
                self._issue("decode", f"column {code} is refused: {refused.refused}", detail)

    def _statement(
        self,
        load: LoadProfile,
        columns: Sequence[StatedColumn],
        rows: Sequence[Row],
        totals: Sequence[StatedTotal],
    ) -> Statement:
        basis = f"the {self._model.timestamps} of the interval by the meter's clock, in {self._context.zone}"
        return Statement(
            columns=tuple(columns),
            interval_s=load.period_s or None,
            lengths_s=lengths_s(rows),
            time_basis=basis,
            status=dict(self._flags),
            decisions=tuple(self._decisions),
            questions=tuple(self._questions[:_SHOWN]),
            ratio=self._constants.ratio,
            totals=tuple(totals),
        )

    def _count_strays(self) -> None:
        for what, count in sorted(self._strays.items()):
            self._decide(Action.PASSED_OVER, f"{what} between an answer and the next", count)

    def _decide(
        self, action: Action, reason: str, count: int, detail: Mapping[str, Any] | None = None
    ) -> None:
        self._decisions.append(Decision(action, reason, count, detail or {}))

    @property
    def _at(self) -> datetime | None:
        """When the meter was read: by its clock, or by ours where that tells no moment."""
        return self._heard_at if self._times.reading is None else self._times.reading.meter_time

    def _register_rows(self) -> Iterable[RegisterRow]:
        for number, obis in enumerate(self._model.registers, start=1):
            if obis in self._registers and self._at is not None:
                scaler = self._scalers[obis]
                values = {"raw": self._registers[obis], "scaler": scaler.scaler, "unit": scaler.unit}
                yield RegisterRow(REGISTER, number, self._at, values)

    def _parameters(self, load: LoadProfile | None) -> Iterable[ParametersRow]:
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
            for answer in log.answers:
                assert answer.value is not None
                yield from self._log_rows(obis, log, answer.value)

    def _log_rows(self, obis: str, log: LoadProfile, buffer: Data) -> Iterator[ChangeRow]:
        def bad(error: RemoteProtocolError) -> None:
            self._issue("decode", f"event log {obis}: {error}", {})

        place, rules = _code_column(log.columns), self._model.clock_rules
        step_s = row_step_s(log.period_s, log.sort_method)
        try:
            for row in decode_rows(buffer, log.columns, step_s, self._context.zone, bad, rules):
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


def question(exchange: Exchange) -> str:
    """What was asked of a profile's buffer, and what came, in words."""
    asked = {0: "all rows", 1: "rows by time", 2: "rows by number"}.get(exchange.selector, "rows")
    selection = exchange.selection
    if selection is not None and isinstance(selection.value, tuple):
        ends = [shown(part) for part in selection.value[1 if exchange.selector == 1 else 0 :][:2]]
        asked += " " + " to ".join(str(end) for end in ends)
    if exchange.code:
        return f"{asked}: {result_name(exchange.code)}"
    if exchange.value is None:
        return f"{asked}: {exchange.problem}"
    rows = exchange.value.value
    return f"{asked}: {len(rows) if isinstance(rows, tuple) else 'no'} rows"


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
