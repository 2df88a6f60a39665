"""Memories of one session: from their words to day vectors, or to what a person must see first. Pure.

Reference: nbr14522.md section 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from collector.decoded import DayVector, HeldVector, MemorySum, MeterContext
from collector.nbr14522.words import set_aside
from collector.work.planning import day_of
from protocols.nbr14522 import checks
from protocols.nbr14522.checks import CheckResult, CrossCheck
from protocols.nbr14522.counts import CountFault, Demand, Memory, count_fault, last_demand
from protocols.nbr14522.link.exchange import COMPOSITE_CODES
from protocols.nbr14522.memory import (
    CHANNELS_PER_GROUP,
    WORDS_PER_BLOCK,
    payloads_to_words,
    split_channels,
)
from protocols.nbr14522.messages import Parameters, Registers
from protocols.nbr14522.profile import LimitedCount, MeterProfile
from storage.review.holds import HoldReason

MEMORY_CODES = COMPOSITE_CODES
MEMORY_NOW = 0x26
_REGISTERS_OF = {0x26: 0x23, 0x27: 0x24}
# Parameters whose counts a memory answer goes by, most fitting first (nbr14522.md 2.2, 8.1).
PARAMETERS_OF = {0x26: (0x21, 0x20), 0x27: (0x22, 0x20, 0x21), 0x52: (0x51,)}
ACTIVE_DIRECT = 1
NO_CHANNEL = frozenset({6, 99})  # disabled, none (nbr14522.md 9.1)
_UNDEFINED = frozenset({0, 7})
_DAY_S = 86400
_FEWER = "the answer ended before the announced words"
_MORE = "more words came than were announced"


@dataclass(slots=True)
class MemoryAnswer:
    """The blocks of one memory as they came, and what was asked and answered before."""

    code: int
    parameters: Parameters | None
    group: int
    limit_s: int | None
    may_begin_until: datetime | None = None
    is_moved: bool = False
    payloads: list[bytes] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)
    has_last: bool = False
    first_at: datetime | None = None


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


@dataclass(frozen=True, slots=True)
class Answers:
    """What else the session brought, by which its memories are read and judged.

    Attributes:
        parameters: by code. registers: by code and group. told_at: by code of either, when it came last.
        failures: start and end. meter_now: by the parameters, naive. has_times: whether frames have times.
    """

    parameters: Mapping[int, Parameters]
    told_at: Mapping[int, datetime]
    registers: Mapping[tuple[int, int], Registers]
    failures: Sequence[tuple[datetime, datetime]]
    meter_now: datetime | None
    has_times: bool


class Tell(Protocol):
    """How an issue is told: stage, reason, detail, day."""

    def __call__(self, stage: str, reason: str, detail: dict[str, Any], day: date | None = None) -> None: ...


class Memories:
    """The memories of one session, taken one after the other; the attributes are what came of them."""

    def __init__(self, profile: MeterProfile, context: MeterContext, answers: Answers, tell: Tell) -> None:
        self._profile = profile
        self._context = context
        self._answers = answers
        self._issue = tell
        self._vectors: dict[tuple[int, date], DayVector] = {}
        self.taken: list[TakenMemory] = []
        self.held: list[HeldVector] = []
        self.checks: list[CrossCheck] = []
        self.sums: list[MemorySum] = []
        self.last_end: datetime | None = None
        self.shortfall = ""

    @property
    def vectors(self) -> tuple[DayVector, ...]:
        """In order of channel and day."""
        return tuple(self._vectors[key] for key in sorted(self._vectors))

    def take(self, memory: MemoryAnswer) -> None:
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
            if memory.has_last and reason in (_FEWER, _MORE):
                blocks = f"{len(memory.payloads)} blocks of {WORDS_PER_BLOCK} words came"
                self.shortfall = f"{where} is incomplete: {words} words were announced, {blocks}"
            return
        got = payloads_to_words(memory.payloads, words, self._profile.packing)
        intervals = split_channels(got, sign_bit=self._profile.sign_bit)
        first_end = last_end - timedelta(seconds=(words // CHANNELS_PER_GROUP - 1) * interval_s)
        count = words // CHANNELS_PER_GROUP
        self.taken.append(TakenMemory(memory.group, first_end, interval_s, count, tuple(memory.seqs)))
        if memory.code != 0x27:
            self.last_end = max(self.last_end or last_end, last_end)
        doubt = self._count_fault(memory, parameters, words, last_end, interval_s)
        if doubt is not None:
            self._issue("decode", f"{where}: {doubt.words}; held", doubt.detail)
            self._hold(doubt, memory, parameters, first_end)
            return
        for vector in self._cut(intervals, first_end, interval_s, parameters, memory.group):
            if vector.channel == self._context.active_channel and vector.quantity_code != ACTIVE_DIRECT:
                told = {"channel": vector.channel, "quantity": vector.quantity_code}
                self.held.append(HeldVector(vector, HoldReason.QUANTITY, told, "V11"))
                continue
            passed, held = set_aside(vector, self._profile)
            self.held += held
            if passed is not None:
                self._add(passed)
        if memory.has_last and len(intervals):
            self.sums.append(self._sum(memory, parameters, intervals, first_end))
        self._cross_check(memory, parameters, words, intervals, first_end)

    def _count_fault(
        self,
        memory: MemoryAnswer,
        parameters: Parameters,
        words: int,
        last_end: datetime,
        interval_s: int,
    ) -> CountFault | None:
        """What proves that the words are not those that were announced: their times are not known then."""
        if not memory.has_last:
            return None
        code = next(code for code in PARAMETERS_OF[memory.code] if code in self._answers.parameters)
        may_grow = 0
        if memory.code != 0x27:
            # Between the parameters and the memory the period goes on; a file does not tell how long.
            told_at = self._answers.told_at.get(code)
            passed_s = (memory.first_at - told_at).total_seconds() if told_at and memory.first_at else None
            may_grow = 1 if passed_s is None else self._ended_since(parameters, passed_s, interval_s)
        registers = self._answers.registers.get((0x23, memory.group))
        known = Memory(
            code=memory.code,
            payloads=memory.payloads,
            word_count=words,
            last_end=last_end,
            interval_s=interval_s,
            packing=self._profile.packing,
            filler=self._profile.filler_word,
            may_grow=may_grow,
            demand=None if registers is None else self._demand(registers),
        )
        start = {0x26: parameters.last_reset, 0x27: parameters.previous_reset}.get(memory.code)
        return count_fault(known, start)

    def _demand(self, registers: Registers) -> Demand | None:
        """The last demand interval as parameters and registers tell it, where both mean the same one."""
        told = self._answers.told_at
        code = next((code for code in (0x21, 0x20) if code in self._answers.parameters), None)
        if code is None:
            return None
        # A file does not tell how much later its registers were read.
        passed_s = (told[0x23] - told[code]).total_seconds() if {0x23, code} <= told.keys() else 60.0
        return last_demand(self._answers.parameters[code], registers, passed_s)

    def _ended_since(self, parameters: Parameters, passed_s: float, interval_s: int) -> int:
        """Memory intervals that may have been added since the parameters were told."""
        now, last_end = parameters.meter_time, parameters.last_interval_end
        if now is None or last_end is None:
            return 1
        passed = timedelta(seconds=passed_s + 1) + (now - last_end)
        return int(passed / timedelta(seconds=interval_s))

    def _hold(
        self, doubt: CountFault, memory: MemoryAnswer, parameters: Parameters, first_end: datetime
    ) -> None:
        """Hold all words of a memory; what is filler, if that is known, is no reading at all."""
        interval_s, words = parameters.memory_interval_s or 0, self._announced(memory, parameters) or 0
        count = words // CHANNELS_PER_GROUP - (doubt.surplus or 0)
        came = split_channels(payloads_to_words(memory.payloads, None, self._profile.packing))
        evidence = {"words": doubt.words, **doubt.detail}
        shift_s = None if doubt.surplus is None else doubt.surplus * interval_s
        for vector in self._cut(came[:count], first_end, interval_s, parameters, memory.group):
            self.held.append(HeldVector(vector, HoldReason.WORDS, evidence, "V06", shift_s))

    def _sum(
        self, memory: MemoryAnswer, parameters: Parameters, intervals: NDArray[np.int32], first_end: datetime
    ) -> MemorySum:
        interval = timedelta(seconds=parameters.memory_interval_s or 0)
        # 23 counts on until it is read, a moment after the parameters: the running interval, and one more.
        beyond = (self._answers.meter_now or first_end) - (parameters.last_interval_end or first_end)
        return MemorySum(
            code=memory.code,
            first_channel=memory.group * CHANNELS_PER_GROUP + 1,
            begins_at=self._utc(first_end - interval),
            pulses=tuple(int(total) for total in intervals.sum(axis=0, dtype=np.int64)),
            open_intervals=0 if memory.code == 0x27 else beyond // interval + 2,
        )

    def _cross_check(
        self,
        memory: MemoryAnswer,
        parameters: Parameters,
        words: int,
        intervals: NDArray[np.int32],
        first_end: datetime,
    ) -> None:
        """Compare a memory with what else the session brought, where it brought it."""
        interval_s = parameters.memory_interval_s or 0
        may_grow = memory.code == MEMORY_NOW
        found = [checks.check_words(words, len(memory.payloads), memory.has_last, may_grow=may_grow)]
        if len(intervals) and self._answers.failures:
            last_got = first_end + timedelta(seconds=(len(intervals) - 1) * interval_s)
            found.append(checks.check_failures(intervals, last_got, interval_s, self._answers.failures))
        held = self._answers.registers.get((_REGISTERS_OF.get(memory.code, 0), memory.group))
        if held is not None and memory.has_last:
            packing, set_octet = self._profile.packing, self._profile.second_set_active_octet
            found.append(
                checks.check_packing(memory.payloads, parameters, held, packing, second_set_octet=set_octet)
            )
        self.checks += found
        for check in found:
            if check.verdict is CheckResult.MISFIT:
                counts = {"made": check.made, "agreed": check.agreed, "group": memory.group}
                reason = f"memory {memory.code:02X}: {check.name} do not agree"
                self._issue("cross_check", reason, counts | dict(check.detail))

    def _announced(self, memory: MemoryAnswer, parameters: Parameters) -> int | None:
        if memory.code == 0x27:
            return parameters.words_previous
        words, interval_s = parameters.words_current, parameters.memory_interval_s
        is_whole_count = self._profile.limited_count is LimitedCount.WHOLE
        if memory.code == 0x52 and is_whole_count and memory.limit_s and words and interval_s:
            return min(words, memory.limit_s // interval_s * CHANNELS_PER_GROUP)
        return words

    def _grid_fault(
        self, memory: MemoryAnswer, words: int | None, last_end: datetime | None, interval_s: int | None
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
        if self._answers.meter_now is not None and last_end > self._answers.meter_now:
            return "the last interval ends after the meter's own time"
        announced = -(-words // WORDS_PER_BLOCK)
        received = len(memory.payloads)
        if memory.has_last and received < announced:
            return _FEWER
        # While 26 is read the period goes on; more than one block more is no growth, but a count we misread.
        if received > max(announced, 1) + (memory.code == 0x26):
            return _MORE
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
            return None if code in NO_CHANNEL else code
        if code in _UNDEFINED:
            return ACTIVE_DIRECT  # old meters leave the octet empty; the registry knows the channel
        if code != ACTIVE_DIRECT:
            detail = {"channel": channel, "quantity": code}
            reason = f"channel {channel} should carry active energy, the meter says otherwise"
            self._issue("decode", reason, detail)
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
