"""The meter on addressed lines (P8, P2): section 1.9, driven by `METER_TABLE`.

It answers what is addressed to it, else is silent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from protocols.nbr14522.bcd import encode_bcd
from protocols.nbr14522.crc import crc16_arc, crc16_modbus
from protocols.nbr14522.errors import LocalProtocolError
from protocols.nbr14522.frames import (
    ACK,
    ANY_METER,
    COMMAND_WIRE_SIZE,
    NAK,
    PREFIX_OCTET,
    Addressing,
    serial_octets,
    unwrap_command,
)
from protocols.nbr14522.link.addressed_reader import AGAIN, NEXT
from protocols.nbr14522.link.addressed_tables import METER_TABLE, MeterAction, MeterInput, MeterState
from protocols.nbr14522.link.events import CommandReceived, FrameReceived, SkipReason
from protocols.nbr14522.link.exchange import COMPOSITE_CODES
from protocols.nbr14522.link.meter_base import MeterMachine
from protocols.nbr14522.link.tables import Branch
from protocols.nbr14522.profile import HandShake, MeterProfile

_HAND_SHAKES = {NEXT: MeterInput.NEXT, AGAIN: MeterInput.AGAIN}


class AddressedMeter(MeterMachine):
    """A meter that hears every frame on its line and answers its own."""

    def __init__(self, profile: MeterProfile, meter_serial: str, now_s: float) -> None:
        super().__init__(profile)
        self._now = now_s
        self._state = MeterState.IDLE
        self._command = b""
        self._size = COMMAND_WIRE_SIZE[profile.addressing]
        self._prefix = bytes([PREFIX_OCTET])
        self._addresses = {serial_octets(meter_serial, 4, "meter serial"), bytes.fromhex(ANY_METER)}
        if profile.addressing is Addressing.P2:
            self._prefix = encode_bcd(profile.address, 1) + self._prefix

    def send(self, blocks: Sequence[bytes], now_s: float) -> None:
        """Answer the command in work with plain blocks of 258 octets."""
        if self._state is not MeterState.WORKING:
            raise LocalProtocolError("no command to answer", where="link")
        self._take_answer(blocks, now_s)
        self._act(MeterInput.ANSWER)

    def delay(self, now_s: float) -> None:
        """There is no WAIT here: answer within the reader's time."""
        raise LocalProtocolError("an addressed line has no WAIT", where="link")

    def ready(self, now_s: float) -> None:
        """There is no WAIT here."""
        raise LocalProtocolError("an addressed line has no WAIT", where="link")

    def forget(self, now_s: float) -> None:
        """Leave the command in work without an answer."""
        self.advance(now_s)
        if self._state is MeterState.WORKING:
            self._act(MeterInput.FORGET)

    def send_unasked(self, block: bytes, now_s: float) -> None:
        """Send an answer 40 that nobody asked for, as some meters do from time to time."""
        self.advance(now_s)
        held, index = self._blocks, self._index
        self._blocks, self._index = [block], 0
        self._send_block()
        self._blocks, self._index = held, index

    def _act(self, event: MeterInput) -> None:
        row = METER_TABLE[self._state, event]
        self._state = row.next[_ACTIONS[row.action](self)]

    def _transmit(self) -> Branch:
        self._send_block()
        if self._index == len(self._blocks) - 1:
            self._delivered()
        return Branch.DONE

    def _on_timeout(self) -> None:
        self._skip(bytes(self._buffer), SkipReason.TRUNCATED)
        self._buffer.clear()

    def _consume(self, data: bytes, position: int) -> int:
        if not self._buffer and self._signal_taken(data[position]):
            return 1
        taken = data[position : position + self._size - len(self._buffer)]
        self._buffer += taken
        self._align(0)
        if len(self._buffer) == self._size:
            self._frame_arrived(bytes(self._buffer))
        self._deadline = self._now + self._timing.max_char_gap_s if self._buffer else None
        return len(taken)

    def _align(self, start: int) -> None:
        held = bytes(self._buffer)
        while start < len(held) and not self._prefix.startswith(held[start : start + len(self._prefix)]):
            start += 1
        if start:
            self._skip(held[:start], SkipReason.NOISE_BEFORE_FRAME)
            del self._buffer[:start]

    def _signal_taken(self, octet: int) -> bool:
        is_signal = self._profile.hand_shake is HandShake.ACK and octet in (ACK, NAK)
        if not is_signal or self._state is not MeterState.ANSWERED:
            return False
        self._note_signal(octet)
        self._act(MeterInput.NAK if octet == NAK else MeterInput.ACK)
        return True

    def _taken(self) -> Branch:
        if self._index < len(self._blocks) - 1:
            self._next_block()
            return Branch.NEXT
        self._blocks = []
        return Branch.LAST

    def _next_block(self) -> Branch:
        self._index = min(self._index + 1, len(self._blocks) - 1)
        return self._transmit()

    def _frame_arrived(self, wire: bytes) -> None:
        is_p2 = self._profile.addressing is Addressing.P2
        if crc16_modbus(wire) if is_p2 else crc16_arc(wire[5:]):
            # The beginning may have been noise: look for another one inside.
            self._align(1)
            return
        self._buffer.clear()
        if not is_p2 and wire[1:5] not in self._addresses:
            self._skip(wire, SkipReason.OTHER_METER)
            return
        if self._state is MeterState.WORKING:
            self._skip(wire, SkipReason.BUSY)
        else:
            self._events.append(FrameReceived(wire, True, self._now))
        self._command = unwrap_command(wire, self._profile.addressing)
        self._act(self._input_of(self._command))

    def _input_of(self, frame: bytes) -> MeterInput:
        goes_on = (
            self._profile.hand_shake is HandShake.REPEAT_COMMAND
            and frame[0] in COMPOSITE_CODES
            and self._state is MeterState.ANSWERED
            and self._blocks[0][0] == frame[0]
        )
        return _HAND_SHAKES.get(frame[4], MeterInput.COMMAND) if goes_on else MeterInput.COMMAND

    def _take_command(self) -> Branch:
        self._blocks = []
        self._events.append(CommandReceived(self._command, False, self._now))
        return Branch.DONE

    def _stay(self) -> Branch:
        return Branch.DONE


# Of the class, not of each link: a collector has thousands of them.
_ACTIONS: dict[MeterAction, Callable[[AddressedMeter], Branch]] = {
    MeterAction.TAKE_COMMAND: AddressedMeter._take_command,
    MeterAction.PASS_OVER: AddressedMeter._stay,
    MeterAction.SEND_ANSWER: AddressedMeter._transmit,
    MeterAction.NEXT_BLOCK: AddressedMeter._next_block,
    MeterAction.SAME_BLOCK: AddressedMeter._transmit,
    MeterAction.TAKEN: AddressedMeter._taken,
    MeterAction.REST: AddressedMeter._stay,
}
