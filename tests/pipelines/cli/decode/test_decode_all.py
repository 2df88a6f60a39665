"""Every format of `smf decode` by file, standard input and --hex: same records, errors with their place."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipelines.cli.decode import source as decode_input
from pipelines.cli.decode.app import app
from protocols.celesc import encode_packet
from protocols.dlms.apdu import Attribute, get_request
from protocols.dlms.framing import WRAPPER
from protocols.nbr14522.messages import InstantaneousRequest, Parameters
from protocols.ssu import ExtendedBlock
from tests.protocols.public_format.samples import FK7, TEXT

pytestmark = pytest.mark.req("TR-5.5e", "TR-5.6a", "TR-5.12a", "CE-A")


def ssu_block(seconds: int) -> bytes:
    return ExtendedBlock(
        seconds, False, False, False, True, "fora_de_ponta", 1, True, 900 - seconds, 3
    ).encode()


def wrapped(apdu: bytes) -> bytes:
    return WRAPPER.pack(1, 16, 1, len(apdu)) + apdu


REQUEST = wrapped(get_request(Attribute(1, "0-0:96.1.0.255", 2)))
COMMAND = InstantaneousRequest().encode("945068")
RESPONSE = Parameters(code=0x21, words_current=5985).encode("32600760")
PACKETS = [encode_packet("0123456789", 0x0A, 0x02, bytes.fromhex(f"0135{n}9")) for n in range(3)]
BLOCKS = [ssu_block(800 - n) for n in range(12)]


@dataclass(frozen=True)
class Case:
    """A format, good octets of it, and how to spoil them.

    Attributes:
        good: what the records of good octets have to show.
        bad: octets of which a part is of no record; bad_at: (offset, count) of that part.
        is_raw: the format's files are the octets themselves, not hexadecimal.
        words: options without which the octets say less.
    """

    octets: bytes
    good: Callable[[list[dict[str, Any]]], bool]
    bad: bytes
    bad_at: tuple[int, int]
    is_raw: bool = False
    words: tuple[str, ...] = ()


def spoilt(octets: bytes, place: int) -> bytes:
    return octets[:place] + bytes([octets[place] ^ 0x40]) + octets[place + 1 :]


CASES = {
    "nbr14522-command": Case(
        COMMAND * 2,
        lambda found: (
            [(one["offset"], one["code"], one["reader_serial"]) for one in found]
            == [(0, "14", "945068"), (66, "14", "945068")]
        ),
        COMMAND + spoilt(COMMAND, 20) + COMMAND,
        (66, 66),
    ),
    "nbr14522-response": Case(
        RESPONSE * 2,
        lambda found: [(one["offset"], one["words_current"]) for one in found] == [(0, 5985), (258, 5985)],
        RESPONSE + spoilt(RESPONSE, 100) + RESPONSE,
        (258, 258),
    ),
    "ssu": Case(
        b"".join(BLOCKS[:3]),
        lambda found: (
            [(one["offset"], one["seconds_left"]) for one in found] == [(0, 800), (9, 799), (18, 798)]
        ),
        BLOCKS[0] + spoilt(BLOCKS[1], 4) + BLOCKS[2],
        (9, 9),
        words=("--format", "extended"),
    ),
    "ssu-stream": Case(
        b"".join(BLOCKS),
        lambda found: (
            [one["seconds_left"] for one in found if "format" in one] == [800 - n for n in range(12)]
        ),
        b"\xff\xff" + b"".join(BLOCKS),
        (0, 2),
        words=("--format", "extended"),
    ),
    "celesc": Case(
        b"".join(PACKETS),
        lambda found: (
            [(one["code"], one["value"]) for one in found]
            == [("0A02", 13509), ("0A02", 13519), ("0A02", 13529)]
        ),
        PACKETS[0] + b"\x00\x01" + PACKETS[1],
        (len(PACKETS[0]), 2),
    ),
    "fk7": Case(
        FK7,
        lambda found: [one["offset"] for one in found] == list(range(0, len(FK7), 256)),
        FK7[:512] + b"\x99" + FK7[513:],
        (512, 256),
        is_raw=True,
    ),
    "public-text": Case(
        TEXT,
        lambda found: (found[0]["kind"], {one["kind"] for one in found[1:]}) == ("header", {"memory"}),
        TEXT.replace(b"SALV002", b"XALV002"),
        (2416 + 302, 302),
        is_raw=True,
    ),
    "dlms": Case(
        REQUEST * 2,
        lambda found: [one["offset"] for one in found] == [0, len(REQUEST)],
        REQUEST + b"\xff\xfe" + REQUEST,
        (len(REQUEST), 2),
    ),
}


def run(*words: str, stdin: bytes | None = None) -> tuple[int, list[dict[str, Any]]]:
    result = CliRunner().invoke(app, [*words, "--json"], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    if result.exit_code == 11:
        return 11, [json.loads(result.stdout)]
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("name", CASES)
def test_the_three_ways_in_give_the_same_records(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    text = case.octets if case.is_raw else case.octets.hex(" ").encode()
    file = tmp_path / "capture"
    file.write_bytes(text)
    code, found = run(name, "--file", str(file), *case.words)
    assert code == 0, found
    assert case.good(found), found
    assert not any("error" in one for one in found)
    for words, stdin in (
        (("--hex", case.octets.hex()), None),
        (("--hex", case.octets.hex(" ").upper()), None),
        ((), text),
        (("--file", "-"), text),
    ):
        assert run(name, *words, *case.words, stdin=stdin) == (0, found)


@pytest.mark.parametrize("name", CASES)
def test_what_is_no_record_is_an_error_with_offset_count_and_reason(name: str) -> None:
    case = CASES[name]
    code, found = run(name, "--hex", case.bad.hex(), *case.words)
    assert code == 1
    errors = [one for one in found if "error" in one]
    assert [(one["offset"], one["error"]["count"]) for one in errors] == [case.bad_at]
    assert all(one["error"]["reason"] for one in errors)
    # The good part flows.
    assert len(found) > len(errors)


@pytest.mark.parametrize("name", CASES)
def test_for_people_each_record_is_shown_too(name: str) -> None:
    case = CASES[name]
    result = CliRunner().invoke(app, [name, "--hex", case.octets.hex(), *case.words])
    assert result.exit_code == 0, result.output
    assert '"offset"' in result.stdout


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("octets", [b"\x00", b"\x7e" * 70, b"\xff" * 600, bytes(range(256)) * 3])
def test_octets_of_nothing_give_errors_and_no_record(name: str, octets: bytes) -> None:
    code, found = run(name, "--hex", octets.hex())
    errors = [one for one in found if "error" in one]
    assert code == 1
    assert errors
    assert sum(one["error"].get("count", 0) for one in errors) <= len(octets)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    "words",
    [
        ("--hex", "0g"),
        ("--hex", "012"),
        ("--hex", ""),
        ("--hex", "00", "--file", "x"),
        ("--file", "no/such/file"),
        ("--file", os.curdir),
    ],
    ids=lambda words: " ".join(words),
)
def test_wrong_use_is_one_error_with_place_and_remedy(name: str, words: tuple[str, ...]) -> None:
    code, found = run(name, *words)
    assert code == 11
    (told,) = found
    assert told["error"]["where"]
    assert told["error"]["remedy"]


@pytest.mark.parametrize("name", CASES)
def test_more_than_a_capture_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_input, "MAX_OCTETS", 100)
    file = tmp_path / "long"
    file.write_bytes(b"0" * 101)
    for words, stdin in ((("--file", str(file)), None), ((), b"0" * 101)):
        code, (told,) = run(name, *words, stdin=stdin)
        assert (code, "more than 100 octets" in told["error"]["message"]) == (11, True)
