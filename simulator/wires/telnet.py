"""The gateway's side of telnet with port control (RFC 854, RFC 2217), as far as clients ask for it."""

from __future__ import annotations

from enum import Enum, auto

IAC, DONT, DO, WONT, WILL, SB, SE = 255, 254, 253, 252, 251, 250, 240
BINARY, ECHO, SUPPRESS_GO_AHEAD, COM_PORT = 0, 1, 3, 44
_AGREED = frozenset({BINARY, SUPPRESS_GO_AHEAD, COM_PORT})
# What the gateway says in answer to an offer or a wish: (wanted, not wanted).
_REPLY = {DO: (WILL, WONT), DONT: (WONT, WONT), WILL: (DO, DONT), WONT: (DONT, DONT)}

# Port control: what the client sends as n, the gateway answers as n + 100 with the value now in force.
_ANSWER_OFFSET = 100
_SIGNATURE, _SET_BAUD, _SUSPEND, _RESUME = 0, 1, 8, 9
SIGNATURE = b"simulated gateway"
# A subnegotiation that grows beyond this is not a port control: bounded memory.
_MAX_SUBNEGOTIATION = 64


class _State(Enum):
    DATA = auto()
    IAC = auto()
    OPTION = auto()
    SUB = auto()
    SUB_IAC = auto()


class Rfc2217Codec:
    """Between the network and the serial line; one for each connection.

    Port settings are agreed to as asked and change nothing: the meter's line is 9600 8N1 whatever the client
    thinks. `baud` tells what it asked for.
    """

    def __init__(self) -> None:
        self.baud: int | None = None
        self._state = _State.DATA
        self._verb = 0
        self._sub = bytearray()
        self._said: dict[tuple[int, int], int] = {}

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """Octets for the meter, and what the gateway answers by itself."""
        inner, reply = bytearray(), bytearray()
        for octet in data:
            self._take(octet, inner, reply)
        return bytes(inner), bytes(reply)

    def encode(self, data: bytes) -> bytes:
        """Octets from the meter with FF doubled, as telnet wants."""
        return data.replace(b"\xff", b"\xff\xff")

    def _take(self, octet: int, inner: bytearray, reply: bytearray) -> None:
        match self._state:
            case _State.DATA if octet == IAC:
                self._state = _State.IAC
            case _State.DATA:
                inner.append(octet)
            case _State.IAC:
                self._command(octet, inner)
            case _State.OPTION:
                reply += self._negotiate(self._verb, octet)
                self._state = _State.DATA
            case _State.SUB if octet == IAC:
                self._state = _State.SUB_IAC
            case _State.SUB:
                self._keep(octet)
            case _State.SUB_IAC if octet == SE:
                reply += self._port_control(bytes(self._sub))
                self._state = _State.DATA
            case _State.SUB_IAC:
                self._keep(octet)
                self._state = _State.SUB

    def _command(self, octet: int, inner: bytearray) -> None:
        self._state = _State.DATA
        if octet == IAC:
            inner.append(IAC)
        elif octet in _REPLY:
            self._verb = octet
            self._state = _State.OPTION
        elif octet == SB:
            self._sub.clear()
            self._state = _State.SUB

    def _keep(self, octet: int) -> None:
        if len(self._sub) < _MAX_SUBNEGOTIATION:
            self._sub.append(octet)

    def _negotiate(self, verb: int, option: int) -> bytes:
        """Agree once to each known option; an answer is never answered again, or both sides would go on."""
        wanted, unwanted = _REPLY[verb]
        answer = wanted if option in _AGREED else unwanted
        ours = verb in (DO, DONT)
        if self._said.get((option, ours)) == answer:
            return b""
        self._said[option, ours] = answer
        return bytes([IAC, answer, option])

    def _port_control(self, sub: bytes) -> bytes:
        if len(sub) < 2 or sub[0] != COM_PORT:
            return b""
        command, value = sub[1], sub[2:]
        if command == _SIGNATURE:
            value = SIGNATURE
        elif command in (_SUSPEND, _RESUME) or command >= _ANSWER_OFFSET:
            return b""
        elif command == _SET_BAUD:
            self.baud = int.from_bytes(value, "big")
        answer = bytes([COM_PORT, command + _ANSWER_OFFSET]) + value
        return bytes([IAC, SB]) + self.encode(answer) + bytes([IAC, SE])
