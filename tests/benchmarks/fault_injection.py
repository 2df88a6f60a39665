"""Faults of thirteen kinds, put into one day of a month of pulses; seeded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

DAYS, SLOTS = 30, 288
NUM, DEN = 72, 10_000
SERIAL, STRANGER = "10000001", "10000002"
I64 = npt.NDArray[np.int64]
Rng = np.random.Generator


@dataclass
class Case:
    """One UC's month: what was consumed, what the memory gave, and what else is known of the day.

    Attributes:
        read: what came. counted: what the registers counted. reactive: what its channel says.
        constant: the registry's, in ten-thousandths of a kWh; the meter's own is always `NUM`.
        lost_phase: slots of the day in which phase B has no voltage.
        drift_s, serial: of the clock and the meter that answered, in the session that brought the day.
        gates: what held that session, once it went through the gates.
    """

    truth: I64
    read: I64
    day: int
    kind: str
    reactive: I64
    counted: I64 = field(init=False)
    constant: int = NUM
    lost_phase: slice | None = None
    drift_s: float = 0.0
    serial: str = SERIAL
    gates: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.counted = self.truth.copy()

    @property
    def spoiled(self) -> I64:
        return self.read[self.day]

    def keep(self, other: I64) -> None:
        self.read[self.day] = other


def span(rng: Rng, low: int, high: int) -> slice:
    length = int(rng.integers(low, high + 1))
    first = int(rng.integers(0, SLOTS - length))
    return slice(first, first + length)


def spike(case: Case, rng: Rng) -> None:
    at = span(rng, 1, 3)
    case.spoiled[at] = case.spoiled[at] * int(rng.integers(8, 200))


def freeze(case: Case, rng: Rng) -> None:
    at = span(rng, 12, 200)
    case.spoiled[at] = case.spoiled[at.start]


def zeros(case: Case, rng: Rng) -> None:
    case.spoiled[span(rng, 4, 200)] = 0


def constant(times: int) -> Callable[[Case, Rng], None]:
    def apply(case: Case, rng: Rng) -> None:
        case.constant = NUM * times

    return apply


def clock_slow_1h(case: Case, rng: Rng) -> None:
    start = case.day * SLOTS + 12
    case.keep(case.truth.ravel()[start : start + SLOTS].copy())
    case.drift_s = -3600.0


def clock_fast_30d(case: Case, rng: Rng) -> None:
    case.keep(case.truth[(case.day + 15) % DAYS].copy())
    case.drift_s = 30 * 86_400.0


def swapped_channels(case: Case, rng: Rng) -> None:
    active = case.spoiled.copy()
    case.keep(case.reactive[case.day].copy())
    case.reactive[case.day] = active


def lost_phase(case: Case, rng: Rng) -> None:
    at = span(rng, 12, SLOTS - 1)
    case.spoiled[at] = case.spoiled[at] * 2 // 3
    # The registers miss the phase, too.
    case.counted[case.day] = case.spoiled
    case.lost_phase = at


def unregistered_swap(case: Case, rng: Rng) -> None:
    case.spoiled[int(rng.integers(0, SLOTS - 12)) :] //= int(rng.integers(2, 9))
    case.serial = STRANGER


def duplicate_block(case: Case, rng: Rng) -> None:
    at = span(rng, 12, 140)
    length = min(at.stop - at.start, SLOTS - at.stop)
    case.spoiled[at.stop : at.stop + length] = case.spoiled[at.start : at.start + length]


def negative(case: Case, rng: Rng) -> None:
    at = span(rng, 1, 40)
    case.spoiled[at] = -case.spoiled[at] - 1


def all_ones(case: Case, rng: Rng) -> None:
    case.spoiled[span(rng, 1, 40)] = int(rng.choice([4095, 65535]))


KINDS: dict[str, Callable[[Case, Rng], None]] = {
    "spike": spike,
    "freeze": freeze,
    "zeros": zeros,
    "constant x2": constant(2),
    "constant x10": constant(10),
    "clock -1 h": clock_slow_1h,
    "clock +30 d": clock_fast_30d,
    "swapped channels": swapped_channels,
    "lost phase": lost_phase,
    "swap without registry": unregistered_swap,
    "duplicate block": duplicate_block,
    "negative": negative,
    "all ones": all_ones,
}


def reactive_of(month: I64, rng: Rng) -> I64:
    """The recording has none: a load whose tangent is its own, and hardly moves."""
    tangent = rng.uniform(0.3, 0.7)
    return np.rint(month * tangent * rng.normal(1, 0.05, month.shape)).astype(np.int64)


def inject(month: I64, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    kind = list(KINDS)[seed % len(KINDS)]
    reactive = reactive_of(month, np.random.default_rng([seed, 1]))
    case = Case(month.copy(), month.copy(), int(rng.integers(1, DAYS - 2)), kind, reactive)
    KINDS[kind](case, rng)
    return case
