"""Noise through the readers of the serial outputs: what they believe of it must be nothing.

Random octets go, as a receiver would stamp them, into the decoders that the collector runs, each of them with
plausibility on: in bursts with silences between them, which move the places where a block may begin, and as
one run without any. The last line of a case counts records believed and interval readings closed; one of the
latter ends the run with an error. `--octets` and `--only` take less than ten million of each case.
"""

from __future__ import annotations

import argparse
import random
import time

from collector.stream_decode import new_decoder
from collector.stream_profiles import stream_profile
from protocols.captures import Chunk

OCTETS = 10_000_000
PROFILES = ("ssu", "ssu-normal", "ssu-extended", "ssu-mixed", "celesc-27182")
INTERVAL_S = 300
SEED = 14522
_LONGEST_BURST = 120


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


def main() -> None:
    """All cases, or those asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--octets", type=int, default=OCTETS)
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


if __name__ == "__main__":
    main()
