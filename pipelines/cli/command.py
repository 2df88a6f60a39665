"""`smf command`: what is sent to a meter on request: previewed, asked for, approved, judged."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
import typer
from rich.table import Table

from collector.commands.policy import Policy, load_policy
from collector.commands.preview import Preview
from collector.commands.store import Asked, Person, approve, ask, preview_for
from collector.drivers import driver_of
from collector.service import utc_now
from collector.work.worklist import find_meter
from faults import OperatorFault
from pipelines.cli.output import EXIT_ATTENTION, AsOption, console, emit_json, faults_to_exit, login_name
from protocols.nbr14522.profiles import DEFAULT
from storage.commands import requests
from storage.database import Database
from storage.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Commands to meters: preview, request, approval, verdict.")

Json = Annotated[bool, typer.Option("--json", help="Output as JSON.")]
Meter = Annotated[str, typer.Argument(help="Serial number of the meter, or code of the UC (its main meter).")]
Code = Annotated[str, typer.Argument(help="Command as operators write it: 31, 98/32, set-clock (DLMS).")]
Values = Annotated[
    list[str] | None,
    typer.Argument(
        help='Fields: interval_min=15 day=now constants=\'[{"numerator":36,"denominator":1000}]\''
    ),
]


@app.command("list")
def list_commands(
    profile: Annotated[str, typer.Option(help="Meter profile whose layouts count.")] = DEFAULT.name,
    as_json: Json = False,
) -> None:
    """Every command that can be sent on request, and why some cannot."""
    with faults_to_exit(as_json):
        policy = load_policy(Settings.load().collector.command_policy_path)
        rows: list[dict[str, Any]] = [
            {
                "command": one.command,
                "name": one.name,
                "kind": one.kind,
                "layout": one.layout,
                "roles": sorted(policy.rule(one.command).roles),
                "second_person": policy.rule(one.command).second_person,
                "refused": None if one.refused is None else one.refused.message,
            }
            for one in driver_of(profile).offers(profile)
        ]
    if as_json:
        emit_json(rows)
        return
    table = Table(box=None)
    for title in ("Command", "Name", "Kind", "Layout", "Roles", "Second person"):
        table.add_column(title)
    for row in rows:
        layout = "[red]unknown[/]" if row["refused"] else str(row["layout"] or "")
        second = "yes" if row["second_person"] else "no"
        table.add_row(row["command"], row["name"], row["kind"], layout, ", ".join(row["roles"]), second)
    console.print(table)


@app.command()
def preview(meter: Meter, command: Code, values: Values = None, as_json: Json = False) -> None:
    """Show in words and octets what a command would do; nothing is queued."""
    with faults_to_exit(as_json), Database.open() as db, db.connect() as conn:
        meter_id = find_meter(conn, meter)
        shown = preview_for(conn, db.settings, meter_id, command, parse_values(values), utc_now())
    if as_json:
        emit_json(shown.to_json())
    else:
        show_preview(shown)


@app.command()
def request(
    meter: Meter,
    command: Code,
    values: Values = None,
    reason: Annotated[str, typer.Option("--why", help="Why; it stands in the audit record.")] = "",
    person: AsOption = None,
    as_json: Json = False,
) -> None:
    """Ask for a command; where the policy says so, it waits for a second person before it is sent."""
    with faults_to_exit(as_json), Database.open() as db:
        policy = load_policy(db.settings.collector.command_policy_path)
        with db.connect() as conn:
            asked = ask(
                conn,
                db.settings,
                policy,
                actor(policy, person),
                find_meter(conn, meter),
                command,
                parse_values(values),
                reason,
                utc_now(),
            )
    tell_asked(asked, as_json)


@app.command("approve")
def approve_request(
    request_id: Annotated[int, typer.Argument(help="Number of the request.")],
    person: AsOption = None,
    reject: Annotated[bool, typer.Option("--reject", help="Cancel it instead.")] = False,
    note: Annotated[str, typer.Option(help="For the record.")] = "",
    as_json: Json = False,
) -> None:
    """Approve another person's request, or reject it."""
    with faults_to_exit(as_json), Database.open() as db:
        policy = load_policy(db.settings.collector.command_policy_path)
        with db.connect() as conn:
            approve(conn, policy, request_id, actor(policy, person).name, is_approved=not reject, note=note)
    if as_json:
        emit_json({"request_id": request_id, "approved": not reject})
    else:
        console.print(f"Request {request_id} is {'cancelled' if reject else 'queued'}.")


@app.command()
def status(
    request_id: Annotated[
        int | None, typer.Argument(help="One request, in full; without it the latest.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many of the latest.")] = 20,
    as_json: Json = False,
) -> None:
    """What became of requests, and with which verdict. Exit code 1: one has failed."""
    with faults_to_exit(as_json), Database.open() as db, db.connect() as conn:
        rows = requests.status(conn, request_id=request_id, limit=limit)
        if request_id is not None and not rows:
            raise OperatorFault(
                f"there is no request {request_id}", where="command", remedy="smf command status lists them"
            )
    if as_json:
        emit_json(rows)
    elif request_id is not None:
        _show_one(rows[0])
    else:
        _show_many(rows)
    if any(row["state"] == "failed" for row in rows):
        raise typer.Exit(EXIT_ATTENTION)


def actor(policy: Policy, person: str | None) -> Person:
    """Who acts at this shell, with the roles that the policy file gives."""
    name = person or login_name("--as")
    return Person(name, policy.roles_of(name))


def parse_values(words: list[str] | None) -> dict[str, Any]:
    """`name=value` words; a value is JSON where it reads as such, else text.

    >>> parse_values(["interval_min=15", "day=now"])
    {'interval_min': 15, 'day': 'now'}
    """
    values: dict[str, Any] = {}
    for word in words or []:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise OperatorFault(f"{word!r} is not a field", where="values", remedy="write name=value")
        try:
            values[name] = orjson.loads(text)
        except orjson.JSONDecodeError:
            values[name] = text
    return values


def show_preview(shown: Preview) -> None:
    """Print the words and the octets."""
    console.print(shown.en, markup=False)
    for note in shown.notes_en:
        console.print(f"  note: {note}", markup=False)
    for frame in shown.hex:
        console.print(frame, markup=False, highlight=False, style="dim")


def tell_asked(asked: Asked, as_json: bool) -> None:
    """Say what became of a request."""
    if as_json:
        emit_json(
            {
                "request_id": asked.request_id,
                "is_new": asked.is_new,
                "preview": asked.preview.to_json(),
                "policy": asked.decision.to_json(),
            }
        )
        return
    show_preview(asked.preview)
    if not asked.is_new:
        console.print(f"Request {asked.request_id} for the same is open already.")
    elif asked.decision.needs_approval:
        console.print(
            f"Request {asked.request_id} waits for a second person: smf command approve {asked.request_id}"
        )
    else:
        console.print(f"Request {asked.request_id} is queued: smf command status {asked.request_id}")


def _show_many(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None)
    for title in ("Request", "Command", "Meter", "By", "Approved by", "State", "Verdict", "Reason"):
        table.add_column(title)
    for row in rows:
        verdict = row["verdict"] or ("outcome open" if row["is_outcome_open"] else "")
        cells = (row["request_id"], row["command"], row["meter_serial"], row["requested_by"])
        more = (row["approved_by"] or "", row["state"], verdict, row["reason"])
        table.add_row(*map(str, (*cells, *more)))
    console.print(table)


def _show_one(row: dict[str, Any]) -> None:
    table = Table(box=None, show_header=False)
    for name, value in row.items():
        if value not in (None, {}, [], ""):
            text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
            table.add_row(name, text)
    console.print(table, markup=False)
