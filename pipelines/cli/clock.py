"""`smf clock`: how wrong meters' clocks are, where they are going, and a correction on request."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timezone
from typing import Annotated

import typer
from rich.table import Table

from collector.commands.clock.policy import request_correction
from collector.commands.clock.storage import ClockStatus, clock_status
from collector.commands.policy import load_policy
from collector.service import utc_now
from collector.work.worklist import find_meter
from pipelines.cli.command import actor, tell_asked
from pipelines.cli.output import EXIT_ATTENTION, AsOption, console, emit_json, faults_to_exit
from storage.database import Database

app = typer.Typer(no_args_is_help=True, help="Meters' clocks: drift, forecast, correction.")

Json = Annotated[bool, typer.Option("--json", help="Output as JSON.")]


@app.command()
def status(
    meter: Annotated[str | None, typer.Argument(help="UC or meter; without it all, the worst first.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    as_json: Json = False,
) -> None:
    """Drift, rate in ppm, and when 1 and 60 minutes are crossed. Exit code 1: one is over 60 minutes."""
    with faults_to_exit(as_json), Database.open() as db, db.connect() as conn:
        policy = load_policy(db.settings.collector.command_policy_path)
        now = utc_now()
        ids = None if meter is None else [find_meter(conn, meter)]
        found = clock_status(conn, policy.clock, now, ids)[:limit]
        zone = db.settings.market.tzinfo
    if as_json:
        emit_json([asdict(one) for one in found])
    else:
        console.print(_table(found, zone))
    if any(one.forecast and abs(one.forecast.drift_s) > policy.clock.automatic_up_to_s for one in found):
        raise typer.Exit(EXIT_ATTENTION)


@app.command()
def correct(
    meter: Annotated[str, typer.Argument(help="UC or meter.")],
    reason: Annotated[
        str, typer.Option("--why", help="Why; it stands in the audit record.")
    ] = "asked for at the shell",
    person: AsOption = None,
    as_json: Json = False,
) -> None:
    """Ask for a correction that keeps intervals whole; also below 1 minute, never above 60."""
    with faults_to_exit(as_json), Database.open() as db:
        policy = load_policy(db.settings.collector.command_policy_path)
        with db.connect() as conn:
            now = utc_now()
            meter_id = find_meter(conn, meter)
            asked = request_correction(
                conn, db.settings, policy, actor(policy, person), meter_id, reason, now
            )
    tell_asked(asked, as_json)


def _table(found: list[ClockStatus], zone: timezone) -> Table:
    table = Table(box=None)
    for title in ("UC", "Meter", "Read at", "Drift s", "ppm", "1 min at", "60 min at", "Corrected at"):
        table.add_column(title, justify="right" if title in ("Drift s", "ppm") else "left")
    for one in found:
        told = one.forecast
        table.add_row(
            one.uc_code,
            one.serial,
            _when(one.read_at, zone),
            f"{told.drift_s:+.1f}" if told else "never read",
            f"{told.ppm:+.1f}" if told and told.ppm is not None else "",
            _when(told.minute_at if told else None, zone),
            _when(told.hour_at if told else None, zone),
            _when(one.corrected_at, zone),
        )
    return table


def _when(moment: datetime | None, zone: timezone) -> str:
    return "" if moment is None else moment.astimezone(zone).strftime("%Y-%m-%d %H:%M")
