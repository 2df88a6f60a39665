"""`smf queue`: what waits for a person's decision, worst first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from editing.queue import Waiting, waiting
from pipelines.cli.output import EXIT_ATTENTION, console, emit_json, faults_to_exit
from storage.database import Database
from vee.calendars import market_calendars

app = typer.Typer(help="What waits for a person: suspects, held readings, contradictions, approvals.")


@app.callback(invoke_without_command=True)
def queue(
    rule: Annotated[str, typer.Option(help="Only what this rule stopped: V07, clock ...")] = "",
    uc: Annotated[str, typer.Option(help="Only this UC.")] = "",
    agent: Annotated[int | None, typer.Option(help="Only UCs of this agent.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """List what waits; decide with smf decide. Exit code 1: something waits."""
    with faults_to_exit(as_json), Database.open() as db:
        today = datetime.now(UTC).astimezone(db.settings.market.tzinfo).date()
        rows = waiting(
            db, market_calendars(db.settings.market), today, rule=rule, uc_code=uc, agent_code=agent
        )
    if as_json:
        emit_json({"waiting": len(rows), "rows": [asdict(row) for row in rows[:limit]]})
    else:
        _show(rows, limit)
    if rows:
        raise typer.Exit(EXIT_ATTENTION)


def _show(rows: list[Waiting], limit: int) -> None:
    if not rows:
        console.print("nothing waits for a decision")
        return
    table = Table(box=None, title=f"{len(rows)} wait for a decision, worst first", title_justify="left")
    for name in ("Key", "UC", "Day", "Rule", "From", "To"):
        table.add_column(name, no_wrap=True, overflow="fold")
    table.add_column("kWh at stake", justify="right")
    table.add_column("Days left", justify="right")
    table.add_column("Evidence")
    for row in rows[:limit]:
        table.add_row(
            row.key,
            row.uc_code,
            str(row.day or ""),
            row.rule,
            clock(row.first_slot),
            clock(None if row.last_slot is None else row.last_slot + 1),
            "" if row.energy_kwh is None else f"{row.energy_kwh:f}",
            "" if row.days_left is None else str(row.days_left),
            evidence_words(row.evidence),
        )
    console.print(table)
    if len(rows) > limit:
        console.print(f"{len(rows) - limit} more: --limit, --rule, --uc, --agent", highlight=False)
    console.print(
        "smf decide: S accept, reject; H release, shift, reject; Q choose; A approve; D agree, refuse"
    )


def clock(slot: int | None) -> str:
    """Where a slot begins, HH:MM market time."""
    return "" if slot is None else f"{slot * 5 // 60:02}:{slot * 5 % 60:02}"


def evidence_words(evidence: Mapping[str, Any], most: int = 4) -> str:
    """The first plain values of an evidence, in one line."""
    plain = [
        f"{name} {value}"
        for name, value in evidence.items()
        if isinstance(value, str | int | float) and value != ""
    ]
    return ", ".join(plain[:most])
