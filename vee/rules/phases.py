"""Phases: V13, one that carries too little; V22, one that is dead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vee.frames import Mask
from vee.layers.validation import PHASE_LOSS_FACTORS
from vee.parameters import bounded
from vee.rules.base import DayRows, Found, NotJudged, RuleParams


@dataclass(frozen=True)
class WeakPhaseParams(RuleParams):
    """Parameters of V13.

    Attributes:
        voltage_share: a phase below this share of the highest voltage is weak.
        current_share: a phase below this share of the highest current, with all voltages there, is weak.
        min_samples: so many samples of the day must say so: one alone may be a machine that just started.
        days: where the day has fewer, the last ones of so many days together, all of them, of the same phase.
    """

    voltage_share: float = bounded(0.8, low=0, high=1)
    current_share: float = bounded(0.05, low=0, high=1)
    min_samples: int = bounded(3, low=1)
    days: int = bounded(3, low=1, high=3)


def v13_weak_phase(rows: DayRows, params: WeakPhaseParams) -> Iterator[Found | NotJudged]:
    """Table `engineering`: see `inputs.ENGINEERING_SCHEMA`; one row a sample of the meter's phases."""
    has = rows.has_rows("engineering")
    if not has.all():
        yield NotJudged(~has, "no_phases")
    oldest = -(params.days - 1) * rows.slots
    seen: dict[int, list[tuple[int, str]]] = {}
    for row, entry in rows.table("engineering"):
        if oldest <= entry["slot"] < rows.slots:
            seen.setdefault(row, []).append((entry["slot"], _weak_word(entry, params)))
    weak = {row: found for row, samples in seen.items() if (found := _weak(samples, params.min_samples))}
    if not weak:
        return
    mask = rows.none()
    for row, samples in weak.items():
        slots = [max(slot, 0) for slot, _ in samples]
        mask[row, min(slots) : max(slots) + 1] = True
    mask &= rows.measured
    yield Found(
        mask,
        lambda row, first, last: {
            "samples": len(weak[row]),
            "phases": sorted({word for _, word in weak[row]}),
        },
        # A third of what a three-element meter sees is one phase: what is missing is about half of the rest.
        lambda row, first, last: rows.energy(row, first, last) / 2,
    )


def _weak(samples: list[tuple[int, str]], wanted: int) -> list[tuple[int, str]]:
    """Samples that accuse a phase: enough of the day itself, or the last ones without one that differs."""
    own = [sample for sample in samples if sample[0] >= 0 and sample[1]]
    if len(own) >= wanted or not own:
        return own
    last = sorted(samples)[-wanted:]
    return last if len(last) == wanted and {word for _, word in last} == {own[-1][1]} else []


def _weak_word(entry: dict[str, float | None], params: WeakPhaseParams) -> str:
    """`voltage 2` or `current 3`; empty where all phases are as they should be, or not known."""
    for quantity, share in (("voltage", params.voltage_share), ("current", params.current_share)):
        unit = "v" if quantity == "voltage" else "a"
        values = {k: entry[f"{quantity}_{k}_{unit}"] for k in (1, 2, 3)}
        known = {k: value for k, value in values.items() if value is not None}
        highest = max(known.values(), default=0.0)
        low = [k for k, value in known.items() if value < share * highest]
        # Several phases without current are a load on one phase; a single one is a lost TC.
        if len(known) >= 2 and len(low) == 1:
            return f"{quantity} {low[0]}"
    return ""


@dataclass(frozen=True)
class DeadPhaseParams(RuleParams):
    """Parameters of V22: none but what follows. A proven loss that rule C covers is no suspect."""


def v22_dead_phase(rows: DayRows, params: DeadPhaseParams) -> Iterator[Found | NotJudged]:
    """Table `phase_loss`: `validation.PHASE_LOSS_SCHEMA`; `phases_told`: of whom it would be known.

    A proven loss with a factor of rule C is corrected and sent as adjusted (estimation); one that is not
    proven, or for which the annex has no factor, is in the measured values as it stands.
    """
    told = rows.has_rows("phase_loss") | rows.has_rows("phases_told")
    if not told.all():
        yield NotJudged(~told, "no_phases")
    losses: dict[int, dict[str, object]] = {}
    mask = rows.none()
    slots = np.arange(rows.slots)
    for row, entry in rows.table("phase_loss"):
        factor = PHASE_LOSS_FACTORS.get((entry["element_count"], entry["phases_lost"]))
        if entry["is_proven"] and factor is not None:
            continue
        span: Mask = (slots >= entry["first_slot"]) & (slots <= entry["last_slot"])
        mask[row] |= span & rows.measured[row]
        losses[row] = {
            "elements": entry["element_count"],
            "phases_lost": entry["phases_lost"],
            "is_proven": entry["is_proven"],
            "proof": entry["proof"],
            "factor": None if factor is None else str(factor),
        }
    if mask.any():
        yield Found(
            mask,
            lambda row, first, last: losses[row],
            lambda row, first, last: rows.energy(row, first, last) / 2,
        )
