"""`smf decode` for the public file formats: FK7 and text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

import typer

from faults import OperatorFault
from pipelines.cli.decode.source import (
    HexOption,
    JsonOption,
    RawFileOption,
    Record,
    emit,
    error_record,
    raw_octets,
)
from pipelines.cli.output import faults_to_exit
from protocols.nbr14522.memory import Packing
from protocols.nbr14522.messages import MemoryBlock, decode_response
from protocols.public_format.errors import FileRefused
from protocols.public_format.scan import Damage, scan_fk7, scan_text
from protocols.public_format.text import CHANNELS

PackingOption = Annotated[str, typer.Option("--packing", help="How words lie in the octets: S, M or L.")]


def register_fk7(app: typer.Typer) -> None:
    """Add the format to `smf decode`."""
    app.command("fk7")(fk7)


def register_text(app: typer.Typer) -> None:
    """Add the format to `smf decode`."""
    app.command("public-text")(public_text)


def _error(octets: bytes, damage: Damage) -> Record:
    lost = octets[damage.offset : damage.offset + damage.count]
    return error_record(damage.offset, damage.reason, damage.count, lost)


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


def _records(octets: bytes, records: Callable[[], Iterator[Record]]) -> Iterator[Record]:
    """A file of which nothing can be read is one error."""
    try:
        yield from records()
    except FileRefused as refused:
        reason = f"{refused.where}: {refused.message}" if refused.where else refused.message
        yield error_record(0, reason, len(octets))


def _packing(text: str) -> Packing:
    try:
        return Packing(text.upper())
    except ValueError as error:
        raise OperatorFault(f"packing {text!r}", where="--packing", remedy="use S, M or L") from error


def fk7(
    hex_text: HexOption = None,
    file: RawFileOption = None,
    packing: PackingOption = "S",
    as_json: JsonOption = False,
) -> None:
    """An FK7 file: blocks of 256 octets without CRC. Reads stdin without --hex and --file.

    Exit code 1 if any octets were no good block of the file's meter.
    """
    with faults_to_exit(as_json):
        octets, way = raw_octets(hex_text, file), _packing(packing)
        emit(_records(octets, lambda: _fk7_records(octets, way)), as_json)


def public_text(hex_text: HexOption = None, file: RawFileOption = None, as_json: JsonOption = False) -> None:
    """A file of the text format: its header, then one record a memory line.

    Exit code 1 if the header or a line could not be read.
    """
    with faults_to_exit(as_json):
        octets = raw_octets(hex_text, file)
        emit(_records(octets, lambda: _text_records(octets)), as_json)
