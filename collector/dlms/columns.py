"""What the columns of a load profile hold, by what they capture, what they state and the meter's model. Pure.

The decoder makes readings with it, and the trace shows their octets by the same choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from fractions import Fraction

from protocols.acquisition import Holds, StatedColumn, energy_of_power
from protocols.dlms.axdr import Data
from protocols.dlms.models import Channel, DlmsModel
from protocols.dlms.profile import (
    ENERGY_OF_POWER,
    NO_UNIT,
    UNITS,
    VAH,
    VARH,
    WH,
    CaptureObject,
    ProfileRow,
    ScalerUnit,
)

NO_SCALER = "has no scaler"
_ENERGIES = (WH, VAH, VARH)


@dataclass(frozen=True, slots=True)
class Column:
    """The column of a channel.

    Attributes:
        place: in the profile, from 0.
        scale: what one raw unit is: Wh (varh, VAh), or W (var, VA) of an average; pulses of a plain count.
    """

    channel: Channel
    place: int
    captured: CaptureObject
    scaler: ScalerUnit
    holds: Holds
    scale: Fraction
    pulse_wh: Fraction

    @property
    def name(self) -> str:
        return self.captured.obis

    def energy_wh(self, amount: Fraction | int, length_s: int) -> Fraction:
        """Energy of an interval: of what the column says of it, or of what its total has grown by."""
        value = amount * self.scale
        return energy_of_power(value, length_s) if self.holds is Holds.AVERAGE else value

    def stated(self, refused: str = "", told_wh: Fraction | None = None) -> StatedColumn:
        """As the session states it.

        A column of energy says itself what it holds, and was converted by that into pulses of the model. One
        of plain counts does not: its constant is the one that the meter tells elsewhere, or is not known.

        Args:
            told_wh: energy of one pulse by the meter's own constant; None: it tells none.
        """
        constant = told_wh if self.scaler.unit == NO_UNIT else self.pulse_wh
        return _stated(self.channel, self.captured, self.scaler, self.holds, constant, refused)


@dataclass(frozen=True, slots=True)
class Choice:
    """What was found for one channel: its column, if any, and the ones that are not used, with the reason."""

    column: Column | None
    refused: tuple[StatedColumn, ...]


def choose(
    channel: Channel,
    columns: Sequence[CaptureObject],
    scalers: Mapping[str, ScalerUnit],
    model: DlmsModel,
) -> Choice:
    """The first of a channel's objects that is captured and states the energy that its code is of.

    A column with another `data_index` than the model's is an older value, and no column of the channel.
    """
    refused: list[StatedColumn] = []
    for wanted in channel.objects:
        for place, captured in enumerate(columns):
            if captured.obis != wanted or captured.attribute != captured.value_attribute:
                continue
            scaler, reason = scalers.get(captured.obis), ""
            if captured.data_index != model.data_index:
                reason = f"captured with data_index {captured.data_index}: not the present value"
            elif captured.holds is None:
                reason = "its code is neither energy nor an average power over a period that is over"
            elif scaler is None:
                reason = NO_SCALER
            else:
                reason = unit_problem(captured, scaler)
            if not reason:
                assert scaler is not None
                assert captured.holds is not None
                scale = scale_of(scaler, model)
                return Choice(
                    Column(channel, place, captured, scaler, captured.holds, scale, model.pulse_wh),
                    tuple(refused),
                )
            holds = captured.holds or Holds.INCREMENT
            refused.append(_stated(channel, captured, scaler, holds, None, reason))
    return Choice(None, tuple(refused))


def unit_problem(captured: CaptureObject, scaler: ScalerUnit) -> str:
    """Why a unit is not the one of its code, or "": energy is of the kind that the code names, power too.

    What has no unit (255) counts pulses; an average of them is nothing.
    """
    is_average = captured.holds is Holds.AVERAGE
    if scaler.unit == NO_UNIT and not is_average:
        return ""
    energy = ENERGY_OF_POWER.get(scaler.unit) if is_average else scaler.unit
    what = "average power" if is_average else "energy"
    if energy not in _ENERGIES:
        return f"its unit is {_unit(scaler)}, and its code is one of {what}"
    if captured.energy_unit not in (None, energy):
        of = UNITS[captured.energy_unit or energy].removesuffix("h" if is_average else "")
        return f"its unit is {_unit(scaler)}, and its code is one of {what} in {of}"
    return ""


def _unit(scaler: ScalerUnit) -> str:
    return scaler.unit_name or "none"


def scale_of(scaler: ScalerUnit, model: DlmsModel) -> Fraction:
    """What one raw unit is; counts of no energy are pulses themselves, whatever their scaler."""
    return model.pulse_wh if scaler.unit == NO_UNIT else Fraction(10) ** scaler.scaler


def _stated(
    channel: Channel,
    captured: CaptureObject,
    scaler: ScalerUnit | None,
    holds: Holds,
    constant: Fraction | None,
    refused: str,
) -> StatedColumn:
    index = f", data_index {captured.data_index}" if captured.data_index else ""
    return StatedColumn(
        channel=channel.channel,
        quantity=channel.quantity,
        name=f"{captured.obis} attribute {captured.attribute}{index}",
        holds=holds,
        unit="" if scaler is None else scaler.unit_name,
        scaler=None if scaler is None else scaler.scaler,
        constant=constant,
        refused=refused,
    )


def row_flags(row: ProfileRow, columns: Sequence[CaptureObject], model: DlmsModel) -> frozenset[str]:
    """Names of the flags that a row's status columns set; a null stands for the word above it."""
    words = [
        status_word(value)
        for column, value in zip(columns, row.values, strict=True)
        if column.obis in model.status_objects
    ]
    return frozenset(name for word in words for mask, name in model.status_flags.items() if word & mask)


def status_word(value: Data) -> int:
    """A status column as a number, whatever type carries it."""
    raw = value.value
    if isinstance(raw, bytes):
        return int.from_bytes(raw, "big")
    if isinstance(raw, str):
        return int(raw, 2) if raw and set(raw) <= {"0", "1"} else 0
    return raw if isinstance(raw, int) else 0


def local_time(row: ProfileRow, zone: tzinfo) -> datetime:
    """The moment of a row, naive, as the meter's clock has it."""
    return row.clock.at.astimezone(zone).replace(tzinfo=None)
