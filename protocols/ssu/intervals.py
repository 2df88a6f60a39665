"""From blocks to interval readings (reference "ssu", section 6).

Counters are cumulative within the demand interval and start again from zero, so only the last block before
the end matters; each register keeps its own last value, whatever the quadrant does in between.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from protocols.ssu.blocks import Format
from protocols.ssu.settings import SsuSettings
from protocols.ssu.stream import BlockFound

# Seconds must rise by more than this for a new interval (section 6); less is jitter of a repeated block.
ROLLOVER_RISE_S = 5
CLOCK_SAMPLES = 301


@dataclass(frozen=True)
class IntervalReading:
    """One closed demand interval.

    Attributes:
        end_s: end of the interval, seconds of the receiver's clock, rounded to the interval's grid.
        pulses: last value of each register seen; absent registers were not seen in it.
        is_complete: seen from its start to its end; otherwise the values are a lower bound.
        clock_error_s: median of receiver's grid minus the meter's countdown, or None without stamps.
        told_by: the block that carried each value.
    """

    end_s: float
    pulses: dict[str, int]
    is_complete: bool
    clock_error_s: float | None
    told_by: Mapping[str, BlockFound]


@dataclass(frozen=True)
class OutputEvent:
    """A toggle or a change of segment, at the arrival time of the block that shows it."""

    kind: str
    at_s: float
    before: str
    after: str


class IntervalAssembler:
    """Feed believed blocks with arrival times; take interval readings and events."""

    def __init__(self, settings: SsuSettings | None = None) -> None:
        self.settings = settings or SsuSettings()
        self._last: dict[str, int] = {}
        self._told_by: dict[str, BlockFound] = {}
        self._proven: dict[str, int] = {}
        self._wraps: dict[str, int] = {}
        self._closings = 0
        self._previous: BlockFound | None = None
        self._seen_from_start = False
        self._restarted = False
        self._offsets: deque[float] = deque(maxlen=CLOCK_SAMPLES)

    @property
    def clock_error_s(self) -> float | None:
        """Median offset of the meter's interval grid against the receiver's clock; positive = meter slow."""
        return statistics.median(self._offsets) if self._offsets else None

    def feed(self, found: BlockFound) -> list[IntervalReading | OutputEvent]:
        """Take one block; blocks without arrival time or with suspect bits close nothing."""
        if found.arrived_at_s is None or found.block.suspects:
            return []
        out: list[IntervalReading | OutputEvent] = []
        previous = self._previous
        if previous is not None:
            out += self._events(previous, found)
            if self._is_new_interval(previous, found):
                out += self._close(previous)
                self._last, self._told_by, self._proven, self._wraps = {}, {}, {}, {}
                self._closings = 0
                self._seen_from_start, self._restarted = True, False
        self._note(found)
        self._previous = found
        return out

    def _is_new_interval(self, previous: BlockFound, found: BlockFound) -> bool:
        assert previous.arrived_at_s is not None
        assert found.arrived_at_s is not None
        risen = found.block.seconds_left > previous.block.seconds_left + ROLLOVER_RISE_S
        elapsed = found.arrived_at_s - previous.arrived_at_s
        return risen or elapsed > previous.block.seconds_left + ROLLOVER_RISE_S

    def _note(self, found: BlockFound) -> None:
        assert found.arrived_at_s is not None
        block, last = found.block, self._previous
        modulus = block.counter_modulus
        if block.seconds_left == 0:
            is_copy = last is not None and last.block.registers == block.registers
            self._closings = self._closings + 1 if is_copy else 1
        for name, value in block.registers.items():
            before = self._last.get(name, 0)
            if value < before % modulus:
                turns = self._wraps.get(name, 0) * modulus
                # Of three values the one in the middle may be false: its block passed a weak check damaged.
                is_doubtful = block.format is Format.NORMAL and self._proven.get(name, 0) <= turns + value
                if before % modulus - value > modulus * 3 // 4:
                    self._wraps[name] = self._wraps.get(name, 0) + 1
                    self._restarted |= is_doubtful
                elif is_doubtful:
                    before = self._proven.get(name, 0)
                else:
                    self._restarted = True
            self._proven[name] = before
            self._last[name] = self._wraps.get(name, 0) * modulus + value
            self._told_by[name] = found
        interval = self.settings.interval_s
        offset = (found.arrived_at_s + found.block.seconds_left) % interval
        self._offsets.append(offset - interval if offset > interval / 2 else offset)

    def _close(self, last: BlockFound) -> list[IntervalReading]:
        if not self._seen_from_start:
            # The first, partial interval: counters may have begun before the reader did.
            return []
        assert last.arrived_at_s is not None
        interval = self.settings.interval_s
        end = round((last.arrived_at_s + last.block.seconds_left) / interval) * interval
        is_sure = last.block.format is not Format.NORMAL or self._closings >= self.settings.normal_closings
        is_whole = last.block.seconds_left <= self.settings.complete_within_s and not self._restarted
        return [
            IntervalReading(
                float(end), dict(self._last), is_whole and is_sure, self.clock_error_s, dict(self._told_by)
            )
        ]

    def _events(self, previous: BlockFound, found: BlockFound) -> list[OutputEvent]:
        assert found.arrived_at_s is not None
        changes = [
            ("demand_reset", previous.block.bill_toggle, found.block.bill_toggle),
            ("reactive_interval_end", previous.block.reactive_toggle, found.block.reactive_toggle),
            ("segment", previous.block.segment, found.block.segment),
        ]
        return [
            OutputEvent(kind, found.arrived_at_s, str(before), str(after))
            for kind, before, after in changes
            if before != after
        ]
