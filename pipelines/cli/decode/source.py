"""What the formats of `smf decode` share: where octets come from, and how records go out."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from faults import OperatorFault
from pipelines.cli.output import EXIT_ATTENTION, emit_json
from protocols.captures import Capture, is_capture, parse_capture

HexOption = Annotated[str | None, typer.Option("--hex", help="The octets; blanks and line ends are ignored.")]
CaptureOption = Annotated[
    Path | None,
    typer.Option("--file", help="A text file of hexadecimal, or a capture with times; '-' is stdin."),
]
HexFileOption = Annotated[
    Path | None, typer.Option("--file", help="A text file of hexadecimal; '-' is stdin.")
]
RawFileOption = Annotated[Path | None, typer.Option("--file", help="The file itself; '-' is stdin.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One line a record.")]

Record = dict[str, Any]

# A capture of a day of the fastest line is some 30 MB of hexadecimal.
MAX_OCTETS = 256 * 1024 * 1024
_DIGITS = frozenset("0123456789abcdefABCDEF")
# A no-break space is what a word processor or a browser puts between pasted octets.
_BLANKS = dict.fromkeys(map(ord, " \t\r\n\v\f\u00a0"))


def raw_octets(hex_text: str | None, file: Path | None) -> bytes:
    """Of --hex, or of a file or standard input as they are."""
    if hex_text is not None:
        _refuse_both(file)
        return unhex(hex_text, "--hex")
    return _read(file)[0]


def capture_text(hex_text: str | None, file: Path | None) -> tuple[str, str]:
    """Hexadecimal or a capture as text, and where it came from."""
    if hex_text is not None:
        _refuse_both(file)
        return hex_text, "--hex"
    octets, where = _read(file)
    try:
        return octets.decode("ascii"), where
    except UnicodeDecodeError as error:
        raise OperatorFault(
            f"octet {error.start} is not ASCII", where=where, remedy="name a text file of hexadecimal"
        ) from error


def hex_octets(hex_text: str | None, file: Path | None) -> bytes:
    """Octets written in hexadecimal."""
    return unhex(*capture_text(hex_text, file))


def capture_or_octets(hex_text: str | None, file: Path | None) -> Capture | bytes:
    """A capture with times, or octets written in hexadecimal."""
    text, where = capture_text(hex_text, file)
    return parse_capture(text, where) if is_capture(text) else unhex(text, where)


def unhex(text: str, where: str) -> bytes:
    """Octets of hexadecimal digits and blanks.

    Raises:
        OperatorFault: naming the first that is not an octet; or half an octet, or none at all.
    """
    # Not by split(): a list of a capture's millions of octets takes twenty times the capture's memory.
    digits = text.translate(_BLANKS)
    if not _DIGITS.issuperset(digits):
        place, digit = next((n, one) for n, one in enumerate(digits, start=1) if one not in _DIGITS)
        raise OperatorFault(
            f"{digit!r} is not a hexadecimal digit (digit {place})", where=where, remedy="remove it"
        )
    if not digits:
        raise OperatorFault("no octets", where=where, remedy="give hexadecimal digits")
    if len(digits) % 2:
        raise OperatorFault(
            f"{len(digits)} hexadecimal digits make no whole octets",
            where=where,
            remedy="check for a lost digit",
        )
    return bytes.fromhex(digits)


def error_record(offset: int, reason: str, count: int, octets: bytes | None = None) -> Record:
    """Octets that are nothing of the format: where they begin, how many, and why."""
    error: Record = {"reason": reason, "count": count}
    if octets is not None:
        error["octets"] = octets.hex()
    return {"offset": offset, "error": error}


def emit(records: Iterable[Record], as_json: bool) -> None:
    """One object a record.

    Raises:
        typer.Exit: code 1 where any was an error.
    """
    has_errors = False
    for record in records:
        has_errors |= "error" in record
        if as_json:
            typer.echo(orjson.dumps(record, default=str).decode())
        else:
            emit_json(record)
    if has_errors:
        raise typer.Exit(EXIT_ATTENTION)


def _refuse_both(file: Path | None) -> None:
    if file is not None:
        raise OperatorFault("both --hex and --file", where="smf decode", remedy="give one of them")


def _read(file: Path | None) -> tuple[bytes, str]:
    where = "stdin" if file is None or str(file) == "-" else str(file)
    try:
        if where == "stdin":
            if sys.stdin is None:
                raise OperatorFault("nothing to read", where=where, remedy="give --hex or --file")
            octets = sys.stdin.buffer.read(MAX_OCTETS + 1)
        else:
            with Path(where).open("rb") as opened:
                octets = opened.read(MAX_OCTETS + 1)
    except OSError as error:
        raise OperatorFault(str(error), where=where, remedy="name a file of this format") from error
    if len(octets) > MAX_OCTETS:
        raise OperatorFault(
            f"more than {MAX_OCTETS:,} octets", where=where, remedy="decode it in parts: head -c, tail -c"
        )
    return octets, where
