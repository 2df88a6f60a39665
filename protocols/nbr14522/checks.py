"""What one answer proves about another (sections 5.4, 8.2, 8.4). Pure: answers in, verdicts out.

The packing of the words against the maximum-demand registers, section 8.2, check 2: the largest sum of
words of a demand interval, per segment, equals the maximum-demand register of that channel. On a real
reading it was exact in nine of nine cases, so it tells which packing a meter uses. It holds for a whole
period: 27 with 24, or 26 with 23. The other checks are `check_*`; each gives a `CrossCheck`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.nbr14522.memory import (
    CHANNELS_PER_GROUP,
    WORD_LIMIT,
    WORDS_PER_BLOCK,
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
    by_segment: bool = True,
) -> PackingFit:
    """Which packing makes the words of a whole period agree with its maximum-demand registers.

    Args:
        payloads: of 27 (with the answers to 20 or 22, and 24) or 26 (with 21 and 23), complete.
        parameters: tells the number of words, the last end, both intervals and the segments.
        by_segment: False compares only the largest of all segments: a holiday that has meanwhile left the
            meter's list was counted without a peak, which nobody can see from the list.

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
        segments = segments_of(parameters, ends, demand_min * 60, second_set_octet) if by_segment else None
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


class CheckName(StrEnum):
    """What is compared."""

    PACKING = "packing"
    """Words against maximum-demand registers, which also tells the packing."""
    REGISTERS = "registers"
    """Sum of the words of a period against the difference of its total registers."""
    WORDS = "words"
    """Words announced against words received."""
    FAILURES = "failures"
    """Intervals wholly without supply against their words, which must be zero."""
    CHANGES = "changes"
    """What differs between two readings of the parameters against the change log."""


class CheckResult(StrEnum):
    FITS = "fits"
    MISFIT = "misfit"
    UNDECIDED = "undecided"
    """There is not enough to compare."""


@dataclass(frozen=True, slots=True)
class CrossCheck:
    """One comparison between answers.

    Attributes:
        made: single comparisons made. agreed: how many of them agreed.
        detail: what a person needs to follow it, as plain values.
    """

    name: CheckName
    verdict: CheckResult
    made: int = 0
    agreed: int = 0
    detail: Mapping[str, Any] = field(default_factory=dict)


def check_packing(
    payloads: Sequence[bytes],
    parameters: Parameters,
    registers: Registers,
    packing: Packing,
    *,
    second_set_octet: int = 0,
) -> CrossCheck:
    """Whether the maximum-demand registers agree with the words in the packing in use.

    Args:
        payloads: as for `packing_fit`; complete, or the verdict is of no use.

    A register above the largest sum proves nothing where the words do not reach back to the period's start,
    or where it is the demand of an interval that ended after the parameters were read.
    """
    fit = packing_fit(payloads, parameters, registers, second_set_octet=second_set_octet)
    detail = {"packing": packing.value, "fitting": [one.value for one in fit.fitting]}
    if not fit.made:
        return CrossCheck(CheckName.PACKING, CheckResult.UNDECIDED, detail=detail)
    agreed = fit.agreed[packing]
    if agreed == fit.made:
        return CrossCheck(CheckName.PACKING, CheckResult.FITS, fit.made, agreed, detail)
    whole = packing_fit(payloads, parameters, registers, second_set_octet=second_set_octet, by_segment=False)
    if not fit.fitting and packing in whole.fitting:
        detail |= {"by_segment": f"{agreed} of {fit.made}"}
        return CrossCheck(CheckName.PACKING, CheckResult.FITS, whole.made, whole.agreed[packing], detail)
    is_excused = not fit.fitting and _is_register_ahead(
        payloads, parameters, registers, packing, second_set_octet
    )
    verdict = CheckResult.UNDECIDED if is_excused else CheckResult.MISFIT
    return CrossCheck(CheckName.PACKING, verdict, fit.made, agreed, detail)


def _is_register_ahead(
    payloads: Sequence[bytes], parameters: Parameters, registers: Registers, packing: Packing, set_octet: int
) -> bool:
    """Whether every disagreement is a register above the words that the words need not hold."""
    is_previous = registers.code == 0x24
    period_start = parameters.previous_reset if is_previous else parameters.last_reset
    words = (parameters.words_previous if is_previous else parameters.words_current) or 0
    last_end = parameters.last_reset if is_previous else parameters.last_interval_end
    span = timedelta(seconds=words // CHANNELS_PER_GROUP * (parameters.memory_interval_s or 0))
    reaches_back = period_start is not None and last_end is not None and last_end - span <= period_start
    for channel, held in enumerate(registers.channels):
        if held is None:
            continue
        for largest, register in _channel_pairs(
            payloads, parameters, is_previous, packing, channel, held, set_octet
        ):
            is_newer = not is_previous and register == held.last_demand_pulses
            if largest > register or (largest < register and reaches_back and not is_newer):
                return False
    return True


def _channel_pairs(
    payloads: Sequence[bytes],
    parameters: Parameters,
    is_previous: bool,
    packing: Packing,
    channel: int,
    held: ChannelRegisters,
    set_octet: int,
) -> list[tuple[int, int]]:
    last_end = parameters.last_reset if is_previous else parameters.last_interval_end
    words = parameters.words_previous if is_previous else parameters.words_current
    demand_s = (parameters.demand_interval_min or 0) * 60
    if last_end is None or not words or not demand_s or not parameters.memory_interval_s:
        return []
    counts = split_channels(payloads_to_words(payloads, words, packing), CHANNELS_PER_GROUP)
    sums, ends = demand_sums(counts, last_end, parameters.memory_interval_s, demand_s)
    return _comparisons(sums[:, channel], segments_of(parameters, ends, demand_s, set_octet), held)


_TOTAL_LIMIT = 10**10  # ten digits, then the register starts over


def check_registers(
    totals_before: Sequence[int | None],
    totals_after: Sequence[int | None],
    sums: Sequence[int],
    open_intervals: int = 0,
) -> CrossCheck:
    """Whether the total registers of a period grew by the sum of its words.

    Args:
        totals_before, totals_after: pulses by channel at the start and the end of the period.
        sums: pulses by channel in the words of the same period.
        open_intervals: intervals, the running one included, that the later register counts and the words do
            not yet (23 with 26); 0 for a closed period (24 with 27), where both must be equal.
    """
    made = agreed = 0
    misfits = []
    for channel, (before, after, total) in enumerate(zip(totals_before, totals_after, sums, strict=False)):
        if before is None or after is None:
            continue
        made += 1
        beyond = (after - before) % _TOTAL_LIMIT - int(total)
        if 0 <= beyond <= open_intervals * (WORD_LIMIT - 1):
            agreed += 1
        else:
            misfits.append({"channel": channel + 1, "registers": after - before, "words": int(total)})
    if not made:
        return CrossCheck(CheckName.REGISTERS, CheckResult.UNDECIDED)
    verdict = CheckResult.MISFIT if misfits else CheckResult.FITS
    return CrossCheck(CheckName.REGISTERS, verdict, made, agreed, {"misfits": misfits} if misfits else {})


def check_words(announced: int | None, blocks: int, has_last: bool, *, may_grow: bool = False) -> CrossCheck:
    """Whether as many words came as the parameters announced.

    Args:
        blocks: received, in order. has_last: whether the last one said that it is the last.
        may_grow: 26, whose period goes on while it is read.
    """
    detail = {"announced": announced, "blocks": blocks}
    if announced is None or not (has_last or blocks):
        return CrossCheck(CheckName.WORDS, CheckResult.UNDECIDED, detail=detail)
    expected = max(1, -(-announced // WORDS_PER_BLOCK))
    if blocks > expected + may_grow or (has_last and blocks < expected):
        return CrossCheck(CheckName.WORDS, CheckResult.MISFIT, 1, 0, detail)
    if not has_last:
        return CrossCheck(CheckName.WORDS, CheckResult.UNDECIDED, detail=detail)
    return CrossCheck(CheckName.WORDS, CheckResult.FITS, 1, 1, detail)


def check_failures(
    counts: NDArray[np.int32],
    last_end: datetime,
    interval_s: int,
    failures: Sequence[tuple[datetime, datetime]],
) -> CrossCheck:
    """Whether the intervals that lie wholly in a power failure hold zero in all channels (section 8.4).

    Args:
        counts: (intervals, channels), oldest first.
        failures: start and end of each.
    """
    ends = interval_ends(last_end, interval_s, len(counts))
    begins = ends - np.timedelta64(interval_s, "s")
    is_dead = np.zeros(len(counts), np.bool_)
    for start, end in failures:
        is_dead |= (begins >= np.datetime64(start, "s")) & (ends <= np.datetime64(end, "s"))
    made = int(is_dead.sum())
    if not made:
        return CrossCheck(CheckName.FAILURES, CheckResult.UNDECIDED)
    counted = is_dead & (counts != 0).any(axis=1)
    agreed = made - int(counted.sum())
    detail = {"counted_in_failure": ends[counted][:10].astype(str).tolist()} if agreed < made else {}
    return CrossCheck(
        CheckName.FAILURES, CheckResult.FITS if agreed == made else CheckResult.MISFIT, made, agreed, detail
    )


CHANGE_CODES: dict[str, frozenset[int]] = {
    "constants": frozenset({0x33, 0x95}),
    "quantities": frozenset({0x66}),
    "demand_interval_min": frozenset({0x31}),
    "memory_interval_min": frozenset({0x73}),
    "memory_interval_extra_s": frozenset({0x73}),
    "is_daylight_saving_on": frozenset({0x64}),
    "clock": frozenset({0x29, 0x30, 0x64, 0x98}),
}
"""What of the answer to 21 only a command changes, and the codes that the log then holds (38 always may)."""

_INITIALISE = 0x38
_LOG_RECORDS = 16
_CLOCK_STEP_S = 60
"""A clock that moved by less between two readings has drifted; the resolution of a reading is a second."""


def check_changes(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    logged: Sequence[tuple[datetime, int]],
    clock_step_s: float | None = None,
) -> CrossCheck:
    """Whether each difference between two readings of the parameters is in the change log.

    Args:
        before, after: answers to 20 or 21 of the same channel group, as `Parameters.to_json` gives them.
        logged: (meter's time, code) of each record of the answer to 28 read after the later one.
        clock_step_s: how far the clock moved against ours between the two; None = unknown.
    """
    if before.get("meter_time") is None:
        return CrossCheck(CheckName.CHANGES, CheckResult.UNDECIDED)
    fields_seen = CHANGE_CODES.keys() & before.keys() & after.keys()
    changed = sorted(name for name in fields_seen if before[name] != after[name])
    if clock_step_s is not None and abs(clock_step_s) >= _CLOCK_STEP_S:
        changed.append("clock")
    # A clock set back gives the record a time before the reading that it follows, by a day at most.
    since = datetime.fromisoformat(before["meter_time"]) - timedelta(days=1)
    recent = {code for moment, code in logged if moment >= since}
    missing = [name for name in changed if not recent & (CHANGE_CODES[name] | {_INITIALISE})]
    detail = {"changed": changed, "not_logged": missing} if changed else {}
    agreed = len(changed) - len(missing)
    if not missing:
        return CrossCheck(CheckName.CHANGES, CheckResult.FITS, len(changed), agreed, detail)
    # All records newer: what is missing may have been pushed out (section 5.4).
    is_full = len(logged) >= _LOG_RECORDS and all(moment >= since for moment, _ in logged)
    verdict = CheckResult.UNDECIDED if is_full else CheckResult.MISFIT
    return CrossCheck(CheckName.CHANGES, verdict, len(changed), agreed, detail)
