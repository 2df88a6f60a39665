"""Files of the public format, made by hand."""

from __future__ import annotations

import random

from protocols.public_format import (
    ReaderRecord,
    TextFile,
)

SERIAL = "32600760"


def block(code: int, rng: random.Random | None = None) -> bytes:
    body = bytes((rng or random.Random(code)).randrange(10) * 16 + 1 for _ in range(251))
    return bytes([code]) + bytes.fromhex(SERIAL) + body


def text_file(previous: int = 0, current: int = 0, seed: int = 7) -> TextFile:
    parameters = bytearray(block(0x21))
    parameters[74:77] = bytes.fromhex(f"{current:06d}")
    parameters[77:80] = bytes.fromhex(f"{previous:06d}")
    # Octets that have no place in the header come back as zero.
    for first, last in ((152, 152), (155, 156), (158, 158), (163, 163), (200, 203), (207, 209), (238, 256)):
        parameters[first - 1 : last] = bytes(last - first + 1)
    rng = random.Random(seed)
    return TextFile(
        reader_serial="001101",
        blocks={"parameters": bytes(parameters)},
        record=ReaderRecord({"HORA": "101500", "DATA": "20112606"}),
        installation_code="UC 42",
        previous_words=tuple(rng.randrange(4096) for _ in range(previous)),
        current_words=tuple(rng.randrange(4096) for _ in range(current)),
    )
