"""The SQL layer (`dbt/`) as Dagster assets: one run of dbt makes a day's marts, its tests are asset checks.

What belongs here: how dbt's project is found, prepared and run for a partition. What does not: SQL.
dbt runs as a process of its own, reached through environment variables (dbt/profiles.yml).
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import dagster as dg
import orjson
from dagster_dbt import (
    DagsterDbtTranslator,
    DagsterDbtTranslatorSettings,
    DbtCliResource,
    DbtProject,
    dbt_assets,
)
from packaging.version import Version

from assets.metadata import FRESHNESS_REASON, OWNERS, fresh_by
from assets.partitions import Partitions
from assets.resources import Metering
from faults import DeveloperFault
from faults.shipped import shipped

GROUP = "marts"
PROJECT_DIR = shipped("dbt", "dbt_project.yml")
MANIFEST = PROJECT_DIR / "target" / "manifest.json"
FRESH_BY_HOUR = 9


def dbt_executable() -> str:
    """The dbt installed beside this Python, whatever else is on the path."""
    return str(Path(sys.executable).parent / "dbt")


def prepared_manifest() -> Path:
    """The project's manifest, parsed again where a file of the project is newer.

    Raises:
        DeveloperFault: the project does not parse.
    """
    MANIFEST.parent.mkdir(exist_ok=True)
    with (MANIFEST.parent / "prepare.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Webserver, daemon and runs may start together.
        if not MANIFEST.exists() or MANIFEST.stat().st_mtime < _last_change():
            parsed = subprocess.run(
                [dbt_executable(), "parse", "--project-dir", PROJECT_DIR, "--profiles-dir", PROJECT_DIR],
                cwd=PROJECT_DIR,
                capture_output=True,
                text=True,
                check=False,
                # Whoever started it may be killed; who comes next must not read what it still writes.
                pass_fds=[lock.fileno()],
            )
            if parsed.returncode:
                raise DeveloperFault(
                    f"the dbt project does not parse: {parsed.stdout.strip()[-2000:]}",
                    where=str(PROJECT_DIR),
                    remedy=f"run dbt parse --project-dir {PROJECT_DIR.name} and correct what it names",
                )
            MANIFEST.touch()
    return MANIFEST


def target_folder(data_dir: Path, run_id: str, shard: int) -> Path:
    """Where dbt puts what it compiles for a run; kept only where it fails, for whoever looks into it.

    Not in the project's folder, which need not be writable; absolute, since dbt runs in that folder.
    """
    return data_dir.resolve() / "dbt" / f"{run_id}-{shard}"


def _last_change() -> float:
    files = [PROJECT_DIR / "dbt_project.yml", PROJECT_DIR / "profiles.yml"]
    for folder in ("models", "macros", "tests"):
        files += [PROJECT_DIR / folder, *(PROJECT_DIR / folder).rglob("*")]
    return max(path.stat().st_mtime for path in files)


class Dbt(DbtCliResource):
    """The library asks a process of its own for dbt's version before each run, which takes three seconds."""

    @cached_property
    def _cli_version(self) -> Version:
        return Version(metadata.version("dbt-core"))


class Translator(DagsterDbtTranslator):
    """Names dbt's models for Dagster: group, owners and freshness like our other assets."""

    def __init__(self, partitions: Partitions) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_duplicate_source_asset_keys=True))
        self._partitions = partitions

    def get_asset_spec(
        self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        if not unique_id.startswith("model."):
            return spec
        node = manifest["nodes"][unique_id]
        is_view = node["config"]["materialized"] == "view"
        spec = spec.replace_attributes(
            key=node["name"], group_name=GROUP, owners=OWNERS, kinds={"dbt", "postgres"}
        )
        if is_view:
            return spec.merge_attributes(
                metadata={FRESHNESS_REASON: "Visão: sempre tão atual quanto as tabelas que lê."}
            )
        return spec.replace_attributes(freshness_policy=fresh_by(FRESH_BY_HOUR, self._partitions))


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """All dbt models as one asset definition."""
    project = DbtProject(project_dir=PROJECT_DIR, profiles_dir=PROJECT_DIR)

    @dbt_assets(
        name="marts",
        manifest=orjson.loads(prepared_manifest().read_bytes()),
        project=project,
        partitions_def=partitions.daily,
        backfill_policy=dg.BackfillPolicy.single_run(),
        dagster_dbt_translator=Translator(partitions),
    )
    def marts(context: dg.AssetExecutionContext, metering: Metering) -> Iterator[Any]:
        dbt = Dbt(
            project_dir=str(PROJECT_DIR), profiles_dir=str(PROJECT_DIR), dbt_executable=dbt_executable()
        )
        with metering.open() as db:
            os.environ.update(db.dbt_env())
            for window in partitions.windows(context.partition_keys):
                variables = {
                    "first_day": window.first_day.isoformat(),
                    "last_day": window.last_day.isoformat(),
                    "shard": window.shard,
                    "shards": window.shards,
                }
                target = target_folder(db.data_dir, context.run.run_id, window.shard)
                command = ["build", "--vars", orjson.dumps(variables).decode()]
                yield from dbt.cli(command, context=context, target_path=target).stream()
                shutil.rmtree(target)

    return marts
