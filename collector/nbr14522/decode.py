"""From a session's frames to what they mean. Pure: same frames and context, same result, for ever.

The service decodes nothing but what it has stored, by this one function: after a session, after a crash and
in a replay. Reference: nbr14522.md sections 3 (parameters), 5 (registers, failures, changes) and 8 (memory).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collector.decoded import (
    ChangeRow,
    ClockReading,
    DayVector,
    Decoded,
    Frame,
    Issue,
    MemorySum,
    MeterContext,
    OutageRow,
    ParametersRow,
    RegisterRow,
)
from collector.planning import day_of
from protocols.nbr14522 import checks
from protocols.nbr14522 import frames as wire
from protocols.nbr14522.checks import CrossCheck, Verdict
from protocols.nbr14522.errors import RemoteProtocolError
from protocols.nbr14522.memory import (
    CHANNELS_PER_GROUP,
    MAX_BLOCK_NUMBER,
    WORDS_PER_BLOCK,
    payloads_to_words,
    split_channels,
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
from protocols.nbr14522.profile import HandShake, LimitedCount, MeterProfile
from protocols.nbr14522.secrets import redact

MEMORY_CODES = frozenset({0x26, 0x27, 0x52})
MEMORY_NOW = 0x26
_REGISTERS_OF = {0x26: 0x23, 0x27: 0x24}
# Parameters whose counts a memory answer goes by, most fitting first (nbr14522.md 2.2, 8.1).
PARAMETERS_OF = {0x26: (0x21, 0x20), 0x27: (0x22, 0x20, 0x21), 0x52: (0x51,)}
ACTIVE_DIRECT = 1
_NO_CHANNEL = frozenset({6, 99})  # disabled, none (nbr14522.md 9.1)
_UNDEFINED = frozenset({0, 7})
_DAY_S = 86400
_LIMIT_UNIT_S = {LimitUnit.HOURS: 3600, LimitUnit.DAYS: _DAY_S}


@dataclass(slots=True)
class _MemoryAnswer:
    code: int
    parameters: Parameters | None
    group: int
    limit_s: int | None
    may_begin_until: datetime | None = None
    is_moved: bool = False
    payloads: list[bytes] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)
    has_last: bool = False


@dataclass(frozen=True, slots=True)
class TakenMemory:
    """A memory whose words became readings, and the frames that they stand in.

    Attributes:
        group: of channels, from 0.
        first_end: of its first interval, as the meter's clock has it, naive.
        intervals: as many as its words count, of which a broken answer holds only the first.
        seqs: `Frame.seq` of its blocks, in order.
    """

    group: int
    first_end: datetime
    interval_s: int
    intervals: int
    seqs: tuple[int, ...]


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
        self._memories: list[_MemoryAnswer] = []
        self._registers: list[RegisterRow] = []
        self._held: dict[tuple[int, int], Registers] = {}
        self._failures: list[tuple[datetime, datetime]] = []
        self._checks: list[CrossCheck] = []
        self._sums: list[MemorySum] = []
        self._answered: set[int] = set()
        self._outages: dict[datetime, OutageRow] = {}
        self._changes: dict[ChangeRow, None] = {}
        self._rows: dict[int, ParametersRow] = {}
        self._issues: list[Issue] = []
        self._serial: str | None = None
        self._clock: ClockReading | None = None
        self._absent: set[int] = set()
        self._last_end: datetime | None = None
        self._vectors: dict[tuple[int, date], DayVector] = {}
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
            self._memories.append(_MemoryAnswer(code, parameters, self._group, self._limit_s, until))

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
                self._registers_answer(response)
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

    def _registers_answer(self, response: Registers) -> None:
        moment = self._meter_now
        self._held[response.code, self._group] = response
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
            if failure is None or failure.start is None or failure.end is None:
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
        memory.payloads.append(payload)
        memory.seqs.append(frame.seq)
        memory.has_last = is_last

    def _block_number(self, position: int) -> int:
        """Number of the block at a position (from 1) of an answer; long ones overflow its three digits."""
        if self._profile.block_after_999 == 0:
            return position % (MAX_BLOCK_NUMBER + 1)
        return (position - 1) % MAX_BLOCK_NUMBER + 1

    def finish(self) -> Decoded:
        for memory in self._memories:
            self._memory(memory)
        registered = self._context.serial
        is_held = self._serial is not None and not self._profile.same_serial(registered, self._serial)
        if is_held:
            detail = {"registered": registered, "answered": self._serial}
            self._issue("decode", "V10: another meter answered than the registry names; held", detail)
        parameters = list(self._rows.values())
        if self._absent and self._meter_now is not None:
            absent = {"not_implemented": sorted(f"{code:02X}" for code in self._absent)}
            parameters.append(ParametersRow(wire.NOT_IMPLEMENTED, self._utc(self._meter_now), absent))
        return Decoded(
            vectors=tuple(self._vectors[key] for key in sorted(self._vectors)),
            registers=tuple(self._registers),
            outages=tuple(self._outages.values()),
            changes=tuple(self._changes),
            parameters=tuple(parameters),
            issues=tuple(self._issues),
            meter_serial=self._serial,
            clock=self._clock,
            absent=frozenset(self._absent),
            last_end=self._last_end,
            blocks=sum(len(memory.payloads) for memory in self._memories),
            is_held=is_held,
            is_moved=any(memory.is_moved for memory in self._memories),
            cross_checks=tuple(self._checks),
            sums=tuple(self._sums),
            answered=frozenset(self._answered),
        )

    def _memory(self, memory: _MemoryAnswer) -> None:
        if not memory.payloads:
            return
        where = f"memory {memory.code:02X}"
        if memory.is_moved:
            # A ring, or a limit, moves on with each interval: where the words begin then is not known, and
            # one slot beside is a wrong value everywhere.
            self._issue("decode", f"{where}: an interval ended after its parameters", {})
            return
        parameters = memory.parameters
        if parameters is None:
            self._issue("decode", f"{where}: no parameters were read before it", {})
            return
        last_end = parameters.last_reset if memory.code == 0x27 else parameters.last_interval_end
        interval_s = parameters.memory_interval_s
        words = self._announced(memory, parameters)
        reason = self._grid_fault(memory, words, last_end, interval_s)
        if reason or words is None or last_end is None or interval_s is None:
            detail = {
                "words_announced": words,
                "last_end": str(last_end),
                "interval_s": interval_s,
                "blocks": len(memory.payloads),
            }
            self._issue("decode", f"{where}: {reason}", detail)
            return
        got = payloads_to_words(memory.payloads, words, self._profile.packing)
        intervals = split_channels(got, sign_bit=self._profile.sign_bit)
        first_end = last_end - timedelta(seconds=(words // CHANNELS_PER_GROUP - 1) * interval_s)
        count = words // CHANNELS_PER_GROUP
        self.taken.append(TakenMemory(memory.group, first_end, interval_s, count, tuple(memory.seqs)))
        if memory.code != 0x27:
            self._last_end = max(self._last_end or last_end, last_end)
        for vector in self._cut(intervals, first_end, interval_s, parameters, memory.group):
            self._add(vector)
        if memory.has_last and len(intervals):
            self._sums.append(self._sum(memory, parameters, intervals, first_end))
        self._cross_check(memory, parameters, words, intervals, first_end)

    def _sum(
        self, memory: _MemoryAnswer, parameters: Parameters, intervals: NDArray[np.int32], first_end: datetime
    ) -> MemorySum:
        interval = timedelta(seconds=parameters.memory_interval_s or 0)
        # 23 counts on until it is read, a moment after the parameters: the running interval, and one more.
        beyond = (self._meter_now or first_end) - (parameters.last_interval_end or first_end)
        return MemorySum(
            code=memory.code,
            first_channel=memory.group * CHANNELS_PER_GROUP + 1,
            begins_at=self._utc(first_end - interval),
            pulses=tuple(int(total) for total in intervals.sum(axis=0, dtype=np.int64)),
            open_intervals=0 if memory.code == 0x27 else beyond // interval + 2,
        )

    def _cross_check(
        self,
        memory: _MemoryAnswer,
        parameters: Parameters,
        words: int,
        intervals: NDArray[np.int32],
        first_end: datetime,
    ) -> None:
        """Compare a memory with what else the session brought, where it brought it."""
        interval_s = parameters.memory_interval_s or 0
        may_grow = memory.code == MEMORY_NOW
        found = [checks.check_words(words, len(memory.payloads), memory.has_last, may_grow=may_grow)]
        if len(intervals) and self._failures:
            last_got = first_end + timedelta(seconds=(len(intervals) - 1) * interval_s)
            found.append(checks.check_failures(intervals, last_got, interval_s, self._failures))
        held = self._held.get((_REGISTERS_OF.get(memory.code, 0), memory.group))
        if held is not None and memory.has_last:
            packing, set_octet = self._profile.packing, self._profile.second_set_active_octet
            found.append(
                checks.check_packing(memory.payloads, parameters, held, packing, second_set_octet=set_octet)
            )
        self._checks += found
        for check in found:
            if check.verdict is Verdict.MISFIT:
                counts = {"made": check.made, "agreed": check.agreed, "group": memory.group}
                reason = f"memory {memory.code:02X}: {check.name} do not agree"
                self._issue("cross_check", reason, counts | dict(check.detail))

    def _announced(self, memory: _MemoryAnswer, parameters: Parameters) -> int | None:
        if memory.code == 0x27:
            return parameters.words_previous
        words, interval_s = parameters.words_current, parameters.memory_interval_s
        is_whole_count = self._profile.limited_count is LimitedCount.WHOLE
        if memory.code == 0x52 and is_whole_count and memory.limit_s and words and interval_s:
            return min(words, memory.limit_s // interval_s * CHANNELS_PER_GROUP)
        return words

    def _grid_fault(
        self, memory: _MemoryAnswer, words: int | None, last_end: datetime | None, interval_s: int | None
    ) -> str:
        """Why the words cannot be given times, or nothing."""
        if words is None or last_end is None or interval_s is None:
            return "the parameters lack word count, last interval or interval length"
        if _DAY_S % interval_s:
            return "the interval does not divide a day"
        if (last_end - datetime.min).seconds % interval_s:  # noqa: DTZ901 -- naive on both sides
            return "the last interval does not end on the grid"
        if words % CHANNELS_PER_GROUP:
            return "the announced words are no whole intervals"
        if self._meter_now is not None and last_end > self._meter_now:
            return "the last interval ends after the meter's own time"
        announced = -(-words // WORDS_PER_BLOCK)
        received = len(memory.payloads)
        if memory.has_last and received < announced:
            return "the answer ended before the announced words"
        # While 26 is read the period goes on; more than one block more is no growth, but a count we misread.
        if received > max(announced, 1) + (memory.code == 0x26):
            return "more words came than were announced"
        return ""

    def _cut(
        self,
        intervals: NDArray[np.int32],
        first_end: datetime,
        interval_s: int,
        parameters: Parameters,
        group: int,
    ) -> Iterable[DayVector]:
        """Day vectors of all channels; slots outside the words stay missing."""
        if not len(intervals):
            return
        first_day = day_of(first_end)
        slots = _DAY_S // interval_s
        since_midnight = first_end - datetime.combine(first_day, datetime.min.time())
        start = int(since_midnight.total_seconds()) // interval_s - 1
        days = -(-(start + len(intervals)) // slots)
        pulses = np.zeros((days * slots, CHANNELS_PER_GROUP), np.int32)
        pulses[start : start + len(intervals)] = intervals
        present = np.zeros(days * slots, np.bool_)
        present[start : start + len(intervals)] = True
        for index in range(CHANNELS_PER_GROUP):
            number = group * CHANNELS_PER_GROUP + index + 1
            quantity = self._quantity(number, parameters.quantities[index])
            if quantity is None:
                continue
            for day in range(days):
                part = slice(day * slots, (day + 1) * slots)
                yield DayVector(
                    channel=number,
                    day=first_day + timedelta(days=day),
                    quantity_code=quantity,
                    interval_s=interval_s,
                    pulses=np.ascontiguousarray(pulses[part, index]),
                    present=present[part],
                )

    def _quantity(self, channel: int, answered: int | None) -> int | None:
        """The channel's quantity code, or None where the channel carries nothing, or not what it should."""
        code = 0 if answered is None else answered
        if channel != self._context.active_channel:
            return None if code in _NO_CHANNEL else code
        if code in _UNDEFINED:
            return ACTIVE_DIRECT  # old meters leave the octet empty; the registry knows the channel
        if code != ACTIVE_DIRECT:
            detail = {"channel": channel, "quantity": code}
            reason = f"channel {channel} should carry active energy, the meter says otherwise"
            self._issue("decode", reason, detail)
            return None
        return code

    def _add(self, vector: DayVector) -> None:
        """Keep a vector; two memories of one session may share the day of a reset."""
        key = (vector.channel, vector.day)
        other = self._vectors.get(key)
        if other is None or other.interval_s != vector.interval_s:
            self._vectors[key] = vector
            return
        both = other.present & vector.present
        clash = both & (other.pulses != vector.pulses)
        if clash.any():
            detail = {"channel": vector.channel, "slots": np.flatnonzero(clash).tolist()}
            self._issue("decode", "two memories of one session disagree", detail, vector.day)
        take = vector.present & ~other.present
        self._vectors[key] = DayVector(
            channel=vector.channel,
            day=vector.day,
            quantity_code=other.quantity_code,
            interval_s=vector.interval_s,
            pulses=np.where(take, vector.pulses, other.pulses),
            present=(other.present | vector.present) & ~clash,
        )

    def _utc(self, local: datetime) -> datetime:
        return local.replace(tzinfo=self._context.zone)

    def _issue(self, stage: str, reason: str, detail: dict[str, Any], day: date | None = None) -> None:
        self._issues.append(Issue(stage, reason, detail, day))


_PARAMETER_CODES = frozenset({0x20, 0x21, 0x22, 0x51})


def frame_code(request: Request) -> int:
    """The command code of a request, as on the wire."""
    return request.CODE if request.code is None else request.code
