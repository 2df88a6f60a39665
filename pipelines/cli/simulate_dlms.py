"""`smf simulate dlms`: a DLMS meter with a generated load, on a TCP port."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from fractions import Fraction
from typing import Annotated

import orjson
import typer

from faults import OperatorFault
from pipelines.cli.output import console, faults_to_exit
from protocols.dlms.apdu import Mechanism
from protocols.nbr14522.profiles import DEFAULT
from simulator.clock import ClockModel, SettableClock
from simulator.dlms import DlmsMeter, DlmsSpec
from simulator.dlms_server import DlmsServer
from simulator.meter import SimulatedMeter
from simulator.running import parse_instant, serve_until_stopped
from simulator.server import LOOPBACK
from simulator.shapes import SHAPES
from simulator.single import generated_meter

PUBLIC, READING = 16, 3  # clients of NBR 16968


def register(app: typer.Typer) -> None:
    """Add the protocol to `smf simulate`."""
    app.command("dlms")(dlms)


def dlms(
    port: Annotated[int, typer.Option(help="TCP port; 0 takes a free one.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = LOOPBACK,
    hdlc: Annotated[bool, typer.Option("--hdlc", help="HDLC frames in place of the wrapper.")] = False,
    password: Annotated[str, typer.Option(help="Of client 3; client 16 needs none.")] = "12345678",
    totals: Annotated[bool, typer.Option("--totals", help="Running totals in the load profile.")] = False,
    load: Annotated[str, typer.Option(help=f"One of: {', '.join(sorted(SHAPES))}.")] = "supermarket",
    peak_kw: Annotated[float, typer.Option(help="Peak of the load, kW.", min=0.1)] = 100.0,
    pulse_wh: Annotated[int, typer.Option(help="Energy of a pulse, Wh.", min=1)] = 10,
    serial: Annotated[str, typer.Option(help="Meter serial, eight digits.")] = "12345678",
    now: Annotated[str | None, typer.Option(help="The meter's instant. Default: the time it is.")] = None,
    seed: Annotated[int, typer.Option(help="Of the load.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """A DLMS meter: clock, registers, load profile, events, list of objects."""
    with faults_to_exit(as_json):
        if load not in SHAPES:
            raise OperatorFault(
                f"no load {load!r}", where="--load", remedy=f"use one of: {', '.join(sorted(SHAPES))}"
            )
        instant = datetime.now(UTC) if now is None else parse_instant(now)
        kind = generated_meter(
            load,
            peak_kw,
            seed,
            serial=serial,
            constant=(pulse_wh, 1000),
            profile=DEFAULT,
            clock=ClockModel(instant),
        )
        spec = DlmsSpec(
            clients={PUBLIC: Mechanism.NONE, READING: Mechanism.LLS},
            password=password.encode(),
            pulse_wh=Fraction(pulse_wh),
            with_totals=totals,
        )
        clock = SettableClock(instant)
        server = DlmsServer(DlmsMeter(SimulatedMeter(kind), spec), clock, is_hdlc=hdlc, host=host, port=port)

        def report(facts: dict[str, object]) -> None:
            typer.echo(orjson.dumps(facts).decode())

        def started(served: DlmsServer) -> None:
            if as_json:
                report({"url": served.url, "serial": serial, "now": clock().isoformat(), "load": load})
            else:
                framing = "HDLC" if hdlc else "wrapper"
                console.print(f"meter [bold]{serial}[/] at [bold]{served.url}[/], {framing}", highlight=False)
                console.print("  client 16 without password, client 3 with it; Ctrl-C ends it")

        asyncio.run(serve_until_stopped(server, started, clock=clock, report=report, control=sys.stdin))
