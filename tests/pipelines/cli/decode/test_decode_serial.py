"""`smf decode ssu|ssu-stream|celesc`: vectors of the references, noise, captures with times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli.decode.app import app
from protocols.captures import Chunk, format_capture
from protocols.celesc import encode_packet
from protocols.ssu import ExtendedBlock

runner = CliRunner()


def records(*words: str, stdin: str | None = None, exit_code: int = 0) -> list[dict[str, object]]:
    result = runner.invoke(app, [*words, "--json"], input=stdin)
    assert result.exit_code == exit_code, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def block(seconds: int, active: int) -> bytes:
    return ExtendedBlock(seconds, False, False, False, True, "fora_de_ponta", 1, True, active, 3).encode()


@pytest.mark.req("TR-5.5e")
def test_single_blocks_one_a_line() -> None:
    text = "1C 82 92 D0 20 1C 0C 13\n7E 13 17 00 00 00 00 7A\n82 43 32 29 00 0C 00 98 63"
    good, bad, extended = records("ssu", stdin=text, exit_code=1)
    assert (good["format"], good["seconds_left"], good["active_pulses"]) == ("normal", 540, 8400)
    assert bad["offset"] == 8
    assert bad["error"]["reason"] == "complement check fails"
    assert (extended["offset"], extended["quadrant"], extended["registers"]) == (16, 3, {"R2": 41, "R5": 12})


@pytest.mark.req("TR-5.5e")
def test_a_stream_with_noise_and_its_times(tmp_path: Path) -> None:
    chunks = [Chunk(100.0 + n, (b"\x17" if n == 3 else b"") + block(800 - n, 10 + n)) for n in range(12)]
    file = tmp_path / "stream.txt"
    file.write_text(format_capture(chunks, {}))
    found = records("ssu-stream", "--file", str(file), exit_code=1)
    blocks = [record for record in found if "format" in record]
    assert [record["seconds_left"] for record in blocks] == [800 - n for n in range(12)]
    assert blocks[5]["arrived_at_s"] == 105.0
    assert [record["offset"] for record in found if "error" in record] == [27]
    assert {"locked": "extended"} in found


@pytest.mark.req("CE-A")
def test_packets_of_the_annex_in_noise() -> None:
    first = encode_packet("0123456789", 0x0A, 0x02, bytes.fromhex("013579"))
    unknown = encode_packet("0123456789", 0x0F, 0x10, b"\xab")
    octets = b"\xaa" + first + b"\x00" + unknown
    noise, known, more_noise, custom = records("celesc", "--hex", octets.hex(), exit_code=1)
    assert (noise["offset"], more_noise["offset"]) == (0, 1 + len(first))
    assert (known["quantity"], known["value"], known["code"]) == ("active_energy_kwh", 13579, "0A02")
    assert (custom["quantity"], custom["value"], custom["data"]) == (None, None, "ab")


def test_a_grouped_packet_only_when_asked() -> None:
    (record,) = records("celesc", "--grouped", "--hex", "544144AA55", exit_code=1)
    assert record["error"]["reason"] == "no preamble AA 55 with a meter number"


@pytest.mark.parametrize(
    "words", [("ssu", "--hex", "0"), ("celesc", "--hex", ""), ("ssu-stream", "--hex", "zz")]
)
def test_wrong_use_is_one_error_with_a_remedy(words: tuple[str, ...]) -> None:
    result = runner.invoke(app, [*words, "--json"])
    assert result.exit_code == 11
    assert json.loads(result.stdout)["error"]["remedy"]
