"""Opening an optical port by mode E of IEC 62056-21, after which it speaks HDLC (reference, section 2.3).

Sans-IO: `SignOn.steps` is a generator of what to do with the line. At `Listen` it is resumed with octets
heard (b"": nobody spoke for so long), at `Wait` with all that was heard meanwhile, at the others with
anything. Its return value is what the meter says it is.

The sign-on goes as 7E1. Parity is made here: eight bits without parity, whose bit 7 is the even parity of the
others, are the same signals on the line as 7E1. Adapters, gateways and pseudo terminals that know only 8N1
then do, and the line's format never changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from protocols.dlms.errors import LimitExceeded, NoAnswer, RemoteProtocolError

SIGN_ON_BAUD = 300
SPEEDS = {b"0": 300, b"1": 600, b"2": 1200, b"3": 2400, b"4": 4800, b"5": 9600, b"6": 19200}
_BITS_PER_OCTET = 10
# Three letters, a speed and sixteen characters are usual; what goes on for longer is no identification.
MAX_HEARD = 512
_IDENTIFICATION = re.compile(rb"(/([A-Za-z]{3})([!-~])([ -~]*))\r")
_ADDRESS = re.compile(r"[0-9A-Za-z ]{0,32}")
_FRAMES = {
    "sign-on": re.compile(rb"/\?[0-9A-Za-z ]{0,32}!\r\n"),
    "identification": re.compile(_IDENTIFICATION.pattern + rb"\n"),
    "acknowledgement": re.compile(rb"\x06[!-~]{3}\r\n"),
}
_FIRST = frozenset(b"/\x06")


def with_parity(octets: bytes) -> bytes:
    """Seven-bit octets with even parity in bit 7.

    >>> with_parity(b"/?!").hex()
    'af3f21'
    """
    return bytes(octet | (octet.bit_count() & 1) << 7 for octet in octets)


def without_parity(octets: bytes) -> bytes | None:
    """The seven bits. None: the parity is wrong; parity that a gateway has taken away is not."""
    plain = bytes(octet & 0x7F for octet in octets)
    return plain if octets in (plain, with_parity(plain)) else None


def opening_frame(octets: bytes, place: int = 0) -> tuple[str, str, int] | None:
    """Kind, text and size of the line of an opening that begins at a place; None where there is none.

    No APDU of ours begins so: 2F is no tag, and 06 one of short names.
    """
    if place >= len(octets) or octets[place] & 0x7F not in _FIRST:
        return None
    end = octets.find(b"\n", place, place + MAX_HEARD)
    line = without_parity(octets[place : end + 1])
    if end < 0 or line is None:
        return None
    for name, shape in _FRAMES.items():
        if shape.fullmatch(line):
            return name, line.strip(b"\x06\r\n").decode("ascii"), len(line)
    return None


def is_opening(frame: bytes) -> bool:
    """Whether a recorded frame is a line of the opening."""
    found = opening_frame(frame)
    return found is not None and found[2] == len(frame)


@dataclass(frozen=True, slots=True)
class SetSpeed:
    """Set the line to this speed, 8N1."""

    baud: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send `on_line`; `octets` is the same without parity, for people."""

    octets: bytes

    @property
    def on_line(self) -> bytes:
        return with_parity(self.octets)


@dataclass(frozen=True, slots=True)
class Listen:
    """Hand over what comes, at once; nothing when the line is silent for so long."""

    patience_s: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Let so much time pass."""

    duration_s: float


Step = SetSpeed | Send | Listen | Wait


@dataclass(frozen=True, slots=True)
class Identification:
    """What a meter says it is: three letters of its maker, and a text. `baud` is the speed agreed."""

    maker: str
    text: str
    baud: int


@dataclass(frozen=True, slots=True)
class SignOn:
    """How a port is opened.

    Attributes:
        address: of the meter meant, where several share the line; else empty.
        wait_s: from the end of our acknowledgement to the change of speed.
        top_baud: of the speeds proposed and of those below, the fastest up to this one is agreed to.
        patience_s: for the meter's identification. repeats: of the sign-on.
    """

    address: str = ""
    wait_s: float = 0.3
    top_baud: int = 19200
    patience_s: float = 10.0
    repeats: int = 5

    def __post_init__(self) -> None:
        if _ADDRESS.fullmatch(self.address) is None:
            raise ValueError(f"{self.address!r} is no device address: up to 32 digits, letters and blanks")

    def steps(self, on_frame: Callable[[bytes], None]) -> Generator[Step, bytes, Identification]:
        """Open the port; `on_frame` gets what the meter says, without parity.

        Raises:
            NoAnswer: no identification, however often we signed on.
            RemoteProtocolError: the meter proposes no valid speed, or does not come to an end.
        """
        for _ in range(self.repeats + 1):
            yield SetSpeed(SIGN_ON_BAUD)
            yield Send(f"/?{self.address}!\r\n".encode())
            found = yield from self._identification()
            if found is not None:
                on_frame(found[1] + b"\r\n")
                return (yield from self._agree(found, on_frame))
        raise NoAnswer(f"no identification, signed on {self.repeats + 1} times", where="mode E")

    def _identification(self) -> Generator[Step, bytes, re.Match[bytes] | None]:
        line = bytearray()
        heard = 0
        while octets := (yield Listen(self.patience_s)):
            heard += len(octets)
            if heard > MAX_HEARD:
                raise LimitExceeded(f"{heard} octets without an identification", where="mode E")
            line += octets
            # 0A has two ones, so that parity leaves it as it is.
            while (end := line.find(b"\n")) >= 0:
                found = _identified(bytes(line[:end]))
                del line[: end + 1]
                if found is not None:
                    return found
        return None

    def _agree(
        self, found: re.Match[bytes], on_frame: Callable[[bytes], None]
    ) -> Generator[Step, Any, Identification]:
        maker, proposed, text = (part.decode("ascii") for part in found.group(2, 3, 4))
        if proposed.encode() not in SPEEDS:
            raise RemoteProtocolError(f"the meter proposes speed {proposed!r}, which is none", where="mode E")
        usable = [code for code in SPEEDS if code <= proposed.encode() and SPEEDS[code] <= self.top_baud]
        code = max(usable, default=b"0")
        acknowledgement = b"\x062" + code + b"2\r\n"
        yield Send(acknowledgement)
        sending_s = len(acknowledgement) * _BITS_PER_OCTET / SIGN_ON_BAUD
        # Some meters say it once more before they change, too.
        heard = yield Wait(sending_s + self.wait_s)
        if without_parity(heard) == acknowledgement:
            on_frame(acknowledgement)
        yield SetSpeed(SPEEDS[code])
        return Identification(maker, text, SPEEDS[code])


def _identified(line: bytes) -> re.Match[bytes] | None:
    """Noise, and an echo of our own sign-on, may precede the identification on its line."""
    for place, octet in enumerate(line):
        if octet & 0x7F == ord("/"):
            said = without_parity(line[place:])
            found = None if said is None else _IDENTIFICATION.fullmatch(said)
            if found is not None:
                return found
    return None
