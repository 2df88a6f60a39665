"""The meter on a line with ENQ and ACK (P0): section 1.7, driven by `METER_TABLE`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from protocols.nbr14522.crc import crc16_arc
from protocols.nbr14522.errors import LocalProtocolError
from protocols.nbr14522.frames import ACK, COMMAND_SIZE, ENQ, NAK, WAIT
from protocols.nbr14522.link.events import CommandReceived, FailureReason, FrameReceived, SkipReason
from protocols.nbr14522.link.meter_base import MeterMachine
from protocols.nbr14522.link.serial_tables import METER_TABLE, MeterAction, MeterInput, MeterState
from protocols.nbr14522.link.tables import Branch
from protocols.nbr14522.profile import MeterProfile

_SIGNALS = {
    ACK: MeterInput.ACK,
    NAK: MeterInput.NAK,
    ENQ: MeterInput.SIGNAL,
    WAIT: MeterInput.SIGNAL,
}

_WAIT_SHARE = 0.8
"""WAIT is repeated after this share of TSEMWAIT, so that it never comes too late."""


class SerialMeter(MeterMachine):
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

    def send(self, blocks: Sequence[bytes], now_s: float) -> None:
        """Answer the command in work with plain blocks of 258 octets."""
        self._need_work("answer")
        self._take_answer(blocks, now_s)
        self._act(MeterInput.ANSWER)

    def delay(self, now_s: float) -> None:
        """Send WAIT, and again in time, until `ready`."""
        self._need_work("delay")
        self.advance(now_s)
        self._waits = 0
        self._act(MeterInput.DELAY)

    def ready(self, now_s: float) -> None:
        """End a delay: call ENQ and expect the command again."""
        if self._state is not MeterState.DELAYING:
            raise LocalProtocolError("nothing is delayed", where="link")
        self.advance(now_s)
        self._act(MeterInput.READY)

    def forget(self, now_s: float) -> None:
        """Leave the command in work without an answer and go back to ENQ."""
        self._need_work("forget")
        self.advance(now_s)
        self._act(MeterInput.FORGET)

    def _need_work(self, verb: str) -> None:
        if self._state is not MeterState.WORKING:
            raise LocalProtocolError(f"no command to {verb}", where="link")

    def _act(self, event: MeterInput) -> None:
        row = METER_TABLE[self._state, event]
        self._state = row.next[_ACTIONS[row.action](self)]

    def _on_timeout(self) -> None:
        self._act(MeterInput.TIMEOUT)

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
        match METER_TABLE[self._state, event].action:
            case MeterAction.OPEN_COMMAND | MeterAction.OPEN_REPEAT:
                self._buffer.append(octet)
            case MeterAction.PASS_OVER:
                self._skip(bytes([octet]), SkipReason.STRAY_SIGNAL)
            case _ if event is MeterInput.OTHER:
                self._skip(bytes([octet]), SkipReason.BROKEN)
            case _:
                self._note_signal(octet)
        self._act(event)

    def _is_late(self) -> bool:
        if self._profile.enq_required == 0:
            return False
        return self._enq_at is None or self._now - self._enq_at > self._timing.max_sync_s

    def _idle(self) -> Branch:
        self._deadline = self._now + self._timing.min_enq_s
        return Branch.DONE

    def _give_up(self) -> Branch:
        self._idle()
        return Branch.GIVEN_UP

    def _stay(self) -> Branch:
        return Branch.DONE

    def _send_enq(self) -> Branch:
        self._send_signal(ENQ)
        self._enq_at = self._now
        self._deadline = self._now + self._timing.meter_enq_period_s
        return Branch.DONE

    def _call_back(self) -> Branch:
        self._expects_repeat = True
        return self._send_enq()

    def _open_command(self) -> Branch:
        if self._is_late():
            self._skip(bytes(self._buffer), SkipReason.LATE)
            self._buffer.clear()
            return Branch.LATE
        return self._open_repeat()

    def _open_repeat(self) -> Branch:
        self._deadline = self._now + self._timing.max_char_gap_s
        return Branch.DONE

    def _collect(self, data: bytes, position: int) -> int:
        taken = data[position : position + COMMAND_SIZE - len(self._buffer)]
        self._buffer += taken
        self._deadline = self._now + self._timing.max_char_gap_s
        if len(self._buffer) == COMMAND_SIZE:
            self._command_arrived(bytes(self._buffer))
        return len(taken)

    def _command_arrived(self, frame: bytes) -> None:
        is_good = crc16_arc(frame) == 0
        self._events.append(FrameReceived(frame, is_good, self._now))
        self._act(MeterInput.COMMAND if is_good else MeterInput.DAMAGED)

    def _take_command(self) -> Branch:
        self._refusals = 0
        self._deadline = None
        self._events.append(CommandReceived(bytes(self._buffer), self._expects_repeat, self._now))
        self._buffer.clear()
        self._expects_repeat = False
        return Branch.DONE

    def _refuse_command(self) -> Branch:
        self._buffer.clear()
        self._refusals += 1
        self._send_signal(NAK)
        if self._refusals >= self._limits.naks:
            self._refusals = 0
            return self._give_up()
        self._deadline = self._now + self._timing.max_response_s
        return Branch.REFUSED

    def _drop_command(self) -> Branch:
        self._skip(bytes(self._buffer), SkipReason.TRUNCATED)
        self._buffer.clear()
        return self._pause()

    def _pause(self) -> Branch:
        self._deadline = self._now + self._timing.meter_pause_s
        return Branch.DONE

    def _send_wait(self) -> Branch:
        if self._waits >= self._limits.waits:
            return self._give_up()
        self._waits += 1
        self._send_signal(WAIT)
        self._deadline = self._now + _WAIT_SHARE * self._timing.max_wait_s
        return Branch.SENT

    def _send_answer(self) -> Branch:
        self._refusals = 0
        self._transmit()
        return Branch.DONE

    def _transmit(self) -> None:
        self._send_block()
        self._recalls = 0
        self._deadline = self._now + self._timing.max_response_s

    def _next_block(self) -> Branch:
        self._index += 1
        self._refusals = 0
        if self._index < len(self._blocks):
            self._transmit()
            return Branch.NEXT
        self._delivered()
        self._idle()
        return Branch.LAST

    def _same_block(self) -> Branch:
        self._refusals += 1
        if self._refusals >= self._limits.naks:
            self._refusals = 0
            self._abandoned(FailureReason.BAD_CRC)
            return self._give_up()
        self._transmit()
        return Branch.SENT

    def _break_answer(self) -> Branch:
        self._abandoned(FailureReason.SEQUENCE_BROKEN)
        return self._pause()

    def _recall(self) -> Branch:
        if self._recalls >= self._limits.sends:
            self._abandoned(FailureReason.NO_ANSWER)
            return self._give_up()
        self._recalls += 1
        self._send_enq()
        return Branch.SENT


# Of the class, not of each link: a simulated fleet has thousands of them.
_ACTIONS: dict[MeterAction, Callable[[SerialMeter], Branch]] = {
    MeterAction.SEND_ENQ: SerialMeter._send_enq,
    MeterAction.OPEN_COMMAND: SerialMeter._open_command,
    MeterAction.OPEN_REPEAT: SerialMeter._open_repeat,
    MeterAction.PASS_OVER: SerialMeter._stay,
    MeterAction.DROP_COMMAND: SerialMeter._drop_command,
    MeterAction.TAKE_COMMAND: SerialMeter._take_command,
    MeterAction.REFUSE_COMMAND: SerialMeter._refuse_command,
    MeterAction.FORGET_REFUSED: SerialMeter._idle,
    MeterAction.SEND_ANSWER: SerialMeter._send_answer,
    MeterAction.SEND_WAIT: SerialMeter._send_wait,
    MeterAction.CALL_BACK: SerialMeter._call_back,
    MeterAction.NEXT_BLOCK: SerialMeter._next_block,
    MeterAction.SAME_BLOCK: SerialMeter._same_block,
    MeterAction.BREAK_ANSWER: SerialMeter._break_answer,
    MeterAction.RECALL: SerialMeter._recall,
    MeterAction.RESUME: SerialMeter._idle,
}
