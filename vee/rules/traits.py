"""What is kept of a day besides its shape, for later days to be compared with: its longest run of equal
counts, fingerprints of its parts, and its reactive count per active count."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vee.frames import Mask
from vee.rules.base import F64, DayRows

I64 = npt.NDArray[np.int64]
# Counts below this repeat by themselves.
RUN_PULSES = 100
# A day is kept in so many parts: three hours each.
BLOCKS = 8
# A part or window in which the count changes by less than this from slot to slot, in the mean, has no mark:
# a steady load repeats itself.
LEAST_CHANGE = 3


def run_lengths(same: Mask) -> I64:
    """(n, slots): slots of the run of equal ones up to each slot; `same`: equal to the one before."""
    n, gaps = same.shape
    place = np.arange(1, gaps + 1, dtype=np.int16)
    begins = np.where(same, np.int16(0), place)
    np.maximum.accumulate(begins, axis=1, out=begins)
    lengths = np.ones((n, gaps + 1), np.int64)
    lengths[:, 1:] = place - begins + 1
    return lengths


def equal_neighbours(rows: DayRows, least: int) -> Mask:
    """(n, slots - 1): the same value of at least `least` pulses as in the slot before, both measured."""
    numbers, is_enough = rows.matrix.numerators, rows.counts >= least
    same: Mask = numbers[:, 1:] == numbers[:, :-1]
    same &= is_enough[:, 1:] & is_enough[:, :-1]
    return same


def longest_runs(rows: DayRows) -> I64:
    """(n,) slots of the longest run of equal counts that are worth a look."""
    return rows.once("runs", lambda one: run_lengths(equal_neighbours(one, RUN_PULSES)).max(axis=1))


def _multipliers(count: int) -> npt.NDArray[np.uint64]:
    """Odd numbers of 64 bits, the same for ever: fingerprints are kept."""
    place = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    place = (place ^ (place >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    place = (place ^ (place >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (place ^ (place >> np.uint64(31))) | np.uint64(1)


def windows(counts: I64, length: int) -> tuple[npt.NDArray[np.uint64], Mask]:
    """(n, slots - length + 1) fingerprints of all windows, and which of them vary enough to be unique."""
    places = counts.shape[1] - length + 1
    # Windows of 1, 2, 4 ... counts, each of two halves; those of any length of the ones that add up to it.
    part, size, done = counts.astype(np.uint64), 1, 0
    marks = np.zeros((len(counts), places), np.uint64)
    for factor in _multipliers(length.bit_length()):
        if length & size:
            marks *= factor
            marks += part[:, done : done + places]
            done += size
        part = part[:, :-size] * factor + part[:, size:]
        size *= 2
    change = np.zeros(counts.shape, np.int64)
    np.cumsum(np.abs(counts[:, 1:] - counts[:, :-1]), axis=1, out=change[:, 1:])
    varies: Mask = change[:, length - 1 :] - change[:, :places] >= LEAST_CHANGE * (length - 1)
    gaps = counts < 0
    if gaps.any():
        missing = np.zeros((len(counts), counts.shape[1] + 1), np.int64)
        np.cumsum(gaps, axis=1, out=missing[:, 1:])
        varies &= missing[:, length:] == missing[:, :places]
    return marks, varies


def block_marks(rows: DayRows) -> I64:
    """(n, BLOCKS) fingerprints of the day's parts; 0 where one is not whole, or says too little."""
    return rows.once("marks", _block_marks)


def _block_marks(rows: DayRows) -> I64:
    n, slots = rows.counts.shape
    if slots % BLOCKS:
        return np.zeros((n, BLOCKS), np.int64)
    parts = rows.counts.reshape(n, BLOCKS, -1)
    length = parts.shape[2]
    marks = (parts.astype(np.uint64) * _multipliers(length)).sum(axis=2, dtype=np.uint64)
    change: I64 = np.abs(np.diff(parts, axis=2)).sum(axis=2)
    known: Mask = np.asarray((change >= LEAST_CHANGE * (length - 1)) & (parts >= 0).all(axis=2))
    return np.where(known, marks.view(np.int64), 0)


def reactive_ratios(rows: DayRows) -> F64:
    """(n,) reactive count per active count of whole days; NaN where one of them is not known."""
    return rows.once("reactive", _reactive_ratios)


def _reactive_ratios(rows: DayRows) -> F64:
    ratio = np.full(len(rows), np.nan)
    whole = np.asarray((rows.counts >= 0).all(axis=1))
    for row, entry in rows.table("reactive"):
        active = int(rows.counts[row].sum()) if whole[row] else 0
        if active > 0:
            ratio[row] = entry["pulses"] / active
    return ratio
