"""Jobs and schedules: what runs together, and at what hour of the market's day.

https://docs.dagster.io/guides/build/jobs , https://docs.dagster.io/guides/automate/schedules
Steps of a run go one after the other in one process: each holds a part of the shard in polars, and one more
process costs seconds of imports. Shards are runs of their own, so several machines share a day.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import dagster as dg

from assets import closing, collection, delivery, freshness, marts, scores, series
from assets.partitions import Partitions
from assets.run_tags import CAUSE_TAG, SCHEDULED, day_tags, month_tags
from sensors.switch import HOW_TO_SWITCH_ON, Switch
from storage.settings import Settings
from vee import calendars

DAILY = "daily_job"
HISTORY = "history_job"
DELIVERY = "delivery_job"
CLOSING = "closing_job"
FRESHNESS = "freshness_job"
SCORES = "scores_job"

# The routine reads of the night end a bit after four (collector.work.planning.Windows); what is missing of
# D-1 then is asked for once more by the job itself.
DAILY_CRON = "30 4 * * *"
# After the daily run and its delivery, before people come to work.
CLOSING_CRON = "0 7 * * *"
# When people come to work: what is not there by now they must hear of.
FRESHNESS_CRON = "10 8 * * *"
# Monday, after the daily run: the gaps of the weekend are in by then.
SCORES_CRON = "30 5 * * 1"
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
        dg.define_asset_job(
            SCORES,
            _groups(scores.GROUP),
            description="Placar das estimativas: erro esperado por método, duração da lacuna e classe de UC.",
        ),
        dg.define_asset_job(
            FRESHNESS,
            dg.AssetSelection.checks(
                *(dg.AssetCheckKey(dg.AssetKey(name), freshness.CHECK) for name in freshness.ASSETS)
            ),
            description="O dia mais novo está lido, derivado e entregue? Falha, e avisa, se não está.",
        ),
    ]


def build_schedules(partitions: Partitions, switch: Switch) -> list[dg.ScheduleDefinition]:
    """The daily, the closing, the freshness and the scores schedule."""

    @dg.schedule(
        name="daily_schedule",
        job_name=DAILY,
        cron_schedule=DAILY_CRON,
        execution_timezone=partitions.iana_zone,
        default_status=switch.schedules,
        description=f"Todo dia, o dia anterior. {HOW_TO_SWITCH_ON}",
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
        default_status=switch.schedules,
        description=(f"De MS+1du a MS+9du, o mês anterior; depois de MS+7du, congela-o. {HOW_TO_SWITCH_ON}"),
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

    freshness_schedule = dg.ScheduleDefinition(
        name="freshness_schedule",
        job_name=FRESHNESS,
        cron_schedule=FRESHNESS_CRON,
        execution_timezone=partitions.iana_zone,
        default_status=switch.schedules,
        tags={CAUSE_TAG: SCHEDULED},
        description=f"Toda manhã: o dia anterior está lido, derivado e entregue? {HOW_TO_SWITCH_ON}",
    )
    scores_schedule = dg.ScheduleDefinition(
        name="scores_schedule",
        job_name=SCORES,
        cron_schedule=SCORES_CRON,
        execution_timezone=partitions.iana_zone,
        default_status=switch.schedules,
        tags={CAUSE_TAG: SCHEDULED},
        description=f"Toda segunda-feira: o placar das estimativas. {HOW_TO_SWITCH_ON}",
    )
    return [daily_schedule, closing_schedule, freshness_schedule, scores_schedule]


def closing_month_of(today: date, known: calendars.Calendars) -> date | None:
    """First day of the month that is being closed on `today`, or None."""
    month = (today.replace(day=1) - timedelta(days=1)).replace(day=1)
    period = calendars.Period.month(month)
    first, last = (known.date_of(code, period) for code in (CLOSING_FIRST, CLOSING_LAST))
    return month if first <= today <= last else None
