"""The form of the link's state tables: (state, input) to what is done and which states may follow.

The rows stand in `serial_tables` (P0) and `addressed_tables` (P8, P2). An action says by an `Branch` what it
found; the row maps the outcome to the next state. Nothing else moves a machine, and the diagrams of the
manuals are drawn from the rows. A pair without a row cannot occur: the machines sort octets into inputs by
state. How often something may be repeated is a limit of the meter's profile, not of a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar


class Branch(StrEnum):
    """What an action found, where more than one state may follow."""

    DONE = "done"
    SENT = "it was sent"
    ASKED = "asked again"
    NO_ENQ_YET = "no ENQ yet"
    ONE_ENQ = "one ENQ, one more wanted"
    LATE = "too late after the ENQ"
    NEXT = "another block follows"
    LAST = "it was the last block"
    ASIDE = "an occurrence that nobody asked for"
    DRAINS = "the sequence is broken"
    REFUSED = "refused"
    FAILED = "the exchange fails"
    GIVEN_UP = "too often"


StateT = TypeVar("StateT", bound=StrEnum)
ActionT = TypeVar("ActionT", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Row(Generic[ActionT, StateT]):
    """What is done about an input, and the state that follows each outcome."""

    action: ActionT
    next: Mapping[Branch, StateT]


def row(action: ActionT, next_state: StateT, outcome: Branch = Branch.DONE) -> Row[ActionT, StateT]:
    """A row of one outcome."""
    return Row(action, {outcome: next_state})
