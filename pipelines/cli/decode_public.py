"""`smf decode` for the public file formats: FK7 and text."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from faults import OperatorFault
from pipelines.cli.output import EXIT_ATTENTION, emit_json, faults_to_exit
from protocols.nbr14522.memory import Packing
from protocols.nbr14522.messages import MemoryBlock, decode_response
from protocols.public_format.errors import FileRefused
from protocols.public_format.scan import Damage, scan_fk7, scan_text
from protocols.public_format.text import CHANNELS

HexOption = Annotated[str | None, typer.Option("--hex", help="The file's octets; blanks are ignored.")]
FileOption = Annotated[Path | None, typer.Option("--file", help="The file itself; '-' is stdin.")]
PackingOption = Annotated[str, typer.Option("--packing", help="How words lie in the octets: S, M or L.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One line a record.")]

Record = dict[str, Any]


def register(app: typer.Typer) -> None:
    """Add these formats to `smf decode`."""
    app.command("fk7")(fk7)
    app.command("public-text")(public_text)


def _octets(hex_text: str | None, file: Path | None) -> bytes:
    """The file's octets: unlike a capture, a public file is not written in hexadecimal."""
    if hex_text is None:
        where = "stdin" if file is None or str(file) == "-" else str(file)
        try:
            return sys.stdin.buffer.read() if where == "stdin" else Path(where).read_bytes()
        except OSError as error:
            raise OperatorFault(str(error), where=where, remedy="name a file of this format") from error
    if file is not None:
        raise OperatorFault("both --hex and --file", where="smf decode", remedy="give one of them")
    try:
        return bytes.fromhex("".join(hex_text.split()))
    except ValueError as error:
        raise OperatorFault(
            f"no whole hexadecimal octets: {error}", where="--hex", remedy="check for a lost digit"
        ) from error


def _error(octets: bytes, damage: Damage) -> Record:
    lost = octets[damage.offset : damage.offset + damage.count]
    return {
        "offset": damage.offset,
        "error": {"reason": damage.reason, "count": damage.count, "octets": lost.hex()},
    }


def _fk7_records(octets: bytes, packing: Packing) -> Iterator[Record]:
    scan = scan_fk7(octets)
    found = [_error(octets, damage) for damage in scan.damages]
    for block in scan.blocks:
        response = decode_response(block.content)
        record = {"offset": block.offset} | response.to_json()
        if isinstance(response, MemoryBlock):
            record |= {"packing": packing, "words": response.words(packing).tolist()}
        found.append(record)
    yield from sorted(found, key=lambda record: record["offset"])


def _text_records(octets: bytes) -> Iterator[Record]:
    scan = scan_text(octets)
    header = scan.header
    yield {
        "offset": 0,
        "kind": "header",
        "reader_serial": header.reader_serial,
        "answers": {name: decode_response(block).to_json() for name, block in header.blocks.items()},
        "reader_record": header.record.values,
        "installation_code": header.installation_code,
        "user_output": header.user_output.strip(),
    }
    found = [_error(octets, damage) for damage in scan.damages]
    for line in scan.lines:
        words = [list(line.words[place : place + CHANNELS]) for place in range(0, len(line.words), CHANNELS)]
        found.append(
            {
                "offset": line.offset,
                "kind": "memory",
                "period": line.label,
                "line": line.number,
                "intervals": words,
            }
        )
    yield from sorted(found, key=lambda record: record["offset"])


def _run(octets: bytes, records: Callable[[], Iterator[Record]], as_json: bool) -> None:
    has_errors = False
    try:
        for record in records():
            has_errors |= "error" in record
            _emit(record, as_json)
    except FileRefused as refused:
        has_errors = True
        reason = f"{refused.where}: {refused.message}" if refused.where else refused.message
        _emit({"offset": 0, "error": {"reason": reason, "count": len(octets)}}, as_json)
    if has_errors:
        raise typer.Exit(EXIT_ATTENTION)


def _emit(record: Record, as_json: bool) -> None:
    if as_json:
        typer.echo(orjson.dumps(record).decode())
    else:
        emit_json(record)


def _packing(text: str) -> Packing:
    try:
        return Packing(text.upper())
    except ValueError as error:
        raise OperatorFault(f"packing {text!r}", where="--packing", remedy="use S, M or L") from error


def fk7(
    hex_text: HexOption = None,
    file: FileOption = None,
    packing: PackingOption = "S",
    as_json: JsonOption = False,
) -> None:
    """An FK7 file: blocks of 256 octets without CRC. Reads stdin without --hex and --file.

    Exit code 1 if any octets were no good block of the file's meter.
    """
    with faults_to_exit(as_json):
        octets, way = _octets(hex_text, file), _packing(packing)
        _run(octets, lambda: _fk7_records(octets, way), as_json)


def public_text(hex_text: HexOption = None, file: FileOption = None, as_json: JsonOption = False) -> None:
    """A file of the text format: its header, then one record a memory line.

    Exit code 1 if the header or a line could not be read.
    """
    with faults_to_exit(as_json):
        octets = _octets(hex_text, file)
        _run(octets, lambda: _text_records(octets), as_json)
