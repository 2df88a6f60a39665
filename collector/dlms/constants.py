"""The meter's own constants: energy of a pulse, and ratios of the transformers it was told of. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from protocols.dlms.axdr import Data
from protocols.dlms.models import DlmsModel
from protocols.dlms.profile import PER_WH, ScalerUnit, decode_scaler_unit, number_of


class Constants:
    """Takes what a session brings of them."""

    def __init__(self, model: DlmsModel) -> None:
        self._model = model
        self._ratios: dict[str, int | Fraction | None] = {}
        self._constant: int | Fraction | None = None
        self._scaler: ScalerUnit | None = None

    def take(self, obis: str, index: int, value: Data) -> bool:
        """Take an attribute; whether it is one of theirs."""
        if obis in self._model.ratio_objects:
            self._ratios[obis] = number_of(value)
        elif obis != self._model.pulse_constant_object:
            return False
        elif index == 3:
            self._scaler = decode_scaler_unit(value)
        else:
            self._constant = number_of(value)
        return True

    @property
    def pulse_wh(self) -> Fraction | None:
        """See `pulse_told_wh`."""
        return pulse_told_wh(self._constant, self._scaler)

    @property
    def ratio(self) -> Fraction | None:
        """See `stated_ratio`."""
        return stated_ratio([self._ratios.get(obis) for obis in self._model.ratio_objects])


def pulse_told_wh(constant: int | Fraction | None, scaler: ScalerUnit | None) -> Fraction | None:
    """Energy of one pulse, Wh, from the meter's constant in pulses per Wh; None: not told in that unit."""
    if not constant or scaler is None or scaler.unit != PER_WH:
        return None
    return 1 / (Fraction(constant) * Fraction(10) ** scaler.scaler)


def stated_ratio(told: Sequence[int | Fraction | None]) -> Fraction | None:
    """Product of the ratios from numerators and denominators in turn.

    None where none of them is told; a ratio that is told by half, or as zero, is no part of it.

    >>> stated_ratio([200, 5, None, None]), stated_ratio([200, None]), stated_ratio([])
    (Fraction(40, 1), None, None)
    """
    found = [Fraction(up) / down for up, down in zip(told[::2], told[1::2], strict=False) if up and down]
    ratio = None
    for one in found:
        ratio = one if ratio is None else ratio * one
    return ratio
