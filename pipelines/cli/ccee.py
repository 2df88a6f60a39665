"""`smf ccee`: the stand-in server, the exact bodies, deliveries, receipts and the month as counted."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import httpx
import typer
from rich.progress import Progress
from rich.table import Table

from ccee import ledger
from ccee.client import open_client
from ccee.counting import month_view
from ccee.delivery import deliver_day, practice_only
from ccee.profile import DEFAULT_PROFILE, Profile, load_profile, unverified_settings
from ccee.sending import DeliverySummary
from ccee.standin.records import Unit
from ccee.standin.register import units_from_file, units_from_registry
from ccee.standin.rules import StandIn
from ccee.standin.server import serve, utc_now
from faults import OperatorFault, RetryFault
from pipelines.cli.output import EXIT_ATTENTION, console, emit_json, faults_to_exit
from pipelines.cli.period import (
    AsOfOption,
    DaysOption,
    FromOption,
    MonthOption,
    ToOption,
    chosen_days,
    parse_day,
    parse_moment,
)
from storage.bulk import read_frame
from storage.database import Database
from storage.settings import Settings
from vee.calendars import market_calendars, parse_month

app = typer.Typer(
    help="The stand-in server, exact bodies, deliveries and their receipts.", no_args_is_help=True
)

# Of the stand-in where nobody gives another: it guards nothing.
STANDIN_SECRET = "standin"
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]
DayOption = Annotated[str, typer.Option("--day", help="Civil day, YYYY-MM-DD.", metavar="DAY")]
UcArgument = Annotated[str, typer.Argument(help="Consumer unit code.", metavar="UC")]


def _profile(settings: Settings) -> Profile:
    return load_profile(settings.ccee.profile_path or DEFAULT_PROFILE)


@contextmanager
def _database() -> Iterator[tuple[Database, Profile]]:
    with Database.open() as db:
        yield db, _profile(db.settings)


@app.command()
def standin(
    port: Annotated[int, typer.Option(help="Port on loopback; 0 takes a free one.")] = 8480,
    state: Annotated[
        Path | None, typer.Option(help="File that keeps what was stored over a restart.")
    ] = None,
    units: Annotated[
        Path | None, typer.Option(help="CCEE's register as JSON; without it, our registry as it stands now.")
    ] = None,
    secret: Annotated[
        str,
        typer.Option(envvar="SMF_CCEE_CLIENT_SECRET", help="Client secret that it takes from each agent."),
    ] = STANDIN_SECRET,
    as_of: Annotated[
        str,
        typer.Option(
            "--as-of",
            help="Begin at this moment (market time where it has no offset) and go on from there; "
            "default now. For months that are closed today.",
            metavar="MOMENT",
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Serve CCEE's side until interrupted."""
    with faults_to_exit(as_json):
        settings = Settings.load()
        began_at = parse_moment(as_of, settings)
        ahead = began_at - utc_now() if began_at else timedelta(0)
        if units is not None:
            profile, register = _profile(settings), units_from_file(units)
        else:
            with _database() as (db, found):
                profile, register = found, units_from_registry(db)
        agents = {unit.agent: secret for unit in register}
        calendars = market_calendars(settings.market)
        operator = StandIn(profile, calendars, agents, register, lambda: utc_now() + ahead, state)
        asyncio.run(_serve_until_interrupted(operator, register, port, secret, as_json))


async def _serve_until_interrupted(
    operator: StandIn, register: list[Unit], port: int, secret: str, as_json: bool
) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with serve(operator, port) as serving:
        if as_json:
            emit_json(
                {"base_url": serving.base_url, "units": len(register), "agents": sorted(operator.agents)}
            )
        else:
            console.print(f"CCEE stand-in at {serving.base_url}, {len(register)} units", highlight=False)
            console.print(f"  SMF_CCEE_BASE_URL={serving.base_url}", highlight=False)
            # A secret of somebody's own is not printed; the stand-in's own is no secret.
            shown = STANDIN_SECRET if secret == STANDIN_SECRET else "(the secret that you gave)"
            for agent in sorted(operator.agents):
                console.print(f"  SMF_AGENT_{agent}_CLIENT_ID=CONCESSIONARIA_{agent}", highlight=False)
                console.print(f"  SMF_AGENT_{agent}_CLIENT_SECRET={shown}", highlight=False)
            console.print(f"Described at {serving.base_url}/openapi.json. Ctrl-C ends it.", highlight=False)
        sys.stdout.flush()
        await stop.wait()


@app.command()
def body(
    uc: UcArgument,
    day: Annotated[str, typer.Argument(help="Civil day, YYYY-MM-DD.", metavar="DAY")],
    version: Annotated[int | None, typer.Option(help="Version of the submission; default the last.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The exact JSON that was sent, byte for byte, checked against the ledger's SHA-256."""
    with faults_to_exit(as_json), _database() as (db, profile):
        item = ledger.find(db, uc, parse_day(day, "DAY"), version)
        content = ledger.body_of(db, profile, item)
        if as_json:
            emit_json(
                {
                    "uc": item.uc_code,
                    "day": item.day,
                    "version": item.version,
                    "series_version": item.series_version,
                    "state": item.state,
                    "sha256": item.body_sha256.hex(),
                    "bytes": len(content),
                    "body": content.decode(),
                }
            )
        else:
            sys.stdout.buffer.write(content)
            sys.stdout.flush()


@app.command()
def deliver(
    day: DaysOption = [],  # noqa: B006 - typer makes a list of its own for each call
    first: FromOption = "",
    last: ToOption = "",
    month: MonthOption = "",
    as_of: AsOfOption = "",
    dry_run: Annotated[
        Path | None,
        typer.Option(
            "--dry-run",
            help="Write the bodies to this folder instead, whatever the deadlines say; send nothing.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Send what is due of one day, several, or a month. Run again, it sends nothing twice."""
    with faults_to_exit(as_json), _database() as (db, profile):
        days, moment = chosen_days(day, first, last, month), parse_moment(as_of, db.settings)
        if not days:
            raise OperatorFault(
                "no days are named", where="--day", remedy="give --day, --from and --to, or --month"
            )
        if moment is not None:
            settings = db.settings.ccee
            practice_only(profile.environment(settings.environment, settings.base_url or "").base_url)
        with Progress(console=console, transient=True, disable=as_json) as shown:
            task = shown.add_task("delivering", total=None)
            summary = deliver_day(
                db,
                days,
                profile,
                lambda agent: open_client(db.settings.ccee, profile, frozenset([agent]), os.environ),
                market_calendars(db.settings.market),
                now=datetime.now(UTC),
                run_id=f"smf-{uuid4()}",
                progress=lambda stage, done, total: shown.update(
                    task, description=stage, completed=done, total=total
                ),
                dry_run_dir=dry_run,
                as_of=moment,
            )
        _show(summary, as_json)
    if summary.needs_attention:
        raise typer.Exit(EXIT_ATTENTION)


def _show(summary: DeliverySummary, as_json: bool) -> None:
    if as_json:
        emit_json(
            {**asdict(summary), "ready_not_sent": summary.ready_not_sent, "summary": summary.sentence()}
        )
        return
    console.print(summary.sentence(), highlight=False)
    waiting = {
        "rejected before, waiting for other data": summary.refused,
        "not ready": summary.not_ready,
        "held": summary.held,
        "suspended or not active": summary.suspended,
        "due, but the month is closed": summary.after_deadline,
    }
    for label, count in waiting.items():
        if count:
            console.print(f"  {count} {label}", highlight=False)
    if summary.musd_hours:
        console.print(
            f"  {summary.musd_hours} hours above 125 % of the MUSD: CCEE counts them as zero", highlight=False
        )
    for uc_code, reason in summary.blocked.items():
        console.print(f"  [yellow]UC {uc_code} was not sent[/]: {reason}", highlight=False)
    for problem in summary.problems:
        console.print(f"  [red]{problem}[/]", highlight=False)
    if summary.unsent:
        console.print(
            f"  [red]{summary.ready_not_sent} UC-days are ready and were not sent[/]", highlight=False
        )
        for unsent in summary.unsent:
            console.print(f"    {unsent}", highlight=False)


_LEDGER = """
SELECT s.uc_code AS uc, a.code AS agent, s.version, s.series_version, s.cause, s.state, s.state_at,
       encode(s.body_sha256, 'hex') AS sha256, s.body_bytes,
       (SELECT count(*) FROM submission_attempt t WHERE t.submission_id = s.id) AS attempts,
       l.http_status, l.receipt, l.error
FROM submission_state s
JOIN uc u ON u.id = s.uc_id
JOIN agent a ON a.id = s.agent_id
LEFT JOIN LATERAL (SELECT * FROM submission_attempt t WHERE t.submission_id = s.id
                   ORDER BY t.attempt DESC LIMIT 1) l ON true
WHERE s.day = $1 ORDER BY u.code, s.version
"""


@app.command("ledger")
def ledger_command(day: DayOption, as_json: JsonOption = False) -> None:
    """What CCEE was told of a day, and what it answered."""
    with faults_to_exit(as_json), _database() as (db, _):
        rows: list[dict[str, Any]] = read_frame(db, _LEDGER, [parse_day(day)]).to_dicts()
        if as_json:
            emit_json({"day": day, "submissions": rows})
            return
        table = Table(title=f"Submissions of {day}", title_justify="left", box=None)
        for heading in ("UC", "Version", "Cause", "State", "Tries", "HTTP", "Receipt", "SHA-256", "Error"):
            table.add_column(heading)
        for row in rows:
            cells = (
                row["uc"], row["version"], row["cause"], row["state"], row["attempts"], row["http_status"],
                row["receipt"], row["sha256"], row["error"],
            )  # fmt: skip
            table.add_row(*("" if cell is None else str(cell) for cell in cells))
        console.print(table)
        console.print(f"{len(rows)} submissions", highlight=False)


@app.command()
def month(
    uc: UcArgument,
    month: Annotated[str, typer.Argument(help="Measurement month, YYYY-MM.", metavar="MONTH")],
    as_json: JsonOption = False,
) -> None:
    """The stand-in's count of a month against ours."""
    with faults_to_exit(as_json), _database() as (db, profile):
        ours = month_view(db, profile, uc, parse_month(month))
        settings = db.settings.ccee
        theirs = _counted(
            profile.environment(settings.environment, settings.base_url or "").base_url, uc, month
        )
        different = [
            {"day": mine["dia"], "hour": mine["hora"], "ours": mine, "theirs": other}
            for mine, other in zip(ours["horas"], theirs["horas"], strict=True)
            if mine["situacao"] != other["situacao"] or Decimal(mine["kwh"]) != Decimal(other["kwh"])
        ]
        if as_json:
            emit_json({"uc": uc, "month": month, "equal": not different, "ours": ours, "theirs": theirs})
        else:
            _show_month(uc, month, ours, theirs, different)
    if different:
        raise typer.Exit(EXIT_ATTENTION)


def _counted(base_url: str, uc: str, month: str) -> dict[str, Any]:
    """The stand-in's view; CCEE itself has no such call for a distributor that is known."""
    where = f"{base_url}/__contabilizacao/{uc}/{month}"
    try:
        reply = httpx.get(where, timeout=30, trust_env=False)
        reply.raise_for_status()
        counted: dict[str, Any] = reply.json()
    except (httpx.HTTPError, ValueError) as error:
        raise RetryFault(
            f"no count of the month: {error}",
            where=where,
            remedy="start `smf ccee standin` and set SMF_CCEE_BASE_URL to its address",
        ) from error
    return counted


def _show_month(
    uc: str, month: str, ours: dict[str, Any], theirs: dict[str, Any], different: list[dict[str, Any]]
) -> None:
    table = Table(title=f"UC {uc}, {month}", title_justify="left", box=None)
    for heading in ("", "Our ledger", "Stand-in"):
        table.add_column(heading)
    for label, key in (
        ("Days received", "diasRecebidos"),
        ("kWh counted", "totalKwh"),
        ("kWh rejected", "rejeitadoKwh"),
        ("Hours consistent", "horasConsistidas"),
        ("Hours rejected", "horasRejeitadas"),
        ("Hours absent", "horasAusentes"),
    ):
        table.add_row(label, str(ours[key]), str(theirs[key]))
    console.print(table)
    for item in different[:20]:
        mine, other = item["ours"], item["theirs"]
        console.print(
            f"  {item['day']} hour {item['hour']}: {mine['kwh']} {mine['situacao']} here, "
            f"{other['kwh']} {other['situacao']} there",
            highlight=False,
        )
    console.print("[green]equal[/]" if not different else f"[red]{len(different)} hours differ[/]")


@app.command()
def profile(as_json: JsonOption = False) -> None:
    """The contract profile in force: what of it is assumed, how surely, and why."""
    with faults_to_exit(as_json):
        found = _profile(Settings.load())
        settings = unverified_settings(found)
        if as_json:
            emit_json({"name": found.name, "body_format": found.body_format, "unverified": settings})
            return
        table = Table(title=f"{found.name}: settings not verified", title_justify="left", box=None)
        for heading in ("Setting", "Value", "Confidence", "Why"):
            table.add_column(heading)
        for item in settings:
            table.add_row(item.key, item.value, item.confidence, item.why)
        console.print(table)
