"""Typed requests and responses, both directions.

Charter: one module per kind of answer, each a table of fields (octet, coding) read and written by the engine
in `layout`. `decode_response` takes one block, `decode_request` one command frame. Nothing here knows the
line: frames arrive whole and leave whole.
"""

from __future__ import annotations

from protocols.nbr14522.errors import RemoteProtocolError
from protocols.nbr14522.frames import NOT_IMPLEMENTED, OCCURRENCE, response_content
from protocols.nbr14522.messages.answers import (
    NotImplementedAnswer,
    Occurrence,
    OccurrenceAnswer,
    OpaqueResponse,
)
from protocols.nbr14522.messages.base import Request, Response
from protocols.nbr14522.messages.flagged_writes import (
    EXTENDED,
    INFERRED_GENERIC_FLAGS,
    ExtendedHolidays,
    ExtendedHolidaysRequest,
    ExtendedMode,
    GenericFlags,
    GenericParameters,
    GenericRequest,
    NominalFlags,
    NominalValues,
    NominalValuesRequest,
)
from protocols.nbr14522.messages.instantaneous import Instantaneous
from protocols.nbr14522.messages.layout import Problem
from protocols.nbr14522.messages.measurement import MeasurementParameters
from protocols.nbr14522.messages.memory_block import MemoryBlock, block_mark, memory_blocks
from protocols.nbr14522.messages.parameters import Constant, DayMonth, Parameters
from protocols.nbr14522.messages.records import Change, ChangeLog, PowerFailure, PowerFailures
from protocols.nbr14522.messages.registers import ChannelRegisters, Registers
from protocols.nbr14522.messages.requests import (
    EXTENDED_REQUESTS,
    REQUESTS,
    ChangeLogRequest,
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
    WholeMemoryParametersRequest,
    WholeMemoryRequest,
    decode_request,
    request_for,
    weekday_of,
)
from protocols.nbr14522.messages.session import (
    MAKER_TOKEN_SIZE,
    TOKEN_SIZE,
    OpenSessionRequest,
    PasswordMode,
    Seed,
    SeedRequest,
    SessionOpened,
    SessionResult,
)
from protocols.nbr14522.messages.writes import (
    EXTENDED_WRITES,
    NO_HOLIDAY,
    WRITES,
    ClearOccurrenceRequest,
    ConstantsSet,
    DateSet,
    DaylightSavingSet,
    DemandIntervalSet,
    DisplayCodesShown,
    HolidaysSet,
    Initialised,
    InitialiseRequest,
    InstallationCode,
    InstallationCodeRequest,
    MemoryIntervalSet,
    OccurrenceCleared,
    PresentationSet,
    ReactiveTariffSet,
    ReservedSegmentSet,
    Season,
    SeasonsSet,
    SegmentsSet,
    SetConstantsRequest,
    SetDateRequest,
    SetDaylightSavingRequest,
    SetDemandIntervalRequest,
    SetHolidaysRequest,
    SetMemoryIntervalRequest,
    SetPresentationRequest,
    SetReactiveTariffRequest,
    SetReservedSegmentRequest,
    SetSeasonsRequest,
    SetSegmentsRequest,
    SetTimeRequest,
    ShowDisplayCodesRequest,
    TimeSet,
)

__all__ = [
    "EXTENDED",
    "EXTENDED_REQUESTS",
    "EXTENDED_RESPONSES",
    "EXTENDED_WRITES",
    "INFERRED_GENERIC_FLAGS",
    "MAKER_TOKEN_SIZE",
    "NO_HOLIDAY",
    "REQUESTS",
    "RESPONSES",
    "TOKEN_SIZE",
    "WRITES",
    "Change",
    "ChangeLog",
    "ChangeLogRequest",
    "ChannelRegisters",
    "ClearOccurrenceRequest",
    "Constant",
    "ConstantsSet",
    "CurrentMemoryRequest",
    "CurrentParametersRequest",
    "CurrentRegistersRequest",
    "DateSet",
    "DayMonth",
    "DaylightSavingSet",
    "DemandIntervalSet",
    "DemandResetRequest",
    "DisplayCodesShown",
    "ExtendedHolidays",
    "ExtendedHolidaysRequest",
    "ExtendedMode",
    "GenericFlags",
    "GenericParameters",
    "GenericRequest",
    "HolidaysSet",
    "InitialiseRequest",
    "Initialised",
    "InstallationCode",
    "InstallationCodeRequest",
    "Instantaneous",
    "InstantaneousRequest",
    "LimitUnit",
    "MeasurementParameters",
    "MeasurementParametersRequest",
    "MemoryBlock",
    "MemoryIntervalSet",
    "NominalFlags",
    "NominalValues",
    "NominalValuesRequest",
    "NotImplementedAnswer",
    "Occurrence",
    "OccurrenceAnswer",
    "OccurrenceCleared",
    "OpaqueRequest",
    "OpaqueResponse",
    "OpenSessionRequest",
    "Parameters",
    "PasswordMode",
    "Period",
    "PowerFailure",
    "PowerFailures",
    "PowerFailuresRequest",
    "PresentationSet",
    "PreviousMemoryRequest",
    "PreviousParametersRequest",
    "PreviousRegistersRequest",
    "Problem",
    "ReactiveTariffSet",
    "Registers",
    "Request",
    "ReservedSegmentSet",
    "Response",
    "Season",
    "SeasonsSet",
    "Seed",
    "SeedRequest",
    "SegmentsSet",
    "SessionOpened",
    "SessionResult",
    "SetConstantsRequest",
    "SetDateRequest",
    "SetDaylightSavingRequest",
    "SetDemandIntervalRequest",
    "SetHolidaysRequest",
    "SetMemoryIntervalRequest",
    "SetPresentationRequest",
    "SetReactiveTariffRequest",
    "SetReservedSegmentRequest",
    "SetSeasonsRequest",
    "SetSegmentsRequest",
    "SetTimeRequest",
    "ShowDisplayCodesRequest",
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
    0x80: MeasurementParameters,
    0x11: SessionOpened,
    0x13: Seed,
    NOT_IMPLEMENTED: NotImplementedAnswer,
    OCCURRENCE: OccurrenceAnswer,
} | {code: answer for code, (_, answer) in WRITES.items()}
"""Typed answers by command code."""

EXTENDED_RESPONSES: dict[int, type[Response]] = {
    sub_code: answer for sub_code, (_, answer) in EXTENDED_WRITES.items()
}
"""Typed answers of command 98 by sub-code, which they repeat in o6."""


def decode_response(block: bytes) -> Response:
    """The response in one block: 258 octets with CRC (checked), or the 256 of content without.

    Raises:
        RemoteProtocolError: wrong size, bad CRC, or code 00. Bad values are `problems` of the response.
    """
    content = response_content(block)
    if not content[0]:
        raise RemoteProtocolError("code 00 is not an answer", where="response frame")
    kind = EXTENDED_RESPONSES.get(content[5]) if content[0] == EXTENDED else RESPONSES.get(content[0])
    return (kind or OpaqueResponse).decode(content)
