"""Acceptance of a lot by attributes: a plan from a table, and the verdict on the meters inspected.

The contract's plan is not public (ABNT NBR 14521), so the one delivered is an example that says so.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any

from faults import OperatorFault
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
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _bad(where, f"not TOML: {error}") from error
    _check_keys(where, "the plan", values, {field.name: field.type for field in fields(SamplingPlan)})
    if not values["rows"]:
        raise _bad(where, "rows is empty")
    rows = []
    for number, row in enumerate(values.pop("rows"), 1):
        _check_keys(where, f"row {number}", row, {field.name: field.type for field in fields(PlanRow)})
        rows.append(PlanRow(**row))
    before = 0
    for place, row in enumerate(rows, 1):
        name = f"row {place}, lots of {row.lot_from} to {row.lot_to}"
        if not before < row.lot_from <= row.lot_to:
            raise _bad(where, f"{name}: sizes rise from row to row")
        if row.reject != row.accept + 1:
            # With a single sample every count must decide.
            raise _bad(where, f"{name}: reject must be accept + 1")
        if not 0 <= row.accept < row.sample:
            raise _bad(where, f"{name}: accept is at least 0, and below the sample")
        before = row.lot_to
    return SamplingPlan(rows=tuple(rows), **values)


_KINDS: dict[str, type] = {"int": int, "str": str, "bool": bool, "tuple[PlanRow, ...]": list}


def _check_keys(where: str, what: str, table: Any, kinds: Mapping[str, Any]) -> None:
    if not isinstance(table, dict):
        raise _bad(where, f"{what} is no table of {', '.join(kinds)}")
    for name in sorted(table.keys() ^ kinds.keys()):
        raise _bad(where, f"{what}: {name} is {'unknown' if name in table else 'missing'}")
    for name, kind in kinds.items():
        if type(table[name]) is not _KINDS[kind]:
            raise _bad(where, f"{what}: {name} = {table[name]!r} is not {_KINDS[kind].__name__}")


def _bad(where: str, message: str) -> OperatorFault:
    return OperatorFault(message, where=where, remedy="correct the plan; see docs/saida_serial.md")
