"""The place of a count in a block of NBR 14522: block, word, octets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.tree import Tree

from pipelines.cli.explain.octets import hex_text

if TYPE_CHECKING:
    from audit.nbr14522_evidence import Word


class WordExplanation:
    """See `pipelines.cli.explain.Explanation`."""

    def in_one_line(self, session_id: int, place: Word) -> str:
        return f"session {session_id}, frame {place.frame_seq}, block {place.block}, word {place.word}"

    def show(self, node: Tree, place: Word) -> None:
        crc = place.payload[-2:].hex(" ").upper()
        octets = place.octets.hex(" ").upper()
        frame = node.add(
            f"frame {place.frame_seq} at {place.frame_at:%H:%M:%S}: command {place.command}, block "
            f"{place.block}, word {place.word}, octets {place.first_octet} to {place.first_octet + 2} "
            f"[bold]{octets}[/] = {place.pulses} pulses; CRC {crc} good"
        )
        frame.add(hex_text(place.payload, (place.first_octet - 1, len(place.octets))))


WORD = WordExplanation()
