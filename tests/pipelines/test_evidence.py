"""The evidence pages, asked over HTTP from a process of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from derivation.run import derive
from storage.database import Database
from tests.derivation.world import DAY, NOW, add_points, curve, put_readings

pytestmark = pytest.mark.req("X-trace")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with serving(tmp_path) as url:
        yield url


@contextmanager
def serving(tmp_path: Path, **variables: str) -> Iterator[str]:
    """The pages from a process of their own, with one stored day."""
    day = tmp_path / "data_docs" / "2026-11-20"
    day.mkdir(parents=True)
    (day / "index.html").write_text("<h1>Auditoria do dia</h1>", encoding="utf-8")
    (tmp_path / "secret.txt").write_text("not for the web", encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.evidence", "127.0.0.1", str(port)],
        env=os.environ | {"SMF_DATA_DIR": str(tmp_path)} | variables,
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


def test_traces_and_standings_are_made_when_asked_for(tmp_path: Path, embedded_db: Database) -> None:
    with embedded_db.connect() as conn:
        (point,) = add_points(conn, 1)
    put_readings(embedded_db, [(point.meter_id, DAY, curve(1))])
    derive(embedded_db, DAY, DAY, as_of=NOW, run_id="r1")
    with serving(tmp_path, SMF_DATABASE_URL=embedded_db.url) as address:
        assert f'href="/situacao/{DAY}"' in get(f"{address}/").text, "beside the stored page of the day"
        standing = get(f"{address}/situacao/{DAY}")
        assert "Faltam 1 de 1 UCs na CCEE." in standing.text
        assert point.uc_code in standing.text
        interval = get(f"{address}/rastro?uc={point.uc_code}&quando={DAY}T10:05")
        assert interval.status_code == 200
        assert interval.url.path == f"/rastro/{point.uc_code}/{DAY}T10:05"
        assert f"{curve(1)[120]}" in interval.text, "its pulses"
        assert get(f"{address}/rastro/{point.uc_code}/{DAY}").status_code == 200
        unknown = get(f"{address}/rastro/%3Cb%3E42/{DAY}")
        assert unknown.status_code == 404
        assert "<b>42" not in unknown.text
        assert "escreva AAAA-MM-DD" in get(f"{address}/situacao/ontem").text
        assert "script" not in get(f"{address}/").text
