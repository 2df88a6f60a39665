"""The meter on a line with ENQ and ACK (P0): section 1.7, driven by `METER_TABLE`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from protocols.nbr14522.crc import crc16_arc
from protocols.nbr14522.errors import LocalProtocolError
from protocols.nbr14522.frames import ACK, COMMAND_SIZE, ENQ, NAK, WAIT
from protocols.nbr14522.link.events import CommandReceived, FailureReason, FrameReceived, SkipReason
from protocols.nbr14522.link.meter_base import Meter
from protocols.nbr14522.link.tables import METER_TABLE, MeterAction, MeterInput, MeterState
from protocols.nbr14522.profile import MeterProfile

_SIGNALS = {
    ACK: MeterInput.ACK,
    NAK: MeterInput.NAK,
    ENQ: MeterInput.SIGNAL,
    WAIT: MeterInput.SIGNAL,
}

_WAIT_SHARE = 0.8
"""WAIT is repeated after this share of TSEMWAIT, so that it never comes too late."""


class SerialMeter(Meter):
    """A meter that calls ENQ while idle, needs no answer to it, and echoes nothing."""

    def __init__(self, profile: MeterProfile, now_s: float) -> None:
        super().__init__(profile)
        self._now = now_s
        self._state = MeterState.IDLE
        self._deadline = now_s
        self._enq_at: float | None = None
        self._refusals = 0
        self._recalls = 0
        self._waits = 0
        self._expects_repeat = False
        self._actions: dict[MeterAction, Callable[[], None]] = {
            MeterAction.SEND_ENQ: self._send_enq,
            MeterAction.DROP_COMMAND: self._drop_command,
            MeterAction.FORGET_REFUSED: self._idle,
            MeterAction.SEND_WAIT: self._wait_again,
            MeterAction.NEXT_BLOCK: self._next_block,
            MeterAction.SAME_BLOCK: self._same_block,
            MeterAction.BREAK_ANSWER: self._break_answer,
            MeterAction.RECALL: self._recall,
            MeterAction.RESUME: self._idle,
        }

    def send(self, blocks: Sequence[bytes], now_s: float) -> None:
        """Answer the command in work with plain blocks of 258 octets."""
        self._need_work("answer")
        self._take_answer(blocks, now_s)
        self._refusals = 0
        self._transmit()

    def delay(self, now_s: float) -> None:
        """Send WAIT, and again in time, until `ready`."""
        self._need_work("delay")
        self.advance(now_s)
        self._waits = 0
        self._state = MeterState.DELAYING
        self._wait_again()

    def ready(self, now_s: float) -> None:
        """End a delay: call ENQ and expect the command again."""
        if self._state is not MeterState.DELAYING:
            raise LocalProtocolError("nothing is delayed", where="link")
        self.advance(now_s)
        self._expects_repeat = True
        self._state = MeterState.IDLE
        self._send_enq()

    def forget(self, now_s: float) -> None:
        """Leave the command in work without an answer and go back to ENQ."""
        self._need_work("forget")
        self.advance(now_s)
        self._idle()

    def _need_work(self, verb: str) -> None:
        if self._state is not MeterState.WORKING:
            raise LocalProtocolError(f"no command to {verb}", where="link")

    def _on_timeout(self) -> None:
        self._actions[METER_TABLE[self._state, MeterInput.TIMEOUT]]()

    def _consume(self, data: bytes, position: int) -> int:
        match self._state:
            case MeterState.COLLECTING:
                return self._collect(data, position)
            case MeterState.WORKING | MeterState.DELAYING | MeterState.PAUSED:
                rest = data[position:]
                reason = SkipReason.DRAINED if self._state is MeterState.PAUSED else SkipReason.BUSY
                self._skip(rest, reason)
                return len(rest)
            case _:
                self._single_octet(data[position])
        return 1

    def _single_octet(self, octet: int) -> None:
        event = _SIGNALS.get(octet, MeterInput.OTHER)
        action = METER_TABLE[self._state, event]
        match action:
            case MeterAction.OPEN_COMMAND if self._is_late():
                self._skip(bytes([octet]), SkipReason.LATE)
            case MeterAction.OPEN_COMMAND | MeterAction.OPEN_REPEAT:
                self._open_command(octet)
            case MeterAction.PASS_OVER:
                self._skip(bytes([octet]), SkipReason.STRAY_SIGNAL)
            case _:
                if event is MeterInput.OTHER:
                    self._skip(bytes([octet]), SkipReason.BROKEN)
                else:
                    self._note_signal(octet)
                self._actions[action]()

    def _is_late(self) -> bool:
        if self._profile.enq_required == 0:
            return False
        return self._enq_at is None or self._now - self._enq_at > self._timing.max_sync_s

    def _idle(self) -> None:
        self._state = MeterState.IDLE
        self._deadline = self._now + self._timing.min_enq_s

    def _send_enq(self) -> None:
        self._send_signal(ENQ)
        self._enq_at = self._now
        self._deadline = self._now + self._timing.meter_enq_period_s

    def _open_command(self, octet: int) -> None:
        self._buffer.append(octet)
        self._state = MeterState.COLLECTING
        self._deadline = self._now + self._timing.max_char_gap_s

    def _collect(self, data: bytes, position: int) -> int:
        taken = data[position : position + COMMAND_SIZE - len(self._buffer)]
        self._buffer += taken
        self._deadline = self._now + self._timing.max_char_gap_s
        if len(self._buffer) == COMMAND_SIZE:
            self._command_arrived(bytes(self._buffer))
        return len(taken)

    def _command_arrived(self, frame: bytes) -> None:
        self._buffer.clear()
        is_good = crc16_arc(frame) == 0
        self._events.append(FrameReceived(frame, is_good, self._now))
        if is_good:
            self._refusals = 0
            self._state = MeterState.WORKING
            self._deadline = None
            self._events.append(CommandReceived(frame, self._expects_repeat, self._now))
            self._expects_repeat = False
            return
        self._refusals += 1
        self._send_signal(NAK)
        if self._refusals >= self._limits.naks:
            self._refusals = 0
            self._idle()
        else:
            self._state = MeterState.REFUSED
            self._deadline = self._now + self._timing.max_response_s

    def _drop_command(self) -> None:
        self._skip(bytes(self._buffer), SkipReason.TRUNCATED)
        self._buffer.clear()
        self._pause()

    def _pause(self) -> None:
        self._state = MeterState.PAUSED
        self._deadline = self._now + self._timing.meter_pause_s

    def _wait_again(self) -> None:
        if self._waits >= self._limits.waits:
            self._idle()
            return
        self._waits += 1
        self._send_signal(WAIT)
        self._deadline = self._now + _WAIT_SHARE * self._timing.max_wait_s

    def _transmit(self) -> None:
        self._send_block()
        self._recalls = 0
        self._state = MeterState.WAIT_ACK
        self._deadline = self._now + self._timing.max_response_s

    def _next_block(self) -> None:
        self._index += 1
        self._refusals = 0
        if self._index < len(self._blocks):
            self._transmit()
        else:
            self._delivered()
            self._idle()

    def _same_block(self) -> None:
        self._refusals += 1
        if self._refusals >= self._limits.naks:
            self._refusals = 0
            self._abandoned(FailureReason.BAD_CRC)
            self._idle()
        else:
            self._transmit()

    def _break_answer(self) -> None:
        self._abandoned(FailureReason.SEQUENCE_BROKEN)
        self._pause()

    def _recall(self) -> None:
        if self._recalls >= self._limits.sends:
            self._abandoned(FailureReason.NO_ANSWER)
            self._idle()
            return
        self._recalls += 1
        self._state = MeterState.RECALLING
        self._send_enq()
