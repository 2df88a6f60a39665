"""`smf simulate` as a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SMF = [
    sys.executable,
    "-c",
    "from pipelines.cli import main; raise SystemExit(main())",
    "simulate",
    "nbr14522",
]


@contextmanager
def simulated(*words: str, command: list[str] = SMF) -> Iterator[dict[str, Any]]:
    """What the command prints first once it serves; it is stopped as Ctrl-C stops it."""
    child = subprocess.Popen(
        [*command, "--json", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        assert line, child.communicate()[1]
        yield json.loads(line)
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=60) == 0
    finally:
        child.kill()
        child.communicate()
