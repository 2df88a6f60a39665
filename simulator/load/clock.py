"""Clocks: a meter's own, which goes wrong, and the simulated time in which meters live."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from faults import DeveloperFault
from simulator.load.grid import MARKET_ZONE, local_seconds


@dataclass(frozen=True)
class Slew:
    """A correction in progress: so many seconds in all (negative: backwards), at so many ppm of the time."""

    total_s: float
    since: datetime
    ppm: float

    def done_s(self, now: datetime) -> float:
        """What of it has been corrected by `now`."""
        most = self.ppm * 1e-6 * max((now - self.since).total_seconds(), 0.0)
        return max(-most, min(most, self.total_s))


@dataclass(frozen=True)
class ClockModel:
    """Error of a meter's clock: `offset_s` (positive: fast) at `reference`, growing by `drift_ppm`."""

    reference: datetime
    offset_s: float = 0.0
    drift_ppm: float = 0.0
    zone: timezone = MARKET_ZONE
    slew: Slew | None = None

    def error_s(self, now: datetime) -> float:
        """Meter minus true time at `now`, seconds."""
        slewed = 0.0 if self.slew is None else self.slew.done_s(now)
        return self.offset_s + self.drift_ppm * 1e-6 * (now - self.reference).total_seconds() + slewed

    def meter_seconds(self, now: datetime) -> int:
        """What the clock shows at `now`, as local seconds; a meter shows whole seconds only."""
        return int(local_seconds(now, self.zone) + self.error_s(now))

    def set_to(self, meter_seconds: int, now: datetime) -> ClockModel:
        """The clock after somebody set it at `now`; its crystal stays what it is."""
        offset_s = meter_seconds - local_seconds(now, self.zone)
        return ClockModel(now, offset_s, self.drift_ppm, self.zone)

    def adjusted_by(self, seconds: float, now: datetime, ppm: float) -> ClockModel:
        """The clock that from `now` on runs a little faster or slower until it has made up `seconds`.

        It never jumps and never goes back, so every interval stays whole. A correction still in progress is
        given up.
        """
        return ClockModel(now, self.error_s(now), self.drift_ppm, self.zone, Slew(seconds, now, ppm))


class SettableClock:
    """Simulated time: an instant that can be set, and that runs on from there unless it stands still.

    Safe to set from another thread than the one that reads it.
    """

    def __init__(self, instant: datetime, *, is_running: bool = True) -> None:
        self._is_running = is_running
        self._state = (instant, time.monotonic())
        self.set(instant)

    def __call__(self) -> datetime:
        instant, since = self._state
        return instant + timedelta(seconds=time.monotonic() - since) if self._is_running else instant

    def set(self, instant: datetime) -> None:
        """From now on it is `instant`, which must be aware."""
        if instant.tzinfo is None:
            raise DeveloperFault(
                f"instant {instant} has no zone", where="simulated clock", remedy="add -03:00"
            )
        self._state = (instant, time.monotonic())
