"""`smf simulate fleet`: many meters at once, of a fleet file or the demonstration's."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict, astuple, replace
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pipelines.cli.output import console, faults_to_exit
from pipelines.cli.simulate.output import Json, emit_line, instant_of
from simulator.fleets.demo import demo_fleet
from simulator.fleets.file import load_fleet
from simulator.fleets.runner import PlannedFleetServer, ServedUnitMeter
from simulator.fleets.server import FleetServer, ServedMeter
from simulator.load.clock import SettableClock
from simulator.load.grid import MARKET_ZONE
from simulator.nbr14522.server import LOOPBACK
from simulator.wires.running import serve_until_stopped

_DEMO_DAY = datetime(2026, 11, 20, tzinfo=MARKET_ZONE)


def register(app: typer.Typer) -> None:
    """Add fleets to `smf simulate`."""
    app.command("fleet")(fleet)


def fleet(
    file: Annotated[
        Path | None, typer.Argument(help="A fleet file (docs/frota_simulada.md); without: the demonstration.")
    ] = None,
    points: Annotated[int, typer.Option(help="Demonstration: consumer units.", min=1)] = 24,
    day: Annotated[
        datetime, typer.Option(help="Demonstration: day to be collected.", formats=["%Y-%m-%d"])
    ] = _DEMO_DAY,
    seed: Annotated[int, typer.Option(help="Demonstration: other seeds, other consumers.", min=0)] = 0,
    now: Annotated[
        str | None, typer.Option(help="Simulated instant. Default: the file's, or 00:10 after the day.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    first_port: Annotated[
        int | None, typer.Option(help="Ports from here on; 0 takes free ones.", min=0, max=65_535)
    ] = None,
    collector: Annotated[
        str | None, typer.Option(help="Fleet file: HOST:PORT that units behind CGNAT call.")
    ] = None,
    as_json: Json = False,
) -> None:
    """A fleet: of a file, or the demonstration. Standard input takes: now 2026-11-21T00:10:00-03:00."""
    with faults_to_exit(as_json):
        if file is not None:
            _serve_planned(file, now, host, first_port, collector, as_json)
            return
        after_day = datetime.combine(day.date() + timedelta(days=1), time(0, 10), MARKET_ZONE)
        clock = SettableClock(instant_of(now, after_day))
        built = demo_fleet(points, day.date(), seed)
        server = FleetServer(built, clock, host=host or LOOPBACK, first_port=first_port or 0)

        def started(served: FleetServer) -> None:
            title = f"{len(served.meters)} meters of {points} points"
            headings = ("UC", "Role", "Serial", "URL", "Profile", "Scenario")
            _show_meters(served.meters, title, headings, {"points": points}, clock, as_json)

        asyncio.run(serve_until_stopped(server, started, clock=clock, report=emit_line, control=sys.stdin))


def _serve_planned(
    file: Path,
    now: str | None,
    host: str | None,
    first_port: int | None,
    collector: str | None,
    as_json: bool,
) -> None:
    real_now = datetime.now(MARKET_ZONE)
    plan = load_fleet(file, real_now, collector)
    plan = replace(
        plan,
        host=plan.host if host is None else host,
        first_port=plan.first_port if first_port is None else first_port,
    )
    clock = SettableClock(instant_of(now, plan.now or real_now))
    server = PlannedFleetServer(plan, clock)

    def started(served: PlannedFleetServer) -> None:
        title = f"{plan.name}: {len(served.meters)} meters behind {len(plan.units)} addresses"
        headings = ("Group", "Unit", "Serial", "URL", "Model", "Addressing", "Address", "Link")
        _show_meters(served.meters, title, headings, {"units": len(plan.units)}, clock, as_json)

    asyncio.run(serve_until_stopped(server, started, clock=clock, report=emit_line, control=sys.stdin))


def _show_meters(
    meters: Sequence[ServedMeter | ServedUnitMeter],
    title: str,
    headings: tuple[str, ...],
    counts: dict[str, int],
    clock: SettableClock,
    as_json: bool,
) -> None:
    if as_json:
        for meter in meters:
            emit_line(asdict(meter))
        emit_line({"meters": len(meters), **counts, "now": clock().isoformat()})
        return
    table = Table(title=title, box=None)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for meter in meters:
        table.add_row(*map(str, astuple(meter)))
    console.print(table)
    console.print("Ctrl-C ends it; a line such as 'now 2026-11-21T00:10:00-03:00' sets the instant")
