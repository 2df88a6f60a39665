"""The place of a count in an imported public file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.tree import Tree

from pipelines.cli.explain.octets import hex_text

if TYPE_CHECKING:
    from audit.file_evidence import FilePlace


class FileExplanation:
    """See `pipelines.cli.explain.Explanation`."""

    def in_one_line(self, session_id: int, place: FilePlace) -> str:
        return escape(f"file {place.name}, {place.where}")

    def show(self, node: Tree, place: FilePlace) -> None:
        last = place.first_octet + len(place.octets) - 1
        found = node.add(
            escape(
                f"file {place.name}, {place.size:,} octets, SHA-256 {place.sha256}: {place.where}, "
                f"octets {place.first_octet} to {last} "
            )
            + f"[bold]{place.octets.hex(' ').upper()}[/] = {place.pulses} pulses"
        )
        first = place.first_octet - place.around_first_octet
        found.add(hex_text(place.around, (first, len(place.octets)), number=place.around_first_octet))


FILE = FileExplanation()
