"""Time to render and hash the bodies of a day, against JSON libraries writing the same bodies.

Run: python tests/benchmarks/bench_body_render.py [UC-DAYS]. Prints ratios of one run, one core.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from datetime import date

import numpy as np
import orjson
from numpy.typing import NDArray

from ccee.body import day_stamps, render_batch
from ccee.profile import load_profile

DAY = date(2026, 11, 20)
# The libraries are timed on a part of the batch and scaled: they need seconds for what takes us tenths.
PEER_ROWS = 500


def documents(values: NDArray[np.int64], adjusted: NDArray[np.bool_]) -> list[dict[str, object]]:
    stamps = day_stamps(DAY, load_profile().send)
    kinds = ("MEDIDO", "AJUSTADO")
    return [
        {
            "codigoAgenteConcessionaria": 9999,
            "codigoUnidadeConsumidora": f"{row:015d}",
            "diaReferencia": DAY.isoformat(),
            "horas": [
                {
                    "hora": hour + 1,
                    "medicoes": [
                        {
                            "consumo": values[row, slot].item() / 1000,
                            "dataReferenciaConsumo": stamps[slot].text,
                            "tipoConsumo": kinds[int(adjusted[row, slot])],
                        }
                        for slot in range(12 * hour, 12 * hour + 12)
                    ],
                }
                for hour in range(24)
            ],
        }
        for row in range(len(values))
    ]


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main(uc_days: int) -> None:
    rng = np.random.default_rng(20261120)
    values = rng.integers(0, 40_000, (uc_days, 288))
    adjusted = rng.random((uc_days, 288)) < 0.02
    codes = [f"{row:015d}" for row in range(uc_days)]
    total = 0

    def ours() -> None:
        nonlocal total
        for body in render_batch(load_profile(), DAY, codes, [9999] * uc_days, values, adjusted):
            total += len(body.content)

    own_s = seconds(ours)
    rows = min(PEER_ROWS, uc_days)
    scale = uc_days / rows
    built: list[dict[str, object]] = []
    build_s = scale * seconds(lambda: built.extend(documents(values[:rows], adjusted[:rows])))

    def dumped(dump: Callable[[object], bytes]) -> float:
        return scale * seconds(lambda: [hashlib.sha256(dump(document)).digest() for document in built])

    orjson_s = dumped(lambda document: orjson.dumps(document, option=orjson.OPT_SORT_KEYS))
    json_s = dumped(lambda document: json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
    sample = b"x" * (total // uc_days)
    hash_s = scale * seconds(lambda: [hashlib.sha256(sample).digest() for _ in range(rows)])
    print(f"{uc_days} UC-days of 288 intervals, {total / 1e6:.0f} MB of bodies, rendered and hashed")
    print(f"  ours                     {own_s:7.2f} s  ratio 1.00  (SHA-256 alone {hash_s:.2f} s)")
    for name, peer_s in (("orjson", orjson_s), ("json.dumps", json_s)):
        print(f"  {name:<10} from objects  {peer_s:7.2f} s  ratio {peer_s / own_s:.2f}")
        whole = peer_s + build_s
        print(f"  {name:<10} with building {whole:7.2f} s  ratio {whole / own_s:.2f}")
    print("  (the libraries write floats, so they could not keep fixed decimals either)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
