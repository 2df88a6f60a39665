"""What a trace consists of: the parts that `trace` gathers and that writers show.

What belongs here: the values, and how an exact one is written. What does not: where they come from (`trace`),
how they look (`pipelines.cli.trace`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any

from audit.evidence import Place
from faults import OperatorFault
from faults.market_time import fixed_offset

LAYERS = {1: "primary", 2: "validated", 3: "estimated", 4: "adjusted", 5: "ccee"}

Row = dict[str, Any]


@dataclass(frozen=True)
class LayerValue:
    """One interval in one layer: exact kWh (None where missing), and what made the row."""

    layer: int
    name: str
    value_kwh: Fraction | None
    origin: str
    reason: str
    reason_text: str
    version: int
    input_version: int
    interval_s: int
    run_id: str
    recorded_at: datetime
    derivation_id: int
    code_version: str
    parameters: Row

    @property
    def decimal(self) -> str:
        return "" if self.value_kwh is None else as_decimal(self.value_kwh)


@dataclass(frozen=True)
class Delivery:
    """What CCEE was told, and what it answered."""

    submission: Row
    events: list[Row]
    attempts: list[Row]
    record: Row | None
    """The interval as it stands in the body."""
    body_sha256: bytes | None
    """Of the body made anew from layer 5; equal to the ledger's where nothing is wrong."""
    not_rendered: str = ""
    """Why no body was made anew: it was made with a contract that is not the one in force."""


@dataclass(frozen=True)
class Released:
    """A held reading that a decision let pass, as it was or under another time.

    Attributes:
        told_end: end of the interval as the meter's frames say it, market-local; earlier than the stored one
            by `shift_s`.
        reason, rule, evidence: why it was held.
    """

    hold_id: int
    reason: str
    rule: str
    evidence: Row
    told_end: datetime
    shift_s: int
    decided_at: datetime | None
    decided_by: str
    why: str


@dataclass(frozen=True)
class Reading:
    """Where the pulses came from: the stored day and the conversation that brought the slot."""

    meter: Row
    version: int
    pulses: int | None
    interval_s: int
    """Of the stored day; the series may have another."""
    session: Row | None = None
    place: Place | None = None
    """Where in the session's octets the count stands, as its protocol has places."""
    decoded_pulses: int | None = None
    """The same slot, decoded anew from all frames of the session."""
    hold: Released | None = None
    """What a person let pass, where the reading was held first."""


@dataclass(frozen=True)
class PointReading:
    """One point's part of the value: sign x share x its energy.

    Attributes:
        energy_kwh: of the point alone, before sign and share; None where it has no reading.
    """

    point: str
    sign: int
    share: Fraction
    reading: Reading | None
    energy_kwh: Fraction | None

    @property
    def part_kwh(self) -> Fraction | None:
        return None if self.energy_kwh is None else self.sign * self.share * self.energy_kwh


@dataclass(frozen=True)
class Check:
    """One comparison of the replay."""

    what: str
    stored: str
    computed: str
    not_made: str = ""
    """Why nothing could be computed, and what to do."""

    @property
    def is_identical(self) -> bool:
        return not self.not_made and self.stored == self.computed


@dataclass(frozen=True)
class Trace:
    """Everything about one interval. Shown by `smf trace`, and as JSON with the same names."""

    uc_code: str
    uc_name: str
    day: date
    slot: int
    interval_start: datetime
    interval_end: datetime
    version: int
    newer_version: int | None
    outcome: Row
    delivery: Delivery | None
    layers: list[LayerValue]
    estimate: Row | None
    expected_error: Row | None
    """What the latest score says of the estimate; None where the value is none."""
    replaced: list[Row]
    """Estimates of this interval that gave way to what the meter had."""
    verdicts: list[Row]
    decisions: list[Row]
    registry: Row
    reading: Reading | None
    """Of a UC with several points, the first one's."""
    points: list[PointReading] = field(default_factory=list)
    """Of a UC with several points: each one's part."""
    checks: list[Check] = field(default_factory=list)
    inputs: list[Trace] = field(default_factory=list)
    """For an estimated value: the traces of the values that went in, one level deep."""

    @property
    def is_identical(self) -> bool:
        return bool(self.checks) and all(check.is_identical for check in self.checks)


def as_decimal(value: Fraction) -> str:
    """Exact decimal text where there is one, else 12 digits and an ellipsis.

    >>> as_decimal(Fraction(12653625, 1000000)), as_decimal(Fraction(1, 3))
    ('12.653625', '0.333333333333…')
    """
    powers, rest = {2: 0, 5: 0}, value.denominator
    for prime in powers:
        while rest % prime == 0:
            rest //= prime
            powers[prime] += 1
    digits = max(powers.values()) if rest == 1 else 12
    whole, part = divmod(abs(value.numerator) * 10**digits // value.denominator, 10**digits)
    text = f"{'-' if value < 0 else ''}{whole}" + (f".{part:0{digits}d}" if digits else "")
    return text if rest == 1 else text + "…"


def parse_interval_end(text: str, zone: str) -> datetime:
    """`2026-11-20T10:05`, with or without offset; without one it is market time.

    Raises: OperatorFault for what is no date and time.
    """
    market = fixed_offset(zone)
    try:
        at = datetime.fromisoformat(text)
        at = at.replace(tzinfo=market) if at.tzinfo is None else at.astimezone(market)
        at - timedelta(days=1)  # the end 00:00 belongs to the day before, which the first day does not have
    except (ValueError, OverflowError) as error:
        raise OperatorFault(
            f"{text!r} is no date and time",
            where="TIMESTAMP",
            remedy="write the END of the interval, such as 2026-11-20T10:05",
        ) from error
    return at
