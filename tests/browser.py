"""Debian's Chromium over pages of the product, for tests that see what a person sees."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright

from storage.database import Database

START_TIMEOUT_S = 180


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; skips the test where the machine has none."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@dataclass(frozen=True)
class Interface:
    """Addresses of a running `smf run ui`."""

    dagster: str
    evidence: str


@contextmanager
def interface(db: Database, data_dir: Path, evidence_port: int) -> Iterator[Interface]:
    """`smf run ui` on this database, as a process of its own; all of it is gone at the end."""
    port = free_port()
    environment = os.environ | {
        "SMF_DATABASE_URL": db.url,
        "SMF_DATA_DIR": str(data_dir),
        "SMF_DAGSTER_EVIDENCE_URL": f"http://127.0.0.1:{evidence_port}",
    }
    log = data_dir / "ui.log"
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "smf"), "run", "ui", "--port", str(port)],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(process, log, f"http://127.0.0.1:{port}/server_info", f"http://127.0.0.1:{evidence_port}/")
            yield Interface(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{evidence_port}")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def _wait(process: subprocess.Popen[bytes], log: Path, *addresses: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    for address in addresses:
        while True:
            assert process.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            try:
                if httpx.get(address, timeout=5, trust_env=False).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.3)
