"""Several metering points of one UC: layer 1 of each, joined by sign and share, exact.

A UC's energy is the sum over its points of sign x share x energy: two feeders are added, a neighbour behind
the same meter is taken off, a shared feeder counts by a share. Losses belong to a point, while layers 2 to 4
are the UC's; so what a point measures is brought to the level of the UC's reference point (its first one that
adds) by the ratio of their loss factors, and layer 4 applies the reference point's. With every value measured
the result is the sum of each point's energy times its own factor, to the fraction.

A point counts from its first meter to the removal of its last; in between, an interval that it lacks is one
that the UC lacks.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from fractions import Fraction

import numpy as np
import polars as pl

from vee.frames import (
    QUARANTINE_SCHEMA,
    SeriesMatrix,
    empty_series,
    in_order,
    set_values,
    split_by_slots,
    to_frame,
    to_matrix,
)
from vee.layers import primary
from vee.layers.losses import Percentages, Runs, loss_factor
from vee.layers.primary import PrimaryParams, PrimaryResult
from vee.quality import Origin, Reason

_KEY = ["uc_id", "day"]
_Key = tuple[int, date]
_Row = tuple[SeriesMatrix, int]


@dataclass(frozen=True)
class _Point:
    """A point of a UC: what it counts in the sum."""

    point_id: int
    weight: Fraction
    is_reference: bool


def from_pulses(
    readings: pl.DataFrame,
    installations: pl.DataFrame,
    losses: pl.DataFrame,
    uc_days: pl.DataFrame,
    params: PrimaryParams | None = None,
    recovery_sessions: Collection[int] = (),
    loss_mode: str = "product",
) -> PrimaryResult:
    """As `primary.from_pulses`, of UCs with any number of points.

    Args:
        installations: also `point_id, sign (1 | -1), share_num, share_den, is_reference`.
        losses: as `losses.adjust` takes them, also `point_id`.
    """
    params = params or PrimaryParams()
    points = _points(installations) if "point_id" in installations.columns else {}
    if not points:
        return primary.from_pulses(readings, installations, uc_days, params, recovery_sessions)
    is_several = pl.col("uc_id").is_in(list(points))
    plain = primary.from_pulses(
        readings, installations.filter(~is_several), uc_days.filter(~is_several), params, recovery_sessions
    )
    wanted = uc_days.filter(is_several)
    sums = _Sums(points, Percentages(losses, "point_id", params.zone), loss_mode)
    quarantined = [plain.quarantined]
    for point_id in sorted({point.point_id for several in points.values() for point in several}):
        of_point = installations.filter(point_id=point_id)
        mine = wanted.join(of_point.select("uc_id").unique(), on="uc_id", how="semi", maintain_order="left")
        part = primary.from_pulses(readings, of_point, mine, params, recovery_sessions)
        sums.add(point_id, part)
        quarantined.append(part.quarantined)
    main, backup, bad = sums.frames()
    # A UC of several points without any meter on that day: as a plain one would be.
    lacking = wanted.join(main.select(_KEY), on=_KEY, how="anti", maintain_order="left")
    rest = primary.from_pulses(readings, installations.clear(), lacking, params)
    schema_only = empty_series().with_columns(input_version=pl.lit(0, pl.Int32))
    return PrimaryResult(
        main=in_order(uc_days, [plain.main, main, rest.main], schema_only),
        backup=pl.concat([plain.backup, backup]),
        quarantined=pl.concat([*quarantined, bad]),
    )


def reference_losses(losses: pl.DataFrame) -> pl.DataFrame:
    """The losses that layer 4 applies to a UC: those of its reference point."""
    return losses.filter("is_reference") if "is_reference" in losses.columns else losses


def _points(installations: pl.DataFrame) -> dict[int, list[_Point]]:
    """Points by UC, where there are several, or one that does not count plainly."""
    names = ["uc_id", "point_id", "sign", "share_num", "share_den", "is_reference"]
    found: dict[int, list[_Point]] = {}
    for uc_id, point_id, sign, num, den, is_reference in (
        installations.select(names).unique().sort("uc_id", "point_id").iter_rows()
    ):
        found.setdefault(uc_id, []).append(_Point(point_id, sign * Fraction(num, den), is_reference))
    return {
        uc_id: points
        for uc_id, points in found.items()
        if len(points) > 1 or points[0].weight != 1 or not points[0].is_reference
    }


class _Slot:
    """What is known of one slot of a UC while its points are added.

    Attributes:
        parts: points that have a meter there, or had one and will have one again.
        missing: reason of the first of them without a value of its main meter.
        backup: the sum with backup meters before main ones.
    """

    __slots__ = ("backup", "has_backup", "is_unknown", "main", "missing", "origin", "parts", "reason")

    def __init__(self) -> None:
        self.parts = 0
        self.main = self.backup = Fraction(0)
        self.missing: int | None = None
        self.has_backup = self.is_unknown = False
        self.origin, self.reason = int(Origin.MEASURED), int(Reason.MEASURED_OK)

    def add(self, weight: Fraction, main: Fraction | None, second: Fraction | None) -> None:
        self.parts += 1
        if main is not None:
            self.main += weight * main
        self.has_backup |= second is not None
        best = main if second is None else second
        if best is None:
            self.is_unknown = True
        else:
            self.backup += weight * best

    @property
    def is_whole(self) -> bool:
        return self.parts > 0 and self.missing is None


class _Sums:
    """Sums of UC-days, point by point."""

    def __init__(self, points: dict[int, list[_Point]], percentages: Percentages, mode: str) -> None:
        self._points, self._percentages, self._mode = points, percentages, mode
        self._days: dict[_Key, list[_Slot]] = {}
        self._versions: dict[_Key, int] = {}
        self._backed: set[_Key] = set()

    def add(self, point_id: int, part: PrimaryResult) -> None:
        backups = dict(_rows(part.backup))
        versions = dict(zip(part.main.select(_KEY).iter_rows(), part.main["input_version"], strict=True))
        for key, (matrix, row) in _rows(part.main):
            point = next(item for item in self._points[key[0]] if item.point_id == point_id)
            slots = self._days.setdefault(key, [_Slot() for _ in range(matrix.slots)])
            self._versions[key] = max(self._versions.get(key, 0), versions[key])
            if key in backups:
                self._backed.add(key)
            weights = self._weights(point, *key, matrix.slots)
            _add_row(slots, weights, (matrix, row), backups.get(key))

    def _weights(self, point: _Point, uc_id: int, day: date, slots: int) -> list[Fraction]:
        """What a point's kWh count in each slot, at the level of the UC's reference point."""
        reference = next((item for item in self._points[uc_id] if item.is_reference), point)
        mine, theirs = (
            _by_slot(self._percentages.runs(item.point_id, day, slots), slots, self._mode)
            for item in (point, reference)
        )
        return [point.weight * a / b for a, b in zip(mine, theirs, strict=True)]

    def frames(self) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        """Main and backup series, and what has no exact sum in 64 bits."""
        mains = [empty_series().with_columns(input_version=pl.lit(0, pl.Int32))]
        backups, bad = [*mains], pl.DataFrame(schema=QUARANTINE_SCHEMA)
        failed: list[tuple[int, date, str, str, str]] = []
        for key, slots in self._days.items():
            made = self._frame(
                key,
                {at: slot.main for at, slot in enumerate(slots) if slot.is_whole},
                [_state(slot) for slot in slots],
            )
            if made is None:
                reason = "the points' energies have no common 64-bit denominator"
                failed.append((*key, "arithmetic", reason, "{}"))
                lost = (int(Origin.MISSING), int(Reason.NOT_RECEIVED))
                made = self._frame(key, {}, [lost] * len(slots))
            mains += [] if made is None else [made]
            if key in self._backed:
                second = self._frame(
                    key,
                    {
                        n: slot.backup
                        for n, slot in enumerate(slots)
                        if slot.has_backup and not slot.is_unknown
                    },
                    [_backup_state(slot) for slot in slots],
                )
                backups += [] if second is None else [second]
        if failed:
            bad = pl.DataFrame(failed, schema=QUARANTINE_SCHEMA, orient="row")
        return pl.concat(mains), pl.concat(backups), bad

    def _frame(
        self, key: _Key, values: dict[int, Fraction], states: list[tuple[int, int]]
    ) -> pl.DataFrame | None:
        """One row; None where the exact values do not fit."""
        slots = len(states)
        matrix = SeriesMatrix(
            uc_id=np.array([key[0]], np.int64),
            day=np.array([np.datetime64(key[1], "D")]),
            denominator=np.ones(1, np.int64),
            numerators=np.zeros((1, slots), np.int64),
            known=np.zeros((1, slots), np.bool_),
            origin=np.array([[origin for origin, _ in states]], np.uint8),
            reason=np.array([[reason for _, reason in states]], np.uint8),
        )
        if not set_values(matrix, 0, values):
            return None
        return to_frame(matrix).with_columns(input_version=pl.lit(self._versions[key], pl.Int32))


def _add_row(slots: list[_Slot], weights: list[Fraction], main: _Row, backup: _Row | None) -> None:
    matrix, row = main
    for at, (slot, weight) in enumerate(zip(slots, weights, strict=True)):
        value = matrix.value(row, at)
        second = None if backup is None else backup[0].value(backup[1], at)
        reason = int(matrix.reason[row, at])
        if value is None and second is None and reason == Reason.NO_INSTALLATION:
            continue
        slot.add(weight, value, second)
        if value is None:
            slot.missing = reason if slot.missing is None else slot.missing
            continue
        # The least good of the parts names the sum.
        if slot.reason == Reason.MEASURED_OK:
            slot.reason = reason
        if matrix.origin[row, at] != Origin.MEASURED:
            slot.origin = int(matrix.origin[row, at])


def _state(slot: _Slot) -> tuple[int, int]:
    """Origin and reason of the sum of main meters."""
    if slot.is_whole:
        return slot.origin, slot.reason
    reason = int(Reason.NO_INSTALLATION) if slot.missing is None else slot.missing
    return int(Origin.MISSING), reason


def _backup_state(slot: _Slot) -> tuple[int, int]:
    if slot.has_backup and not slot.is_unknown:
        return int(Origin.BACKUP), int(Reason.BACKUP_METER)
    return int(Origin.MISSING), int(Reason.NOT_RECEIVED)


def _rows(frame: pl.DataFrame) -> list[tuple[_Key, _Row]]:
    found: list[tuple[_Key, _Row]] = []
    for part in split_by_slots(frame):
        matrix = to_matrix(part)
        keys = zip(matrix.uc_id.tolist(), matrix.day.tolist(), strict=True)
        found += [(key, (matrix, row)) for row, key in enumerate(keys)]
    return found


def _by_slot(runs: Runs, slots: int, mode: str) -> list[Fraction]:
    """The loss factor of each slot."""
    factors: list[Fraction] = []
    ends = [*(first for first, _ in runs[1:]), slots]
    for (first, percents), end in zip(runs, ends, strict=True):
        factors += [loss_factor(*percents, mode)] * (end - first)
    return factors
