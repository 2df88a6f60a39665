"""`smf lots`: lots of meters under warranty, their failure rates and systemic faults."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, date, datetime
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from faults import OperatorFault
from pipelines.cli.output import EXIT_ATTENTION, console, emit_json, faults_to_exit, login_name
from storage.database import Database
from storage.meter_lots import import_lots, read_lots
from vee.warranty import LotReport, lot_report

app = typer.Typer(no_args_is_help=True, help="Lots of meters: warranty, failure rates, systemic faults.")

Json = Annotated[bool, typer.Option("--json", help="Output as JSON.")]


@app.command("import")
def import_(
    lots: Annotated[Path | None, typer.Option(help="CSV: code;model;size;delivered_on;supplier.")] = None,
    failures: Annotated[Path | None, typer.Option(help="CSV: lot;serial;failed_on;fault;note.")] = None,
    as_json: Json = False,
) -> None:
    """Take lots and failures from CSV files; rows that cannot be taken are listed (exit code 1)."""
    with faults_to_exit(as_json), Database.open() as db:
        if lots is None and failures is None:
            raise OperatorFault("no file", where="smf lots import", remedy="give --lots, --failures or both")
        db.migrate()
        with db.connect() as conn:
            done = import_lots(conn, lots, failures, login_name())
    if as_json:
        emit_json(asdict(done))
    else:
        console.print(f"{done.lots} lots and {done.failures} failures are new or changed")
        for one in done.rejected:
            console.print(f"[yellow]not taken[/] {one.file}, line {one.line}: {one.reason}", highlight=False)
    if done.rejected:
        raise typer.Exit(EXIT_ATTENTION)


@app.command()
def report(
    lot: Annotated[str | None, typer.Argument(help="Code of a lot; without: all.")] = None,
    as_of: Annotated[
        datetime | None, typer.Option(help="As things stood on this day.", formats=["%Y-%m-%d"])
    ] = None,
    as_json: Json = False,
) -> None:
    """Failure rate of each year from delivery, flagged above 2 % after the warranty; faults by kind.

    Exit code 1 if a lot is flagged.
    """
    with faults_to_exit(as_json), Database.open() as db:
        day = as_of.date() if as_of else _today(db)
        with db.connect() as conn:
            reports = [lot_report(one, failed, day) for one, failed in read_lots(conn, lot)]
    if as_json:
        emit_json([_document(one) for one in reports])
    else:
        for one in reports:
            _show(one)
        if not reports:
            console.print("no lots yet: smf lots import")
    if any(one.is_flagged for one in reports):
        raise typer.Exit(EXIT_ATTENTION)


def _today(db: Database) -> date:
    return datetime.now(UTC).astimezone(db.settings.market.tzinfo).date()


def _percent(share: Fraction) -> str:
    return f"{float(100 * share):.2f} %"


def _document(one: LotReport) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(part) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return [plain(part) for part in value]
        return float(value) if isinstance(value, Fraction) else value

    document: dict[str, Any] = plain(asdict(one))
    return document | {"is_flagged": one.is_flagged}


def _show(one: LotReport) -> None:
    state = (
        f"in warranty until {one.warranty_until}"
        if one.in_warranty
        else f"warranty ended {one.warranty_until}"
    )
    flag = "  [bold red]FLAGGED[/]" if one.is_flagged else ""
    console.print(
        f"[bold]Lot {one.lot.code}[/]: {one.lot.size} of {one.lot.model}, {one.failures} failed, "
        f"{state}{flag}",
        highlight=False,
        soft_wrap=True,
    )
    table = Table("year", "from", "failed", "rate", "who bears it", box=None)
    for year in one.years:
        rate = _percent(year.rate) + ("" if year.is_over else " so far")
        table.add_row(
            str(year.number),
            str(year.begins_on),
            str(year.failures),
            f"[red]{rate}[/]" if year.is_flagged else rate,
            year.liability.value,
        )
    console.print(table)
    for fault in one.faults:
        suspect = "  [red]systemic?[/]" if fault.is_suspect else ""
        console.print(
            f"  {fault.fault}: {fault.failures} ({_percent(fault.share)}), {fault.first_on} to "
            f"{fault.last_on}{suspect}",
            highlight=False,
        )
