"""All definitions, put together by `build_defs`; `defs` is what Dagster loads.

https://docs.dagster.io/guides/build/projects-and-components
A deployment or a test that needs another database, clock or executor calls `build_defs` with it; nothing is
patched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets import checks, closing, collection, delivery, freshness, marts, registry, scores, series
from assets.partitions import Partitions
from assets.resources import CceeAccess, Clock, Metering
from pipelines.jobs import CLOSING, DAILY, DELIVERY, HISTORY, build_jobs, build_schedules
from sensors import deadlines, failures, late_data, ready_days
from sensors import registry as registry_sensor
from sensors.switch import Switch
from storage.settings import Settings


def build_defs(
    *,
    partitions: Partitions | None = None,
    resources: Mapping[str, Any] | None = None,
    executor: dg.ExecutorDefinition | None = None,
) -> dg.Definitions:
    """Everything that Dagster runs.

    Args:
        partitions: default from the settings.
        resources: replace those of the same name (`metering`, `clock`, `ccee`).
        executor: default in one process, see `pipelines.jobs`; Celery or Kubernetes in a large installation.
    """
    settings = Settings.load()
    chosen = partitions or Partitions.of(settings)
    switch = Switch(settings.dagster.automation == "on")
    return dg.Definitions(
        assets=[
            *registry.build(),
            collection.build(chosen),
            series.build(chosen),
            delivery.build(chosen),
            marts.build(chosen),
            closing.build(chosen),
            scores.build(),
        ],
        asset_checks=[
            *checks.build(chosen),
            delivery.build_checks(chosen),
            *freshness.build(chosen),
            scores.build_check(),
        ],
        jobs=build_jobs(),
        schedules=build_schedules(chosen, switch),
        sensors=[
            late_data.build(chosen, HISTORY, switch),
            ready_days.build(chosen, DELIVERY, (DAILY,), switch),
            deadlines.build(chosen, switch),
            registry_sensor.build(switch),
            failures.build(switch),
        ],
        resources={"metering": Metering(), "clock": Clock(), "ccee": CceeAccess(), **(resources or {})},
        executor=executor or dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    return build_defs()


__all__ = ["CLOSING", "DAILY", "DELIVERY", "HISTORY", "build_defs", "defs"]
