"""Late data: readings of a day that was derived before they came derive it again, with its neighbours.

A gap at midnight is filled from the hours on both sides (rule B), so a day that changes touches the days
before and after it.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from assets.partitions import Partitions
from assets.resources import Clock, Metering
from assets.run_tags import CAUSE_TAG, LATE_DATA, day_tags
from assets.series import AS_OF, LAYERS
from derivation.pending import TouchedDay, touched_days
from sensors.switch import HOW_TO_SWITCH_ON, Switch

NAME = "late_data_sensor"
# A meter's memory comes in blocks over minutes; a run for each block would do the same day over and over.
SETTLED_AFTER = timedelta(minutes=2)
# A day that never settles (a point read each quarter of an hour) is done all the same.
AT_THE_LATEST_AFTER = timedelta(minutes=30)
# A sequence number is given before its transaction commits; a slow one may show up this much later, so the
# younger numbers are looked at again. The run key keeps that from asking twice.
COMMIT_LAG = timedelta(minutes=10)
# Days asked for in one tick; a whole fleet's recovered month is spread over several.
MOST_PER_TICK = 50


def build(partitions: Partitions, job_name: str, switch: Switch) -> dg.SensorDefinition:
    """The sensor."""

    @dg.sensor(
        name=NAME,
        job_name=job_name,
        minimum_interval_seconds=60,
        default_status=switch.sensors,
        description=(
            "Leituras que chegaram depois de o dia ser processado: deriva de novo D-1, D e D+1. "
            + HOW_TO_SWITCH_ON
        ),
    )
    def late_data_sensor(
        context: dg.SensorEvaluationContext, metering: Metering, clock: Clock
    ) -> dg.SensorResult | dg.SkipReason:
        now = clock.now()
        after_seq = int(context.cursor or 0)
        with metering.open() as db:
            touched = touched_days(db, after_seq, partitions.shards)
        settled = [row for row in touched if is_settled(row, now)]
        wanted: dict[str, TouchedDay] = {}
        for row in settled:
            for key in affected(partitions, row, now):
                newest = wanted.get(key)
                if newest is None or newest.last_seq < row.last_seq:
                    wanted[key] = row
        late = [
            (key, row)
            for key, row in sorted(wanted.items())
            if (derived := derived_at(context.instance, key)) is not None and derived <= row.last_at
        ]
        if len(late) <= MOST_PER_TICK:
            done = [row.last_seq for row in settled if row.last_at < now - COMMIT_LAG]
            context.update_cursor(str(max(done, default=after_seq)))
        if not late:
            return dg.SkipReason(f"Nenhum dado tardio: {len(touched)} dias tocados desde {after_seq}.")
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(
                    run_key=f"{key}@{row.last_seq}",
                    partition_key=key,
                    tags={**day_tags(partitions.day_of(key)), CAUSE_TAG: LATE_DATA},
                )
                for key, row in late[:MOST_PER_TICK]
            ],
        )

    return late_data_sensor


def is_settled(row: TouchedDay, now: datetime) -> bool:
    return now - row.last_at >= SETTLED_AFTER or now - row.first_at >= AT_THE_LATEST_AFTER


def affected(partitions: Partitions, row: TouchedDay, now: datetime) -> Iterator[str]:
    """Keys of the day and its neighbours, as far as they have partitions."""
    for day in (row.day + timedelta(days=n) for n in (-1, 0, 1)):
        if partitions.first_day <= day <= partitions.latest_day(now):
            yield partitions.key(day, row.shard)


def derived_at(instance: dg.DagsterInstance, key: str) -> datetime | None:
    """When the partition was last derived: the time its inputs were read. None: never, so it is not late."""
    found = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(LAYERS[-1]), asset_partitions=[key]), limit=1
    ).records
    if not found or found[0].asset_materialization is None:
        return None
    as_of = found[0].asset_materialization.metadata.get(AS_OF)
    if isinstance(as_of, dg.TextMetadataValue) and as_of.text:
        return datetime.fromisoformat(as_of.text)
    return datetime.fromtimestamp(found[0].timestamp, UTC)
