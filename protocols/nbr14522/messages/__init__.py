"""Typed requests and responses, both directions.

Charter: one module per kind of answer, each a table of fields (octet, coding) read and written by the engine
in `layout`. `decode_response` takes one block, `decode_request` one command frame. Nothing here knows the
line: frames arrive whole and leave whole.
"""

from __future__ import annotations

from protocols.nbr14522.errors import RemoteProtocolError
from protocols.nbr14522.frames import NOT_IMPLEMENTED, OCCURRENCE, response_content
from protocols.nbr14522.messages.answers import (
    DateSet,
    NotImplementedAnswer,
    Occurrence,
    OccurrenceAnswer,
    OccurrenceCleared,
    OpaqueResponse,
    TimeSet,
)
from protocols.nbr14522.messages.base import Request, Response
from protocols.nbr14522.messages.instantaneous import Instantaneous
from protocols.nbr14522.messages.layout import Problem
from protocols.nbr14522.messages.measurement import MeasurementParameters
from protocols.nbr14522.messages.memory_block import MemoryBlock, block_mark, memory_blocks
from protocols.nbr14522.messages.parameters import Constant, DayMonth, Parameters
from protocols.nbr14522.messages.records import Change, ChangeLog, PowerFailure, PowerFailures
from protocols.nbr14522.messages.registers import ChannelRegisters, Registers
from protocols.nbr14522.messages.requests import (
    REQUESTS,
    ChangeLogRequest,
    ClearOccurrenceRequest,
    CurrentMemoryRequest,
    CurrentParametersRequest,
    CurrentRegistersRequest,
    DemandResetRequest,
    InstantaneousRequest,
    LimitUnit,
    MeasurementParametersRequest,
    OpaqueRequest,
    Period,
    PowerFailuresRequest,
    PreviousMemoryRequest,
    PreviousParametersRequest,
    PreviousRegistersRequest,
    SetDateRequest,
    SetTimeRequest,
    WholeMemoryParametersRequest,
    WholeMemoryRequest,
    decode_request,
    request_for,
    weekday_of,
)

__all__ = [
    "REQUESTS",
    "RESPONSES",
    "Change",
    "ChangeLog",
    "ChangeLogRequest",
    "ChannelRegisters",
    "ClearOccurrenceRequest",
    "Constant",
    "CurrentMemoryRequest",
    "CurrentParametersRequest",
    "CurrentRegistersRequest",
    "DateSet",
    "DayMonth",
    "DemandResetRequest",
    "Instantaneous",
    "InstantaneousRequest",
    "LimitUnit",
    "MeasurementParameters",
    "MeasurementParametersRequest",
    "MemoryBlock",
    "NotImplementedAnswer",
    "Occurrence",
    "OccurrenceAnswer",
    "OccurrenceCleared",
    "OpaqueRequest",
    "OpaqueResponse",
    "Parameters",
    "Period",
    "PowerFailure",
    "PowerFailures",
    "PowerFailuresRequest",
    "PreviousMemoryRequest",
    "PreviousParametersRequest",
    "PreviousRegistersRequest",
    "Problem",
    "Registers",
    "Request",
    "Response",
    "SetDateRequest",
    "SetTimeRequest",
    "TimeSet",
    "WholeMemoryParametersRequest",
    "WholeMemoryRequest",
    "block_mark",
    "decode_request",
    "decode_response",
    "memory_blocks",
    "request_for",
    "weekday_of",
]

RESPONSES: dict[int, type[Response]] = {
    0x14: Instantaneous,
    0x20: Parameters,
    0x21: Parameters,
    0x22: Parameters,
    0x51: Parameters,
    0x23: Registers,
    0x24: Registers,
    0x25: PowerFailures,
    0x26: MemoryBlock,
    0x27: MemoryBlock,
    0x52: MemoryBlock,
    0x28: ChangeLog,
    0x29: DateSet,
    0x30: TimeSet,
    0x37: OccurrenceCleared,
    0x80: MeasurementParameters,
    NOT_IMPLEMENTED: NotImplementedAnswer,
    OCCURRENCE: OccurrenceAnswer,
}


def decode_response(block: bytes) -> Response:
    """The response in one block: 258 octets with CRC (checked), or the 256 of content without.

    Raises:
        RemoteProtocolError: wrong size, bad CRC, or code 00. Bad values are `problems` of the response.
    """
    content = response_content(block)
    if not content[0]:
        raise RemoteProtocolError("code 00 is no answer", where="response frame")
    return RESPONSES.get(content[0], OpaqueResponse).decode(content)
