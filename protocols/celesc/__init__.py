"""CELESC's one-way asynchronous serial output (Annex A of the meter purchase), also known as PIMA.

Charter: `packets` finds and decodes packets in a stream of octets and writes them for the simulator;
`totals` turns register readings into accumulated energy (rollover, exchange, ratchet); `catalogue` holds the
purchased models; `inspection` judges a recording by the annex, and `sampling` a lot by a plan. Sans-IO: the
arrival time of octets is an argument. Rate search and lines belong to the collector. Facts: reference
"celesc_serial", section numbers in docstrings.
"""

from protocols.celesc.packets import (
    CelescStream,
    GroupedPacket,
    Packet,
    Quantity,
    decode_grouped,
    encode_packet,
)
from protocols.celesc.timing import RATES_BIT_S, packet_gap_s, packet_idle_s
from protocols.celesc.totals import Register, Step, StepKind

__all__ = [
    "RATES_BIT_S",
    "CelescStream",
    "GroupedPacket",
    "Packet",
    "Quantity",
    "Register",
    "Step",
    "StepKind",
    "decode_grouped",
    "encode_packet",
    "packet_gap_s",
    "packet_idle_s",
]
