"""Jobs and schedules: what runs together, and at what hour of the market's day.

https://docs.dagster.io/guides/build/jobs , https://docs.dagster.io/guides/automate/schedules
Steps of a run go one after the other in one process: each holds a part of the shard in polars, and one more
process costs seconds of imports. Shards are runs of their own, so several machines share a day.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import dagster as dg

from assets import closing, collection, delivery, marts, series
from assets.partitions import Partitions
from assets.run_tags import CAUSE_TAG, SCHEDULED, day_tags, month_tags
from storage.settings import Settings
from vee import calendars

DAILY = "daily_job"
HISTORY = "history_job"
DELIVERY = "delivery_job"
CLOSING = "closing_job"

# The routine reads of the night end a bit after four (collector.planning.Windows); what is missing of D-1
# then is asked for once more by the job itself.
DAILY_CRON = "30 4 * * *"
# After the daily run and its delivery, before people come to work.
CLOSING_CRON = "0 7 * * *"
# From the day the gaps are known; the first run after MS+7du freezes the month.
CLOSING_FIRST, CLOSING_LAST = calendars.GAPS_KNOWN, calendars.CLOSED


def _groups(*names: str) -> dg.AssetSelection:
    return dg.AssetSelection.groups(*names).required_multi_asset_neighbors()


def build_jobs() -> list[Any]:
    """All jobs (Dagster does not export their class); checks run with the assets they are about."""
    return [
        dg.define_asset_job(
            DAILY,
            _groups(collection.GROUP, series.GROUP, delivery.GROUP, marts.GROUP),
            description="Um dia: coleta do que falta, camadas derivadas, envio à CCEE, relatórios.",
        ),
        dg.define_asset_job(
            HISTORY,
            _groups(series.GROUP, marts.GROUP),
            description="Deriva de novo dias passados, sem coletar nem enviar: histórico e dados tardios.",
        ),
        dg.define_asset_job(
            DELIVERY,
            _groups(delivery.GROUP, marts.GROUP),
            description="Envia o que está pronto e a CCEE ainda não tem.",
        ),
        dg.define_asset_job(
            CLOSING,
            _groups(closing.GROUP),
            description="Fechamento do mês: faltas com causa, conflitos de MUSD, prazos, certificado.",
        ),
    ]


def build_schedules(partitions: Partitions) -> list[dg.ScheduleDefinition]:
    """The daily and the closing schedule; both are switched on by an operator in the interface."""

    @dg.schedule(
        name="daily_schedule",
        job_name=DAILY,
        cron_schedule=DAILY_CRON,
        execution_timezone=partitions.iana_zone,
        description="Todo dia, o dia anterior.",
    )
    def daily_schedule(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        day = partitions.latest_day(context.scheduled_execution_time)
        tags = {**day_tags(day), CAUSE_TAG: SCHEDULED}
        for key in partitions.keys(day):
            yield dg.RunRequest(run_key=str(key), partition_key=key, tags=tags)

    @dg.schedule(
        name="closing_schedule",
        job_name=CLOSING,
        cron_schedule=CLOSING_CRON,
        execution_timezone=partitions.iana_zone,
        description="De MS+1du a MS+9du, o mês anterior; depois de MS+7du, congela-o.",
    )
    def closing_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        today = partitions.latest_day(context.scheduled_execution_time) + timedelta(days=1)
        month = closing_month_of(today, calendars.market_calendars(Settings.load().market))
        if month is None:
            return dg.SkipReason(f"{today} não está entre MS+1du e MS+9du de nenhum mês.")
        return dg.RunRequest(
            run_key=f"{month}@{today}",
            partition_key=month.isoformat(),
            tags={**month_tags(month), CAUSE_TAG: SCHEDULED},
        )

    return [daily_schedule, closing_schedule]


def closing_month_of(today: date, known: calendars.Calendars) -> date | None:
    """First day of the month that is being closed on `today`, or None."""
    month = (today.replace(day=1) - timedelta(days=1)).replace(day=1)
    period = calendars.Period.month(month)
    first, last = (known.date_of(code, period) for code in (CLOSING_FIRST, CLOSING_LAST))
    return month if first <= today <= last else None
