"""What the commands of `smf simulate` share: one JSON object a line, and the instant that is simulated."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated

import orjson
import typer

from simulator.load.grid import MARKET_ZONE
from simulator.wires.running import parse_instant

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def emit_line(value: dict[str, object]) -> None:
    """One JSON object a line, at once: who reads it may wait for it."""
    typer.echo(orjson.dumps(value, default=str).decode())
    sys.stdout.flush()


def instant_of(text: str | None, otherwise: datetime | None) -> datetime:
    """The instant that was asked for, else the other, else now."""
    if text is not None:
        return parse_instant(text)
    return otherwise if otherwise is not None else datetime.now(MARKET_ZONE)
