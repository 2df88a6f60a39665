"""`smf decode` for what meters send by themselves: SSU blocks, SSU streams, CELESC packets."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from faults import OperatorFault
from pipelines.cli.output import EXIT_ATTENTION, emit_json, faults_to_exit
from protocols.captures import Capture, Chunk, is_capture, parse_capture
from protocols.celesc import CelescStream, Packet, decode_grouped
from protocols.celesc.packets import GroupedPacket
from protocols.ssu import Block, BlockFound, Format, Locked, Refused, SsuSettings, SsuStream, decode_block
from protocols.ssu.blocks import LENGTH

HexOption = Annotated[str | None, typer.Option("--hex", help="The octets; blanks are ignored.")]
FileOption = Annotated[
    Path | None,
    typer.Option("--file", help="A text file of hexadecimal, or a capture with times; '-' is stdin."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One line a record.")]

Record = dict[str, Any]


class BlockFormat(StrEnum):
    """What `--format` takes."""

    AUTO = "auto"
    NORMAL = "normal"
    EXTENDED = "extended"
    MIXED = "mixed"


FormatOption = Annotated[BlockFormat, typer.Option("--format", help="Format of the blocks.")]


def register(app: typer.Typer) -> None:
    """Add these formats to `smf decode`."""
    app.command("ssu")(ssu)
    app.command("ssu-stream")(ssu_stream)
    app.command("celesc")(celesc)


def _text(hex_text: str | None, file: Path | None) -> tuple[str, str]:
    """The input and its name."""
    if hex_text is not None:
        if file is not None:
            raise OperatorFault("both --hex and --file", where="smf decode", remedy="give one of them")
        return hex_text, "--hex"
    where = "stdin" if file is None or str(file) == "-" else str(file)
    try:
        return (sys.stdin.read() if where == "stdin" else Path(where).read_text(encoding="ascii")), where
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorFault(str(error), where=where, remedy="name a text file of hexadecimal") from error


def _unhex(text: str, where: str) -> bytes:
    try:
        octets = bytes.fromhex("".join(text.split()))
    except ValueError as error:
        raise OperatorFault(
            f"no whole hexadecimal octets: {error}", where=where, remedy="check for a lost digit"
        ) from error
    if not octets:
        raise OperatorFault("no octets", where=where, remedy="give hexadecimal octets")
    return octets


def _input(hex_text: str | None, file: Path | None) -> Capture | bytes:
    text, where = _text(hex_text, file)
    return parse_capture(text, where) if is_capture(text) else _unhex(text, where)


def _emit(records: Iterable[Record], as_json: bool) -> None:
    has_errors = False
    for record in records:
        has_errors |= "error" in record
        if as_json:
            typer.echo(orjson.dumps(record, default=str).decode())
        else:
            emit_json(record)
    if has_errors:
        raise typer.Exit(EXIT_ATTENTION)


def _error(offset: int, reason: str, count: int, octets: bytes | None = None) -> Record:
    error: Record = {"reason": reason, "count": count}
    if octets is not None:
        error["octets"] = octets.hex()
    return {"offset": offset, "error": error}


def _block(offset: int, block: Block, octets: bytes) -> Record:
    fields = asdict(block)
    suspects = fields.pop("suspects")
    return {
        "offset": offset,
        "format": block.format.value,
        **fields,
        "registers": block.registers,
        "suspects": list(suspects),
        "octets": octets.hex(),
    }


def _blocks(text: str, where: str, wanted: BlockFormat) -> Iterator[Record]:
    """Blocks of a fixed format one after the other; with `auto` one a line, its length telling the format."""
    if wanted is BlockFormat.AUTO:
        parts = [_unhex(line, where) for line in text.splitlines() if line.strip()]
        if not parts:
            raise OperatorFault("no octets", where=where, remedy="give hexadecimal octets")
    else:
        octets, size = _unhex(text, where), LENGTH[Format(wanted.value)]
        parts = [octets[start : start + size] for start in range(0, len(octets), size)]
    offset = 0
    for part in parts:
        block = decode_block(part)
        if isinstance(block, Refused):
            yield _error(offset, block.reason, len(part), part)
        else:
            yield _block(offset, block, part)
        offset += len(part)


def ssu(
    hex_text: HexOption = None,
    file: FileOption = None,
    block_format: FormatOption = BlockFormat.AUTO,
    as_json: JsonOption = False,
) -> None:
    """Single blocks of the user output: one a line, or with --format one after the other.

    Exit code 1 if any octets were no good block.
    """
    with faults_to_exit(as_json):
        _emit(_blocks(*_text(hex_text, file), block_format), as_json)


def _stream_records(source: Capture | bytes, stream: SsuStream) -> Iterator[Record]:
    for chunk in _chunks(source):
        stream.receive(chunk.octets, chunk.at_s if isinstance(source, Capture) else None)
        yield from _taken(stream)
    stream.close()
    yield from _taken(stream)


def _taken(stream: SsuStream) -> Iterator[Record]:
    while (event := stream.next_event()) is not None:
        if isinstance(event, BlockFound):
            yield _block(event.offset, event.block, event.octets) | {"arrived_at_s": event.arrived_at_s}
        elif isinstance(event, Locked):
            yield {"locked": event.format.value if event.format else None}
        else:
            yield _error(event.offset, event.reason, event.count)


def _chunks(source: Capture | bytes) -> tuple[Chunk, ...]:
    return source.chunks if isinstance(source, Capture) else (Chunk(0.0, source),)


def ssu_stream(
    hex_text: HexOption = None,
    file: FileOption = None,
    block_format: FormatOption = BlockFormat.AUTO,
    interval_s: Annotated[int, typer.Option(help="Demand interval, seconds.", min=60, max=4095)] = 900,
    as_json: JsonOption = False,
) -> None:
    """A stream of the user output, with noise: blocks are believed only in company of the next one.

    Exit code 1 if any octets were passed over.
    """
    with faults_to_exit(as_json):
        formats = None if block_format is BlockFormat.AUTO else (Format(block_format.value),)
        stream = SsuStream(SsuSettings(interval_s=interval_s), formats)
        _emit(_stream_records(_input(hex_text, file), stream), as_json)


def _packet(packet: Packet) -> Record:
    return {
        "offset": packet.offset,
        "meter_number": packet.meter_number,
        "code": f"{packet.scope:02X}{packet.index:02X}",
        "quantity": packet.quantity.name.lower() if packet.quantity else None,
        "value": packet.value,
        "digits": packet.digits,
        "is_absent": packet.is_absent,
        "problem": packet.problem,
        "data": packet.data.hex(),
        "arrived_at_s": packet.arrived_at_s,
    }


def _packets(source: Capture | bytes) -> Iterator[Record]:
    stream = CelescStream()

    def taken() -> Iterator[Record]:
        while (event := stream.next_event()) is not None:
            if isinstance(event, Packet):
                yield _packet(event)
            else:
                yield _error(event.offset, event.reason, event.count)

    for chunk in _chunks(source):
        stream.receive(chunk.octets, chunk.at_s if isinstance(source, Capture) else None)
        yield from taken()
    stream.close()
    yield from taken()


def _grouped(octets: bytes) -> Iterator[Record]:
    packet = decode_grouped(octets)
    if not isinstance(packet, GroupedPacket):
        yield _error(0, packet, len(octets), octets)
        return
    yield {
        "offset": 0,
        "version": packet.version,
        "signal": packet.signal,
        "meter_number": packet.meter_number,
        "groups": [
            {"code": f"{scope:02X}{index:02X}", "data": data.hex()} for scope, index, data in packet.groups
        ],
    }


def celesc(
    hex_text: HexOption = None,
    file: FileOption = None,
    grouped: Annotated[bool, typer.Option("--grouped", help="One grouped packet of a remote.")] = False,
    as_json: JsonOption = False,
) -> None:
    """CELESC's serial output (Annex A): packets in a stream with noise.

    Exit code 1 if any octets were passed over.
    """
    with faults_to_exit(as_json):
        source = _input(hex_text, file)
        if grouped:
            _emit(_grouped(b"".join(chunk.octets for chunk in _chunks(source))), as_json)
        else:
            _emit(_packets(source), as_json)
