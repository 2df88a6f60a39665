"""The usual sequences as lists of requests (section 2.2): what a reader asks, by name and channel group.

For the first group (channels 1 to 3) the whole sequence; for each further one the parameters that make it
the visible group, its registers and its memory: failures, changes and measurement parameters are the meter's.
What a given meter lacks of them it answers with 39; scripts that adapt to answers build on these lists.
"""

from __future__ import annotations

from enum import StrEnum

from protocols.nbr14522.messages import (
    ChangeLogRequest,
    CurrentMemoryRequest,
    CurrentParametersRequest,
    CurrentRegistersRequest,
    DemandResetRequest,
    InstantaneousRequest,
    LimitUnit,
    MeasurementParametersRequest,
    OpaqueRequest,
    Parameters,
    Period,
    PowerFailuresRequest,
    PreviousMemoryRequest,
    PreviousParametersRequest,
    PreviousRegistersRequest,
    Request,
    WholeMemoryParametersRequest,
    WholeMemoryRequest,
)

MAX_GROUPS = 4
"""Channel groups that are read: four are the 12 channels that the requirements name."""


class ReadSequence(StrEnum):
    """Names as the field uses them. Only the two billings change the meter: they reset the demand."""

    BILLING = "billing"
    VERIFICATION = "verification"
    RECOVERY = "recovery"
    """The closed period without a reset: billing data once more."""
    WHOLE_MEMORY = "whole_memory"
    BILLING_SHORT = "billing_short"
    VERIFICATION_SHORT = "verification_short"
    RECOVERY_SHORT = "recovery_short"
    FISCAL_PAGE = "fiscal_page"

    @property
    def resets_demand(self) -> bool:
        return self in (ReadSequence.BILLING, ReadSequence.BILLING_SHORT)

    @property
    def is_short(self) -> bool:
        """Partial registers (41 to 46) in place of the memory."""
        return self in (
            ReadSequence.BILLING_SHORT,
            ReadSequence.VERIFICATION_SHORT,
            ReadSequence.RECOVERY_SHORT,
        )


def group_count(parameters: Parameters, most: int = MAX_GROUPS) -> int:
    """Channel groups to read, from o247: at least one, at most so many."""
    return min(max(parameters.group_count or 1, 1), most)


def requests_of(sequence: ReadSequence, group: int = 0, *, with_command_80: bool = True) -> list[Request]:
    """The requests of a sequence for one channel group.

    Args:
        group: 0 for channels 1-3, 1 for 4-6 ... A reset belongs to the first group only: further groups of
            a billing are read as closed periods (22), or the period would close again.
        with_command_80: o240 of the parameters; makers' readers ask only where it says so.
    """
    if sequence is ReadSequence.FISCAL_PAGE:
        return [] if group else [InstantaneousRequest()]
    measurement: list[Request] = [MeasurementParametersRequest()] if with_command_80 and not group else []
    if sequence is ReadSequence.WHOLE_MEMORY:
        whole = WholeMemoryParametersRequest(group=group, unit=LimitUnit.EVERYTHING)
        return [whole, *measurement, WholeMemoryRequest()]
    is_running = sequence in (ReadSequence.VERIFICATION, ReadSequence.VERIFICATION_SHORT)
    period = Period.CURRENT if is_running else Period.PREVIOUS
    records: list[Request] = [] if group else [PowerFailuresRequest(period=period), ChangeLogRequest()]
    registers = CurrentRegistersRequest() if is_running else PreviousRegistersRequest()
    head = [_parameters(sequence, group), *measurement, registers]
    if sequence.is_short:
        codes = (0x44, 0x45, 0x46) if is_running else (0x41, 0x42, 0x43)
        return [*head, *(OpaqueRequest(code=code) for code in codes), *records]
    return [*head, *records, CurrentMemoryRequest() if is_running else PreviousMemoryRequest()]


def _parameters(sequence: ReadSequence, group: int) -> Request:
    if sequence in (ReadSequence.VERIFICATION, ReadSequence.VERIFICATION_SHORT):
        return CurrentParametersRequest(group=group)
    if sequence.resets_demand and not group:
        return DemandResetRequest(group=group)
    return PreviousParametersRequest(group=group)
