"""Dagster's own home: `dagster.yaml`, written from our settings, and its storage in PostgreSQL.

What belongs here: the instance and what it is limited to. Dagster's tables live in a database of their own
beside the metering data (`smf` has `smf_dagster`), so that neither's housekeeping touches the other.
https://docs.dagster.io/deployment/oss/oss-instance-configuration
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster_postgres import DagsterPostgresStorage
from psycopg import sql

from faults import OperatorFault
from storage.database import Database

DAEMON_INTERVAL_S = 30
# One delivery step at a time: CCEE's own limits are per agent, and the client already sends in parallel.
# One collection step: it may run a collector on the shared queue, whose limits are per process.
POOL_LIMIT = 1
MAX_RUNS = 4


def dagster_yaml(storage_url: str) -> dict[str, Any]:
    """The instance's configuration.

    Args:
        storage_url: SQLAlchemy address. The driver is named in it: SQLAlchemy would otherwise pick psycopg 3,
            whose server-side binding cannot send Dagster's NOTIFY.
    """
    return {
        "storage": {"postgres": {"postgres_url": storage_url}},
        "telemetry": {"enabled": False},
        "nux": {"enabled": False},
        "run_coordinator": {
            "module": "dagster._core.run_coordinator.queued_run_coordinator",
            "class": "QueuedRunCoordinator",
        },
        "concurrency": {
            "runs": {"max_concurrent_runs": MAX_RUNS},
            "pools": {"default_limit": POOL_LIMIT, "granularity": "op"},
        },
        "run_monitoring": {"enabled": True},
        # Radio retries belong to the collector, deliveries to the ledger; a run comes back only
        # when its process died.
        "run_retries": {"enabled": True, "max_retries": 1, "retry_on_asset_or_op_failure": False},
        "retention": {
            "schedule": {"purge_after_days": 30},
            "sensor": {"purge_after_days": {"skipped": 7, "failure": 30, "success": 30}},
        },
        "sensors": {"use_threads": True, "num_workers": 2},
        "schedules": {"use_threads": True, "num_workers": 2},
    }


def storage_database(db: Database) -> Database:
    """Dagster's database with all of Dagster's tables; made aside and renamed when it is whole.

    Dagster commits its tables one by one, and where it is killed among them it takes what is there for all.
    """
    whole, aside = f"{db.name}_dagster", f"{db.name}_dagster_unfinished"
    with db.connect() as conn:
        query = "SELECT 1 FROM pg_database WHERE datname = %s"
        if conn.execute(query, [whole]).fetchone():
            return db.sibling(whole)
        # One process at a time: who waited finds it made.
        conn.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [aside])
        if conn.execute(query, [whole]).fetchone():
            return db.sibling(whole)
        with db.connect(autocommit=True) as other:
            other.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(aside)))
        try:
            db.create_database(aside)
        except OperatorFault:
            return db.dagster_database()  # Tells what an administrator must create.
        made = DagsterPostgresStorage(db.sibling(aside).sqlalchemy_url)
        for part in (made.run_storage, made.event_log_storage, made.schedule_storage):
            part.dispose()
        with db.connect(autocommit=True) as other:
            other.execute(
                sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(aside), sql.Identifier(whole))
            )
    return db.sibling(whole)


def write_home(db: Database) -> Path:
    """Create DAGSTER_HOME with its `dagster.yaml`; the same settings leave the file as it is."""
    home = db.settings.dagster_home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    text = "# Written by smf from its settings; changes here are overwritten.\n" + yaml.safe_dump(
        dagster_yaml(storage_database(db).sqlalchemy_url), sort_keys=True
    )
    target = home / "dagster.yaml"
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        # Renamed into place: a daemon that reads at this moment sees the old or the new file, never half.
        # The address may carry a password, so nobody else may read it.
        fresh = home / f"dagster.yaml.{os.getpid()}"
        fresh.touch(mode=0o600)
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(target)
    return home


@contextmanager
def open_instance(db: Database) -> Iterator[dg.DagsterInstance]:
    """The instance that `make ui` shows; runs made through it appear there."""
    # Read when Dagster is asked for its telemetry settings, also in the processes that it starts.
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    with dg.DagsterInstance.from_config(str(write_home(db))) as instance:
        yield instance
