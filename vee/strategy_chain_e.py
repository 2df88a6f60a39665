"""Strategy `chain-e`: interpolation, similar days, cycle means; our chain from before annex 7.2 was known.

For uses outside CCEE (supervision, early bill), for group B, and for comparison (vee_rules.md section 4).
E1 (late recovery) is the collector's work and arrives as measured; E2 (backup) and E0 (register bound) are
common to all strategies (`estimation`, `register_bound`).
"""

from __future__ import annotations

from datetime import date, timedelta
from fractions import Fraction

import numpy as np

from vee.filling import SUNDAY, EstimationParams, Fill, Filling, Refusal, Scope
from vee.frames import Mask, runs
from vee.quality import Cause, Origin, Reason

METHOD_CYCLE_MEAN = "E5"


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
            found.append(Refusal(rest, Cause.NO_HISTORY_NEEDS_APPROVAL, {"methods": [METHOD_CYCLE_MEAN]}))
        return found


def day_type(day: date, scope: Scope) -> int:
    """Each weekday and Saturday by itself; Sundays and national holidays together."""
    return SUNDAY if scope.is_holiday(day) else day.weekday()
