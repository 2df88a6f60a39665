"""What is about to be sent: V17, hours above the MUSD; V18, how much of the month is not measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vee.parameters import bounded
from vee.quality import Origin
from vee.rules.base import DayRows, Found, NotJudged, RuleParams, Severity


@dataclass(frozen=True)
class MusdParams(RuleParams):
    """Parameters of V17: none but what follows. The limit itself is CCEE's (`vee.musd`), and so is the
    policy of a day above it; the rule makes it a verdict beside the others."""

    severity: Severity = Severity.INFO


def v17_musd(rows: DayRows, params: MusdParams) -> Iterator[Found | NotJudged]:
    """Table `musd_hours`: as `musd.check` returns it."""
    mask = rows.none()
    hours: dict[tuple[int, int], dict[str, object]] = {}
    for row, entry in rows.table("musd_hours"):
        if entry["is_rejected"]:
            first = (entry["hour"] - 1) * rows.per_hour
            mask[row, first : first + rows.per_hour] = True
            hours[row, entry["hour"]] = entry
    if not mask.any():
        return

    def of_run(row: int, first: int, last: int) -> list[dict[str, object]]:
        return [
            hours[row, hour]
            for hour in range(first // rows.per_hour + 1, last // rows.per_hour + 2)
            if (row, hour) in hours
        ]

    yield Found(
        mask,
        lambda *run: {
            "hours": len(of_run(*run)),
            "largest_kwh": max(float(str(entry["energy_kwh"])) for entry in of_run(*run)),
            "limit_kwh": float(str(of_run(*run)[0]["limit_kwh"])),
        },
        lambda *run: sum(float(str(entry["energy_kwh"])) for entry in of_run(*run)),
    )


@dataclass(frozen=True)
class ShareParams(RuleParams):
    """Parameters of V18.

    Attributes:
        share: of the month so far, what is not measured may be this much.
        min_slots: and so many slots at least, about three days: a month has to begin somehow.
    """

    severity: Severity = Severity.INFO
    share: float = bounded(0.2, low=0, high=1)
    min_slots: int = bounded(864, low=1)


def v18_estimated(rows: DayRows, params: ShareParams) -> Iterator[Found | NotJudged]:
    """Table `month_counts`: see `inputs.COUNT_SCHEMA`; there are rows for UCs with estimates of this day."""
    adjusted = rows.matrix.known & (rows.matrix.origin != Origin.MEASURED)
    shares: dict[int, dict[str, object]] = {}
    for row, entry in rows.table("month_counts"):
        here = int(adjusted[row].sum())
        total = entry["adjusted"] + here
        slots = entry["slots"] + rows.slots
        if here and total >= params.min_slots and total > params.share * slots:
            shares[row] = {"adjusted": total, "slots": slots, "share": round(total / slots, 4)}
    if not shares:
        return
    mask = rows.none()
    mask[list(shares)] = adjusted[list(shares)]
    yield Found(
        mask,
        lambda row, first, last: shares[row],
        lambda row, first, last: float(np.where(mask[row], rows.kwh[row], 0.0)[first : last + 1].sum()),
    )
