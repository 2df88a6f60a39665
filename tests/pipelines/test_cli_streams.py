"""`smf simulate ssu|celesc` and `smf read ssu|celesc`: two processes' worth of one line."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from pipelines.cli.read import app

runner = CliRunner()


@contextmanager
def simulated(*words: str) -> Iterator[str]:
    """A simulated meter in its own process; its URL."""
    command = [sys.executable, "-c", "from pipelines.cli import main; main()", "simulate", *words, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.send_signal(signal.SIGTERM)


def watch(*words: str, exit_code: int = 0) -> dict[str, object]:
    result = runner.invoke(app, [*words, "--json"])
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.req("CE-A", "X-sim")
@pytest.mark.parametrize("options", [(), ("--pty",)])
def test_a_technician_watches_celesc(options: tuple[str, ...]) -> None:
    with simulated("celesc", *options, "--number", "77") as url:
        seen = watch("celesc", url, "--seconds", "4")
    assert seen["line"] == "open"
    assert (seen["meter_number"], seen["channel 1"]) == ("0000000077", 13579)
    assert seen["skipped_share"] == 0


@pytest.mark.req("TR-5.5e", "X-sim")
def test_a_technician_watches_ssu() -> None:
    with simulated("ssu", "--error-rate", "0.01") as url:
        seen = watch("ssu", url, "--seconds", "4")
    assert seen["format"] == "extended"
    assert seen["good_records"] >= 2


def test_a_dead_line_says_so(unused_port_of_loopback: int) -> None:
    seen = watch("ssu", f"tcp://127.0.0.1:{unused_port_of_loopback}", "--seconds", "1", exit_code=1)
    assert "closed" in str(seen["line"])


@pytest.fixture
def unused_port_of_loopback() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
