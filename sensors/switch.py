"""Whether schedules and sensors run from the start, and how a person switches one on."""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg

HOW_TO_SWITCH_ON = (
    'Desligado até que alguém o ligue: em Automation, ou todos de uma vez com `[dagster] automation = "on"` '
    "(`SMF_DAGSTER_AUTOMATION=on`)."
)


@dataclass(frozen=True)
class Switch:
    """The setting `[dagster] automation`. A choice made in the interface goes before it."""

    is_on: bool = False

    @property
    def sensors(self) -> dg.DefaultSensorStatus:
        return dg.DefaultSensorStatus.RUNNING if self.is_on else dg.DefaultSensorStatus.STOPPED

    @property
    def schedules(self) -> dg.DefaultScheduleStatus:
        return dg.DefaultScheduleStatus.RUNNING if self.is_on else dg.DefaultScheduleStatus.STOPPED
