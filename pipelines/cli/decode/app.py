"""`smf decode`: octets of a capture into words, one JSON object a record. Commands for each protocol."""

from __future__ import annotations

import typer

from pipelines.cli.verbs import add_protocols

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Octets into words, one JSON object a record."
)
add_protocols(app, "decode")


@app.callback()
def _group() -> None:
    """Octets into words, one JSON object a record."""
