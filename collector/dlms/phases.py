"""Voltages and currents of the phases in a load profile, as channels beside those of energy. Pure.

No energy is made of them: rules compare the phases with one another (V13, V22). Counts are hundredths of a
volt and thousandths of an ampere, so that phases whose registers have different scalers compare.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from fractions import Fraction

from collector.decoded import DayVector
from collector.dlms.intervals import Intervals, vectors_by_day
from collector.dlms.rows import Row
from protocols.acquisition import is_all_ones
from protocols.dlms.axdr import Data
from protocols.dlms.models import AllOnes, Channel, DlmsModel
from protocols.dlms.profile import BITS, UNITS, CaptureObject, ScalerUnit, number_of

_PER_UNIT = {"V": 100, "A": 1000}
_MOST = (1 << 31) - 1


def phase_vectors(
    columns: Sequence[CaptureObject], scalers: Mapping[str, ScalerUnit], rows: Sequence[Row], model: DlmsModel
) -> Iterator[DayVector]:
    """Day vectors of the phase columns that are captured; what states no volts or amperes is none of them.

    Args:
        rows: on the grid, good, by their end.
    """
    for channel in model.phase_channels:
        place = _place(channel, columns, model)
        scaler = None if place is None else scalers.get(columns[place].obis)
        per_unit = None if scaler is None else _PER_UNIT.get(UNITS.get(scaler.unit, ""))
        if place is None or scaler is None or per_unit is None:
            continue
        scale = Fraction(10) ** scaler.scaler * per_unit
        counts: dict[tuple[datetime, int], int] = {}
        for row in rows:
            value = _value(row, place, model)
            if value is not None and row.length_s is not None and 0 <= value * scale <= _MOST:
                counts[row.end, row.length_s] = round(value * scale)
        yield from vectors_by_day(channel, Intervals(counts))


def _place(channel: Channel, columns: Sequence[CaptureObject], model: DlmsModel) -> int | None:
    for wanted in channel.objects:
        for place, captured in enumerate(columns):
            is_value = captured.attribute == captured.value_attribute
            if captured.obis == wanted and is_value and captured.data_index == model.data_index:
                return place
    return None


def _value(row: Row, place: int, model: DlmsModel) -> int | Fraction | None:
    """Nothing where it is null, or the memory was never written."""
    if place in row.profile.nulls:
        return None
    told: Data = row.profile.values[place]
    value = number_of(told)
    bits = BITS.get(told.tag) if model.all_ones is AllOnes.MISSING else None
    if bits is not None and isinstance(value, int) and is_all_ones(value, bits):
        return None
    return value
