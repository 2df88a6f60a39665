"""`smf find TEXT`: the UC that a person means, by whatever they remember of it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from documents import Column, Kind, Language, Table
from faults import OperatorFault
from pipelines.cli.document import show_table, write_csv
from pipelines.cli.language import LangOption
from pipelines.cli.output import EXIT_ATTENTION, emit_json, faults_to_exit
from storage.database import Database
from storage.registry.search import MOST_HITS, Hit, find_ucs, near_names

app = typer.Typer(help="UCs by code, name, serial, old code, unit.", add_completion=False)

_WORDS = {
    Language.PORTUGUESE: {
        "title": "Encontradas", "agent": "Agente", "meters": "Medidores", "units": "Remotas", "name": "Nome",
        "by": "Achado em", "none": "Nenhuma UC tem todas estas palavras.", "near": "Parecidas: {names}",
        "code": "código", "serial": "número de série", "alias": "código antigo", "unit": "remota",
        "point": "ponto", "uc_name": "nome",
    },
    Language.ENGLISH: {
        "title": "Found", "agent": "agent", "meters": "meters", "units": "units", "name": "name",
        "by": "found in", "none": "No UC has all these words.", "near": "Did you mean: {names}",
        "code": "code", "serial": "serial", "alias": "old code", "unit": "unit", "point": "point",
        "uc_name": "name",
    },
}  # fmt: skip


@app.command()
def find(
    text: Annotated[
        list[str], typer.Argument(help="Words, whole or in part: case, accents and order do not matter.")
    ],
    lang: LangOption = Language.ENGLISH,
    as_csv: Annotated[bool, typer.Option("--csv", help="The hits as CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Find UCs by code, name, serial of a meter, old code, unit or point.

    Exit code 1: nothing was found.
    """
    wanted = " ".join(text)
    words = _WORDS[lang]
    with faults_to_exit(as_json), Database.open() as db:
        if not wanted.strip():
            raise OperatorFault("nothing to look for", where="TEXT", remedy="give a part of a name or a code")
        with db.connect() as conn:
            hits = find_ucs(conn, wanted, datetime.now(UTC).astimezone(db.settings.market.tzinfo))
            near = [] if hits else near_names(conn, wanted)
        table = _table(hits, words)
        if as_json:
            emit_json({"hits": [asdict(hit) for hit in hits], "near": near, "most": MOST_HITS})
        elif as_csv:
            write_csv(table)
        else:
            show_table(table, lang)
            if near:
                typer.echo(words["near"].format(names=", ".join(near)))
    if not hits:
        raise typer.Exit(EXIT_ATTENTION)


def _table(hits: list[Hit], words: dict[str, str]) -> Table:
    columns = [
        Column("UC", Kind.CODE),
        Column(words["name"]),
        Column(words["agent"], Kind.CODE),
        Column(words["meters"], Kind.CODE),
        Column(words["units"], Kind.CODE),
        Column(words["by"]),
    ]
    rows = [
        (
            hit.uc_code,
            hit.uc_name,
            "" if hit.agent_code is None else str(hit.agent_code),
            " ".join(hit.serials),
            " ".join(hit.units),
            f"{words['uc_name' if hit.by == 'name' else hit.by]}: {hit.value}",
        )
        for hit in hits
    ]
    return Table(words["title"], columns, rows, empty=words["none"])
