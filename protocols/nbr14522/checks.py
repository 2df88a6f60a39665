"""What one answer proves about another: the packing of the words against the maximum-demand registers.

Section 8.2, check 2: the largest sum of words of a demand interval, per segment, equals the maximum-demand
register of that channel. On a real reading it was exact in nine of nine cases, so it tells which packing a
meter uses. It holds for a whole period: 27 with 24, or 26 with 23.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray

from protocols.nbr14522.memory import (
    CHANNELS_PER_GROUP,
    Packing,
    interval_ends,
    payloads_to_words,
    split_channels,
)
from protocols.nbr14522.messages import Parameters, Registers
from protocols.nbr14522.messages.parameters import Starts
from protocols.nbr14522.messages.registers import ChannelRegisters

PEAK, OFF_PEAK, RESERVED = 0, 1, 2

_ALL = frozenset({PEAK, OFF_PEAK, RESERVED})

# o210-212. What 00 ("default") leaves out is not known: nothing, until a meter shows otherwise.
SEGMENTS_BY_DAY_CODE = {
    0: _ALL,
    1: frozenset({PEAK, OFF_PEAK}),
    2: frozenset({OFF_PEAK}),
    3: frozenset({PEAK, OFF_PEAK}),
    4: frozenset({OFF_PEAK, RESERVED}),
    5: _ALL,
    6: frozenset({OFF_PEAK, RESERVED}),
    7: _ALL,
}


@dataclass(frozen=True, slots=True)
class PackingFit:
    """How well each packing explains the registers.

    Attributes:
        made: comparisons made, the same for all packings.
        agreed: of those, how many agreed, by packing.
        packing: the one packing for which all agreed; None where none does, or where several do and the
            words cannot tell them apart.
    """

    made: int
    agreed: dict[Packing, int]

    @property
    def fitting(self) -> tuple[Packing, ...]:
        return tuple(p for p, count in self.agreed.items() if self.made and count == self.made)

    @property
    def packing(self) -> Packing | None:
        return self.fitting[0] if len(self.fitting) == 1 else None


def demand_sums(
    counts: NDArray[np.int32], last_end: datetime, interval_s: int, demand_interval_s: int
) -> tuple[NDArray[np.int64], NDArray[np.datetime64]]:
    """Pulses of each complete demand interval.

    Args:
        counts: (intervals, channels), oldest first.

    Returns:
        Sums of shape (demand intervals, channels), and the ends of the demand intervals. Demand intervals
        that the memory covers only in part are left out.
    """
    per_demand = demand_interval_s // interval_s
    if per_demand * interval_s != demand_interval_s or not len(counts):
        return np.empty((0, counts.shape[1]), dtype=np.int64), np.empty(0, dtype="datetime64[s]")
    ends = interval_ends(last_end, interval_s, len(counts))
    since_midnight = (ends - ends.astype("datetime64[D]")).astype(np.int64)
    closes = np.flatnonzero(since_midnight % demand_interval_s == 0)
    closes = closes[closes >= per_demand - 1]
    totals = np.vstack([np.zeros(counts.shape[1], dtype=np.int64), np.cumsum(counts, axis=0, dtype=np.int64)])
    return totals[closes + 1] - totals[closes + 1 - per_demand], ends[closes]


def segments_of(
    parameters: Parameters, ends: NDArray[np.datetime64], demand_interval_s: int, second_set_octet: int = 0
) -> NDArray[np.int8] | None:
    """Segment of each demand interval, by its start: PEAK, OFF_PEAK or RESERVED.

    None where the parameters do not tell: an unreadable or contradictory table of starts, or a second set
    of segments in force (`MeterProfile.second_set_active_octet`).
    """
    if parameters.second_set_flag == second_set_octet and any(parameters.set_starts):
        return None
    by_minute = _segment_by_minute(parameters)
    if by_minute is None:
        return None
    begins = ends - np.timedelta64(demand_interval_s, "s")
    days = begins.astype("datetime64[D]")
    segments: NDArray[np.int8] = by_minute[(begins - days).astype("timedelta64[m]").astype(np.int64)]
    for index, day in enumerate(days.astype(object)):
        code = _day_code(parameters, day)
        if code is None:
            continue
        if segments[index] not in SEGMENTS_BY_DAY_CODE.get(code, _ALL):
            segments[index] = OFF_PEAK
    return segments


def _segment_by_minute(parameters: Parameters) -> NDArray[np.int8] | None:
    tables: tuple[tuple[int, Starts], ...] = (
        (PEAK, parameters.peak_starts),
        (OFF_PEAK, parameters.off_peak_starts),
        (RESERVED, parameters.reserved_starts),
    )
    starts: dict[int, int] = {}
    for segment, slots in tables:
        for start in slots:
            if start is None:
                continue
            minute = start.hour * 60 + start.minute
            if starts.setdefault(minute, segment) != segment:
                return None
    if not starts:
        return None
    ordered = sorted(starts)
    by_minute = np.full(24 * 60, starts[ordered[-1]], dtype=np.int8)
    for minute in ordered:
        by_minute[minute:] = starts[minute]
    return by_minute


def _day_code(parameters: Parameters, day: date) -> int | None:
    if day in parameters.holidays:
        return parameters.holiday_segments
    if day.isoweekday() == 7:
        return parameters.sunday_segments
    if day.isoweekday() == 6:
        return parameters.saturday_segments
    return None


def packing_fit(
    payloads: Sequence[bytes],
    parameters: Parameters,
    registers: Registers,
    *,
    second_set_octet: int = 0,
) -> PackingFit:
    """Which packing makes the words of a whole period agree with its maximum-demand registers.

    Args:
        payloads: of 27 (with the answers to 20 or 22, and 24) or 26 (with 21 and 23), complete.
        parameters: tells the number of words, the last end, both intervals and the segments.

    Returns:
        Per channel one comparison for each segment that occurs, or one of the largest of all where the
        segments are not known. No comparison where intervals are unknown.
    """
    agreed = dict.fromkeys(Packing, 0)
    interval_s = parameters.memory_interval_s
    demand_min = parameters.demand_interval_min
    is_previous = registers.code == 0x24
    last_end = parameters.last_reset if is_previous else parameters.last_interval_end
    word_count = parameters.words_previous if is_previous else parameters.words_current
    if not interval_s or not demand_min or last_end is None or not word_count or not payloads:
        return PackingFit(0, agreed)
    made = 0
    for packing in Packing:
        counts = split_channels(payloads_to_words(payloads, word_count, packing), CHANNELS_PER_GROUP)
        sums, ends = demand_sums(counts, last_end, interval_s, demand_min * 60)
        segments = segments_of(parameters, ends, demand_min * 60, second_set_octet)
        pairs = [
            pair
            for channel, held in enumerate(registers.channels)
            if held is not None
            for pair in _comparisons(sums[:, channel], segments, held)
        ]
        made = len(pairs)
        agreed[packing] = sum(largest == register for largest, register in pairs)
    return PackingFit(made, agreed)


def _comparisons(
    sums: NDArray[np.int64], segments: NDArray[np.int8] | None, held: ChannelRegisters
) -> list[tuple[int, int]]:
    """(largest sum in the words, register) of each segment of one channel."""
    maxima = {
        PEAK: held.max_demand_peak_pulses,
        OFF_PEAK: held.max_demand_off_peak_pulses,
        RESERVED: held.max_demand_reserved_pulses,
    }
    known = {segment: value for segment, value in maxima.items() if value is not None}
    if not len(sums) or len(known) < len(maxima):
        return []
    if segments is None:
        return [(int(sums.max()), max(known.values()))]
    return [
        (int(sums[segments == segment].max()), value)
        for segment, value in known.items()
        if (segments == segment).any()
    ]
