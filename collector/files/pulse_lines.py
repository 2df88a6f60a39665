"""What a meter's lines of a CSV file of intervals mean, as a session that brought them. Pure.

Evidence is two frames: how to read the lines (layout, registered constant and interval when they came), and
the lines as they came under their heading. Each value is an interval's pulses, exact, or missing and why;
then the judge of every source decides (`collector.judging`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import orjson

from collector.decoded import DayVector, Decoded, Frame, Issue, MeterContext
from collector.drivers import WithoutHistory
from collector.work.planning import day_of
from faults import DeveloperFault
from protocols.acquisition import DAY_S, Holds, StatedColumn, Statement, lengths, on_grid, whole_pulses
from protocols.pulse_csv.layout import KWH, PulseLayout, ValueColumn, parse_layout
from protocols.pulse_csv.lines import IntervalLine, Line, LineReader, lines_of

PULSE_CSV = "pulse-csv"
_MAX_PULSES = (1 << 31) - 1
_SHOWN = 24
_WH = 1000


@dataclass(frozen=True, slots=True)
class PulseHead:
    """The first frame.

    Attributes:
        layout, layout_name: text of the layout, and where it was from.
        kwh_per_pulse, interval_s: of the registry when the file came.
        runs: (number of the first line in the whole file, count) of the lines, in order.
    """

    layout: str
    layout_name: str
    kwh_per_pulse: str
    interval_s: int
    runs: tuple[tuple[int, int], ...]

    def encode(self) -> bytes:
        return orjson.dumps({name: getattr(self, name) for name in self.__slots__})


@dataclass(frozen=True, slots=True)
class PulsePart:
    """A session's evidence taken apart."""

    head: PulseHead
    layout: PulseLayout
    octets: bytes

    def number_in_file(self, line: Line) -> int:
        """The line's number in the whole file."""
        place = line.number - 2  # from 0, without the heading
        for first, count in self.head.runs:
            if place < count:
                return first + place
            place -= count
        raise DeveloperFault(f"no line {line.number}", where="evidence of an import of pulses")


def part_of(frames: Sequence[Frame]) -> PulsePart:
    """The evidence of a session that was lines of a file."""
    if len(frames) != 2:
        raise DeveloperFault(f"{len(frames)} frames, not two", where="evidence of an import of pulses")
    told = orjson.loads(frames[0].payload)
    told["runs"] = tuple((first, count) for first, count in told["runs"])
    head = PulseHead(**told)
    return PulsePart(head, parse_layout(head.layout, head.layout_name), frames[1].payload)


class PulseDecoder(WithoutHistory):
    """See `collector.drivers.Decoder`."""

    def decode(self, frames: Sequence[Frame], profile: str, context: MeterContext) -> Decoded:
        return _Reader(part_of(frames), context).decoded()


DECODER = PulseDecoder()


class _Reader:
    def __init__(self, part: PulsePart, context: MeterContext) -> None:
        self._part, self._context = part, context
        self._constant = Fraction(part.head.kwh_per_pulse)
        self._told: dict[tuple[str, date | None], list[int]] = {}

    def decoded(self) -> Decoded:
        ends = placed(self._part, self._context, self._tell)
        constants = {line.constant for line, _, _ in ends if line.constant is not None}
        if len(constants) > 1:
            told = ", ".join(str(one) for one in sorted(constants))
            self._told.setdefault(
                (f"the lines state several constants ({told} kWh): none is taken", None), []
            )
        stated = constants.pop() if len(constants) == 1 else None
        columns, vectors = [], []
        for column in self._part.layout.value:
            refused = self._refused(column)
            constant = self._constant if column.unit == KWH else stated
            is_active = column.channel == self._context.active_channel
            columns.append(
                StatedColumn(
                    channel=column.channel,
                    quantity=column.quantity,
                    name=column.column,
                    holds=Holds.INCREMENT,
                    unit="" if column.unit != KWH else KWH,
                    constant=constant * _WH if constant and is_active and not refused else None,
                    refused=refused,
                )
            )
            if refused:
                self._told.setdefault((f"column {column.column} is refused: {refused}", None), [])
            else:
                vectors += self._vectors(column, ends)
        found = sorted({length_s for _, _, length_s in ends})
        return Decoded(
            vectors=tuple(vectors),
            issues=tuple(self._issues()),
            meter_serial=self._context.serial,
            last_end=max((end for _, end, _ in ends), default=None),
            statement=Statement(
                columns=tuple(columns),
                interval_s=self._part.head.interval_s,
                lengths_s={length: sum(one == length for _, _, one in ends) for length in found},
                time_basis=f"the {self._part.layout.time_is} of the interval, in {self._context.zone}",
            ),
        )

    def _refused(self, column: ValueColumn) -> str:
        if column.unit == KWH and column.channel != self._context.active_channel:
            return "the registry has no constant of this channel to make pulses of kWh"
        return ""

    def _vectors(
        self, column: ValueColumn, ends: Sequence[tuple[IntervalLine, datetime, int]]
    ) -> list[DayVector]:
        found: dict[tuple[datetime, int], int] = {}
        for line, end, length_s in ends:
            if column.channel not in line.values:
                continue  # told as no number
            value = line.values[column.channel]
            if value is None:
                self._tell(line.line, f"column {column.column} is empty: missing", day_of(end))
                continue
            pulses = whole_pulses(value, self._constant if column.unit == KWH else Fraction(1))
            if pulses is None or not 0 <= pulses <= _MAX_PULSES:
                of = f" of {self._constant} kWh" if column.unit == KWH else ""
                reason = f"column {column.column} is no whole number of pulses{of}, or out of range"
                self._tell(line.line, reason, day_of(end))
            else:
                found[end, length_s] = pulses
        return list(_day_vectors(column, found))

    def _tell(self, line: Line, reason: str, day: date | None) -> None:
        self._told.setdefault((reason, day), []).append(self._part.number_in_file(line))

    def _issues(self) -> list[Issue]:
        return [
            Issue("decode", reason, {"lines": numbers[:_SHOWN], "count": len(numbers)}, day)
            for (reason, day), numbers in self._told.items()
        ]


def placed(part: PulsePart, context: MeterContext, tell: Any) -> list[tuple[IntervalLine, datetime, int]]:
    """Lines with the end and length of their interval, in order of time, each interval once.

    Two lines of one interval that say the same are one; where they differ neither is taken.

    Args:
        tell: gets line, reason and day of what is not taken.
    """
    heading, *rest = lines_of(part.octets)
    reader = LineReader(part.layout, heading, context.zone, part.head.layout_name)
    by_time: dict[datetime, list[IntervalLine]] = {}
    for line in rest:
        said, bad = reader.read(line)
        for cell in bad:
            day = None if said is None else day_of(said.at)
            tell(line, f"{cell.column + ': ' if cell.column else ''}{cell.reason}", day)
        if said is not None:
            by_time.setdefault(said.at, []).append(said)
    known = []
    for at in sorted(by_time):
        first, *others = by_time[at]
        if any((one.values, one.constant) != (first.values, first.constant) for one in others):
            for one in by_time[at]:
                tell(one.line, "two lines of one interval that differ: neither is taken", day_of(at))
        else:
            known.append(first)
    found = []
    told = lengths([one.at for one in known], part.head.interval_s)
    for row, length_s in zip(known, told, strict=True):
        if length_s is None:
            tell(row.line, "nothing tells how long this interval is", day_of(row.at))
            continue
        end = row.at + timedelta(seconds=length_s if part.layout.time_is == "start" else 0)
        if on_grid(end, length_s, 0) is None:
            tell(row.line, f"off the grid of {length_s} s", day_of(end))
        else:
            found.append((row, end, length_s))
    return _without_overlaps(found, tell)


def _without_overlaps(
    found: list[tuple[IntervalLine, datetime, int]], tell: Any
) -> list[tuple[IntervalLine, datetime, int]]:
    """Without intervals that begin before the one before them ended: time is counted once."""
    bad = set()
    for (_, before, _), (line, end, length_s) in pairwise(found):
        if end - timedelta(seconds=length_s) < before:
            bad.add(line.line.number)
            tell(line.line, "begins before the interval before it ended", day_of(end))
    return [one for one in found if one[0].line.number not in bad]


def _day_vectors(column: ValueColumn, found: Mapping[tuple[datetime, int], int]) -> list[DayVector]:
    days: dict[tuple[date, int], DayVector] = {}
    for (end, length_s), pulses in found.items():
        key = day_of(end), length_s
        if key not in days:
            slots = DAY_S // length_s
            blank = np.zeros(slots, np.int32), np.zeros(slots, np.bool_)
            days[key] = DayVector(column.channel, key[0], column.quantity, length_s, *blank)
        midnight = datetime.combine(key[0], time())
        slot = int((end - midnight).total_seconds()) // length_s - 1
        days[key].pulses[slot], days[key].present[slot] = pulses, True
    return [days[key] for key in sorted(days)]
