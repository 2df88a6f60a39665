"""From a session's frames to what they mean. Pure: same frames and context, same result, for ever.

The service decodes nothing but what it has stored, by this one function: after a session, after a crash and
in a replay. Reference: nbr14522.md sections 3 (parameters), 5 (registers, failures, changes) and 8 (memory).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from collector.decoded import (
    ChangeRow,
    ClockReading,
    Decoded,
    Frame,
    Issue,
    MeterContext,
    OutageRow,
    ParametersRow,
    RegisterRow,
)
from collector.nbr14522.memories import (
    MEMORY_CODES,
    NO_CHANNEL,
    PARAMETERS_OF,
    Answers,
    Memories,
    MemoryAnswer,
    TakenMemory,
)
from protocols.acquisition import Holds, StatedColumn, Statement
from protocols.nbr14522 import frames as wire
from protocols.nbr14522.errors import RemoteProtocolError
from protocols.nbr14522.memory import (
    CHANNELS_PER_GROUP,
    MAX_BLOCK_NUMBER,
)
from protocols.nbr14522.messages import (
    Change,
    ChangeLog,
    Instantaneous,
    LimitUnit,
    MeasurementParameters,
    NotImplementedAnswer,
    OccurrenceAnswer,
    Parameters,
    PowerFailures,
    Registers,
    Request,
    Response,
    WholeMemoryParametersRequest,
    block_mark,
    decode_request,
    decode_response,
)
from protocols.nbr14522.profile import HandShake, MeterProfile
from protocols.nbr14522.sending.secrets import redact

_WH = 1000
_LIMIT_UNIT_S = {LimitUnit.HOURS: 3600, LimitUnit.DAYS: 86_400}


def decode_session(
    stored: Iterable[Frame], profile: MeterProfile, context: MeterContext, *, has_times: bool = True
) -> Decoded:
    """Decode all frames of one session, in order of `seq`.

    Blocks with a bad CRC are skipped: they are evidence, not data. An answer that broke off gives the
    intervals of its good blocks, which are the oldest ones.

    Args:
        has_times: False where `Frame.at` says nothing (a file): no drift, no check that depends on it.
    """
    return _read(stored, _Reader(profile, context, has_times))[0]


def memories_taken(
    stored: Iterable[Frame], profile: MeterProfile, *, has_times: bool = True
) -> list[TakenMemory]:
    """Where the readings come from that `decode_session` makes of these frames; of two, the first counts."""
    nobody = MeterContext(meter_id=0, serial="", active_channel=0, zone=UTC)
    return _read(stored, _Reader(profile, nobody, has_times))[1]


def _read(stored: Iterable[Frame], reader: _Reader) -> tuple[Decoded, list[TakenMemory]]:
    for frame in stored:
        if frame.is_sent:
            reader.sent(frame)
        elif frame.crc_ok:
            reader.received(frame)
    return reader.finish(), reader.taken


class _Reader:
    def __init__(self, profile: MeterProfile, context: MeterContext, has_times: bool) -> None:
        self._profile = profile
        self._context = context
        self._has_times = has_times
        self._request: Request | None = None
        self._sent_at: datetime | None = None
        self._parameters: dict[int, Parameters] = {}
        self._meter_now: datetime | None = None
        self._group = 0
        self._limit_s: int | None = None
        self._whole_until: datetime | None = None
        self._memories: list[MemoryAnswer] = []
        self._registers: list[RegisterRow] = []
        self._register_answers: dict[tuple[int, int], Registers] = {}
        self._told_at: dict[int, datetime] = {}
        self._stated: dict[int, Parameters] = {}
        self._failures: list[tuple[datetime, datetime]] = []
        self._answered: set[int] = set()
        self._outages: dict[datetime, OutageRow] = {}
        self._changes: dict[ChangeRow, None] = {}
        self._rows: dict[int, ParametersRow] = {}
        self._issues: list[Issue] = []
        self._serial: str | None = None
        self._clock: ClockReading | None = None
        self._absent: set[int] = set()
        self.taken: list[TakenMemory] = []

    def sent(self, frame: Frame) -> None:
        self._sent_at = frame.at if self._has_times else None
        if redact(frame.payload, self._profile.addressing, is_command=True).span is not None:
            self._request = None  # kept without its secrets, so without a good CRC
            return
        request = decode_request(wire.unwrap_command(frame.payload, self._profile.addressing))
        code = frame_code(request)
        is_continuation = self._profile.hand_shake is HandShake.REPEAT_COMMAND and request.octets[4] != 0
        self._request = request
        if isinstance(request, WholeMemoryParametersRequest):
            unit_s = _LIMIT_UNIT_S.get(request.unit or LimitUnit.EVERYTHING)
            if request.unit is LimitUnit.HOURS and not self._profile.hours_limit_is_trusted:
                unit_s = (
                    None  # what the meter took the amount for is not known: the count stands as announced
                )
            self._limit_s = unit_s and unit_s * (request.amount or 0)
        if code in _PARAMETER_CODES:
            self._group = getattr(request, "group", None) or 0
        if code in MEMORY_CODES and not is_continuation:
            parameters = next(
                (self._parameters[c] for c in PARAMETERS_OF[code] if c in self._parameters), None
            )
            until = self._whole_until if code == 0x52 else None
            self._memories.append(MemoryAnswer(code, parameters, self._group, self._limit_s, until))

    def received(self, frame: Frame) -> None:
        try:
            content = wire.unwrap_response(frame.payload, self._profile.addressing)
            if content[0] in MEMORY_CODES:
                self._memory_block(content, frame)
                return
            response = decode_response(content)
        except RemoteProtocolError as error:
            self._issue("frame", error.message, {"seq": frame.seq})
            return
        if self._serial is None:
            self._serial = response.meter_serial
        self._answered.add(response.code)
        self._note_problems(response, frame)
        self._response(response, frame)

    def _response(self, response: Response, frame: Frame) -> None:
        match response:
            case Parameters():
                self._parameters_answer(response, frame)
            case Registers():
                self._registers_answer(response, frame)
            case PowerFailures():
                self._failures_answer(response)
            case ChangeLog():
                for change in (*response.changes, *response.extended_changes):
                    self._change(change)
            case MeasurementParameters() | Instantaneous():
                self._keep(response)
            case NotImplementedAnswer():
                if response.refused_code is not None:
                    self._absent.add(response.refused_code)
            case OccurrenceAnswer():
                code = None if self._request is None else f"{frame_code(self._request):02X}"
                detail = {"command": code, "occurrence": response.occurrence, "detail": response.detail}
                # In the digits of the wire, by which manuals name it.
                self._issue(
                    "frame", f"the meter answered with occurrence {response.occurrence or 0:02X} (40)", detail
                )
            case _:
                pass  # kept raw in the evidence; no table of ours has its layout

    def _parameters_answer(self, response: Parameters, frame: Frame) -> None:
        self._parameters[response.code] = response
        self._stated[self._group] = response
        if self._has_times:
            self._told_at[response.code] = frame.at
        if response.meter_time is None:
            return
        interval_s = response.memory_interval_s
        if response.code == 0x51 and self._sent_at is not None and interval_s:
            # The meter's time is cut to whole seconds, and as old as the command may be.
            seconds = (
                response.meter_time.hour * 3600 + response.meter_time.minute * 60 + response.meter_time.second
            )
            self._whole_until = self._sent_at + timedelta(seconds=interval_s - seconds % interval_s - 1)
        self._meter_now = response.meter_time
        self._keep(response)
        if self._clock is None and self._sent_at is not None:
            meter_time = self._utc(response.meter_time)
            round_trip = frame.at - self._sent_at
            middle = self._sent_at + round_trip / 2
            self._clock = ClockReading(
                meter_time, (meter_time - middle).total_seconds(), round_trip.total_seconds()
            )

    def _registers_answer(self, response: Registers, frame: Frame) -> None:
        moment = self._meter_now
        self._register_answers[response.code, self._group] = response
        if self._has_times:
            self._told_at[response.code] = frame.at
        if response.code == 0x24:
            # All four tell it (section 3.1); a file may hold the answer to 51 alone.
            known = (self._parameters[code] for code in (0x22, 0x20, 0x21, 0x51) if code in self._parameters)
            last = next(known, None)
            moment = last.last_reset if last else None
        if moment is None:
            self._issue("decode", "registers without a time: no parameters were read before", {})
            return
        for index, channel in enumerate(response.channels):
            if channel is not None:
                values = {k: v for k, v in channel.to_json().items() if isinstance(v, int)}
                number = self._group * CHANNELS_PER_GROUP + index + 1
                self._registers.append(RegisterRow(response.code, number, self._utc(moment), values))

    def _failures_answer(self, response: PowerFailures) -> None:
        for failure in response.failures:
            if failure is None or failure.start is None:
                continue
            if failure.end is None:
                # Its return is not recorded yet: a later reading tells it.
                self._outages[failure.start] = OutageRow(self._utc(failure.start), None)
                continue
            if failure.end < failure.start:
                detail = {"start": failure.start.isoformat(), "end": failure.end.isoformat()}
                self._issue("decode", "a power failure ends before it starts", detail)
                continue
            self._failures.append((failure.start, failure.end))
            self._outages[failure.start] = OutageRow(self._utc(failure.start), self._utc(failure.end))

    def _change(self, change: Change | None) -> None:
        if change is None or change.code is None or change.at_time is None or change.reader_serial is None:
            return
        self._changes[ChangeRow(self._utc(change.at_time), change.code, change.reader_serial)] = None

    def _keep(self, response: Response) -> None:
        if self._meter_now is not None:
            values = {k: v for k, v in response.to_json().items() if k not in ("kind", "octets")}
            row = self._rows.get(response.code)
            if row is not None and self._group and isinstance(response, Parameters):
                # One row a command: what another channel group says stands beside the first one's.
                row.values.setdefault("groups", {})[str(self._group)] = values
                return
            self._rows[response.code] = ParametersRow(response.code, self._utc(self._meter_now), values)

    def _note_problems(self, response: Response, frame: Frame) -> None:
        for problem in response.problems:
            detail = {"seq": frame.seq, "octet": problem.octet, "octets": problem.octets_hex}
            where = f"answer {response.code:02X}, field {problem.name}"
            self._issue("decode", f"{where}: {problem.reason}", detail)

    def _memory_block(self, content: bytes, frame: Frame) -> None:
        serial, mark = content[1:5].hex().upper(), block_mark(content)
        self._serial = self._serial or serial
        memory = self._memories[-1] if self._memories else None
        if memory is None or memory.code != content[0] or mark is None:
            self._issue(
                "decode", "a memory block that no command asked for, or without a number", {"mark": str(mark)}
            )
            return
        number, is_last = mark
        payload = content[7:]
        held = len(memory.payloads)
        if held and number == self._block_number(held) and memory.payloads[-1] == payload:
            return  # our ACK was lost and the block came again (nbr14522.md 1.6)
        expected = self._block_number(held + 1)
        if number != expected or memory.has_last:
            detail = {"expected": expected, "got": number}
            self._issue("decode", f"memory block {number} where {expected} belongs", detail)
            return
        if not held and memory.may_begin_until is not None:
            memory.is_moved = frame.at >= memory.may_begin_until
        if memory.first_at is None and self._has_times:
            memory.first_at = frame.at
        memory.payloads.append(payload)
        memory.seqs.append(frame.seq)
        memory.has_last = is_last

    def _block_number(self, position: int) -> int:
        """Number of the block at a position (from 1) of an answer; long ones overflow its three digits."""
        if self._profile.block_after_999 == 0:
            return position % (MAX_BLOCK_NUMBER + 1)
        return (position - 1) % MAX_BLOCK_NUMBER + 1

    def finish(self) -> Decoded:
        answers = Answers(
            parameters=self._parameters,
            told_at=self._told_at,
            registers=self._register_answers,
            failures=self._failures,
            meter_now=self._meter_now,
            has_times=self._has_times,
        )
        memories = Memories(self._profile, self._context, answers, self._issue)
        for memory in self._memories:
            memories.take(memory)
        self.taken = memories.taken
        registered = self._context.serial
        # Whoever reads without a registry names no serial.
        is_held = bool(registered and self._serial) and not self._profile.same_serial(
            registered, self._serial or ""
        )
        if is_held:
            detail = {"registered": registered, "answered": self._serial}
            self._issue("decode", "V10: another meter answered than the registry names; held", detail)
        parameters = list(self._rows.values())
        if self._absent and self._meter_now is not None:
            absent = {"not_implemented": sorted(f"{code:02X}" for code in self._absent)}
            parameters.append(ParametersRow(wire.NOT_IMPLEMENTED, self._utc(self._meter_now), absent))
        return Decoded(
            vectors=memories.vectors,
            registers=tuple(self._registers),
            outages=tuple(self._outages.values()),
            changes=tuple(self._changes),
            parameters=tuple(parameters),
            issues=tuple(self._issues),
            meter_serial=self._serial,
            clock=self._clock,
            absent=frozenset(self._absent),
            last_end=memories.last_end,
            blocks=sum(len(memory.payloads) for memory in self._memories),
            is_held=is_held,
            is_moved=any(memory.is_moved for memory in self._memories),
            cross_checks=tuple(memories.checks),
            sums=tuple(memories.sums),
            answered=frozenset(self._answered),
            held=tuple(memories.held),
            statement=self._statement(),
            shortfall=memories.shortfall,
        )

    def _statement(self) -> Statement | None:
        """What the parameters say of the channels: counts of pulses, and what one pulse is."""
        columns = []
        for group, parameters in sorted(self._stated.items()):
            for index, constant in enumerate(parameters.constants):
                number = group * CHANNELS_PER_GROUP + index + 1
                code = parameters.quantities[index] or 0
                if code in NO_CHANNEL and number != self._context.active_channel:
                    continue
                value = None if constant is None else constant.fraction
                columns.append(
                    StatedColumn(
                        channel=number,
                        quantity=code,
                        name=f"channel {number}",
                        holds=Holds.INCREMENT,
                        unit="",
                        constant=value * _WH if value else None,
                    )
                )
        if not columns:
            return None
        lengths = {one.memory_interval_s for one in self._stated.values() if one.memory_interval_s}
        return Statement(
            columns=tuple(columns),
            interval_s=lengths.pop() if len(lengths) == 1 else None,
            time_basis="the meter's own clock, market time; an interval is named by its end",
        )

    def _utc(self, local: datetime) -> datetime:
        return local.replace(tzinfo=self._context.zone)

    def _issue(self, stage: str, reason: str, detail: dict[str, Any], day: date | None = None) -> None:
        self._issues.append(Issue(stage, reason, detail, day))


_PARAMETER_CODES = frozenset({0x20, 0x21, 0x22, 0x51})


def frame_code(request: Request) -> int:
    """The command code of a request, as on the wire."""
    return request.CODE if request.code is None else request.code
