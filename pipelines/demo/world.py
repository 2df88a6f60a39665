"""The demonstration's surroundings in a process of their own: simulated meters and a stand-in for CCEE.

A process of their own, so that the collector's work is not mixed with the meters'. It takes its orders on
standard input and ends with it: whoever started it may be killed in any way, nothing stays behind.

    in   {"points": 24, "day": "2026-11-20", "seed": 0, "journal": "FILE", "secrets": {"4127": "..."}}
    out  {"ccee": "http://127.0.0.1:PORT", "meters": {"10000001": "tcp://127.0.0.1:PORT"}}
    in   {"clock": "2026-11-21T00:10:00-03:00"}        any number of times
    out  {"clock": "2026-11-21T00:10:00-03:00"}
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import orjson

from ccee.profile import load_profile
from ccee.standin.records import Unit
from ccee.standin.rules import StandIn
from ccee.standin.server import serve_in_thread
from faults import DeveloperFault
from simulator.fleets.demo import DemoPoint, demo_fleet
from simulator.fleets.server import fleet_in_thread
from simulator.load.clock import SettableClock
from simulator.load.grid import MARKET_ZONE
from storage.settings import Settings
from vee.calendars import market_calendars


@dataclass(frozen=True)
class World:
    """A running surrounding: where CCEE and each meter answer."""

    ccee_url: str
    meter_urls: Mapping[str, str]
    process: subprocess.Popen[bytes]

    def set_clock(self, instant: datetime) -> None:
        """The meters and CCEE live at this instant from now on."""
        _exchange(self.process, {"clock": instant.isoformat()})


@contextmanager
def running_world(
    points: int, day: date, seed: int, journal: Path, secrets: Mapping[int, str]
) -> Iterator[World]:
    """Start the surroundings, and end them with the context.

    Args:
        journal: where CCEE's stand-in keeps what it was told, from one run to the next.
        secrets: client secret by agent code.
    Raises: DeveloperFault where the process does not come up.
    """
    # A group of its own: Ctrl-C reaches the demonstration first, which then ends this one in order.
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.demo.world"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        order = {
            "points": points,
            "day": day.isoformat(),
            "seed": seed,
            "journal": str(journal),
            "secrets": {str(code): secret for code, secret in secrets.items()},
        }
        places = _exchange(process, order)
        yield World(places["ccee"], places["meters"], process)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _exchange(process: subprocess.Popen[bytes], order: Mapping[str, Any]) -> Any:
    stdin, stdout = process.stdin, process.stdout
    # Both were asked for as pipes.
    assert stdin is not None
    assert stdout is not None
    try:
        stdin.write(orjson.dumps(order) + b"\n")
        stdin.flush()
        answer = stdout.readline()
    except BrokenPipeError:
        answer = b""
    if not answer:
        raise DeveloperFault(
            f"the simulated surroundings ended with {process.wait()}",
            where="pipelines.demo.world",
            remedy="read what it printed above",
        )
    return orjson.loads(answer)


def units_of(points: Sequence[DemoPoint]) -> list[Unit]:
    """CCEE's register of the fleet, with the MUSD that each unit declared."""
    return [
        Unit(
            code=point.uc_code,
            agent=point.agent_code,
            starts=point.registered_on,
            musd={point.registered_on.replace(day=1): Decimal(point.musd_kw)},
        )
        for point in points
    ]


def main(stdin: IO[bytes], stdout: IO[bytes]) -> None:
    """Serve until standard input ends."""
    order = orjson.loads(stdin.readline())
    day = date.fromisoformat(order["day"])
    points = demo_fleet(order["points"], day, order["seed"])
    clock = SettableClock(datetime.combine(day + timedelta(days=1), datetime.min.time(), MARKET_ZONE))
    operator = StandIn(
        load_profile(),
        market_calendars(Settings.load().market),
        {int(code): secret for code, secret in order["secrets"].items()},
        units_of(points),
        clock,
        Path(order["journal"]),
    )
    # Replies with the stored entity, as CCEE's other calls do: the summary then has receipt numbers to show.
    operator.rules.reply_mode = "created201_entity"
    with fleet_in_thread(points, clock) as fleet, serve_in_thread(operator) as ccee:
        _say(stdout, {"ccee": ccee.base_url, "meters": fleet.urls})
        for line in stdin:
            instant = datetime.fromisoformat(orjson.loads(line)["clock"])
            clock.set(instant)
            _say(stdout, {"clock": instant.isoformat()})


def _say(stdout: IO[bytes], answer: Mapping[str, Any]) -> None:
    stdout.write(orjson.dumps(answer) + b"\n")
    stdout.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
