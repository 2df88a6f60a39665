"""What both sides share: octets out, events out, one deadline. No clock: time is what the caller says."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import replace

from protocols.nbr14522.link.events import (
    NEED_DATA,
    SAMPLE_OCTETS,
    Event,
    FrameSent,
    NeedData,
    SignalReceived,
    SignalSent,
    Skipped,
    SkipReason,
)


class Machine(ABC):
    """Base of the four line machines.

    Calls must come with times that do not go backwards. A deadline that has passed is acted on before octets
    that arrive after it.
    """

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._out = bytearray()
        self._deadline: float | None = None
        self._now = 0.0

    def next_event(self) -> Event | NeedData:
        """The oldest event not yet taken, or NEED_DATA."""
        return self._events.popleft() if self._events else NEED_DATA

    def data_to_send(self) -> bytes:
        """Octets to put on the wire now, each handed out once."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def next_deadline(self) -> float | None:
        """When `advance` must be called if nothing arrives before, or None."""
        return self._deadline

    def advance(self, now_s: float) -> None:
        """Let time pass: acts on every deadline up to now."""
        while self._deadline is not None and self._deadline <= now_s:
            self._now = self._deadline
            self._deadline = None
            self._on_timeout()
        self._now = max(self._now, now_s)

    def receive(self, data: bytes, now_s: float) -> None:
        """Take octets that arrived."""
        self.advance(now_s)
        position = 0
        while position < len(data):
            position += self._consume(data, position)

    @abstractmethod
    def _consume(self, data: bytes, position: int) -> int:
        """Take one or more octets from `position` on and return how many."""

    @abstractmethod
    def _on_timeout(self) -> None: ...

    def _send_frame(self, wire: bytes) -> None:
        self._out += wire
        self._events.append(FrameSent(wire, self._now))

    def _send_signal(self, signal: int) -> None:
        self._out.append(signal)
        last = self._events[-1] if self._events else None
        if isinstance(last, SignalSent) and last.signal == signal:
            self._events[-1] = replace(last, count=last.count + 1)
        else:
            self._events.append(SignalSent(signal, self._now))

    def _note_signal(self, signal: int) -> None:
        last = self._events[-1] if self._events else None
        if isinstance(last, SignalReceived) and last.signal == signal:
            self._events[-1] = replace(last, count=last.count + 1)
        else:
            self._events.append(SignalReceived(signal, self._now))

    def _skip(self, octets: bytes, reason: SkipReason) -> None:
        """Account for octets passed over; neighbours of one reason are one event, so noise cannot pile up."""
        last = self._events[-1] if self._events else None
        if isinstance(last, Skipped) and last.reason is reason:
            sample = last.octets + octets[: SAMPLE_OCTETS - len(last.octets)]
            self._events[-1] = replace(last, count=last.count + len(octets), octets=sample)
        else:
            self._events.append(Skipped(reason, len(octets), octets[:SAMPLE_OCTETS], self._now))
