"""The same blocks as FK7 and as text."""

from __future__ import annotations

from protocols.nbr14522.memory import words_to_payloads
from protocols.nbr14522.messages import memory_blocks
from protocols.public_format import write_fk7, write_text
from tests.protocols.public_format.files import SERIAL, block, text_file

BLOCKS = [block(0x51), *memory_blocks(0x52, SERIAL, words_to_payloads(range(900)))]
FK7 = write_fk7(BLOCKS)
TEXT = write_text(text_file(previous=144, current=200))
