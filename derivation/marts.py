"""The SQL layer (`dbt/`) run for a window: parsed once, built and tested in this process.

What belongs here: where dbt's project is and what it parsed, what models and tests say of themselves, and a
run of them with its outcome for each. What does not: SQL (`dbt/`), assets and checks (`assets.marts`).

dbt takes seconds to import and to parse, so that a run of its command line costs many times what the SQL
does. The project is parsed when a file of it changed, by a process of its own; a run takes what was parsed,
and gets the database and the days by environment and variables.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson

from derivation.window import Window
from faults import DeveloperFault
from faults.shipped import shipped
from storage.database import Database

PROJECT_DIR = shipped("dbt", "dbt_project.yml")
_MANIFEST, _PARSED = "manifest.json", "partial_parse.msgpack"
# dbt keeps adapters, flags and its log for the whole process.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class ModelColumn:
    """A column of a model. `sources`: (asset or model, column) pairs that it is made from."""

    name: str
    kind: str
    description: str
    sources: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Model:
    """A model of the project. `upstream`: names of models, and of the assets that its sources come from."""

    name: str
    description: str
    sql: str
    is_view: bool
    schema: str
    columns: Sequence[ModelColumn]
    upstream: frozenset[str]


@dataclass(frozen=True)
class DataTest:
    """A test of the project, and the model that it is about: of several the last one it names."""

    unique_id: str
    name: str
    model: str
    description: str


@dataclass(frozen=True)
class Outcome:
    """What became of one model or test of a run.

    Args:
        status: dbt's word: success, pass, warn, fail, error, skipped.
        rows: written by a model, or in the way of a test; None where dbt does not say.
        message: dbt's, of what failed.
    """

    unique_id: str
    name: str
    is_test: bool
    status: str
    seconds: float
    rows: int | None
    message: str

    @property
    def is_good(self) -> bool:
        return self.status in ("success", "pass", "warn")

    def after(self, before: Outcome | None) -> Outcome:
        """This outcome and that of the window before it as one: the first failure stays."""
        if before is None:
            return self
        counts = [count for count in (before.rows, self.rows) if count is not None]
        return replace(
            self if before.is_good else before,
            seconds=before.seconds + self.seconds,
            rows=sum(counts) if counts else None,
        )


@dataclass(frozen=True)
class Project:
    """What dbt parsed."""

    models: Sequence[Model]
    tests: Sequence[DataTest]


def project() -> Project:
    """The models and tests of the project as it is now.

    Raises:
        DeveloperFault: it does not parse.
    """
    folder = _parsed_folder()
    return _read(folder / _MANIFEST, (folder / _MANIFEST).stat().st_mtime_ns)


@cache
def _read(path: Path, changed_ns: int) -> Project:
    manifest = orjson.loads(path.read_bytes())
    nodes = manifest["nodes"]
    names = {key: node["name"] for key, node in nodes.items() if node["resource_type"] == "model"}
    names |= {key: _asset_of(source) for key, source in manifest["sources"].items()}
    models, tests = [], []
    for key, node in nodes.items():
        on = node["depends_on"]["nodes"]
        if node["resource_type"] == "model":
            models.append(
                Model(
                    name=node["name"],
                    description=node["description"],
                    sql=node["raw_code"],
                    is_view=node["config"]["materialized"] == "view",
                    schema=node["schema"],
                    columns=[_column(column) for column in node["columns"].values()],
                    upstream=frozenset(names[one] for one in on),
                )
            )
        elif node["resource_type"] == "test":
            about = node.get("attached_node") or on[-1]
            tests.append(DataTest(key, node["name"], names[about], node["description"]))
    return Project(models, tests)


def _column(column: Mapping[str, Any]) -> ModelColumn:
    sources = [name.split(".") for name in column.get("config", {}).get("meta", {}).get("columns_of", [])]
    return ModelColumn(
        column["name"],
        column.get("data_type") or "",
        column["description"],
        [(asset, name) for asset, name in sources],
    )


def _asset_of(source: Mapping[str, Any]) -> str:
    return str(source["meta"]["dagster"]["asset_key"][0])


def build(
    db: Database, window: Window, target: Path, selected: Sequence[str] | None = None
) -> Iterator[Outcome]:
    """Make the models of a window and run their tests, upstream first; one outcome each.

    Args:
        target: a folder of this run, where dbt puts what it compiles; it stays only where something failed,
            for whoever looks into it.
        selected: names of models; None: all.
    Raises:
        DeveloperFault: after the outcomes, where a model or test failed, or dbt itself.
    """
    variables = {
        "first_day": window.first_day.isoformat(),
        "last_day": window.last_day.isoformat(),
        "shard": window.shard,
        "shards": window.shards,
    }
    parsed = _parsed_folder()
    command = ["--quiet", "--no-use-colors", "--no-write-json", "--log-path", str(target)]
    command += ["build", "--project-dir", str(PROJECT_DIR), "--profiles-dir", str(PROJECT_DIR)]
    command += ["--target-path", str(target), "--vars", orjson.dumps(variables).decode()]
    if selected is not None:
        command += ["--select", *selected]
    with _ONE_AT_A_TIME, _environment(db.dbt_env()):
        # Loaded on first use: 1,400 modules.
        from dbt.cli.main import dbtRunner
        from dbt.contracts.graph.manifest import Manifest

        manifest = Manifest.from_msgpack((parsed / _PARSED).read_bytes())
        # Parsed for no database in particular; dbt writes its name into every statement.
        for node in (*manifest.nodes.values(), *manifest.sources.values()):
            node.database = db.name
        ran = dbtRunner(manifest=manifest).invoke(command)
    outcomes = [_outcome(result) for result in getattr(ran.result, "results", None) or []]
    yield from outcomes
    failed = [f"{each.name}: {each.message or each.status}" for each in outcomes if not each.is_good]
    if not ran.success:
        raise DeveloperFault(
            f"dbt failed: {'; '.join(failed) or ran.exception}"[:2000],
            where=str(target),
            remedy="read the compiled SQL and dbt.log in that folder",
        )
    shutil.rmtree(target)


def _outcome(result: Any) -> Outcome:
    is_test = result.node.resource_type.value == "test"
    rows = result.failures if is_test else (result.adapter_response or {}).get("rows_affected")
    return Outcome(
        unique_id=result.node.unique_id,
        name=result.node.name,
        is_test=is_test,
        status=str(result.status),
        seconds=result.execution_time,
        rows=rows if isinstance(rows, int) and rows >= 0 else None,
        message=" ".join((result.message or "").split()),
    )


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """dbt's profile reads the environment; what was there before is there again afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _parsed_folder() -> Path:
    """The folder with what dbt parsed, parsed again where a file of the project is newer."""
    # Another version of dbt may not read it.
    folder = _writable_home() / metadata.version("dbt-core")
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / _MANIFEST
    with (folder / "prepare.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Webserver, daemon and runs may start together.
        if not manifest.exists() or manifest.stat().st_mtime < _last_change():
            dbt = Path(sys.executable).with_name("dbt")  # whatever else is on the path
            command: list[str | Path] = [dbt, "--log-path", folder, "parse", "--target-path", folder]
            parsed = subprocess.run(
                [*command, "--project-dir", PROJECT_DIR, "--profiles-dir", PROJECT_DIR],
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
            manifest.touch()
    return folder


def _writable_home() -> Path:
    """Beside the project; where that is another user's, in the user's own cache."""
    if os.access(PROJECT_DIR, os.W_OK):
        return PROJECT_DIR / "target"
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache_home) / "smf" / "dbt"


def _last_change() -> float:
    files = [PROJECT_DIR / "dbt_project.yml", PROJECT_DIR / "profiles.yml"]
    for folder in ("models", "macros", "tests"):
        files += [PROJECT_DIR / folder, *(PROJECT_DIR / folder).rglob("*")]
    return max(path.stat().st_mtime for path in files)
