"""`smf simulate nbr14522`: one meter of NBR 14522, from a CSV of pulses or from a generated load."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from faults import OperatorFault
from pipelines.cli.output import console, faults_to_exit
from pipelines.cli.simulate.output import Json, emit_line, instant_of
from protocols.nbr14522.profiles import PROFILES, profile_named
from simulator.fleets.single import end_of, generated_meter, recorded_meter
from simulator.load.clock import ClockModel, SettableClock
from simulator.load.recording import read_pulses_csv
from simulator.load.shapes import SHAPES
from simulator.nbr14522.line import Station
from simulator.nbr14522.meter import SimulatedMeter
from simulator.nbr14522.server import LOOPBACK, MeterServer, PtyMeterServer, TcpMeterServer
from simulator.wires.faultplan import TELNET_OPTIONS, FaultPlan
from simulator.wires.running import serve_until_stopped


def register(app: typer.Typer) -> None:
    """Add the protocol to `smf simulate`."""
    app.command("nbr14522")(nbr14522)


def _names(known: Iterable[str]) -> str:
    return ", ".join(sorted(known))


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
        instant = instant_of(now, None if recording is None else end_of(recording))
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
        station.make_ready()
        server = PtyMeterServer(station) if pty else TcpMeterServer(station, host, port)
        source = str(pulses) if pulses is not None else f"{load}, {peak_kw:g} kW, seed {seed}"
        _serve_one(server, station, clock, source, as_json)


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
            emit_line(facts)
            return
        console.print(f"meter [bold]{meter.spec.serial}[/] at [bold]{served.url}[/]", highlight=False)
        console.print(f"  {source}; {words} words of memory; its clock says {facts['meter_time']}")
        console.print("  Ctrl-C ends it; a line such as 'now 2026-11-21T00:10:00-03:00' sets the instant")

    asyncio.run(serve_until_stopped(server, started, clock=clock, report=emit_line, control=sys.stdin))
