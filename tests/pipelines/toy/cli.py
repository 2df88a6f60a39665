"""smf read, decode and simulate toy."""

import asyncio
import sys
from datetime import UTC, date, datetime
from pathlib import Path

from collector.lines.transports import open_stream, parse_url
from pipelines.cli.decode.source import emit
from pipelines.cli.output import emit_json
from pipelines.cli.simulate.output import emit_line
from protocols.nbr14522.profiles import DEFAULT
from simulator.fleets.single import generated_meter
from simulator.load.clock import ClockModel, SettableClock
from simulator.nbr14522.meter import SimulatedMeter
from simulator.wires.running import serve_until_stopped
from simulator.wires.serving import Serving
from toy.driver import read_day
from toy.meter import serve
from toy.words import counts_of


def register_read(app):
    @app.command("toy")
    def toy(url: str, day: str):
        replies = []
        work = read_day(
            parse_url(url),
            date.fromisoformat(day),
            lambda at, is_sent, command, crc_ok, payload: replies.append(payload),
            lambda: datetime.now(UTC),
            open_stream,
        )
        asyncio.run(work)
        serial, rows = counts_of(replies[-1])
        emit_json({"serial": serial, "pulses": [row[2] for row in rows]})


def register_decode(app):
    @app.command("toy")
    def toy(file: Path):
        serial, rows = counts_of(file.read_bytes())
        emit(({"serial": serial, "day": day, "slot": slot, "pulses": n} for day, slot, n, _, _ in rows), True)


def register_simulate(app):
    @app.command("toy")
    def toy(serial: str, now: str):
        instant = datetime.fromisoformat(now)
        spec = generated_meter(
            *("supermarket", 100.0, 7),
            serial=serial,
            constant=(9, 1250),
            profile=DEFAULT,
            clock=ClockModel(instant),
        )
        clock = SettableClock(instant)
        server = serve(SimulatedMeter(spec), Serving(clock, "127.0.0.1", 0, 0.1))
        started = lambda served: emit_line({"url": served.url})  # noqa: E731
        asyncio.run(serve_until_stopped(server, started, clock=clock, report=emit_line, control=sys.stdin))


def main():
    """smf, with the toy in its table."""
    from pipelines.cli.main import main as smf
    from protocols.table import PROTOCOLS
    from toy import ENTRY

    PROTOCOLS[ENTRY.name] = ENTRY
    return smf()


if __name__ == "__main__":
    sys.exit(main())
