"""Layer 2: the rules V01 to V22 that this release carries -> a state for each slot, and verdicts.

Rules run in the order of `RULES`, each on what the one before left: bad records are refused first, then the
active period decides what may be filled at all, then recorded outages turn zeros and gaps into measured
zeros, and only then is what is missing counted. A refused value becomes missing, never zero; a suspect value
stays. Thresholds have no public source (vee_rules.md section 3): those that are a choice are parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from fractions import Fraction
from operator import mul

import numpy as np
import orjson
import polars as pl

from faults.market_time import MARKET_ZONE, parse_zone
from vee.calendars import ONE_DAY, day_start, slots_per_day
from vee.frames import (
    DEFAULT_INTERVAL_S,
    VERDICT_SCHEMA,
    Mask,
    SeriesMatrix,
    as_fraction,
    in_order,
    runs,
    split_by_slots,
    to_frame,
    to_matrix,
)
from vee.musd import DEFAULT_MUSD_KW
from vee.parameters import bounded
from vee.quality import Origin, Reason, Result

REGISTRY_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "uc_code": pl.String(),
    "agent_code": pl.Int64(),
    "status": pl.String(),
    "musd_kw": pl.Decimal(scale=9),
    "musd_confirmed_on": pl.Date(),
}
OUTAGE_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "started_at": pl.Datetime("us", "UTC"),
    "ended_at": pl.Datetime("us", "UTC"),
}
INCIDENT_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "slot": pl.Int16(),
    "kind": pl.String(),
}
PHASE_LOSS_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "first_slot": pl.Int16(),
    "last_slot": pl.Int16(),
    "element_count": pl.Int16(),
    "phases_lost": pl.Int16(),
    "is_proven": pl.Boolean(),
    "proof": pl.String(),
}

# What the merge of readings found in records that never became a slot's value.
INCIDENT_REASONS: dict[str, Reason] = {
    "out_of_day": Reason.REFUSED_OUT_OF_DAY,
    "not_a_number": Reason.REFUSED_NOT_A_NUMBER,
    "negative": Reason.REFUSED_NEGATIVE,
}
DUPLICATE_SAME = "duplicate_same"
DUPLICATE_CONFLICT = "duplicate_conflict"
CLOCK_TOUCHED = "clock_touched"
"""The meter's clock was moved inside the interval: it is longer or shorter than it says."""

# Annex 7.2, rule C: (elements, phases lost) -> factor on the collected value. Anything else: analyst.
PHASE_LOSS_FACTORS: dict[tuple[int, int], Fraction] = {
    (3, 1): Fraction(3, 2),
    (3, 2): Fraction(3),
    (2, 1): Fraction(2),
}


@dataclass(frozen=True)
class ValidationParams:
    """Settings of layer 2.

    Attributes:
        zone, interval_s: the market's day and interval.
        default_musd_kw: what CCEE assumes where no MUSD was declared (1.8/3.15.1) [A]; a unit that shows
            exactly this value is on the work list until somebody confirmed it (V21).
        outage_fills_gap: a gap wholly inside an outage that the meter recorded is a measured zero: the
            meter was without supply and stored nothing (V20; whether a model stores zeros or nothing
            differs, so this is a setting) [C].
        sendable_status: statuses of a UC that is delivered (V15).
        zero_current_proves: a phase with voltage and no current is a lost TC, and rule C corrects it; else it
            is suspect, since a load on the other phases looks the same [C].
        phase_loaded_share: and that only where another phase carries so much of the day's highest current.
    """

    zone: str = MARKET_ZONE
    interval_s: int = DEFAULT_INTERVAL_S
    default_musd_kw: int = DEFAULT_MUSD_KW
    outage_fills_gap: bool = True
    sendable_status: tuple[str, ...] = ("active", "suspended_open")
    zero_current_proves: bool = False
    phase_loaded_share: float = bounded(0.2, low=0, high=1)


@dataclass(frozen=True)
class ValidationInput:
    """What the rules look at; only `primary` and `registry` are obligatory.

    Attributes:
        primary: series frame of layer 1.
        registry: one row per UC-day, REGISTRY_SCHEMA; nulls where the registry is silent.
        outages: OUTAGE_SCHEMA, as the UC's main meter recorded them.
        phase_loss: PHASE_LOSS_SCHEMA (see `vee.phase_losses`).
        incidents: INCIDENT_SCHEMA, kinds of `INCIDENT_REASONS`, the two duplicates and `CLOCK_TOUCHED`.
    """

    primary: pl.DataFrame
    registry: pl.DataFrame
    outages: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=OUTAGE_SCHEMA))
    phase_loss: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=PHASE_LOSS_SCHEMA))
    incidents: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=INCIDENT_SCHEMA))


@dataclass(frozen=True)
class ValidationResult:
    """The validated series (rows as in `primary`) and the verdicts (VERDICT_SCHEMA, detail is JSON)."""

    validated: pl.DataFrame
    verdicts: pl.DataFrame


@dataclass
class _Work:
    """Rows with one number of slots, and the verdicts found so far."""

    matrix: SeriesMatrix
    registry: list[dict[str, object] | None]
    inputs: ValidationInput
    as_of: datetime
    params: ValidationParams
    verdicts: list[tuple[int, date, str, int, int, str, str]] = field(default_factory=list)

    def say(self, rule: str, row: int, mask: Mask, result: Result, **detail: object) -> None:
        """One verdict per run of True in `mask` (slots,)."""
        text = orjson.dumps(detail, default=str).decode()
        uc_id, day = int(self.matrix.uc_id[row]), self.matrix.day_of(row)
        for first, last in runs(mask):
            self.verdicts.append((uc_id, day, rule, first, last, result.value, text))

    def say_day(self, rule: str, row: int, result: Result, **detail: object) -> None:
        self.say(rule, row, np.ones(self.matrix.slots, np.bool_), result, **detail)

    def refuse(self, row: int, mask: Mask, reason: Reason) -> None:
        self.matrix.known[row, mask] = False
        self.matrix.numerators[row, mask] = 0
        self.matrix.origin[row, mask] = Origin.MISSING
        self.matrix.reason[row, mask] = reason


def _v02_stamps(work: _Work) -> None:
    matrix, params = work.matrix, work.params
    for day in np.unique(matrix.day):
        start = day_start(day.item(), params.zone)
        over = int((work.as_of - start) / timedelta(seconds=params.interval_s))
        if over >= matrix.slots:
            continue
        future = np.arange(matrix.slots) >= max(over, 0)
        for row in np.flatnonzero(matrix.day == day).tolist():
            work.say("V02", row, future & matrix.known[row], Result.REFUSED, kind="future")
            work.refuse(row, future, Reason.FUTURE)
    _mark_incidents(work, "V02", {"out_of_day"})


def _mark_incidents(work: _Work, rule: str, kinds: set[str]) -> None:
    """Refused records leave their reason where no other record filled the slot."""
    found = work.inputs.incidents.select(list(INCIDENT_SCHEMA)).filter(pl.col("kind").is_in(list(kinds)))
    for uc_id, day, slot, kind in found.iter_rows():
        row = work.matrix.row_of(uc_id, day)
        if row is None or not 0 <= slot < work.matrix.slots or work.matrix.known[row, slot]:
            continue
        mask = np.arange(work.matrix.slots) == slot
        work.refuse(row, mask, INCIDENT_REASONS[kind])
        work.say(rule, row, mask, Result.REFUSED, kind=kind)


def _v03_duplicates(work: _Work) -> None:
    held: dict[int, Mask] = {}
    for uc_id, day, slot, kind in work.inputs.incidents.select(list(INCIDENT_SCHEMA)).iter_rows():
        row = work.matrix.row_of(uc_id, day)
        if row is None or not 0 <= slot < work.matrix.slots:
            continue
        if kind == DUPLICATE_CONFLICT:
            held.setdefault(row, np.zeros(work.matrix.slots, np.bool_))[slot] = True
        elif kind == DUPLICATE_SAME and work.matrix.reason[row, slot] == Reason.MEASURED_OK:
            work.matrix.reason[row, slot] = Reason.DUPLICATE_DROPPED
    for row, mask in held.items():
        work.refuse(row, mask, Reason.HELD_CONFLICT)
        work.say("V03", row, mask, Result.HELD, kind=DUPLICATE_CONFLICT)


def _v04_numbers(work: _Work) -> None:
    negative = work.matrix.known & (work.matrix.numerators < 0)
    for row in np.flatnonzero(negative.any(axis=1)).tolist():
        work.say("V04", row, negative[row], Result.REFUSED, kind="negative")
        work.refuse(row, negative[row], Reason.REFUSED_NEGATIVE)
    _mark_incidents(work, "V04", {"negative", "not_a_number"})


def _v09_clock(work: _Work) -> None:
    """The value stays what the meter counted; who bills by it is told that the interval was not whole."""
    touched: dict[int, Mask] = {}
    for uc_id, day, slot, kind in work.inputs.incidents.select(list(INCIDENT_SCHEMA)).iter_rows():
        row = work.matrix.row_of(uc_id, day) if kind == CLOCK_TOUCHED else None
        if row is not None and 0 <= slot < work.matrix.slots:
            touched.setdefault(row, np.zeros(work.matrix.slots, np.bool_))[slot] = True
    for row, mask in touched.items():
        work.say("V09", row, mask, Result.ALERT, kind=CLOCK_TOUCHED)


def _v15_active_period(work: _Work) -> None:
    for row, entry in enumerate(work.registry):
        status = entry["status"] if entry else None
        if status in work.params.sendable_status:
            continue
        work.say_day("V15", row, Result.BLOCKED, status=status)
        gap = ~work.matrix.known[row] & (work.matrix.reason[row] != Reason.HELD_CONFLICT)
        work.matrix.reason[row, gap] = Reason.OUTSIDE_ACTIVE_PERIOD


def _v20_outages(work: _Work) -> None:
    matrix, params = work.matrix, work.params
    zone = parse_zone(params.zone)
    starts_s = np.arange(matrix.slots) * params.interval_s
    for uc_id, started_at, ended_at in work.inputs.outages.select(list(OUTAGE_SCHEMA)).iter_rows():
        day = started_at.astimezone(zone).date()
        while day <= ended_at.astimezone(zone).date():
            row, origin = matrix.row_of(uc_id, day), day_start(day, params.zone)
            day += ONE_DAY
            if row is None:
                continue
            begin, end = (started_at - origin).total_seconds(), (ended_at - origin).total_seconds()
            full = (starts_s >= begin) & (starts_s + params.interval_s <= end)
            part = (starts_s + params.interval_s > begin) & (starts_s < end) & ~full
            _apply_outage(work, row, full, part, started_at, ended_at)


def _apply_outage(
    work: _Work, row: int, full: Mask, part: Mask, started_at: datetime, ended_at: datetime
) -> None:
    matrix = work.matrix
    known, measured = matrix.known[row].copy(), matrix.origin[row] == Origin.MEASURED
    zero = full & measured & (matrix.numerators[row] == 0)
    matrix.reason[row, zero] = Reason.ZERO_IN_OUTAGE
    matrix.reason[row, part & measured & (matrix.reason[row] == Reason.MEASURED_OK)] = Reason.PARTIAL_OUTAGE
    gap = full & ~known & (matrix.reason[row] == Reason.NOT_RECEIVED)
    if work.params.outage_fills_gap:
        matrix.known[row, gap] = True
        matrix.numerators[row, gap] = 0
        matrix.origin[row, gap] = Origin.MEASURED
        matrix.reason[row, gap] = Reason.ZERO_FROM_OUTAGE_LOG
        zero |= gap
    work.say("V20", row, zero, Result.MEASURED_ZERO, started_at=started_at, ended_at=ended_at)


def _v01_complete(work: _Work) -> None:
    matrix = work.matrix
    for row in np.flatnonzero(~matrix.known.all(axis=1)).tolist():
        expected = slots_per_day(matrix.day_of(row), work.params.zone, work.params.interval_s)
        received = int(matrix.known[row].sum())
        work.say("V01", row, ~matrix.known[row], Result.MISSING, expected=expected, received=received)


def _v22_phase_loss(work: _Work) -> None:
    for loss in work.inputs.phase_loss.iter_rows(named=True):
        row = work.matrix.row_of(loss["uc_id"], loss["day"])
        if row is None:
            continue
        slots = np.arange(work.matrix.slots)
        mask = (slots >= loss["first_slot"]) & (slots <= loss["last_slot"]) & work.matrix.known[row]
        factor = PHASE_LOSS_FACTORS.get((loss["element_count"], loss["phases_lost"]))
        offered = None if factor is None else str(factor)
        work.say(
            "V22",
            row,
            mask,
            Result.SUSPECT,
            factor=offered,
            phases_lost=loss["phases_lost"],
            is_proven=loss["is_proven"],
            proof=loss["proof"],
        )


def _v19_registered(work: _Work) -> None:
    for row, entry in enumerate(work.registry):
        if entry is None or entry["agent_code"] is None:
            work.say_day("V19", row, Result.BLOCKED, kind="no agent" if entry else "not registered")
        elif not has_valid_check_digits(str(entry["uc_code"])):
            work.say_day("V19", row, Result.ALERT, kind="check digits", uc_code=entry["uc_code"])


def _v21_musd(work: _Work) -> None:
    default = Fraction(work.params.default_musd_kw)
    for row, entry in enumerate(work.registry):
        if entry is None:
            continue
        musd = entry["musd_kw"]
        if musd is None:
            work.say_day("V21", row, Result.ALERT, kind="absent", assumed_kw=work.params.default_musd_kw)
        elif entry["musd_confirmed_on"] is None and as_fraction(musd) == default:
            work.say_day("V21", row, Result.ALERT, kind="default", musd_kw=work.params.default_musd_kw)


@dataclass(frozen=True)
class Rule:
    """A validation rule: id, what it checks and what follows, in Portuguese for the manual."""

    id: str
    check_pt: str
    result_pt: str
    apply: Callable[[_Work], None]


RULES: tuple[Rule, ...] = (
    Rule("V02", "Carimbo na grade de intervalos, no dia certo, não futuro", "recusa o registro", _v02_stamps),
    Rule(
        "V03", "Registro repetido: mesmo valor, descarta um; valor diferente, retém", "retém", _v03_duplicates
    ),
    Rule("V04", "Valor numérico, finito e não negativo", "recusa o registro", _v04_numbers),
    Rule("V09", "Relógio do medidor mexido dentro do intervalo", "avisa; o valor fica", _v09_clock),
    Rule("V15", "Dado dentro do período ativo da UC", "não envia", _v15_active_period),
    Rule("V20", "Falta de energia registrada pelo medidor", "os zeros são medidos", _v20_outages),
    Rule("V01", "Todos os intervalos do dia presentes", "faltantes vão à estimativa", _v01_complete),
    Rule(
        "V22",
        "Fase sem tensão ou corrente com as outras em carga",
        "suspeito; oferece a regra C",
        _v22_phase_loss,
    ),
    Rule(
        "V19", "UC cadastrada, agente e dígitos verificadores corretos", "bloqueia ou avisa", _v19_registered
    ),
    Rule("V21", "MUSD ausente ou igual ao padrão da CCEE", "lista de trabalho até confirmar", _v21_musd),
)


def rule_rows() -> list[dict[str, str]]:
    """The rule table for the manual, in the order in which the rules run."""
    return [{"id": rule.id, "check_pt": rule.check_pt, "result_pt": rule.result_pt} for rule in RULES]


def validate(
    inputs: ValidationInput, as_of: datetime, params: ValidationParams | None = None
) -> ValidationResult:
    """Run every rule of `RULES` on a primary series.

    Args:
        as_of: aware instant of the validation; later intervals are future (V02).
    """
    params = params or ValidationParams()
    series: list[pl.DataFrame] = []
    verdicts: list[tuple[int, date, str, int, int, str, str]] = []
    entries = {(entry["uc_id"], entry["day"]): entry for entry in inputs.registry.iter_rows(named=True)}
    for part in split_by_slots(inputs.primary):
        matrix = to_matrix(part)
        keys = zip(matrix.uc_id.tolist(), matrix.day.tolist(), strict=True)
        work = _Work(matrix, [entries.get(key) for key in keys], inputs, as_of, params)
        for rule in RULES:
            rule.apply(work)
        series.append(to_frame(matrix))
        verdicts.extend(work.verdicts)
    table = pl.DataFrame(verdicts, schema=VERDICT_SCHEMA, orient="row")
    return ValidationResult(
        validated=in_order(inputs.primary, series),
        # Overlapping sources may name the same run twice; the first said stands.
        verdicts=table.unique(["uc_id", "day", "rule", "first_slot"], keep="first", maintain_order=True).sort(
            "uc_id", "day", "rule", "first_slot"
        ),
    )


_WEIGHTS = (10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 10, 9, 8)


def check_digits(stem: str) -> str:
    """The two check digits of a 13-digit stem of the national UC code (ccee_api.md section 7).

    >>> check_digits("0013479258028")
    '10'
    """
    digits = [int(digit) for digit in stem]
    first = _digit(sum(map(mul, _WEIGHTS, digits)))
    second = _digit(sum(map(mul, (11, *_WEIGHTS), (*digits, first))))
    return f"{first}{second}"


def _digit(total: int) -> int:
    rest = total % 11
    return 0 if rest < 2 else 11 - rest


def has_valid_check_digits(uc_code: str) -> bool:
    """False only for a 15-digit code whose digits do not verify: shorter, older codes carry none."""
    if len(uc_code) != 15:
        return True
    return uc_code.isdecimal() and check_digits(uc_code[:13]) == uc_code[13:]
