"""Faults on demand: what a line or a meter does wrong, decided per connection and per block.

Pure: a plan says what is wrong, a `LineFaults` follows one connection through it. The server only obeys.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime

from simulator.wires.impairment import PERFECT, ImpairedLine, LinkQuality

BITS_PER_OCTET = 10  # 8N1
# Telnet negotiation that some serial gateways inject at connect (reference 1.9).
TELNET_OPTIONS = bytes.fromhex("FFFB01FFFB03FFFD03")


@dataclass(frozen=True)
class FaultPlan:
    """Everything that goes wrong with one meter's line. The default is a perfect line.

    Args:
        silent: connections are taken and nothing is ever said.
        refuse_first: this many connections are reset at once, then they work.
        drop_first: this many connections break in mid-block, then they work.
        drop_at_block: the block (1 = first of the connection) in which they break.
        drop_after_octets: octets of it that still get through.
        bad_crc_blocks: blocks of each connection (1 = first sent) whose CRC is damaged.
        bad_crc_probability: chance of damage for every block, by `seed`.
        wait_count: times that each command is put off with WAIT and then asked for again by ENQ, before it
            is answered (plain line only: addressed ones have no WAIT); `wait_s` passes each time.
        baud: pace of what the meter sends, a serial line at 8N1; None: as fast as TCP goes. Below 300 a block
            takes longer than the relaxed wait for its ACK.
        hello: octets that arrive at connect, before anything else.
        quality: delay, loss, damage and breaks of the way there, by `seed`.
        effective_from: simulated instant from which connection faults (silence, refusing, dropping) count.
        seed: of the chances.
    """

    silent: bool = False
    refuse_first: int = 0
    drop_first: int = 0
    drop_at_block: int = 2
    drop_after_octets: int = 100
    bad_crc_blocks: tuple[int, ...] = ()
    bad_crc_probability: float = 0.0
    wait_count: int = 0
    wait_s: float = 0.05
    baud: int | None = None
    hello: bytes = b""
    quality: LinkQuality = PERFECT
    effective_from: datetime | None = None
    seed: int = 0


@dataclass(frozen=True)
class Sending:
    """What becomes of octets that the meter sends: what goes out, and whether the line breaks after it."""

    octets: bytes
    breaks: bool = False


class ConnectionCount:
    """Counts a meter's connections from the instant at which its plan takes effect."""

    def __init__(self, plan: FaultPlan) -> None:
        self._plan = plan
        self._count = 0
        self._connections = 0

    def connect(self, now: datetime) -> LineFaults:
        """The faults of a new connection."""
        self._connections += 1
        effective = self._plan.effective_from is None or now >= self._plan.effective_from
        if effective:
            self._count += 1
        return LineFaults(self._plan, self._count, effective, self._connections)


class LineFaults:
    """One connection's way through a plan. `number` counts the connections since it took effect from 1,
    `connection` all of them."""

    def __init__(self, plan: FaultPlan, number: int, effective: bool = True, connection: int = 1) -> None:
        self.plan = plan
        self._connection = connection
        self.silent = plan.silent and effective
        self.refused = effective and number <= plan.refuse_first
        self._drops = effective and number <= plan.drop_first + plan.refuse_first and plan.drop_first > 0
        self._chance = random.Random(f"{plan.seed}/{number}")
        self._blocks = 0

    def impaired_line(self, now_s: float) -> ImpairedLine | None:
        """The way to the meter, opened now; None where it is perfect."""
        if self.plan.quality.is_perfect:
            return None
        return ImpairedLine(self.plan.quality, self.plan.seed, self._connection, now_s)

    def send_block(self, wire: bytes) -> Sending:
        """What the line makes of one block."""
        self._blocks += 1
        if self._drops and self._blocks == self.plan.drop_at_block:
            return Sending(wire[: self.plan.drop_after_octets], breaks=True)
        damaged = self._blocks in self.plan.bad_crc_blocks
        if self.plan.bad_crc_probability:
            damaged = damaged or self._chance.random() < self.plan.bad_crc_probability
        return Sending(_damage(wire) if damaged else wire)


def _damage(wire: bytes) -> bytes:
    """One bit changed near the end: the frame keeps its length and its code, only the CRC tells."""
    return wire[:-3] + bytes([wire[-3] ^ 0x01]) + wire[-2:]
