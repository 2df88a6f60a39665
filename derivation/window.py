"""Which days of which part of the fleet one step works on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta


@dataclass(frozen=True)
class Window:
    """What one step works on: days `first_day` to `last_day`, both included, of one part of the fleet."""

    first_day: date
    last_day: date
    shard: int
    shards: int

    @property
    def days(self) -> list[date]:
        return [self.first_day + timedelta(n) for n in range((self.last_day - self.first_day).days + 1)]
