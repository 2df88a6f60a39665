"""What every estimation strategy works with: the collected values, history, approvals, and the way to fill.

Strategies read only what was collected (`good`), never what another row's estimate has just written, so the
order of rows and of strategies cannot change a result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from fractions import Fraction
from functools import cached_property
from typing import Protocol

import numpy as np
import orjson

from faults.market_time import MARKET_ZONE
from vee.calendars import HOUR_S, ONE_DAY, Calendars, Period, last_closed_month
from vee.frames import DEFAULT_INTERVAL_S, I64, INT64_MAX, Mask, SeriesMatrix, runs
from vee.quality import NOT_ESTIMABLE, Cause, Origin, Reason

SUNDAY = 6


@dataclass(frozen=True)
class EstimationParams:
    """Settings of layer 3. All are readings of a text that leaves gaps [C] unless said otherwise.

    Attributes:
        zone, interval_s: the market's day and interval.
        default_strategy: for a UC-day that names none.
        calendar: calendar of MS+9du; None takes the one in force for deadlines.
        closing_day_counts: history is closed on MS+9du itself, not only after it.
        holiday_calendar: "national holidays" of annex 7.2: the `nacional` set, without Carnival and Corpus
            Christi.
        usable_hour: share of an hour's intervals that makes it usable: 9 of 12, SCDE's own rule [A for SCDE].
        rule_a_min_hours: a run of this many missing hours takes rule A, shorter rule B [A].
        window_days: 12 weeks [A].
        history: "final" takes every value of the latest version, "measured_only" leaves out adjusted ones.
        keep_collected: good intervals of a missing hour stay (SCDE would discard them).
        no_history_musd_share: of the MUSD, per hour, flat (70% of capacity: SCDE's rule for a new point).
        backup_tolerance: backup and main may differ by this share over the days at hand (V12);
            None: no check.
        register_bound: "check" opens a case, "scale" applies E0, "none" ignores registers.
        chain_e_register_bound: the same for `chain-e`, whose step E0 is part of the chain.
        register_tolerance, register_steps: V06, the larger of 0.5% and 2 register steps.
        e3_max_slots, e4_days, e4_min_days, e4_weeks: limits of the chain's steps.
    """

    zone: str = MARKET_ZONE
    interval_s: int = DEFAULT_INTERVAL_S
    default_strategy: str = "ccee-pdc-1.8-r1"
    calendar: str | None = None
    closing_day_counts: bool = False
    holiday_calendar: str = "nacional"
    usable_hour: Fraction = Fraction(9, 12)
    rule_a_min_hours: int = 2
    window_days: int = 84
    history: str = "final"
    keep_collected: bool = True
    no_history_musd_share: Fraction = Fraction(7, 10)
    backup_tolerance: Fraction | None = Fraction(1, 100)
    register_bound: str = "check"
    chain_e_register_bound: str = "scale"
    register_tolerance: Fraction = Fraction(5, 1000)
    register_steps: int = 2
    e3_max_slots: int = 6
    e4_days: int = 4
    e4_min_days: int = 2
    e4_weeks: int = 8

    @property
    def slots_per_hour(self) -> int:
        return HOUR_S // self.interval_s


@dataclass(frozen=True)
class Fill:
    """Values for some slots of one row, all by one method for one reason."""

    values: Mapping[int, Fraction]
    method: str
    reason: Reason
    detail: Mapping[str, object]
    approved_by: str | None = None
    origin: Origin = Origin.ESTIMATED


@dataclass(frozen=True)
class Refusal:
    """Slots that no method may fill, and why."""

    slots: tuple[int, ...]
    cause: Cause
    detail: Mapping[str, object]


class Strategy(Protocol):
    """A named, dated way to fill gaps.

    `fill` looks at one row with missing slots; `needs_history` (of the row's collected slots) and
    `history_dates` say, before history is loaded, whether a row wants days and which.
    """

    name: str
    valid_from: date
    valid_to: date | None
    text_pt: str

    def needs_history(self, good: Mask, params: EstimationParams) -> bool: ...

    def history_dates(self, day: date, scope: Scope) -> list[date]: ...

    def fill(self, work: Filling, row: int) -> list[Fill | Refusal]: ...


@dataclass
class Scope:
    """Calendars and the date as of which months count as closed."""

    calendars: Calendars
    as_of: date
    params: EstimationParams

    @cached_property
    def window(self) -> tuple[date, date]:
        """First and last day of the 84 days that end with the last closed month."""
        month = last_closed_month(
            self.as_of,
            self.calendars,
            self.params.calendar,
            closing_day_counts=self.params.closing_day_counts,
        )
        last = Period.month(month).following - ONE_DAY
        return last - timedelta(days=self.params.window_days - 1), last

    def is_holiday(self, day: date) -> bool:
        return self.calendars.holiday(day, self.params.holiday_calendar) is not None

    def is_like(self, day: date, other: date) -> bool:
        """May `other` speak for `day` in rule A: same weekday, or Sunday for a holiday; never a holiday."""
        weekday = SUNDAY if self.is_holiday(day) else day.weekday()
        return other.weekday() == weekday and other != day and not self.is_holiday(other)


@dataclass
class Filling:
    """The rows at hand (days to estimate and their neighbours) and everything a strategy may look at.

    Attributes:
        matrix: values after phase-loss factor and backup; gap estimates are written here too.
        good: (n, slots) what was collected: the only values that a strategy may use.
        history, prior: earlier days; days before migration.
        approvals: (uc, day, method) -> who approved.
        musd_kw: (uc, day) -> contracted use, None or absent where the register has none.
        cycle_means: (uc, day) -> [(first slot, last slot, kWh per slot)], for step E5.
    """

    matrix: SeriesMatrix
    good: Mask
    scope: Scope
    history: SeriesMatrix | None = None
    prior: SeriesMatrix | None = None
    approvals: Mapping[tuple[int, date, str], str] = field(default_factory=dict)
    musd_kw: Mapping[tuple[int, date], Fraction | None] = field(default_factory=dict)
    cycle_means: Mapping[tuple[int, date], list[tuple[int, int, Fraction]]] = field(default_factory=dict)
    prior_days: Mapping[int, list[date]] = field(default_factory=dict)

    @property
    def params(self) -> EstimationParams:
        return self.scope.params

    def gap(self, row: int) -> Mask:
        """Missing slots that may be filled."""
        gap: Mask = ~self.good[row] & ~np.isin(self.matrix.reason[row], _NOT_ESTIMABLE)
        return gap

    def neighbour(self, row: int, step: int) -> int | None:
        """Row of the UC's previous (-1) or next (+1) day; None when it was not collected at all."""
        other = self.matrix.row_of(int(self.matrix.uc_id[row]), self.matrix.day_of(row) + step * ONE_DAY)
        return other if other is not None and bool(self.good[other].any()) else None

    def approved_by(self, row: int, method: str) -> str | None:
        return self.approvals.get((int(self.matrix.uc_id[row]), self.matrix.day_of(row), method))

    def mean_of_days(
        self,
        source: SeriesMatrix | None,
        row: int,
        dates: list[date],
        slots: list[int],
        *,
        measured_only: bool,
    ) -> tuple[dict[int, Fraction], dict[int, int], list[date]]:
        """Mean of the same slot over the dates that have it.

        Returns:
            slot -> mean, slot -> number of days in the mean, dates that gave at least one value.
        """
        if source is None or source.slots != self.matrix.slots:
            return {}, {}, []
        uc_id = int(self.matrix.uc_id[row])
        found = [(day, index) for day in dates if (index := source.row_of(uc_id, day)) is not None]
        if not found:
            return {}, {}, []
        at = np.array([index for _, index in found], dtype=np.int64)
        columns = np.array(slots, dtype=np.int64)
        known: Mask = source.known[at[:, None], columns]
        if measured_only:
            known &= source.origin[at[:, None], columns] == Origin.MEASURED
        totals, denominator = _sum_rows(source, at, columns, known)
        counts = known.sum(axis=0).tolist()
        means = {
            slot: Fraction(total, denominator * count)
            for slot, total, count in zip(slots, totals, counts, strict=True)
            if count
        }
        used = [day for (day, _), any_known in zip(found, np.any(known, axis=1), strict=True) if any_known]
        return means, dict(zip(slots, counts, strict=True)), used


_NOT_ESTIMABLE = np.array(sorted(NOT_ESTIMABLE), dtype=np.uint8)


def _sum_rows(source: SeriesMatrix, at: I64, columns: I64, known: Mask) -> tuple[list[int], int]:
    """Column sums over rows of different denominators: exact, in 64 bits where the bound allows."""
    denominators = source.denominator[at].tolist()
    common = math.lcm(*denominators)
    values = np.where(known, source.numerators[at[:, None], columns], 0)
    scales = [common // denominator for denominator in denominators]
    bound = sum(int(np.abs(line).max(initial=0)) * scale for line, scale in zip(values, scales, strict=True))
    kind: type = np.int64 if bound <= INT64_MAX and max(scales) <= INT64_MAX else object
    totals = (values.astype(kind) * np.array(scales, dtype=kind)[:, None]).sum(axis=0)
    return [int(total) for total in totals], common


def usable_hours(good: Mask, params: EstimationParams) -> Mask:
    """(n, hours) hours with enough good intervals (9 of 12)."""
    per_hour = params.slots_per_hour
    counts = good.reshape(good.shape[0], -1, per_hour).sum(axis=2)
    usable: Mask = counts * params.usable_hour.denominator >= params.usable_hour.numerator * per_hour
    return usable


def slot_runs(slots: list[int], length: int) -> list[tuple[int, int]]:
    """Runs of consecutive slots."""
    mask = np.zeros(length, np.bool_)
    mask[slots] = True
    return runs(mask)


def to_json(detail: Mapping[str, object]) -> str:
    """Detail as JSON text; fractions, dates and enums as text, so nothing is rounded."""
    return orjson.dumps(dict(detail), default=str, option=orjson.OPT_SORT_KEYS).decode()
