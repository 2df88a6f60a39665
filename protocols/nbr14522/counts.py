"""Whether the announced words are the words that came (sections 8.1 to 8.3). Pure.

A memory carries no times: each word's place follows from the count that the parameters announce and from the
end of the last interval. A count that is wrong by a few words hides in the filler of the last block, and then
every value stands beside its time. What shows it: the calendar of the period, words beyond the count, and the
register of the last demand interval, which is the sum of its words (exact on a real file).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.nbr14522.memory import CHANNELS_PER_GROUP, Packing, split_channels, unpack_words
from protocols.nbr14522.messages import Parameters, Registers

PREVIOUS = 0x27


@dataclass(frozen=True, slots=True)
class CountFault:
    """The announced count cannot be the count of the words.

    Attributes:
        surplus: intervals that were announced and never sent, as far as it can be told: the last ones are
            filler, and all others belong so many intervals later. Negative: sent and not announced, all
            belong earlier. None: not known.
    """

    words: str
    surplus: int | None = None
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Demand:
    """The last complete demand interval: its end and length, and its pulses by channel."""

    end: datetime
    length: timedelta
    pulses: tuple[int | None, ...]


def last_demand(parameters: Parameters, registers: Registers, passed_s: float) -> Demand | None:
    """What 21 and 23 say of it; None where they may mean different ones, or do not tell.

    Args:
        passed_s: how much later the registers were read.
    """
    end, length_min, now = parameters.last_interval_end, parameters.demand_interval_min, parameters.meter_time
    pulses = tuple(None if one is None else one.last_demand_pulses for one in registers.channels)
    if end is None or not length_min or now is None or pulses[0] is None:
        return None
    length = timedelta(minutes=length_min)
    # The meter tells whole seconds.
    if now + timedelta(seconds=passed_s + 1) >= end + length:
        return None
    return Demand(end, length, pulses)


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory as it was announced and as it came.

    Attributes:
        payloads: 249 octets each, all of them. word_count: announced.
        last_end: of the last announced interval.
        may_grow: intervals that may have been added since the count.
        demand: the last demand interval by its registers, where they were read.
    """

    code: int
    payloads: Sequence[bytes]
    word_count: int
    last_end: datetime
    interval_s: int
    packing: Packing = Packing.S
    filler: int = 0
    may_grow: int = 0
    demand: Demand | None = None

    @property
    def interval(self) -> timedelta:
        return timedelta(seconds=self.interval_s)

    @property
    def announced(self) -> int:
        """Intervals."""
        return self.word_count // CHANNELS_PER_GROUP

    def counts(self) -> NDArray[np.int32]:
        """All that came, filler included: (intervals, channels)."""
        return split_channels(unpack_words(b"".join(self.payloads), self.packing))


def count_fault(memory: Memory, period_start: datetime | None) -> CountFault | None:
    """What proves the announced count wrong; None where nothing does.

    Args:
        memory: complete: its last block came.
        period_start: of 26 and 27, the reset at which the period began; None: not known, or 52.
    """
    counts = memory.counts()
    beyond = counts[memory.announced :]
    extra = int(np.flatnonzero((beyond != memory.filler).any(axis=1))[-1]) + 1 if _any(beyond, memory) else 0
    if extra > memory.may_grow:
        words = f"{memory.announced} intervals were announced and {memory.announced + extra} came"
        return CountFault(words, -extra, {"announced": memory.announced, "came": memory.announced + extra})
    if period_start is not None and period_start <= memory.last_end:
        most = (memory.last_end - period_start) // memory.interval
        if memory.announced > most:
            words = f"{memory.announced} intervals were announced, the period since {period_start} has {most}"
            detail = {"announced": memory.announced, "calendar": most, "since": period_start.isoformat()}
            return CountFault(words, memory.announced - most, detail)
    return _against_demand(memory, counts[: memory.announced])


def _any(beyond: NDArray[np.int32], memory: Memory) -> bool:
    return bool((beyond != memory.filler).any())


def _against_demand(memory: Memory, counts: NDArray[np.int32]) -> CountFault | None:
    """A tail of zeros is filler where the register of the last demand interval says that it is."""
    tail, demand = trailing_zeros(counts), memory.demand
    if not tail or demand is None or memory.code == PREVIOUS or demand.length % memory.interval:
        return None
    per_demand, told = demand.length // memory.interval, demand.pulses
    # Place of the demand interval's end among the words, if the count is right.
    place = len(counts) - (memory.last_end - demand.end) // memory.interval
    if not per_demand <= place <= len(counts):
        return None
    if _sum(counts, place, per_demand, 0) == told[0]:
        return None
    fitting = [
        surplus
        for surplus in range(1, tail + 1)
        if place - surplus >= per_demand
        and all(
            value is None or _sum(counts, place - surplus, per_demand, channel) == value
            for channel, value in enumerate(told)
        )
    ]
    surplus = fitting[0] if len(fitting) == 1 else None
    found = _sum(counts, place, per_demand, 0)
    words = (
        f"the last {tail} intervals are zero, and the demand interval that ended {demand.end} has {found} "
        f"pulses by its words, {told[0]} by its register: fewer words came than were announced"
    )
    detail = {"zeros": tail, "demand_end": demand.end.isoformat(), "by_words": found, "register": told[0]}
    return CountFault(words, surplus, detail)


def _sum(counts: NDArray[np.int32], end: int, length: int, channel: int) -> int:
    return int(counts[end - length : end, channel].sum())


def trailing_zeros(counts: NDArray[np.int32]) -> int:
    """Intervals at the end that hold zero in all channels, as filler does.

    >>> trailing_zeros(np.array([[1, 0, 0], [0, 0, 0], [0, 0, 0]], np.int32))
    2
    """
    filled = np.flatnonzero(counts.any(axis=1))
    return len(counts) - (int(filled[-1]) + 1 if len(filled) else 0)
