"""Frames at the room's boundary, matrices inside: one row per UC-day, one column per slot.

A series frame has `uc_id Int64, day Date, denominator Int64, numerators List(Int64), origin Binary,
reason Binary`; extra columns are ignored here. Value of slot i is `numerators[i] / denominator` kWh, exact;
missing is null, never zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import polars as pl

from faults import DeveloperFault
from vee.quality import Origin, Reason

I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

INT64_MAX = 2**63 - 1
DEFAULT_INTERVAL_S = 300

SERIES_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "denominator": pl.Int64(),
    "numerators": pl.List(pl.Int64()),
    "origin": pl.Binary(),
    "reason": pl.Binary(),
}
VERDICT_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "rule": pl.String(),
    "first_slot": pl.Int16(),
    "last_slot": pl.Int16(),
    "result": pl.String(),
    "detail": pl.String(),
}
QUARANTINE_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "stage": pl.String(),
    "reason": pl.String(),
    "detail": pl.String(),
}


@dataclass
class SeriesMatrix:
    """A set of UC-days with the same number of slots.

    Attributes:
        uc_id: (n,) int64.
        day: (n,) datetime64[D].
        denominator: (n,) int64, positive.
        numerators: (n, slots) int64; 0 where missing (never read without `known`).
        known: (n, slots) bool; False is missing.
        origin, reason: (n, slots) uint8.
    """

    uc_id: I64
    day: npt.NDArray[np.datetime64]
    denominator: I64
    numerators: I64
    known: Mask
    origin: U8
    reason: U8
    _index: dict[tuple[int, date], int] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.uc_id)

    @property
    def slots(self) -> int:
        return int(self.numerators.shape[1])

    def day_of(self, row: int) -> date:
        day: date = self.day[row].item()
        return day

    def row_of(self, uc_id: int, day: date) -> int | None:
        """Row of a UC-day, or None."""
        if not self._index and len(self):
            pairs = zip(self.uc_id.tolist(), self.day.tolist(), strict=True)
            self._index.update({pair: row for row, pair in enumerate(pairs)})
        return self._index.get((uc_id, day))

    def value(self, row: int, slot: int) -> Fraction | None:
        """Exact kWh of one slot, None when missing."""
        if not self.known[row, slot]:
            return None
        return Fraction(int(self.numerators[row, slot]), int(self.denominator[row]))

    def take(self, rows: npt.NDArray[np.intp] | Mask) -> SeriesMatrix:
        """The given rows, in the given order."""
        return SeriesMatrix(
            self.uc_id[rows],
            self.day[rows],
            self.denominator[rows],
            self.numerators[rows],
            self.known[rows],
            self.origin[rows],
            self.reason[rows],
        )


def empty_series() -> pl.DataFrame:
    """A series frame without rows."""
    return pl.DataFrame(schema=SERIES_SCHEMA)


def split_by_slots(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Sub-frames whose rows all have the same number of slots (old days with summer time have 276 or 300)."""
    lengths = frame["numerators"].list.len()
    for length in sorted(lengths.unique().to_list()):
        yield frame.filter(lengths == length)


def to_matrix(frame: pl.DataFrame) -> SeriesMatrix:
    """Convert a series frame whose rows all have the same number of slots.

    Raises:
        DeveloperFault: rows of different lengths, or quality octets that do not match the slots.
    """
    n = frame.height
    lengths = frame["numerators"].list.len()
    slots = int(lengths[0]) if n else 0
    if n and (lengths.n_unique() != 1 or slots == 0):
        raise DeveloperFault(
            f"rows have {sorted(lengths.unique().to_list())} slots",
            where="vee.frames.to_matrix",
            remedy="split the frame with split_by_slots first",
        )
    flat = frame["numerators"].explode(empty_as_null=True) if n else pl.Series([], dtype=pl.Int64)
    return SeriesMatrix(
        uc_id=frame["uc_id"].to_numpy().astype(np.int64),
        day=frame["day"].to_numpy().astype("datetime64[D]"),
        denominator=frame["denominator"].to_numpy().astype(np.int64),
        numerators=flat.fill_null(0).to_numpy().reshape(n, slots).copy(),
        known=flat.is_not_null().to_numpy().reshape(n, slots).copy(),
        origin=_octets(frame["origin"], n, slots),
        reason=_octets(frame["reason"], n, slots),
    )


def _octets(column: pl.Series, n: int, slots: int) -> U8:
    joined = b"".join(column.to_list())
    if len(joined) != n * slots:
        raise DeveloperFault(
            f"{column.name} has {len(joined)} octets for {n} x {slots} slots", where="vee.frames.to_matrix"
        )
    return np.frombuffer(joined, dtype=np.uint8).reshape(n, slots).copy()


def in_order(
    uc_days: pl.DataFrame, parts: Sequence[pl.DataFrame], empty: pl.DataFrame | None = None
) -> pl.DataFrame:
    """The rows of the parts in the order of `uc_days`; each part keeps that order within itself."""
    filled = [part for part in parts if part.height]
    # One part is the ordinary case, and already in order: gathering lists by a join costs more than a rule.
    if len(filled) == 1 and filled[0].height == uc_days.height:
        return filled[0]
    rows = pl.concat([empty_series() if empty is None else empty, *filled])
    key = ["uc_id", "day"]
    return uc_days.select(key).join(rows, on=key, how="left", maintain_order="left")


def octet_column(name: str, matrix: U8) -> pl.Series:
    """One Binary value per row of an (n, slots) octet matrix."""
    n, slots = matrix.shape
    buffer = np.ascontiguousarray(matrix).tobytes()
    return pl.Series(
        name,
        [buffer[i : i + slots] for i in range(0, n * slots, slots)] if slots else [b""] * n,
        dtype=pl.Binary,
    )


def list_column(name: str, values: I64, known: Mask) -> pl.Series:
    """One List(Int64) value per row, null where not known."""
    n, slots = values.shape
    if n == 0:
        return pl.Series(name, [], dtype=pl.List(pl.Int64))
    flat = pl.DataFrame({"value": values.ravel(), "known": known.ravel()}).select(
        pl.when("known").then("value").alias(name)
    )
    return flat.to_series().reshape((n, slots)).arr.to_list()


def to_frame(matrix: SeriesMatrix) -> pl.DataFrame:
    """Convert back to a series frame, rows in the same order."""
    return pl.DataFrame(
        {
            "uc_id": pl.Series(matrix.uc_id, dtype=pl.Int64),
            "day": pl.Series(matrix.day.astype("datetime64[D]")).cast(pl.Date),
            "denominator": pl.Series(matrix.denominator, dtype=pl.Int64),
            "numerators": list_column("numerators", matrix.numerators, matrix.known),
            "origin": octet_column("origin", matrix.origin),
            "reason": octet_column("reason", matrix.reason),
        },
        schema=SERIES_SCHEMA,
    )


def runs(mask: Mask) -> list[tuple[int, int]]:
    """Runs of True as (first, last), both inclusive.

    >>> runs(np.array([True, True, False, True]))
    [(0, 1), (3, 3)]
    """
    padded = np.concatenate(([False], mask, [False]))
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def max_abs(matrix: I64) -> I64:
    """(n,) largest magnitude per row; 0 for a row without columns."""
    largest: I64 = np.abs(matrix).max(axis=1, initial=0)
    return largest


def set_values(matrix: SeriesMatrix, row: int, values: Mapping[int, Fraction]) -> bool:
    """Write exact values into a row, over its least common denominator.

    Returns:
        False, and nothing written, when the exact row does not fit 64 bits.
    """
    old = int(matrix.denominator[row])
    kept = [slot for slot in np.flatnonzero(matrix.known[row]).tolist() if slot not in values]
    common = math.lcm(old if kept else 1, *(value.denominator for value in values.values()))
    numerators = {slot: int(matrix.numerators[row, slot]) * (common // old) for slot in kept}
    numerators.update(
        {slot: value.numerator * (common // value.denominator) for slot, value in values.items()}
    )
    # Lowest terms: the same values always have the same numerators, whatever the path to them was.
    shared = math.gcd(common, *numerators.values())
    common //= shared
    if common > INT64_MAX or any(abs(number) // shared > INT64_MAX for number in numerators.values()):
        return False
    matrix.denominator[row] = common
    matrix.numerators[row] = 0
    for slot, number in numerators.items():
        matrix.numerators[row, slot] = number // shared
        matrix.known[row, slot] = True
    return True


def clear_row(matrix: SeriesMatrix, row: int) -> None:
    """Make every slot of a row missing: its UC-day is quarantined."""
    matrix.known[row] = False
    matrix.numerators[row] = 0
    matrix.denominator[row] = 1
    matrix.origin[row] = Origin.MISSING
    matrix.reason[row] = Reason.NOT_RECEIVED


def as_fraction(value: object) -> Fraction:
    """Exact value of an int, Decimal, decimal text or Fraction; floats are refused, they are not exact."""
    if isinstance(value, float):
        raise DeveloperFault(
            f"{value!r} is a float", where="vee.frames.as_fraction", remedy="pass an int, a Decimal or text"
        )
    return Fraction(value) if isinstance(value, int | Decimal | Fraction) else Fraction(str(value))
