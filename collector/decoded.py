"""What a session brought, whatever its protocol: stored frames in, these values out; then the frame that
storage merges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from protocols.acquisition import Period, Statement
from storage.review.holds import HoldReason
from storage.sessions import Frame as Frame
from storage.sessions import Installation

if TYPE_CHECKING:
    from protocols.nbr14522.checks import CrossCheck


@dataclass(frozen=True, slots=True)
class MeterContext:
    """What the registry says about the meter that was meant to be read; `installed` None: nothing.

    `most_w`: average power, as the meter counts it, above which no growth of a total is believed; None: not
    known.
    """

    meter_id: int
    serial: str
    active_channel: int
    zone: timezone
    installed: Installation | None = None
    most_w: Fraction | None = None


@dataclass(frozen=True, slots=True)
class DayVector:
    """Pulses of one channel and day, one slot per interval; `present` is False where nothing is known."""

    channel: int
    day: date
    quantity_code: int
    interval_s: int
    pulses: NDArray[np.int32]
    present: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class HeldVector:
    """A vector that must not become readings until a person decides; see `storage.review.holds`.

    Attributes:
        vector: `present` marks the slots that are held.
        evidence: plain values for a person to decide by. likely_shift_s: as `storage.review.holds.HeldDay`
        has it.
    """

    vector: DayVector
    reason: HoldReason
    evidence: Mapping[str, Any] = field(default_factory=dict)
    rule: str = ""
    likely_shift_s: int | None = None


@dataclass(frozen=True, slots=True)
class RegisterRow:
    command: int
    channel: int
    at: datetime
    values: dict[str, int]


@dataclass(frozen=True, slots=True)
class OutageRow:
    """A power failure; `ended_at` None: its return is not recorded yet."""

    started_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class ChangeRow:
    at: datetime
    code: int
    reader_serial: str


@dataclass(frozen=True, slots=True)
class ParametersRow:
    command: int
    at: datetime
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Issue:
    """Something that came in and must not flow on; `day` where it concerns one."""

    stage: str
    reason: str
    detail: dict[str, Any]
    day: date | None = None


@dataclass(frozen=True, slots=True)
class ClockReading:
    """The meter's clock against ours. Resolution 1 s: the meter tells whole seconds.

    `drift_s` = meter time minus the middle between sending the command and having its answer, so that the way
    there and back is taken out; positive when the meter is fast.
    """

    meter_time: datetime
    drift_s: float
    round_trip_s: float


class ClockDoubt(StrEnum):
    """In what a meter disagrees with itself, or with its site, about the time."""

    DEVIATION = "deviation"
    """It states another distance to UTC than the site has."""
    DAYLIGHT_SAVING = "daylight_saving"
    """It is in summer time, and nothing tells whether its digits are."""
    ROWS = "rows"
    """Its rows and its clock state different distances to UTC, or only one of them summer time."""
    INVALID = "invalid"
    """It says itself that its clock is not to be trusted."""


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """What the times of a session rest on, for the gate that judges clocks.

    Attributes:
        told: the meter's clock as it came, in words or octets.
        deviation_min: minutes from the meter's time to UTC as it states them; None: not stated.
        zone_deviation_min: the same, of the site.
        row_deviations_min: those that its rows state, each once; None among them: not stated.
        doubts: what makes the times doubtful whatever the drift is; empty: nothing.
        likely_shift_s: what is to be added to the times of the readings for the most likely true time; None
            where they are right, or nothing tells.
    """

    told: str
    deviation_min: int | None = None
    zone_deviation_min: int | None = None
    is_daylight_saving: bool = False
    is_invalid: bool = False
    is_doubtful: bool = False
    has_other_base: bool = False
    row_deviations_min: tuple[int | None, ...] = ()
    doubts: tuple[ClockDoubt, ...] = ()
    likely_shift_s: int | None = None


@dataclass(frozen=True, slots=True)
class MemorySum:
    """Pulses of all words of one complete memory answer, by channel from `first_channel` on.

    `open_intervals`: intervals that the registers read with it may count beyond its words.
    """

    code: int
    first_channel: int
    begins_at: datetime
    pulses: tuple[int, ...]
    open_intervals: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a session brought. `is_held`: another meter answered; nothing of it may be merged (rule V10).
    `is_moved`: an interval ended between 51 and its memory, which was left out."""

    vectors: tuple[DayVector, ...] = ()
    registers: tuple[RegisterRow, ...] = ()
    outages: tuple[OutageRow, ...] = ()
    changes: tuple[ChangeRow, ...] = ()
    parameters: tuple[ParametersRow, ...] = ()
    issues: tuple[Issue, ...] = ()
    meter_serial: str | None = None
    clock: ClockReading | None = None
    absent: frozenset[int] = frozenset()
    last_end: datetime | None = None
    blocks: int = 0
    is_held: bool = False
    is_moved: bool = False
    cross_checks: tuple[CrossCheck, ...] = ()
    """What the answers prove about one another; a misfit is also an issue of stage `cross_check`."""
    sums: tuple[MemorySum, ...] = ()
    answered: frozenset[int] = frozenset()
    """Codes of the answers that came."""
    held: tuple[HeldVector, ...] = ()
    """What a decoder, and then `judging`, sets aside for a person."""
    clock_facts: ClockFacts | None = None
    """Of a protocol whose clock states more than the time."""
    statement: Statement | None = None
    """What the session states about its readings; kept with it."""
    shortfall: str = ""
    """What was announced and did not come, in words: to be read again."""
    got: tuple[Period, ...] | None = None
    """Intervals of all rows that came, whatever became of their values; None: the decoder does not say."""


READINGS_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "meter_id": pl.Int64,
    "channel": pl.Int16,
    "day": pl.Date,
    "quantity_code": pl.Int16,
    "interval_s": pl.Int32,
    "pulses": pl.List(pl.Int32),
    "source_starts": pl.List(pl.Int16),
    "source_sessions": pl.List(pl.Int64),
}


def readings_frame(parts: Sequence[tuple[int, int, Sequence[DayVector]]]) -> pl.DataFrame:
    """Vectors of several sessions as the frame that storage merges.

    Args:
        parts: (meter id, session id, vectors).

    Returns:
        READINGS_SCHEMA; null pulses are missing, source 0 covers them.
    """
    by_shape: dict[tuple[int, bool], list[tuple[int, int, DayVector]]] = {}
    for meter_id, session_id, vectors in parts:
        for vector in vectors:
            shape = len(vector.pulses), bool(vector.present.all())
            by_shape.setdefault(shape, []).append((meter_id, session_id, vector))
    frames = [_readings_of_one_shape(rows, is_full) for (_, is_full), rows in by_shape.items()]
    return pl.concat(frames) if frames else pl.DataFrame(schema=READINGS_SCHEMA)


def _readings_of_one_shape(rows: Sequence[tuple[int, int, DayVector]], is_full: bool) -> pl.DataFrame:
    """Rows of one number of slots: nearly all are full days, which need no runs and no gaps."""
    numbers = np.array([session_id for _, session_id, _ in rows], np.int64)
    pulses = pl.Series(np.stack([vector.pulses for _, _, vector in rows]).ravel())
    starts: Any = pl.Series(np.zeros(len(rows), np.int16)).reshape((len(rows), 1)).arr.to_list()
    sessions: Any = pl.Series(numbers).reshape((len(rows), 1)).arr.to_list()
    if not is_full:
        present = np.stack([vector.present for _, _, vector in rows])
        pulses = pulses.set(pl.Series(~present.ravel()), None)
        runs = [source_runs(vector.present, session_id) for _, session_id, vector in rows]
        starts, sessions = [first for first, _ in runs], [sources for _, sources in runs]
    slots = len(rows[0][2].pulses)
    return pl.DataFrame(
        {
            "meter_id": [meter_id for meter_id, _, _ in rows],
            "channel": [vector.channel for _, _, vector in rows],
            "day": [vector.day for _, _, vector in rows],
            "quantity_code": [vector.quantity_code for _, _, vector in rows],
            "interval_s": [vector.interval_s for _, _, vector in rows],
            "pulses": pulses.reshape((len(rows), slots)).arr.to_list(),
            "source_starts": starts,
            "source_sessions": sessions,
        },
        schema=READINGS_SCHEMA,
    )


def source_runs(present: NDArray[np.bool_], session_id: int) -> tuple[list[int], list[int]]:
    """Runs of slots with one source: where each begins, and its session (0 = none)."""
    edges = np.flatnonzero(np.diff(present)) + 1
    starts = [0, *edges.tolist()]
    return starts, [session_id if present[start] else 0 for start in starts]
