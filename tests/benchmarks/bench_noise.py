"""Noise and bad lines through the readers of the serial outputs: nothing false may come of them.

Random octets go, as a receiver would stamp them, into the decoders that the collector runs, each of them with
plausibility on: in bursts with silences between them, which move the places where a block may begin, and as
one run without any. Told are the records believed and the interval readings closed; one of the latter ends
the run with an error. Then the same load over lines that lose, double, change and insert octets and cut
records: how many of its intervals come, and that all that come are right. `--octets`, `--lines` and `--only`
take less.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator

from collector.streams.decode import Slot, new_decoder
from collector.streams.profiles import stream_profile
from protocols.captures import Chunk
from protocols.celesc.catalogue import meter_named
from protocols.ssu import Format
from simulator.load.curves import GeneratedLoad
from simulator.streams.output import BadLine, CelescOutput, SsuOutput, StreamOutput

OCTETS = 10_000_000
PROFILES = ("ssu", "ssu-normal", "ssu-extended", "ssu-mixed", "celesc-27182")
INTERVAL_S = 300
SEED = 14522
_LONGEST_BURST = 120

RATES = (0.001, 0.01, 0.03, 0.1, 0.2)
INTERVALS = 12
PULSE_KWH = 0.036
LOAD = GeneratedLoad("supermarket", 60.0, PULSE_KWH, SEED)
_FIRST = 1_795_000_200 // INTERVAL_S
_FORMATS = {
    "ssu": Format.EXTENDED,
    "ssu-normal": Format.NORMAL,
    "ssu-extended": Format.EXTENDED,
    "ssu-mixed": Format.MIXED,
}


def noise(profile: str, octets: int, is_in_bursts: bool) -> tuple[int, int]:
    """Records believed and interval readings closed."""
    rng = random.Random(f"{SEED}/{profile}/{is_in_bursts}")
    decoder = new_decoder(stream_profile(profile), INTERVAL_S)
    octet_s = 10 / stream_profile(profile).rate_bit_s
    now_s, fed, slots = 1_700_000_000.0, 0, 0
    while fed < octets:
        burst = rng.randbytes(rng.randrange(1, _LONGEST_BURST))
        slots += len(decoder.feed(Chunk(now_s, burst)))
        fed += len(burst)
        now_s += len(burst) * octet_s + (rng.uniform(0.0, 1.0) if is_in_bursts else 0.0)
    return decoder.quality.good, slots


def output_of(profile: str) -> StreamOutput:
    """A meter with the load."""
    if profile in _FORMATS:
        return SsuOutput(LOAD, _FORMATS[profile])
    return CelescOutput(LOAD, (36, 1000), meter_named("27182"), "0123456789", (_FIRST - 12) * INTERVAL_S)


def kept(profile: str, rate: float, seed: int) -> Iterator[bool]:
    """For each interval that came through a bad line, whether its active energy is right."""
    decoder, line = new_decoder(stream_profile(profile), INTERVAL_S), BadLine(rate, rate / 5, seed)
    output, first = output_of(profile), _FIRST * INTERVAL_S
    found: dict[int, Slot] = {}
    for second in range(first - 40, first + INTERVALS * INTERVAL_S + 60):
        octets = line.pass_on(output.octets(second))
        for slot in decoder.feed(Chunk(float(second), octets)) if octets else ():
            if slot.channel == 1:
                found[round(slot.end_s) // INTERVAL_S - 1] = slot
    for number, slot in found.items():
        counted = int(LOAD.pulses(number, 1)[0, 0])
        if profile in _FORMATS:
            yield slot.pulses == counted
        else:
            # Whole kWh, of a register up to 15 s old at each end: 0.25 kWh of this load.
            yield abs(slot.pulses - counted * PULSE_KWH) <= 1.3


def lines(profile: str, count: int) -> None:
    """A row for each rate of damaged octets."""
    for rate in RATES:
        rights = [right for seed in range(count) for right in kept(profile, rate, seed)]
        wrong = rights.count(False)
        print(
            f"{profile:13} {rate:6.1%} of octets damaged: {len(rights) / (count * INTERVALS):4.0%} of "
            f"{count * INTERVALS} intervals, {wrong} wrong",
            flush=True,
        )
        if wrong:
            raise SystemExit(1)


def main() -> None:
    """All cases, or those asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--octets", type=int, default=OCTETS)
    parser.add_argument("--lines", type=int, default=30, help="simulated hours for each rate of damage")
    parser.add_argument("--only", choices=PROFILES, action="append")
    chosen = parser.parse_args()
    for profile in chosen.only or PROFILES:
        for is_in_bursts in (True, False):
            began = time.perf_counter()
            records, slots = noise(profile, chosen.octets, is_in_bursts)
            took = time.perf_counter() - began
            shape = "bursts" if is_in_bursts else "steady"
            print(
                f"{profile:13} {shape:6} {chosen.octets:>10,} octets of noise: {records} records believed, "
                f"{slots} interval readings ({took:.0f} s)",
                flush=True,
            )
            if slots:
                raise SystemExit(1)
    for profile in chosen.only or PROFILES:
        lines(profile, chosen.lines)


if __name__ == "__main__":
    main()
