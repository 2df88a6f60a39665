"""Why each missing interval is missing: one cause a slot, from its reason and from what collection knows.

V01 counts what is missing; here its runs are told apart by cause, so that who works them off sees a link, a
clock or a rule instead of a gap. A cause says what keeps the value away now; it never fills anything.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import orjson
import polars as pl

from vee.frames import VERDICT_SCHEMA, split_by_slots, to_matrix
from vee.quality import Reason, Result


class MissingCause(StrEnum):
    """What keeps a value away."""

    NO_LINK = "no_link"
    REFUSED = "refused"
    OVERWRITTEN = "overwritten"
    CLOCK = "clock"
    RULE = "rule"
    NOT_DUE = "not_due"
    NO_METER = "no_meter"
    GAP = "gap"


WORDS: dict[MissingCause, str] = {
    MissingCause.NO_LINK: "the last attempt to reach the meter failed",
    MissingCause.REFUSED: "the meter, or its password, refused the reading",
    MissingCause.OVERWRITTEN: "the meter no longer holds that day",
    MissingCause.CLOCK: "held at collection: the meter's clock is wrong, or the interval is to come",
    MissingCause.RULE: "refused by a rule, held at collection, or rejected by a decision",
    MissingCause.NOT_DUE: "the interval has not ended, or nobody has read the meter since",
    MissingCause.NO_METER: "no meter is installed, or a swap cut the interval",
    MissingCause.GAP: "the meter answered and does not have the interval",
}
"""For `smf` and logs."""

TEXTS: dict[MissingCause, str] = {
    MissingCause.NO_LINK: "a comunicação com o medidor falhou na última tentativa",
    MissingCause.REFUSED: "o medidor ou a sua senha recusou a leitura",
    MissingCause.OVERWRITTEN: "o medidor já não guarda esse dia",
    MissingCause.CLOCK: "leitura retida na coleta: relógio do medidor errado ou intervalo futuro",
    MissingCause.RULE: "valor recusado, retido na coleta ou rejeitado por decisão",
    MissingCause.NOT_DUE: "o intervalo não terminou, ou ninguém leu o medidor desde então",
    MissingCause.NO_METER: "nenhum medidor instalado, ou intervalo partido por uma troca",
    MissingCause.GAP: "o medidor respondeu e não tem o intervalo",
}
"""For manuals and reports."""

# What collection knows of missing slots; of several rows about one slot, the last counts.
KNOWN_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "first_slot": pl.Int16(),
    "last_slot": pl.Int16(),
    "cause": pl.String(),
}

_BY_REASON: dict[Reason, MissingCause] = {
    Reason.REFUSED_NEGATIVE: MissingCause.RULE,
    Reason.REFUSED_OUT_OF_DAY: MissingCause.RULE,
    Reason.REFUSED_NOT_A_NUMBER: MissingCause.RULE,
    Reason.HELD_CONFLICT: MissingCause.RULE,
    Reason.WRONG_CHANNEL: MissingCause.RULE,
    Reason.REJECTED_SUSPECT: MissingCause.RULE,
    Reason.REJECTED_BY_ANALYST: MissingCause.RULE,
    Reason.FUTURE: MissingCause.NOT_DUE,
    Reason.OUTSIDE_ACTIVE_PERIOD: MissingCause.NOT_DUE,
    Reason.NO_INSTALLATION: MissingCause.NO_METER,
    Reason.METER_SWAP: MissingCause.NO_METER,
}
_CODES = list(MissingCause)
_GAP = _CODES.index(MissingCause.GAP)
_CODE_OF_REASON = np.full(256, _GAP, np.uint8)
for _reason, _cause in _BY_REASON.items():
    _CODE_OF_REASON[_reason] = _CODES.index(_cause)


def with_causes(verdicts: pl.DataFrame, series: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """The verdicts with V01's runs told apart by cause (`detail.cause`); other rules' as they are.

    Args:
        verdicts: of validation. series: validated and judged: what was rejected is missing, too.
        known: KNOWN_SCHEMA.
    """
    missing = series.filter(pl.col("numerators").list.eval(pl.element().is_null()).list.any())
    if missing.is_empty():
        return verdicts
    told: dict[tuple[int, object], list[tuple[int, int, str]]] = {}
    for uc_id, day, first, last, cause in known.select(list(KNOWN_SCHEMA)).iter_rows():
        told.setdefault((uc_id, day), []).append((first, last, cause))
    rows: list[tuple[object, ...]] = []
    for part in split_by_slots(missing):
        matrix = to_matrix(part)
        codes = _CODE_OF_REASON[matrix.reason]
        for row in range(len(matrix)):
            uc_id, day = int(matrix.uc_id[row]), matrix.day_of(row)
            for first, last, cause in told.get((uc_id, day), []):
                here = slice(max(first, 0), last + 1)
                is_open = matrix.reason[row, here] == Reason.NOT_RECEIVED
                codes[row, here][is_open] = _CODES.index(MissingCause(cause))
            received = int(matrix.known[row].sum())
            marked = np.where(matrix.known[row], len(_CODES), codes[row])
            edges = np.flatnonzero(np.diff(marked, prepend=-1, append=-1))
            for first, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
                if marked[first] < len(_CODES):
                    detail = {
                        "cause": _CODES[marked[first]].value,
                        "expected": matrix.slots,
                        "received": received,
                    }
                    text = orjson.dumps(detail).decode()
                    rows.append((uc_id, day, "V01", first, end - 1, Result.MISSING.value, text))
    counted = pl.DataFrame(rows, schema=VERDICT_SCHEMA, orient="row")
    return pl.concat([verdicts.filter(pl.col("rule") != "V01"), counted]).sort(
        "uc_id", "day", "rule", "first_slot"
    )


def slots_by_cause(verdicts: pl.DataFrame) -> dict[tuple[int, object], dict[str, int]]:
    """How many intervals each cause keeps away, by UC and day, out of what `with_causes` says."""
    counts: dict[tuple[int, object], dict[str, int]] = {}
    rows = verdicts.filter(pl.col("rule") == "V01").select(
        "uc_id", "day", "first_slot", "last_slot", "detail"
    )
    for uc_id, day, first, last, detail in rows.iter_rows():
        cause = orjson.loads(detail).get("cause")
        if cause is not None:
            of_day = counts.setdefault((uc_id, day), {})
            of_day[cause] = of_day.get(cause, 0) + last - first + 1
    return counts


def cause_rows() -> list[dict[str, str]]:
    """The causes for the manual, with their text in Portuguese."""
    return [{"cause": cause.value, "text_pt": TEXTS[cause]} for cause in MissingCause]
