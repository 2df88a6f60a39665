"""`smf decode dlms`: frames of a capture, over wrapper or HDLC, or one bare APDU."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer

from faults import OperatorFault
from pipelines.cli.output import EXIT_ATTENTION, emit_json, faults_to_exit
from protocols.dlms.describe import describe


def register(app: typer.Typer) -> None:
    """Add the format to `smf decode`."""
    app.command("dlms")(dlms)


def dlms(
    hex_text: Annotated[
        str | None, typer.Option("--hex", help="The octets; blanks and line ends are ignored.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="A text file of hexadecimal; '-' is stdin.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line a record.")] = False,
) -> None:
    """Wrapper PDUs and HDLC frames, one after the other, or one APDU. Reads stdin without --hex and --file.

    Exit code 1 if any octets were no good frame.
    """
    with faults_to_exit(as_json):
        has_errors = False
        for record in describe(_octets(hex_text, file)):
            has_errors |= "error" in record
            if as_json:
                typer.echo(orjson.dumps(record).decode())
            else:
                emit_json(record)
        if has_errors:
            raise typer.Exit(EXIT_ATTENTION)


def _octets(hex_text: str | None, file: Path | None) -> bytes:
    if hex_text is not None and file is not None:
        raise OperatorFault("both --hex and --file", where="smf decode", remedy="give one of them")
    where = "--hex"
    try:
        if hex_text is None:
            where = "stdin" if file is None or str(file) == "-" else str(file)
            hex_text = sys.stdin.read() if where == "stdin" else Path(where).read_text(encoding="ascii")
        octets = bytes.fromhex("".join(hex_text.split()))
    except (OSError, ValueError) as error:
        raise OperatorFault(
            f"no whole hexadecimal octets: {error}", where=where, remedy="check for a lost digit"
        ) from error
    if not octets:
        raise OperatorFault("no octets", where=where, remedy="give a capture in hexadecimal")
    return octets
