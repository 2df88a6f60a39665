"""Day vectors of one meter into runs of words that a public file can hold. Pure.

A file's words follow one another without gaps, three channels an interval, 12 bits a word. Missing is never
zero: where an interval is missing a run ends, and another file goes on behind the gap; a channel without
readings is said to carry nothing (quantity 99).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

import numpy as np
from numpy.typing import NDArray

from protocols.nbr14522.memory import CHANNELS_PER_GROUP, SIGN_BIT, WORD_LIMIT

NO_QUANTITY = 99
_DAY_S = 86400
# Two digits for the minutes.
_MAX_INTERVAL_S = 99 * 60


@dataclass(frozen=True, slots=True)
class Vector:
    """A stored day of one channel; `present` is False where nothing is known."""

    channel: int
    day: date
    quantity_code: int
    interval_s: int
    pulses: NDArray[np.int64]
    present: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Run:
    """Intervals without a gap.

    Attributes:
        first_end: end of the first interval, market time, naive.
        quantities: of channels 1 to 3; 99 for a channel without readings.
        words: (intervals, 3), 12 bits each.
    """

    first_end: datetime
    interval_s: int
    quantities: tuple[int, int, int]
    words: NDArray[np.int64]

    @property
    def last_end(self) -> datetime:
        return self.first_end + timedelta(seconds=(len(self.words) - 1) * self.interval_s)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Readings that no public file can say, and why."""

    reason: str
    channel: int
    day: date
    count: int


def cut_runs(
    vectors: Iterable[Vector], begin: datetime, end: datetime, *, sign_bit: bool, max_intervals: int
) -> tuple[list[Run], list[LeftOut]]:
    """Runs in order of time.

    Args:
        vectors: of one meter, any order; channels beyond the third are left out.
        begin, end: only intervals that lie wholly between them, as in the primary layer: a meter counts less
            than a whole interval in the one in which it is exchanged. Naive market time.
        sign_bit: the meter tells reverse flow by bit 11 (`MeterProfile.sign_bit`).
        max_intervals: of one run; a longer one is cut.
    """
    by_interval: dict[int, list[Vector]] = {}
    left_out: list[LeftOut] = []
    for vector in vectors:
        if reason := _cannot_be_said(vector):
            left_out.append(LeftOut(reason, vector.channel, vector.day, int(vector.present.sum())))
        else:
            by_interval.setdefault(vector.interval_s, []).append(vector)
    runs: list[Run] = []
    for interval_s, same in by_interval.items():
        line = _Timeline(interval_s, same, sign_bit)
        left_out += line.left_out
        runs += line.runs(begin, end, max_intervals)
    return sorted(runs, key=lambda run: run.first_end), left_out


def _cannot_be_said(vector: Vector) -> str:
    """Why no file can say a vector, or nothing."""
    if vector.channel > CHANNELS_PER_GROUP:
        return "channels beyond the third"
    if len(vector.pulses) * vector.interval_s != _DAY_S:
        return "a day that is not 24 hours long"
    if vector.interval_s > _MAX_INTERVAL_S:
        return "intervals longer than 99 minutes"
    if not 0 <= vector.quantity_code <= NO_QUANTITY:
        return "a quantity beyond the two digits of its code"
    return ""


class _Timeline:
    """All vectors of one interval length side by side."""

    def __init__(self, interval_s: int, vectors: list[Vector], sign_bit: bool) -> None:
        self._interval = timedelta(seconds=interval_s)
        self._first_day = min(vector.day for vector in vectors)
        days = (max(vector.day for vector in vectors) - self._first_day).days + 1
        slots = _DAY_S // interval_s
        self._words = np.zeros((days * slots, CHANNELS_PER_GROUP), np.int64)
        # Per slot: for each channel its quantity + 1, 0 where it is missing. A run ends where this changes.
        self._kinds = np.zeros((days * slots, CHANNELS_PER_GROUP), np.int64)
        self.left_out: list[LeftOut] = []
        lowest, limit = (1 - SIGN_BIT, SIGN_BIT) if sign_bit else (0, WORD_LIMIT)
        for vector in vectors:
            start = (vector.day - self._first_day).days * slots
            part, column = slice(start, start + slots), vector.channel - 1
            fits = vector.present & (vector.pulses >= lowest) & (vector.pulses < limit)
            if too_many := int(vector.present.sum() - fits.sum()):
                reason = "counts beyond the 12 bits of a word"
                self.left_out.append(LeftOut(reason, vector.channel, vector.day, too_many))
            words = np.where(vector.pulses < 0, SIGN_BIT - vector.pulses, vector.pulses)
            self._words[part, column] = np.where(fits, words, 0)
            self._kinds[part, column] = np.where(fits, vector.quantity_code + 1, 0)

    def runs(self, begin: datetime, end: datetime, max_intervals: int) -> Iterable[Run]:
        origin = datetime.combine(self._first_day, time())
        first = max(0, -((origin - begin) // self._interval))
        stop = max(first, min(len(self._kinds), (end - origin) // self._interval))
        kinds = self._kinds[first:stop]
        if not len(kinds):
            return
        edges = np.flatnonzero((kinds[1:] != kinds[:-1]).any(axis=1)) + 1
        for start, after in zip([0, *edges.tolist()], [*edges.tolist(), len(kinds)], strict=True):
            if not kinds[start].any():
                continue
            one, two, three = (int(kind) - 1 if kind else NO_QUANTITY for kind in kinds[start])
            for place in range(start, after, max_intervals):
                words = self._words[first + place : first + min(place + max_intervals, after)]
                first_end = origin + (first + place + 1) * self._interval
                yield Run(first_end, int(self._interval.total_seconds()), (one, two, three), words)
