"""FK7: response blocks of 256 octets, CRC removed, nothing between them (section 10.1, one source)."""

from __future__ import annotations

from collections.abc import Iterable

from protocols.nbr14522.frames import RESPONSE_CONTENT_SIZE, response_content
from protocols.nbr14522.link.exchange import COMPOSITE_CODES
from protocols.public_format.errors import FileRefused

# Codes that a file is known to hold.
KNOWN_CODES = frozenset({0x14, *range(0x20, 0x29), *range(0x41, 0x47), 0x51, 0x52, 0x80})
PARAMETER_CODES = frozenset({0x20, 0x21, 0x22, 0x51})
MEMORY_CODES = COMPOSITE_CODES


def write_fk7(blocks: Iterable[bytes]) -> bytes:
    """A file of blocks given with (258) or without (256 octets) their CRC."""
    contents = [response_content(block) for block in blocks]
    _check(contents)
    return b"".join(contents)


def read_fk7(octets: bytes) -> list[bytes]:
    """The blocks of a file, 256 octets each.

    Raises:
        FileRefused: not whole blocks, an unknown first octet, no parameter block, or two meters.
    """
    size = RESPONSE_CONTENT_SIZE
    if not octets or len(octets) % size:
        raise FileRefused(
            f"{len(octets)} octets are not whole blocks of {size}",
            where="FK7 file",
            remedy="the copy is cut off, or the file is of another format",
        )
    contents = [octets[place : place + size] for place in range(0, len(octets), size)]
    _check(contents)
    return contents


def _check(contents: list[bytes]) -> None:
    for number, content in enumerate(contents, start=1):
        if content[0] not in KNOWN_CODES:
            raise FileRefused(
                f"a block of code {content[0]:02X}", where=f"FK7 block {number}", remedy="not an FK7 file"
            )
        if content[1:5] != contents[0][1:5]:
            raise FileRefused(
                f"meter {content[1:5].hex()} after meter {contents[0][1:5].hex()}",
                where=f"FK7 block {number}",
                remedy="one file holds one meter; take the files apart",
            )
    if not any(content[0] in PARAMETER_CODES for content in contents):
        raise FileRefused(
            "no block of parameters (20, 21, 22 or 51)",
            where="FK7 file",
            remedy="without them the memory has no times; ask for the whole file",
        )
