"""The meter's side of an optical port: sign-on at 300 7E1 (mode E), HDLC at the speed agreed, then 300 again.

Pure, as `dlms_end`. The port hears octets as a line of eight bits carries them, and at what speed: what was
sent at another one is noise to it, as it is to a real one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from protocols.dlms.mode_e import SIGN_ON_BAUD, SPEEDS, with_parity, without_parity
from simulator.dlms.end import HdlcEnd

_MAX_LINE = 64
_END = 0x0A


@dataclass
class OpticalEnd:
    """One optical port.

    Args:
        end: the meter behind it.
        speed: what it proposes, 0 to 6. address: what it answers to besides the empty one.
        is_echoing: the head gives back what it sends, as some do.
        says_twice: the acknowledgement is repeated at 300 before the speed changes, as some meters do.
    """

    end: HdlcEnd
    identification: str = "SIM"
    speed: str = "5"
    address: str = ""
    is_echoing: bool = False
    says_twice: bool = False
    baud: int = SIGN_ON_BAUD
    _line: bytes = b""
    _is_open: bool = False

    def heard(self, data: bytes, baud: int, now: datetime) -> bytes:
        """What it answers to octets that were sent at a speed."""
        return self.receive(data if baud == self.baud else bytes(len(data)), now)

    def receive(self, data: bytes, now: datetime) -> bytes:
        echo = data if self.is_echoing else b""
        if self._is_open:
            return echo + self._after(self.end.receive(data, now))
        said = b""
        for octet in data:
            said += self._take(octet)
        return echo + said

    def silence(self, now: datetime) -> bytes:
        self._line = b""
        return self._after(self.end.silence(now)) if self._is_open else b""

    def fall_back(self) -> None:
        """Nobody has spoken for long: the port waits for a sign-on."""
        self._is_open, self.baud, self._line = False, SIGN_ON_BAUD, b""

    def _after(self, answer: bytes) -> bytes:
        """The port closes with the link."""
        if answer and not self.end.is_connected:
            self.fall_back()
        return answer

    def _take(self, octet: int) -> bytes:
        self._line = (self._line + bytes([octet]))[-_MAX_LINE:]
        # 0A has two ones, so that parity leaves it as it is.
        if octet != _END:
            return b""
        line, self._line = self._line, b""
        # Noise may stand before; both lines have six octets at least.
        for place in range(len(line)):
            plain = without_parity(line[place:])
            answer = None if plain is None else self._answer(plain)
            if answer is not None:
                return answer if plain == line[place:] else with_parity(answer)
        return b""

    def _answer(self, line: bytes) -> bytes | None:
        """What it says to a line, in the form in which it came: a pseudo terminal has no parity for those who
        leave it to their driver. None: nothing that it knows."""
        if line in (b"/?!\r\n", f"/?{self.address}!\r\n".encode()):
            return f"/{self.identification}{self.speed}\\2Simulated\r\n".encode()
        if line[:2] == b"\x062" and line[3:] == b"2\r\n" and line[2:3] in SPEEDS:
            self._is_open, self.baud = True, SPEEDS[line[2:3]]
            return line if self.says_twice else b""
        return None
