"""The SQL layer (`dbt/`) as Dagster assets: one step makes a day's marts, its tests are asset checks.

What belongs here: how dbt's models and tests are named to Dagster. What does not: SQL (`dbt/`), how dbt is
run (`derivation.marts`). Not dagster-dbt: importing it takes as long as all of our definitions, and each of
its runs starts dbt's command line anew, which costs several times what the SQL does.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from assets.metadata import FRESHNESS_REASON, NEWEST_DAY, OWNERS, Column, Metadata, lineage, table, tags
from assets.partitions import Partitions
from assets.resources import Metering
from derivation import marts as sql_layer
from derivation.marts import DataTest, Model, Outcome, Project
from faults import DeveloperFault

GROUP = "marts"


def target_folder(data_dir: Path, run_id: str, shard: int) -> Path:
    """Where dbt puts what it compiles for a run.

    Not in the project's folder, which need not be writable; absolute, since dbt resolves it from there.
    """
    return data_dir.resolve() / "dbt" / f"{run_id}-{shard}"


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """All dbt models as one asset definition, their tests as its checks."""
    project = sql_layer.project()

    @dg.multi_asset(
        name="marts",
        specs=[_asset_spec(model, partitions) for model in project.models],
        check_specs=[_check_spec(test) for test in project.tests],
        partitions_def=partitions.daily,
        backfill_policy=dg.BackfillPolicy.single_run(),
        can_subset=True,
    )
    def marts(context: dg.AssetExecutionContext, metering: Metering) -> Iterator[Any]:
        names = {key.to_user_string() for key in context.selected_asset_keys}
        selected = None if len(names) == len(project.models) else sorted(names)
        checks = {(key.asset_key.to_user_string(), key.name) for key in context.selected_asset_check_keys}
        outcomes: dict[str, Outcome] = {}
        fault: DeveloperFault | None = None
        with metering.open() as db:
            for window in partitions.windows(context.partition_keys):
                target = target_folder(db.data_dir, context.run.run_id, window.shard)
                try:
                    for outcome in sql_layer.build(db, window, target, selected):
                        outcomes[outcome.unique_id] = outcome.after(outcomes.get(outcome.unique_id))
                except DeveloperFault as error:
                    fault = error
                    break
        for outcome in outcomes.values():
            yield from _event(outcome, project, checks)
        if fault is not None:
            raise fault

    return marts


def _event(
    outcome: Outcome, project: Project, checks: set[tuple[str, str]]
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    shown: dict[str, Any] = {"unique_id": outcome.unique_id, "status": outcome.status}
    shown["seconds"] = outcome.seconds
    if outcome.rows is not None:
        shown["rows"] = outcome.rows
    if not outcome.is_test:
        if outcome.is_good:
            made = next(model for model in project.models if model.name == outcome.name)
            yield dg.MaterializeResult(asset_key=outcome.name, metadata={**lineage(_columns(made)), **shown})
        return
    model = next(test.model for test in project.tests if test.unique_id == outcome.unique_id)
    if outcome.status != "skipped" and (model, outcome.name) in checks:
        is_warning = outcome.status == "warn"
        yield dg.AssetCheckResult(
            asset_key=model,
            check_name=outcome.name,
            passed=outcome.status == "pass",
            severity=dg.AssetCheckSeverity.WARN if is_warning else dg.AssetCheckSeverity.ERROR,
            metadata=shown,
        )


def _columns(model: Model) -> list[Column]:
    return [Column(column.name, column.kind, column.description, column.sources) for column in model.columns]


def _asset_spec(model: Model, partitions: Partitions) -> dg.AssetSpec:
    metadata: Metadata = table(f"{model.schema}.{model.name}", _columns(model))
    metadata |= (
        {FRESHNESS_REASON: "Visão: sempre tão atual quanto as tabelas que lê."}
        if model.is_view
        else NEWEST_DAY
    )
    return dg.AssetSpec(
        model.name,
        deps=sorted(model.upstream),
        description=model.description,
        metadata=metadata,
        skippable=True,
        group_name=GROUP,
        code_version=hashlib.sha1(model.sql.encode(), usedforsecurity=False).hexdigest(),
        tags=tags("relatorios", "insumo" if model.is_view else "resultado"),
        owners=OWNERS,
        kinds={"dbt", "postgres"},
    )


def _check_spec(test: DataTest) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(test.name, asset=test.model, description=test.description or None, blocking=True)
