"""`smf simulate`: meters that answer on sockets and ptys until they are stopped."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, replace
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.table import Table

from faults import OperatorFault
from pipelines.cli.output import console, faults_to_exit
from pipelines.cli.simulate import dlms as simulate_dlms
from pipelines.cli.simulate import stream as simulate_stream
from protocols.nbr14522.profiles import PROFILES, profile_named
from simulator.fleets.demo import demo_fleet
from simulator.fleets.file import load_fleet
from simulator.fleets.runner import PlannedFleetServer, ServedUnitMeter
from simulator.fleets.server import FleetServer, ServedMeter
from simulator.fleets.single import end_of, generated_meter, recorded_meter
from simulator.load.clock import ClockModel, SettableClock
from simulator.load.grid import MARKET_ZONE
from simulator.load.recording import read_pulses_csv
from simulator.load.shapes import SHAPES
from simulator.nbr14522.line import Station
from simulator.nbr14522.meter import SimulatedMeter
from simulator.nbr14522.server import LOOPBACK, MeterServer, PtyMeterServer, TcpMeterServer
from simulator.wires.faultplan import TELNET_OPTIONS, FaultPlan
from simulator.wires.running import parse_instant, serve_until_stopped

app = typer.Typer(no_args_is_help=True, help="Meters that answer on sockets and ptys, until Ctrl-C.")

simulate_stream.register(app)
simulate_dlms.register(app)

_DEMO_DAY = datetime(2026, 11, 20, tzinfo=MARKET_ZONE)


def _names(known: Iterable[str]) -> str:
    return ", ".join(sorted(known))


Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def _line(value: dict[str, object]) -> None:
    typer.echo(orjson.dumps(value, default=str).decode())
    sys.stdout.flush()


@app.command()
def nbr14522(
    port: Annotated[int, typer.Option(help="TCP port; 0 takes a free one.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = LOOPBACK,
    pty: Annotated[bool, typer.Option("--pty", help="A pseudo terminal in place of TCP.")] = False,
    pulses: Annotated[
        Path | None, typer.Option(help="CSV with interval_end_local,pulses; label = END of the interval.")
    ] = None,
    load: Annotated[
        str, typer.Option(help=f"Without --pulses: {', '.join(sorted(SHAPES))}.")
    ] = "supermarket",
    peak_kw: Annotated[float, typer.Option(help="Without --pulses: peak of the load.", min=0.1)] = 100.0,
    num: Annotated[int, typer.Option(help="kWh per pulse, numerator.", min=1, max=999_999)] = 72,
    den: Annotated[int, typer.Option(help="kWh per pulse, denominator.", min=1, max=999_999)] = 10_000,
    serial: Annotated[str, typer.Option(help="Meter serial, eight digits.")] = "12345678",
    profile: Annotated[str, typer.Option(help=f"One of: {_names(PROFILES)}.")] = "default",
    now: Annotated[
        str | None, typer.Option(help="The meter's instant. Default: end of the CSV, else the time it is.")
    ] = None,
    running: Annotated[
        bool | None,
        typer.Option("--running/--frozen", help="Whether time goes on."),
    ] = None,
    clock_offset_s: Annotated[float, typer.Option(help="Clock error, seconds; positive: fast.")] = 0.0,
    drift_ppm: Annotated[float, typer.Option(help="Growth of the clock error, parts per million.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the generated load and of random faults.")] = 0,
    silent: Annotated[bool, typer.Option("--silent", help="Fault: never answers.")] = False,
    refuse_first: Annotated[int, typer.Option(help="Fault: resets the first N connections.")] = 0,
    drop_first: Annotated[int, typer.Option(help="Fault: breaks the first N connections in mid-block.")] = 0,
    bad_crc_block: Annotated[
        list[int] | None, typer.Option(help="Fault: damages the Nth block of a connection; may be repeated.")
    ] = None,
    bad_crc_probability: Annotated[
        float, typer.Option(help="Fault: damages blocks at random.", max=1.0)
    ] = 0.0,
    wait: Annotated[int, typer.Option(help="Fault: puts each command off with WAIT so many times.")] = 0,
    baud: Annotated[int | None, typer.Option(help="Fault: a slow line, bits per second.", min=300)] = None,
    telnet: Annotated[bool, typer.Option("--telnet", help="Fault: telnet options at connect.")] = False,
    as_json: Json = False,
) -> None:
    """One meter, from a CSV of pulses or from a generated load."""
    with faults_to_exit(as_json):
        if len(serial) != 8 or not serial.isdecimal():
            raise OperatorFault(
                f"serial {serial!r} is not eight digits", where="--serial", remedy="pad with zeros"
            )
        if load not in SHAPES:
            raise OperatorFault(f"no load {load!r}", where="--load", remedy=f"use one of: {_names(SHAPES)}")
        meter_profile = profile_named(profile)
        recording = None if pulses is None else read_pulses_csv(pulses, num / den)
        instant = _instant(now, None if recording is None else end_of(recording))
        error = ClockModel(instant, clock_offset_s, drift_ppm)
        if recording is not None:
            spec = recorded_meter(
                recording, serial=serial, constant=(num, den), profile=meter_profile, clock=error
            )
        else:
            spec = generated_meter(
                load, peak_kw, seed, serial=serial, constant=(num, den), profile=meter_profile, clock=error
            )
        plan = FaultPlan(
            silent=silent,
            refuse_first=refuse_first,
            drop_first=drop_first,
            bad_crc_blocks=tuple(bad_crc_block or ()),
            bad_crc_probability=bad_crc_probability,
            wait_count=wait,
            baud=baud,
            hello=TELNET_OPTIONS if telnet else b"",
            seed=seed,
        )
        clock = SettableClock(instant, is_running=pulses is None if running is None else running)
        station = Station(SimulatedMeter(spec), clock, plan)
        server = PtyMeterServer(station) if pty else TcpMeterServer(station, host, port)
        source = str(pulses) if pulses is not None else f"{load}, {peak_kw:g} kW, seed {seed}"
        _serve_one(server, station, clock, source, as_json)


def _instant(text: str | None, end: datetime | None) -> datetime:
    if text is not None:
        return parse_instant(text)
    return end if end is not None else datetime.now(MARKET_ZONE)


def _faults(plan: FaultPlan) -> dict[str, object]:
    usual = asdict(FaultPlan())
    return {name: value for name, value in asdict(plan).items() if value != usual[name]}


def _serve_one(
    server: MeterServer, station: Station, clock: SettableClock, source: str, as_json: bool
) -> None:
    def started(served: MeterServer) -> None:
        meter = station.meter
        words = 3 * len(meter.whole_memory(clock()))
        facts: dict[str, object] = {
            "url": served.url,
            "serial": meter.spec.serial,
            "profile": meter.spec.profile.name,
            "source": source,
            "now": clock().isoformat(),
            "meter_time": meter.meter_now(clock()).isoformat(),
            "memory_words": words,
            "faults": _faults(station.faults),
        }
        if as_json:
            _line(facts)
            return
        console.print(f"meter [bold]{meter.spec.serial}[/] at [bold]{served.url}[/]", highlight=False)
        console.print(f"  {source}; {words} words of memory; its clock says {facts['meter_time']}")
        console.print("  Ctrl-C ends it; a line such as 'now 2026-11-21T00:10:00-03:00' sets the instant")

    asyncio.run(serve_until_stopped(server, started, clock=clock, report=_line, control=sys.stdin))


@app.command()
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
        clock = SettableClock(_instant(now, after_day))
        built = demo_fleet(points, day.date(), seed)
        server = FleetServer(built, clock, host=host or LOOPBACK, first_port=first_port or 0)

        def started(served: FleetServer) -> None:
            title = f"{len(served.meters)} meters of {points} points"
            headings = ("UC", "Role", "Serial", "URL", "Profile", "Scenario")
            _show_meters(served.meters, title, headings, {"points": points}, clock, as_json)

        asyncio.run(serve_until_stopped(server, started, clock=clock, report=_line, control=sys.stdin))


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
    clock = SettableClock(_instant(now, plan.now or real_now))
    server = PlannedFleetServer(plan, clock)

    def started(served: PlannedFleetServer) -> None:
        title = f"{plan.name}: {len(served.meters)} meters behind {len(plan.units)} addresses"
        headings = ("Group", "Unit", "Serial", "URL", "Model", "Addressing", "Address", "Link")
        _show_meters(served.meters, title, headings, {"units": len(plan.units)}, clock, as_json)

    asyncio.run(serve_until_stopped(server, started, clock=clock, report=_line, control=sys.stdin))


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
            _line(asdict(meter))
        _line({"meters": len(meters), **counts, "now": clock().isoformat()})
        return
    table = Table(title=title, box=None)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for meter in meters:
        table.add_row(*map(str, astuple(meter)))
    console.print(table)
    console.print("Ctrl-C ends it; a line such as 'now 2026-11-21T00:10:00-03:00' sets the instant")
