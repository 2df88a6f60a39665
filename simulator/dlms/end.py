"""One connection to a DLMS meter, seen from the meter: framing, association, services. Sans-IO."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from protocols.dlms import apdu as pdu
from protocols.dlms.apdu import AccessResult, Mechanism, obis_text, tlv
from protocols.dlms.axdr import Data, OctetCursor, decode, encode, encode_length, octets
from protocols.dlms.clock import decode_date_time
from protocols.dlms.errors import AuthenticationBroken
from protocols.dlms.framing import (
    DISC,
    DM,
    LLC_RESPONSE,
    RR,
    SNRM,
    UA,
    WRAPPER,
    HdlcAddress,
    HdlcDecoder,
    HdlcFrame,
)
from protocols.dlms.security import AUTHENTICATED, ENCRYPTED, gmac, protect, unprotect
from simulator.dlms.meter import ASSOCIATION, CLOCK, AccessRefusal, DlmsMeter
from simulator.load.grid import MARKET_ZONE
from simulator.wires.impairment import Direction, ImpairedLine, LinkQuality

TITLE = b"SIM\0\0\0\0\1"
_HDLC_INFORMATION = 128
_SEALED = {0xC4: 0xCC, 0xC5: 0xCD, 0xC7: 0xCF}
_OPEN = {0xC8, 0xC9, 0xCB}
_EXCEPTION = bytes.fromhex("D80102")
_HEAD_OCTETS = 12
_PIECES = (b"\xc1\x02", b"\xc1\x03", b"\xc3\x04", b"\xc3\x06")


class Association:
    """What one client may do, and what of a long answer is still to be fetched."""

    def __init__(self, meter: DlmsMeter, client: int) -> None:
        self._meter = meter
        self._mechanism = meter.spec.clients.get(client)
        self._is_open = False
        self._client_title = b""
        self._client_challenge = b""
        self._challenge = bytes(range(0x40, 0x50))
        self._own_counter = 0
        self._rest: list[bytes] = []
        self._block = 0
        self._long = (pdu.Attribute(0, "0-0:0.0.0.0", 0), bytearray())

    def answer(self, request: bytes, now: datetime) -> bytes:
        """The answer to an APDU."""
        if request[:1] == b"\x60":
            return self._associate(request)
        if request[:1] == b"\x62":
            self._is_open = False
            return bytes.fromhex("6303800100")
        if self._mechanism is Mechanism.GMAC and request[:1] and request[0] in _OPEN:
            plain = self._opened(request)
            made = self._service(plain, now)
            return pdu.tlv(_SEALED[made[0]], self._sealed(made)) if made[0] in _SEALED else made
        if not self._is_open:
            return _EXCEPTION
        return self._service(request, now)

    # --- association ---------------------------------------------------------------------------------

    def _associate(self, request: bytes) -> bytes:
        body = OctetCursor(request)
        body.octet()
        fields = OctetCursor(body.take(body.length()))
        found: dict[int, bytes] = {}
        while fields.left:
            tag = fields.octet()
            found[tag] = fields.take(fields.length())
        asked = found.get(0x8B, b"\0")[-1]
        secret = found.get(0xAC, b"\0\0")[2:]
        spec = self._meter.spec
        is_right = self._mechanism is not None and asked == self._mechanism
        if self._mechanism is Mechanism.LLS:
            is_right = is_right and secret == spec.password
        if not is_right:
            return self._aare(1, 0x0D, b"")
        self._is_open = self._mechanism is not Mechanism.GMAC
        initiate = bytes.fromhex("0800065F1F0400") + pdu.CONFORMANCE
        initiate += spec.max_apdu.to_bytes(2, "big") + b"\0\7"
        if self._mechanism is Mechanism.GMAC:
            self._client_title, self._client_challenge = found[0xA6][2:], secret
            return self._aare(0, 0x0E, pdu.tlv(0x28, self._sealed(initiate)))
        return self._aare(0, 0, initiate)

    def _aare(self, result: int, diagnostic: int, information: bytes) -> bytes:
        is_ciphered = self._mechanism is Mechanism.GMAC
        content = tlv(0xA1, tlv(0x06, pdu.CONTEXT_LN_CIPHERED if is_ciphered else pdu.CONTEXT_LN))
        content += tlv(0xA2, tlv(0x02, bytes([result])))
        content += tlv(0xA3, tlv(0xA1, tlv(0x02, bytes([diagnostic]))))
        if is_ciphered and information:
            content += tlv(0xA4, tlv(0x04, TITLE)) + bytes.fromhex("88020780")
            content += tlv(0x89, pdu.MECHANISM + bytes([Mechanism.GMAC]))
            content += tlv(0xAA, tlv(0x80, self._challenge))
        if information:
            content += tlv(0xBE, tlv(0x04, information))
        return tlv(0x61, content)

    def _sealed(self, plain: bytes) -> bytes:
        assert self._meter.spec.keys is not None
        self._own_counter += 1
        control = AUTHENTICATED | ENCRYPTED
        return protect(self._meter.spec.keys, TITLE, self._own_counter, control, plain)

    def _opened(self, request: bytes) -> bytes:
        assert self._meter.spec.keys is not None
        reader = OctetCursor(request)
        reader.octet()
        text = reader.take(reader.length())
        _, counter, plain = unprotect(self._meter.spec.keys, self._client_title, text)
        self._spend(counter)
        return plain

    def _spend(self, counter: int) -> None:
        if counter <= self._meter.counter_seen:
            raise AuthenticationBroken(
                f"counter {counter} after {self._meter.counter_seen}", where="simulator"
            )
        self._meter.counter_seen = counter

    def _prove(self, argument: Data) -> Data:
        keys, value = self._meter.spec.keys, argument.value
        assert keys is not None
        # Made before the service that carries it was sealed, so this counter is the smaller one.
        counter = int.from_bytes(value[1:5], "big")
        if value[5:] != gmac(keys, self._client_title, counter, AUTHENTICATED, self._challenge):
            raise AccessRefusal(AccessResult.READ_WRITE_DENIED)
        self._is_open = True
        self._own_counter += 1
        tag = gmac(keys, TITLE, self._own_counter, AUTHENTICATED, self._client_challenge)
        return octets(bytes([AUTHENTICATED]) + self._own_counter.to_bytes(4, "big") + tag)

    # --- services ------------------------------------------------------------------------------------

    def _service(self, request: bytes, now: datetime) -> bytes:
        kind = request[:2]
        if kind == b"\xc0\x02":
            return self._next_block(request[2], int.from_bytes(request[3:7], "big"))
        if kind in _PIECES:
            return self._piece(request, now)
        if kind not in (b"\xc0\x01", b"\xc1\x01", b"\xc3\x01") or len(request) <= _HEAD_OCTETS:
            return _EXCEPTION
        head, rest = request[:3], request[_HEAD_OCTETS:]
        index = int.from_bytes(request[11:12], "big", signed=True)
        attribute = pdu.Attribute(int.from_bytes(request[3:5], "big"), obis_text(request[5:11]), index)
        answer = bytes([head[0] + 4, 0x01, head[2]])
        if head[0] == 0xC0:
            try:
                return self._got(attribute, rest, now, answer)
            except AccessRefusal as refusal:
                return answer + bytes([1, refusal.code])
        value = decode(rest[1:]) if head[0] == 0xC1 or rest[0] else None
        return answer + self._written(head[0], attribute, value, now)

    def _written(self, tag: int, attribute: pdu.Attribute, value: Data | None, now: datetime) -> bytes:
        """Result of a SET, or result and return value of an ACTION."""
        try:
            if tag == 0xC1:
                assert value is not None
                self._set(attribute, value, now)
                return b"\0"
            made = self._acted(attribute, value, now)
            return b"\0\0" if made is None else b"\0\1\0" + encode(made)
        except AccessRefusal as refusal:
            return bytes([refusal.code]) + b"\0"[: tag == 0xC3]

    def _piece(self, request: bytes, now: datetime) -> bytes:
        """A block of a long SET or ACTION: acknowledged by its number, carried out with the last."""
        tag, kind = request[0], request[:2]
        reader = OctetCursor(request)
        reader.take(3)
        if kind in (b"\xc1\x02", b"\xc3\x04"):
            head = reader.take(9)
            index = int.from_bytes(head[8:], "big", signed=True)
            about = pdu.Attribute(int.from_bytes(head[:2], "big"), obis_text(head[2:8]), index)
            reader.take(1 if tag == 0xC1 else 0)
            self._long = (about, bytearray())
        is_last, number = bool(reader.octet()), reader.take(4)
        about, raw = self._long
        raw += reader.take(reader.length())
        if not is_last:
            return bytes([tag + 4, 0x02 if tag == 0xC1 else 0x04, request[2]]) + number
        result = self._written(tag, about, decode(bytes(raw)), now)
        kind = b"\xc5\x03" if tag == 0xC1 else b"\xc7\x01"
        return kind + request[2:3] + result + (number if tag == 0xC1 else b"")

    def _got(self, attribute: pdu.Attribute, access: bytes, now: datetime, head: bytes) -> bytes:
        selector, selection = (access[1], decode(access[2:])) if access[0] else (0, None)
        raw = encode(self._meter.get(attribute, selector, selection, now))
        size = self._meter.spec.block_octets
        if len(raw) <= size:
            return head + b"\0" + raw
        self._rest = [raw[place : place + size] for place in range(0, len(raw), size)]
        self._block = 0
        return self._next_block(head[2], 0)

    def _next_block(self, invoke: int, received: int) -> bytes:
        if not self._rest or received != self._block:
            return bytes([0xC4, 0x02, invoke, 1]) + received.to_bytes(4, "big") + bytes([1, 19])
        piece = self._rest.pop(0)
        self._block += 1
        head = bytes([0xC4, 0x02, invoke, not self._rest]) + self._block.to_bytes(4, "big") + b"\0"
        return head + encode_length(len(piece)) + piece

    def _set(self, attribute: pdu.Attribute, value: Data, now: datetime) -> None:
        if (attribute.class_id, attribute.obis, attribute.index) != (8, CLOCK, 2):
            raise AccessRefusal(AccessResult.READ_WRITE_DENIED)
        self._meter.set_clock(decode_date_time(value.value, MARKET_ZONE).at, now)

    def _acted(self, method: pdu.Attribute, argument: Data | None, now: datetime) -> Data | None:
        key = (method.class_id, method.obis, method.index)
        if key == (15, ASSOCIATION, 1) and argument is not None:
            return self._prove(argument)
        if key == (8, CLOCK, 6) and argument is not None:
            self._meter.shift_clock(argument.value, now)
            return None
        raise AccessRefusal(AccessResult.OBJECT_UNDEFINED)


class End(Protocol):
    """One connection: octets in, octets out."""

    def receive(self, data: bytes, now: datetime) -> bytes: ...

    def silence(self, now: datetime) -> bytes:
        """The line has been quiet for long enough that what was cut short will not go on."""


class WrapperEnd:
    """The meter behind the TCP wrapper; each client SAP has its association."""

    def __init__(self, meter: DlmsMeter) -> None:
        self._meter = meter
        self._buffer = bytearray()
        self._clients: dict[int, Association] = {}

    def receive(self, data: bytes, now: datetime) -> bytes:
        self._buffer += data
        out = b""
        while len(self._buffer) >= WRAPPER.size:
            version, source, destination, length = WRAPPER.unpack_from(self._buffer)
            if len(self._buffer) < WRAPPER.size + length:
                break
            request = bytes(self._buffer[WRAPPER.size : WRAPPER.size + length])
            del self._buffer[: WRAPPER.size + length]
            association = self._clients.setdefault(source, Association(self._meter, source))
            answer = association.answer(request, now)
            out += WRAPPER.pack(version, destination, source, len(answer)) + answer
        return out

    def silence(self, now: datetime) -> bytes:
        return b""


@dataclass
class HdlcEnd:
    """The meter on an HDLC link: UA, numbered frames, answers in segments that RR fetches.

    It speaks only when spoken to, and executes a frame once: one that comes again gets the answer again.

    Args:
        address: what it answers to, as on a bus; None: to any.
    """

    meter: DlmsMeter
    make_decoder: Callable[[], HdlcDecoder] = HdlcDecoder
    address: HdlcAddress | None = None
    _association: Association | None = None
    _to_send: int = 0
    _expected: int = 0
    _last: bytes = b""  # the frame that the reader has not yet acknowledged
    _segments: bytearray = field(default_factory=bytearray)
    _waiting: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._decoder = self.make_decoder()

    @property
    def is_connected(self) -> bool:
        """Whether a link is open: SNRM came, and no DISC since."""
        return self._association is not None

    def receive(self, data: bytes, now: datetime) -> bytes:
        self._decoder.receive(data)
        return self._answers(now)

    def silence(self, now: datetime) -> bytes:
        self._decoder.silence()
        return self._answers(now)

    def _answers(self, now: datetime) -> bytes:
        out = b""
        while (frame := self._decoder.next_frame()) is not None:
            if self.address is None or frame.destination == self.address.encode():
                out += self._take(frame, now)
        return out

    def _take(self, frame: HdlcFrame, now: datetime) -> bytes:
        if frame.control == SNRM:
            self._begin(Association(self.meter, frame.source[0] >> 1))
            return self._frame(frame, UA, b"")
        if self._association is None:
            return self._frame(frame, DM, b"")
        if frame.control == DISC:
            self._begin(None)
            return self._frame(frame, UA, b"")
        if frame.control >> 5 == self._to_send:
            self._last = b""
        if frame.control & 1:
            return self._polled(frame)
        if frame.control >> 1 & 7 != self._expected:
            return self._last or self._ready(frame)
        self._expected = self._expected + 1 & 7
        self._segments += frame.information
        if frame.is_segmented:
            return self._ready(frame)
        request = bytes(self._segments[3:])
        self._segments.clear()
        whole = LLC_RESPONSE + self._association.answer(request, now)
        size = _HDLC_INFORMATION
        self._waiting = [whole[place : place + size] for place in range(0, len(whole), size)]
        return self._segment(frame)

    def _begin(self, association: Association | None) -> None:
        self._association = association
        self._to_send = self._expected = 0
        self._last = b""
        self._segments.clear()
        self._waiting.clear()

    def _polled(self, frame: HdlcFrame) -> bytes:
        """RR: the next segment, or what the reader has not got."""
        if self._last:
            return self._last
        return self._segment(frame) if self._waiting else self._ready(frame)

    def _segment(self, frame: HdlcFrame) -> bytes:
        piece = self._waiting.pop(0)
        control = self._expected << 5 | 0x10 | self._to_send << 1
        self._to_send = self._to_send + 1 & 7
        self._last = self._frame(frame, control, piece, is_segmented=bool(self._waiting))
        return self._last

    def _ready(self, frame: HdlcFrame) -> bytes:
        return self._frame(frame, self._expected << 5 | 0x10 | RR, b"")

    @staticmethod
    def _frame(asked: HdlcFrame, control: int, information: bytes, *, is_segmented: bool = False) -> bytes:
        return HdlcFrame(asked.source, asked.destination, control, information, is_segmented).encode()


class Bus:
    """Several meters on one line: all hear, the one addressed speaks."""

    def __init__(self, ends: Sequence[End]) -> None:
        self._ends = ends

    def receive(self, data: bytes, now: datetime) -> bytes:
        return b"".join([end.receive(data, now) for end in self._ends])

    def silence(self, now: datetime) -> bytes:
        return b"".join([end.silence(now) for end in self._ends])


class BadLineEnd:
    """What an end hears and says over a bad line; the wrapper's, TCP, is none.

    Args:
        quality: of octets. frame_loss: chance of all that is sent at once to vanish, too.

    Attributes:
        harmed: how often what went through was not what was sent.
    """

    def __init__(self, end: End, quality: LinkQuality, seed: int, *, frame_loss: float = 0.0) -> None:
        self._end = end
        self._line = ImpairedLine(quality, seed, 1, 0.0)
        self._chance = random.Random(seed)
        self._frame_loss = frame_loss
        self.harmed = 0

    def receive(self, data: bytes, now: datetime) -> bytes:
        return self._pass(self._end.receive(self._pass(data, self._line.up), now), self._line.down)

    def silence(self, now: datetime) -> bytes:
        return self._pass(self._end.silence(now), self._line.down)

    def _pass(self, data: bytes, way: Direction) -> bytes:
        through = b"".join(parcel.octets for parcel in way.carry(data, 0.0))
        if data and self._chance.random() < self._frame_loss:
            through = b""
        self.harmed += through != data
        return through
