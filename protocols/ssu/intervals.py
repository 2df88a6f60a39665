"""From blocks to interval readings (reference "ssu", section 6).

Counters are cumulative within the demand interval and start again from zero, so only the last block before
the end matters; each register keeps its own last value, whatever the quadrant does in between.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from protocols.ssu.blocks import Format
from protocols.ssu.settings import SsuSettings
from protocols.ssu.stream import BlockFound

# Seconds must rise by more than this for a new interval (section 6); less is jitter of a repeated block.
ROLLOVER_RISE_S = 5
# The first value of an interval is its length less up to three seconds (section 6).
LATE_FIRST_S = 3
# How far the clock and a countdown that has left out some seconds may disagree, by octets that came late.
JUMP_OFF_S = 15
# So much of an interval shows that its blocks come as they are said.
LEAST_HEARD_S = 10
# Blocks that count down from more than the registry's interval, before its length is taken for wrong.
WRONG_LENGTH_BLOCKS = 3
# Ends of countdowns that all began below it, before the same.
WRONG_LENGTH_INTERVALS = 3
CLOCK_SAMPLES = 301


class Doubt(StrEnum):
    """Why the counts of an interval are not those of the registry's interval that they would be taken for."""

    END_NOT_HEARD = "an interval's end was not heard"
    RESTARTED = "the counters of an interval fell: the meter restarted, or it is another"
    CLOSINGS_DISAGREE = "the closing blocks of an interval do not agree"
    OUT_OF_TIME = (
        "the countdown of an interval does not go with the clock: octets came late, or a clock was set"
    )
    OFF_GRID = "an interval ends too far from the market's grid to tell which it is"
    WRONG_LENGTH = "the countdown is not that of the registry's interval: correct the installation's interval"


@dataclass(frozen=True)
class IntervalReading:
    """One closed demand interval.

    Attributes:
        end_s: end of the interval, seconds of the receiver's clock, rounded to the interval's grid.
        pulses: last value of each register seen, save those that may have gone on in a hole since.
        doubt: None for one seen from its start to its end; otherwise the values are a lower bound at best.
        has_holes: blocks are missing in which a register that is absent here may have counted.
        clock_error_s: median of receiver's grid minus the meter's countdown, or None without stamps.
        told_by: the block that carried each value.
    """

    end_s: float
    pulses: dict[str, int]
    doubt: Doubt | None
    has_holes: bool
    clock_error_s: float | None
    told_by: Mapping[str, BlockFound]

    @property
    def is_complete(self) -> bool:
        """Whether the counts are those of the interval."""
        return self.doubt is None


@dataclass(frozen=True)
class OutputEvent:
    """A toggle or a change of segment, at the arrival time of the block that shows it."""

    kind: str
    at_s: float
    before: str
    after: str


class IntervalAssembler:
    """Feed believed blocks with arrival times; take interval readings and events.

    Arrival plus seconds left is a block's end of interval, late by what its octets were delayed. A buffer
    that is emptied, a clock that is set, or another meter on the line shows as an end that moves: such an
    interval is told with a doubt.
    """

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
        self._has_holes = False
        self._jumped = False
        self._ends: tuple[float, float] = (math.inf, -math.inf)
        self._longest_s = 0
        self._most_left_s = 0
        self._closed = 0
        self._beyond = 0
        self._offsets: deque[float] = deque(maxlen=CLOCK_SAMPLES)

    @property
    def clock_error_s(self) -> float | None:
        """Median offset of the meter's interval grid against the receiver's clock; positive = meter slow."""
        return statistics.median(self._offsets) if self._offsets else None

    def feed(self, found: BlockFound) -> list[IntervalReading | OutputEvent]:
        """Take one block; blocks without arrival time or with suspect bits close nothing."""
        if found.arrived_at_s is None or found.block.suspects:
            return []
        if found.block.seconds_left > self.settings.interval_s:
            self._beyond += 1
            return []
        out: list[IntervalReading | OutputEvent] = []
        previous = self._previous
        if previous is not None:
            out += self._events(previous, found)
            hole_s = previous.block.seconds_left - found.block.seconds_left
            turns, off_s = self._moved(previous, found)
            rises = hole_s < -ROLLOVER_RISE_S and previous.block.seconds_left <= ROLLOVER_RISE_S
            if turns >= 1 or rises:
                out += self._close(previous)
                hole_s = self.settings.interval_s - found.block.seconds_left - LATE_FIRST_S
                is_start_heard = rises and hole_s <= ROLLOVER_RISE_S
                self._begin(knows_start=is_start_heard or (turns >= 1 and off_s <= JUMP_OFF_S))
                self._closed += 1
            if hole_s > 1 + self.settings.unnoticed_s or hole_s < -ROLLOVER_RISE_S:
                self._has_holes = True
                self._told_by = {}
            elif hole_s > 1:
                self._forget_unfinished(previous, found)
            if abs(hole_s) > ROLLOVER_RISE_S:
                self._jumped |= off_s > JUMP_OFF_S
            if previous.block.format is not found.block.format:
                self._begin(knows_start=False)
        self._note(found)
        self._previous = found
        return out

    def _moved(self, previous: BlockFound, found: BlockFound) -> tuple[int, float]:
        """By how many intervals the end has moved on, and how far it is off them."""
        interval = self.settings.interval_s
        moved_s = _end_s(found) - _end_s(previous)
        turns = round(moved_s / interval)
        return turns, abs(moved_s - turns * interval)

    def _begin(self, *, knows_start: bool) -> None:
        self._last, self._told_by, self._proven, self._wraps = {}, {}, {}, {}
        self._closings = 0
        self._seen_from_start = knows_start
        self._restarted = self._has_holes = self._jumped = False
        self._ends = math.inf, -math.inf
        self._most_left_s = 0

    def _forget_unfinished(self, previous: BlockFound, found: BlockFound) -> None:
        """Of a quadrant that ended in a lost block nobody knows the last count."""
        for name in previous.block.registers.keys() - found.block.registers.keys():
            self._has_holes = True
            self._told_by.pop(name, None)

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
        self._most_left_s = max(self._most_left_s, block.seconds_left)
        self._longest_s = max(self._longest_s, block.seconds_left)
        end_s = _end_s(found)
        self._ends = min(self._ends[0], end_s), max(self._ends[1], end_s)
        interval = self.settings.interval_s
        offset = end_s % interval
        self._offsets.append(offset - interval if offset > interval / 2 else offset)

    def _close(self, last: BlockFound) -> list[IntervalReading]:
        if not self._seen_from_start and not (self._is_short() and self._closed >= WRONG_LENGTH_INTERVALS):
            # The first, partial interval: counters may have begun before the reader did.
            return []
        interval = self.settings.interval_s
        # Octets come late and never early: the earliest end is the truest.
        end = round(self._ends[0] / interval) * interval
        pulses = {name: value for name, value in self._last.items() if name in self._told_by}
        return [
            IntervalReading(
                float(end),
                pulses,
                self._doubt(last, end),
                self._has_holes,
                self.clock_error_s,
                dict(self._told_by),
            )
        ]

    def _doubt(self, last: BlockFound, end: float) -> Doubt | None:
        interval = self.settings.interval_s
        earliest, latest = self._ends
        is_sure = last.block.format is not Format.NORMAL or self._closings >= self.settings.normal_closings
        doubts = {
            Doubt.WRONG_LENGTH: self._is_short() or self._beyond >= WRONG_LENGTH_BLOCKS,
            Doubt.END_NOT_HEARD: last.block.seconds_left > self.settings.complete_within_s,
            Doubt.RESTARTED: self._restarted,
            Doubt.OUT_OF_TIME: self._jumped or latest - earliest > self._delay_allowed_s(last),
            Doubt.OFF_GRID: abs(earliest - end) > 0.4 * interval,
            Doubt.CLOSINGS_DISAGREE: not is_sure,
        }
        return next((doubt for doubt, is_so in doubts.items() if is_so), None)

    def _is_short(self) -> bool:
        """Whether no countdown has been seen above four fifths of the registry's interval.

        Of the lengths that there are, the next shorter one of any is two thirds of it or less.
        """
        return self._longest_s < 0.8 * self.settings.interval_s

    def _delay_allowed_s(self, last: BlockFound) -> float:
        """A third of the interval, so that there is no doubt which it is; of a short piece of it, half.

        What comes faster than a meter can say it was kept somewhere, and may be of any interval.
        """
        heard_s = self._most_left_s - last.block.seconds_left
        if heard_s < LEAST_HEARD_S:
            return -1.0
        return min(self.settings.interval_s / 3, LATE_FIRST_S + heard_s / 2)

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


def _end_s(found: BlockFound) -> float:
    """When the interval ends, by this block."""
    assert found.arrived_at_s is not None
    return found.arrived_at_s + found.block.seconds_left
