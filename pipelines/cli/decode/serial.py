"""`smf decode` for what meters send by themselves: SSU blocks, SSU streams, CELESC packets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from faults import OperatorFault
from pipelines.cli.decode.source import (
    CaptureOption,
    HexOption,
    JsonOption,
    Record,
    capture_or_octets,
    capture_text,
    emit,
    error_record,
    unhex,
)
from pipelines.cli.output import faults_to_exit
from protocols.captures import Capture, Chunk
from protocols.celesc import CelescStream, Packet, decode_grouped
from protocols.celesc.packets import GroupedPacket
from protocols.ssu import Block, BlockFound, Format, Locked, Refused, SsuSettings, SsuStream, decode_block
from protocols.ssu.blocks import LENGTH


class BlockFormat(StrEnum):
    """What `--format` takes."""

    AUTO = "auto"
    NORMAL = "normal"
    EXTENDED = "extended"
    MIXED = "mixed"


FormatOption = Annotated[BlockFormat, typer.Option("--format", help="Format of the blocks.")]


def register_ssu(app: typer.Typer) -> None:
    """Add blocks and streams of SSU to `smf decode`."""
    app.command("ssu")(ssu)
    app.command("ssu-stream")(ssu_stream)


def register_celesc(app: typer.Typer) -> None:
    """Add CELESC's packets to `smf decode`."""
    app.command("celesc")(celesc)


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
        parts = [unhex(line, where) for line in text.splitlines() if line.strip()]
        if not parts:
            raise OperatorFault("no octets", where=where, remedy="give hexadecimal octets")
    else:
        octets, size = unhex(text, where), LENGTH[Format(wanted.value)]
        parts = [octets[start : start + size] for start in range(0, len(octets), size)]
    offset = 0
    for part in parts:
        block = decode_block(part)
        if isinstance(block, Refused):
            yield error_record(offset, block.reason, len(part), part)
        else:
            yield _block(offset, block, part)
        offset += len(part)


def ssu(
    hex_text: HexOption = None,
    file: CaptureOption = None,
    block_format: FormatOption = BlockFormat.AUTO,
    as_json: JsonOption = False,
) -> None:
    """Single blocks of the user output: one a line, or with --format one after the other.

    Exit code 1 if any octets were no good block.
    """
    with faults_to_exit(as_json):
        emit(_blocks(*capture_text(hex_text, file), block_format), as_json)


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
            yield error_record(event.offset, event.reason, event.count)


def _chunks(source: Capture | bytes) -> tuple[Chunk, ...]:
    return source.chunks if isinstance(source, Capture) else (Chunk(0.0, source),)


def ssu_stream(
    hex_text: HexOption = None,
    file: CaptureOption = None,
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
        emit(_stream_records(capture_or_octets(hex_text, file), stream), as_json)


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
                yield error_record(event.offset, event.reason, event.count)

    for chunk in _chunks(source):
        stream.receive(chunk.octets, chunk.at_s if isinstance(source, Capture) else None)
        yield from taken()
    stream.close()
    yield from taken()


def _grouped(octets: bytes) -> Iterator[Record]:
    packet = decode_grouped(octets)
    if not isinstance(packet, GroupedPacket):
        yield error_record(0, packet, len(octets), octets)
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
    file: CaptureOption = None,
    grouped: Annotated[bool, typer.Option("--grouped", help="One grouped packet of a remote.")] = False,
    as_json: JsonOption = False,
) -> None:
    """CELESC's serial output (Annex A): packets in a stream with noise.

    Exit code 1 if any octets were passed over.
    """
    with faults_to_exit(as_json):
        source = capture_or_octets(hex_text, file)
        if grouped:
            emit(_grouped(b"".join(chunk.octets for chunk in _chunks(source))), as_json)
        else:
            emit(_packets(source), as_json)
