"""`smf db`: the database, started, migrated, named and looked at."""

from __future__ import annotations

import signal
import threading
from typing import Annotated, Any

import typer
from rich.table import Table

from pipelines.cli.output import console, emit_json, faults_to_exit
from storage.database import Database
from storage.migrations.run import current_revision, newest_revision

app = typer.Typer(help="The database: start, migrate, connect.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]

# What the status counts: a table for each stage of the path.
_COUNTED = ("uc", "meter", "session", "reading_day", "series_day", "submission", "quarantine")


@app.command()
def start(as_json: JsonOption = False) -> None:
    """Keep the embedded server running until Ctrl-C (each command starts it by itself, for its own time)."""
    with faults_to_exit(as_json), Database.open() as db:
        if as_json:
            emit_json({"url": db.safe_url, "is_embedded": db.is_embedded})
        elif db.is_embedded:
            console.print(f"PostgreSQL runs at [bold]{db.safe_url}[/]; Ctrl-C stops it.", soft_wrap=True)
        else:
            console.print(f"SMF_DATABASE_URL names a server of its own: {db.safe_url}", soft_wrap=True)
        if db.is_embedded:
            _wait_for_signal()


@app.command()
def migrate(as_json: JsonOption = False) -> None:
    """Bring the schema to the newest revision; there is no way back but a backup."""
    with faults_to_exit(as_json), Database.open() as db:
        applied = db.migrate()
        found = {"revision": current_revision(db), "applied": applied, "timescaledb": db.has_timescale}
    if as_json:
        emit_json(found)
    elif applied:
        console.print(f"Applied {', '.join(applied)}: the schema is at revision {found['revision']}.")
    else:
        console.print(f"Nothing to do: the schema is at revision {found['revision']}.")


@app.command()
def url(as_json: JsonOption = False) -> None:
    """Print the address for psql and other clients."""
    with faults_to_exit(as_json), Database.open() as db:
        if as_json:
            emit_json({"url": db.url, "sqlalchemy_url": db.sqlalchemy_url, "dbt": db.dbt_env()})
        else:
            typer.echo(db.url)


@app.command()
def status(as_json: JsonOption = False) -> None:
    """Server, revision, size, and how many rows the main tables hold."""
    with faults_to_exit(as_json), Database.open() as db:
        found = _status(db)
    if as_json:
        emit_json(found)
        return
    table = Table(box=None, show_header=False)
    for name, value in found.items():
        for label, cell in value.items() if isinstance(value, dict) else [(name, value)]:
            table.add_row(
                label, f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else str(cell)
            )
    console.print(table)
    if found["revision"] != found["newest_revision"]:
        console.print("[bold]what to do[/] smf db migrate")


def _status(db: Database) -> dict[str, Any]:
    with db.connect(autocommit=True) as conn:
        version, size = conn.execute(
            "SELECT current_setting('server_version'), pg_database_size(current_database())"
        ).fetchone() or ("", 0)
        rows = {
            name: (conn.execute(f"SELECT count(*) FROM {name}").fetchone() or (0,))[0]
            for name in _COUNTED
            if (conn.execute("SELECT to_regclass(%s)", [name]).fetchone() or (None,))[0]
        }
    return {
        "url": db.safe_url,
        "is_embedded": db.is_embedded,
        "postgresql": version,
        "timescaledb": db.has_timescale,
        "revision": current_revision(db),
        "newest_revision": newest_revision(),
        "size_bytes": size,
        "rows": rows,
    }


def _wait_for_signal() -> None:
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    stopped.wait()
