"""`smf read ssu|celesc`: what a meter's own output says, live, for the technician at the line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import typer
from rich.live import Live
from rich.table import Table

from collector.lines.transports import parse_url
from collector.streams.decode import StreamDecoder, new_decoder
from collector.streams.line import LineKeeper, LinePace
from collector.streams.profiles import stream_profile
from faults import FieldCrewFault, OperatorFault
from pipelines.cli.output import EXIT_ATTENTION, console, faults_to_exit
from protocols.captures import Chunk
from protocols.celesc.catalogue import meter_named
from protocols.ssu.catalogue import model_named
from storage.settings import Settings

# Slow outputs speak once a minute.
PATIENCE_S = 75.0
UrlArgument = Annotated[
    str, typer.Argument(help="tcp://HOST:PORT, rfc2217://HOST:PORT or serial:///dev/NAME")
]
SecondsOption = Annotated[float | None, typer.Option(help="End after so long; without: Ctrl-C.", min=0.1)]
PatienceOption = Annotated[
    float, typer.Option("--patience-s", help="Give up when not one octet came for so long.", min=0.1)
]
IntervalOption = Annotated[int, typer.Option(help="Demand interval, seconds.", min=60, max=3600)]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a second.")]

# A person watches: a line that cannot be opened is tried again soon.
_PACE = LinePace(connect_s=10.0, silence_s=30.0, backoff_max_s=5.0)
_LOOK_S = 1.0


def register_ssu(app: typer.Typer) -> None:
    """Add the user output to `smf read`."""
    app.command("ssu")(ssu)


def register_celesc(app: typer.Typer) -> None:
    """Add CELESC's output to `smf read`."""
    app.command("celesc")(celesc)


def ssu(
    url: UrlArgument,
    block_format: Annotated[
        str, typer.Option("--format", help="auto, normal, extended, mixed, or a model of one's own.")
    ] = "auto",
    interval_s: IntervalOption = 900,
    seconds: SecondsOption = None,
    patience_s: PatienceOption = PATIENCE_S,
    as_json: JsonOption = False,
) -> None:
    """Watch the user output: blocks, counters, segment, closed intervals, and how good the line is.

    Exit code 1 if no block was understood.
    """
    _watch(url, lambda: model_named(block_format).name, interval_s, (seconds, patience_s), as_json)


def celesc(
    url: UrlArgument,
    model: Annotated[str, typer.Option(help="Material code of the meter.")] = "27182",
    interval_s: IntervalOption = 900,
    seconds: SecondsOption = None,
    patience_s: PatienceOption = PATIENCE_S,
    as_json: JsonOption = False,
) -> None:
    """Watch CELESC's serial output: number, registers, unknown packets, and how good the line is.

    On a serial port whose URL names no ?baud=, the rate is searched. Exit code 1 if no packet was understood.
    """
    _watch(url, lambda: meter_named(model).profile, interval_s, (seconds, patience_s), as_json)


def _watch(
    url: str,
    name: Callable[[], str],
    interval_s: int,
    spans_s: tuple[float | None, float],
    as_json: bool,
) -> None:
    """Show a line. spans_s: how long, None for until Ctrl-C; and how long a silent line is borne."""
    with faults_to_exit(as_json):
        profile = stream_profile(name())
        endpoint = parse_url(url)
        if endpoint.unit:
            raise OperatorFault(
                "a unit that dials in cannot be called",
                where=url,
                remedy="the collector's service listens to it; smf collector status shows the line",
            )
        zone = Settings.load().market.tzinfo
        decoder = new_decoder(profile, interval_s, zone=zone)
        closed: dict[str, int] = {}

        def heard(chunk: Chunk) -> None:
            for slot in decoder.feed(chunk):
                end = datetime.fromtimestamp(slot.end_s, zone)
                closed[f"{end:%H:%M} channel {slot.channel}"] = slot.pulses
            while len(closed) > 8:
                del closed[next(iter(closed))]

        keeper = LineKeeper(
            endpoint, profile, heard, lambda: decoder.quality.good, lambda: datetime.now(UTC), _PACE
        )
        with suppress(KeyboardInterrupt):  # how a person ends watching
            asyncio.run(_show(keeper, lambda: _record(keeper, decoder, closed), spans_s, as_json))
        if not keeper.state.octets:
            fault = keeper.state.fault
            raise FieldCrewFault(
                fault.message if fault else "the line is open and silent: not one octet came",
                where=url,
                remedy="check address, power and wiring; an output that speaks by itself must be switched on",
            )
        if not decoder.quality.good:
            raise typer.Exit(EXIT_ATTENTION)


async def _show(
    keeper: LineKeeper,
    record: Callable[[], dict[str, Any]],
    spans_s: tuple[float | None, float],
    as_json: bool,
) -> None:
    seconds, patience_s = spans_s
    give_up_at = asyncio.get_running_loop().time() + patience_s

    async def look() -> None:
        await asyncio.sleep(_LOOK_S)
        if not keeper.state.octets and asyncio.get_running_loop().time() >= give_up_at:
            raise TimeoutError

    running = asyncio.create_task(keeper.run())
    try:
        async with asyncio.timeout(seconds):
            if as_json:
                while True:
                    await look()
                    typer.echo(orjson.dumps(record(), default=str).decode())
            with Live(console=console, auto_refresh=False) as live:
                while True:
                    await look()
                    live.update(_table(record()), refresh=True)
    except TimeoutError:
        if as_json:
            typer.echo(orjson.dumps(record(), default=str).decode())
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _record(keeper: LineKeeper, decoder: StreamDecoder, closed: dict[str, int]) -> dict[str, Any]:
    state, quality = keeper.state, decoder.quality
    return {
        "line": "open" if state.is_open else f"closed: {state.fault.message if state.fault else ''}",
        "rate_bit_s": state.rate_bit_s,
        "octets": quality.octets,
        "good_records": quality.good,
        "skipped": dict(quality.skipped),
        "skipped_share": round(quality.skipped_share, 4),
        "clock_error_s": None if decoder.clock_error_s is None else round(decoder.clock_error_s, 2),
        **decoder.shown(),
        "closed_intervals": closed,
        "trouble": list(dict.fromkeys(issue.reason for issue in decoder.issues)),
    }


def _table(record: dict[str, Any]) -> Table:
    table = Table(box=None, show_header=False)
    for name, value in record.items():
        shown = value
        if isinstance(value, dict):
            shown = ", ".join(f"{k}: {v}" for k, v in value.items())
        elif isinstance(value, list):
            shown = "\n".join(value)
        words = name.replace("_bit_s", ", bit/s").replace("error_s", "error, s").replace("_", " ")
        table.add_row(words, "" if shown is None else str(shown))
    return table
