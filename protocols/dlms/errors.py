"""Failures of the DLMS core, by whose fault they are."""

from __future__ import annotations

from faults import DeveloperFault, FieldCrewFault, OperatorFault, RetryFault


class LocalProtocolError(DeveloperFault):
    """We asked for something illegal in this state."""


class RemoteProtocolError(RetryFault):
    """The meter's octets break the protocol."""


class NoAnswer(RetryFault):
    """The meter is silent, however often it was asked."""


class AssociationRefused(OperatorFault):
    """The meter refused us: wrong password, key, client or context."""


class AssociationDelayed(RetryFault):
    """The meter refuses us for now: its own reason, not ours."""


class AuthenticationBroken(FieldCrewFault):
    """The meter's own proof is wrong: not the meter it should be, or other keys."""


class ServiceRefused(RemoteProtocolError):
    """The meter answers a service with an exception in place of a result: another service may do."""


class CounterRefused(AssociationRefused):
    """The meter takes no invocation counter so low. `counter`: its own, as it says without proof."""

    def __init__(self, message: str, counter: int, *, where: str = "", remedy: str = "") -> None:
        super().__init__(message, where=where, remedy=remedy)
        self.counter = counter


class LimitExceeded(RemoteProtocolError):
    """The meter's answer is larger, deeper or longer than any honest one: cut off."""
