"""Bring a database to the newest revision, in one transaction, one process at a time."""

from __future__ import annotations

import datetime as dt
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy
from alembic import command, op
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from faults import OperatorFault
from storage.locks import MIGRATION_LOCK

if TYPE_CHECKING:
    from storage.database import Database


def upgrade(db: Database) -> list[str]:
    """Apply what is missing; returns the revisions applied, oldest first (none: it was up to date)."""
    config = _config()
    engine = sqlalchemy.create_engine(db.sqlalchemy_url, poolclass=sqlalchemy.NullPool)
    try:
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            before = MigrationContext.configure(connection).get_current_revision()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            _set_market_zone(connection, db.settings.market.tzinfo)
    except sqlalchemy.exc.ProgrammingError as error:
        if "permission denied" in str(error):
            raise OperatorFault(
                "the login may not change the schema",
                where=db.safe_url,
                remedy="migrate with the login that owns the database",
            ) from error
        raise
    finally:
        engine.dispose()
    script = ScriptDirectory.from_config(config)
    applied = [revision.revision for revision in script.iterate_revisions("head", before or "base")]
    return applied[::-1]


def current_revision(db: Database) -> str | None:
    """The revision the database is at, None before the first."""
    engine = sqlalchemy.create_engine(db.sqlalchemy_url, poolclass=sqlalchemy.NullPool)
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()


def newest_revision() -> str | None:
    """The revision this code was written for."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def run_sql(name: str) -> None:
    """Run one file of `sql/` as it stands (a revision calls this)."""
    text = resources.files("storage.migrations").joinpath("sql", name).read_text(encoding="utf-8")
    # The driver's own cursor: SQLAlchemy would read ':' and '%' in the text as parameters.
    op.get_bind().connection.cursor().execute(text)


def extension_is_available(name: str) -> bool:
    """Whether the server can create the extension; timescaledb also has to be preloaded."""
    found = op.get_bind().execute(
        sqlalchemy.text(
            "SELECT current_setting('shared_preload_libraries') LIKE '%' || CAST(:name AS text) || '%' "
            "FROM pg_available_extensions WHERE name = CAST(:name AS text)"
        ),
        {"name": name},
    )
    return bool(found.scalar())


def lz4_is_available() -> bool:
    """Whether the server was built with lz4."""
    found = op.get_bind().execute(
        sqlalchemy.text(
            "SELECT 'lz4' = ANY(enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
        )
    )
    return bool(found.scalar())


def _set_market_zone(connection: sqlalchemy.Connection, zone: dt.timezone) -> None:
    """The one place in SQL that knows market time: where a market day begins."""
    seconds = int(zone.utcoffset(None).total_seconds())
    connection.exec_driver_sql(
        "CREATE OR REPLACE FUNCTION market_day_start(day date) RETURNS timestamptz "
        "LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN "
        f"(day::timestamp AT TIME ZONE 'UTC') - make_interval(secs => {seconds})"
    )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config
