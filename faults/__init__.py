"""Errors, typed by who must act on them.

Charter: the one vocabulary of failure that every room shares. A fault says what happened, where,
and what to do about it; its class says who has to do it. No logging here, no
retry loop, no exit code (the command line maps actors to exit codes). Beside it, for all rooms as well:
where the product's own files are (`shipped`).

An unexpected exception of any other kind is a bug and is treated as `DeveloperFault`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class Actor(StrEnum):
    """Who must act for the work to go on."""

    RETRY = "retry"
    OPERATOR = "operator"
    FIELD_CREW = "field_crew"
    DEVELOPER = "developer"


class Fault(Exception):
    """Base of all expected failures.

    Args:
        message: what happened, one sentence, with the offending value.
        where: the place: file and row, meter serial, UC and day, setting name.
        remedy: what the actor can do, one sentence.
    """

    actor: ClassVar[Actor] = Actor.DEVELOPER

    def __init__(self, message: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text} ({self.remedy})" if self.remedy else text


class RetryFault(Fault):
    """Trying again later may help: a silent line, a busy server, an expired token."""

    actor = Actor.RETRY


class OperatorFault(Fault):
    """A person at a desk must change data or configuration."""

    actor = Actor.OPERATOR


class FieldCrewFault(Fault):
    """Somebody must go to the meter."""

    actor = Actor.FIELD_CREW


class DeveloperFault(Fault):
    """The software is wrong."""

    actor = Actor.DEVELOPER
