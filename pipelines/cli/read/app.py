"""`smf read`: one meter, now, without queue and database. A command for each protocol."""

from __future__ import annotations

import typer

from pipelines.cli.verbs import add_protocols

app = typer.Typer(no_args_is_help=True, help="Read one meter now, without the queue.")
add_protocols(app, "read")


@app.callback()
def _group() -> None:
    """Read one meter now, without the queue."""
