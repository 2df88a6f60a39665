"""The reader on a line with ENQ and ACK (P0): section 1.6, driven by `READER_TABLE`."""

from __future__ import annotations

from collections.abc import Callable

from protocols.nbr14522.crc import crc16_arc
from protocols.nbr14522.frames import ACK, COMMAND_SIZE, ENQ, NAK, RESPONSE_SIZE, WAIT
from protocols.nbr14522.link.events import FailureReason, FrameReceived, SkipReason, Synchronised
from protocols.nbr14522.link.exchange import BlockKind
from protocols.nbr14522.link.reader_base import ReaderMachine
from protocols.nbr14522.link.serial_tables import READER_TABLE, ReaderAction, ReaderInput, ReaderState
from protocols.nbr14522.link.tables import Branch
from protocols.nbr14522.profile import GapRecovery, MeterProfile

_SIGNALS = {ENQ: ReaderInput.ENQ, NAK: ReaderInput.NAK, WAIT: ReaderInput.WAIT}

_IAC = 0xFF
_TELNET_OPTION_VERBS = range(0xFB, 0xFF)


class SerialReader(ReaderMachine):
    """One meter on one line."""

    def __init__(self, profile: MeterProfile) -> None:
        super().__init__(profile)
        self._state = ReaderState.IDLE
        self._sync_until = 0.0
        self._sent_at = 0.0
        self._ever_sent = False
        self._idle_enq_at: float | None = None
        self._telnet = bytearray()
        self._line_echoes = False
        self._echo_expected: int | None = None
        self._echo_checked = False

    def _begin(self) -> None:
        self._act(ReaderInput.BEGIN)

    def _stop(self) -> None:
        self._act(ReaderInput.STOP)

    def _end(self) -> None:
        super()._end()
        if self._telnet:
            self._skip(bytes(self._telnet), SkipReason.TELNET)
            self._telnet.clear()

    def _stage(self) -> str:
        return super()._stage() if self._ever_sent else "synchronise"

    def _act(self, event: ReaderInput) -> None:
        row = READER_TABLE[self._state, event]
        self._state = row.next[_ACTIONS[row.action](self)]

    def _on_timeout(self) -> None:
        self._act(ReaderInput.TIMEOUT)

    def _consume(self, data: bytes, position: int) -> int:
        match self._state:
            case ReaderState.RECEIVING:
                return self._collect(data, position)
            case ReaderState.IDLE:
                rest = data[position:]
                self._idle_enq_at = self._now if rest.count(ENQ) == len(rest) else None
                self._skip(rest, SkipReason.IDLE)
                return len(rest)
            case ReaderState.DRAINING:
                rest = data[position:]
                self._skip(rest, SkipReason.DRAINED)
                if self._junk(len(rest)):
                    self._deadline = min(self._now + self._timing.drain_quiet_s, self._sync_until)
                return len(rest)
            case ReaderState.DESYNCHRONISED | ReaderState.SYNCHRONISED:
                self._octet_before_command(data[position])
            case _:
                self._octet_after_command(data[position])
        return 1

    # Before the command: ENQ, and whatever modems and gateways say at connect.

    def _octet_before_command(self, octet: int) -> None:
        if self._in_telnet_option(octet):
            return
        if octet == ENQ:
            self._note_signal(octet)
            if self._junk(1):
                self._act(ReaderInput.ENQ)
            return
        self._skip(bytes([octet]), SkipReason.NOISE_BEFORE_ENQ)
        if self._junk(1) and self._state is ReaderState.SYNCHRONISED:
            self._act(ReaderInput.OTHER)

    def _in_telnet_option(self, octet: int) -> bool:
        """Take `FF FB..FE option` as a whole: option 05 is not an ENQ."""
        self._telnet.append(octet)
        held = bytes(self._telnet)
        if held[0] != _IAC:
            self._telnet.clear()
            return False
        if len(held) == 1 or (len(held) == 2 and held[1] in _TELNET_OPTION_VERBS):
            return True
        self._telnet.clear()
        if len(held) == 3:
            self._skip(held, SkipReason.TELNET)
            self._junk(3)
            return True
        self._skip(held[:1], SkipReason.NOISE_BEFORE_ENQ)
        self._junk(1)
        return self._exchange is None or self._in_telnet_option(octet)

    def _begin_exchange(self) -> Branch:
        self._ever_sent = False
        self._echo_expected = None
        self._sync_until = self._now + self._timing.synchronise_s
        if self._profile.enq_required == 0:
            return self._send_synchronised()
        recent = self._idle_enq_at is not None and self._now - self._idle_enq_at <= self._timing.max_sync_s
        self._idle_enq_at = None
        outcome = self._listen()
        return self._count_enq() if recent and outcome is Branch.NO_ENQ_YET else outcome

    def _listen(self) -> Branch:
        if self._now >= self._sync_until:
            return self._give_up_sync()
        if self._profile.enq_required == 0:
            return self._send_synchronised()
        self._deadline = self._sync_until
        return Branch.NO_ENQ_YET

    def _count_enq(self) -> Branch:
        if self._profile.enq_required == 1:
            return self._send_synchronised()
        self._deadline = min(self._now + self._timing.max_enq_s, self._sync_until)
        return Branch.ONE_ENQ

    def _give_up_sync(self) -> Branch:
        return self._fail(FailureReason.NO_ENQ)

    def _send_synchronised(self) -> Branch:
        self._running.zero_counters()
        self._events.append(Synchronised(self._now))
        return self._transmit()

    # The command is out.

    def _transmit(self) -> Branch:
        self._send_frame(self._running.frame)
        self._ever_sent = True
        self._sent_at = self._now
        self._echo_checked = False
        self._await_answer()
        return Branch.SENT

    def _await_answer(self) -> None:
        self._buffer.clear()
        self._deadline = self._now + self._timing.max_response_s
        if self._running.blocks:
            # A meter that missed our ACK calls ENQ only after its own TMAXRSP, which began before ours.
            self._deadline += self._timing.max_enq_s

    def _signal(self, signal: int) -> None:
        self._send_signal(signal)
        self._echo_expected = signal if self._line_echoes else None

    def _octet_after_command(self, octet: int) -> None:
        if octet == self._echo_expected:
            self._echo_expected = None
            self._skip(bytes([octet]), SkipReason.ECHO)
            self._junk(1)
            return
        signal = _SIGNALS.get(octet)
        if signal is not None:
            self._note_signal(octet)
            if self._junk(1):
                self._act(signal)
        elif self._running.is_answer_code(octet):
            self._buffer.append(octet)
            self._act(ReaderInput.CODE)
        else:
            self._skip(bytes([octet]), SkipReason.BROKEN)
            if self._junk(1):
                self._act(ReaderInput.OTHER)

    def _send_refused(self) -> Branch:
        exchange = self._running
        exchange.naks_received += 1
        if exchange.naks_received >= self._limits.naks or exchange.blocks:
            return self._fail(FailureReason.REFUSED)
        return self._transmit()

    def _begin_wait(self) -> Branch:
        # A meter that asks for the command anew and puts it off again would never end.
        self._running.delays += 1
        if self._running.delays > self._limits.waits:
            return self._fail(FailureReason.WAITED_TOO_LONG)
        return self._wait()

    def _wait_more(self) -> Branch:
        self._running.waits += 1
        if self._running.waits >= self._limits.waits:
            return self._fail(FailureReason.WAITED_TOO_LONG)
        return self._wait()

    def _wait(self) -> Branch:
        self._deadline = self._now + self._timing.max_wait_s
        return Branch.DONE

    def _give_up_wait(self) -> Branch:
        return self._fail(FailureReason.NO_ANSWER)

    def _enq_after_send(self) -> Branch:
        exchange = self._running
        if exchange.blocks:
            exchange.acks_repeated += 1
            # A meter that fell back to idle sends ENQ for ever; without a bound the ACK would never end.
            if exchange.acks_repeated >= self._limits.naks:
                return self._fail(FailureReason.BROKEN_OFF)
            self._signal(ACK)
            self._await_answer()
        elif self._now - self._sent_at >= self._timing.enq_in_flight_s:
            return self._break()
        return Branch.DONE

    def _break(self) -> Branch:
        exchange = self._running
        if self._buffer:
            self._skip(bytes(self._buffer), SkipReason.BROKEN)
            self._buffer.clear()
        exchange.breaks += 1
        if not exchange.may_repeat:
            return self._fail(FailureReason.OUTCOME_UNKNOWN)
        if exchange.breaks >= self._limits.sends:
            return self._fail(FailureReason.SEQUENCE_BROKEN)
        self._sync_until = self._now + self._timing.synchronise_s
        self._deadline = self._now + self._timing.drain_quiet_s
        return Branch.DRAINS

    def _no_answer(self) -> Branch:
        exchange = self._running
        exchange.silences += 1
        if exchange.blocks:
            return self._fail(FailureReason.BROKEN_OFF)
        if exchange.silences >= self._limits.sends:
            return self._fail(FailureReason.NO_ANSWER)
        if not exchange.may_repeat:
            return self._fail(FailureReason.OUTCOME_UNKNOWN)
        return self._transmit()

    # A block is coming in.

    def _open_block(self) -> Branch:
        self._echo_expected = None
        self._deadline = self._now + self._timing.max_char_gap_s
        return Branch.DONE

    def _collect(self, data: bytes, position: int) -> int:
        limit = RESPONSE_SIZE
        if not self._echo_checked and len(self._buffer) < COMMAND_SIZE:
            limit = COMMAND_SIZE
        taken = data[position : position + limit - len(self._buffer)]
        self._buffer += taken
        self._deadline = self._now + self._timing.max_char_gap_s
        if len(self._buffer) == COMMAND_SIZE:
            self._check_echo()
        elif len(self._buffer) == RESPONSE_SIZE:
            self._block_arrived(bytes(self._buffer))
        return len(taken)

    def _check_echo(self) -> None:
        self._echo_checked = True
        if self._profile.tolerates_echo and self._buffer == self._running.frame:
            self._line_echoes = True
            self._skip(bytes(self._buffer), SkipReason.ECHO)
            if self._junk(COMMAND_SIZE):
                self._act(ReaderInput.ECHO)

    def _block_arrived(self, block: bytes) -> None:
        is_good = crc16_arc(block) == 0
        self._events.append(FrameReceived(block, is_good, self._now))
        self._act(ReaderInput.BLOCK if is_good else ReaderInput.DAMAGED)

    def _pass_echo(self) -> Branch:
        self._await_answer()
        return Branch.DONE

    def _take_block(self) -> Branch:
        content = bytes(self._buffer[:-2])
        self._buffer.clear()
        kind = self._deliver(content)
        if kind is BlockKind.UNFIT:
            return Branch.FAILED
        self._signal(ACK)
        if kind is BlockKind.LAST:
            self._complete()
            return Branch.LAST
        self._await_answer()
        return Branch.NEXT

    def _refuse_damaged(self) -> Branch:
        self._buffer.clear()
        return self._refuse_block(FailureReason.BAD_CRC)

    def _refuse_block(self, reason: FailureReason) -> Branch:
        self._running.naks_sent += 1
        if self._running.naks_sent >= self._limits.naks:
            return self._fail(reason)
        self._signal(NAK)
        self._await_answer()
        return Branch.ASKED

    def _close_gap(self) -> Branch:
        exchange = self._running
        self._skip(bytes(self._buffer), SkipReason.TRUNCATED)
        self._buffer.clear()
        exchange.silences += 1
        if exchange.silences >= self._limits.sends:
            return self._fail(FailureReason.BROKEN_OFF if exchange.blocks else FailureReason.NO_ANSWER)
        if not exchange.may_repeat or (exchange.blocks and self._profile.gap_recovery is GapRecovery.NAK):
            # The block is there: only its passage failed.
            return self._refuse_block(FailureReason.BROKEN_OFF)
        self._transmit()
        return Branch.ASKED


# Of the class, not of each link: a collector has thousands of them.
_ACTIONS: dict[ReaderAction, Callable[[SerialReader], Branch]] = {
    ReaderAction.BEGIN: SerialReader._begin_exchange,
    ReaderAction.STOP: SerialReader._fail_stopped,
    ReaderAction.COUNT_ENQ: SerialReader._count_enq,
    ReaderAction.SEND: SerialReader._send_synchronised,
    ReaderAction.LISTEN: SerialReader._listen,
    ReaderAction.GIVE_UP_SYNC: SerialReader._give_up_sync,
    ReaderAction.SEND_REFUSED: SerialReader._send_refused,
    ReaderAction.BEGIN_WAIT: SerialReader._begin_wait,
    ReaderAction.OPEN_BLOCK: SerialReader._open_block,
    ReaderAction.ENQ_AFTER_SEND: SerialReader._enq_after_send,
    ReaderAction.BREAK: SerialReader._break,
    ReaderAction.NO_ANSWER: SerialReader._no_answer,
    ReaderAction.WAIT_MORE: SerialReader._wait_more,
    ReaderAction.SEND_AFTER_WAIT: SerialReader._transmit,
    ReaderAction.PASS_ECHO: SerialReader._pass_echo,
    ReaderAction.TAKE_BLOCK: SerialReader._take_block,
    ReaderAction.REFUSE_BLOCK: SerialReader._refuse_damaged,
    ReaderAction.GIVE_UP_WAIT: SerialReader._give_up_wait,
    ReaderAction.CLOSE_GAP: SerialReader._close_gap,
}
