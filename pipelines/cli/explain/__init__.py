"""How `smf trace` shows where a count stands, one module for each kind of place.

What belongs here: words and octets for a person. What does not: finding the place (`audit`).
"""

from __future__ import annotations

from typing import Any, Protocol

from rich.tree import Tree

from protocols.table import entry_named, part


class Explanation(Protocol):
    """A protocol's way to show a place of its own kind."""

    def in_one_line(self, session_id: int, place: Any) -> str: ...

    def show(self, node: Tree, place: Any) -> None:
        """Add the place and the octets around it to a branch."""


def explanation_of(protocol: str) -> Explanation:
    """How the places of a session's protocol are shown."""
    explanation: Explanation = part(entry_named(protocol).explanation)
    return explanation
