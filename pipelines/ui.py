"""Dagster's web interface and daemon and the evidence pages, started and stopped together.

What belongs here: three child processes and their end. A real installation runs them as services of the
system (deploy/), with the same workspace and DAGSTER_HOME.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from faults import OperatorFault, RetryFault
from faults.shipped import shipped
from pipelines.instance import write_home
from storage.database import Database

HOST = "127.0.0.1"
WORKSPACE = shipped("workspace.yaml")
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 20
# Told at each start of each process, and of no use to who opens the interface; the tests refuse all others
# (tests/dagster_strict.py has the reasons for these).
_KNOWN_WARNINGS = (
    "Parameter `backfill_policy` of function `asset` is currently in beta",
    "Specifying a partitions_def on an AssetCheckSpec is currently in preview",
    "sqlglotrs is deprecated",
)


def free_port(wanted: int) -> int:
    """`wanted`, or the next one that nobody listens on.

    Raises:
        OperatorFault: twenty in a row are taken.
    """
    for port in range(wanted, wanted + 20):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise OperatorFault(
        f"ports {wanted} to {wanted + 19} are all taken",
        where=HOST,
        remedy="give another with --port",
    )


def evidence_port(address: str) -> int | None:
    """The port on which the evidence pages are served here; None where another machine or proxy serves them.

    Raises:
        OperatorFault: it is taken. Links in Dagster's events lead to it, so no other will do.
    """
    parts = urlsplit(address)
    if parts.scheme != "http" or parts.hostname not in (HOST, "localhost"):
        return None
    port = parts.port or 80
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise OperatorFault(
                f"the port of the evidence pages is taken: {error.strerror}",
                where=f"[dagster] evidence_url, {address}",
                remedy="stop the other `smf run ui`, or name another address in SMF_DAGSTER_EVIDENCE_URL",
            ) from error
    return port


def serve(db: Database, port: int, on_ready: Callable[[str], None]) -> int:
    """Run webserver, daemon and evidence pages until Ctrl-C, SIGTERM, or until one of them ends.

    Args:
        port: loopback port, see `free_port`.
        on_ready: called with the address once it answers.
    Returns:
        0 after Ctrl-C or SIGTERM; else the exit code of the process that ended by itself.
    """
    home = write_home(db)
    environment = os.environ | {
        "DAGSTER_HOME": str(home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "PYTHONWARNINGS": ",".join(f"ignore:{words}" for words in _KNOWN_WARNINGS),
        # The children look at the same data wherever they run.
        "SMF_DATA_DIR": str(db.data_dir.resolve()),
    }
    workspace = ["-w", str(WORKSPACE)]
    # The ones of this environment, whatever else is on the path.
    beside = Path(sys.executable).parent
    commands = [
        [str(beside / "dagster-webserver"), "-h", HOST, "-p", str(port), *workspace],
        [str(beside / "dagster-daemon"), "run", *workspace],
    ]
    if (pages := evidence_port(db.settings.dagster.evidence_url)) is not None:
        commands.append([sys.executable, "-m", "pipelines.evidence", HOST, str(pages)])
    # Both, and by ourselves: a program started in the background is given SIGINT to ignore.
    previous = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    children = [
        # A session of its own: Ctrl-C reaches only us, and we stop both in order.
        subprocess.Popen(command, env=environment, start_new_session=True)
        for command in commands
    ]
    try:
        address = f"http://{HOST}:{port}"
        _wait_until_it_answers(address, children)
        on_ready(address)
        while True:
            for child in children:
                if child.poll() is not None:
                    return child.returncode or 1
            time.sleep(0.5)
    except KeyboardInterrupt:
        return 0
    finally:
        _stop(children)
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _wait_until_it_answers(address: str, children: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        for child in children:
            if child.poll() is not None:
                raise RetryFault(
                    f"a process of Dagster ended with {child.returncode}",
                    where=str(child.args[0]) if isinstance(child.args, list) else "",
                    remedy="read what it printed above",
                )
        try:
            with urlopen(f"{address}/server_info", timeout=5) as reply:
                if reply.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(0.3)
    raise RetryFault(
        f"no answer within {START_TIMEOUT_S} s", where=address, remedy="try again; the machine may be busy"
    )


def _stop(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    for child in children:
        try:
            child.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
