"""FK7 files of meters with more than three channels: which blocks are of which channel group.

A block does not say its group. Readers ask the groups one after the other (section 2.2), so a file that holds
each of them whole, once and in a row, can be taken apart; any other cannot, and nothing of it is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence

from protocols.nbr14522.errors import RemoteProtocolError
from protocols.nbr14522.messages import Parameters, block_mark, decode_response
from protocols.public_format.fk7 import MEMORY_CODES, PARAMETER_CODES
from protocols.public_format.scan import Fk7Block


def group_sections(blocks: Sequence[Fk7Block]) -> list[list[Fk7Block]] | None:
    """The blocks of each channel group, the first group's first; None where the file does not tell.

    It tells if it has as many stretches that begin with parameters as these announce groups (o247), no two
    with the same quantities and constants, all with the same memories, each memory from its first block to
    its last.
    """
    sections = _stretches(blocks)
    if len(sections) < 2:
        return None
    told = [_parameters(section) for section in sections]
    if any(one is None or one.group_count != len(sections) for one in told):
        return None
    if len({(one.quantities, one.constants) for one in told if one is not None}) < len(sections):
        return None
    memories = {_memories(section) for section in sections}
    return sections if len(memories) == 1 and memories.isdisjoint({None, frozenset()}) else None


def _stretches(blocks: Sequence[Fk7Block]) -> list[list[Fk7Block]]:
    """A stretch ends before parameters of a code that it has already, with other content."""
    sections: list[list[Fk7Block]] = []
    seen: dict[int, bytes] = {}
    for block in blocks:
        code = block.content[0]
        if code in PARAMETER_CODES:
            if seen.get(code, block.content) != block.content or not sections:
                sections.append([])
                seen = {}
            seen[code] = block.content
        if not sections:
            sections.append([])
        sections[-1].append(block)
    return sections


def _parameters(section: Sequence[Fk7Block]) -> Parameters | None:
    """The stretch's first parameters."""
    try:
        answers = [decode_response(one.content) for one in section if one.content[0] in PARAMETER_CODES]
    except RemoteProtocolError:
        return None
    return next((one for one in answers if isinstance(one, Parameters)), None)


def _memories(section: Sequence[Fk7Block]) -> frozenset[int] | None:
    """Codes of the stretch's memories; None if one is not whole."""
    whole: dict[int, bool] = {}
    numbers: dict[int, int] = {}
    for block in section:
        code = block.content[0]
        if code not in MEMORY_CODES:
            continue
        mark = block_mark(block.content)
        if mark is None or mark[0] != numbers.get(code, 0) + 1 or whole.get(code):
            return None
        numbers[code], whole[code] = mark
    return frozenset(whole) if all(whole.values()) else None
