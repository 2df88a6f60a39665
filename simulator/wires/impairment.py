"""What a bad line does to octets: delay, loss, damage, cutting into portions, breaking off.

Pure and seeded: octets and a time go in, parcels with the time of their arrival come out. One `ImpairedLine`
is one connection, so the same seed and connection number give the same bad luck. Order is always kept, as TCP
and serial lines keep it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class LinkQuality:
    """How bad a line is. The default is a perfect one.

    Args:
        delay_s: one way.
        jitter_s: up to so much more for each portion, evenly spread.
        loss: chance of each octet to vanish (a serial modem behind the gateway: TCP itself loses nothing).
        corruption: chance of each octet to arrive with one bit changed.
        portion_octets: what is sent at once arrives in portions of 1 to so many octets; None: as sent.
        portion_gap_s: time between two portions of one sending.
        connect_failure: chance of a connection to be refused.
        mean_octets_to_break: the connection breaks after a random number of octets, both ways together.
        mean_s_to_break: the connection breaks after a random time.
        silent_breaks: chance of a break that the other side is not told of: the connection stays, dead.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    corruption: float = 0.0
    portion_octets: int | None = None
    portion_gap_s: float = 0.0
    connect_failure: float = 0.0
    mean_octets_to_break: float | None = None
    mean_s_to_break: float | None = None
    silent_breaks: float = 0.0

    @property
    def is_perfect(self) -> bool:
        return self == PERFECT


PERFECT = LinkQuality()

# Orders of magnitude of cellular modems; nobody measured these on a real network.
QUALITIES: Mapping[str, LinkQuality] = MappingProxyType(
    {
        "perfect": PERFECT,
        "lan": LinkQuality(delay_s=0.001),
        "4g": LinkQuality(delay_s=0.04, jitter_s=0.04, connect_failure=0.01, mean_s_to_break=21_600.0),
        "3g": LinkQuality(delay_s=0.12, jitter_s=0.15, connect_failure=0.02, mean_s_to_break=10_800.0),
        "gprs": LinkQuality(
            delay_s=0.35,
            jitter_s=0.5,
            portion_octets=128,
            portion_gap_s=0.02,
            connect_failure=0.05,
            mean_octets_to_break=400_000.0,
            mean_s_to_break=5_400.0,
            silent_breaks=0.2,
        ),
        "gprs-bad": LinkQuality(
            delay_s=0.6,
            jitter_s=1.4,
            loss=2e-6,
            corruption=1e-5,
            portion_octets=64,
            portion_gap_s=0.05,
            connect_failure=0.2,
            mean_octets_to_break=80_000.0,
            mean_s_to_break=1_200.0,
            silent_breaks=0.4,
        ),
        "satellite": LinkQuality(delay_s=0.65, jitter_s=0.1, connect_failure=0.03),
    }
)


@dataclass(frozen=True, slots=True)
class Parcel:
    """Octets that arrive together at `at_s`."""

    at_s: float
    octets: bytes


class ImpairedLine:
    """One connection over a line of this quality.

    Args:
        number: of the connection, counted from 1: each has its own luck.
        now_s: when it was opened, on the scale of all later times.
    """

    def __init__(self, quality: LinkQuality, seed: int, number: int, now_s: float) -> None:
        chance = random.Random(f"{seed}/{number}/line")
        self.is_refused = chance.random() < quality.connect_failure
        octets, seconds = quality.mean_octets_to_break, quality.mean_s_to_break
        self._octets_left = math.inf if octets is None else chance.expovariate(1.0 / octets)
        self.breaks_at_s = None if seconds is None else now_s + chance.expovariate(1.0 / seconds)
        self.breaks_silently = chance.random() < quality.silent_breaks
        self.up = Direction(self, quality, random.Random(f"{seed}/{number}/up"))
        self.down = Direction(self, quality, random.Random(f"{seed}/{number}/down"))

    @property
    def is_broken(self) -> bool:
        """Whether more octets went through than this connection carries."""
        return self._octets_left < 0

    def spend(self, octets: bytes) -> bytes:
        """What of these still gets through before the break."""
        through = octets if len(octets) <= self._octets_left else octets[: int(max(self._octets_left, 0))]
        self._octets_left -= len(octets)
        return through


class Direction:
    """One way of a connection."""

    def __init__(self, line: ImpairedLine, quality: LinkQuality, chance: random.Random) -> None:
        self._line = line
        self._quality = quality
        self._chance = chance
        self._last_s = -math.inf
        self._to_loss = self._gap(quality.loss)
        self._to_damage = self._gap(quality.corruption)

    def carry(self, octets: bytes, now_s: float) -> list[Parcel]:
        """When and as what these octets arrive; whether the line broke with them is `line.is_broken`."""
        quality = self._quality
        rest = self._lose(self._damage(self._line.spend(octets)))
        parcels = []
        at_s = now_s + quality.delay_s
        while rest:
            size = len(rest)
            if quality.portion_octets is not None:
                size = self._chance.randint(1, quality.portion_octets)
            # Strictly after the one before: timers that are due together fire in no certain order.
            arrives = max(
                at_s + self._chance.random() * quality.jitter_s, math.nextafter(self._last_s, math.inf)
            )
            parcels.append(Parcel(arrives, rest[:size]))
            self._last_s = arrives
            rest = rest[size:]
            at_s += quality.portion_gap_s
        return parcels

    def _damage(self, octets: bytes) -> bytes:
        damaged = None
        while self._to_damage < len(octets):
            damaged = bytearray(octets) if damaged is None else damaged
            damaged[int(self._to_damage)] ^= 1 << self._chance.randrange(8)
            self._to_damage += 1 + self._gap(self._quality.corruption)
        self._to_damage -= len(octets)
        return octets if damaged is None else bytes(damaged)

    def _lose(self, octets: bytes) -> bytes:
        size, kept, begin = len(octets), b"", 0
        while self._to_loss < size:
            kept += octets[begin : int(self._to_loss)]
            begin = int(self._to_loss) + 1
            self._to_loss = begin + self._gap(self._quality.loss)
        self._to_loss -= size
        return kept + octets[begin:]

    def _gap(self, probability: float) -> float:
        """Octets until the next one that has bad luck: drawn once, so that good octets cost nothing."""
        if probability <= 0.0:
            return math.inf
        if probability >= 1.0:
            return 0
        return int(math.log(1.0 - self._chance.random()) / math.log(1.0 - probability))
