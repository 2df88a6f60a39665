"""What became of each UC-day: ready, incomplete, held or not expected, with the first cause that counts.

A day is `not_expected` when it must not be sent (suspended, outside the active period), `held` when a person
must decide first, `incomplete` when values are missing, else `ready`. Exactly one state per UC-day.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import numpy as np
import orjson
import polars as pl

from vee.frames import SeriesMatrix, split_by_slots, to_matrix
from vee.missing import slots_by_cause
from vee.quality import Cause, Origin, Reason, Result

OUTCOME_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "state": pl.String(),
    "cause": pl.String(),
    "measured": pl.Int16(),
    "backup": pl.Int16(),
    "estimated": pl.Int16(),
    "edited": pl.Int16(),
    "missing": pl.Int16(),
    "energy_kwh": pl.Decimal(38, 3),
    "detail": pl.String(),
}

_Key = tuple[int, date]

# A slot that stays missing names its cause by its reason; the first in this order that occurs is the day's.
_CAUSE_BY_REASON: tuple[tuple[Reason, Cause], ...] = (
    (Reason.HELD_CONFLICT, Cause.HELD_CONFLICT),
    (Reason.WRONG_CHANNEL, Cause.WRONG_CHANNEL),
    (Reason.OMITTED_MUSD, Cause.MUSD_EXCEEDED),
    (Reason.FUTURE, Cause.DAY_NOT_OVER),
    (Reason.NO_INSTALLATION, Cause.NO_INSTALLATION),
)


def outcomes(
    series: pl.DataFrame,
    verdicts: pl.DataFrame,
    unresolved: pl.DataFrame,
    quarantined: pl.DataFrame,
    held: pl.DataFrame | None = None,
    collection_causes: pl.DataFrame | None = None,
    waiting: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """One row per UC-day of `series`, OUTCOME_SCHEMA (`uc_day_outcome` without `run_id`).

    Args:
        series: layer 5 (denominator 1000), every expected UC-day.
        verdicts: of validation and estimation.
        unresolved: of estimation.
        quarantined: of primary, estimation and losses; stages "arithmetic" and "losses" hold the day.
        held: `uc_id, day` that the MUSD policy holds.
        collection_causes: `uc_id, day, cause`: what collection knows of a day without readings
            (`link_failed`), which is more than "no reading".
        waiting: `uc_id, day` with a suspect that nobody has decided.
    """
    blocked = _blocked(verdicts)
    holding = _holding(quarantined, unresolved, held, waiting)
    gaps = _first_cause(unresolved)
    skipped = _skipped(unresolved)
    known_causes = _first_cause(collection_causes) if collection_causes is not None else {}
    away = slots_by_cause(verdicts)
    rows: list[tuple[object, ...]] = []
    for part in split_by_slots(series):
        matrix = to_matrix(part)
        missing_counts, *kinds = [(matrix.origin == origin).sum(axis=1).tolist() for origin in Origin]
        energy = np.where(matrix.known, matrix.numerators, 0).sum(axis=1)
        details = _details(matrix, skipped, away)
        keys = zip(matrix.uc_id.tolist(), matrix.day.tolist(), strict=True)
        for row, key in enumerate(keys):
            missing = missing_counts[row]
            state, cause = "ready", ""
            if key in blocked:
                state, cause = blocked[key]
            elif key in holding:
                state, cause = "held", holding[key]
            elif missing:
                state, cause = _incomplete(matrix, row, gaps.get(key), known_causes.get(key))
            rows.append(
                (
                    *key,
                    state,
                    cause,
                    *(counts[row] for counts in kinds),
                    missing,
                    int(energy[row]),
                    details[row],
                )
            )
    raw = OUTCOME_SCHEMA | {"energy_kwh": pl.Int64()}
    frame = pl.DataFrame(rows, schema=raw, orient="row").with_columns(
        energy_kwh=(pl.col("energy_kwh").cast(pl.Decimal(38, 3)) / 1000).cast(pl.Decimal(38, 3))
    )
    return series.select("uc_id", "day").join(frame, on=["uc_id", "day"], how="left", maintain_order="left")


def _blocked(verdicts: pl.DataFrame) -> dict[_Key, tuple[str, str]]:
    """V15 first: a day that is not expected needs nobody's decision."""
    found: dict[_Key, tuple[str, str]] = {}
    rows = verdicts.filter(pl.col("result") == Result.BLOCKED.value).sort("rule")
    for uc_id, day, rule, detail in rows.select("uc_id", "day", "rule", "detail").iter_rows():
        if rule == "V15":
            suspended = orjson.loads(detail).get("status") == "suspended"
            cause = Cause.SUSPENDED if suspended else Cause.OUTSIDE_ACTIVE_PERIOD
            found.setdefault((uc_id, day), ("not_expected", cause.value))
        else:
            found.setdefault((uc_id, day), ("held", Cause.NO_AGENT.value))
    return found


def _holding(
    quarantined: pl.DataFrame,
    unresolved: pl.DataFrame,
    held: pl.DataFrame | None,
    waiting: pl.DataFrame | None,
) -> dict[_Key, str]:
    mismatch = Cause.REGISTER_MISMATCH.value
    found = _first_cause(unresolved.filter(pl.col("cause") == mismatch))
    for uc_id, day, stage, reason in quarantined.select("uc_id", "day", "stage", "reason").iter_rows():
        if stage == "arithmetic":
            found[uc_id, day] = Cause.ARITHMETIC.value
        elif stage == "losses":
            found[uc_id, day] = reason
    if waiting is not None:
        for uc_id, day in waiting.select("uc_id", "day").iter_rows():
            found.setdefault((uc_id, day), Cause.SUSPECT.value)
    if held is not None:
        for uc_id, day in held.select("uc_id", "day").iter_rows():
            found.setdefault((uc_id, day), Cause.MUSD_EXCEEDED.value)
    return found


def _first_cause(frame: pl.DataFrame) -> dict[_Key, str]:
    found: dict[_Key, str] = {}
    for uc_id, day, cause in frame.select("uc_id", "day", "cause").iter_rows():
        found.setdefault((uc_id, day), cause)
    return found


def _incomplete(
    matrix: SeriesMatrix, row: int, gap_cause: str | None, collection_cause: str | None
) -> tuple[str, str]:
    reasons = set(matrix.reason[row, ~matrix.known[row]].tolist())
    for reason, cause in _CAUSE_BY_REASON:
        if reason in reasons:
            return ("held" if cause is Cause.HELD_CONFLICT else "incomplete"), cause.value
    nothing = not matrix.known[row].any()
    if gap_cause is not None and not (nothing and collection_cause):
        return "incomplete", gap_cause
    if nothing:
        return "incomplete", collection_cause or Cause.NO_READING.value
    return "incomplete", Cause.MEMORY_GAP.value


def _skipped(unresolved: pl.DataFrame) -> dict[_Key, str]:
    """Why a method that somebody approved made nothing."""
    found: dict[_Key, str] = {}
    for uc_id, day, detail in unresolved.select("uc_id", "day", "detail").iter_rows():
        why = orjson.loads(detail).get("skipped")
        if why:
            found.setdefault((uc_id, day), why)
    return found


def _details(
    matrix: SeriesMatrix, skipped: Mapping[_Key, str], away: Mapping[tuple[int, object], dict[str, int]]
) -> list[str]:
    """Slots by reason code, where the day is not simply measured, by what kept the measured ones away, and a
    method that was skipped.

    An estimate hides a gap from the reasons; its cause stays, for whoever has the meter to look after.
    """
    plain = (matrix.reason == Reason.MEASURED_OK).all(axis=1)
    details = ["{}"] * len(matrix)
    for row in np.flatnonzero(~plain).tolist():
        codes, counts = np.unique(matrix.reason[row], return_counts=True)
        pairs = zip(codes.tolist(), counts.tolist(), strict=True)
        by_reason = {Reason(code).name.lower(): count for code, count in pairs}
        detail: dict[str, object] = {"slots_by_reason": by_reason}
        key = int(matrix.uc_id[row]), matrix.day_of(row)
        if key in skipped:
            detail["skipped"] = skipped[key]
        if causes := away.get(key):
            detail["missing_by_cause"] = causes
        details[row] = orjson.dumps(detail).decode()
    return details
