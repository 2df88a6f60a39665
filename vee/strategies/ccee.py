"""Strategy `ccee-pdc-1.8-r1`: annex 7.2 of CCEE's procedure PdC 1.8, as vee_rules.md section 4 reads it.

The annex has three rules (A, B, C) for hours and says nothing about 5 minutes, less than an hour, or units
without history; what is added here is marked [C] there and is a parameter here. Rule C and the backup meter
come before and are common to all strategies (`estimation`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction

import numpy as np

from vee.frames import Mask, runs
from vee.quality import Cause, Reason
from vee.strategies.filling import EstimationParams, Fill, Filling, Refusal, Scope, usable_hours

METHOD_PRIOR_MONTHS = "no_history_prior_months"
METHOD_MUSD = "no_history_musd"


class CceePdc18R1:
    """Clock hours, rules A and B per interval, and the mean inside an hour that is usable."""

    name = "ccee-pdc-1.8-r1"
    valid_from = date(2025, 7, 1)
    valid_to: date | None = None
    text_pt = "PdC 1.8 revisão 1.0, anexo 7.2: regras A, B e C, dentro da hora e sem histórico"

    def needs_history(self, good: Mask, params: EstimationParams) -> bool:
        """A missing hour. A single one may still end in rule B, but its neighbours may fail."""
        return not usable_hours(good[None, :], params).all()

    def history_dates(self, day: date, scope: Scope) -> list[date]:
        """The dates chosen for rule A: like days in the window of closed months."""
        first, last = scope.window
        days = (first + timedelta(days=i) for i in range((last - first).days + 1))
        return [other for other in days if scope.is_like(day, other)]

    def fill(self, work: Filling, row: int) -> list[Fill | Refusal]:
        usable = usable_hours(work.good[row : row + 1], work.params)[0]
        found: list[Fill | Refusal] = []
        whole = work.good[row].reshape(len(usable), -1).all(axis=1)
        for hour in np.flatnonzero(usable & ~whole).tolist():
            found += self._inside_hour(work, row, hour)
        for first, last in runs(~usable):
            found += self._run(work, row, first, last, len(usable))
        return found

    def _inside_hour(self, work: Filling, row: int, hour: int) -> list[Fill | Refusal]:
        slots = self._slots_to_fill(work, row, hour, hour, replace=False)
        if not slots:
            return []
        mean, collected = _hour_mean(work, row, hour)
        detail = {"hour": hour + 1, "collected_slots": collected, "sum_kwh": mean * len(collected)}
        return [Fill(dict.fromkeys(slots, mean), "inside_hour", Reason.INSIDE_HOUR, detail)]

    def _slots_to_fill(
        self, work: Filling, row: int, first_hour: int, last_hour: int, replace: bool
    ) -> list[int]:
        """Slots of these hours that get a value; with `replace`, collected ones of a missing hour too."""
        per_hour = work.params.slots_per_hour
        gap = work.gap(row)
        if replace and not work.params.keep_collected:
            gap = gap | work.good[row]
        begin = first_hour * per_hour
        return (begin + np.flatnonzero(gap[begin : (last_hour + 1) * per_hour])).tolist()

    def _run(self, work: Filling, row: int, first: int, last: int, hours: int) -> list[Fill | Refusal]:
        """A run of missing hours, counted across midnight."""
        slots = self._slots_to_fill(work, row, first, last, replace=True)
        if not slots:
            return []
        before, after = self._beyond(work, row, first, -1), self._beyond(work, row, last, +1)
        length = last - first + 1 + before.missing + after.missing
        if length >= work.params.rule_a_min_hours:
            return self._rule_a(work, row, slots, awaiting=False)
        if before.hour is None or after.hour is None:
            return self._rule_a(work, row, slots, awaiting=True)
        return [self._rule_b(work, row, slots, before.hour, after.hour)]

    def _beyond(self, work: Filling, row: int, hour: int, step: int) -> _Side:
        """What lies beyond the end of a run: more missing hours, then a usable hour, or nothing collected."""
        at: int | None = row
        hours = work.matrix.slots // work.params.slots_per_hour
        missing, hour = 0, hour + step
        if not 0 <= hour < hours:
            at, hour = work.neighbour(row, step), 0 if step > 0 else hours - 1
        if at is None:
            return _Side(0, None)
        usable = usable_hours(work.good[at : at + 1], work.params)[0]
        while 0 <= hour < hours and not usable[hour]:
            if _is_future(work, at, hour):
                return _Side(missing, None)
            missing, hour = missing + 1, hour + step
        return _Side(missing, (at, hour) if 0 <= hour < hours else None)

    def _rule_b(
        self, work: Filling, row: int, slots: list[int], before: tuple[int, int], after: tuple[int, int]
    ) -> Fill:
        per_hour = work.params.slots_per_hour
        earlier, later = _hour_values(work, *before), _hour_values(work, *after)
        values = {slot: (earlier[slot % per_hour] + later[slot % per_hour]) / 2 for slot in slots}
        detail = {
            "before": _side_detail(work, before, earlier),
            "after": _side_detail(work, after, later),
        }
        return Fill(values, "B", Reason.RULE_B, detail)

    def _rule_a(self, work: Filling, row: int, slots: list[int], *, awaiting: bool) -> list[Fill | Refusal]:
        day, scope = work.matrix.day_of(row), work.scope
        dates = self.history_dates(day, scope)
        measured_only = work.params.history == "measured_only"
        means, counts, used = work.mean_of_days(work.history, row, dates, slots, measured_only=measured_only)
        found: list[Fill | Refusal] = []
        if means:
            is_holiday = scope.is_holiday(day)
            reason = Reason.RULE_A_HOLIDAY if is_holiday else Reason.RULE_A
            detail = {
                "dates": used,
                "days_in_mean": _one_or_list([counts[slot] for slot in means]),
                "window": list(scope.window),
                "as_of": scope.as_of,
                "is_holiday": is_holiday,
                "history": work.params.history,
                "awaiting_neighbour": awaiting,
            }
            reason = Reason.RULE_A_AWAITING_NEIGHBOUR if awaiting else reason
            found.append(Fill(means, "A", reason, detail))
        without = [slot for slot in slots if slot not in means]
        return found + (self._no_history(work, row, without) if without else [])

    def _no_history(self, work: Filling, row: int, slots: list[int]) -> list[Fill | Refusal]:
        """Approved by an analyst or not at all: the months before migration, else a share of the MUSD."""
        uc_id, day = int(work.matrix.uc_id[row]), work.matrix.day_of(row)
        found: list[Fill | Refusal] = []
        approver = work.approved_by(row, METHOD_PRIOR_MONTHS)
        if approver:
            dates = [other for other in work.prior_days.get(uc_id, []) if work.scope.is_like(day, other)]
            means, counts, used = work.mean_of_days(work.prior, row, dates, slots, measured_only=False)
            if means:
                detail: dict[str, object] = {
                    "dates": used,
                    "days_in_mean": _one_or_list([counts[slot] for slot in means]),
                }
                found.append(
                    Fill(means, METHOD_PRIOR_MONTHS, Reason.NO_HISTORY_PRIOR_MONTHS, detail, approver)
                )
                slots = [slot for slot in slots if slot not in means]
        approver = work.approved_by(row, METHOD_MUSD)
        if slots and approver:
            musd = work.musd_kw.get((uc_id, day))
            if musd is None:
                return [*found, Refusal(tuple(slots), Cause.NO_MUSD_FOR_ESTIMATE, {})]
            share = work.params.no_history_musd_share
            value = musd * share / work.params.slots_per_hour
            detail = {"musd_kw": musd, "share": share}
            found.append(
                Fill(dict.fromkeys(slots, value), METHOD_MUSD, Reason.NO_HISTORY_MUSD, detail, approver)
            )
            slots = []
        if slots:
            offered = [METHOD_PRIOR_MONTHS] if work.prior_days.get(uc_id) else []
            detail = {"methods": [*offered, METHOD_MUSD], "window": list(work.scope.window)}
            found.append(Refusal(tuple(slots), Cause.NO_HISTORY_NEEDS_APPROVAL, detail))
        return found


@dataclass(frozen=True)
class _Side:
    """Missing hours that continue a run on one side, and the (row, hour) that ends them, if collected."""

    missing: int
    hour: tuple[int, int] | None


def _is_future(work: Filling, row: int, hour: int) -> bool:
    per_hour = work.params.slots_per_hour
    reasons = work.matrix.reason[row, hour * per_hour : (hour + 1) * per_hour]
    return bool((reasons == Reason.FUTURE).any())


def _hour_mean(work: Filling, row: int, hour: int) -> tuple[Fraction, list[int]]:
    """Mean of the collected intervals of an hour, and which they are."""
    per_hour = work.params.slots_per_hour
    begin = hour * per_hour
    collected = (begin + np.flatnonzero(work.good[row, begin : begin + per_hour])).tolist()
    total = int(work.matrix.numerators[row, collected].astype(object).sum())
    return Fraction(total, int(work.matrix.denominator[row]) * len(collected)), collected


def _hour_values(work: Filling, row: int, hour: int) -> list[Fraction]:
    """The intervals of a usable hour, those it lacks at the mean of the others."""
    mean, collected = _hour_mean(work, row, hour)
    per_hour = work.params.slots_per_hour
    values = [mean] * per_hour
    for slot in collected:
        values[slot - hour * per_hour] = Fraction(
            int(work.matrix.numerators[row, slot]), int(work.matrix.denominator[row])
        )
    return values


def _side_detail(work: Filling, place: tuple[int, int], values: list[Fraction]) -> dict[str, object]:
    row, hour = place
    return {"day": work.matrix.day_of(row), "hour": hour + 1, "energy_kwh": sum(values, Fraction(0))}


def _one_or_list(counts: list[int]) -> int | list[int]:
    """One number where all slots agree, else one per slot."""
    return counts[0] if len(set(counts)) == 1 else counts
