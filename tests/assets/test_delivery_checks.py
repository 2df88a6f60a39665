"""What makes a delivery's run red is read from the delivery of the days that the run is about."""

from __future__ import annotations

import datetime as dt
from typing import Any

import dagster as dg
import pytest

from assets import delivery
from assets.partitions import Partitions
from tests.dagster_strict import strict_dagster

pytestmark = strict_dagster(pytest.mark.req("TR-2d", "TR-2g"))

PARTITIONS = Partitions(dt.date(2026, 11, 1))
UNSENT = {"agent": 4711, "uc_days": 3, "reason": "no credential", "remedy": "set SMF_CCEE_CLIENT_SECRET"}


def checked(day: str, *deliveries: tuple[str, dict[str, Any]]) -> dg.ExecuteInProcessResult:
    """The check for a day, after these deliveries, oldest first."""

    @dg.asset(partitions_def=PARTITIONS.daily)
    def beside() -> None:
        """A job of checks alone has no partitions."""

    asset = dg.AssetSpec(delivery.NAME, partitions_def=PARTITIONS.daily)
    key = dg.AssetCheckKey(dg.AssetKey(delivery.NAME), delivery.READY_IS_SENT)
    job = dg.define_asset_job("checks", dg.AssetSelection.checks(key) | dg.AssetSelection.assets(beside))
    definitions = dg.Definitions(
        [asset, beside], asset_checks=[delivery.build_checks(PARTITIONS)], jobs=[job]
    )
    with dg.DagsterInstance.ephemeral() as instance:
        for made_for, metadata in deliveries:
            instance.report_runless_asset_event(
                dg.AssetMaterialization(delivery.NAME, partition=made_for, metadata=metadata)
            )
        return definitions.resolve_job_def("checks").execute_in_process(
            instance=instance, partition_key=day, raise_on_error=False
        )


def test_a_later_delivery_of_another_day_hides_nothing() -> None:
    result = checked("2026-11-20", ("2026-11-20", {"unsent": [UNSENT]}), ("2026-11-21", {"unsent": []}))

    assert not result.success
    (evaluation,) = result.get_asset_check_evaluations()
    assert not evaluation.passed
    assert evaluation.metadata["ready_not_sent"].value == 3


def test_another_days_trouble_is_not_this_ones() -> None:
    result = checked("2026-11-20", ("2026-11-20", {"unsent": []}), ("2026-11-21", {"unsent": [UNSENT]}))

    assert result.success
    assert [evaluation.passed for evaluation in result.get_asset_check_evaluations()] == [True]


@pytest.mark.parametrize("deliveries", [[], [("2026-11-21", {"unsent": []})], [("2026-11-20", {"sent": 3})]])
def test_a_day_of_which_no_delivery_speaks_does_not_pass(
    deliveries: list[tuple[str, dict[str, Any]]],
) -> None:
    result = checked("2026-11-20", *deliveries)

    assert not result.success
    assert result.get_asset_check_evaluations() == []
