"""The reader on addressed lines (P8, P2): section 1.9, driven by `READER_TABLE`.

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
from protocols.nbr14522.link.addressed_tables import READER_TABLE, ReaderAction, ReaderInput, ReaderState
from protocols.nbr14522.link.events import FailureReason, FrameReceived, SkipReason, UnaskedOccurrence
from protocols.nbr14522.link.exchange import BlockKind, Exchange
from protocols.nbr14522.link.reader_base import ReaderMachine
from protocols.nbr14522.link.tables import Branch
from protocols.nbr14522.profile import HandShake, MeterProfile

FIRST, NEXT, AGAIN = 0x00, 0x01, 0x02

_HAND_SHAKE_AT = 4  # o5 of the plain command


class AddressedReader(ReaderMachine):
    """One meter among several on a line, or behind a remote."""

    def __init__(self, profile: MeterProfile, meter_serial: str = ANY_METER) -> None:
        super().__init__(profile)
        self._state = ReaderState.IDLE
        self._serial = meter_serial
        self._size = RESPONSE_WIRE_SIZE[profile.addressing]
        self._head = encode_bcd(profile.address, 1) + bytes([PREFIX_OCTET])
        if profile.addressing is Addressing.P8:
            self._head = b""
        self._known_serial = (
            b"" if meter_serial == ANY_METER else serial_octets(meter_serial, 4, "meter serial")
        )
        self._crc: Callable[[bytes], int] = crc16_modbus if profile.addressing is Addressing.P2 else crc16_arc
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
        self._act(ReaderInput.RESUME)

    def _act(self, event: ReaderInput) -> None:
        row = READER_TABLE[self._state, event]
        self._state = row.next[_ACTIONS[row.action](self)]

    def _begin(self) -> None:
        self._act(ReaderInput.BEGIN)

    def _stop(self) -> None:
        self._act(ReaderInput.STOP)

    def _on_timeout(self) -> None:
        self._act(ReaderInput.TIMEOUT)

    def _fail(self, reason: FailureReason) -> Branch:
        exchange = self._running
        is_resumable = (
            self._profile.resumes_broken_answer
            and self._profile.hand_shake is HandShake.REPEAT_COMMAND
            and exchange.composite
            and exchange.blocks > 0
            and reason in (FailureReason.DISCONNECTED, FailureReason.BROKEN_OFF)
        )
        outcome = super()._fail(reason)
        self._broken = exchange if is_resumable else None
        return outcome

    def _send_first(self) -> Branch:
        self._broken = None
        self._transmit(FIRST)
        return Branch.DONE

    def _send_again(self) -> Branch:
        self._transmit(AGAIN)
        return Branch.DONE

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

    def _ask_again(self) -> Branch:
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
        return Branch.ASKED

    def _drop(self) -> Branch:
        if self._buffer:
            self._skip(bytes(self._buffer), SkipReason.TRUNCATED)
            self._buffer.clear()
        return Branch.DONE

    def _no_answer(self) -> Branch:
        self._drop()
        exchange = self._running
        exchange.silences += 1
        if exchange.silences >= self._limits.sends:
            return self._fail(FailureReason.BROKEN_OFF if exchange.blocks else FailureReason.NO_ANSWER)
        if not exchange.may_repeat:
            return self._fail(FailureReason.OUTCOME_UNKNOWN)
        return self._ask_again()

    def _consume(self, data: bytes, position: int) -> int:
        taken = data[position : position + self._size - len(self._buffer)]
        self._buffer += taken
        self._align()
        is_collecting = self._state not in (ReaderState.IDLE, ReaderState.ASKED)
        if self._buffer and not is_collecting:
            self._act(ReaderInput.FIRST)
        elif is_collecting and not self._buffer:
            self._act(ReaderInput.NOISE)
        if len(self._buffer) == self._size:
            self._frame_arrived(bytes(self._buffer))
        elif self._buffer:
            self._collect()
        return len(taken)

    def _collect(self) -> Branch:
        self._deadline = self._now + self._timing.max_char_gap_s
        return Branch.DONE

    def _wait(self) -> Branch:
        self._deadline = self._answer_until
        return Branch.DONE

    def _go_idle(self) -> Branch:
        self._deadline = None
        return Branch.DONE

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
        self._events.append(FrameReceived(wire, is_good, self._now))
        self._act(ReaderInput.BLOCK if is_good else ReaderInput.DAMAGED)

    def _content(self) -> bytes:
        """The collected frame's content; the buffer is free again."""
        content = bytes(self._buffer[len(self._head) : -2])
        self._buffer.clear()
        return content

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
                self._collect()
                if self._exchange is not None:
                    self._junk(start)
                return True
        return False

    def _set_aside(self) -> Branch:
        self._events.append(UnaskedOccurrence(self._content(), self._now))
        return self._go_idle()

    def _pass_over(self) -> Branch:
        self._buffer.clear()
        return self._go_idle()

    def _holds_occurrence(self) -> bool:
        return self._buffer[len(self._head)] == OCCURRENCE

    def _take_or_set_aside(self) -> Branch:
        if not self._holds_occurrence():
            return self._take_block()
        self._set_aside()
        self._await_answer()
        return Branch.ASIDE

    def _refuse_or_pass_over(self) -> Branch:
        if not self._holds_occurrence():
            return self._refuse_block()
        self._pass_over()
        self._await_answer()
        return Branch.ASIDE

    def _refuse_block(self) -> Branch:
        self._buffer.clear()
        exchange = self._running
        exchange.naks_sent += 1
        if exchange.naks_sent >= self._limits.naks:
            return self._fail(FailureReason.BAD_CRC)
        if not exchange.may_repeat:
            return self._fail(FailureReason.OUTCOME_UNKNOWN)
        return self._ask_again()

    def _take_block(self) -> Branch:
        kind = self._deliver(self._content())
        if kind is BlockKind.UNFIT:
            return Branch.FAILED
        if kind is BlockKind.LAST:
            if self._profile.hand_shake is HandShake.ACK:
                self._send_signal(ACK)
            self._complete()
            return Branch.LAST
        self._ask_next()
        return Branch.NEXT


# Of the class, not of each link: a collector has thousands of them.
_ACTIONS: dict[ReaderAction, Callable[[AddressedReader], Branch]] = {
    ReaderAction.BEGIN: AddressedReader._send_first,
    ReaderAction.RESUME: AddressedReader._send_again,
    ReaderAction.STOP: AddressedReader._fail_stopped,
    ReaderAction.COLLECT: AddressedReader._collect,
    ReaderAction.WAIT: AddressedReader._wait,
    ReaderAction.REST: AddressedReader._go_idle,
    ReaderAction.DROP: AddressedReader._drop,
    ReaderAction.SET_ASIDE: AddressedReader._set_aside,
    ReaderAction.PASS_OVER: AddressedReader._pass_over,
    ReaderAction.TAKE_BLOCK: AddressedReader._take_block,
    ReaderAction.REFUSE_BLOCK: AddressedReader._refuse_block,
    ReaderAction.TAKE_OR_SET_ASIDE: AddressedReader._take_or_set_aside,
    ReaderAction.REFUSE_OR_PASS_OVER: AddressedReader._refuse_or_pass_over,
    ReaderAction.NO_ANSWER: AddressedReader._no_answer,
}
