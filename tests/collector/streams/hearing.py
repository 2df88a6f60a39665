"""Octets of a serial output as stored frames, and what is heard in them."""

from __future__ import annotations

from datetime import UTC, datetime

from collector.decoded import Frame
from collector.streams.frames import head_row, pack_rows
from protocols.captures import Chunk
from simulator.load.curves import GeneratedLoad
from simulator.load.grid import MARKET_ZONE, local_seconds
from simulator.streams.output import BadLine, StreamOutput

SOURCE = GeneratedLoad("supermarket", 60.0, 0.036, 5)
EPOCH_S = 3 * 3600  # local seconds are UTC seconds minus three hours
FIRST = int(local_seconds(datetime(2026, 11, 20, 9, tzinfo=MARKET_ZONE)))


def heard(output: StreamOutput, first: int, seconds: int, line: BadLine | None = None) -> list[Chunk]:
    """What a receiver with a right clock hears from a meter with one."""
    line = line or BadLine()
    records = ((second, line.pass_on(output.octets(second))) for second in range(first, first + seconds))
    return [Chunk(float(second + EPOCH_S), octets) for second, octets in records if octets]


def frames_of(chunks: list[Chunk], profile: str) -> list[Frame]:
    head = head_row({"profile": profile, "interval_s": 300})
    rows = [(datetime.fromtimestamp(chunks[0].at_s, UTC), head), *pack_rows(chunks)]
    return [Frame(seq, at, False, True, payload) for seq, (at, payload) in enumerate(rows, 1)]
