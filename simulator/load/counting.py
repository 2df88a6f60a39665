"""From a load to what a meter has counted: words, totals per segment, demands.

Everything here is a function of interval numbers; nothing is accumulated between calls except a cache of
whole days. Unit of every register: pulses (reference 5.1). Channels as the load has them, segments in
`Segment`'s order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from simulator.load.curves import Floats, Ints, PulseSource, holiday_days
from simulator.load.grid import DAY_S

HOUR_S = 3_600


class Segment(IntEnum):
    """Tariff segments (postos), in the order of the register block."""

    PEAK = 0
    OFF_PEAK = 1
    RESERVED = 2


SEGMENTS = len(Segment)


@dataclass(frozen=True)
class SegmentTable:
    """Starts of each segment, minutes of the day. Weekends and holidays have off-peak in place of peak."""

    peak: tuple[int, ...] = (18 * 60,)
    off_peak: tuple[int, ...] = (6 * 60, 21 * 60)
    reserved: tuple[int, ...] = (0,)

    has_reserved: bool = True

    def by_interval(self, interval_s: int) -> Ints:
        """Segment of each interval of a working day, by its start (reference 5.1). Switched off, the
        reserved hours are off-peak ones."""
        reserved = Segment.RESERVED if self.has_reserved else Segment.OFF_PEAK
        slots = ((Segment.PEAK, self.peak), (Segment.OFF_PEAK, self.off_peak), (reserved, self.reserved))
        starts = sorted((minute * 60, segment) for segment, minutes in slots for minute in minutes)
        times = np.array([time for time, _ in starts], dtype=np.int64)
        values = np.array([segment for _, segment in starts], dtype=np.int64)
        at = np.arange(DAY_S // interval_s, dtype=np.int64) * interval_s
        # Before the first start of the day the last one of the day before still holds: index -1.
        return values[np.searchsorted(times, at, side="right") - 1]


@dataclass(frozen=True)
class ReactiveRule:
    """Reference power factors and the hours of each reactive channel (reference 3.1, o218-227).

    Each holds until the other begins. The intervals are those of o214-217, in minutes; this meter works in
    whole hours whatever they say.
    """

    reference_percent: int = 92
    inductive_from_h: int = 6
    capacitive_from_h: int = 0
    capacitive_reference_percent: int = 92
    energy_interval_min: int = 60
    demand_interval_min: int = 60
    composition: str | None = None
    validity: str = "3333"

    def is_inductive(self, hour: Ints) -> npt.NDArray[np.bool_]:
        """Whether the inductive channel counts in these hours of the day."""
        begin, end = self.inductive_from_h, self.capacitive_from_h
        return (hour - begin) % 24 < ((end - begin) % 24 or 24)


@dataclass(frozen=True)
class Dead:
    """Meter seconds in which nothing was counted: an outage, or what a clock set forward left out."""

    start_s: int
    end_s: int


@dataclass(frozen=True)
class Summary:
    """What a run of intervals amounts to.

    `totals` and `maxima` have shape (channels, segments); `dmcr` and `ufer` one value per segment, from the
    active channel and the reactive ones, in pulses of one reactive interval (an hour) and pulses.
    """

    totals: Ints
    maxima: Ints
    dmcr: Floats
    ufer: Floats

    @staticmethod
    def nothing(channels: int) -> Summary:
        """Of no intervals at all."""
        counts = np.zeros((channels, SEGMENTS), dtype=np.int64)
        return Summary(counts, counts, np.zeros(SEGMENTS), np.zeros(SEGMENTS))

    @staticmethod
    def of_days(days: int, channels: int) -> Summary:
        """Of so many days without a pulse, the day being the first axis of each field."""
        counts = np.zeros((days, channels, SEGMENTS), dtype=np.int64)
        return Summary(counts, counts, np.zeros((days, SEGMENTS)), np.zeros((days, SEGMENTS)))

    def before(self, later: Summary) -> Summary:
        """These days followed by later ones."""
        return Summary(
            np.concatenate([self.totals, later.totals]),
            np.concatenate([self.maxima, later.maxima]),
            np.concatenate([self.dmcr, later.dmcr]),
            np.concatenate([self.ufer, later.ufer]),
        )

    def then(self, later: Summary) -> Summary:
        """Of this run and of the one after it."""
        return Summary(
            self.totals + later.totals,
            np.maximum(self.maxima, later.maxima),
            np.maximum(self.dmcr, later.dmcr),
            self.ufer + later.ufer,
        )


class Counter:
    """Counts one meter's load from `first` on: before it the meter had not been installed.

    Args:
        holidays: day numbers without a peak; None: the national ones.
    """

    def __init__(
        self,
        source: PulseSource,
        first: int,
        *,
        demand_interval_s: int,
        segments: SegmentTable,
        reactive: ReactiveRule,
        dead: Iterable[Dead] = (),
        holidays: Collection[int] | None = None,
    ) -> None:
        self.interval_s = source.interval_s
        self.quantities = source.quantities
        self.channels = len(source.quantities)
        self.first = first
        self.per_demand = demand_interval_s // self.interval_s
        self._source = source
        self._working_day = segments.by_interval(self.interval_s)
        self._reactive = reactive
        self._dead = tuple(dead)
        self._holidays = holidays
        self._active = _channel_of(source.quantities, 1)
        self._inductive = _channel_of(source.quantities, 10, 2)
        self._capacitive = _channel_of(source.quantities, 11)
        self._per_day = DAY_S // self.interval_s
        # Whole days counted so far: a run of days, each field with the day as its first axis.
        self._days = Summary.of_days(0, self.channels)
        self._first_day = 0

    def add_dead(self, dead: Dead) -> None:
        """Time that the meter will not count. Days already summed up are summed again."""
        self._dead = (*self._dead, dead)
        self._days = Summary.of_days(0, self.channels)

    def pulses(self, first: int, stop: int) -> Ints:
        """Words of intervals `first` .. `stop - 1`, shape (n, 3). Outages read zero, their edges partial."""
        counts = self._source.pulses(first, max(stop - first, 0))
        if first < self.first:
            counts[: self.first - first] = 0
        for dead in self._dead:
            low = max(dead.start_s // self.interval_s, first)
            high = min(-(-dead.end_s // self.interval_s), stop)
            if low >= high:
                continue
            start = np.arange(low, high, dtype=np.int64) * self.interval_s
            lost = np.minimum(start + self.interval_s, dead.end_s) - np.maximum(start, dead.start_s)
            rows = slice(low - first, high - first)
            counts[rows] = counts[rows] * (self.interval_s - lost)[:, None] // self.interval_s
        return counts

    def summary(self, first: int, stop: int) -> Summary:
        """Totals and maxima of intervals `first` .. `stop - 1`; whole days come from the cache."""
        first = max(first, self.first)
        if stop <= first:
            return Summary.nothing(self.channels)
        first_day, last_day = -(-first // self._per_day), stop // self._per_day
        if first_day >= last_day:
            return self._sum(first, stop)
        days = self._whole_days(first_day, last_day)
        middle = Summary(
            days.totals.sum(axis=0), days.maxima.max(axis=0), days.dmcr.max(axis=0), days.ufer.sum(axis=0)
        )
        return (
            self._sum(first, first_day * self._per_day)
            .then(middle)
            .then(self._sum(last_day * self._per_day, stop))
        )

    def demand(self, stop: int) -> Ints:
        """Demand of each channel in the last demand interval that ended at or before `stop`."""
        end = stop - stop % self.per_demand
        out: Ints = self.pulses(max(end - self.per_demand, self.first), end).sum(axis=0)
        return out

    def _whole_days(self, first_day: int, last_day: int) -> Summary:
        """Days `first_day` .. `last_day - 1`; what the cache lacks at either end is counted first."""
        if not len(self._days.totals):
            self._first_day = first_day
        end = self._first_day + len(self._days.totals)
        if first_day < self._first_day:
            self._days = self._count_days(first_day, self._first_day).before(self._days)
            self._first_day = first_day
        if last_day > end:
            self._days = self._days.before(self._count_days(end, last_day))
        rows = slice(first_day - self._first_day, last_day - self._first_day)
        days = self._days
        return Summary(days.totals[rows], days.maxima[rows], days.dmcr[rows], days.ufer[rows])

    def _count_days(self, low: int, high: int) -> Summary:
        days = high - low
        first, count = low * self._per_day, days * self._per_day
        counts = self.pulses(first, first + count)
        segment = self._segments(first, count)
        totals = np.zeros((days, self.channels, SEGMENTS), dtype=np.int64)
        maxima = np.zeros_like(totals)
        demands = counts.reshape(-1, self.per_demand, self.channels).sum(axis=1)
        for s in Segment:
            mine = (segment == s)[:, None]
            totals[:, :, s] = (counts * mine).reshape(days, -1, self.channels).sum(axis=1)
            maxima[:, :, s] = (
                (demands * mine[:: self.per_demand]).reshape(days, -1, self.channels).max(axis=1)
            )
        value, excess = self._reactive_hours(counts, first)
        dmcr, ufer = np.zeros((days, SEGMENTS)), np.zeros((days, SEGMENTS))
        for s in Segment:
            hourly = segment[:: HOUR_S // self.interval_s] == s
            dmcr[:, s] = (value * hourly).reshape(days, -1).max(axis=1)
            ufer[:, s] = (excess * hourly).reshape(days, -1).sum(axis=1)
        return Summary(totals, maxima, dmcr, ufer)

    def segment(self, interval: int) -> int:
        """Segment of one interval."""
        return int(self._segments(interval, 1)[0])

    def _sum(self, first: int, stop: int) -> Summary:
        return (
            self._sum_counts(self.pulses(first, stop), first)
            if first < stop
            else Summary.nothing(self.channels)
        )

    def _segments(self, first: int, count: int) -> Ints:
        number = np.arange(first, first + count, dtype=np.int64)
        day_of, slot = np.divmod(number, self._per_day)
        day = np.arange(day_of[0], day_of[-1] + 1, dtype=np.int64)
        weekend = (day + 3) % 7 >= 5  # 1970-01-01 was a Thursday
        off = self._holidays
        if off is None:
            off = holiday_days(int(day[0]), int(day[-1]))
        no_peak = (weekend | np.isin(day, np.fromiter(off, dtype=np.int64)))[day_of - day[0]]
        segment = self._working_day[slot]
        return np.where(no_peak & (segment == Segment.PEAK), int(Segment.OFF_PEAK), segment)

    def _sum_counts(self, counts: Ints, first: int) -> Summary:
        segment = self._segments(first, len(counts))
        totals = np.stack([counts[segment == s].sum(axis=0) for s in Segment], axis=1)
        stop = first + len(counts)
        # A demand interval counts once complete; one begun before the run, with what is here.
        whole = stop - stop % self.per_demand
        number = np.arange(first, whole, dtype=np.int64)
        maxima = np.zeros((self.channels, SEGMENTS), dtype=np.int64)
        if number.size:
            starts = np.flatnonzero((number % self.per_demand == 0) | (number == first))
            demands = np.add.reduceat(counts[: len(number)], starts, axis=0)
            for s in Segment:
                mine = demands[segment[starts] == s]
                if mine.size:
                    maxima[:, s] = mine.max(axis=0)
        dmcr, ufer = np.zeros(SEGMENTS), np.zeros(SEGMENTS)
        per_hour = HOUR_S // self.interval_s
        low, high = -(-first // per_hour) * per_hour, stop // per_hour * per_hour
        if low < high:
            value, excess = self._reactive_hours(counts[low - first : high - first], low)
            owner = segment[low - first : high - first : per_hour]
            for s in Segment:
                dmcr[s] = (value * (owner == s)).max()
                ufer[s] = (excess * (owner == s)).sum()
        return Summary(totals, maxima, dmcr, ufer)

    def _reactive_hours(self, counts: Ints, first: int) -> tuple[Floats, Floats]:
        """DMCR value and UFER of each hour; `first` begins one (reference 5.1; UFER by the same idea, C)."""
        hours = counts.reshape(-1, HOUR_S // self.interval_s, self.channels).sum(axis=1)
        hour = (first * self.interval_s // HOUR_S + np.arange(len(hours))) % 24
        is_inductive = self._reactive.is_inductive(hour)
        active = _column(hours, self._active)
        reactive = np.where(is_inductive, _column(hours, self._inductive), _column(hours, self._capacitive))
        percent = np.where(
            is_inductive, self._reactive.reference_percent, self._reactive.capacitive_reference_percent
        )
        value = percent / 100.0 * np.hypot(active, reactive)
        return value, np.maximum(value - active, 0.0)


def _channel_of(quantities: tuple[int, ...], *codes: int) -> int | None:
    """The first channel with one of these quantities, the codes in order of preference."""
    return next((quantities.index(code) for code in codes if code in quantities), None)


def _column(counts: Ints, channel: int | None) -> Floats:
    column = np.zeros(len(counts), dtype=np.int64) if channel is None else counts[:, channel]
    return column.astype(np.float64)
