"""The link: what may be sent when, on both sides; machines without sockets or clocks (sections 1.5 to 1.9).

Charter: octets and time in (`receive`, `advance`), octets and events out (`data_to_send`, `next_event`), and
`next_deadline` to sleep until. One class per side and kind of line; `ReaderLink` and `MeterLink` choose by
the profile. What octets mean beyond block number and last-block flag belongs to `messages`.

A driver's loop, for either side::

    link.receive(data, now_s)            # or link.advance(now_s) when next_deadline() has come
    while (event := link.next_event()) is not NEED_DATA:
        ...
    transport.write(link.data_to_send())

Memory is bounded: frames collect in one buffer of at most a frame, noise is counted and not kept, an exchange
fails after `MAX_JUNK_OCTETS` that belong to nothing. Events wait until taken: take them after each call.

Nothing resumes a composite answer that broke off on P0 (on P8 and P2 see `ReaderLink.resume`): the good
blocks have been delivered (`BlockReceived`), `LinkFailed` says which one was awaited. Not here: the
"directional" variant of 1.8.
"""

from __future__ import annotations

from collections.abc import Sequence

from protocols.nbr14522.errors import LocalProtocolError
from protocols.nbr14522.frames import ANY_METER, Addressing
from protocols.nbr14522.link.addressed_meter import AddressedMeter
from protocols.nbr14522.link.addressed_reader import AddressedReader
from protocols.nbr14522.link.events import (
    NEED_DATA,
    AnswerAbandoned,
    AnswerComplete,
    AnswerDelivered,
    BlockReceived,
    CommandReceived,
    Event,
    FailureReason,
    FrameReceived,
    FrameSent,
    LinkFailed,
    NeedData,
    SignalReceived,
    SignalSent,
    Skipped,
    SkipReason,
    Synchronised,
    UnaskedOccurrence,
)
from protocols.nbr14522.link.exchange import COMPOSITE_CODES, MAX_BLOCKS, MAX_JUNK_OCTETS
from protocols.nbr14522.link.serial_meter import SerialMeter
from protocols.nbr14522.link.serial_reader import SerialReader
from protocols.nbr14522.profile import MeterProfile

__all__ = [
    "COMPOSITE_CODES",
    "MAX_BLOCKS",
    "MAX_JUNK_OCTETS",
    "NEED_DATA",
    "AnswerAbandoned",
    "AnswerComplete",
    "AnswerDelivered",
    "BlockReceived",
    "CommandReceived",
    "Event",
    "FailureReason",
    "FrameReceived",
    "FrameSent",
    "LinkFailed",
    "MeterLink",
    "NeedData",
    "ReaderLink",
    "SignalReceived",
    "SignalSent",
    "SkipReason",
    "Skipped",
    "Synchronised",
    "UnaskedOccurrence",
]


class ReaderLink:
    """The reader's side of one line.

    Args:
        profile: the meter's.
        meter_serial: P8 only: the eight digits to address; `ANY_METER` takes whatever is on the line.
    """

    def __init__(self, profile: MeterProfile, meter_serial: str = ANY_METER) -> None:
        self._line: SerialReader | AddressedReader
        if profile.addressing is Addressing.P0:
            self._line = SerialReader(profile)
        else:
            self._line = AddressedReader(profile, meter_serial)
        self.next_event = self._line.next_event
        self.data_to_send = self._line.data_to_send
        self.next_deadline = self._line.next_deadline
        self.receive = self._line.receive
        self.advance = self._line.advance

    @property
    def is_idle(self) -> bool:
        """Whether no exchange runs."""
        return self._line.is_idle

    def send(
        self, command: bytes, now_s: float, *, may_repeat: bool = True, composite: bool | None = None
    ) -> None:
        """Begin an exchange: ends with `AnswerComplete` or `LinkFailed`.

        Args:
            command: the plain 66-octet frame, as `Request.encode` gives it.
            may_repeat: False for a command that must not be executed twice (20): where it may have been
                executed, the exchange fails with OUTCOME_UNKNOWN instead of sending it again.
            composite: whether several blocks answer; by default those of COMPOSITE_CODES.

        Raises:
            LocalProtocolError: another exchange runs, or the frame has another size.
        """
        self._line.send(command, now_s, may_repeat=may_repeat, composite=composite)

    @property
    def can_resume(self) -> bool:
        """Whether the composite answer that has just broken off may be taken up in a new connection."""
        return isinstance(self._line, AddressedReader) and self._line.can_resume

    def resume(self, now_s: float) -> None:
        """Take it up after its last good block; it ends as an exchange begun by `send`.

        A meter that has forgotten starts over: the blocks that are held are passed over as duplicates.

        Raises:
            LocalProtocolError: nothing can be resumed.
        """
        if not isinstance(self._line, AddressedReader):
            raise LocalProtocolError("a plain line does not resume", where="link")
        self._line.resume(now_s)

    def abort(self, now_s: float) -> None:
        """Give the running exchange up; nothing happens if none runs."""
        self._line.stop(FailureReason.ABORTED, now_s)

    def disconnected(self, now_s: float) -> None:
        """The connection closed under the running exchange."""
        self._line.stop(FailureReason.DISCONNECTED, now_s)


class MeterLink:
    """The meter's side of one line.

    Args:
        profile: the meter's.
        meter_serial: eight digits; addressed lines answer only to it.
        now_s: the time at which it begins to call ENQ (P0).
    """

    def __init__(self, profile: MeterProfile, meter_serial: str, now_s: float = 0.0) -> None:
        self._line: SerialMeter | AddressedMeter
        if profile.addressing is Addressing.P0:
            self._line = SerialMeter(profile, now_s)
        else:
            self._line = AddressedMeter(profile, meter_serial, now_s)
        self.next_event = self._line.next_event
        self.data_to_send = self._line.data_to_send
        self.next_deadline = self._line.next_deadline
        self.receive = self._line.receive
        self.advance = self._line.advance

    def send(self, blocks: Sequence[bytes], now_s: float) -> None:
        """Answer the command in work with plain blocks of 258 octets, as `Response.encode` gives them."""
        self._line.send(blocks, now_s)

    def delay(self, now_s: float) -> None:
        """Send WAIT, repeated in time, until `ready` (P0 only)."""
        self._line.delay(now_s)

    def ready(self, now_s: float) -> None:
        """End a delay: the meter calls ENQ and the reader sends its command again."""
        self._line.ready(now_s)

    def forget(self, now_s: float) -> None:
        """Leave the command in work without an answer."""
        self._line.forget(now_s)

    def send_unasked(self, block: bytes, now_s: float) -> None:
        """Send an answer 40 that nobody asked for (addressed lines only).

        Raises:
            LocalProtocolError: on P0, where a meter speaks only when asked.
        """
        if not isinstance(self._line, AddressedMeter):
            raise LocalProtocolError("a meter on a plain line speaks only when asked", where="link")
        self._line.send_unasked(block, now_s)
