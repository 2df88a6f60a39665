"""Loads that were recorded: a CSV of pulses, played back exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from faults import OperatorFault
from simulator.load.curves import CHANNELS, MAX_PULSES, STANDARD_QUANTITIES, Ints
from simulator.load.grid import DAY_S, local_seconds


@dataclass(frozen=True)
class RecordedLoad:
    """Pulses of channel 1 as recorded; the other channels stand still, and so does all outside the record."""

    first: int
    counts: Ints = field(repr=False)
    interval_s: int
    kwh_per_pulse: float

    @property
    def quantities(self) -> tuple[int, ...]:
        """See `PulseSource`."""
        return STANDARD_QUANTITIES

    def variant(
        self, *, interval_s: int | None = None, quantities: tuple[int, ...] | None = None
    ) -> RecordedLoad | None:
        """See `PulseSource`: what was recorded stays as it was recorded."""
        same = interval_s in (None, self.interval_s) and quantities in (None, STANDARD_QUANTITIES)
        return self if same else None

    @property
    def starts_at_s(self) -> int:
        """Local seconds at which the first recorded interval begins."""
        return self.first * self.interval_s

    @property
    def ends_at_s(self) -> int:
        """Local seconds at which the last recorded interval ends."""
        return (self.first + len(self.counts)) * self.interval_s

    def pulses(self, first: int, count: int) -> Ints:
        """See `PulseSource`."""
        out = np.zeros((max(count, 0), CHANNELS), dtype=np.int64)
        low = max(first, self.first)
        high = min(first + count, self.first + len(self.counts))
        if low < high:
            out[low - first : high - first, 0] = self.counts[low - self.first : high - self.first]
        return out

    def load(self, interval: int) -> tuple[float, float]:
        """See `PulseSource`."""
        count = int(self.pulses(interval, 1)[0, 0])
        return count * self.kwh_per_pulse * 3600.0 / self.interval_s, 0.0


HEADER = ("interval_end_local", "pulses")


def read_pulses_csv(path: Path, kwh_per_pulse: float) -> RecordedLoad:
    """Load a recording: columns `interval_end_local` (ISO, no zone) and `pulses`; others are ignored.

    Raises:
        OperatorFault: naming file and line: wrong header, a line that does not read, a count that 12 bits
            cannot hold, or a label that is not one interval after the line before.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorFault(
            f"cannot read the pulses: {error}", where=str(path), remedy="name a readable UTF-8 CSV file"
        ) from error
    if not lines or tuple(lines[0].strip().split(","))[:2] != HEADER:
        raise OperatorFault(
            "the first line must begin with interval_end_local,pulses",
            where=f"{path}:1",
            remedy="write the header, with the label being the END of each interval",
        )
    ends, counts = [], []
    for number, line in enumerate(lines[1:], start=2):
        end, count = _parse_line(line, f"{path}:{number}")
        ends.append(end)
        counts.append(count)
    if len(ends) < 2:
        raise OperatorFault(
            "fewer than two intervals", where=str(path), remedy="give at least two lines of data"
        )
    interval_s = ends[1] - ends[0]
    if interval_s <= 0 or DAY_S % interval_s or ends[0] % interval_s:
        raise OperatorFault(
            f"an interval of {interval_s} s does not divide the day, or its labels are off its borders",
            where=f"{path}:3",
            remedy="use labels on whole intervals of 1, 5, 15 ... minutes, oldest first",
        )
    steps = np.diff(np.array(ends, dtype=np.int64))
    broken = np.flatnonzero(steps != interval_s)
    if broken.size:
        raise OperatorFault(
            f"label is {int(steps[broken[0]])} s after the line before, not {interval_s} s",
            where=f"{path}:{int(broken[0]) + 3}",
            remedy="a meter's memory has no holes: fill or cut the file there",
        )
    return RecordedLoad(
        ends[0] // interval_s - 1, np.array(counts, dtype=np.int64), interval_s, kwh_per_pulse
    )


def _parse_line(line: str, where: str) -> tuple[int, int]:
    cells = line.split(",")
    try:
        end, count = datetime.fromisoformat(cells[0].strip()), int(cells[1])
    except (ValueError, IndexError) as error:
        raise OperatorFault(
            f"not a label and a count: {line!r}",
            where=where,
            remedy="write lines as 2016-09-28T00:05:00,146",
        ) from error
    if end.tzinfo is not None or not 0 <= count <= MAX_PULSES:
        raise OperatorFault(
            f"label with a zone, or count outside 0..{MAX_PULSES}: {line!r}",
            where=where,
            remedy="labels are the meter's wall clock; a memory word holds 12 bits",
        )
    return int(local_seconds(end)), count
