"""Octets for a person: hexadecimal with the marked ones in colour, and parts of frames in a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from audit.evidence import FramePart

_OCTETS_A_LINE = 16
# All of a block of NBR 14522 is shown.
_SHOWN_WHOLE = 320


def named_frames(numbers: Sequence[int]) -> str:
    """Numbers of frames in words."""
    return f"frame{'s' if len(numbers) > 1 else ''} {' and '.join(map(str, numbers))}"


def part_in_words(part: FramePart) -> str:
    """Which octets of which frame, and the octets."""
    last = part.first_octet + len(part.octets) - 1
    return (
        f"frame {part.frame_seq}, octets {part.first_octet} to {last} [bold]{part.octets.hex(' ').upper()}[/]"
    )


def hex_text(payload: bytes, *marks: tuple[int, int], number: int = 1) -> Text:
    """The frame's octets; of a long frame those near the marked ones.

    Args:
        marks: first octet, from 0, and count of each stretch to be marked.
        number: that the first octet is shown with.
    """
    marked = {place for first, count in marks for place in range(first, first + count)}
    near = {place // _OCTETS_A_LINE + beside for place in marked for beside in (-1, 0, 1)}
    text, is_left_out = Text(), False
    for start in range(0, len(payload), _OCTETS_A_LINE):
        if len(payload) > _SHOWN_WHOLE and start // _OCTETS_A_LINE not in near:
            text.append("" if is_left_out else "   …\n", style="dim")
            is_left_out = True
            continue
        is_left_out = False
        text.append(f"{start + number:>4}  ", style="dim")
        for place in range(start, min(start + _OCTETS_A_LINE, len(payload))):
            text.append(f"{payload[place]:02X}", style="bold black on yellow" if place in marked else "")
            text.append(" ")
        text.append("\n")
    text.right_crop(1)
    return text
