"""Finding blocks in a stream of octets, with or without useful time stamps (reference "ssu", section 5).

The checks of a block are weak (one random window in 256 passes the complement), so a window is believed
only in company: out of step, two verified windows must follow each other with the countdown going on; in
step, one is enough, and only at the place where the next block is due. After silence the next block is due
where the octets begin again. Silence helps so, and is never required: adapters and bridges merge octets.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from protocols.skipped import SkippedRun
from protocols.ssu.blocks import LENGTH, Block, Format, Refused, decode_block
from protocols.ssu.settings import SsuSettings

# A block lasts a second; what is older than this many octets without a block is noise. Bounds memory.
MAX_BUFFER = 1024
# The longest demand interval there is. A countdown from more than the registry's interval is not noise: the
# assembler tells that the interval is wrong.
LONGEST_INTERVAL_S = 3600
# Longest run of lost seconds after which a countdown is still believed to be the same interval's.
MAX_LOST_SECONDS = 3


@dataclass(frozen=True)
class BlockFound:
    """A believed block, the arrival time of its first octet (None without stamps) and its stream offset."""

    block: Block
    arrived_at_s: float | None
    offset: int
    octets: bytes


@dataclass(frozen=True)
class Locked:
    """The format is settled (or, with None, no longer)."""

    format: Format | None


class SsuStream:
    """Push octets in, take events out. `next_event()` returns None when more octets are needed."""

    def __init__(
        self, settings: SsuSettings | None = None, formats: tuple[Format, ...] | None = None
    ) -> None:
        self.settings = settings or SsuSettings()
        self._most_left_s = max(self.settings.interval_s, LONGEST_INTERVAL_S)
        self._formats = formats or (Format.NORMAL, Format.EXTENDED)
        self._locked: Format | None = formats[0] if formats and len(formats) == 1 else None
        self._buffer = bytearray()
        self._stamps: list[float | None] = []
        self._breaks: set[int] = set()  # stream offsets at which a burst begins
        self._base = 0  # stream offset of the buffer's first octet
        self._last_at: float | None = None
        self._previous: BlockFound | None = None
        self._in_step = False
        self._coherent = 0
        self._refused = 0
        self._events: deque[BlockFound | SkippedRun | Locked] = deque()

    def receive(self, octets: bytes, at_s: float | None = None) -> None:
        """Take octets that arrived together; `at_s` is the arrival of the first one, if known."""
        if at_s is not None and self._last_at is not None and at_s - self._last_at > self.settings.silence_s:
            self._breaks.add(self._base + len(self._buffer))
        if at_s is not None:
            self._last_at = at_s
        self._buffer += octets
        self._stamps.extend([at_s] * len(octets))
        self._search()

    def next_event(self) -> BlockFound | SkippedRun | Locked | None:
        """Oldest event not yet taken."""
        return self._events.popleft() if self._events else None

    def close(self) -> None:
        """The stream has ended: what is left is not a block."""
        self._drop(len(self._buffer), "end of stream")

    def _search(self) -> None:
        while self._buffer:
            progress = self._take_in_step() if self._in_step else self._take_pair()
            if not progress:
                break
        if len(self._buffer) > MAX_BUFFER:
            self._drop(len(self._buffer) - MAX_BUFFER // 2, "no block")

    def _lengths(self) -> list[int]:
        return [LENGTH[self._locked]] if self._locked else [LENGTH[f] for f in self._formats]

    def _window(self, start: int, length: int) -> BlockFound | None:
        if start + length > len(self._buffer):
            return None
        octets = bytes(self._buffer[start : start + length])
        block = decode_block(octets, self.settings.mixed_hour_post)
        if isinstance(block, Refused) or block.seconds_left > self._most_left_s:
            return None
        return BlockFound(block, self._stamps[start], self._base + start, octets)

    def _take_in_step(self) -> bool:
        """The next block is due at the head of the buffer."""
        assert self._previous is not None
        length = LENGTH[self._previous.block.format]
        if len(self._buffer) < length:
            # A silence before the block is complete: its rest will not come.
            if any(self._base < place <= self._base + len(self._buffer) for place in self._breaks):
                self._in_step = False
                return True
            return False
        found = self._window(0, length)
        if found is None or not self._goes_on(self._previous, found):
            self._in_step = False
            return True
        self._accept(found, 0)
        return True

    def _take_pair(self) -> bool:
        """Out of step: look for one window that is expected, or for two before it that follow each other."""
        alone, alone_at = self._alone()
        starts = len(self._buffer) - 2 * min(self._lengths()) + 1
        for start in range(starts if alone is None else min(starts, alone_at)):
            for length in self._lengths():
                first = self._window(start, length)
                if first is None:
                    continue
                second_at = self._follower(start + length)
                second = self._window(second_at, length)
                if second is None or not self._follows(first, second):
                    continue
                self._accept(first, start)
                self._accept(second, second_at - start - length)
                self._in_step = True
                return True
        if alone is not None:
            self._accept(alone, alone_at)
            self._in_step = True
            return True
        # Everything that can no longer be the first of a pair is noise.
        longest = max(self._lengths())
        surplus = len(self._buffer) - 2 * longest - 1
        if surplus > 0 and not self._breaks_after(surplus):
            self._refuse(surplus)
        return False

    def _alone(self) -> tuple[BlockFound | None, int]:
        """One block between damaged ones: where a burst begins, its countdown as far on as the clock."""
        if self._previous is not None and self._previous.arrived_at_s is not None:
            length = LENGTH[self._previous.block.format]
            for place in sorted(self._breaks):
                found = self._window(place - self._base, length)
                if found is not None and self._is_expected(self._previous, found):
                    return found, place - self._base
        return None, 0

    def _is_expected(self, previous: BlockFound, found: BlockFound) -> bool:
        """Of the same interval, and as far on in it as time has gone on; the closing block repeats."""
        assert previous.arrived_at_s is not None
        if found.arrived_at_s is None:
            return False
        left = previous.block.seconds_left - (found.arrived_at_s - previous.arrived_at_s)
        if left < -MAX_LOST_SECONDS:
            return False
        is_due = abs(found.block.seconds_left - max(0.0, left)) <= self.settings.seconds_tolerance
        return is_due and _counters_go_on(previous.block, found.block)

    def _breaks_after(self, surplus: int) -> bool:
        """Whether a window that is to be dropped could still pair up with a later burst."""
        longest = max(self._lengths())
        return (
            any(
                self._window(start, length) is not None
                for start in range(max(0, surplus - longest), surplus)
                for length in self._lengths()
            )
            and len(self._buffer) < MAX_BUFFER
        )

    def _follower(self, end: int) -> int:
        """Where the block after one that ends here is due: at once, or where the next burst begins."""
        later = [place - self._base for place in self._breaks if place - self._base >= end]
        return min(later) if later else end

    def _follows(self, first: BlockFound, second: BlockFound) -> bool:
        """The strict rule for a pair: one second less, or the closing block repeated."""
        before, after = first.block, second.block
        if before.seconds_left == 0 and after.seconds_left == 0:
            # A mixed block tells the time, so that its repetition is not a copy.
            is_copy = first.octets == second.octets
            return is_copy or (before.format is Format.MIXED and before.registers == after.registers)
        if after.seconds_left != before.seconds_left - 1:
            return False
        return _counters_go_on(before, after)

    def _goes_on(self, previous: BlockFound, found: BlockFound) -> bool:
        """The rule in step: the countdown goes on within the tolerance, or starts again after its end."""
        before, after = previous.block, found.block
        if after.seconds_left > before.seconds_left + 5:
            return before.seconds_left <= MAX_LOST_SECONDS
        elapsed = 1.0
        if previous.arrived_at_s is not None and found.arrived_at_s is not None:
            elapsed = max(0.0, found.arrived_at_s - previous.arrived_at_s)
        expected = max(0.0, before.seconds_left - elapsed)
        if abs(after.seconds_left - expected) > self.settings.seconds_tolerance + MAX_LOST_SECONDS:
            return False
        return _counters_go_on(before, after)

    def _accept(self, found: BlockFound, skipped: int) -> None:
        if skipped:
            self._drop(skipped, "noise before a block")
        self._pop(len(found.octets))
        self._events.append(found)
        self._previous = found
        self._coherent += 1
        self._refused = 0
        if self._locked is None and self._coherent >= self.settings.lock_after:
            self._locked = found.block.format
            self._events.append(Locked(self._locked))

    def _refuse(self, count: int) -> None:
        self._coherent = 0
        self._refused += max(1, count // LENGTH[Format.NORMAL])
        self._drop(count, "no block")
        if self._locked and len(self._formats) > 1 and self._refused >= self.settings.unlock_after:
            self._locked = None
            self._events.append(Locked(None))

    def _drop(self, count: int, reason: str) -> None:
        if not count:
            return
        last = self._events[-1] if self._events else None
        if isinstance(last, SkippedRun) and last.reason == reason and last.offset + last.count == self._base:
            self._events[-1] = SkippedRun(last.count + count, reason, last.offset)
        else:
            self._events.append(SkippedRun(count, reason, self._base))
        self._pop(count)

    def _pop(self, count: int) -> None:
        del self._buffer[:count]
        del self._stamps[:count]
        self._base += count
        self._breaks = {place for place in self._breaks if place >= self._base}


def _counters_go_on(before: Block, after: Block) -> bool:
    """Counters fall inside an interval only when they wrap at their whole width (section 6)."""
    ours, theirs = before.registers, after.registers
    for name in ours.keys() & theirs.keys():
        fall = ours[name] - theirs[name]
        if 0 < fall < before.counter_modulus * 3 // 4:
            return False
    return True
