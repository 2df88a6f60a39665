"""The evidence pages, asked over HTTP from a process of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.req("X-trace")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    day = tmp_path / "data_docs" / "2026-11-20"
    day.mkdir(parents=True)
    (day / "index.html").write_text("<h1>Auditoria do dia</h1>", encoding="utf-8")
    (tmp_path / "secret.txt").write_text("not for the web", encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.evidence", "127.0.0.1", str(port)],
        env=os.environ | {"SMF_DATA_DIR": str(tmp_path)},
        cwd=Path(__file__).parents[2],
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/", timeout=5, trust_env=False)
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def get(url: str, **named: str) -> httpx.Response:
    return httpx.get(url, timeout=20, trust_env=False, follow_redirects=True, **named)


def test_pages_are_served_read_only_and_nothing_else_is(address: str) -> None:
    index = get(f"{address}/")
    assert "/auditoria/2026-11-20/index.html" in index.text
    assert "Nenhum ainda" in index.text, "no closing yet: it says how one is made"
    assert get(f"{address}/auditoria/2026-11-20/index.html").text == "<h1>Auditoria do dia</h1>"
    manual = get(f"{address}/manual/regras.md")
    assert manual.status_code == 200
    assert "<table>" in manual.text
    assert manual.headers["content-security-policy"].startswith("default-src 'none'")
    for path in ("/auditoria/../secret.txt", "/auditoria/%2e%2e/secret.txt", "/manual/..%2fpyproject", "/x"):
        reply = get(f"{address}{path}")
        assert reply.status_code == 404, path
        assert "not for the web" not in reply.text
    assert httpx.post(f"{address}/", timeout=20, trust_env=False).status_code == 405
    assert get(f"{address}/", headers={"Host": "evil.example"}).status_code == 400
