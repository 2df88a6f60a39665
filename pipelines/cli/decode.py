"""`smf decode`: octets of a capture into words, one JSON object a record."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from faults import OperatorFault
from pipelines.cli import decode_dlms, decode_public, decode_serial
from pipelines.cli.output import EXIT_ATTENTION, emit_json, faults_to_exit
from protocols.nbr14522.commands import info_of
from protocols.nbr14522.errors import RemoteProtocolError
from protocols.nbr14522.frames import (
    COMMAND_WIRE_SIZE,
    RESPONSE_WIRE_SIZE,
    Addressing,
    unwrap_command,
    unwrap_response,
)
from protocols.nbr14522.memory import split_channels
from protocols.nbr14522.messages import MemoryBlock, decode_request, decode_response
from protocols.nbr14522.profile import MeterProfile
from protocols.nbr14522.profiles import profile_named

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Octets into words, one JSON object a record."
)

decode_serial.register(app)
decode_public.register(app)
decode_dlms.register(app)

HexOption = Annotated[str | None, typer.Option("--hex", help="The octets; blanks and line ends are ignored.")]
FileOption = Annotated[Path | None, typer.Option("--file", help="A text file of hexadecimal; '-' is stdin.")]
ProfileOption = Annotated[str, typer.Option("--profile", help="The meter profile: addressing and packing.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One line a record.")]

Decoder = Callable[[bytes, MeterProfile], dict[str, Any]]


def _octets(hex_text: str | None, file: Path | None) -> bytes:
    if hex_text is not None and file is not None:
        raise OperatorFault("both --hex and --file", where="smf decode", remedy="give one of them")
    where = "--hex"
    if hex_text is None:
        where = "stdin" if file is None or str(file) == "-" else str(file)
        try:
            hex_text = sys.stdin.read() if where == "stdin" else Path(where).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise OperatorFault(str(error), where=where, remedy="name a text file of hexadecimal") from error
    digits = "".join(hex_text.split())
    for position, digit in enumerate(digits):
        if digit not in "0123456789abcdefABCDEF":
            raise OperatorFault(
                f"{digit!r} is no hexadecimal digit (digit {position + 1})", where=where, remedy="remove it"
            )
    if not digits or len(digits) % 2:
        raise OperatorFault(
            f"{len(digits)} hexadecimal digits make no whole octets",
            where=where,
            remedy="check for a lost digit",
        )
    return bytes.fromhex(digits)


def _response(wire: bytes, profile: MeterProfile) -> dict[str, Any]:
    response = decode_response(unwrap_response(wire, profile.addressing))
    record = response.to_json()
    if isinstance(response, MemoryBlock):
        record["packing"] = profile.packing
        words = response.words(profile.packing)
        record["words"] = split_channels(words, 1, sign_bit=profile.sign_bit)[:, 0].tolist()
    return record


def _command(wire: bytes, profile: MeterProfile) -> dict[str, Any]:
    request = decode_request(unwrap_command(wire, profile.addressing))
    return request.to_json() | {"name": info_of(request).name}


def _records(octets: bytes, size: int, decode: Decoder, profile: MeterProfile) -> Iterator[dict[str, Any]]:
    """Frames one after the other; octets between them that are no frame are one error with its place."""
    offset = 0
    bad_from: int | None = None
    reason = ""
    while offset < len(octets):
        try:
            record = decode(octets[offset : offset + size], profile)
        except RemoteProtocolError as error:
            if bad_from is None:
                bad_from, reason = offset, error.message
            offset += 1
            continue
        if bad_from is not None:
            yield _error(octets, bad_from, offset, reason)
            bad_from = None
        yield {"offset": offset} | record
        offset += size
    if bad_from is not None:
        yield _error(octets, bad_from, len(octets), reason)


def _error(octets: bytes, start: int, end: int, reason: str) -> dict[str, Any]:
    return {
        "offset": start,
        "error": {"reason": reason, "count": end - start, "octets": octets[start:end].hex()},
    }


def _run(octets: bytes, size: int, decode: Decoder, profile: MeterProfile, as_json: bool) -> None:
    has_errors = False
    for record in _records(octets, size, decode, profile):
        has_errors |= "error" in record
        if as_json:
            typer.echo(orjson.dumps(record).decode())
        else:
            emit_json(record)
    if has_errors:
        raise typer.Exit(EXIT_ATTENTION)


def _command_addressing(octets: bytes, profile: MeterProfile) -> Addressing:
    """P8 shows by its prefix and length, so that a captured command decodes without naming a profile."""
    if profile.addressing is Addressing.P0 and len(octets) % COMMAND_WIRE_SIZE[Addressing.P0]:
        for addressing in (Addressing.P8, Addressing.P2):
            if len(octets) % COMMAND_WIRE_SIZE[addressing] == 0:
                return addressing
    return profile.addressing


@app.command("nbr14522-response")
def nbr14522_response(
    hex_text: HexOption = None,
    file: FileOption = None,
    profile: ProfileOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Responses of 258 octets (P2: 260), one after the other. Reads stdin without --hex and --file.

    Exit code 1 if any octets were no good frame.
    """
    with faults_to_exit(as_json):
        meter = profile_named(profile)
        octets = _octets(hex_text, file)
        _run(octets, RESPONSE_WIRE_SIZE[meter.addressing], _response, meter, as_json)


@app.command("nbr14522-command")
def nbr14522_command(
    hex_text: HexOption = None,
    file: FileOption = None,
    profile: ProfileOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Commands of 66 octets (P8: 71, P2: 68), one after the other. Reads stdin without --hex and --file.

    Exit code 1 if any octets were no good frame.
    """
    with faults_to_exit(as_json):
        octets = _octets(hex_text, file)
        meter = profile_named(profile)
        meter = replace(meter, addressing=_command_addressing(octets, meter))
        _run(octets, COMMAND_WIRE_SIZE[meter.addressing], _command, meter, as_json)
