"""A meter's clock: wall time with an error that grows, until somebody sets it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from simulator.grid import MARKET_ZONE, local_seconds


@dataclass(frozen=True)
class ClockModel:
    """Error of a meter's clock: `offset_s` (positive: fast) at `reference`, growing by `drift_ppm`."""

    reference: datetime
    offset_s: float = 0.0
    drift_ppm: float = 0.0
    zone: timezone = MARKET_ZONE

    def error_s(self, now: datetime) -> float:
        """Meter minus true time at `now`, seconds."""
        return self.offset_s + self.drift_ppm * 1e-6 * (now - self.reference).total_seconds()

    def meter_seconds(self, now: datetime) -> int:
        """What the clock shows at `now`, as local seconds; a meter shows whole seconds only."""
        return int(local_seconds(now, self.zone) + self.error_s(now))

    def set_to(self, meter_seconds: int, now: datetime) -> ClockModel:
        """The clock after somebody set it at `now`; its crystal stays what it is."""
        offset_s = meter_seconds - local_seconds(now, self.zone)
        return ClockModel(now, offset_s, self.drift_ppm, self.zone)

    def true_time(self, meter_seconds: float) -> datetime:
        """The aware instant at which the clock shows `meter_seconds`."""
        shown = meter_seconds - local_seconds(self.reference, self.zone) - self.offset_s
        return self.reference + timedelta(seconds=shown / (1.0 + self.drift_ppm * 1e-6))
