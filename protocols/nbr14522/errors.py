"""The two faults of this protocol, told apart by whose fault it is."""

from __future__ import annotations

from faults import DeveloperFault, RetryFault


class RemoteProtocolError(RetryFault):
    """The other side sent octets that are not a valid frame; asking again may help."""


class LocalProtocolError(DeveloperFault):
    """We asked for something that the protocol cannot say, or at a moment when it cannot be said."""
