"""Everything that Dagster loads, and what each part must say of itself."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise

import dagster as dg
import pytest

from assets.metadata import FRESHNESS_REASON
from assets.partitions import Partitions
from pipelines.definitions import build_defs
from pipelines.jobs import CLOSING, DAILY, DELIVERY, HISTORY, SCORES, closing_month_of
from tests.dagster_strict import strict_dagster
from vee.calendars import load_calendars

pytestmark = strict_dagster()

PARTITIONS = Partitions(dt.date(2026, 1, 1))
# The path of a value, each made from the one before.
PATH = [
    "registry",
    "meter_sessions",
    "meter_readings",
    "series_primary",
    "series_validated",
    "series_estimated",
    "series_adjusted",
    "series_ccee",
    "ccee_submissions",
]


@pytest.fixture(scope="module")
def defs() -> dg.Definitions:
    return build_defs(partitions=PARTITIONS)


@pytest.fixture(scope="module")
def specs(defs: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}


def test_definitions_load(defs: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(defs)


def test_every_asset_says_whose_it_is_and_what_its_freshness_is(specs: dict[str, dg.AssetSpec]) -> None:
    assert set(PATH) < set(specs)
    for name, spec in specs.items():
        assert spec.group_name not in (None, "default"), name
        assert spec.owners, name
        assert spec.description, name
        assert spec.kinds, name
        assert {"dominio", "camada"} <= set(spec.tags), name
        assert spec.metadata.get(FRESHNESS_REASON), name
        assert spec.freshness_policy is None, "policies look at the last run, whatever its day"


@pytest.mark.req("X-trace")
def test_lineage_goes_from_meter_to_receipt(specs: dict[str, dg.AssetSpec]) -> None:
    for upstream, name in pairwise(PATH):
        assert dg.AssetKey(upstream) in {dep.asset_key for dep in specs[name].deps}, f"{upstream} -> {name}"


@pytest.mark.req("X-trace")
def test_column_lineage_names_columns_that_exist(specs: dict[str, dg.AssetSpec]) -> None:
    columns = {
        name: {column.name for column in spec.metadata["dagster/column_schema"].columns}
        for name, spec in specs.items()
        if "dagster/column_schema" in spec.metadata
    }
    marts = {"stg_uc", "stg_interval_ccee", "stg_submission", "uc_day", "uc_hour", "uc_month", "agent_day"}
    assert {*PATH, *marts} <= set(columns)
    for name in (*PATH[1:], *sorted(marts)):
        lineage = specs[name].metadata["dagster/column_lineage"].deps_by_column
        assert set(lineage) <= columns[name]
        for column, sources in lineage.items():
            for source in sources:
                upstream = source.asset_key.to_user_string()
                assert source.column_name in columns[upstream], f"{name}.{column} <- {upstream}"
    assert specs["series_ccee"].metadata["dagster/column_lineage"].deps_by_column["numerators"]


def test_jobs_hold_what_they_say(defs: dg.Definitions) -> None:
    def assets_of(job: str) -> set[str]:
        selected = defs.resolve_job_def(job).asset_layer.selected_asset_keys
        return {key.to_user_string() for key in selected}

    assert set(PATH[1:]) < assets_of(DAILY)
    assert "uc_month" in assets_of(DAILY)
    assert assets_of(CLOSING) == {"closing_month"}
    assert assets_of(SCORES) == {"estimate_scores"}
    assert "estimate_scores" not in assets_of(DAILY)
    assert not assets_of(HISTORY) & {"meter_sessions", "ccee_submissions"}
    assert "series_primary" not in assets_of(DELIVERY)


def test_marts_are_downstream_of_the_ccee_series(specs: dict[str, dg.AssetSpec]) -> None:
    def upstream_of(name: str) -> set[str]:
        direct = {dep.asset_key.to_user_string() for dep in specs[name].deps}
        return direct.union(*(upstream_of(one) for one in direct if one in specs))

    for mart in ("uc_day", "uc_hour", "uc_month", "agent_day"):
        assert "series_ccee" in upstream_of(mart)


def test_pools_keep_collection_and_delivery_to_one_step(defs: dg.Definitions) -> None:
    pools = {
        definition.op.name: definition.op.pool
        for definition in defs.assets or []
        if isinstance(definition, dg.AssetsDefinition)
    }
    assert (pools["collection"], pools["ccee_submissions"]) == ("collector", "ccee_api")


def test_checks_of_our_faults_and_of_changes_by_hand_stop_the_run(defs: dg.Definitions) -> None:
    blocking = {
        spec.name: spec.blocking for definition in defs.asset_checks or [] for spec in definition.check_specs
    }
    assert {name for name, stops in blocking.items() if stops} == {
        "missing_is_never_zero",
        "energy_conserved_by_losses",
        "energy_conserved_by_rounding",
        "counts_are_as_read",
        "values_are_as_written",
    }


def test_daily_schedule_asks_for_each_shard_of_yesterday() -> None:
    defs = build_defs(partitions=Partitions(dt.date(2026, 1, 1), shards=2))
    schedule = defs.resolve_schedule_def("daily_schedule")
    at = dt.datetime(2026, 11, 21, 7, 30, tzinfo=dt.UTC)  # 04:30 market time

    with dg.build_schedule_context(
        scheduled_execution_time=at, repository_def=defs.get_repository_def()
    ) as context:
        tick = schedule.evaluate_tick(context)

    assert schedule.execution_timezone == "Etc/GMT+3"
    assert {request.tags["smf/cause"] for request in tick.run_requests or []} == {"schedule"}
    assert {request.tags["smf/day"] for request in tick.run_requests or []} == {"2026-11-20"}
    assert [request.partition_key for request in tick.run_requests or []] == ["2026-11-20|0", "2026-11-20|1"]


@pytest.mark.req("TR-2d")
@pytest.mark.parametrize(
    ("today", "month"),
    [
        (dt.date(2026, 11, 30), None),
        (dt.date(2026, 12, 1), dt.date(2026, 11, 1)),
        (dt.date(2026, 12, 9), dt.date(2026, 11, 1)),
        (dt.date(2026, 12, 10), dt.date(2026, 11, 1)),
        (dt.date(2026, 12, 11), dt.date(2026, 11, 1)),
        (dt.date(2026, 12, 12), None),
    ],
)
def test_closing_runs_from_ms_1du_until_the_month_is_frozen(today: dt.date, month: dt.date | None) -> None:
    assert closing_month_of(today, load_calendars()) == month


@pytest.mark.req("TR-2d")
def test_closing_schedule_asks_for_the_month_before(defs: dg.Definitions) -> None:
    schedule = defs.resolve_schedule_def("closing_schedule")

    def asked(day: dt.datetime) -> list[str | None]:
        with dg.build_schedule_context(
            scheduled_execution_time=day, repository_def=defs.get_repository_def()
        ) as context:
            return [request.partition_key for request in schedule.evaluate_tick(context).run_requests or []]

    assert asked(dt.datetime(2026, 12, 3, 10, tzinfo=dt.UTC)) == ["2026-11-01"]
    assert asked(dt.datetime(2026, 12, 15, 10, tzinfo=dt.UTC)) == []


@pytest.mark.parametrize(("setting", "status"), [("off", "STOPPED"), ("on", "RUNNING")])
def test_automations_are_switched_by_one_setting_and_say_so(
    setting: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMF_DAGSTER_AUTOMATION", setting)
    repository = build_defs(partitions=PARTITIONS).get_repository_def()

    assert {each.default_status.name for each in repository.schedule_defs} == {status}
    assert {each.default_status.name for each in repository.sensor_defs} == {status}
    for each in (*repository.schedule_defs, *repository.sensor_defs):
        assert "SMF_DAGSTER_AUTOMATION=on" in (each.description or ""), each.name
