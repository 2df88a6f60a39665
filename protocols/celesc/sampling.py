"""Acceptance of a lot by attributes: a plan from a table, and the verdict on the meters inspected.

The contract's plan is not public (ABNT NBR 14521), so the one delivered is an example that says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources

from faults import OperatorFault
from faults.toml_tables import Problem, build, parse_toml
from protocols.celesc.inspection import MeterVerdict, Status

EXAMPLE_SOURCE = "sampling_example.toml"


@dataclass(frozen=True, slots=True)
class PlanRow:
    """For lots of this size: meters to inspect, acceptance and rejection numbers."""

    lot_from: int
    lot_to: int
    sample: int
    accept: int
    reject: int


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """A plan with its origin; `is_example`: not the contract's."""

    name: str
    name_pt: str
    source: str
    source_pt: str
    is_example: bool
    rows: tuple[PlanRow, ...]

    def row_for(self, lot_size: int) -> PlanRow:
        """The row of a lot.

        Raises:
            OperatorFault: the plan has none.
        """
        for row in self.rows:
            if row.lot_from <= lot_size <= row.lot_to:
                return row
        raise OperatorFault(
            f"no row for a lot of {lot_size}", where=self.name, remedy="add one to the sampling plan"
        )


class LotStatus(StrEnum):
    """ACCEPTED and REJECTED are final; INCOMPLETE: more meters, or recordings again."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True)
class LotVerdict:
    """The verdict on a lot.

    Attributes:
        sample: meters to inspect, never more than the lot has.
        inspected: different meters with a verdict; repeats: meters recorded more than once, whose worst
            verdict counts.
    """

    lot: str
    size: int
    plan: SamplingPlan
    sample: int
    accept: int
    reject: int
    inspected: int
    failed: int
    inconclusive: int
    repeats: tuple[str, ...]
    status: LotStatus


_WORST = {Status.PASS: 0, Status.INCONCLUSIVE: 1, Status.FAIL: 2}


def judge_lot(lot: str, size: int, plan: SamplingPlan, verdicts: Sequence[MeterVerdict]) -> LotVerdict:
    """Judge a lot by the meters inspected.

    A meter recorded again counts once, with its worst verdict, save that a conclusive one replaces an
    inconclusive one. One without a number counts by its source. A lot is not accepted while undecided meters
    could still have it rejected: whoever draws others in their place draws no sample.
    """
    by_meter: dict[str, list[Status]] = {}
    for verdict in verdicts:
        # The plate tells meters apart that send the same wrong number: each of them has failed.
        identity = verdict.plate or verdict.meter_number or verdict.source
        by_meter.setdefault(identity, []).append(verdict.status)
    counts = Counter(_of_one(found) for found in by_meter.values())
    row = plan.row_for(size)
    sample = min(row.sample, size)
    failed, inconclusive = counts[Status.FAIL], counts[Status.INCONCLUSIVE]
    if failed >= row.reject:
        status = LotStatus.REJECTED
    elif len(by_meter) - inconclusive < sample or failed + inconclusive >= row.reject:
        status = LotStatus.INCOMPLETE
    else:
        status = LotStatus.ACCEPTED
    return LotVerdict(
        lot=lot,
        size=size,
        plan=plan,
        sample=sample,
        accept=row.accept,
        reject=row.reject,
        inspected=len(by_meter),
        failed=failed,
        inconclusive=inconclusive,
        repeats=tuple(sorted(meter for meter, found in by_meter.items() if len(found) > 1)),
        status=status,
    )


def _of_one(found: Sequence[Status]) -> Status:
    decided = [status for status in found if status is not Status.INCONCLUSIVE]
    return max(decided or found, key=_WORST.__getitem__)


@cache
def example_plan() -> SamplingPlan:
    """The plan delivered, an example."""
    text = resources.files("protocols.celesc").joinpath(EXAMPLE_SOURCE).read_text(encoding="utf-8")
    return load_plan(text, EXAMPLE_SOURCE)


def load_plan(text: str, where: str) -> SamplingPlan:
    """Read a plan.

    Raises:
        OperatorFault: not TOML, an unknown or missing key, or rows that contradict each other.
    """
    document = parse_toml(text, where)
    return build(
        SamplingPlan, document, where, remedy=_REMEDY, check=lambda plan: list(_contradictions(plan))
    )


_REMEDY = "correct the plan; see docs/saida_serial.md"


def _contradictions(plan: SamplingPlan) -> Iterator[Problem]:
    if not plan.rows:
        yield Problem("rows", "is empty")
    before = 0
    for number, row in enumerate(plan.rows, 1):
        place = f"rows[{number}]"
        if not before < row.lot_from <= row.lot_to:
            yield Problem(place, f"lots of {row.lot_from} to {row.lot_to}: sizes rise from row to row")
        if row.reject != row.accept + 1:
            # With a single sample every count must decide.
            yield Problem(place, "reject must be accept + 1")
        if not 0 <= row.accept < row.sample:
            yield Problem(place, "accept is at least 0, and below the sample")
        before = row.lot_to
