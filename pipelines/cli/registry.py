"""`smf registry`: the registry from files and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ccee.profile import DEFAULT_PROFILE, load_profile
from closing.preflight import Known, Preflight, Severity, preflight
from exchange.registry_rules import RULES, MeterProfiles, fault_of_url
from pipelines.cli.output import (
    EXIT_ATTENTION,
    EXIT_BY_ACTOR,
    console,
    emit_json,
    errors,
    faults_to_exit,
    login_name,
)
from storage.database import Database
from storage.registry import ImportResult, RegistryFault, export_registry, load_registry
from storage.registry.constants import accept, proposals
from storage.registry.files import Issue, write_template
from storage.settings import Settings
from vee.calendars import Period, market_calendars, parse_month
from vee.layers.estimation import STRATEGIES

app = typer.Typer(help="Load and write back the registry (CSV, XLSX).", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")]

_SHOWN_ISSUES = 50


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Workbook (.xlsx), folder of CSV files, or one CSV file.")],
    check: Annotated[bool, typer.Option("--check", help="Check and compare only; load nothing.")] = False,
    actor: Annotated[
        str | None, typer.Option("--as", help="Who answers for it; default: your login.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Load a registry file: whole, or not at all with every error by sheet, row and column.

    What the file names becomes as the file has it; what it does not name stays. Headings: smf registry
    template.
    """
    with faults_to_exit(as_json), Database.open() as db:
        db.migrate()
        try:
            result = load_registry(db, file, actor=actor or login_name("--as"), rules=RULES, dry_run=check)
        except RegistryFault as fault:
            _show_refusal(fault, as_json)
            raise typer.Exit(EXIT_BY_ACTOR[fault.actor]) from fault
        with db.connect() as conn:
            proposed = proposals(conn)
    if as_json:
        emit_json(
            {
                "is_check": check,
                "sheets": result.sheets,
                "warnings": [_row(i) for i in result.warnings],
                "proposed_constants": [one.to_json() for one in proposed],
            }
        )
    else:
        _show_result(result, check)
        for one in proposed[:_SHOWN_ISSUES]:
            console.print(f"[yellow]meter {one.serial}[/]: {one.words}", highlight=False, soft_wrap=True)
        if proposed:
            console.print("If a meter is right: smf registry accept-constant SERIAL.", highlight=False)


@app.command("accept-constant")
def accept_constant(
    serial: Annotated[str, typer.Argument(help="Serial of the meter whose own constant is right.")],
    why: Annotated[str, typer.Option(help="What the constant was compared with.")],
    since: Annotated[
        datetime | None,
        typer.Option(
            "--from",
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"],
            help="Market time from which it holds; default: since the installation began.",
        ),
    ] = None,
    actor: Annotated[
        str | None, typer.Option("--as", help="Who answers for it; default: your login.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Take the constant that a meter states into the registry, with date, reason and audit.

    smf registry check lists what meters state otherwise than the registry. What was held for it (rule V11)
    still waits for a decision: smf queue.
    """
    with faults_to_exit(as_json), Database.open() as db:
        db.migrate()
        moment = None if since is None else since.replace(tzinfo=db.settings.market.tzinfo)
        who = actor or login_name("--as")
        done, _ = accept(db, serial, moment, actor=who, why=why, rules=RULES)
    if as_json:
        emit_json({**done.to_json(), "since": None if moment is None else moment.isoformat(), "why": why})
    else:
        console.print(f"Meter {serial}: {done.stated} kWh a pulse, was {done.registered}.", highlight=False)
        console.print("What was held for it waits in smf queue.")


@app.command("check")
def check_(
    month: Annotated[
        str | None, typer.Option(help="YYYY-MM; default: the month after this one.", metavar="MONTH")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Look at the registry before a month opens: each finding says what CCEE would do with it.

    Exit code 1 where something blocks a unit, or is likely wrong.
    """
    with faults_to_exit(as_json), Database.open() as db:
        db.migrate()
        today = datetime.now(db.settings.market.tzinfo).date()
        chosen = Period.month(today).following if month is None else parse_month(month)
        profile = load_profile(db.settings.ccee.profile_path or DEFAULT_PROFILE)
        known = Known(MeterProfiles(), STRATEGIES, fault_of_url, profile.musd.default_kw)
        found = preflight(db, chosen, market_calendars(db.settings.market), known)
    if as_json:
        emit_json({**asdict(found), "needs_attention": found.needs_attention})
    else:
        _show_findings(found)
    if found.needs_attention:
        raise typer.Exit(EXIT_ATTENTION)


def _show_findings(found: Preflight) -> None:
    if found.findings:
        table = Table(title=f"Registry for {found.month:%Y-%m}", title_justify="left")
        for heading in ("Severity", "Where", "What", "What CCEE does", "What to do"):
            table.add_column(heading, overflow="fold")
        for item in found.findings[:_SHOWN_ISSUES]:
            table.add_row(item.severity, item.where, item.what, item.ccee, item.remedy)
        if len(found.findings) > _SHOWN_ISSUES:
            table.caption = f"and {len(found.findings) - _SHOWN_ISSUES:,} more: --json lists all"
        console.print(table)
    counts = ", ".join(f"{found.count(severity):,} {severity}" for severity in Severity)
    console.print(f"{found.ucs:,} UCs are submitted in {found.month:%Y-%m}: {counts}.", highlight=False)
    console.print(f"CCEE's register takes changes until {found.register_closes}.", highlight=False)


@app.command("export")
def export(
    file: Annotated[Path, typer.Argument(help="Workbook (.xlsx), or a folder for CSV files.")],
    as_json: JsonOption = False,
) -> None:
    """Write the whole registry, so that importing it changes nothing."""
    with faults_to_exit(as_json), Database.open() as db:
        db.migrate()
        rows = export_registry(db, file)
    if as_json:
        emit_json({"file": str(file), "rows": rows})
    else:
        console.print(f"Wrote {sum(rows.values()):,} rows in {len(rows)} sheets to {file}.", soft_wrap=True)


@app.command()
def template(
    file: Annotated[Path, typer.Argument(help="Workbook (.xlsx), a folder for CSV files, or one .csv file.")],
    as_json: JsonOption = False,
) -> None:
    """Write an empty registry with all headings, each explained in Portuguese.

    A workbook has the explanations on its second sheet, CSV files in a text file beside them. A .csv file has
    one row per UC, for the simple case.
    """
    with faults_to_exit(as_json):
        written = write_template(file, Settings.load().market.tzinfo)
    if as_json:
        emit_json({"file": str(file), "files": [str(path) for path in written]})
    else:
        names = " and ".join(map(str, written))
        console.print(f"Wrote {names}. Fill it in, then: smf registry import {file}", soft_wrap=True)


def _show_result(result: ImportResult, is_check: bool) -> None:
    table = Table(title="Would change" if is_check else "Loaded", title_justify="left")
    table.add_column("Sheet")
    for heading in ("added", "changed", "removed", "unchanged"):
        table.add_column(heading, justify="right")
    for sheet in result.sheets:
        table.add_row(
            sheet.sheet, *(f"{n:,}" for n in (sheet.added, sheet.changed, sheet.removed, sheet.unchanged))
        )
    console.print(table)
    if not result.has_changes:
        console.print("The registry already is as the file says.")
    if result.warnings:
        console.print(_issue_table(result.warnings, "Warnings"))


def _show_refusal(fault: RegistryFault, as_json: bool) -> None:
    wrong = [issue for issue in fault.issues if not issue.is_warning]
    if as_json:
        emit_json(
            {
                "error": {"actor": fault.actor.value, "where": str(fault.path), "message": fault.message},
                "issues": [_row(issue) for issue in fault.issues],
            }
        )
        return
    errors.print(_issue_table(wrong, f"{len(wrong)} errors in {fault.path}; nothing was loaded"))


def _issue_table(issues: Sequence[Issue], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("Where", "Row", "Column", "What", "What to do"):
        table.add_column(heading, overflow="fold")
    for issue in issues[:_SHOWN_ISSUES]:
        table.add_row(issue.source, str(issue.row or ""), issue.column or "", issue.message, issue.remedy)
    if len(issues) > _SHOWN_ISSUES:
        table.caption = f"and {len(issues) - _SHOWN_ISSUES:,} more: --json lists all"
    return table


def _row(issue: Issue) -> dict[str, Any]:
    return {
        "source": issue.source,
        "row": issue.row,
        "column": issue.column,
        "message": issue.message,
        "remedy": issue.remedy,
        "is_warning": issue.is_warning,
    }
