"""`smf decode dlms`: frames of a capture, over wrapper or HDLC, or one bare APDU."""

from __future__ import annotations

import typer

from pipelines.cli.decode.source import HexFileOption, HexOption, JsonOption, emit, hex_octets
from pipelines.cli.output import faults_to_exit
from protocols.dlms.describe import describe


def register(app: typer.Typer) -> None:
    """Add the format to `smf decode`."""
    app.command("dlms")(dlms)


def dlms(hex_text: HexOption = None, file: HexFileOption = None, as_json: JsonOption = False) -> None:
    """Wrapper PDUs and HDLC frames, one after the other, or one APDU. Reads stdin without --hex and --file.

    Exit code 1 if any octets were not a good frame.
    """
    with faults_to_exit(as_json):
        emit(describe(hex_octets(hex_text, file)), as_json)
