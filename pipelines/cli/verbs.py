"""What `smf read`, `decode` and `simulate` share: each command is a protocol's own (`protocols.table`)."""

from __future__ import annotations

import typer

from protocols.table import PROTOCOLS, part


def add_protocols(app: typer.Typer, verb: str) -> None:
    """Add the commands of every protocol that has any for a verb: read, decode or simulate."""
    for entry in PROTOCOLS.values():
        reference = getattr(entry, verb)
        if reference is not None:
            part(reference)(app)
