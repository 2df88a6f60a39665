"""Strategy `chain-e`: interpolation, similar days, cycle means; our chain from before annex 7.2 was known.

For uses outside CCEE (supervision, early bill), for group B, and for comparison (vee_rules.md section 4).
E1 (late recovery) is the collector's work and arrives as measured; E2 (backup) and E0 (register bound) are
common to all strategies (`estimation`, `register_bound`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction

import numpy as np
import polars as pl

from vee.frames import Mask, SeriesMatrix, runs, split_by_slots, to_matrix
from vee.quality import Cause, Origin, Reason
from vee.strategies.filling import SUNDAY, EstimationParams, Fill, Filling, Refusal, Scope

METHOD_CYCLE_MEAN = "E5"
DAY_S = 86_400
_SATURDAY = 5
CYCLES = 12
"""Cycles that E5 looks back on: civil months, as the cycles of group A are (REN 1.000, arts. 261, 282)."""

POST_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "peak_from_s": pl.Int64(),
    "peak_to_s": pl.Int64(),
}
"""When the tariff post of peak begins and ends on workdays, seconds after midnight, as a meter said last."""
CYCLE_MEAN_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "first_slot": pl.Int64(),
    "last_slot": pl.Int64(),
    "slot_kwh": pl.String(),
}
"""What E5 spreads: exact kWh of a slot, of each stretch of one post."""


@dataclass(frozen=True)
class Cycles:
    """Earlier days of layer 3, and posts (POST_SCHEMA) of the days to estimate."""

    series: pl.DataFrame
    posts: pl.DataFrame


def cycles_of(day: date) -> tuple[date, date]:
    """First and last day of the cycles before the one of a day."""
    first = day.replace(day=1)
    return first.replace(year=first.year - CYCLES // 12), first - timedelta(days=1)


def cycle_means(wanted: pl.DataFrame, cycles: Cycles, scope: Scope, interval_s: int) -> pl.DataFrame:
    """Mean of a slot in each tariff post over the cycles before: CYCLE_MEAN_SCHEMA.

    Where no meter told of posts there is one, the day. UCs without a day in those cycles have no row.

    Args:
        wanted: `uc_id, day`.
    """
    rows: list[tuple[object, ...]] = []
    posts = {
        (uc_id, day): (first_s // interval_s, last_s // interval_s)
        for uc_id, day, first_s, last_s in cycles.posts.select(list(POST_SCHEMA)).iter_rows()
    }
    parts = [to_matrix(part) for part in split_by_slots(cycles.series)]
    for uc_id, day in wanted.select("uc_id", "day").iter_rows():
        means = _post_means(uc_id, day, parts, posts.get((uc_id, day)), scope)
        peak = posts.get((uc_id, day)) if _has_peak(day, scope) else None
        slots = DAY_S // interval_s
        stretches = [(0, slots - 1, False)]
        if peak is not None and peak[0] < peak[1]:
            stretches = [(0, peak[0] - 1, False), (peak[0], peak[1] - 1, True), (peak[1], slots - 1, False)]
        rows += [
            (uc_id, day, first, last, str(means[is_peak]))
            for first, last, is_peak in stretches
            if first <= last and is_peak in means
        ]
    return pl.DataFrame(rows, schema=CYCLE_MEAN_SCHEMA, orient="row")


def _has_peak(day: date, scope: Scope) -> bool:
    return day.weekday() < _SATURDAY and not scope.is_holiday(day)


def _post_means(
    uc_id: int, day: date, parts: list[SeriesMatrix], peak: tuple[int, int] | None, scope: Scope
) -> dict[bool, Fraction]:
    """Mean of a slot by whether it is in the post of peak."""
    first, last = cycles_of(day)
    energy: dict[bool, Fraction] = {}
    count: dict[bool, int] = {}
    for matrix in parts:
        for row in np.flatnonzero(matrix.uc_id == uc_id).tolist():
            of_row = matrix.day_of(row)
            if not first <= of_row <= last:
                continue
            in_peak = np.zeros(matrix.slots, np.bool_)
            if peak is not None and _has_peak(of_row, scope):
                in_peak[peak[0] : peak[1]] = True
            for is_peak in (False, True):
                chosen = matrix.known[row] & (in_peak == is_peak)
                total = int(matrix.numerators[row, chosen].astype(object).sum())
                energy[is_peak] = energy.get(is_peak, Fraction(0)) + Fraction(
                    total, int(matrix.denominator[row])
                )
                count[is_peak] = count.get(is_peak, 0) + int(chosen.sum())
    return {is_peak: energy[is_peak] / count[is_peak] for is_peak in energy if count[is_peak]}


class ChainE:
    """E3 for short gaps, else E4, else E5 with approval."""

    name = "chain-e"
    valid_from = date(2015, 1, 1)
    valid_to: date | None = None
    text_pt = "Cadeia E: interpolação curta (E3), dias semelhantes (E4), média de ciclos com aprovação (E5)"

    def needs_history(self, good: Mask, params: EstimationParams) -> bool:
        """Any gap: whether E3 serves depends on both neighbours."""
        return not good.all()

    def history_dates(self, day: date, scope: Scope) -> list[date]:
        """Days of the same type in the last weeks, most recent first."""
        back = (day - timedelta(days=i) for i in range(1, 7 * scope.params.e4_weeks + 1))
        wanted = day_type(day, scope)
        return [other for other in back if day_type(other, scope) == wanted]

    def fill(self, work: Filling, row: int) -> list[Fill | Refusal]:
        found: list[Fill | Refusal] = []
        rest: list[int] = []
        gap = work.gap(row)
        for first, last in runs(~work.good[row]):
            slots = [slot for slot in range(first, last + 1) if gap[slot]]
            short = self._interpolate(work, row, first, last, slots)
            if short is not None:
                found.append(short)
            else:
                rest += slots
        return found + (self._similar_days(work, row, rest) if rest else [])

    def _interpolate(self, work: Filling, row: int, first: int, last: int, slots: list[int]) -> Fill | None:
        before, after = self._edge(work, row, first, -1), self._edge(work, row, last, +1)
        if before is None or after is None or not slots:
            return None
        n = last - first + 1 + before[0] + after[0]
        if n > work.params.e3_max_slots:
            return None
        a, b = before[1], after[1]
        values = {slot: a + (b - a) * Fraction(slot - first + 1 + before[0], n + 1) for slot in slots}
        detail = {"before_kwh": a, "after_kwh": b, "gap_slots": n}
        return Fill(values, "E3", Reason.E3_INTERPOLATION, detail)

    def _edge(self, work: Filling, row: int, slot: int, step: int) -> tuple[int, Fraction] | None:
        """Missing slots beyond midnight, and the first collected value; None at the edge of known data."""
        slot += step
        extra = 0
        if not 0 <= slot < work.matrix.slots:
            other = work.neighbour(row, step)
            if other is None:
                return None
            row, good = other, work.good[other]
            extra = int(np.argmax(good if step > 0 else good[::-1]))
            slot = extra if step > 0 else work.matrix.slots - 1 - extra
        value = work.matrix.value(row, slot)
        return None if value is None else (extra, value)

    def _similar_days(self, work: Filling, row: int, slots: list[int]) -> list[Fill | Refusal]:
        params = work.params
        values: dict[int, Fraction] = {}
        used: set[date] = set()
        # The most recent days that have the slot may differ from slot to slot.
        for chosen, group in self._days_by_slots(work, row, slots):
            if len(chosen) < params.e4_min_days:
                continue
            means, _, _ = work.mean_of_days(work.history, row, chosen, group, measured_only=True)
            values.update(means)
            used.update(chosen)
        found: list[Fill | Refusal] = []
        if values:
            detail = {"dates": sorted(used), "days": params.e4_days}
            found.append(Fill(dict(sorted(values.items())), "E4", Reason.E4_SIMILAR_DAYS, detail))
        rest = [slot for slot in slots if slot not in values]
        return found + (self._cycle_mean(work, row, rest) if rest else [])

    def _days_by_slots(self, work: Filling, row: int, slots: list[int]) -> list[tuple[list[date], list[int]]]:
        """The most recent similar days that measured a slot, and the slots that have the same ones."""
        history, uc_id = work.history, int(work.matrix.uc_id[row])
        if history is None or history.slots != work.matrix.slots:
            return []
        dates = self.history_dates(work.matrix.day_of(row), work.scope)
        known = [(day, at) for day in dates if (at := history.row_of(uc_id, day)) is not None]
        if not known:
            return []
        rows = np.array([at for _, at in known])
        measured = history.origin[rows[:, None], np.array(slots)] == Origin.MEASURED
        chosen = measured & (measured.cumsum(axis=0) <= work.params.e4_days)
        patterns, of_slot = np.unique(chosen, axis=1, return_inverse=True)
        return [
            (
                [known[n][0] for n in np.flatnonzero(patterns[:, number])],
                [slots[n] for n in np.flatnonzero(of_slot == number)],
            )
            for number in range(patterns.shape[1])
        ]

    def _cycle_mean(self, work: Filling, row: int, slots: list[int]) -> list[Fill | Refusal]:
        approver = work.approved_by(row, METHOD_CYCLE_MEAN)
        posts = work.cycle_means.get((int(work.matrix.uc_id[row]), work.matrix.day_of(row)), [])
        values = {slot: mean for slot in slots for first, last, mean in posts if first <= slot <= last}
        rest = tuple(slot for slot in slots if not approver or slot not in values)
        found: list[Fill | Refusal] = []
        if approver and values:
            found.append(
                Fill(values, METHOD_CYCLE_MEAN, Reason.E5_CYCLE_MEAN, {"posts": len(posts)}, approver)
            )
        if rest:
            detail: dict[str, object] = {"methods": [METHOD_CYCLE_MEAN]}
            if approver:
                detail["skipped"] = f"{METHOD_CYCLE_MEAN}: no day known in the {CYCLES} cycles before"
            found.append(Refusal(rest, Cause.NO_HISTORY_NEEDS_APPROVAL, detail))
        return found


def day_type(day: date, scope: Scope) -> int:
    """Each weekday and Saturday by itself; Sundays and national holidays together."""
    return SUNDAY if scope.is_holiday(day) else day.weekday()
