"""Captures of a one-way line: octets with the times of their arrival, as a text file.

Each line is a time and the octets that arrived together:

    # smf-capture 1
    # rate_bit_s = 2400
    1700000000.0125 AA 55 01 23 45 67 89

The time is decimal seconds, since 1970 or since any instant, of the arrival of the line's first octet (end of
its stop bit); it never falls. Octets are hexadecimal, with or without blanks. `# key = value` lines are facts
about the capture, other `#` lines remarks. A capture whose stamps cannot be trusted (a gateway that gathers
octets) says `# resolution_s = 0.05`: half the width of what a stamp leaves open.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from faults import OperatorFault

MARK = "# smf-capture 1"
# Stamps of a serial port of a common computer: a millisecond of the scheduler's.
DEFAULT_RESOLUTION_S = 0.001
# With which stamps are written; what is recorded has no more, so that a file says just what was heard.
STAMP_DECIMALS = 6
_FACT = re.compile(r"#\s*([a-z][a-z0-9_]*)\s*=\s*(.*?)\s*$")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Octets that arrived together; `at_s` is the arrival of the first one."""

    at_s: float
    octets: bytes


@dataclass(frozen=True)
class Capture:
    """A capture and the facts that its head gives; `where`: its name in messages."""

    chunks: tuple[Chunk, ...]
    facts: Mapping[str, str] = field(default_factory=dict)
    where: str = "capture"

    @property
    def duration_s(self) -> float:
        """From the first chunk to the last."""
        return self.chunks[-1].at_s - self.chunks[0].at_s if self.chunks else 0.0

    @property
    def octet_count(self) -> int:
        """All octets."""
        return sum(len(chunk.octets) for chunk in self.chunks)

    def number(self, name: str, default: float) -> float:
        """A fact that is a number above zero.

        Raises:
            OperatorFault: it is not.
        """
        text = self.facts.get(name)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            raise OperatorFault(
                f"{name} = {text!r} is not a number above zero",
                where=self.where,
                remedy="correct the head of the capture",
            )
        return value


def is_capture(text: str) -> bool:
    """Whether a text says that it is a capture."""
    return text.lstrip().startswith(MARK)


def parse_capture(text: str, where: str = "capture") -> Capture:
    """Read a capture; see the module for the format.

    Raises:
        OperatorFault: a line does not follow the format; names its number.
    """
    facts: dict[str, str] = {}
    chunks: list[Chunk] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#"):
            found = _FACT.match(line)
            if found:
                facts[found[1]] = found[2]
            continue
        stamp, _, digits = line.strip().partition(" ")
        if not stamp:
            continue
        try:
            at = Decimal(stamp)
            octets = bytes.fromhex(digits)
        except (InvalidOperation, ValueError) as error:
            raise _bad(where, number, "not a time and hexadecimal octets") from error
        at_s = float(at)
        if not math.isfinite(at_s) or not octets:
            raise _bad(where, number, "not a time and hexadecimal octets")
        if chunks and at_s < chunks[-1].at_s:
            raise _bad(where, number, "the time is before the line above")
        chunks.append(Chunk(at_s, octets))
    return Capture(tuple(chunks), facts, where)


def format_head(facts: Mapping[str, object]) -> str:
    """The head of a capture file."""
    return "".join([f"{MARK}\n", *(f"# {name} = {value}\n" for name, value in facts.items())])


def format_chunk(chunk: Chunk) -> str:
    """One line of a capture file."""
    return f"{chunk.at_s:.{STAMP_DECIMALS}f} {chunk.octets.hex(' ').upper()}\n"


def format_capture(chunks: Iterable[Chunk], facts: Mapping[str, object]) -> str:
    """A whole capture file."""
    return format_head(facts) + "".join(map(format_chunk, chunks))


def _bad(where: str, line: int, message: str) -> OperatorFault:
    return OperatorFault(
        message, where=f"{where}, line {line}", remedy="write: SECONDS HEX..., as 12.0125 AA 55"
    )
