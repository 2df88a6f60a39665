"""Frames without what must not be kept: the tokens of command 11 and the passwords of 12 and 98/12.

Used before a frame becomes evidence or a line of a log. The octets are blanked, not left out, so that the
frame keeps its length, and the span says which ones. The CRC goes with them: together with the recorded seed
it would rule out all but one in 65,536 guesses of the password. A redacted frame therefore fails its CRC, and
whoever reads evidence must ask for the span first.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.nbr14522.frames import Addressing

BLANK = 0x00

_COMMAND_HEAD = {Addressing.P0: 0, Addressing.P8: 5, Addressing.P2: 2}
_ANSWER_HEAD = {Addressing.P0: 0, Addressing.P8: 0, Addressing.P2: 2}
_SECRET_COMMANDS = frozenset({0x11, 0x12})
_SECRET_ANSWERS = frozenset({0x12})
_EXTENDED, _EXTENDED_SECRET = 0x98, 0x12


@dataclass(frozen=True, slots=True)
class Redacted:
    """A frame as it may be kept.

    Attributes:
        octets: of the same length as what travelled.
        span: (first, count), 0-based, of the octets blanked; None where nothing was.
    """

    octets: bytes
    span: tuple[int, int] | None = None


def redact(wire: bytes, addressing: Addressing, *, is_command: bool) -> Redacted:
    """The frame as it may be kept: as it is, or without its secrets.

    Args:
        wire: what travelled, whole or broken off.
        is_command: sent by the reader (66, 71 or 68 octets), else by the meter.
    """
    head = (_COMMAND_HEAD if is_command else _ANSWER_HEAD)[addressing]
    first = head + (4 if is_command else 5)
    if not _is_secret(wire[head:], is_command) or len(wire) <= first:
        return Redacted(wire)
    return Redacted(wire[:first] + bytes([BLANK]) * (len(wire) - first), (first, len(wire) - first))


def _is_secret(plain: bytes, is_command: bool) -> bool:
    if not plain:
        return False
    code = plain[0]
    if code == _EXTENDED:
        at = 4 if is_command else 5
        return len(plain) > at and plain[at] == _EXTENDED_SECRET
    return code in (_SECRET_COMMANDS if is_command else _SECRET_ANSWERS)
