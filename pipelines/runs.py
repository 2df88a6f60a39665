"""Runs started by hand: the same jobs, in this process, on the same instance as the interface.

What belongs here: starting a job for partitions, following it step by step, and saying how it ended. What
does not: what the job does, how it is shown (`pipelines.cli.run`).
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from io import StringIO
from typing import Any

import dagster as dg
import psutil
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from assets.partitions import Partitions
from assets.resources import Clock
from assets.run_tags import BY_HAND, CAUSE_TAG, POINTS_TAG, day_tags, month_tags
from pipelines.definitions import build_defs
from pipelines.instance import open_instance
from pipelines.jobs import CLOSING, DAILY, DELIVERY, HISTORY
from storage.database import Database

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
# Where a run's process lives, so that the next run can tell one that died from one that works.
HOST_TAG, PID_TAG, BORN_TAG = "smf/host", "smf/pid", "smf/process_started"
# A birth is told by the machine's clock and moves with its corrections; a number is not given again so soon.
_SAME_BIRTH_S = 10
# Where the interface looks for a job: the location of `workspace.yaml`, and Dagster's name for the only
# repository of a module. A run without it is in no job's list and not on the home page.
LOCATION, REPOSITORY = "smf", "__repository__"
_IN_PROGRESS = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class StepState:
    """A step began or ended: `state` is started, done or failed."""

    step: str
    state: str


@dataclass(frozen=True)
class StepFailure:
    """What stopped a step. `kind` is the class of the exception, of `faults` where it was expected."""

    step: str
    kind: str
    message: str


@dataclass(frozen=True)
class AssetOutcome:
    """One asset's materialisation: its metadata as plain values."""

    asset: str
    partition: str
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class CheckOutcome:
    """One asset check. `severity` is ERROR or WARN."""

    asset: str
    check: str
    is_passed: bool
    severity: str
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended. `steps` names the steps of the plan in order."""

    run_id: str
    job: str
    partition: str
    is_success: bool
    assets: list[AssetOutcome] = field(default_factory=list)
    checks: list[CheckOutcome] = field(default_factory=list)
    failures: list[StepFailure] = field(default_factory=list)

    @property
    def needs_attention(self) -> bool:
        return not self.is_success or any(
            not check.is_passed and check.severity == "ERROR" for check in self.checks
        )


Follow = Callable[[StepState], None]


def as_at(moment: datetime | None) -> dg.Definitions:
    """The definitions, deciding what is over, closed and due as at `moment` (aware); None: now."""
    if moment is None:
        return build_defs()
    return build_defs(resources={"clock": Clock(reference=moment.isoformat())})


def run_daily(
    db: Database,
    day: date,
    shard: int,
    follow: Follow,
    defs: dg.Definitions | None = None,
    *,
    last_day: date | None = None,
) -> RunOutcome:
    """Run the daily job for one shard, of one day or of all days to `last_day` in one run."""
    return _run_days(db, DAILY, day, last_day or day, shard, follow, defs)


def run_delivery(
    db: Database,
    day: date,
    shard: int,
    follow: Follow,
    defs: dg.Definitions | None = None,
    *,
    last_day: date | None = None,
) -> RunOutcome:
    """Send what is ready of one day, or of all days to `last_day`, and make the reports; collects nothing."""
    return _run_days(db, DELIVERY, day, last_day or day, shard, follow, defs)


def _run_days(
    db: Database,
    job_name: str,
    day: date,
    last_day: date,
    shard: int,
    follow: Follow,
    defs: dg.Definitions | None,
) -> RunOutcome:
    partitions = Partitions.of(db.settings)
    if last_day == day:
        return _run(db, job_name, partitions.key(day, shard), day_tags(day), follow, defs)
    tags = day_tags(day, last_day) | {
        RANGE_START: partitions.key(day, shard),
        RANGE_END: partitions.key(last_day, shard),
    }
    return _run(db, job_name, None, tags, follow, defs)


def run_closing(db: Database, month: date, follow: Follow, defs: dg.Definitions | None = None) -> RunOutcome:
    """Run the closing job for the month that begins on `month`."""
    return _run(db, CLOSING, month.isoformat(), month_tags(month), follow, defs)


def run_history(
    db: Database,
    first_day: date,
    last_day: date,
    shard: int,
    follow: Follow,
    defs: dg.Definitions | None = None,
) -> RunOutcome:
    """Derive days `first_day` to `last_day` of one shard in one run, without collecting or delivering."""
    partitions = Partitions.of(db.settings)
    tags = day_tags(first_day, last_day) | {
        RANGE_START: partitions.key(first_day, shard),
        RANGE_END: partitions.key(last_day, shard),
    }
    return _run(db, HISTORY, None, tags, follow, defs)


def _run(
    db: Database,
    job_name: str,
    partition: str | None,
    tags: Mapping[str, str],
    follow: Follow,
    defs: dg.Definitions | None,
) -> RunOutcome:
    job = (defs or build_defs()).resolve_job_def(job_name)
    run_id = str(uuid.uuid4())
    # dbt's own lines go to standard output, which belongs to us here; they are in its log as well.
    with open_instance(db) as instance, redirect_stdout(StringIO()):
        end_dead_runs(instance)
        # `execute_in_process` has no argument for it; the instance is this run's alone.
        instance.create_run_for_job = partial(  # type: ignore[method-assign]
            instance.create_run_for_job, remote_job_origin=_origin(job_name)
        )
        instance.add_event_listener(run_id, _listener(follow))
        result = job.execute_in_process(
            instance=instance,
            partition_key=partition,
            run_id=run_id,
            tags={
                CAUSE_TAG: BY_HAND,
                POINTS_TAG: str(_active_points(db)),
                **tags,
                **_process_tags(),
                "dagster/max_retries": "0",
            },
            raise_on_error=False,
            # The console belongs to our own progress; the events are in the instance.
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
        events = result.all_events
    return RunOutcome(
        run_id=run_id,
        job=job_name,
        partition=partition or f"{tags[RANGE_START]}...{tags[RANGE_END]}",
        is_success=result.success,
        assets=_assets(events),
        checks=_checks(events),
        failures=_failures(events),
    )


def _origin(job_name: str) -> RemoteJobOrigin:
    return RemoteJobOrigin(
        RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(LOCATION), REPOSITORY), job_name
    )


def _active_points(db: Database) -> int:
    with db.connect() as conn:
        row = conn.execute(
            "SELECT count(*) FROM installation WHERE role = 'main' AND valid @> now()"
        ).fetchone()
    return int(row[0]) if row else 0


def _listener(follow: Follow) -> Callable[[dg.EventLogEntry], None]:
    states = {
        dg.DagsterEventType.STEP_START: "started",
        dg.DagsterEventType.STEP_SUCCESS: "done",
        dg.DagsterEventType.STEP_FAILURE: "failed",
    }

    def listen(entry: dg.EventLogEntry) -> None:
        event = entry.dagster_event
        if event is not None and event.event_type in states:
            follow(StepState(event.step_key or "", states[event.event_type]))

    return listen


def _assets(events: Sequence[dg.DagsterEvent]) -> list[AssetOutcome]:
    found: dict[str, AssetOutcome] = {}
    for event in events:
        if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
            made = event.step_materialization_data.materialization
            name = made.asset_key.to_user_string()
            # A range gives one event a partition, all with the metadata of the whole range.
            found[name] = AssetOutcome(name, made.partition or "", _plain(made.metadata))
    return list(found.values())


def _checks(events: Sequence[dg.DagsterEvent]) -> list[CheckOutcome]:
    return [
        CheckOutcome(
            found.asset_key.to_user_string(),
            found.check_name,
            found.passed,
            found.severity.value,
            _plain(found.metadata),
        )
        for event in events
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION
        and (found := event.asset_check_evaluation_data)
    ]


def _failures(events: Sequence[dg.DagsterEvent]) -> list[StepFailure]:
    failures = []
    for event in events:
        if event.event_type is dg.DagsterEventType.STEP_FAILURE:
            error = event.step_failure_data.error
            # Dagster wraps what an asset raised; the cause is what a person must read.
            while error is not None and error.cause is not None:
                error = error.cause
            if error is not None:
                message = error.message.split(": ", 1)[-1].strip()
                failures.append(StepFailure(event.step_key or "", error.cls_name or "", message))
    return failures


def _plain(metadata: Mapping[str, dg.MetadataValue[Any]]) -> dict[str, Any]:
    return {key: value.value for key, value in metadata.items() if not key.startswith("dagster/column")}


def _process_tags() -> dict[str, str]:
    return {
        HOST_TAG: socket.gethostname(),
        PID_TAG: str(os.getpid()),
        BORN_TAG: str(psutil.Process().create_time()),
    }


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs as failed whose process is gone; returns their ids.

    A killed process leaves its run `STARTED` and its place in a pool taken; the next run would wait for it
    for good. Only runs started by hand on this machine are judged: for others the daemon does it.
    """
    runs = instance.get_runs(dg.RunsFilter(statuses=_IN_PROGRESS, tags={HOST_TAG: socket.gethostname()}))
    dead = [run for run in runs if not _is_alive(run.tags)]
    for run in dead:
        instance.report_run_failed(run, "the process of this run ended without saying so")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in dead]


def _is_alive(tags: Mapping[str, str]) -> bool:
    try:
        process, born_s = psutil.Process(int(tags[PID_TAG])), float(tags[BORN_TAG])
        # A killed process whose parent does not ask for its end keeps its number, as a zombie.
        is_at_work = process.status() != psutil.STATUS_ZOMBIE
        return is_at_work and bool(abs(process.create_time() - born_s) < _SAME_BIRTH_S)
    except (psutil.NoSuchProcess, KeyError, ValueError):
        return False
