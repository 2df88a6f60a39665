"""What a meter has counted since it was installed, across changes of its settings.

An epoch is a time in which nothing changed that counting depends on: channels, intervals, segments, holidays,
reactive rule. Times are local seconds of the meter's clock. Registers run through all epochs; the mass memory
belongs to those that share the last one's grid and channels.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from simulator.load.counting import Counter, Dead, ReactiveRule, SegmentTable, Summary
from simulator.load.curves import Ints, PulseSource


@dataclass(frozen=True)
class CountingRules:
    """What a counter goes by."""

    source: PulseSource
    demand_interval_s: int
    segments: SegmentTable
    reactive: ReactiveRule
    holidays: Collection[int] | None = None


@dataclass(frozen=True)
class _Epoch:
    start_s: int
    counter: Counter

    @property
    def step_s(self) -> int:
        return self.counter.interval_s


class History:
    """Counts of one meter."""

    def __init__(self, first_s: int, rules: CountingRules, dead: Collection[Dead]) -> None:
        self._dead = list(dead)
        self._epochs: list[_Epoch] = []
        self._memory_from_s = first_s
        self._begin(first_s, rules)

    @property
    def memory_from_s(self) -> int:
        """Since when the memory has had its grid and its channels."""
        return self._memory_from_s

    @property
    def channels(self) -> int:
        return self._last.counter.channels

    @property
    def _last(self) -> _Epoch:
        return self._epochs[-1]

    def add_dead(self, dead: Dead) -> None:
        """Time that the meter will not count."""
        self._dead.append(dead)
        for epoch in self._epochs:
            epoch.counter.add_dead(dead)

    def change(self, at_s: int, rules: CountingRules) -> None:
        """Count by these rules from `at_s` on.

        A change of grid or channels waits for the next border that both grids have, so that intervals stay
        whole, and the memory begins anew there; any other holds from the running interval on.
        """
        last, source = self._last, rules.source
        step_s = max(last.step_s, source.interval_s)
        same_memory = (last.counter.quantities, last.step_s) == (source.quantities, source.interval_s)
        start_s = at_s // step_s * step_s if same_memory else -(-at_s // step_s) * step_s
        if not same_memory:
            self._memory_from_s = start_s
        self._begin(max(start_s, last.start_s), rules)

    def _begin(self, start_s: int, rules: CountingRules) -> None:
        counter = Counter(
            rules.source,
            start_s // rules.source.interval_s,
            demand_interval_s=rules.demand_interval_s,
            segments=rules.segments,
            reactive=rules.reactive,
            dead=self._dead,
            holidays=rules.holidays,
        )
        self._epochs.append(_Epoch(start_s, counter))

    def counted_until_s(self, at_s: int) -> int:
        """Border up to which all is counted at `at_s`, in the grid of that time."""
        epoch = next((e for e in reversed(self._epochs) if e.start_s <= at_s), self._epochs[0])
        return at_s // epoch.step_s * epoch.step_s

    def pulses(self, first: int, stop: int) -> Ints:
        """Words of intervals `first` .. `stop - 1` of the memory's grid, shape (n, channels)."""
        counter = self._last.counter
        if first * counter.interval_s >= self._last.start_s or len(self._epochs) == 1:
            return counter.pulses(first, stop)
        out = np.zeros((max(stop - first, 0), counter.channels), dtype=np.int64)
        for epoch, low_s, high_s in self._parts(
            max(first * counter.interval_s, self._memory_from_s), stop * counter.interval_s
        ):
            low, high = low_s // epoch.step_s, high_s // epoch.step_s
            out[low - first : high - first] = epoch.counter.pulses(low, high)
        return out

    def summary(self, low_s: int, high_s: int) -> Summary:
        """Totals and maxima of all whole intervals between two borders. Channels that were set to another
        quantity since count from that change on."""
        total = Summary.nothing(self.channels)
        quantities = self._last.counter.quantities
        for epoch, low, high in self._parts(low_s, high_s):
            part = epoch.counter.summary(low // epoch.step_s, high // epoch.step_s)
            if epoch.counter.quantities == quantities:
                total = total.then(part)
        return total

    def demand(self, stop: int) -> Ints:
        """Demand of each channel in the last demand interval that ended at or before interval `stop`."""
        counter = self._last.counter
        end = stop - stop % counter.per_demand
        first = max(end - counter.per_demand, self._memory_from_s // counter.interval_s)
        out: Ints = self.pulses(first, max(end, first)).sum(axis=0)
        return out

    def segment(self, interval: int) -> int:
        """Segment of one interval of the memory's grid."""
        return self._last.counter.segment(interval)

    def _parts(self, low_s: int, high_s: int) -> list[tuple[_Epoch, int, int]]:
        ends = [*(epoch.start_s for epoch in self._epochs[1:]), high_s]
        parts = []
        for epoch, end_s in zip(self._epochs, ends, strict=True):
            low, high = max(low_s, epoch.start_s), min(high_s, end_s)
            if low < high:
                parts.append((epoch, low, high))
        return parts
