"""User serial output (SSU, "saída de usuário"): octets that a meter sends by itself, one block a second.

Charter: `blocks` turns octets into a block and back, `stream` finds blocks in a noisy stream, `intervals`
turns blocks into interval readings, and `catalogue` holds the models of meters. Sans-IO: the arrival time of
octets is an argument. Opening the line, and storing what comes out, belong to the collector. Facts: reference
"ssu", section numbers in docstrings.

Unverified facts are fields of `SsuSettings`, with the reason of each default.
"""

from protocols.ssu.blocks import Block, ExtendedBlock, Format, MixedBlock, NormalBlock, Refused, decode_block
from protocols.ssu.intervals import IntervalAssembler, IntervalReading, OutputEvent
from protocols.ssu.settings import SsuSettings
from protocols.ssu.stream import BlockFound, Locked, SsuStream

__all__ = [
    "Block",
    "BlockFound",
    "ExtendedBlock",
    "Format",
    "IntervalAssembler",
    "IntervalReading",
    "Locked",
    "MixedBlock",
    "NormalBlock",
    "OutputEvent",
    "Refused",
    "SsuSettings",
    "SsuStream",
    "decode_block",
]
