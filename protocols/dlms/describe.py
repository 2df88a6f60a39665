"""Frames of a capture in words, for people who look for what went wrong. No secrets are shown."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import Any

from protocols.dlms import apdu as pdu
from protocols.dlms.axdr import Data, Reader, Tag, decode
from protocols.dlms.errors import RemoteProtocolError
from protocols.dlms.framing import (
    FLAG,
    LLC_REQUEST,
    LLC_RESPONSE,
    WRAPPER,
    WRAPPER_VERSION,
    HdlcDecoder,
    HdlcFrame,
)
from protocols.dlms.mode_e import opening_frame
from protocols.dlms.objects import known_object
from protocols.dlms.transcript import redact

Record = dict[str, Any]

_NAMES = {
    0x0F: "data notification",
    0x60: "association request",
    0x61: "association answer",
    0x62: "release request",
    0x63: "release answer",
    0xC0: "get request",
    0xC1: "set request",
    0xC3: "action request",
    0xC4: "get response",
    0xC5: "set response",
    0xC7: "action response",
    0xC8: "ciphered get request",
    0xC9: "ciphered set request",
    0xCB: "ciphered action request",
    0xCC: "ciphered get response",
    0xCD: "ciphered set response",
    0xCF: "ciphered action response",
    0xD8: "exception",
    0xDB: "general ciphering",
}
_CONTROLS = {0x93: "SNRM", 0x73: "UA", 0x53: "DISC", 0x1F: "DM", 0x97: "FRMR"}


def describe(octets: bytes) -> Iterator[Record]:
    """Each frame with its offset; octets that are no frame are one error with place, count and reason.

    Whole wrapper PDUs and HDLC frames one after the other, or one bare APDU; the lines of mode E that open an
    optical port may stand before them, with or without their parity.
    """
    if octets[:1] and octets[0] in _NAMES:
        yield {"offset": 0, "framing": None, **_apdu(octets)}
        return
    place, bad_from = 0, None
    while place < len(octets):
        found = _frame(octets, place)
        if found is None:
            bad_from = place if bad_from is None else bad_from
            place += 1
            continue
        if bad_from is not None:
            yield _error(octets, bad_from, place)
            bad_from = None
        record, size = found
        yield {"offset": place, **record}
        place += size
    if bad_from is not None:
        yield _error(octets, bad_from, len(octets))


def shown(data: Data) -> Any:
    """A value as JSON and a database have it: octets in hexadecimal, lists without their types, numbers that
    are none as text."""
    if data.tag in (Tag.ARRAY, Tag.STRUCTURE):
        return [shown(element) for element in data.value]
    if isinstance(data.value, bytes):
        return data.value.hex()
    if isinstance(data.value, str):
        return data.value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    if isinstance(data.value, float) and not isfinite(data.value):
        return str(data.value)
    return data.value


def _error(octets: bytes, start: int, end: int) -> Record:
    return {
        "offset": start,
        "error": {
            "reason": "no frame of wrapper or HDLC begins here",
            "count": end - start,
            "octets": redact(octets[start:end]).hex(),
        },
    }


def _frame(octets: bytes, place: int) -> tuple[Record, int] | None:
    if octets[place] == FLAG:
        return _hdlc(octets, place)
    opening = opening_frame(octets, place)
    if opening is not None:
        name, text, size = opening
        return {"framing": "mode-e", "frame": name, "text": text}, size
    if len(octets) - place < WRAPPER.size:
        return None
    version, source, destination, length = WRAPPER.unpack_from(octets, place)
    size = WRAPPER.size + length
    if version != WRAPPER_VERSION or not length or len(octets) - place < size:
        return None
    about = {"framing": "wrapper", "source": source, "destination": destination}
    return about | _apdu(redact(octets[place : place + size])[WRAPPER.size :]), size


def _hdlc(octets: bytes, place: int) -> tuple[Record, int] | None:
    if len(octets) - place < 3:
        return None
    size = (int.from_bytes(octets[place + 1 : place + 3], "big") & 0x07FF) + 2
    raw = octets[place : place + size]
    decoder = HdlcDecoder()
    decoder.receive(raw)
    frame = decoder.next_frame()
    if frame is None or frame.encode() != raw:
        return None
    # Two frames may share the flag between them.
    is_shared = place + size < len(octets) and octets[place + size] & 0xF0 == 0xA0
    return _hdlc_record(frame), size - is_shared


def _hdlc_record(frame: HdlcFrame) -> Record:
    record: Record = {
        "framing": "hdlc",
        "source": frame.source.hex(),
        "destination": frame.destination.hex(),
        "control": f"{frame.control:02X}",
        "is_segmented": frame.is_segmented,
    }
    if frame.control & 1:
        kind = "RR" if frame.control & 0x0F == 1 else "control"
        return record | {"frame": _CONTROLS.get(frame.control, kind), "information": frame.information.hex()}
    information = frame.information
    if frame.is_segmented or information[:3] not in (LLC_REQUEST, LLC_RESPONSE):
        return record | {"frame": "segment", "octets": len(information)}
    return record | _apdu(redact(b"\0" * 8 + information)[11:])


def _apdu(apdu: bytes) -> Record:
    name = _NAMES.get(apdu[0], f"unknown {apdu[0]:02X}") if apdu else "empty"
    record: Record = {"apdu": name, "octets": len(apdu)}
    try:
        return record | _content(apdu)
    except RemoteProtocolError as error:
        return record | {"error": {"reason": str(error), "octets": apdu.hex()}}


def _content(apdu: bytes) -> Record:
    tag = apdu[:1]
    if tag == b"\x61":
        answer = pdu.parse_aare(apdu)
        return {"result": answer.result, "diagnostic": answer.diagnostic, "title": answer.title.hex()}
    if tag in (b"\xc0", b"\xc1", b"\xc3") and apdu[1:2] == b"\x01":
        return _request(Reader(apdu))
    if tag == b"\xc0":
        return {"next_block": int.from_bytes(apdu[3:7], "big")}
    if tag == b"\xc4":
        return _get_response(Reader(apdu))
    if tag in (b"\xc5", b"\xc7") and len(apdu) > 3:
        return {"result": pdu.result_name(apdu[3])}
    return {}


def _request(reader: Reader) -> Record:
    tag = reader.take(3)[0]
    head = reader.take(9)
    record: Record = {
        "class": int.from_bytes(head[:2], "big"),
        "obis": pdu.obis_text(head[2:8]),
        "method" if tag == 0xC3 else "attribute": int.from_bytes(head[8:], "big", signed=True),
    }
    known = known_object(record["obis"])
    if known is not None:
        record["object"] = known.name
    if reader.octet():
        if tag != 0xC3:
            record["selector"] = reader.octet()
        # The argument of an ACTION may be a proof, and is not needed to follow a capture.
        return record if tag == 0xC3 else record | {"selection": shown(reader.data())}
    return record


def _get_response(reader: Reader) -> Record:
    kind = reader.take(3)[1]
    if kind == 0x01:
        if reader.octet():
            return {"result": pdu.result_name(reader.octet())}
        return {"value": shown(decode(reader.take(reader.left)))}
    if kind != 0x02:
        return {}
    is_last, number = bool(reader.octet()), int.from_bytes(reader.take(4), "big")
    if reader.octet():
        return {"block": number, "result": pdu.result_name(reader.octet())}
    return {"block": number, "is_last": is_last, "raw": reader.take(reader.length()).hex()}
