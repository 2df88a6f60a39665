"""What the times of a DLMS session rest on: drift, deviation, summer time, and where they disagree. Pure.

The facts are stated here; `collector.decoded.ClockFacts` carries them to the gate, which judges them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone

from collector.decoded import ClockDoubt, ClockFacts, ClockReading
from protocols.dlms.axdr import Data
from protocols.dlms.clock import (
    ClockReading as Told,
)
from protocols.dlms.clock import (
    DaylightSaving,
    decode_date_time,
    decode_unix_time,
)
from protocols.dlms.errors import RemoteProtocolError
from protocols.dlms.models import DlmsModel
from protocols.dlms.profile import ProfileRow

_HOUR_S = 3600
# A clock that is right but for its zone or summer time is that near, whatever it drifts.
_NEAR_S = 900


class Times:
    """Takes the clock and the rows of one session."""

    def __init__(self, model: DlmsModel, zone: timezone) -> None:
        self._model = model
        self._zone = zone
        self._octets = ""
        self._told: Told | None = None
        self._deviations: set[int | None] = set()
        self._has_summer_rows = False
        self.reading: ClockReading | None = None
        self._heard_at: datetime | None = None

    def take_clock(self, value: Data, sent_at: datetime, received_at: datetime) -> Told | None:
        """The first look at the clock counts.

        Returns:
            What it says; None where it was looked at before, or says no time.

        Raises:
            RemoteProtocolError: it is a date-time of no moment.
        """
        if self._told is not None:
            return None
        if isinstance(value.value, bytes):
            told = decode_date_time(value.value, self._zone, self._model.clock_rules)
            self._octets = value.value.hex(" ")
        elif isinstance(value.value, int) and not isinstance(value.value, bool):
            try:
                told = decode_unix_time(value.value)
            except RemoteProtocolError:
                return None  # a number that is no time
            self._octets = str(value.value)
        else:
            return None
        round_trip = received_at - sent_at
        drift_s = (told.at - (sent_at + round_trip / 2)).total_seconds()
        self.reading = ClockReading(told.at, drift_s, round_trip.total_seconds())
        self._told, self._heard_at = told, received_at
        return told

    def take_row(self, row: ProfileRow) -> None:
        """Look at the clock of a row, where it states one."""
        if row.has_clock:
            self._deviations.add(row.clock.deviation_min)
            self._has_summer_rows |= self._is_undecided(row.clock)

    def latest_end(self, received_at: datetime) -> datetime:
        """No period has ended later than our clock and the meter's own say, which tells whole seconds."""
        latest = received_at
        if self.reading is not None and self._heard_at is not None:
            told = self.reading.meter_time + (received_at - self._heard_at) + timedelta(seconds=1)
            latest = max(latest, told)
        return latest.astimezone(self._zone).replace(tzinfo=None)

    def facts(self) -> ClockFacts | None:
        """None where neither clock nor rows said anything."""
        told = self._told
        if told is None and not self._deviations:
            return None
        doubts, shift_s = self._doubts()
        stated = tuple(sorted(self._deviations, key=lambda one: (one is None, one or 0)))
        return ClockFacts(
            told=self._octets,
            deviation_min=None if told is None else told.deviation_min,
            zone_deviation_min=self._zone_deviation_min,
            is_daylight_saving=told is not None and told.is_daylight_saving,
            is_invalid=told is not None and told.is_invalid,
            is_doubtful=told is not None and told.is_doubtful,
            has_other_base=told is not None and told.has_other_base,
            row_deviations_min=stated,
            doubts=doubts,
            likely_shift_s=shift_s,
        )

    @property
    def _zone_deviation_min(self) -> int:
        return -int(self._zone.utcoffset(None).total_seconds() // 60)

    def _is_undecided(self, told: Told) -> bool:
        is_open = told.is_daylight_saving and told.deviation_min is None
        return is_open and self._model.daylight_saving is DaylightSaving.UNDECIDED

    def _doubts(self) -> tuple[tuple[ClockDoubt, ...], int | None]:
        """In what the meter disagrees, and what would most likely put its times right."""
        doubts: list[ClockDoubt] = []
        told, shift_s = self._told, None
        drift_s = 0.0 if self.reading is None else self.reading.drift_s
        if told is not None and told.is_invalid:
            doubts.append(ClockDoubt.INVALID)
        if told is not None and told.deviation_min is not None:
            # What the digits would be off by if they were the site's own time.
            off_s = (self._zone_deviation_min - told.deviation_min) * 60
            if off_s and abs(drift_s + off_s) <= _NEAR_S < abs(drift_s):
                doubts.append(ClockDoubt.DEVIATION)
                shift_s = off_s
        if self._has_summer_rows or (told is not None and self._is_undecided(told)):
            doubts.append(ClockDoubt.DAYLIGHT_SAVING)
            if abs(drift_s - _HOUR_S) <= _NEAR_S:
                shift_s = -_HOUR_S
        own = None if told is None else told.deviation_min
        if own and self._contradict(own, self._deviations):
            doubts.append(ClockDoubt.ROWS)
        return tuple(doubts), shift_s

    @staticmethod
    def _contradict(own: int, rows: Iterable[int | None]) -> bool:
        """Whether a row has the sign of the clock's deviation inverted."""
        return any(row is not None and row == -own for row in rows)
