"""The reader on addressed lines (P8, P2): no ENQ, answers found by their first octets (section 1.9).

Composite answers go on by the command again with o5 = 00 first block, 01 taken, 02 again; on P2 by
ACK and NAK where the profile says so.
"""

from __future__ import annotations

from collections.abc import Callable

from protocols.nbr14522.bcd import encode_bcd
from protocols.nbr14522.crc import crc16_arc, crc16_modbus, sealed
from protocols.nbr14522.errors import LocalProtocolError
from protocols.nbr14522.frames import (
    ACK,
    ANY_METER,
    NAK,
    OCCURRENCE,
    PREFIX_OCTET,
    RESPONSE_WIRE_SIZE,
    Addressing,
    serial_octets,
    wrap_command,
)
from protocols.nbr14522.link.events import FailureReason, FrameReceived, SkipReason, UnaskedOccurrence
from protocols.nbr14522.link.exchange import Exchange, Verdict
from protocols.nbr14522.link.reader_base import Reader
from protocols.nbr14522.profile import HandShake, MeterProfile

FIRST, NEXT, AGAIN = 0x00, 0x01, 0x02

_HAND_SHAKE_AT = 4  # o5 of the plain command


class AddressedReader(Reader):
    """One meter among several on a line, or behind a remote."""

    def __init__(self, profile: MeterProfile, meter_serial: str = ANY_METER) -> None:
        super().__init__(profile)
        self._serial = meter_serial
        self._size = RESPONSE_WIRE_SIZE[profile.addressing]
        self._head = encode_bcd(profile.address, 1) + bytes([PREFIX_OCTET])
        if profile.addressing is Addressing.P8:
            self._head = b""
        self._known_serial = (
            b"" if meter_serial == ANY_METER else serial_octets(meter_serial, 4, "meter serial")
        )
        self._crc: Callable[[bytes], int] = crc16_modbus if profile.addressing is Addressing.P2 else crc16_arc
        self._buffer_is_unasked = False
        self._answer_until = 0.0
        self._broken: Exchange | None = None

    @property
    def can_resume(self) -> bool:
        """See `ReaderLink.can_resume`."""
        return self._broken is not None

    def resume(self, now_s: float) -> None:
        """See `ReaderLink.resume`."""
        if self._broken is None or self._exchange is not None:
            raise LocalProtocolError("no answer broke off, or another exchange runs", where="link")
        self.advance(now_s)
        self._exchange, self._broken = self._broken, None
        self._exchange.zero_counters()
        self._transmit(AGAIN)

    def _fail(self, reason: FailureReason) -> None:
        exchange = self._running
        is_resumable = (
            self._profile.resumes_broken_answer
            and self._profile.hand_shake is HandShake.REPEAT_COMMAND
            and exchange.composite
            and exchange.blocks > 0
            and reason in (FailureReason.DISCONNECTED, FailureReason.BROKEN_OFF)
        )
        super()._fail(reason)
        self._broken = exchange if is_resumable else None

    def _begin(self) -> None:
        self._broken = None
        self._buffer_is_unasked = bool(self._buffer)
        self._transmit(FIRST)

    def _rest(self) -> None:
        self._buffer_is_unasked = False

    def _transmit(self, hand_shake: int) -> None:
        exchange = self._running
        frame = exchange.frame
        if exchange.composite and self._profile.hand_shake is HandShake.REPEAT_COMMAND:
            content = bytearray(frame[:-2])
            content[_HAND_SHAKE_AT] = hand_shake
            frame = sealed(bytes(content))
        self._send_frame(
            wrap_command(
                frame,
                self._profile.addressing,
                meter_serial=self._serial,
                address=self._profile.address,
            )
        )
        self._await_answer()

    def _await_answer(self) -> None:
        limit = self._timing.addressed_response_s
        if self._running.composite:
            limit = self._timing.addressed_memory_response_s
        self._answer_until = self._deadline = self._now + limit

    def _ask_next(self) -> None:
        if self._profile.hand_shake is HandShake.ACK:
            self._send_signal(ACK)
            self._await_answer()
        else:
            self._transmit(NEXT)

    def _ask_again(self) -> None:
        """Ask for the awaited block after silence or damage.

        02 is right in both cases that cannot be told apart: if our 01 was lost the block that comes is a
        duplicate, dropped and followed by another 01; if the answer was lost it is the one wanted.
        """
        exchange = self._running
        if not exchange.composite:
            self._transmit(FIRST)
        elif self._profile.hand_shake is HandShake.ACK:
            self._send_signal(NAK)
            self._await_answer()
        else:
            self._transmit(AGAIN if exchange.seen or exchange.naks_sent else FIRST)

    def _on_timeout(self) -> None:
        if self._buffer:
            self._skip(bytes(self._buffer), SkipReason.TRUNCATED)
            self._buffer.clear()
        self._buffer_is_unasked = False
        if self._exchange is None:
            return
        exchange = self._exchange
        exchange.silences += 1
        if exchange.silences >= self._limits.sends:
            self._fail(FailureReason.BROKEN_OFF if exchange.blocks else FailureReason.NO_ANSWER)
        elif not exchange.may_repeat:
            self._fail(FailureReason.OUTCOME_UNKNOWN)
        else:
            self._ask_again()

    def _consume(self, data: bytes, position: int) -> int:
        taken = data[position : position + self._size - len(self._buffer)]
        self._buffer += taken
        self._align()
        if len(self._buffer) == self._size:
            self._frame_arrived(bytes(self._buffer))
        elif self._buffer:
            self._deadline = self._now + self._timing.max_char_gap_s
        else:
            self._deadline = None if self._exchange is None else self._answer_until
        return len(taken)

    def _align(self) -> None:
        """Drop octets from the front until what is left may begin an answer."""
        held = bytes(self._buffer)
        start = 0
        while start < len(held) and not self._may_begin(held, start):
            start += 1
        if not start:
            return
        self._skip(held[:start], SkipReason.NOISE_BEFORE_FRAME)
        del self._buffer[:start]
        if self._exchange is not None:
            self._junk(start)

    def _may_begin(self, held: bytes, start: int) -> bool:
        code_at = start + len(self._head)
        if not self._head.startswith(held[start:code_at]):
            return False
        if code_at >= len(held):
            return True
        code = held[code_at]
        is_awaited = code == OCCURRENCE or (
            self._exchange is not None and self._exchange.is_answer_code(code)
        )
        serial = held[code_at + 1 : code_at + 5]
        return is_awaited and (not self._known_serial or self._known_serial.startswith(serial))

    def _frame_arrived(self, wire: bytes) -> None:
        is_good = self._crc(wire) == 0
        if not is_good and self._realigned():
            return
        self._buffer.clear()
        self._events.append(FrameReceived(wire, is_good, self._now))
        content = wire[len(self._head) : -2]
        was_unasked, self._buffer_is_unasked = self._buffer_is_unasked, False
        if self._exchange is None or (was_unasked and content[0] == OCCURRENCE):
            if is_good:
                self._events.append(UnaskedOccurrence(content, self._now))
            self._rest_or_wait()
        elif is_good:
            self._block_arrived(content)
        else:
            self._block_damaged()

    def _realigned(self) -> bool:
        """After a bad CRC: whether the real beginning lies further on, noise having looked like one.

        Only a whole match of the head and serial counts, else any damaged block would wait for its time-out.
        """
        if not self._known_serial:
            return False
        held = bytes(self._buffer)
        mark = len(self._head) + 1 + len(self._known_serial)
        for start in range(1, len(held) - mark + 1):
            if self._may_begin(held, start):
                self._skip(held[:start], SkipReason.NOISE_BEFORE_FRAME)
                del self._buffer[:start]
                self._deadline = self._now + self._timing.max_char_gap_s
                if self._exchange is not None:
                    self._junk(start)
                return True
        return False

    def _rest_or_wait(self) -> None:
        if self._exchange is None:
            self._deadline = None
        else:
            self._await_answer()

    def _block_damaged(self) -> None:
        exchange = self._running
        exchange.naks_sent += 1
        if exchange.naks_sent >= self._limits.naks:
            self._fail(FailureReason.BAD_CRC)
        elif not exchange.may_repeat:
            self._fail(FailureReason.OUTCOME_UNKNOWN)
        else:
            self._ask_again()

    def _block_arrived(self, content: bytes) -> None:
        match self._deliver(content):
            case Verdict.LAST:
                if self._profile.hand_shake is HandShake.ACK:
                    self._send_signal(ACK)
                self._complete()
            case Verdict.TAKEN | Verdict.DUPLICATE:
                self._ask_next()
