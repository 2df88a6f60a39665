"""`smf simulate dlms`: a DLMS meter with a generated load, on a TCP port, a gateway or a serial line."""

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
from protocols.dlms.framing import HdlcAddress
from protocols.dlms.models import Opening
from protocols.nbr14522.profiles import DEFAULT
from simulator.dlms.end import BadLineEnd, End, HdlcEnd, WrapperEnd
from simulator.dlms.meter import DlmsMeter, DlmsSpec
from simulator.dlms.optical import OpticalEnd
from simulator.dlms.server import DlmsGateway, DlmsPty, DlmsServer
from simulator.fleets.single import generated_meter
from simulator.load.clock import ClockModel, SettableClock
from simulator.load.shapes import SHAPES
from simulator.nbr14522.meter import SimulatedMeter
from simulator.nbr14522.server import LOOPBACK
from simulator.wires.impairment import LinkQuality
from simulator.wires.running import parse_instant, serve_until_stopped

PUBLIC, READING = 16, 3  # clients of NBR 16968


def register(app: typer.Typer) -> None:
    """Add the protocol to `smf simulate`."""
    app.command("dlms")(dlms)


def dlms(
    port: Annotated[int, typer.Option(help="TCP port; 0 takes a free one.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = LOOPBACK,
    pty: Annotated[bool, typer.Option("--pty", help="A pseudo terminal in place of TCP; HDLC.")] = False,
    rfc2217: Annotated[
        bool, typer.Option("--rfc2217", help="Behind a serial gateway with port control; HDLC.")
    ] = False,
    hdlc: Annotated[bool, typer.Option("--hdlc", help="HDLC frames in place of the wrapper.")] = False,
    opening: Annotated[
        Opening, typer.Option(help="mode-e: an optical port that waits for a sign-on at 300 bit/s.")
    ] = Opening.DIRECT,
    address: Annotated[
        int | None, typer.Option(help="HDLC: answers to this physical address alone.", min=0, max=0x3FFF)
    ] = None,
    password: Annotated[str, typer.Option(help="Of client 3; client 16 needs none.")] = "12345678",
    totals: Annotated[bool, typer.Option("--totals", help="Running totals in the load profile.")] = False,
    load: Annotated[str, typer.Option(help=f"One of: {', '.join(sorted(SHAPES))}.")] = "supermarket",
    peak_kw: Annotated[float, typer.Option(help="Peak of the load, kW.", min=0.1)] = 100.0,
    pulse_wh: Annotated[int, typer.Option(help="Energy of a pulse, Wh.", min=1)] = 10,
    serial: Annotated[str, typer.Option(help="Meter serial, eight digits.")] = "12345678",
    now: Annotated[str | None, typer.Option(help="The meter's instant. Default: the time it is.")] = None,
    seed: Annotated[int, typer.Option(help="Of the load and of the line's errors.")] = 0,
    error_rate: Annotated[
        float, typer.Option(help="HDLC: share of octets lost or changed, both ways.", min=0.0, max=1.0)
    ] = 0.0,
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
        meter = DlmsMeter(SimulatedMeter(kind), spec)
        is_hdlc = hdlc or pty or rfc2217 or address is not None
        kind_of_line = _line(pty, rfc2217, opening)
        if error_rate and (not is_hdlc or opening is Opening.MODE_E):
            raise OperatorFault(
                "TCP loses nothing, and a sign-on has no check",
                where="--error-rate",
                remedy="add --hdlc, --pty or --rfc2217, without --opening mode-e",
            )
        quality = LinkQuality(loss=error_rate / 2, corruption=error_rate / 2)

        def make_end() -> End:
            end = _end(meter, is_hdlc, opening, address)
            return BadLineEnd(end, quality, seed) if error_rate else end

        server = kind_of_line(meter, clock, host=host, port=port, make_end=make_end)

        def report(facts: dict[str, object]) -> None:
            typer.echo(orjson.dumps(facts).decode())

        def started(served: DlmsServer) -> None:
            if as_json:
                report({"url": served.url, "serial": serial, "now": clock().isoformat(), "load": load})
            else:
                framing = "HDLC" if is_hdlc else "wrapper"
                console.print(f"meter [bold]{serial}[/] at [bold]{served.url}[/], {framing}", highlight=False)
                console.print("  client 16 without password, client 3 with it; Ctrl-C ends it")

        asyncio.run(serve_until_stopped(server, started, clock=clock, report=report, control=sys.stdin))


def _line(pty: bool, rfc2217: bool, opening: Opening) -> type[DlmsServer]:
    if pty and rfc2217:
        raise OperatorFault("both --pty and --rfc2217", where="smf simulate dlms", remedy="give one of them")
    if opening is Opening.MODE_E and not (pty or rfc2217):
        raise OperatorFault(
            "mode E needs a line whose speed can change",
            where="--opening",
            remedy="add --pty or --rfc2217",
        )
    return DlmsPty if pty else DlmsGateway if rfc2217 else DlmsServer


def _end(meter: DlmsMeter, is_hdlc: bool, opening: Opening, address: int | None) -> End:
    if not is_hdlc:
        return WrapperEnd(meter)
    end = HdlcEnd(meter, address=None if address is None else HdlcAddress(1).at(address))
    return OpticalEnd(end) if opening is Opening.MODE_E else end
