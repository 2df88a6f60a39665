"""The rude meters that nobody here wrote, as processes: one misbehaviour a mode. They need not be there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PEERS = Path(__file__).resolve().parents[4] / "shared" / "peers"
PROGRAM = PEERS / "rude_nbr_meter.py"

needs_peers = pytest.mark.skipif(not PROGRAM.exists(), reason="the rude peers are not on this machine")


@contextmanager
def rude_meter(*modes: str, **options: object) -> Iterator[int]:
    """A rude meter on a free loopback port, which it yields; ended by its own process."""
    arguments = [sys.executable, str(PROGRAM)]
    for mode in modes:
        arguments += ["--mode", mode]
    for name, value in options.items():
        arguments += [f"--{name}", str(value)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(10)
