"""Words of a mass memory that are no counts, set aside before they become readings (section 8.2). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collector.decoded import DayVector, HeldVector
from protocols.nbr14522.memory import SIGN_BIT, WORD_LIMIT
from protocols.nbr14522.profile import MeterProfile
from storage.review.holds import HoldReason

_ALL_ONES = WORD_LIMIT - 1
_SAID = {
    _ALL_ONES: "words of nothing but ones, as memory that was never written holds",
    SIGN_BIT: "words with their twelfth bit set: a sign, or a count above 2047",
}


def set_aside(vector: DayVector, profile: MeterProfile) -> tuple[DayVector | None, list[HeldVector]]:
    """A vector without the slots that hold patterns, and those.

    A word of nothing but ones is never a count. One with bit 11 set is what the profile says it is: a sign, a
    count, or, where it says neither, a question.
    """
    ones_word = SIGN_BIT - _ALL_ONES if profile.sign_bit else _ALL_ONES
    ones = vector.present & (vector.pulses == ones_word)
    signs: NDArray[np.bool_] = np.zeros_like(ones)
    if not profile.sign_bit and not profile.counts_above_2047:
        signs = vector.present & (vector.pulses >= SIGN_BIT) & ~ones
    if not (ones.any() or signs.any()):
        return vector, []
    held = list(_held(vector, ((ones, _ALL_ONES), (signs, SIGN_BIT))))
    present = vector.present & ~ones & ~signs
    return (replace(vector, present=present) if present.any() else None), held


def _held(vector: DayVector, kinds: tuple[tuple[NDArray[np.bool_], int], ...]) -> Iterator[HeldVector]:
    for mask, kind in kinds:
        if mask.any():
            slots = np.flatnonzero(mask)
            evidence: dict[str, Any] = {
                "words": _SAID[kind],
                "intervals": len(slots),
                "first_slot": int(slots[0]),
                "last_slot": int(slots[-1]),
                "largest": int(vector.pulses[slots].max()),
            }
            yield HeldVector(replace(vector, present=mask), HoldReason.PATTERN, evidence)
