"""Wrapper and HDLC: octets on the line to APDUs and back (reference "dlms_cosem", sections 2.1 and 2.2).

HDLC frames are found by their length, never by the next flag: there is no stuffing, 7E may occur inside,
and a checksum may end in 7E. Both framings offer the same four verbs, so that the client does not know
which one it talks through.

Over 500 lines: both framings share their verbs, and an HDLC link is one machine.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from fastcrc import crc16

from protocols.dlms.errors import LimitExceeded, LocalProtocolError, NoAnswer, RemoteProtocolError

WRAPPER = struct.Struct(">HHHH")
WRAPPER_VERSION = 1
FLAG = 0x7E
LLC_REQUEST = b"\xe6\xe6\x00"
LLC_RESPONSE = b"\xe6\xe7\x00"
# Noise between two frames, as a modem's connect text or some damaged frames of the largest size; more than
# this is refused.
MAX_NOISE = 1 << 14
# Nobody has reason to send more than the largest APDU ahead of what we ask.
MAX_AHEAD = 1 << 18
# Frames that are repeated without need, or say nothing new; a meter has no reason for more.
MAX_IDLE = 256


def crc16_x25(octets: bytes) -> int:
    """CRC-16/X-25: reflected 8408, start FFFF, final XOR FFFF.

    >>> hex(crc16_x25(b"123456789"))
    '0x906e'
    """
    return crc16.ibm_sdlc(octets)


class Framing(Protocol):
    """What the client needs of a framing. All methods return octets to send, or take received ones.

    Attributes:
        retries: frames sent only because an answer did not come.
    """

    retries: int

    def connect(self) -> bytes:
        """Octets that open the link; empty where there is nothing to open."""

    def wrap(self, apdu: bytes) -> bytes:
        """Octets that carry an APDU."""

    def receive(self, octets: bytes) -> None:
        """Take octets from the line."""

    def next_apdu(self) -> bytes | None:
        """A whole APDU, b"" when the link has just opened or closed, None when more octets are needed."""

    def data_to_send(self) -> bytes:
        """Octets that the framing itself wants to send: receiver-ready frames, further segments."""

    def timed_out(self) -> bytes:
        """The answer does not come: octets that fetch it. None, where what came holds it after all.

        Raises:
            NoAnswer: there is nothing (more) to be done.
        """

    def disconnect(self) -> bytes:
        """Octets that close the link."""


class WrapperFraming:
    """TCP wrapper: version, source and destination ports, length, each 16 bits.

    Args:
        on_frame: gets each whole frame that comes in, as it came, before anything is made of it.
    """

    # TCP repeats what is lost.
    retries = 0

    def __init__(
        self,
        client_sap: int,
        logical_device: int = 1,
        max_apdu: int = 65_535,
        on_frame: Callable[[bytes], None] | None = None,
    ) -> None:
        self._on_frame = on_frame
        self.client_sap = client_sap
        self.logical_device = logical_device
        self._max_apdu = max_apdu
        self._buffer = bytearray()

    def connect(self) -> bytes:
        return b""

    def wrap(self, apdu: bytes) -> bytes:
        return WRAPPER.pack(WRAPPER_VERSION, self.client_sap, self.logical_device, len(apdu)) + apdu

    def receive(self, octets: bytes) -> None:
        self._buffer += octets
        if len(self._buffer) > MAX_AHEAD:
            raise LimitExceeded(f"{len(self._buffer)} octets that nobody asked for", where="wrapper")

    def next_apdu(self) -> bytes | None:
        if len(self._buffer) < WRAPPER.size:
            return None
        version, source, destination, length = WRAPPER.unpack_from(self._buffer)
        if version != WRAPPER_VERSION:
            raise RemoteProtocolError(f"wrapper version {version:04X}, not 0001", where="wrapper")
        if (source, destination) != (self.logical_device, self.client_sap):
            raise RemoteProtocolError(
                f"answer from {source} to {destination}, expected {self.logical_device} to {self.client_sap}",
                where="wrapper",
            )
        if length > self._max_apdu:
            raise LimitExceeded(f"APDU of {length} octets, at most {self._max_apdu}", where="wrapper")
        if len(self._buffer) < WRAPPER.size + length:
            return None
        frame = bytes(self._buffer[: WRAPPER.size + length])
        del self._buffer[: WRAPPER.size + length]
        if self._on_frame is not None:
            self._on_frame(frame)
        return frame[WRAPPER.size :]

    def data_to_send(self) -> bytes:
        return b""

    def timed_out(self) -> bytes:
        raise NoAnswer("no answer", where="wrapper")

    def disconnect(self) -> bytes:
        return b""


SNRM, UA, DISC, DM, FRMR, UI = 0x93, 0x73, 0x53, 0x1F, 0x97, 0x13
RR, RNR, REJ = 0x01, 0x05, 0x09
_SEGMENTED = 0x0800
_MAX_LENGTH = 0x07FF
# Beside format, addresses of four octets and one, control and two checksums.
MAX_INFORMATION = _MAX_LENGTH - 12
_POLL = 0x10


@dataclass(frozen=True)
class HdlcAddress:
    """Address of a meter: logical device, and physical address on a bus; length 1, 2 or 4 octets."""

    logical: int = 1
    physical: int | None = None
    octets: int = 1

    def at(self, physical: int | None) -> HdlcAddress:
        """The same logical device at a physical address, in at least the octets that it takes."""
        least = 1 if physical is None else 2 if physical < 0x80 else 4
        return HdlcAddress(self.logical, physical, max(self.octets, least))

    def encode(self) -> bytes:
        """Seven bits an octet, the last with bit 0 set."""
        if self.octets == 1:
            return bytes([self.logical << 1 | 1])
        physical = self.physical or 0
        if self.octets == 2:
            return bytes([self.logical << 1, physical << 1 | 1])
        if self.octets == 4:
            pair = [self.logical >> 7 << 1, (self.logical & 0x7F) << 1]
            pair += [physical >> 7 << 1, (physical & 0x7F) << 1 | 1]
            return bytes(pair)
        raise LocalProtocolError(f"an HDLC address has 1, 2 or 4 octets, not {self.octets}")


@dataclass(frozen=True)
class HdlcFrame:
    """One frame: control octet, information, and whether more segments follow."""

    destination: bytes
    source: bytes
    control: int
    information: bytes
    is_segmented: bool = False

    def encode(self) -> bytes:
        """The frame with flags and both checksums."""
        addresses = self.destination + self.source + bytes([self.control])
        tail = len(self.information) + 4 if self.information else 2
        length = 2 + len(addresses) + tail
        if length > _MAX_LENGTH:
            raise LocalProtocolError(f"an HDLC frame of {length} octets; it has {_MAX_LENGTH} at most")
        head = (0xA000 | (_SEGMENTED if self.is_segmented else 0) | length).to_bytes(2, "big") + addresses
        if self.information:
            head += crc16_x25(head).to_bytes(2, "little") + self.information
        return bytes([FLAG]) + head + crc16_x25(head).to_bytes(2, "little") + bytes([FLAG])


class HdlcDecoder:
    """Finds frames by length and counts in `skipped` what is none.

    Args:
        on_frame: gets each frame, and its octets as they came.
    """

    def __init__(self, on_frame: Callable[[HdlcFrame, bytes], None] | None = None) -> None:
        self._on_frame = on_frame
        self._buffer = bytearray()
        self._is_silent = False
        self._noise = 0
        self.skipped = 0

    def receive(self, octets: bytes) -> None:
        """Take octets from the line."""
        self._buffer += octets
        self._is_silent = False
        if len(self._buffer) > MAX_AHEAD:
            raise LimitExceeded(f"{len(self._buffer)} octets that nobody asked for", where="HDLC")

    def silence(self) -> None:
        """The line is silent: what has begun will not end. Its start is noise; a frame may be behind it."""
        self._is_silent = True

    def next_frame(self) -> HdlcFrame | None:
        """A frame whose checksums hold, or None when more octets are needed."""
        while True:
            start = self._buffer.find(FLAG)
            self._skip(len(self._buffer) if start < 0 else start)
            if self._noise > MAX_NOISE:
                raise LimitExceeded(f"{self._noise} octets without a frame", where="HDLC")
            # Closing and opening flag may be one and the same, or doubled.
            while len(self._buffer) > 1 and self._buffer[1] == FLAG:
                del self._buffer[0]
            length = self._length()
            if length is None:
                if not self._buffer or not self._is_silent:
                    return None
                self._skip(1)
            elif (frame := self._whole(length)) is not None:
                return frame

    def _length(self) -> int | None:
        """Length that the format field claims, 0 where it is none; None when more octets are needed."""
        if len(self._buffer) < 3:
            return None
        format_field = int.from_bytes(self._buffer[1:3], "big")
        length = format_field & _MAX_LENGTH
        if format_field & 0xF000 != 0xA000 or length < 7:
            return 0
        return None if len(self._buffer) < length + 2 else length

    def _whole(self, length: int) -> HdlcFrame | None:
        has_end = length and self._buffer[length + 1] == FLAG
        frame = self._parse(bytes(self._buffer[1 : 1 + length])) if has_end else None
        if frame is None:
            self._skip(1)
            return None
        self._noise = 0
        if self._on_frame is not None:
            self._on_frame(frame, bytes(self._buffer[: length + 2]))
        # The closing flag stays: it may open the next frame.
        del self._buffer[: length + 1]
        return frame

    def _skip(self, count: int) -> None:
        # A lone closing flag is not noise.
        if count and bytes(self._buffer[:count]) != bytes([FLAG]):
            self.skipped += count
            self._noise += count
        del self._buffer[:count]

    @staticmethod
    def _parse(body: bytes) -> HdlcFrame | None:
        place = 2
        addresses = []
        for _ in range(2):
            end = place
            while end < len(body) - 3 and not body[end] & 1:
                end += 1
            addresses.append(body[place : end + 1])
            place = end + 1
        control, place = body[place], place + 1
        information = b""
        if place < len(body) - 2:
            # First, for it is short: noise that looks like the start of long frames costs no more than that.
            if crc16_x25(body[:place]) != int.from_bytes(body[place : place + 2], "little"):
                return None
            information = body[place + 2 : -2]
        if crc16_x25(body[:-2]) != int.from_bytes(body[-2:], "little"):
            return None
        is_segmented = bool(int.from_bytes(body[:2], "big") & _SEGMENTED)
        return HdlcFrame(addresses[0], addresses[1], control, information, is_segmented)


class _Link(Enum):
    CLOSED = auto()
    OPENING = auto()  # SNRM is out
    CLEARING = auto()  # DISC is out, after which SNRM goes out again
    OPEN = auto()
    CLOSING = auto()  # DISC is out


class HdlcFraming:
    """The reader's side of an HDLC link: SNRM/UA, numbered information frames, segments, DISC.

    The window is one frame, which every meter has; larger ones gain nothing on request and answer.

    A meter speaks only when asked, so what a line loses shows as silence (`timed_out`). The link is then
    polled (RR), and what the meter says tells what was lost: an N(R) that does not count our frame asks for
    it again, an answer repeated ends the matter. An information frame is thus sent again only if the meter
    has not taken it, under its old N(S), by which the meter knows it: nothing is executed twice. What the
    meter repeats without need is passed over in silence: an answer to it would make it repeat yet more.

    A meter that keeps an old link may refuse a new one (DM to SNRM): the old one is closed, once, and a new
    one asked for.

    Args:
        repeats: how often in a row, without any progress, the meter is asked again.
        on_frame: gets each whole frame that comes for us, as it came.
    """

    def __init__(
        self,
        client_sap: int,
        server: HdlcAddress | None = None,
        max_apdu: int = 1 << 20,
        on_frame: Callable[[bytes], None] | None = None,
        repeats: int = 5,
    ) -> None:
        self._client = bytes([client_sap << 1 | 1])
        self._server = (server or HdlcAddress()).encode()
        self._decoder = HdlcDecoder(self._came)
        self._on_frame = on_frame
        self._max_apdu = max_apdu
        self._repeats = self._repeats_left = repeats
        self.retries = 0
        self._link = _Link.CLOSED
        self._is_cleared = False
        self._send_sequence = 0
        self._receive_sequence = 0
        self._max_information = 128
        self._segments = bytearray()
        self._pending: list[bytes] = []  # segments of our request not yet sent
        self._unacknowledged = b""
        self._is_polled = False
        self._idle = 0
        self._heard: deque[HdlcFrame] = deque()
        self._outgoing = bytearray()

    @property
    def skipped(self) -> int:
        """Octets on the line that were no frame."""
        return self._decoder.skipped

    def connect(self) -> bytes:
        self._link = _Link.OPENING
        self._is_cleared = False
        return self._frame(SNRM)

    def wrap(self, apdu: bytes) -> bytes:
        if self._link is not _Link.OPEN:
            raise LocalProtocolError("the HDLC link is not open")
        whole = LLC_REQUEST + apdu
        size = self._max_information
        self._pending = [whole[place : place + size] for place in range(0, len(whole), size)]
        self._outgoing.clear()
        return self._information()

    def receive(self, octets: bytes) -> None:
        self._decoder.receive(octets)

    def data_to_send(self) -> bytes:
        out = bytes(self._outgoing)
        self._outgoing.clear()
        return out

    def timed_out(self) -> bytes:
        self._decoder.silence()
        self._gather()
        if self._heard:
            return b""
        self._spend()
        if self._link is not _Link.OPEN:
            return self._frame(SNRM if self._link is _Link.OPENING else DISC)
        self._is_polled = True
        return self._ready()

    def disconnect(self) -> bytes:
        if self._link is not _Link.OPEN:
            return b""
        self._link = _Link.CLOSING
        self._repeats_left = self._repeats
        return self._frame(DISC)

    def next_apdu(self) -> bytes | None:
        self._gather()
        while self._heard:
            self._idle += 1
            if self._idle > MAX_IDLE:
                raise LimitExceeded(f"{MAX_IDLE} frames in a row that bring nothing", where="HDLC")
            apdu = self._take(self._heard.popleft())
            if apdu is not None:
                self._idle = 0
                return apdu
        return None

    def _came(self, frame: HdlcFrame, octets: bytes) -> None:
        if self._is_ours(frame) and self._on_frame is not None:
            self._on_frame(octets)

    def _is_ours(self, frame: HdlcFrame) -> bool:
        """Not of another conversation on the bus, nor our own frame, which some optical heads echo."""
        return frame.destination == self._client and frame.source == self._server

    def _gather(self) -> None:
        while (frame := self._decoder.next_frame()) is not None:
            if self._is_ours(frame):
                self._heard.append(frame)

    def _spend(self) -> None:
        if not self._repeats_left:
            has_it = self._link is _Link.OPEN and not self._unacknowledged
            heard = "; the meter has taken the request" if has_it else ""
            raise NoAnswer(f"no answer, asked {self._repeats + 1} times{heard}", where="HDLC")
        self._repeats_left -= 1
        self.retries += 1

    def _take(self, frame: HdlcFrame) -> bytes | None:
        control = frame.control & ~_POLL
        is_closing = self._link in (_Link.CLOSING, _Link.CLEARING)
        if control == UA & ~_POLL or (control == DM & ~_POLL and is_closing):
            return self._agreed(frame.information)
        if control in (DM & ~_POLL, FRMR & ~_POLL):
            if self._link is _Link.OPENING and not self._is_cleared:
                self._link, self._is_cleared = _Link.CLEARING, True
                self.retries += 1
                self._outgoing += self._frame(DISC)
                return None
            name = "DM" if control == DM & ~_POLL else "FRMR"
            raise RemoteProtocolError(f"the meter answers {name}: link refused or lost", where="HDLC")
        if self._link is not _Link.OPEN:
            return None  # of a conversation that somebody else left open
        if not frame.control & 1:
            return self._take_information(frame)
        kind = frame.control & 0x0F
        if kind in (RR, RNR, REJ):
            self._take_supervisory(kind, frame.control >> 5)
        return None

    def _agreed(self, information: bytes) -> bytes | None:
        """UA: to what we asked last, or once more to what is long since done."""
        if self._link is _Link.OPENING:
            self._open(information)
            return b""
        if self._link is _Link.CLOSING:
            self._link = _Link.CLOSED
            return b""
        if self._link is _Link.CLEARING:
            self._link = _Link.OPENING
            self._outgoing += self._frame(SNRM)
        return None

    def _take_supervisory(self, kind: int, number: int) -> None:
        if number == self._send_sequence:
            if self._unacknowledged:
                self._unacknowledged = b""
                self._repeats_left = self._repeats
                self._idle = 0
            if kind == RR and self._pending:
                self._outgoing += self._information()
        elif number == self._send_sequence - 1 & 7 and self._unacknowledged:
            # Without a poll RR says nothing new: it may have been under way since the frame before.
            if kind == REJ:
                self._spend()
            elif kind != RR or not self._is_polled:
                return
            self._is_polled = False
            self._outgoing += self._unacknowledged

    def _take_information(self, frame: HdlcFrame) -> bytes | None:
        # An old frame, or one that does not count ours, answers nothing that is asked now.
        if frame.control >> 1 & 7 != self._receive_sequence or frame.control >> 5 != self._send_sequence:
            return None
        self._receive_sequence = self._receive_sequence + 1 & 7
        self._unacknowledged = b""
        self._is_polled = False
        self._pending.clear()
        self._repeats_left = self._repeats
        if frame.information:
            self._idle = 0
        self._segments += frame.information
        if len(self._segments) > self._max_apdu:
            raise LimitExceeded(f"segments beyond {self._max_apdu} octets", where="HDLC")
        if frame.is_segmented:
            self._outgoing += self._ready()
            return None
        whole = bytes(self._segments)
        self._segments.clear()
        if not whole.startswith(LLC_RESPONSE):
            raise RemoteProtocolError(f"LLC header {whole[:3].hex(' ')}, not E6 E7 00", where="HDLC")
        return whole[3:]

    def _open(self, information: bytes) -> None:
        self._link = _Link.OPEN
        self._send_sequence = self._receive_sequence = 0
        self._repeats_left = self._repeats
        if information[:2] != b"\x81\x80":
            return
        place = 3
        while place + 2 <= len(information):
            item, size = information[place], information[place + 1]
            value = int.from_bytes(information[place + 2 : place + 2 + size], "big")
            if item == 0x06 and value:
                # Largest field that the meter receives bounds what we send; so does the length of a frame.
                self._max_information = min(value, MAX_INFORMATION)
            place += 2 + size

    def _information(self) -> bytes:
        """The next segment of our request."""
        piece = self._pending.pop(0)
        control = self._receive_sequence << 5 | _POLL | self._send_sequence << 1
        self._send_sequence = self._send_sequence + 1 & 7
        self._is_polled = False
        frame = HdlcFrame(self._server, self._client, control, piece, is_segmented=bool(self._pending))
        self._unacknowledged = frame.encode()
        return self._unacknowledged

    def _ready(self) -> bytes:
        return self._frame(self._receive_sequence << 5 | _POLL | RR)

    def _frame(self, control: int) -> bytes:
        return HdlcFrame(self._server, self._client, control, b"").encode()
