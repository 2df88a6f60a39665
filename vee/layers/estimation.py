"""Layer 3: what is missing, filled by a named and dated strategy; what stays missing, with its cause.

For every UC-day: rule C on proven phase loss, then the backup meter, then the strategy in force for the gap,
then the register bound (vee_rules.md section 4). Days without gaps pass untouched at the speed of a copy.
Adding a strategy is one object in `STRATEGIES`; a revision of the annex is a new name with its own dates.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction
from typing import Any

import numpy as np
import polars as pl

from faults import OperatorFault
from vee.calendars import ONE_DAY, Calendars
from vee.frames import (
    QUARANTINE_SCHEMA,
    VERDICT_SCHEMA,
    SeriesMatrix,
    as_fraction,
    empty_series,
    in_order,
    set_values,
    split_by_slots,
    to_frame,
    to_matrix,
)
from vee.layers.validation import PHASE_LOSS_FACTORS, PHASE_LOSS_SCHEMA
from vee.quality import NOT_ESTIMABLE, Cause, Origin, Reason, Result
from vee.strategies.ccee import CceePdc18R1
from vee.strategies.chain_e import ChainE
from vee.strategies.filling import (
    EstimationParams,
    Fill,
    Filling,
    Refusal,
    Scope,
    Strategy,
    slot_runs,
    to_json,
)
from vee.strategies.register_bound import RegisterPeriod, bound_row, periods_by_uc

STRATEGIES: dict[str, Strategy] = {strategy.name: strategy for strategy in (CceePdc18R1(), ChainE())}

ESTIMATE_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "first_slot": pl.Int16(),
    "last_slot": pl.Int16(),
    "strategy": pl.String(),
    "method": pl.String(),
    "detail": pl.String(),
    "approved_by": pl.String(),
}
UNRESOLVED_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "first_slot": pl.Int16(),
    "last_slot": pl.Int16(),
    "cause": pl.String(),
    "detail": pl.String(),
}
NEEDS_SCHEMA: dict[str, pl.DataType] = {"uc_id": pl.Int64(), "day": pl.Date(), "needed_day": pl.Date()}


def _none() -> pl.DataFrame:
    return pl.DataFrame()


@dataclass(frozen=True)
class EstimationInput:
    """Everything estimation looks at. An empty frame means "none known".

    Attributes:
        validated: series frame of layer 2: the days to estimate and, where read, the days around them.
        backup: series frame of the backup meters for the same days (`primary.PrimaryResult.backup`).
        history: series frame of earlier days, before losses (layer 3, last version), for the UC-days that
            `history_needs` names.
        prior: series frame of days before migration, any of the 12 months.
        registry: `uc_id, day, musd_kw` (more columns are ignored).
        strategies: `uc_id, day, strategy`; a UC-day not listed takes the default.
        approvals: `uc_id, day, method, approved_by`.
        phase_loss: `validation.PHASE_LOSS_SCHEMA`; only proven ones act.
        registers: `uc_id, first_day, first_slot, last_day, last_slot, energy_kwh, step_kwh` (exact: Decimal,
            int or text): what the register says of these slots, and the value of its last digit.
        backup_pairs: `uc_id, day, difference` (exact, as text): |main - backup| / main of the days that V12
            compares; a UC-day not listed is compared in the days at hand.
        cycle_means: `uc_id, day, first_slot, last_slot, slot_kwh` (exact), resolved by tariff post, for E5.
    """

    validated: pl.DataFrame
    backup: pl.DataFrame = field(default_factory=empty_series)
    history: pl.DataFrame = field(default_factory=empty_series)
    prior: pl.DataFrame = field(default_factory=empty_series)
    registry: pl.DataFrame = field(default_factory=_none)
    strategies: pl.DataFrame = field(default_factory=_none)
    approvals: pl.DataFrame = field(default_factory=_none)
    phase_loss: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=PHASE_LOSS_SCHEMA))
    registers: pl.DataFrame = field(default_factory=_none)
    cycle_means: pl.DataFrame = field(default_factory=_none)
    backup_pairs: pl.DataFrame = field(default_factory=_none)


@dataclass(frozen=True)
class EstimationResult:
    """Layer 3 and its explanation.

    Attributes:
        estimated: series frame of the days asked for.
        estimates: ESTIMATE_SCHEMA, one row per run of slots of one method; detail is JSON.
        unresolved: UNRESOLVED_SCHEMA: gaps that stay, each with its cause.
        verdicts: VERDICT_SCHEMA: V06 (registers) and V12 (backup) as far as estimation needs them.
        quarantined: QUARANTINE_SCHEMA: UC-days whose exact values do not fit 64 bits; left as validated.
    """

    estimated: pl.DataFrame
    estimates: pl.DataFrame
    unresolved: pl.DataFrame
    verdicts: pl.DataFrame
    quarantined: pl.DataFrame


def strategy_for(name: str, day: date) -> Strategy:
    """The strategy of that name, if it is in force on that day.

    Raises:
        OperatorFault: unknown name, or the day is outside its dates.
    """
    strategy = STRATEGIES.get(name)
    remedy = f"use one of {', '.join(sorted(STRATEGIES))}"
    if strategy is None:
        raise OperatorFault(f"unknown estimation strategy {name!r}", where="uc_estimation", remedy=remedy)
    if day < strategy.valid_from or (strategy.valid_to is not None and day >= strategy.valid_to):
        raise OperatorFault(
            f"strategy {name!r} is not in force on {day} (from {strategy.valid_from})",
            where="uc_estimation",
            remedy=remedy,
        )
    return strategy


def strategy_rows() -> list[dict[str, str]]:
    """The strategies for the manual: name, dates, Portuguese text."""
    return [
        {
            "name": strategy.name,
            "valid_from": strategy.valid_from.isoformat(),
            "valid_to": strategy.valid_to.isoformat() if strategy.valid_to else "",
            "text_pt": strategy.text_pt,
        }
        for strategy in STRATEGIES.values()
    ]


def history_needs(
    validated: pl.DataFrame,
    days: Collection[date],
    calendars: Calendars,
    as_of: date,
    params: EstimationParams | None = None,
    strategies: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Which earlier days each UC-day with gaps may need: `uc_id, day, needed_day`.

    A superset: a backup value or a neighbouring hour may make some of it unnecessary.
    """
    params = params or EstimationParams()
    scope = Scope(calendars, as_of, params)
    names = _strategy_names(_none() if strategies is None else strategies)
    dates: dict[tuple[str, date], list[date]] = {}
    needs: list[tuple[int, date, date]] = []
    for part in split_by_slots(validated.filter(pl.col("day").is_in(list(days)))):
        matrix = to_matrix(part)
        for row in _rows_with_gaps(matrix):
            uc_id, day = int(matrix.uc_id[row]), matrix.day_of(row)
            name = names.get((uc_id, day), params.default_strategy)
            strategy = _in_force(name, day)
            if strategy is None or not strategy.needs_history(matrix.known[row], params):
                continue
            if (name, day) not in dates:
                dates[name, day] = strategy.history_dates(day, scope)
            needs += [(uc_id, day, needed) for needed in dates[name, day]]
    return pl.DataFrame(needs, schema=NEEDS_SCHEMA, orient="row")


def estimate(
    inputs: EstimationInput,
    days: Collection[date],
    calendars: Calendars,
    as_of: date,
    params: EstimationParams | None = None,
) -> EstimationResult:
    """Fill the gaps of the given days.

    Args:
        days: the days to estimate; other days in `inputs.validated` serve as neighbours only.
        as_of: date that decides which months are closed history; one for a whole month at closing
            (vee_rules.md section 4, 4.6).
    """
    params = params or EstimationParams()
    scope = Scope(calendars, as_of, params)
    order = inputs.validated.filter(pl.col("day").is_in(list(days))).select("uc_id", "day")
    estimator = _Estimator(inputs, set(days), scope)
    series: list[pl.DataFrame] = []
    for part in split_by_slots(inputs.validated):
        series.append(estimator.run(part))
    return EstimationResult(
        estimated=in_order(order, series),
        estimates=_table(estimator.estimates, ESTIMATE_SCHEMA),
        unresolved=_table(estimator.unresolved, UNRESOLVED_SCHEMA),
        verdicts=_table(estimator.verdicts, VERDICT_SCHEMA),
        quarantined=pl.DataFrame(estimator.bad, schema=QUARANTINE_SCHEMA, orient="row"),
    )


def _table(rows: list[tuple[object, ...]], schema: dict[str, pl.DataType]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=schema, orient="row").sort("uc_id", "day", "first_slot")


def _strategy_names(frame: pl.DataFrame) -> dict[tuple[int, date], str]:
    if frame.is_empty():
        return {}
    return {(uc, day): name for uc, day, name in frame.select("uc_id", "day", "strategy").iter_rows()}


def _in_force(name: str, day: date) -> Strategy | None:
    try:
        return strategy_for(name, day)
    except OperatorFault:
        return None


def _rows_with_gaps(matrix: SeriesMatrix) -> list[int]:
    # Most rows are complete: only the others are looked at slot by slot.
    candidates = np.flatnonzero(~matrix.known.all(axis=1))
    closed = np.array(sorted(NOT_ESTIMABLE), dtype=np.uint8)
    gaps = ~matrix.known[candidates] & ~np.isin(matrix.reason[candidates], closed)
    return [int(row) for row in candidates[gaps.any(axis=1)]]


class _Estimator:
    """One call of `estimate`: inputs indexed once, results collected in lists of rows."""

    def __init__(self, inputs: EstimationInput, days: set[date], scope: Scope) -> None:
        self.inputs, self.days, self.scope, self.params = inputs, days, scope, scope.params
        self.names = _strategy_names(inputs.strategies)
        self.approvals = {
            (uc, day, method): by
            for uc, day, method, by in _rows(inputs.approvals, "uc_id", "day", "method", "approved_by")
        }
        self.musd = {
            (uc, day): None if musd is None else as_fraction(musd)
            for uc, day, musd in _rows(inputs.registry, "uc_id", "day", "musd_kw")
        }
        self.cycle_means: dict[tuple[int, date], list[tuple[int, int, Fraction]]] = {}
        for uc, day, first, last, mean in _rows(
            inputs.cycle_means, "uc_id", "day", "first_slot", "last_slot", "slot_kwh"
        ):
            self.cycle_means.setdefault((uc, day), []).append((first, last, as_fraction(mean)))
        self.prior_days: dict[int, list[date]] = {}
        for uc, day in inputs.prior.select("uc_id", "day").sort("uc_id", "day").iter_rows():
            self.prior_days.setdefault(uc, []).append(day)
        self.registers = periods_by_uc(inputs.registers)
        self.pairs = {
            (uc, day): as_fraction(difference)
            for uc, day, difference in _rows(inputs.backup_pairs, "uc_id", "day", "difference")
        }
        self.estimates: list[tuple[object, ...]] = []
        self.unresolved: list[tuple[object, ...]] = []
        self.verdicts: list[tuple[object, ...]] = []
        self.bad: list[tuple[object, ...]] = []

    def run(self, part: pl.DataFrame) -> pl.DataFrame:
        """Estimate rows that share one number of slots; returns the days asked for."""
        matrix = to_matrix(part)
        self._phase_loss(matrix)
        self._backup(matrix, _same_length(self.inputs.backup, matrix.slots))
        work = Filling(
            matrix=matrix,
            good=matrix.known.copy(),
            scope=self.scope,
            history=_same_length(self.inputs.history, matrix.slots),
            prior=_same_length(self.inputs.prior, matrix.slots),
            approvals=self.approvals,
            musd_kw=self.musd,
            cycle_means=self.cycle_means,
            prior_days=self.prior_days,
        )
        wanted = np.isin(matrix.day, np.array(sorted(self.days), dtype="datetime64[D]"))
        for row in _rows_with_gaps(matrix):
            if wanted[row]:
                self._fill_row(work, row)
        return to_frame(matrix if wanted.all() else matrix.take(wanted))

    def _phase_loss(self, matrix: SeriesMatrix) -> None:
        """Rule C: collected value times a factor, only while the phase is dead and that is proven."""
        for loss in self.inputs.phase_loss.filter("is_proven").iter_rows(named=True):
            row = matrix.row_of(loss["uc_id"], loss["day"])
            factor = PHASE_LOSS_FACTORS.get((loss["element_count"], loss["phases_lost"]))
            if row is None or factor is None:
                continue
            values = {
                slot: value * factor
                for slot in range(loss["first_slot"], min(loss["last_slot"] + 1, matrix.slots))
                if matrix.reason[row, slot] != Reason.PHASE_LOSS_C
                and (value := matrix.value(row, slot)) is not None
            }
            detail = {
                "factor": factor,
                "elements": loss["element_count"],
                "phases_lost": loss["phases_lost"],
                "proof": loss["proof"],
            }
            self._apply(
                matrix, row, [Fill(values, "C", Reason.PHASE_LOSS_C, detail)], self._name(matrix, row)
            )

    def _backup(self, matrix: SeriesMatrix, backup: SeriesMatrix | None) -> None:
        """E2: the backup meter's value in the same interval, where it agrees with the main meter."""
        if backup is None:
            return
        agrees: dict[tuple[int, date], Fraction | None] = dict(self.pairs)
        for row in _rows_with_gaps(matrix):
            uc_id, day = int(matrix.uc_id[row]), matrix.day_of(row)
            at = backup.row_of(uc_id, day)
            if at is None:
                continue
            gap = ~matrix.known[row] & backup.known[at] & (backup.numerators[at] >= 0)
            gap &= ~np.isin(matrix.reason[row], np.array(sorted(NOT_ESTIMABLE), dtype=np.uint8))
            slots = np.flatnonzero(gap).tolist()
            if not slots:
                continue
            if (uc_id, day) not in agrees:
                agrees[uc_id, day] = _difference(
                    matrix, backup, uc_id, sorted({*self.days, day - ONE_DAY, day + ONE_DAY})
                )
            difference, tolerance = agrees[uc_id, day], self.params.backup_tolerance
            if tolerance is not None and difference is not None and difference > tolerance:
                self._verdict(matrix, row, slots, "V12", {"difference": difference, "tolerance": tolerance})
                continue
            values = {slot: value for slot in slots if (value := backup.value(at, slot)) is not None}
            fill = Fill(values, "E2", Reason.BACKUP_METER, {"difference": difference}, origin=Origin.BACKUP)
            self._apply(matrix, row, [fill], self._name(matrix, row))

    def _name(self, matrix: SeriesMatrix, row: int) -> str:
        return self.names.get((int(matrix.uc_id[row]), matrix.day_of(row)), self.params.default_strategy)

    def _fill_row(self, work: Filling, row: int) -> None:
        matrix = work.matrix
        day, name = matrix.day_of(row), self._name(matrix, row)
        strategy = _in_force(name, day)
        if strategy is None:
            slots = tuple(np.flatnonzero(work.gap(row)).tolist())
            self._refuse(matrix, row, Refusal(slots, Cause.NO_STRATEGY, {"strategy": name}))
            return
        found = strategy.fill(work, row)
        fills = [item for item in found if isinstance(item, Fill)]
        for item in found:
            if isinstance(item, Refusal):
                self._refuse(matrix, row, item)
        fills = self._bound(work, row, strategy, fills)
        self._apply(matrix, row, fills, name)

    def _bound(self, work: Filling, row: int, strategy: Strategy, fills: list[Fill]) -> list[Fill]:
        """V06 and E0: what the registers say of the estimated total."""
        params = self.params
        mode = params.chain_e_register_bound if isinstance(strategy, ChainE) else params.register_bound
        periods: list[RegisterPeriod] = self.registers.get(int(work.matrix.uc_id[row]), [])
        if mode == "none" or not fills:
            return fills
        for period in periods:
            outcome = bound_row(work, row, period, fills, scale=mode == "scale")
            if outcome is None:
                continue
            fills = outcome.fills
            if outcome.is_case:
                self._verdict(work.matrix, row, list(outcome.slots), "V06", outcome.detail)
            if outcome.is_negative:
                refusal = Refusal(outcome.slots, Cause.REGISTER_MISMATCH, outcome.detail)
                self._refuse(work.matrix, row, refusal)
        return fills

    def _apply(self, matrix: SeriesMatrix, row: int, fills: Iterable[Fill], strategy: str) -> None:
        fills = [fill for fill in fills if fill.values]
        values = {slot: value for fill in fills for slot, value in fill.values.items()}
        if not values:
            return
        uc_id, day = int(matrix.uc_id[row]), matrix.day_of(row)
        if not set_values(matrix, row, values):
            reason = "estimated values have no common 64-bit denominator"
            if day in self.days:
                self.bad.append((uc_id, day, "arithmetic", reason, "{}"))
            return
        for fill in fills:
            slots = sorted(fill.values)
            matrix.origin[row, slots] = fill.origin
            matrix.reason[row, slots] = fill.reason
            if day not in self.days:
                continue
            text = to_json(fill.detail)
            self.estimates += [
                (uc_id, day, first, last, strategy, fill.method, text, fill.approved_by)
                for first, last in slot_runs(slots, matrix.slots)
            ]

    def _refuse(self, matrix: SeriesMatrix, row: int, refusal: Refusal) -> None:
        uc_id, day, text = int(matrix.uc_id[row]), matrix.day_of(row), to_json(refusal.detail)
        self.unresolved += [
            (uc_id, day, first, last, refusal.cause.value, text)
            for first, last in slot_runs(list(refusal.slots), matrix.slots)
        ]

    def _verdict(
        self, matrix: SeriesMatrix, row: int, slots: list[int], rule: str, detail: dict[str, object]
    ) -> None:
        uc_id, day, text = int(matrix.uc_id[row]), matrix.day_of(row), to_json(detail)
        if day in self.days:
            self.verdicts += [
                (uc_id, day, rule, first, last, Result.SUSPECT.value, text)
                for first, last in slot_runs(slots, matrix.slots)
            ]


def _rows(frame: pl.DataFrame, *columns: str) -> Iterable[tuple[Any, ...]]:
    return frame.select(columns).iter_rows() if not frame.is_empty() else ()


def _same_length(frame: pl.DataFrame, slots: int) -> SeriesMatrix | None:
    """Rows with that number of slots: a day of summer time cannot speak for a day without."""
    rows = frame.filter(pl.col("numerators").list.len() == slots)
    return to_matrix(rows) if rows.height else None


def _difference(matrix: SeriesMatrix, backup: SeriesMatrix, uc_id: int, days: list[date]) -> Fraction | None:
    """|main - backup| / main over the slots that both have; None when they share none."""
    main_total = backup_total = Fraction(0)
    shared = 0
    for day in days:
        row, at = matrix.row_of(uc_id, day), backup.row_of(uc_id, day)
        if row is None or at is None:
            continue
        both = (matrix.origin[row] == Origin.MEASURED) & backup.known[at]
        shared += int(both.sum())
        main_total += Fraction(
            int(matrix.numerators[row, both].astype(object).sum()), int(matrix.denominator[row])
        )
        backup_total += Fraction(
            int(backup.numerators[at, both].astype(object).sum()), int(backup.denominator[at])
        )
    if not shared or not main_total:
        return None
    return abs(main_total - backup_total) / main_total
