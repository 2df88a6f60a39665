"""`smf decode` for NBR 14522: commands and responses, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Annotated, Any

import typer

from pipelines.cli.decode.source import HexFileOption, HexOption, JsonOption, emit, error_record, hex_octets
from pipelines.cli.output import faults_to_exit
from protocols.nbr14522.commands import info_of
from protocols.nbr14522.errors import RemoteProtocolError
from protocols.nbr14522.frames import (
    COMMAND_WIRE_SIZE,
    PREFIX_OCTET,
    RESPONSE_WIRE_SIZE,
    Addressing,
    address_of,
    unwrap_command,
    unwrap_response,
)
from protocols.nbr14522.memory import split_channels
from protocols.nbr14522.messages import MemoryBlock, decode_request, decode_response
from protocols.nbr14522.profile import MeterProfile
from protocols.nbr14522.profiles import profile_named

ProfileOption = Annotated[str, typer.Option("--profile", help="The meter profile: addressing and packing.")]
Decoder = Callable[[bytes, MeterProfile], dict[str, Any]]


def register(app: typer.Typer) -> None:
    """Add the frames of the protocol to `smf decode`."""
    app.command("nbr14522-response")(nbr14522_response)
    app.command("nbr14522-command")(nbr14522_command)


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
    address = address_of(wire, profile.addressing)
    addressed = {} if address is None else {"address": address}
    return addressed | request.to_json() | {"name": info_of(request).name}


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
            yield error_record(bad_from, reason, offset - bad_from, octets[bad_from:offset])
            bad_from = None
        yield {"offset": offset} | record
        offset += size
    if bad_from is not None:
        yield error_record(bad_from, reason, len(octets) - bad_from, octets[bad_from:])


def _command_addressing(octets: bytes, profile: MeterProfile) -> Addressing:
    """P8 and P2 show by prefix and length, so that a captured command decodes without naming a profile."""
    if profile.addressing is Addressing.P0 and len(octets) % COMMAND_WIRE_SIZE[Addressing.P0]:
        for addressing, place in ((Addressing.P8, 0), (Addressing.P2, 1)):
            if len(octets) % COMMAND_WIRE_SIZE[addressing] == 0 and octets[place] == PREFIX_OCTET:
                return addressing
    return profile.addressing


def nbr14522_response(
    hex_text: HexOption = None,
    file: HexFileOption = None,
    profile: ProfileOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Responses of 258 octets (P2: 260), one after the other. Reads stdin without --hex and --file.

    Exit code 1 if any octets were no good frame.
    """
    with faults_to_exit(as_json):
        meter = profile_named(profile)
        octets = hex_octets(hex_text, file)
        emit(_records(octets, RESPONSE_WIRE_SIZE[meter.addressing], _response, meter), as_json)


def nbr14522_command(
    hex_text: HexOption = None,
    file: HexFileOption = None,
    profile: ProfileOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Commands of 66 octets (P8: 71, P2: 68), one after the other. Reads stdin without --hex and --file.

    Exit code 1 if any octets were no good frame.
    """
    with faults_to_exit(as_json):
        octets = hex_octets(hex_text, file)
        meter = profile_named(profile)
        meter = replace(meter, addressing=_command_addressing(octets, meter))
        emit(_records(octets, COMMAND_WIRE_SIZE[meter.addressing], _command, meter), as_json)
