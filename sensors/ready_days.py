"""Delivery: a day with ready UC-days that CCEE does not have as they are is delivered.

The daily run delivers what it derives. This sensor is for all else: late data, approvals, histories derived
again, and deliveries that failed. How a UC-day is sent, and how often, is the ledger's business (`ccee`).

The newest days are looked at each time, older ones in turn: a look at the 600,000 UC-days of a month of
20,000 UCs takes seconds, and what changes in an old day has days until its deadline.
"""

from dataclasses import dataclass, field
from datetime import date, timedelta

import dagster as dg
import orjson

from assets.partitions import Partitions
from assets.resources import CceeAccess, Clock, Metering
from assets.run_tags import CAUSE_TAG, NOT_SENT, POINTS_TAG, day_tags
from derivation.pending import unsent_days
from sensors.switch import HOW_TO_SWITCH_ON, Switch
from vee import calendars

NAME = "ready_days_sensor"
# A failed delivery waits so long before a run takes it up again: the client has retried with back-off.
RETRY_AFTER = timedelta(minutes=30)
NEWEST_DAYS = 4
OLDER_DAYS_PER_LOOK = 3
_IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def build(
    partitions: Partitions, job_name: str, also_delivers: tuple[str, ...], switch: Switch
) -> dg.SensorDefinition:
    """The sensor.

    Args:
        also_delivers: jobs that deliver the day they run for; while one runs, the day is left to it.
    """

    @dg.sensor(
        name=NAME,
        job_name=job_name,
        minimum_interval_seconds=60,
        default_status=switch.sensors,
        description=("Entrega à CCEE os dias com UC-dias prontos que ela ainda não tem. " + HOW_TO_SWITCH_ON),
    )
    def ready_days_sensor(
        context: dg.SensorEvaluationContext, metering: Metering, clock: Clock, ccee: CceeAccess
    ) -> dg.SensorResult | dg.SkipReason:
        now = clock.now()
        latest, musd = partitions.latest_day(now), ccee.profile().musd
        state = State.read(context.cursor)
        first = first_open_day(
            latest + timedelta(days=1), calendars.market_calendars(metering.settings().market)
        )
        newest, older = spans(first, latest, state.older_from)
        with metering.open() as db:
            waiting = [
                row
                for begin, end in (newest, older)
                if begin <= end
                for row in unsent_days(
                    db,
                    begin,
                    end,
                    partitions.shards,
                    now - RETRY_AFTER,
                    musd.default_kw if musd.resend_on_change else None,
                )
            ]
        asked = state.asked
        busy = _busy(context.instance, (job_name, *also_delivers))
        fresh = {
            str(partitions.key(row.day, row.shard)): row.fingerprint
            for row in waiting
            if row.day >= partitions.first_day
        }
        uc_days = {str(partitions.key(row.day, row.shard)): row.uc_days for row in waiting}
        wanted = {key: mark for key, mark in fresh.items() if asked.get(key) != mark and key not in busy}
        # Only what still waits is remembered, so the cursor stays as small as the work: what was not looked
        # at now may still wait, until its month is closed.
        kept = {
            key: mark
            for key, mark in asked.items()
            if key in fresh or (_is_within(key, (first, latest)) and not _is_within(key, newest, older))
        }
        context.update_cursor(State({**kept, **wanted}, older[1] + timedelta(days=1)).written())
        if not wanted:
            return dg.SkipReason(
                f"Nada a enviar de novo: {len(waiting)} dias aguardam, {len(busy)} em envio."
            )
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(
                    run_key=f"{key}@{mark}",
                    partition_key=key,
                    tags={
                        **day_tags(partitions.day_of(key)),
                        CAUSE_TAG: NOT_SENT,
                        POINTS_TAG: str(uc_days[key]),
                    },
                )
                for key, mark in wanted.items()
            ],
        )

    return ready_days_sensor


Span = tuple[date, date]


@dataclass(frozen=True)
class State:
    """What the sensor carries from one look to the next.

    Attributes:
        asked: fingerprint of the work that a run was asked for, by partition.
        older_from: where the turn of the older days stands; None: at their beginning.
    """

    asked: dict[str, str] = field(default_factory=dict)
    older_from: date | None = None

    @classmethod
    def read(cls, cursor: str | None) -> "State":
        told = orjson.loads(cursor) if cursor else {}
        # A cursor of before there were turns: run keys keep the same work from running twice.
        if "asked" not in told:
            return cls()
        return cls(told["asked"], date.fromisoformat(told["older_from"]))

    def written(self) -> str:
        return orjson.dumps({"asked": self.asked, "older_from": self.older_from}).decode()


def spans(first: date, last: date, older_from: date | None) -> tuple[Span, Span]:
    """First and last day of the newest days, and of the older ones whose turn it is (empty: last < first)."""
    newest = max(first, last - timedelta(days=NEWEST_DAYS - 1))
    end = newest - timedelta(days=1)
    start = older_from if older_from is not None and first <= older_from <= end else first
    return (newest, last), (start, min(end, start + timedelta(days=OLDER_DAYS_PER_LOOK - 1)))


def _is_within(key: str, *looked_at: Span) -> bool:
    day = date.fromisoformat(key.partition("|")[0])
    return any(begin <= day <= end for begin, end in looked_at)


def first_open_day(today: date, known: calendars.Calendars) -> date:
    """First day that may still be delivered: of the month before until its MS+7du, then of this month."""
    this_month = today.replace(day=1)
    last_month = (this_month - timedelta(days=1)).replace(day=1)
    return last_month if today <= calendars.deadline(last_month, known) else this_month


def _busy(instance: dg.DagsterInstance, jobs: tuple[str, ...]) -> set[str]:
    """Partitions that a run is delivering now, or is about to."""
    runs = [
        run
        for job in jobs
        for run in instance.get_runs(dg.RunsFilter(job_name=job, statuses=_IN_PROGRESS), limit=1000)
    ]
    return {run.tags["dagster/partition"] for run in runs if "dagster/partition" in run.tags}
