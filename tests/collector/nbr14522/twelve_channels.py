"""A meter with several groups of channels, and what it answers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

from collector.decoded import Frame
from collector.lines.transports import Timeouts, parse_url
from collector.nbr14522.sequences import script_for
from collector.nbr14522.session import Line, read_meter
from collector.work.planning import Goal, SequenceName
from protocols.nbr14522.frames import ANY_METER
from protocols.nbr14522.profile import DEFAULT
from simulator.load.channels import channel_load
from simulator.load.clock import ClockModel, SettableClock
from simulator.load.curves import GeneratedLoad
from simulator.load.grid import MARKET_ZONE
from simulator.nbr14522.line import Station
from simulator.nbr14522.meter import SimulatedMeter
from simulator.nbr14522.server import TcpMeterServer
from simulator.nbr14522.spec import MeterSpec, Outage
from simulator.wires.faultplan import FaultPlan

NOW = datetime(2026, 11, 21, 0, 10, tzinfo=MARKET_ZONE)
SERIAL = "12345678"
QUANTITIES = (1, 10, 11, 14, 15, 16, 17, 18, 19, 20, 21, 22)


def twelve_channels(interval_s: int) -> SimulatedMeter:
    load = replace(GeneratedLoad("supermarket", 120.0, 0.036, 3), interval_s=interval_s)
    source = channel_load(load, QUANTITIES)
    spec = MeterSpec(
        SERIAL,
        source,
        datetime(2026, 10, 20, 10),
        ClockModel(NOW),
        channel_constants=source.per_pulse,
        profile=replace(DEFAULT, groups=4),
        outages=(Outage(datetime(2026, 11, 18, 10, 59, 16), datetime(2026, 11, 18, 13, 51, 38)),),
    )
    return SimulatedMeter(spec)


def frames_of(meter: SimulatedMeter, sequence: SequenceName) -> list[Frame]:
    """What a session with the meter leaves as evidence."""
    frames: list[Frame] = []

    def record(at: datetime, is_sent: bool, _command: int, crc_ok: bool | None, payload: bytes) -> None:
        frames.append(Frame(len(frames) + 1, at, is_sent, crc_ok is not False, payload))

    async def run() -> str:
        station = Station(meter, SettableClock(NOW, is_running=False), FaultPlan())
        async with TcpMeterServer(station, enq_period_s=0.03) as server:
            line = Line(parse_url(server.url), DEFAULT, ANY_METER, "000001", Timeouts(20.0, 60.0, 240.0))
            script = script_for(Goal(sequence), DEFAULT)
            result = await read_meter(line, script, record, lambda: datetime.now(UTC))
            return result.outcome

    assert asyncio.run(run()) == "complete"
    return frames
