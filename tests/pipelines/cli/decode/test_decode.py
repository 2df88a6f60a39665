"""`smf decode`: captures into JSON, errors with place and reason."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
from typer.testing import CliRunner

from faults import OperatorFault
from pipelines.cli.decode.app import app
from pipelines.cli.decode.source import raw_octets, unhex
from protocols.nbr14522.frames import Addressing, wrap_command, wrap_response
from protocols.nbr14522.memory import words_to_payloads
from protocols.nbr14522.messages import InstantaneousRequest, NotImplementedAnswer, Parameters, memory_blocks

pytestmark = pytest.mark.req("TR-5.5a")

runner = CliRunner()

CAPTURE = "99 55 00 00 52 14 94 50 68" + " 00" * 60 + " C1 5D"
REFUSED = NotImplementedAnswer(refused_code=0x14).encode("32600760")


def records(*words: str, stdin: str | None = None, exit_code: int = 0) -> list[dict[str, object]]:
    result = runner.invoke(app, [*words, "--json"], input=stdin)
    assert result.exit_code == exit_code, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_captured_command() -> None:
    (record,) = records("nbr14522-command", "--hex", CAPTURE)
    assert record["code"] == "14"
    assert record["reader_serial"] == "945068"
    assert record["name"] == "Grandezas instantâneas (página fiscal)"


@pytest.mark.case("D10")
@pytest.mark.parametrize(
    ("addressing", "noise"), [(Addressing.P8, 0), (Addressing.P2, 0), (Addressing.P0, 5)]
)
def test_how_a_command_is_addressed_shows_by_prefix_and_length(addressing: Addressing, noise: int) -> None:
    wire = wrap_command(InstantaneousRequest().encode("945068"), addressing) + b"\x01" * noise
    found = records("nbr14522-command", "--hex", wire.hex(), exit_code=1 if noise else 0)
    assert (found[0]["offset"], found[0]["code"]) == (0, "14")
    assert [one["error"]["count"] for one in found[1:]] == [noise] * bool(noise)


def test_responses_from_a_file_and_from_stdin(tmp_path: Path) -> None:
    blocks = [Parameters(code=0x21, words_current=5985).encode("32600760"), REFUSED]
    text = "\n".join(block.hex(" ") for block in blocks)
    file = tmp_path / "capture.txt"
    file.write_text(text)
    for found in (
        records("nbr14522-response", "--file", str(file)),
        records("nbr14522-response", "--file", "-", stdin=text),
        records("nbr14522-response", stdin=text),
    ):
        assert [(r["offset"], r["kind"]) for r in found] == [(0, "Parameters"), (258, "NotImplementedAnswer")]
        assert found[0]["words_current"] == 5985


def test_memory_words_by_profile() -> None:
    block = memory_blocks(0x26, "32600760", words_to_payloads([558, 405, 0]))[0]
    (plain,) = records("nbr14522-response", "--hex", block.hex())
    assert plain["words"][:4] == [558, 405, 0, 0]
    p2 = wrap_response(block, Addressing.P2).hex()
    (addressed,) = records("nbr14522-response", "--profile", "p2-generic", "--hex", p2)
    assert addressed["words"] == plain["words"]


def test_errors_name_offset_and_reason_and_the_good_part_flows() -> None:
    damaged = bytearray(REFUSED)
    damaged[20] ^= 1
    octets = b"\xff\xfb" + REFUSED + bytes(damaged) + REFUSED + b"\x21\x00"
    found = records("nbr14522-response", "--hex", octets.hex(), exit_code=1)
    assert [r["offset"] for r in found] == [0, 2, 260, 518, 776]
    errors = [r["error"] for r in found if "error" in r]
    assert [(e["count"], e["reason"]) for e in errors] == [
        (2, "the CRC does not fit the octets"),
        (258, "the CRC does not fit the octets"),
        (2, "2 octets, a response has 258"),
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("nbr14522-response", "--hex", "0g"),
        ("nbr14522-response", "--hex", "012"),
        ("nbr14522-response", "--hex", ""),
        ("nbr14522-response", "--hex", "00", "--profile", "none"),
        ("nbr14522-response", "--file", "no/such/file"),
        ("nbr14522-command", "--hex", "00", "--file", "x"),
    ],
)
def test_wrong_use_is_one_error_with_a_remedy(words: tuple[str, ...]) -> None:
    result = runner.invoke(app, [*words, "--json"])
    assert result.exit_code == 11
    error = json.loads(result.stdout)["error"]
    assert error["where"]
    assert error["remedy"]


def test_a_name_that_looks_like_markup_is_told_as_it_is() -> None:
    result = runner.invoke(app, ["nbr14522-response", "--file", "no[/such]/[bold]file"])
    assert result.exit_code == 11
    assert "no[/such]/[bold]file" in "".join(result.stderr.splitlines())


def test_blanks_of_any_kind_between_digits_take_no_memory_of_their_own() -> None:
    assert unhex("14\t00\r\n94\u00a050\v6\f8", "x") == bytes.fromhex("1400945068")
    text = "00 " * 500_000
    tracemalloc.start()
    try:
        assert len(unhex(text, "x")) == 500_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(text)


def test_without_a_standard_input_it_is_said_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.cli.decode.source.sys.stdin", None)
    with pytest.raises(OperatorFault, match="nothing to read") as told:
        raw_octets(None, None)
    assert "--file" in told.value.remedy
