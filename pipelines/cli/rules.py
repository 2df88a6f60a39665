"""`smf rules`: the rules that judge, their parameters, and what differs for a UC, a subgroup or an agent."""

from __future__ import annotations

import datetime as dt
import getpass
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from faults import OperatorFault
from pipelines.cli.output import console, emit_json, faults_to_exit
from storage.database import Database
from storage.review.rule_overrides import Scope, end_override, overrides, set_override
from vee.parameters import with_value
from vee.rules.table import BY_ID, RULES

app = typer.Typer(help="The rules that judge what was measured, and their parameters.", no_args_is_help=True)

_DAY = "%Y-%m-%d"
Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]
By = Annotated[str, typer.Option("--as", help="Who answers for it.")]


@app.command("list")
def list_rules(
    rule: Annotated[str, typer.Argument(help="Only this rule: V14.")] = "", as_json: Json = False
) -> None:
    """Show rules with their default parameters, and every override."""
    with faults_to_exit(as_json), Database.open() as db, db.connect() as conn:
        chosen = [one for one in RULES if not rule or one.id == _known(rule)]
        found = overrides(conn, rule)
    if as_json:
        emit_json(
            {
                "rules": [{"id": one.id, "check": one.check_pt, **asdict(one.defaults)} for one in chosen],
                "overrides": [{**asdict(one), "scope": str(one.scope)} for one in found],
            }
        )
        return
    table = Table(box=None)
    for name in ("Rule", "Severity", "What it checks", "Parameters"):
        table.add_column(name, overflow="fold")
    for one in chosen:
        own = {k: v for k, v in asdict(one.defaults).items() if k not in ("severity", "enabled")}
        shown = ", ".join(f"{name}={value}" for name, value in own.items())
        table.add_row(one.id, one.defaults.severity.value, one.check_pt, shown)
    console.print(table)
    if not found:
        console.print("no overrides")
        return
    table = Table(box=None, title="Overrides", title_justify="left")
    for name in ("No.", "Rule", "Parameter", "Value", "For", "From", "To", "Reason", "By"):
        table.add_column(name, overflow="fold")
    for entry in found:
        until = str(entry.valid_to or "")
        cells = (entry.rule, entry.parameter, entry.value, str(entry.scope), str(entry.valid_from), until)
        table.add_row(str(entry.id), *cells, entry.reason, entry.set_by)
    console.print(table)


@app.command("set")
def set_parameter(
    rule: Annotated[str, typer.Argument(help="V14")],
    parameter: Annotated[str, typer.Argument(help="hours, severity, enabled ...")],
    value: Annotated[str, typer.Argument(help="As in the file of parameters: 8, hold, false")],
    reason: Annotated[str, typer.Option("--why", help="Why this differs.")],
    first_day: Annotated[dt.datetime, typer.Option("--from", formats=[_DAY], help="First day of it.")],
    end_day: Annotated[
        dt.datetime | None, typer.Option("--to", formats=[_DAY], help="First day without it.")
    ] = None,
    uc: Annotated[str | None, typer.Option(help="For this UC.")] = None,
    subgroup: Annotated[str | None, typer.Option(help="For this tariff subgroup: A4.")] = None,
    agent: Annotated[int | None, typer.Option(help="For the UCs of this agent.")] = None,
    by: By = "",
    as_json: Json = False,
) -> None:
    """Have a rule's parameter differ for a UC, a subgroup or an agent, from a day on."""
    with faults_to_exit(as_json), Database.open() as db:
        # The value is judged before anything is stored: a wrong one would stop the derivation.
        with_value(BY_ID[_known(rule)].defaults, parameter, value, rule)
        with db.connect() as conn:
            number = set_override(
                conn,
                rule,
                parameter,
                value,
                Scope(uc, subgroup, agent),
                first_day.date(),
                None if end_day is None else end_day.date(),
                reason=reason,
                actor=by or getpass.getuser(),
            )
    _say(as_json, number, f"override {number} is kept; days that are derived from now on are judged by it")


@app.command("end")
def end(
    number: Annotated[int, typer.Argument(help="Of smf rules list.")],
    on: Annotated[dt.datetime, typer.Option("--on", formats=[_DAY], help="First day without it.")],
    by: By = "",
    as_json: Json = False,
) -> None:
    """Have an override hold no more from a day on."""
    with faults_to_exit(as_json), Database.open() as db, db.connect() as conn:
        end_override(conn, number, on.date(), actor=by or getpass.getuser())
    _say(as_json, number, f"override {number} ends on {on.date()}")


def _say(as_json: bool, number: int, words: str) -> None:
    if as_json:
        emit_json({"override": number})
    else:
        console.print(words)


def _known(rule: str) -> str:
    if rule not in BY_ID:
        raise OperatorFault(
            f"no rule {rule!r}", where="smf rules", remedy=f"the rules are {', '.join(sorted(BY_ID))}"
        )
    return rule
