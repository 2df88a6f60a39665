"""Application PDUs: association, GET, SET, ACTION, exceptions (reference "dlms_cosem", sections 3 and 4)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from protocols.dlms.axdr import Data, OctetCursor, encode, encode_length
from protocols.dlms.errors import RemoteProtocolError

CONTEXT_LN = bytes.fromhex("60857405080101")
CONTEXT_LN_CIPHERED = bytes.fromhex("60857405080103")
MECHANISM = bytes.fromhex("608574050802")
DLMS_VERSION = 6
# Block transfer for GET, SET, ACTION; GET, SET, selective access, ACTION.
CONFORMANCE = bytes.fromhex("001C1D")
INVOKE = 0xC1  # invoke id 1, confirmed, high priority
MOST_INVOKES = 15
OBIS_OCTETS = 6


class Mechanism(IntEnum):
    """How the client proves itself. Others are refused: not seen on a meter here."""

    NONE = 0
    LLS = 1
    GMAC = 5


class AccessResult(IntEnum):
    """Data-access-result; values that are not listed are shown by number."""

    SUCCESS = 0
    HARDWARE_FAULT = 1
    TEMPORARY_FAILURE = 2
    READ_WRITE_DENIED = 3
    OBJECT_UNDEFINED = 4
    OBJECT_CLASS_INCONSISTENT = 9
    OBJECT_UNAVAILABLE = 11
    TYPE_UNMATCHED = 12
    SCOPE_OF_ACCESS_VIOLATED = 13
    DATA_BLOCK_UNAVAILABLE = 14
    LONG_GET_ABORTED = 15
    NO_LONG_GET_IN_PROGRESS = 16
    LONG_SET_ABORTED = 17
    NO_LONG_SET_IN_PROGRESS = 18
    DATA_BLOCK_NUMBER_INVALID = 19
    OTHER_REASON = 250


def result_name(code: int) -> str:
    """Name of a data-access-result."""
    try:
        return AccessResult(code).name.lower()
    except ValueError:
        return f"result {code}"


class ActionResult(IntEnum):
    """What became of an ACTION; other numbers than those of a data-access-result mean other things."""

    SUCCESS = 0
    HARDWARE_FAULT = 1
    TEMPORARY_FAILURE = 2
    READ_WRITE_DENIED = 3
    OBJECT_UNDEFINED = 4
    OBJECT_CLASS_INCONSISTENT = 9
    OBJECT_UNAVAILABLE = 11
    TYPE_UNMATCHED = 12
    SCOPE_OF_ACCESS_VIOLATED = 13
    DATA_BLOCK_UNAVAILABLE = 14
    LONG_ACTION_ABORTED = 15
    NO_LONG_ACTION_IN_PROGRESS = 16
    OTHER_REASON = 250


def action_result_name(code: int) -> str:
    """Name of an action-result."""
    try:
        return ActionResult(code).name.lower()
    except ValueError:
        return f"result {code}"


_STATE_ERRORS = {1: "service not allowed", 2: "service unknown"}
_SERVICE_ERRORS = {
    1: "operation not possible",
    2: "service not supported",
    3: "other reason",
    4: "PDU too long",
    5: "deciphering error",
    6: "invocation counter error",
}
_DECIPHERING, _COUNTER = 5, 6


@dataclass(frozen=True)
class ExceptionAnswer:
    """An exception response. `counter`: the meter's own, which a counter error may state; else None."""

    octets: bytes
    state_error: int
    service_error: int
    counter: int | None

    @property
    def is_key_fault(self) -> bool:
        """The meter could not decipher what we sent."""
        return self.service_error == _DECIPHERING

    @property
    def is_counter_fault(self) -> bool:
        return self.service_error == _COUNTER

    @property
    def words(self) -> str:
        """For people: service unknown, service not supported (d8 02 02)."""
        state = _STATE_ERRORS.get(self.state_error, f"state error {self.state_error}")
        service = _SERVICE_ERRORS.get(self.service_error, f"service error {self.service_error}")
        counter = "" if self.counter is None else f" {self.counter}"
        return f"{state}, {service}{counter} ({self.octets.hex(' ')})"


def parse_exception(apdu: bytes) -> ExceptionAnswer:
    """Read an exception response (D8); what it lacks is 0."""
    state, service = (*apdu[1:3], 0, 0)[:2]
    is_counter = service == _COUNTER and len(apdu) == 7
    return ExceptionAnswer(apdu, state, service, int.from_bytes(apdu[3:7], "big") if is_counter else None)


@dataclass(frozen=True)
class Attribute:
    """An attribute (or method) of an object: class, OBIS code, number."""

    class_id: int
    obis: str
    index: int

    def encode(self) -> bytes:
        """Class, six octets of OBIS, index."""
        index = self.index.to_bytes(1, "big", signed=self.index < 0)
        return self.class_id.to_bytes(2, "big") + obis_octets(self.obis) + index


def obis_octets(obis: str) -> bytes:
    """Six octets of an OBIS code written A-B:C.D.E.F, A-B:C.D.E (F = 255) or with dots only."""
    parts = [int(part) for part in obis.replace("-", ".").replace(":", ".").split(".")]
    if len(parts) == 5:
        parts.append(255)
    if len(parts) != OBIS_OCTETS or not all(0 <= part <= 255 for part in parts):
        raise ValueError(f"{obis!r} is no OBIS code; write it as 1-0:1.8.0")
    return bytes(parts)


def obis_text(octets: bytes) -> str:
    """An OBIS code as A-B:C.D.E.F."""
    a, b, c, d, e, f = octets
    return f"{a}-{b}:{c}.{d}.{e}.{f}"


def tlv(tag: int, content: bytes) -> bytes:
    """Tag, length, content."""
    return bytes([tag]) + encode_length(len(content)) + content


def initiate_request(max_apdu: int) -> bytes:
    """Plain InitiateRequest."""
    head = bytes([0x01, 0x00, 0x00, 0x00, DLMS_VERSION])
    return head + b"\x5f\x1f\x04\x00" + CONFORMANCE + max_apdu.to_bytes(2, "big")


def aarq(mechanism: Mechanism, user_information: bytes, secret: bytes = b"", title: bytes = b"") -> bytes:
    """Association request; `secret` is the password (LLS) or our challenge (GMAC)."""
    context = CONTEXT_LN_CIPHERED if mechanism is Mechanism.GMAC else CONTEXT_LN
    content = tlv(0xA1, tlv(0x06, context))
    if title:
        content += tlv(0xA6, tlv(0x04, title))
    if mechanism is not Mechanism.NONE:
        content += bytes.fromhex("8A020780")
        content += tlv(0x8B, MECHANISM + bytes([mechanism]))
        content += tlv(0xAC, tlv(0x80, secret))
    content += tlv(0xBE, tlv(0x04, user_information))
    return tlv(0x60, content)


@dataclass(frozen=True)
class AssociationAnswer:
    """What an AARE says; `diagnostic` 0E = authentication required, that is, HLS goes on."""

    result: int
    diagnostic: int
    title: bytes
    challenge: bytes
    user_information: bytes


def parse_aare(apdu: bytes) -> AssociationAnswer:
    """Read an association answer; unknown parts are passed over."""
    reader = OctetCursor(apdu)
    if reader.octet() != 0x61:
        raise RemoteProtocolError(f"{apdu[:1].hex()} instead of an AARE (61)", where="association")
    body = OctetCursor(reader.take(reader.length()))
    found: dict[int, bytes] = {}
    while body.left:
        tag = body.octet()
        found[tag] = body.take(body.length())
    if 0xA2 not in found:
        raise RemoteProtocolError("no result in the AARE", where="association")
    challenge = found.get(0xAA, b"")
    information = found.get(0xBE, b"")
    return AssociationAnswer(
        result=found[0xA2][-1] if found[0xA2] else 0xFF,
        diagnostic=found[0xA3][-1] if found.get(0xA3) else 0,
        title=found[0xA4][2:] if 0xA4 in found else b"",
        challenge=_inner(challenge) if challenge else b"",
        user_information=_inner(information) if information else b"",
    )


def _inner(content: bytes) -> bytes:
    reader = OctetCursor(content)
    reader.octet()
    return reader.take(reader.length())


@dataclass(frozen=True)
class InitiateAnswer:
    """Negotiated conformance and the largest APDU that the meter takes."""

    conformance: bytes
    max_apdu: int


def parse_initiate(apdu: bytes) -> InitiateAnswer:
    """Read a plain InitiateResponse."""
    reader = OctetCursor(apdu)
    tag = reader.octet()
    if tag == 0x0E:
        raise RemoteProtocolError(f"the meter refuses to initiate: {apdu.hex(' ')}", where="association")
    if tag != 0x08:
        raise RemoteProtocolError(f"{tag:02X} instead of an InitiateResponse (08)", where="association")
    if reader.octet():
        reader.octet()  # quality of service, negotiated by nobody
    reader.octet()
    head = reader.take(4)
    if head[:2] != b"\x5f\x1f":
        raise RemoteProtocolError("no conformance block", where="association")
    return InitiateAnswer(reader.take(3), int.from_bytes(reader.take(2), "big"))


def numbered(request: bytes, invoke: int) -> bytes:
    """A GET, SET or ACTION, or a block of one, under another invoke id than 1."""
    return request[:2] + bytes([request[2] & ~MOST_INVOKES | invoke]) + request[3:]


def invoke_number(service: bytes) -> int | None:
    """Invoke id of a service; an answer has that of its request. None: it is too short for one."""
    return service[2] & MOST_INVOKES if len(service) > 2 else None


def get_request(attribute: Attribute, selector: int = 0, selection: Data | None = None) -> bytes:
    """GET of one attribute, with selective access when a selection is given."""
    access = bytes([1, selector]) + encode(selection) if selection is not None else b"\x00"
    return bytes([0xC0, 0x01, INVOKE]) + attribute.encode() + access


def get_next(block: int) -> bytes:
    """GET of the next block: the number of the one just received."""
    return bytes([0xC0, 0x02, INVOKE]) + block.to_bytes(4, "big")


def set_request(attribute: Attribute, value: Data) -> bytes:
    """SET of one attribute."""
    return bytes([0xC1, 0x01, INVOKE]) + attribute.encode() + b"\x00" + encode(value)


def set_first_block(attribute: Attribute, is_last: bool, raw: bytes) -> bytes:
    """First block of a long SET."""
    head = bytes([0xC1, 0x02, INVOKE]) + attribute.encode() + b"\x00"
    return head + bytes([is_last]) + (1).to_bytes(4, "big") + encode_length(len(raw)) + raw


def set_block(number: int, is_last: bool, raw: bytes) -> bytes:
    """Further block of a long SET."""
    head = bytes([0xC1, 0x03, INVOKE, is_last])
    return head + number.to_bytes(4, "big") + encode_length(len(raw)) + raw


def action_request(method: Attribute, argument: Data | None) -> bytes:
    """ACTION with or without an argument."""
    tail = b"\x01" + encode(argument) if argument is not None else b"\x00"
    return bytes([0xC3, 0x01, INVOKE]) + method.encode() + tail


def action_first_block(method: Attribute, is_last: bool, raw: bytes) -> bytes:
    """First block of an ACTION with a long argument."""
    head = bytes([0xC3, 0x04, INVOKE]) + method.encode()
    return head + bytes([is_last]) + (1).to_bytes(4, "big") + encode_length(len(raw)) + raw


def action_block(number: int, is_last: bool, raw: bytes) -> bytes:
    """Further block of an ACTION with a long argument."""
    head = bytes([0xC3, 0x06, INVOKE, is_last])
    return head + number.to_bytes(4, "big") + encode_length(len(raw)) + raw


def action_next(block: int) -> bytes:
    """Ask for the next block of an ACTION's answer."""
    return bytes([0xC3, 0x02, INVOKE]) + block.to_bytes(4, "big")


RELEASE_REQUEST = bytes.fromhex("6203800100")
