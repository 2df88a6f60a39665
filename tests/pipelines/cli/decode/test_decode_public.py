"""`smf decode fk7` and `public-text`: files, standard input, --hex; errors with place and reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli.decode.app import app
from tests.protocols.public_format.samples import FK7, TEXT

pytestmark = pytest.mark.req("TR-5.6a")

runner = CliRunner()


def records(*words: str, stdin: bytes | None = None, exit_code: int = 0) -> list[dict[str, object]]:
    result = runner.invoke(app, [*words, "--json"], input=stdin)
    assert result.exit_code == exit_code, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize(("kind", "octets"), [("fk7", FK7), ("public-text", TEXT)])
def test_the_three_ways_in_say_the_same(kind: str, octets: bytes, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(octets)
    found = records(kind, "--file", str(file))
    assert found == records(kind, stdin=octets) == records(kind, "--hex", octets.hex(" "))
    assert [record["offset"] for record in found[:2]] == [0, 256 if kind == "fk7" else 2416]


def test_what_the_records_hold() -> None:
    header, first, *_ = records("public-text", stdin=TEXT)
    assert header["reader_serial"] == "001101"
    assert header["answers"]["parameters"]["words_previous"] == 144
    assert (first["period"], first["line"], len(first["intervals"])) == ("SALV", 1, 24)
    _, memory, *_ = records("fk7", stdin=FK7)
    assert (memory["kind"], memory["number"], memory["words"][:4]) == ("MemoryBlock", 1, [0, 1, 2, 3])


def test_errors_are_objects_with_offset_and_reason() -> None:
    found = records("fk7", "--hex", (FK7[:512] + b"\x99" + FK7[513:]).hex(), exit_code=1)
    (error,) = [record for record in found if "error" in record]
    assert (error["offset"], error["error"]["count"]) == (512, 256)
    found = records("public-text", stdin=TEXT.replace(b"SALV002", b"XALV002"), exit_code=1)
    (error,) = [record for record in found if "error" in record]
    assert error["offset"] == 2416 + 302
    assert "label" in error["error"]["reason"]
    for kind in ("fk7", "public-text"):
        (refused,) = records(kind, stdin=b"no such format", exit_code=1)
        assert (refused["offset"], refused["error"]["count"]) == (0, 14)


def test_a_missing_file_is_the_operators() -> None:
    result = runner.invoke(app, ["fk7", "--file", "none", "--json"])
    assert result.exit_code == 11
