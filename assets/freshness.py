"""Is the newest day there? Said of the day itself, not of the last time that anything was made.

What belongs here: one check on each asset that people wait for in the morning. What does not: how complete a
day is (`checks`), the hour (`pipelines.jobs`).

Not Dagster's freshness policies: they look at the last materialisation of an asset whatever its day, so that
a month of history derived again makes an asset fresh whose yesterday is missing.
"""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta

import dagster as dg

from assets import delivery, series
from assets.collection import READINGS
from assets.partitions import Partitions
from assets.resources import Clock, Metering
from faults import OperatorFault
from storage.database import Database
from storage.submission_states import DELIVERED

CHECK = "newest_day"
# How far back a newest day is looked for.
LOOKED_BACK = 60
PARTITION_TAG = "dagster/partition"
# A run of several days has the last of them here.
RANGE_END_TAG = "dagster/asset_partition_range_end"

# The newest day of each, at most that of the partitions; read from the newest end, so age costs nothing.
_NEWEST: Mapping[str, str] = {
    READINGS: "SELECT max(day) FROM reading_day WHERE day <= %(day)s AND day > %(first_day)s",
    series.LAYERS[-1]: (
        "SELECT max(day) FROM uc_day_outcome WHERE state = 'ready' AND day <= %(day)s AND day > %(first_day)s"
    ),
    delivery.NAME: (
        "SELECT max(day) FROM submission_state WHERE state = ANY(%(delivered)s) AND day <= %(day)s "
        "AND day > %(first_day)s"
    ),
}
_DESCRIPTIONS = {
    READINGS: "Há leituras do dia mais novo que já acabou.",
    series.LAYERS[-1]: "Há UC-dias prontos do dia mais novo que já acabou.",
    delivery.NAME: "A CCEE aceitou UC-dias do dia mais novo que já acabou.",
}
ASSETS = tuple(_NEWEST)


def build(partitions: Partitions) -> list[dg.AssetChecksDefinition]:
    """The checks; they run with each run of their asset, and in the morning by themselves."""
    return [_check_of(asset, partitions) for asset in ASSETS]


def _check_of(asset: str, partitions: Partitions) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name=f"{CHECK}_of_{asset}",
        specs=[dg.AssetCheckSpec(CHECK, asset=asset, description=_DESCRIPTIONS[asset])],
    )
    def newest_day(
        context: dg.AssetCheckExecutionContext, metering: Metering, clock: Clock
    ) -> Iterator[dg.AssetCheckResult]:
        wanted = partitions.latest_day(clock.as_of())
        with metering.open() as db:
            day = _newest(db, asset, wanted)
        partition = context.run.tags.get(PARTITION_TAG) or context.run.tags.get(RANGE_END_TAG, "")
        # A run for another day is not to blame for the newest one.
        is_about_it = not partition or partitions.day_of(partition) == wanted
        yield dg.AssetCheckResult(
            asset_key=asset,
            check_name=CHECK,
            passed=day == wanted,
            severity=dg.AssetCheckSeverity.ERROR if is_about_it else dg.AssetCheckSeverity.WARN,
            metadata={
                "newest_day": str(day or f"nenhum em {LOOKED_BACK} dias"),
                "wanted_day": str(wanted),
                "days_late": (wanted - day).days if day else LOOKED_BACK,
            },
        )
        if day != wanted and not partition:  # The morning's look: red, so that somebody is told.
            raise OperatorFault(
                f"the newest day is {day}" if day else f"nothing within {LOOKED_BACK} days",
                where=f"{asset}, {wanted}",
                remedy=f"smf run daily --day {wanted}; smf status --day {wanted} names who must act",
            )

    return newest_day


def _newest(db: Database, asset: str, until: date) -> date | None:
    named = {
        "day": until,
        "first_day": until - timedelta(days=LOOKED_BACK),
        "delivered": [state.value for state in DELIVERED],
    }
    with db.connect() as conn:
        row = conn.execute(_NEWEST[asset], named).fetchone()
    return row[0] if row else None
