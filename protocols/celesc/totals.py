"""From register readings to accumulated energy: rollover, exchange, ratchet (section 6).

Values are whole kWh and kvarh and the packet has no clock, so a step's time is the receiver's and its
resolution one unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# A fall is a rollover only from the last to the first tenth of the scale, and if the load can do it.
NEAR_END = 0.9
NEAR_START = 0.1
OVERVOLTAGE = 1.15
NOMINAL_VOLTAGE_V = 240


class StepKind(StrEnum):
    """What the difference between two readings is."""

    FIRST = "first"
    ADVANCE = "advance"
    ROLLOVER = "rollover"
    EXCHANGE = "exchange"  # the meter number changed
    IMPOSSIBLE = "impossible"  # falls, or rises more than the load can: a person decides


@dataclass(frozen=True)
class Step:
    """Energy between two readings; None where it is not known."""

    kind: StepKind
    energy: int | None
    from_s: float | None
    to_s: float


def max_energy_kwh(phases: int, max_current_a: float, hours: float) -> float:
    """Most energy that the installation can take: phases x 240 V x Imax x hours, and 15 % overvoltage."""
    return phases * NOMINAL_VOLTAGE_V * max_current_a * hours * OVERVOLTAGE / 1000


class Register:
    """One register of one meter: feed its readings, get its steps.

    The direct register of a ratchet ("catraca") meter never goes down; reverse flow has its own register,
    so both are followed by this same class.
    """

    def __init__(self, digits: int, phases: int, max_current_a: float) -> None:
        if digits not in (5, 6):
            raise ValueError(f"a register has 5 or 6 digits, not {digits}")
        self.modulus = 10**digits
        self._phases = phases
        self._max_current_a = max_current_a
        self._meter: str | None = None
        self._value: int | None = None
        self._at_s: float | None = None

    def feed(self, meter_number: str, value: int, at_s: float) -> Step:
        """Take a reading; the step goes from the reading before to this one."""
        before, began, meter = self._value, self._at_s, self._meter
        self._meter, self._value, self._at_s = meter_number, value, at_s
        if before is None or began is None:
            return Step(StepKind.FIRST, None, None, at_s)
        if meter_number != meter:
            return Step(StepKind.EXCHANGE, None, began, at_s)
        # One unit of slack: both readings are cut to whole units.
        possible = max_energy_kwh(self._phases, self._max_current_a, (at_s - began) / 3600) + 1
        if value >= before:
            kind = StepKind.ADVANCE if value - before <= possible else StepKind.IMPOSSIBLE
            return Step(kind, value - before if kind is StepKind.ADVANCE else None, began, at_s)
        wrapped = value - before + self.modulus
        if before >= NEAR_END * self.modulus and value < NEAR_START * self.modulus and wrapped <= possible:
            return Step(StepKind.ROLLOVER, wrapped, began, at_s)
        return Step(StepKind.IMPOSSIBLE, None, began, at_s)
