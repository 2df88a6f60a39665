"""A recorded association: frames without their secrets, and what was asked and answered in them.

A record is a list of frames in both directions, whole wrapper PDUs (they begin with 00 01) or HDLC frames
(7E), before which may stand the lines that opened an optical port (`mode_e.is_opening`). A ciphered service
is followed in the record by its plain text, a bare APDU, so that a record says the same for ever, whatever
becomes of the keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from protocols.dlms.apdu import (
    MECHANISM,
    Attribute,
    Mechanism,
    invoke_number,
    obis_text,
    parse_exception,
)
from protocols.dlms.axdr import Data, OctetCursor, decode, decode_first
from protocols.dlms.client import MAX_ANSWER, NOTIFICATIONS
from protocols.dlms.errors import LimitExceeded, RemoteProtocolError
from protocols.dlms.framing import (
    FLAG,
    LLC_REQUEST,
    LLC_RESPONSE,
    SNRM,
    UA,
    UI,
    WRAPPER,
    HdlcDecoder,
    HdlcFrame,
)
from protocols.dlms.mode_e import is_opening

_PASSWORD_MARK = MECHANISM + bytes([Mechanism.LLS]) + b"\xac"
_AARQ = 0x60
_HEAD_OCTETS = 12  # tag, kind, invoke id, class, OBIS code, index
_MOST_AHEAD = 4  # frames in a row that a record may lack, of eight numbers
_POLL = 0x10
_HDLC_HEAD_OCTETS = 8  # of a frame that carries something, addresses of one octet


def redact(frame: bytes) -> bytes:
    """A sent frame without a password in clear: its octets become zeros, and so does HDLC's checksum over it.

    A password cut by HDLC's segments is taken out with all that each of them carries, the last one, too.
    """
    mark = frame.find(_PASSWORD_MARK)
    if mark >= 0:
        start, end = _password(frame, mark + len(_PASSWORD_MARK))
        kept = frame[:start] + bytes(end - start) + frame[end:]
        # Sixteen bits about a short password are nearly all of it.
        return kept if frame[:1] != bytes([FLAG]) else kept[:-3] + bytes(2) + kept[-1:]
    opened = _hdlc(frame)
    if opened is None or opened.control & 1:
        return frame
    has_all = not opened.is_segmented and opened.information[:3] in (LLC_REQUEST, LLC_RESPONSE)
    return frame if has_all else frame[:_HDLC_HEAD_OCTETS] + bytes(len(frame) - _HDLC_HEAD_OCTETS)


def _password(frame: bytes, place: int) -> tuple[int, int]:
    """First octet of a password and the one after its last; all that is left where its length is none."""
    reader = OctetCursor(frame[place:])
    try:
        reader.length()
        reader.octet()
        count = reader.length()
    except RemoteProtocolError:
        return place, len(frame)
    start = place + reader.place
    return start, min(start + count, len(frame))


def label(frame: bytes) -> int:
    """Tag of the APDU in a frame, HDLC's control octet where it carries none, or the first octet of a line
    that opens a port: 2F of sign-on and identification, 06 of the acknowledgement."""
    if frame[:1] != bytes([FLAG]):
        at = WRAPPER.size if frame[:2] == b"\0\1" else 0
        return frame[at] if len(frame) > at else 0
    opened = _hdlc(frame)
    if opened is None:
        return 0
    information = opened.information
    has_apdu = information[:3] in (LLC_REQUEST, LLC_RESPONSE) and len(information) > 3
    return information[3] if has_apdu else opened.control


def _hdlc(frame: bytes) -> HdlcFrame | None:
    if frame[:1] != bytes([FLAG]):
        return None
    decoder = HdlcDecoder()
    decoder.receive(frame)
    return decoder.next_frame()


@dataclass(frozen=True, slots=True)
class Recorded:
    """One frame of a record."""

    at: datetime
    is_sent: bool
    octets: bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """Octets in a row that one frame of a record carries: the frame's number in the record, and the first's
    place in the frame, both from 0."""

    frame: int
    first: int
    count: int


def cut(pieces: Iterable[Piece], first: int, count: int) -> tuple[Piece, ...]:
    """The part of octets that lie in pieces, from `first` (0 for the first of all) on."""
    found = []
    for piece in pieces:
        skipped = min(first, piece.count)
        taken = min(piece.count - skipped, count)
        first, count = first - skipped, count - taken
        if taken:
            found.append(Piece(piece.frame, piece.first + skipped, taken))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Apdu:
    """An APDU of a record, and the frames that it lies in."""

    at: datetime
    is_sent: bool
    octets: bytes
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A GET and what became of it.

    Attributes:
        code: the meter's data-access-result, 0 with a value.
        blocks: APDUs that the answer came in.
        problem: why an answer gives no value, or "". is_exception: the meter does not do the service so.
        surplus: octets behind the value, or behind the pieces of blocks, that were passed over.
        pieces: where the octets of the value, type included, lie in the record.
    """

    attribute: Attribute
    selector: int
    selection: Data | None
    sent_at: datetime
    received_at: datetime
    value: Data | None = None
    code: int = 0
    blocks: int = 1
    problem: str = ""
    pieces: tuple[Piece, ...] = ()
    surplus: int = 0
    is_exception: bool = False


@dataclass(slots=True)
class _Asked:
    attribute: Attribute
    selector: int
    selection: Data | None
    at: datetime
    invoke: int | None
    raw: bytearray = field(default_factory=bytearray)
    pieces: list[Piece] = field(default_factory=list)
    blocks: int = 0
    surplus: int = 0

    @property
    def about(self) -> tuple[Attribute, int, Data | None, datetime]:
        return self.attribute, self.selector, self.selection, self.at


NOTIFICATION, REPEATED = "notification", "repeated answer"
"""What comes between an answer and the next, and is passed over."""
OnStray = Callable[[str], None]


@dataclass(slots=True)
class _Link:
    """One direction of an HDLC link."""

    segments: bytearray = field(default_factory=bytearray)
    pieces: list[Piece] = field(default_factory=list)
    last_sequence: int = -1
    has_gap: bool = False
    repeats: int = 0


def apdus(record: Iterable[Recorded], on_stray: OnStray | None = None) -> Iterable[Apdu]:
    """The APDUs of a record with their times and directions; what is none is passed over.

    Args:
        on_stray: gets REPEATED for each frame that the meter sent again.
    """
    links = {True: _Link(), False: _Link()}
    for number, frame in enumerate(record):
        octets = frame.octets
        if octets[:1] == bytes([FLAG]):
            opened = _hdlc(octets)
            link = links[frame.is_sent]
            repeats = link.repeats
            whole = None if opened is None else _joined(opened, number, octets, link)
            if link.repeats > repeats and not frame.is_sent and on_stray is not None:
                on_stray(REPEATED)
            if whole is not None:
                yield Apdu(frame.at, frame.is_sent, *whole)
        elif octets and not is_opening(octets):
            start = WRAPPER.size if octets[:2] == b"\0\1" else 0
            piece = Piece(number, start, max(len(octets) - start, 0))
            yield Apdu(frame.at, frame.is_sent, octets[start:], (piece,))


def _joined(
    frame: HdlcFrame, number: int, octets: bytes, link: _Link
) -> tuple[bytes, tuple[Piece, ...]] | None:
    # Flag, two octets of format and length, what the length counts; its last two are the checksum.
    end = 1 + (int.from_bytes(octets[1:3], "big") & 0x07FF) - 2
    piece = Piece(number, end - len(frame.information), len(frame.information))
    if frame.control & 1:
        kind = frame.control & ~_POLL
        if kind == UI & ~_POLL and frame.information[:3] in (LLC_REQUEST, LLC_RESPONSE):
            return frame.information[3:], cut([piece], 3, piece.count)  # unnumbered: a push
        if kind in (SNRM & ~_POLL, UA & ~_POLL):  # numbering begins again
            link.last_sequence, link.has_gap = -1, False
            link.segments.clear()
            link.pieces.clear()
        return None
    sequence = frame.control >> 1 & 7
    ahead = sequence - link.last_sequence & 7
    if link.last_sequence >= 0 and (not ahead or ahead > _MOST_AHEAD):
        link.repeats += 1
        return None  # sent again, or come late
    # A frame that the record lacks takes with it the whole APDU that it was part of; one that lacks its first
    # segment has no LLC header.
    link.has_gap |= bool(link.segments) and ahead != 1
    link.last_sequence = sequence
    link.segments += frame.information
    link.pieces.append(piece)
    if frame.is_segmented:
        return None
    whole = b"" if link.has_gap else bytes(link.segments)
    pieces = cut(link.pieces, len(LLC_RESPONSE), len(whole))
    link.segments.clear()
    link.pieces.clear()
    link.has_gap = False
    return (whole[3:], pieces) if whole[:3] in (LLC_REQUEST, LLC_RESPONSE) else None


def exchanges(
    record: Iterable[Recorded], tolerate_trailing: bool = False, on_stray: OnStray | None = None
) -> Iterable[Exchange]:
    """The GETs of a record that were answered, in order. Pure; raises nothing for what a meter may send.

    Args:
        tolerate_trailing: octets behind a value are counted, not refused.
        on_stray: gets NOTIFICATION or REPEATED for each APDU that came in between.
    """
    asked: _Asked | None = None
    stray = on_stray or _nothing
    heard = b""
    for apdu in apdus(record, on_stray):
        octets = apdu.octets
        if apdu.is_sent:
            asked = _asked(octets, apdu.at, asked)
        elif octets[:1] and octets[0] in NOTIFICATIONS:
            stray(NOTIFICATION)
        elif octets == heard and _is_old(octets, asked):
            stray(REPEATED)
        else:
            heard = octets
            if asked is None:
                continue
            if octets[:1] == b"\xd8":
                told = f"the meter answers with an exception: {parse_exception(octets).words}"
                blocks = asked.blocks + 1
                yield Exchange(*asked.about, apdu.at, problem=told, blocks=blocks, is_exception=True)
                asked = None
            elif octets[:1] == b"\xc4" and invoke_number(octets) == asked.invoke:
                found = _answered(apdu, asked, tolerate_trailing)
                if found is not None:
                    yield found
                    asked = None


def _is_old(octets: bytes, asked: _Asked | None) -> bool:
    """Whether an answer that came before is none to what is asked now, though it may look so."""
    if octets[:1] == b"\x61":
        return True
    if octets[:1] != b"\xc4":
        return False
    is_of_this = asked is not None and invoke_number(octets) == asked.invoke
    return not is_of_this or (asked is not None and asked.blocks > 0)


def _nothing(_: str) -> None:
    """What came in between is of no interest."""


def _asked(apdu: bytes, at: datetime, before: _Asked | None) -> _Asked | None:
    if apdu[:2] == b"\xc0\x02" or apdu[:1] in (b"\xc8", b"\xdb"):
        return before  # the next block of it; the same in cipher
    if apdu[:2] != b"\xc0\x01" or len(apdu) <= _HEAD_OCTETS:
        return None
    class_id, index = int.from_bytes(apdu[3:5], "big"), int.from_bytes(apdu[11:12], "big", signed=True)
    attribute, invoke = Attribute(class_id, obis_text(apdu[5:11]), index), invoke_number(apdu)
    if not apdu[_HEAD_OCTETS]:
        return _Asked(attribute, 0, None, at, invoke)
    try:
        selection = decode(apdu[_HEAD_OCTETS + 2 :])
    except RemoteProtocolError:
        return None
    return _Asked(attribute, apdu[_HEAD_OCTETS + 1], selection, at, invoke)


def _answered(apdu: Apdu, asked: _Asked, tolerate_trailing: bool) -> Exchange | None:
    """The exchange, once its answer is whole."""
    asked.blocks += 1
    about = (*asked.about, apdu.at)
    try:
        code, raw = _take(apdu, asked)
        if code:
            return Exchange(*about, code=code, blocks=asked.blocks)
        if raw is None:
            return None
        value, left = decode_first(raw)
        asked.surplus += left
        if asked.surplus and not tolerate_trailing:
            raise RemoteProtocolError(
                f"{asked.surplus} surplus octets behind the value, or behind blocks of it",
                where=asked.attribute.obis,
            )
    except RemoteProtocolError as error:
        return Exchange(*about, blocks=asked.blocks, problem=str(error))
    pieces, surplus = tuple(asked.pieces), asked.surplus
    return Exchange(*about, value, blocks=asked.blocks, pieces=pieces, surplus=surplus)


def _take(apdu: Apdu, asked: _Asked) -> tuple[int, bytes | None]:
    """Result code, and the whole raw value once it is there."""
    reader = OctetCursor(apdu.octets)
    kind = reader.take(3)[1]
    if kind == 0x01:
        if reader.octet():
            return reader.octet(), None
        asked.pieces += cut(apdu.pieces, reader.place, reader.left)
        return 0, reader.take(reader.left)
    if kind != 0x02:
        raise RemoteProtocolError(f"GET response of kind {kind:02X}", where=asked.attribute.obis)
    is_last, number = reader.octet(), int.from_bytes(reader.take(4), "big")
    if reader.octet():
        return reader.octet(), None
    if number != asked.blocks:
        raise RemoteProtocolError(f"block {number} instead of {asked.blocks}", where=asked.attribute.obis)
    block = reader.take(reader.length())
    asked.surplus += reader.left
    asked.raw += block
    asked.pieces += cut(apdu.pieces, reader.place - len(block), len(block))
    if len(asked.raw) > MAX_ANSWER:
        raise LimitExceeded("blocks without end", where=asked.attribute.obis)
    return 0, bytes(asked.raw) if is_last else None
