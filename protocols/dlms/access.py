"""How a client proves itself to a meter, and what the meter refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from faults import Fault, FieldCrewFault, OperatorFault, RetryFault
from protocols.dlms import apdu as pdu
from protocols.dlms.apdu import AccessResult, Attribute, Mechanism
from protocols.dlms.errors import LocalProtocolError
from protocols.dlms.security import CounterSource, Keys

# Refusals that another try may not meet: of the moment, or of a transfer that was broken off.
_PASSING = frozenset(
    {
        AccessResult.TEMPORARY_FAILURE,
        AccessResult.DATA_BLOCK_UNAVAILABLE,
        AccessResult.LONG_GET_ABORTED,
        AccessResult.NO_LONG_GET_IN_PROGRESS,
        AccessResult.LONG_SET_ABORTED,
        AccessResult.NO_LONG_SET_IN_PROGRESS,
        AccessResult.DATA_BLOCK_NUMBER_INVALID,
    }
)


@dataclass(eq=False)  # Python sets attributes of an exception that passes a context manager
class AccessRefused(Exception):
    """The meter refuses one object: a value for the caller to handle, not the end of the session."""

    attribute: Attribute
    code: int

    def __str__(self) -> str:
        where = f"{self.attribute.obis} attribute {self.attribute.index}"
        return f"{where}: {pdu.result_name(self.code)}"

    def as_fault(self, message: str, where: str, remedy: str) -> Fault:
        """The fault of whoever must act on it.

        Args:
            remedy: where the meter's configuration, or ours of the meter, is the matter.
        """
        told = f"{message} {self}".strip()
        if self.code == AccessResult.HARDWARE_FAULT:
            return FieldCrewFault(told, where=where, remedy="have the meter looked at: it reports a fault")
        if self.code in _PASSING:
            return RetryFault(told, where=where, remedy="it is tried again by itself")
        return OperatorFault(told, where=where, remedy=remedy)


@dataclass(frozen=True)
class Credentials:
    """How a client proves itself to a meter."""

    mechanism: Mechanism = Mechanism.NONE
    password: bytes = field(default=b"", repr=False)
    keys: Keys | None = None
    title: bytes = b""
    next_counter: CounterSource | None = None
    make_challenge: Callable[[], bytes] | None = None

    def __post_init__(self) -> None:
        if self.mechanism is Mechanism.GMAC and not (
            self.keys and len(self.title) == 8 and self.next_counter and self.make_challenge
        ):
            raise LocalProtocolError("GMAC takes keys, a title of 8 octets, a counter and a challenge source")
