"""`smf simulate`: meters that answer on sockets and ptys until they are stopped. A command a protocol."""

from __future__ import annotations

import typer

from pipelines.cli.simulate import fleet
from pipelines.cli.verbs import add_protocols

app = typer.Typer(no_args_is_help=True, help="Meters that answer on sockets and ptys, until Ctrl-C.")
add_protocols(app, "simulate")
fleet.register(app)
