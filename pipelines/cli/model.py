"""`smf model`: the meter models that are known, of every protocol, the utility's own included."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.table import Table

from faults import OperatorFault
from pipelines.cli.output import console, emit_json, faults_to_exit
from protocols.table import PROTOCOLS, catalogues

app = typer.Typer(no_args_is_help=True, help="Meter models of every protocol, one's own included.")

WITH_MODELS = tuple(entry.name for entry in PROTOCOLS.values() if entry.models is not None)


@dataclass(frozen=True)
class Row:
    """One model: the name that the registry writes as a meter model's profile."""

    profile: str
    protocol: str
    maker: str
    description: str
    confidence: str


@app.callback()
def models() -> None:
    """Meter models of every protocol, one's own included."""


@app.command("list")
def list_(
    protocol: Annotated[str | None, typer.Option(help=f"Only of: {', '.join(WITH_MODELS)}.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """What may stand as a meter model's profile in the registry; files of one's own: see smf.toml."""
    with faults_to_exit(as_json):
        if protocol is not None and protocol not in WITH_MODELS:
            raise OperatorFault(
                f"no protocol {protocol!r}",
                where="--protocol",
                remedy=f"use one of: {', '.join(WITH_MODELS)}",
            )
        rows = [row for row in _rows() if protocol in (None, row.protocol)]
    if as_json:
        emit_json([asdict(row) for row in rows])
        return
    table = Table(box=None)
    for heading in ("Profile", "Protocol", "Maker", "What it is", "Confidence"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(row.profile, row.protocol, row.maker, row.description, row.confidence)
    console.print(table)


def _rows() -> Iterator[Row]:
    for entry, models in catalogues():
        for model in models.rows():
            yield Row(model.profile, entry.name, model.maker, model.description, model.confidence)
