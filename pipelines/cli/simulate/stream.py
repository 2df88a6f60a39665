"""`smf simulate ssu|celesc`: meters that speak by themselves, on TCP or a pty."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from typing import Annotated, NamedTuple

import orjson
import typer

from faults import OperatorFault
from pipelines.cli.output import console, faults_to_exit
from protocols.celesc.catalogue import meter_named
from protocols.ssu.catalogue import model_named
from simulator.load.clock import SettableClock
from simulator.load.curves import GeneratedLoad
from simulator.load.grid import MARKET_ZONE, local_seconds
from simulator.load.shapes import SHAPES
from simulator.nbr14522.server import LOOPBACK
from simulator.streams.output import BadLine, CelescOutput, SsuOutput, StreamOutput
from simulator.streams.server import StreamCaller, StreamGateway, StreamPty, StreamServer
from simulator.wires.dialer import DialPlan
from simulator.wires.running import parse_instant, serve_until_stopped

PortOption = Annotated[int, typer.Option(help="TCP port; 0 takes a free one.")]
HostOption = Annotated[str, typer.Option(help="Address to listen on.")]
PtyOption = Annotated[bool, typer.Option("--pty", help="A pseudo terminal in place of TCP.")]
GatewayOption = Annotated[
    bool, typer.Option("--rfc2217", help="Behind a serial gateway with port control in place of TCP.")
]
CallOption = Annotated[
    str | None, typer.Option(help="HOST:PORT of a collector that is called, as by a unit behind CGNAT.")
]
HelloOption = Annotated[str, typer.Option(help="With --call: what the unit says first.")]
LoadOption = Annotated[str, typer.Option(help=f"One of: {', '.join(sorted(SHAPES))}.")]
PeakOption = Annotated[float, typer.Option(help="Peak of the load, kW.", min=0.1)]
NowOption = Annotated[str | None, typer.Option(help="The meter's instant. Default: the time it is.")]
IntervalOption = Annotated[int, typer.Option(help="Interval of the load, seconds.", min=60, max=3600)]
SeedOption = Annotated[int, typer.Option(help="Of the load and of the errors.")]
ErrorOption = Annotated[
    float, typer.Option(help="Share of octets lost, doubled, changed or strange.", min=0.0, max=1.0)
]
CutOption = Annotated[float, typer.Option(help="Share of records that lose their end.", min=0.0, max=1.0)]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def register_ssu(app: typer.Typer) -> None:
    """Add the user output to `smf simulate`."""
    app.command("ssu")(ssu)


def register_celesc(app: typer.Typer) -> None:
    """Add CELESC's output to `smf simulate`."""
    app.command("celesc")(celesc)


def ssu(
    port: PortOption = 0,
    host: HostOption = LOOPBACK,
    pty: PtyOption = False,
    rfc2217: GatewayOption = False,
    call: CallOption = None,
    hello: HelloOption = "",
    block_format: Annotated[
        str, typer.Option("--format", help="normal, extended, mixed, or a model of one's own.")
    ] = "extended",
    load: LoadOption = "supermarket",
    peak_kw: PeakOption = 100.0,
    num: Annotated[int, typer.Option(help="kWh per pulse, numerator.", min=1)] = 36,
    den: Annotated[int, typer.Option(help="kWh per pulse, denominator.", min=1)] = 1000,
    interval_s: IntervalOption = 900,
    now: NowOption = None,
    seed: SeedOption = 0,
    error_rate: ErrorOption = 0.0,
    cut_rate: CutOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """A meter's user output: one block a second."""
    with faults_to_exit(as_json):
        model = model_named(block_format)
        source = _load(load, peak_kw, num / den, seed, interval_s)
        output = SsuOutput(
            source,
            model.formats[-1],
            pulse_wh=1000 * num / den,
            mixed_hour_post=model.settings.mixed_hour_post,
            rate_bit_s=model.rate_bit_s,
        )
        line, clock = BadLine(error_rate, cut_rate, seed), _clock(now)
        _serve(
            _server(output, clock, line, _Place(host, port, pty, rfc2217, call, hello)),
            output,
            clock,
            as_json,
        )


def celesc(
    port: PortOption = 0,
    host: HostOption = LOOPBACK,
    pty: PtyOption = False,
    rfc2217: GatewayOption = False,
    call: CallOption = None,
    hello: HelloOption = "",
    model: Annotated[str, typer.Option(help="Material code: which packets are sent.")] = "27182",
    number: Annotated[str, typer.Option(help="Meter number, up to ten digits.")] = "0123456789",
    start_kwh: Annotated[int, typer.Option(help="Active register now.", min=0, max=999_999)] = 13_579,
    digits: Annotated[int, typer.Option(help="Digits of the registers.", min=5, max=6)] = 5,
    load: LoadOption = "supermarket",
    peak_kw: PeakOption = 20.0,
    now: NowOption = None,
    seed: SeedOption = 0,
    error_rate: ErrorOption = 0.0,
    cut_rate: CutOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """CELESC's serial output (Annex A): one packet a second, in turn."""
    with faults_to_exit(as_json):
        if not number.isdecimal() or len(number) > 10:
            raise OperatorFault(f"{number!r} is not up to ten digits", where="--number", remedy="digits only")
        source, clock = _load(load, peak_kw, 0.001, seed, 300), _clock(now)
        meter = meter_named(model)
        begun_s = int(local_seconds(clock()))
        output = CelescOutput(
            source, (1, 1000), meter, number.rjust(10, "0"), begun_s, start_kwh, digits, meter.rate_bit_s
        )
        line = BadLine(error_rate, cut_rate, seed)
        _serve(
            _server(output, clock, line, _Place(host, port, pty, rfc2217, call, hello)),
            output,
            clock,
            as_json,
        )


def _load(shape: str, peak_kw: float, kwh_per_pulse: float, seed: int, interval_s: int) -> GeneratedLoad:
    if shape not in SHAPES:
        raise OperatorFault(
            f"no load {shape!r}", where="--load", remedy=f"use one of: {', '.join(sorted(SHAPES))}"
        )
    return GeneratedLoad(shape, peak_kw, kwh_per_pulse, seed, interval_s)


def _clock(now: str | None) -> SettableClock:
    return SettableClock(parse_instant(now) if now else datetime.now(MARKET_ZONE))


def _line(value: dict[str, object]) -> None:
    typer.echo(orjson.dumps(value, default=str).decode())
    sys.stdout.flush()


class _Place(NamedTuple):
    """Where a meter is heard, by the options."""

    host: str
    port: int
    pty: bool
    rfc2217: bool
    call: str | None
    hello: str


def _server(output: StreamOutput, clock: SettableClock, line: BadLine, place: _Place) -> StreamServer:
    if place.pty + place.rfc2217 + (place.call is not None) > 1:
        raise OperatorFault(
            "several ways at once", where="smf simulate", remedy="give one of --pty, --rfc2217 and --call"
        )
    if place.call is not None:
        host, _, port = place.call.rpartition(":")
        if not host or not port.isdecimal():
            raise OperatorFault(f"{place.call!r} is not HOST:PORT", where="--call", remedy="as 10.0.0.1:5000")
        return StreamCaller(output, clock, DialPlan(host, int(port), place.hello.encode()), line)
    if place.pty:
        return StreamPty(output, clock, line)
    return (StreamGateway if place.rfc2217 else StreamServer)(output, clock, line, place.host, place.port)


def _serve(server: StreamServer, output: StreamOutput, clock: SettableClock, as_json: bool) -> None:
    def started(served: StreamServer) -> None:
        if as_json:
            _line({"url": served.url, "rate_bit_s": output.rate_bit_s, "now": clock().isoformat()})
        else:
            console.print(f"speaking at [bold]{served.url}[/]; Ctrl-C ends it", highlight=False)

    asyncio.run(serve_until_stopped(server, started, clock=clock, report=_line, control=sys.stdin))
