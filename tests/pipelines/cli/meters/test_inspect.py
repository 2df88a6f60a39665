"""`smf inspect celesc`: captures and lines in, a verdict for people and programs out."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from collector.lines import recording as line_recording
from collector.lines.transports import Endpoint, Stream, open_stream
from pipelines.cli.inspect import app
from protocols.captures import Chunk, format_capture, parse_capture
from protocols.celesc import encode_packet

pytestmark = pytest.mark.req("CE-A-test")

runner = CliRunner()
CODES = ((0x0A, 0x02), (0x0A, 0x07), (0x0A, 0x0C))


def packets(number: str, codes: tuple[tuple[int, int], ...] = CODES) -> list[bytes]:
    return [encode_packet(number, *code, bytes.fromhex("013579")) for code in codes]


def write_capture(
    folder: Path, number: str, codes: tuple[tuple[int, int], ...] = CODES, rate: float = 2400.0
) -> None:
    chunks, now = [], 1000.0
    for octets in packets(number, codes) * 10:
        for octet in octets:
            now += 10 / rate
            chunks.append(Chunk(now, bytes([octet])))
        now += 400 / rate
    facts = {"rate_bit_s": 2400, "resolution_s": 0.00001, "meter": number}
    (folder / f"{number}.cap").write_text(format_capture(chunks, facts))


def run(*words: str, exit_code: int) -> dict[str, object]:
    result = runner.invoke(app, ["celesc", *words, "--json"])
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def test_a_lot_of_recordings(tmp_path: Path) -> None:
    for number in range(1, 8):
        write_capture(tmp_path, f"{number:010d}")
    lot = ("--model", "27182", "--lot", "L <7>", "--lot-size", "8")
    page = tmp_path / "report.html"
    assert run(str(tmp_path), *lot, "--html", str(page), exit_code=1)["lot"]["status"] == "incomplete"
    assert "falta 1 medidor com resultado" in page.read_text()
    write_capture(tmp_path, "0000000008")
    found = run(str(tmp_path), *lot, exit_code=0)
    assert (found["lot"]["status"], found["lot"]["failed"]) == ("accepted", 0)
    write_capture(tmp_path, "0000000008", CODES[:1])
    found = run(str(tmp_path), *lot, "--html", str(page), exit_code=1)
    assert (found["lot"]["status"], found["lot"]["failed"]) == ("rejected", 1)
    assert [meter["status"] for meter in found["meters"]] == ["pass"] * 7 + ["fail"]
    text = page.read_text()
    assert "Lote rejeitado" in text
    assert "falta o pacote obrigatório 0A07" in text
    assert "plano de amostragem é um exemplo" in text
    assert "L &lt;7&gt;" in text
    assert "http" not in text


def test_a_plan_of_ones_own(tmp_path: Path) -> None:
    write_capture(tmp_path, "0000000001")
    plan = tmp_path / "plan.toml"
    plan.write_text(
        'name = "ours"\nname_pt = "nosso"\nsource = "contract"\nsource_pt = "contrato"\nis_example = false\n'
        "rows = [{ lot_from = 1, lot_to = 9999, sample = 1, accept = 0, reject = 1 }]\n"
    )
    words = ("--model", "27182", "--lot", "1", "--lot-size", "9000", "--plan", str(plan))
    assert run(str(tmp_path), *words, exit_code=0)["lot"]["plan"]["is_example"] is False


@contextmanager
def talking_gateway(octets: bytes) -> Iterator[str]:
    """A gateway that repeats these octets to the one that connects."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            with suppress(OSError), server.accept()[0] as line:
                while not stop.is_set():
                    line.sendall(octets)
                    stop.wait(0.05)

        thread = threading.Thread(target=talk)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        finally:
            stop.set()
            with suppress(OSError):  # it wakes who still waits for a call
                server.shutdown(socket.SHUT_RDWR)
            thread.join()


async def open_and_hear(endpoint: Endpoint, ear: Any, connect_s: float) -> Stream:
    """The line, once it speaks: however slow the machine is, all of the time of a recording is heard."""
    stream = await open_stream(endpoint, ear, connect_s)
    async with asyncio.timeout(60):
        while not ear.chunks:  # noqa: ASYNC110 - the product's ear has no event for it
            await asyncio.sleep(0.01)
    return stream


def test_a_gateway_is_recorded_and_its_timing_is_left_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_recording, "open_stream", open_and_hear)
    with talking_gateway(b"".join(packets("0000000001"))) as url:
        words = (url, "--model", "27182", "--seconds", "1", "--record", str(tmp_path), "--number", "1")
        found = run(*words, exit_code=1)
    (meter,) = found["meters"]
    by_rule = {finding["rule"]: finding["status"] for finding in meter["findings"]}
    assert by_rule["packets"] == by_rule["crc"] == by_rule["number"] == "pass"
    assert by_rule["rate"] == by_rule["period"] == "inconclusive"
    (kept,) = tmp_path.glob("*.cap")
    # The plate's number is kept with it.
    again = run(str(kept), "--model", "27182", exit_code=1)
    assert again["meters"][0]["findings"] == meter["findings"]


def test_what_was_recorded_and_its_file_have_the_same_stamps() -> None:
    moments = [1_795_353_885.126_077_4 + 0.000_000_3 * number for number in range(50)]
    for octet_s in (0.0, 10 / 2400):
        ear = line_recording._Ear(iter(moments).__next__, octet_s)
        for _ in moments:
            ear.data_received(b"\xaa\x55")
        assert parse_capture(format_capture(ear.chunks, {}), "x").chunks == tuple(ear.chunks)


@pytest.mark.parametrize(
    "words",
    [
        ("no/such.cap", "--model", "27182"),
        ("x", "--model", "1"),
        ("x", "--model", "27182", "--lot", "1"),
        ("tcp://127.0.0.1:1", "--model", "27182", "--seconds", "1"),
    ],
)
def test_wrong_use_is_one_error_with_a_remedy(words: tuple[str, ...]) -> None:
    result = runner.invoke(app, ["celesc", *words, "--json"])
    assert result.exit_code >= 10
    assert json.loads(result.stdout)["error"]["remedy"]


def test_silent_lines_are_kept_one_by_one(tmp_path: Path) -> None:
    with talking_gateway(b"") as first, talking_gateway(b"") as second:
        words = (first, second, "--model", "27182", "--seconds", "1", "--record", str(tmp_path))
        found = run(*words, exit_code=1)
    assert [meter["status"] for meter in found["meters"]] == ["inconclusive", "inconclusive"]
    assert len(list(tmp_path.glob("*.cap"))) == 2


def test_a_wrong_fact_of_one_recording_of_many_is_told_with_its_file(tmp_path: Path) -> None:
    write_capture(tmp_path, "0000000001")
    (tmp_path / "b.cap").write_text("# smf-capture 1\n# rate_bit_s = fast\n1.0 AA 55\n")
    result = runner.invoke(app, ["celesc", str(tmp_path), "--model", "27182", "--json"])
    assert json.loads(result.stdout)["error"]["where"].endswith("b.cap")
