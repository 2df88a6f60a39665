"""Delivery: a day with ready UC-days that CCEE does not have as they are is delivered.

The daily run delivers what it derives. This sensor is for all else: late data, approvals, histories derived
again, and deliveries that failed. How a UC-day is sent, and how often, is the ledger's business (`ccee`).
"""

from datetime import date, timedelta

import dagster as dg
import orjson

from assets.partitions import Partitions
from assets.pending import unsent_days
from assets.resources import CceeAccess, Clock, Metering
from vee import calendars

NAME = "ready_days_sensor"
# A failed delivery waits so long before a run takes it up again: the client has retried with back-off.
RETRY_AFTER = timedelta(minutes=30)
_IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def build(partitions: Partitions, job_name: str, also_delivers: tuple[str, ...]) -> dg.SensorDefinition:
    """The sensor; it is switched on by an operator in the interface.

    Args:
        also_delivers: jobs that deliver the day they run for; while one runs, the day is left to it.
    """

    @dg.sensor(
        name=NAME,
        job_name=job_name,
        minimum_interval_seconds=60,
        description="Entrega à CCEE os dias com UC-dias prontos que ela ainda não tem.",
    )
    def ready_days_sensor(
        context: dg.SensorEvaluationContext, metering: Metering, clock: Clock, ccee: CceeAccess
    ) -> dg.SensorResult | dg.SkipReason:
        now = clock.now()
        latest, musd = partitions.latest_day(now), ccee.profile().musd
        with metering.open() as db:
            waiting = unsent_days(
                db,
                first_open_day(latest + timedelta(days=1)),
                latest,
                partitions.shards,
                now - RETRY_AFTER,
                musd.default_kw if musd.resend_on_change else None,
            )
        asked: dict[str, str] = orjson.loads(context.cursor) if context.cursor else {}
        busy = _busy(context.instance, (job_name, *also_delivers))
        fresh = {
            str(partitions.key(row.day, row.shard)): row.fingerprint
            for row in waiting
            if row.day >= partitions.first_day
        }
        wanted = {key: mark for key, mark in fresh.items() if asked.get(key) != mark and key not in busy}
        # Only what still waits is remembered, so the cursor stays as small as the work.
        cursor = {key: wanted.get(key, asked.get(key)) for key in fresh if key in wanted or key in asked}
        context.update_cursor(orjson.dumps(cursor).decode())
        if not wanted:
            return dg.SkipReason(
                f"Nada a enviar de novo: {len(waiting)} dias aguardam, {len(busy)} em envio."
            )
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(run_key=f"{key}@{mark}", partition_key=key) for key, mark in wanted.items()
            ],
        )

    return ready_days_sensor


def first_open_day(today: date) -> date:
    """First day that may still be delivered: of the month before until its MS+7du, then of this month."""
    this_month = today.replace(day=1)
    last_month = (this_month - timedelta(days=1)).replace(day=1)
    return last_month if today <= calendars.deadline(last_month, calendars.load_calendars()) else this_month


def _busy(instance: dg.DagsterInstance, jobs: tuple[str, ...]) -> set[str]:
    """Partitions that a run is delivering now, or is about to."""
    runs = [
        run
        for job in jobs
        for run in instance.get_runs(dg.RunsFilter(job_name=job, statuses=_IN_PROGRESS), limit=1000)
    ]
    return {run.tags["dagster/partition"] for run in runs if "dagster/partition" in run.tags}
