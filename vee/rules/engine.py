"""Run the rules: day after day, each on what is known by then; suspects out, values untouched.

A day is judged against earlier days that nobody doubts. So days are taken in order, and a day with a suspect
that waits or was rejected gives no shape to the days after it. What a decision says is applied here:
rejected slots become missing before any rule looks, accepted ones pass, those that wait are marked, and the
day is held (`vee.outcome`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import orjson
import polars as pl

from faults.market_time import MARKET_ZONE
from vee.calendars import Calendars
from vee.frames import (
    DEFAULT_INTERVAL_S,
    VERDICT_SCHEMA,
    SeriesMatrix,
    in_order,
    runs,
    split_by_slots,
    to_frame,
    to_matrix,
)
from vee.parameters import with_value
from vee.quality import Origin, Reason, Result
from vee.rules.base import F64, DayRows, Found, NotJudged, Rows, Rule, RuleParams, Severity, Stage
from vee.rules.inputs import Plants, RuleInput
from vee.rules.table import RULES, default_rules
from vee.strategies.shapes import SHAPE_SCHEMA, ShapeStore, SimilarDays, shape_frame, shapes_of, similar_days

SUSPECT_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "rule": pl.String(),
    "first_slot": pl.Int16(),
    "last_slot": pl.Int16(),
    "severity": pl.String(),
    "values_hash": pl.Binary(),
    "energy_kwh": pl.Decimal(38, 9),
    "evidence": pl.String(),
}
SKIP_SCHEMA: dict[str, pl.DataType] = {
    "rule": pl.String(),
    "reason": pl.String(),
    "uc_days": pl.Int64(),
}
_RESULTS = {Severity.INFO: Result.ALERT, Severity.SUSPECT: Result.SUSPECT, Severity.HOLD: Result.HELD}
# More than any installation's day; what is shown of a value beyond belief.
_LARGEST_KWH = 1e15


@dataclass(frozen=True)
class RuleSet:
    """Parameters of all rules, and of what a day is compared with."""

    rules: dict[str, RuleParams] = field(default_factory=default_rules)
    similar_days: SimilarDays = field(default_factory=SimilarDays)
    zone: str = MARKET_ZONE
    interval_s: int = DEFAULT_INTERVAL_S


@dataclass(frozen=True)
class Judged:
    """What the rules said of some UC-days.

    Attributes:
        series: the rows that were judged, with reasons of slots that wait or were decided.
        verdicts: VERDICT_SCHEMA, of every rule that spoke.
        suspects: SUSPECT_SCHEMA: those that nobody decided.
        waiting, rejected: `uc_id, day`.
        shapes: SHAPE_SCHEMA of the days that nobody doubts (stage MEASURED).
        skipped: SKIP_SCHEMA.
    """

    series: pl.DataFrame
    verdicts: pl.DataFrame
    suspects: pl.DataFrame
    waiting: pl.DataFrame
    rejected: pl.DataFrame
    shapes: pl.DataFrame
    skipped: pl.DataFrame


def judge(
    series: pl.DataFrame,
    inputs: RuleInput,
    calendars: Calendars,
    rules: RuleSet | None = None,
    stage: Stage = Stage.MEASURED,
) -> Judged:
    """Judge the UC-days of a series frame.

    Args:
        series: validated (stage MEASURED) or as it would be delivered (stage SENT).
        inputs: facts of the same UCs; of shapes, those of earlier days.
    """
    engine = _Engine(inputs, calendars, rules or RuleSet(), stage)
    parts = [engine.run(part) for part in split_by_slots(series)]
    return engine.judged(in_order(series, parts) if parts else series)


Span = tuple[int, int]


class _Engine:
    """One call of `judge`."""

    def __init__(self, inputs: RuleInput, calendars: Calendars, rules: RuleSet, stage: Stage) -> None:
        self.inputs, self.calendars, self.rules, self.stage = inputs, calendars, rules, stage
        self.active = [rule for rule in RULES if rule.stage is stage]
        self.plants = Plants(inputs, rules.zone)
        self.store = ShapeStore(inputs.shapes)
        self.tables = {
            name: {day: part for (day,), part in frame.partition_by("day", as_dict=True).items()}
            for name, frame in inputs.tables.items()
            if frame.height
        }
        self.decided = {row[:6]: row[6] for row in inputs.decided.iter_rows()}
        self.rejections: dict[date, list[tuple[Any, ...]]] = {}
        for key, state in self.decided.items():
            if state == "rejected":
                self.rejections.setdefault(key[1], []).append(key)
        self.overrides = _Overrides(inputs)
        self.verdicts: list[tuple[object, ...]] = []
        self.suspects: list[tuple[object, ...]] = []
        self.waiting: set[tuple[int, date]] = set()
        self.rejected: set[tuple[int, date]] = set()
        self.shapes: list[pl.DataFrame] = []
        self.skipped: dict[tuple[str, str], int] = {}

    def run(self, part: pl.DataFrame) -> pl.DataFrame:
        """Judge rows that share one number of slots, day by day."""
        matrix = to_matrix(part)
        is_changed = False
        for day in np.unique(matrix.day).tolist():
            at = np.flatnonzero(matrix.day == np.datetime64(day))
            is_changed |= self._day(matrix, at, day)
        return to_frame(matrix) if is_changed else part

    def judged(self, series: pl.DataFrame) -> Judged:
        return Judged(
            series=series,
            verdicts=pl.DataFrame(self.verdicts, schema=VERDICT_SCHEMA, orient="row")
            .unique(["uc_id", "day", "rule", "first_slot"], keep="first", maintain_order=True)
            .sort("uc_id", "day", "rule", "first_slot"),
            suspects=pl.DataFrame(self.suspects, schema=SUSPECT_SCHEMA, orient="row")
            .unique(["uc_id", "day", "rule", "first_slot", "last_slot"], keep="first", maintain_order=True)
            .sort("uc_id", "day", "rule", "first_slot"),
            waiting=_keys(self.waiting),
            rejected=_keys(self.rejected),
            shapes=pl.concat([pl.DataFrame(schema=SHAPE_SCHEMA), *self.shapes]),
            skipped=pl.DataFrame(
                [(*key, count) for key, count in sorted(self.skipped.items())],
                schema=SKIP_SCHEMA,
                orient="row",
            ),
        )

    def _day(self, matrix: SeriesMatrix, at: Rows, day: date) -> bool:
        rejected = self._reject(matrix, at, day)
        rows = self._rows(matrix, at, day, rejected)
        marks = np.zeros((len(rows), rows.slots), np.uint8)
        for rule in self.active:
            for params, chosen in self.overrides.variants(rule, self.rules.rules[rule.id], rows, day):
                part = rows if chosen is None else rows.take(chosen)
                where = np.arange(len(rows)) if chosen is None else chosen
                self._rule(rule, params, part, marks, where)
        if self.stage is Stage.MEASURED:
            self._keep_shapes(rows, day, marks)
        touched = np.flatnonzero(marks.any(axis=1))
        for row in touched.tolist():
            if (marks[row] == Reason.HELD_SUSPECT).any():
                self.waiting.add((int(rows.matrix.uc_id[row]), day))
            if self.stage is Stage.MEASURED:
                place = int(at[row])
                wanted = (marks[row] > 0) & rows.measured[row]
                matrix.reason[place] = np.where(wanted, marks[row], matrix.reason[place])
        return (len(touched) > 0 or bool(rejected)) and self.stage is Stage.MEASURED

    def _reject(self, matrix: SeriesMatrix, at: Rows, day: date) -> dict[int, F64]:
        """Take out what somebody rejected, before any rule looks: by row of the day, its kWh by slot."""
        removed: dict[int, F64] = {}
        if self.stage is not Stage.MEASURED or day not in self.rejections:
            return removed
        row_of = {int(matrix.uc_id[row]): number for number, row in enumerate(at.tolist())}
        spans: list[tuple[int, int, int]] = []
        for uc_id, _, _, first, last, digest in self.rejections[day]:
            number = row_of.get(uc_id)
            # Other values than those that were rejected are judged anew.
            if number is not None and values_hash(matrix, int(at[number]), first, last) == digest:
                spans.append((number, first, last))
        for number, first, last in spans:
            row, slots = int(at[number]), slice(first, last + 1)
            measured = matrix.known[row, slots] & (matrix.origin[row, slots] == Origin.MEASURED)
            kwh = removed.setdefault(number, np.full(matrix.slots, np.nan))
            values = matrix.numerators[row, slots] / matrix.denominator[row]
            kwh[slots] = np.where(measured, values, kwh[slots])
            matrix.known[row, slots] &= ~measured
            matrix.numerators[row, slots][measured] = 0
            matrix.origin[row, slots][measured] = Origin.MISSING
            matrix.reason[row, slots][measured] = Reason.REJECTED_SUSPECT
            self.rejected.add((int(matrix.uc_id[row]), day))
        return removed

    def _rows(self, matrix: SeriesMatrix, at: Rows, day: date, rejected: Mapping[int, F64]) -> DayRows:
        chosen = matrix if len(at) == len(matrix) else matrix.take(at)
        measured = chosen.known
        if self.stage is Stage.MEASURED:
            measured = measured & (chosen.origin == Origin.MEASURED)
        kwh = np.where(measured, chosen.numerators, 0) / chosen.denominator[:, None]
        hours = chosen.slots * self.rules.interval_s // 3600
        days = similar_days(day, self.calendars, self.rules.similar_days)
        reference = self.store.reference(chosen.uc_id, days, day, hours)
        return DayRows(
            day=day,
            matrix=chosen,
            measured=measured,
            kwh=kwh,
            plant=self.plants.of(day, chosen.uc_id),
            reference=reference,
            latest=self.store.latest(chosen.uc_id, day, hours, reference),
            tables={name: by_day[day] for name, by_day in self.tables.items() if day in by_day},
            interval_s=self.rules.interval_s,
            rejected=rejected,
        )

    def _rule(self, rule: Rule, params: RuleParams, rows: DayRows, marks: Any, where: Rows) -> None:
        if not params.enabled:
            self._skip(rule, NotJudged(np.ones(len(rows), np.bool_), "disabled"))
            return
        for said in rule.judge(rows, params):
            if isinstance(said, NotJudged):
                self._skip(rule, said)
                continue
            for row in np.flatnonzero(said.mask.any(axis=1)).tolist():
                for span in runs(said.mask[row]):
                    self._found(rule, params, rows, said, row, span, marks[where[row]])

    def _skip(self, rule: Rule, said: NotJudged) -> None:
        key = (rule.id, said.reason)
        self.skipped[key] = self.skipped.get(key, 0) + int(said.rows.sum())

    def _found(
        self,
        rule: Rule,
        params: RuleParams,
        rows: DayRows,
        said: Found,
        row: int,
        span: Span,
        marks: Any,
    ) -> None:
        severity = said.severity or params.severity
        uc_id, slots = int(rows.matrix.uc_id[row]), slice(span[0], span[1] + 1)
        evidence = dict(said.evidence(row, *span))
        detail: dict[str, object] = {**evidence, "severity": severity.value}
        if severity is not Severity.INFO:
            digest = values_hash(rows.matrix, row, *span)
            key = (uc_id, rows.day, rule.id, *span, digest)
            state = self.decided.get(key)
            if state is not None:
                detail["decided"] = state
            else:
                stake = Decimal(str(round(min(said.stake_kwh(row, *span), _LARGEST_KWH), 6)))
                evidence["parameters"] = _plain(params)
                self.suspects.append(
                    (uc_id, rows.day, rule.id, *span, severity.value, digest, stake, _json(evidence))
                )
            # What waits outweighs what was accepted.
            if state is None:
                marks[slots] = Reason.HELD_SUSPECT
            else:
                marks[slots][marks[slots] == 0] = Reason.ACCEPTED_SUSPECT
        self.verdicts.append((uc_id, rows.day, rule.id, *span, _RESULTS[severity].value, _json(detail)))

    def _keep_shapes(self, rows: DayRows, day: date, marks: Any) -> None:
        doubted = (marks == Reason.HELD_SUSPECT).any(axis=1)
        doubted[list(rows.rejected)] = True
        sound = np.flatnonzero(~doubted & rows.measured.any(axis=1))
        shapes = shapes_of(rows, sound)
        self.store.add(day, shapes)
        self.shapes.append(shape_frame(day, shapes))


def values_hash(matrix: SeriesMatrix, row: int, first: int, last: int) -> bytes:
    """SHA-256 of the exact values of a run of slots, whatever the row's denominator is."""
    denominator = int(matrix.denominator[row])
    numbers, known = matrix.numerators[row].tolist(), matrix.known[row].tolist()
    texts = [
        str(Fraction(numbers[slot], denominator)) if known[slot] else "-" for slot in range(first, last + 1)
    ]
    return hashlib.sha256(" ".join(texts).encode()).digest()


class _Overrides:
    """Which rows have parameters of their own, by rule and day."""

    def __init__(self, inputs: RuleInput) -> None:
        self._by_rule = {
            rule: part.to_dicts()
            for (rule,), part in inputs.overrides.partition_by("rule", as_dict=True).items()
        }
        self._scopes: dict[tuple[int, date], tuple[object, object]] = {}
        if self._by_rule:
            names = [name for name in ("tariff_subgroup", "agent_code") if name in inputs.registry.columns]
            for entry in inputs.registry.select("uc_id", "day", *names).iter_rows(named=True):
                self._scopes[entry["uc_id"], entry["day"]] = (
                    entry.get("tariff_subgroup"),
                    entry.get("agent_code"),
                )

    def variants(
        self, rule: Rule, params: RuleParams, rows: DayRows, day: date
    ) -> Iterator[tuple[RuleParams, Rows | None]]:
        """Parameters, and the rows that have them; None: all rows."""
        entries = [
            entry
            for entry in self._by_rule.get(rule.id, [])
            if (entry["valid_from"] is None or entry["valid_from"] <= day)
            and (entry["valid_to"] is None or day < entry["valid_to"])
        ]
        if not entries:
            yield params, None
            return
        groups: dict[RuleParams, list[int]] = {}
        for row, uc_id in enumerate(rows.matrix.uc_id.tolist()):
            subgroup, agent = self._scopes.get((uc_id, day), (None, None))
            groups.setdefault(_narrowest(params, entries, uc_id, subgroup, agent), []).append(row)
        for changed, chosen in groups.items():
            yield changed, np.array(chosen, np.intp)


def _narrowest(
    params: RuleParams, entries: list[dict[str, Any]], uc_id: int, subgroup: object, agent: object
) -> RuleParams:
    """The file's parameters, then the agent's, the subgroup's and the UC's over them."""
    scopes: tuple[Callable[[dict[str, Any]], bool], ...] = (
        lambda entry: entry["agent_code"] is not None and entry["agent_code"] == agent,
        lambda entry: entry["tariff_subgroup"] is not None and entry["tariff_subgroup"] == subgroup,
        lambda entry: entry["uc_id"] is not None and entry["uc_id"] == uc_id,
    )
    for is_meant in scopes:
        for entry in filter(is_meant, entries):
            where = f"rule_override {entry['rule']}"
            params = with_value(params, entry["parameter"], entry["value"], where)
    return params


def _plain(params: RuleParams) -> dict[str, object]:
    return {name: value for name, value in asdict(params).items() if name not in ("severity", "enabled")}


def _json(detail: Mapping[str, object]) -> str:
    return orjson.dumps(detail, default=str, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _keys(found: set[tuple[int, date]]) -> pl.DataFrame:
    return pl.DataFrame(sorted(found), schema={"uc_id": pl.Int64, "day": pl.Date}, orient="row")
