"""Partitions: by day and shard, and by month. Never by meter (a run costs 0.36 s each).

https://docs.dagster.io/guides/build/partitions-and-backfills
The day is the market's: zone -03:00 without daylight saving, as IANA's Etc/GMT+3 (its sign is inverted by
POSIX tradition). The latest partition is yesterday; today's readings land in the database without one.
A shard is a part of the fleet by a hash of the UC (storage): steps of one day can run on several machines.
Where there is one shard, as in nearly every installation, keys are plain days.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby

import dagster as dg

from derivation.window import Window
from faults import OperatorFault
from faults.market_time import fixed_offset
from storage.settings import Settings

DAY = "day"
SHARD = "shard"


def iana_zone(market_zone: str) -> str:
    """The name under which Dagster knows a fixed offset: `-03:00` is `Etc/GMT+3`."""
    hours, minutes = int(market_zone[1:3]), market_zone[4:6]
    if minutes != "00":
        raise OperatorFault(
            f"{market_zone!r} is not a whole number of hours",
            where="[market] zone",
            remedy="days are partitioned by whole-hour offsets only",
        )
    if not hours:
        return "Etc/GMT"
    return f"Etc/GMT{'+' if market_zone.startswith('-') else '-'}{hours}"


@dataclass(frozen=True)
class Partitions:
    """Which partitions there are.

    Args:
        first_day: first day with a partition.
        zone: fixed offset of market time, `-03:00`.
        shards: parts of the fleet.
    """

    first_day: date
    zone: str = "-03:00"
    shards: int = 1

    @classmethod
    def of(cls, settings: Settings) -> Partitions:
        """Raises OperatorFault when `[dagster] first_day` is no date."""
        try:
            first_day = date.fromisoformat(settings.dagster.first_day)
        except ValueError as error:
            raise OperatorFault(
                f"{settings.dagster.first_day!r} is not a date",
                where="[dagster] first_day",
                remedy="write YYYY-MM-DD",
            ) from error
        return cls(first_day, settings.market.zone, settings.dagster.shards)

    @property
    def iana_zone(self) -> str:
        return iana_zone(self.zone)

    @property
    def daily(self) -> dg.PartitionsDefinition:
        days = dg.DailyPartitionsDefinition(
            start_date=self.first_day.isoformat(), timezone=self.iana_zone, end_offset=0
        )
        if self.shards == 1:
            return days
        shards = dg.StaticPartitionsDefinition([str(n) for n in range(self.shards)])
        return dg.MultiPartitionsDefinition({DAY: days, SHARD: shards})

    @property
    def monthly(self) -> dg.MonthlyPartitionsDefinition:
        return dg.MonthlyPartitionsDefinition(
            # end_offset 1: the closing of a month is prepared while the month runs.
            start_date=self.first_day.replace(day=1).isoformat(),
            timezone=self.iana_zone,
            end_offset=1,
        )

    def key(self, day: date, shard: int = 0) -> str:
        if self.shards == 1:
            return day.isoformat()
        return dg.MultiPartitionKey({DAY: day.isoformat(), SHARD: str(shard)})

    def day_of(self, key: str) -> date:
        return date.fromisoformat(_parts(key)[DAY])

    def keys(self, day: date) -> list[str]:
        """All shards of a day."""
        return [self.key(day, shard) for shard in range(self.shards)]

    def latest_day(self, now: datetime) -> date:
        """The last day that is over, in market time."""
        return now.astimezone(fixed_offset(self.zone)).date() - timedelta(days=1)

    def windows(self, keys: Iterable[str]) -> list[Window]:
        """The fewest windows that cover `keys`: days that follow each other, one shard each."""
        cells = sorted((int(part[SHARD]), date.fromisoformat(part[DAY])) for part in map(_parts, keys))
        # Days that follow each other have the same distance to their position.
        runs = groupby(enumerate(cells), key=lambda item: (item[1][0], item[1][1].toordinal() - item[0]))
        found = []
        for (shard, _), run in runs:
            days = [day for _, (_, day) in run]
            found.append(Window(days[0], days[-1], shard, self.shards))
        return found


def _parts(key: str) -> Mapping[str, str]:
    if isinstance(key, dg.MultiPartitionKey):
        return key.keys_by_dimension
    day, _, shard = key.partition("|")  # Dimensions are joined in the order of their names.
    return {DAY: day, SHARD: shard or "0"}
