"""The `smf` command line.

Charter: one module per subject, each exposing a Typer `app` (a group of commands) or a `register`
function (top-level commands). Commands parse arguments, call one function of a room below, and show the
result through `pipelines.cli.output`; no logic of the field lives here. Modules are imported only when
their command runs, so that `smf --help` stays quick.
"""

from __future__ import annotations

from pipelines.cli.main import main

__all__ = ["main"]
