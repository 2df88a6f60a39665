"""What a rule is given and what it says: `DayRows` in, `Found` and `NotJudged` out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import date
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from vee.frames import Mask, SeriesMatrix
from vee.parameters import bounded

F64 = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]
Mask1 = npt.NDArray[np.bool_]
# No meter counts more in an interval.
_MOST_COUNT = 2.0**40


class Severity(StrEnum):
    """What follows from a rule that speaks. INFO: it is listed. SUSPECT: held until a person decides, or the
    rule's time-out policy does. HOLD: held until a person decides."""

    INFO = "info"
    SUSPECT = "suspect"
    HOLD = "hold"


class TimeOut(StrEnum):
    """What the policy of a rule does about a suspect that nobody has decided near the month's deadline.

    WAIT: nothing, the day is not sent. ACCEPT: it is sent, marked as an accepted suspect. REJECT: the slots
    are missing, and estimated.
    """

    WAIT = "wait"
    ACCEPT = "accept"
    REJECT = "reject"


class Stage(StrEnum):
    """MEASURED: validated values, before anything is estimated. SENT: what would be delivered."""

    MEASURED = "measured"
    SENT = "sent"


@dataclass(frozen=True)
class RuleParams:
    """What every rule has. Each rule's own parameters are fields of a subclass.

    Attributes:
        severity: what follows.
        enabled: false switches the rule off; the skipped UC-days say so.
        on_timeout: what is done about a suspect (not a hold) `timeout_days` before the month's last day for
            data. No public text says that a doubtful value may be sent: by default it waits.
    """

    severity: Severity = Severity.SUSPECT
    enabled: bool = True
    on_timeout: TimeOut = TimeOut.WAIT
    timeout_days: int = bounded(1, low=0)


@dataclass(frozen=True)
class Found:
    """Slots that a rule names.

    Attributes:
        mask: (n, slots) bool, the rows of the `DayRows` judged.
        evidence: of (row, first slot, last slot) of one run: what was compared. Plain values for JSON.
        stake_kwh: of the same: by how much the energy may be wrong.
        severity: where it differs from the rule's parameter.
    """

    mask: Mask
    evidence: Callable[[int, int, int], Mapping[str, object]]
    stake_kwh: Callable[[int, int, int], float]
    severity: Severity | None = None


@dataclass(frozen=True)
class NotJudged:
    """UC-days that a rule could not judge, (n,) bool, and why: a word of `table.SKIP_REASONS`."""

    rows: Mask
    reason: str


@dataclass(frozen=True)
class Reference:
    """What the UC's earlier days of the same kind looked like, in kWh. NaN where no day is known.

    Attributes:
        days: (n,) how many of them are known.
        hours: (n, 24) median of each clock hour; lowest: (n, 24) its minimum.
        day_kwh: (n,) median of whole days; highest_day_kwh: (n,) their maximum.
        peak_kwh: (n,) largest interval of all of them.
        longest_run: (n,) slots of the longest run of equal counts in any of them; run_days: (n,) of how many
            of them it is known.
        reactive_ratio, highest_reactive_ratio, lowest_reactive_ratio: (n,) median, largest and smallest
            reactive count per active count; reactive_days: (n,) of how many of them it is known.
        marks: (days, n, blocks) fingerprints of parts of these days and of the day before; 0: none.
        mark_days: of the first axis of `marks`.
    """

    days: npt.NDArray[np.int64]
    hours: F64
    lowest: F64
    day_kwh: F64
    highest_day_kwh: F64
    peak_kwh: F64
    longest_run: npt.NDArray[np.int64]
    run_days: npt.NDArray[np.int64]
    reactive_ratio: F64
    highest_reactive_ratio: F64
    lowest_reactive_ratio: F64
    reactive_days: npt.NDArray[np.int64]
    marks: npt.NDArray[np.int64]
    mark_days: tuple[date, ...] = ()

    def take(self, rows: Rows) -> Reference:
        return self._each(lambda name: getattr(self, name)[rows], self.marks[:, rows])

    def where(self, chosen: Mask1, other: Reference) -> Reference:
        """These rows where `chosen`, else those of `other`; marks stay."""

        def one(name: str) -> Any:
            mine, theirs = getattr(self, name), getattr(other, name)
            return np.where(chosen if mine.ndim == 1 else chosen[:, None], mine, theirs)

        return self._each(one, self.marks)

    def _each(self, make: Callable[[str], Any], marks: npt.NDArray[np.int64]) -> Reference:
        made = {
            item.name: make(item.name) for item in fields(self) if item.name not in ("marks", "mark_days")
        }
        return Reference(**made, marks=marks, mark_days=self.mark_days)


@dataclass(frozen=True)
class Plant:
    """What the registry says of each row, (n,) float; NaN where it is silent.

    Attributes:
        pulse_kwh: energy of one pulse; NaN as well where two meters share the day.
        musd_kw, demand_kw: MUSD, contracted demand.
        voltage_kv: supply voltage. tc_ratio: of the main meter.
    """

    pulse_kwh: F64
    musd_kw: F64
    demand_kw: F64
    voltage_kv: F64
    tc_ratio: F64

    def take(self, rows: Rows) -> Plant:
        return Plant(
            self.pulse_kwh[rows],
            self.musd_kw[rows],
            self.demand_kw[rows],
            self.voltage_kv[rows],
            self.tc_ratio[rows],
        )


@dataclass
class DayRows:
    """UC-days of one day that are judged together.

    Attributes:
        matrix: their validated values. measured: where a slot has a value that a meter counted.
        kwh: (n, slots) values as float, 0 where not measured.
        plant, reference: see there.
        latest: as `reference`; for UCs with few similar days, of the last days whatever their kind.
        tables: further facts by name (`inputs.RuleInput`), rows of this day only; absent is empty.
        interval_s: length of a slot.
        rejected: by row, (slots,) kWh that a decision took out, NaN elsewhere.
    """

    day: date
    matrix: SeriesMatrix
    measured: Mask
    kwh: F64
    plant: Plant
    reference: Reference
    latest: Reference
    tables: Mapping[str, pl.DataFrame]
    interval_s: int
    rejected: Mapping[int, F64] = field(default_factory=dict)
    _hours: F64 | None = field(default=None, repr=False)
    _counts: npt.NDArray[np.int64] | None = field(default=None, repr=False)
    _made: dict[str, npt.NDArray[Any]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.matrix)

    @property
    def slots(self) -> int:
        return self.matrix.slots

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """(n, slots) pulses of the main meter; -1 where not measured, or no one constant is known."""
        if self._counts is None:
            pulses = np.rint(self.kwh / self.plant.pulse_kwh[:, None])
            known = self.measured & ~np.isnan(pulses) & (pulses < _MOST_COUNT)
            self._counts = np.where(known, pulses, -1).astype(np.int64)
        return self._counts

    def once(self, name: str, make: Callable[[DayRows], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """What several rules need, made by the first of them."""
        if name not in self._made:
            self._made[name] = make(self)
        return self._made[name]

    @property
    def per_hour(self) -> int:
        return 3600 // self.interval_s

    @property
    def hour_kwh(self) -> F64:
        """(n, hours) energy of each clock hour, NaN where a slot of it is not measured."""
        if self._hours is None:
            n, hours = len(self), self.slots // self.per_hour
            whole = self.measured.reshape(n, hours, self.per_hour).all(axis=2)
            self._hours = np.where(whole, self.kwh.reshape(n, hours, self.per_hour).sum(axis=2), np.nan)
        return self._hours

    def take(self, rows: Rows) -> DayRows:
        """The given rows."""
        return replace(
            self,
            matrix=self.matrix.take(rows),
            measured=self.measured[rows],
            kwh=self.kwh[rows],
            plant=self.plant.take(rows),
            reference=self.reference.take(rows),
            latest=self.latest.take(rows),
            rejected={
                place: self.rejected[row] for place, row in enumerate(rows.tolist()) if row in self.rejected
            },
            _hours=None,
            _counts=None,
            _made={},
        )

    def table(self, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Rows of a table with the row of their UC-day; those of other UCs are passed by."""
        for entry in self.tables.get(name, pl.DataFrame()).iter_rows(named=True):
            row = self.matrix.row_of(entry["uc_id"], self.day)
            if row is not None:
                yield row, entry

    def has_rows(self, name: str) -> Mask:
        """(n,) UC-days that a table says anything of."""
        frame = self.tables.get(name, pl.DataFrame())
        if frame.is_empty():
            return np.zeros(len(self), np.bool_)
        return np.isin(self.matrix.uc_id, frame["uc_id"].to_numpy())

    def none(self) -> Mask:
        """(n, slots), all False."""
        return np.zeros((len(self), self.slots), np.bool_)

    def energy(self, row: int, first: int = 0, last: int | None = None) -> float:
        """kWh measured from slot `first` to `last`, both included."""
        end = self.slots if last is None else last + 1
        return float(self.kwh[row, first:end].sum())

    def usual(self, row: int, first: int, last: int) -> float:
        """kWh that these slots have on other days; by the day's own median where none is known."""
        hours = self.reference.hours[row, first // self.per_hour : last // self.per_hour + 1]
        if not np.isnan(hours).any():
            per_slot = np.repeat(hours / self.per_hour, self.per_hour)
            begin = first % self.per_hour
            return float(per_slot[begin : begin + last - first + 1].sum())
        values = self.kwh[row, self.measured[row]]
        return float(np.median(values)) * (last - first + 1) if len(values) else 0.0

    def excess(self, row: int, first: int, last: int) -> float:
        """kWh by which these slots are above what other days have."""
        return max(0.0, self.energy(row, first, last) - self.usual(row, first, last))


Judge = Callable[[DayRows, Any], Iterable[Found | NotJudged]]


@dataclass(frozen=True)
class Rule:
    """One rule: what it does, what it is for, and the words of the manual (Portuguese).

    Attributes:
        id: stable; used in code, database, files and manuals.
        stage: what the rule looks at: see `Stage`.
        judge: the function. defaults: its parameters.
        check_pt, formula_pt, reason_pt, example_pt: what it checks; how exactly; why so; one worked case.
    """

    id: str
    stage: Stage
    judge: Judge
    defaults: RuleParams
    check_pt: str
    formula_pt: str
    reason_pt: str
    example_pt: str


def rounded(value: float, digits: int = 6) -> float | None:
    """A number for evidence; None where there is none."""
    return None if np.isnan(value) else round(float(value), digits)
