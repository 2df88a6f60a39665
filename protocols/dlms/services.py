"""One APDU in words: what it asks, what it answers, by the names that the service itself gives its results.

What needs several APDUs (blocks) is joined by `Joiner`, which a walk over a capture holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from protocols.dlms import apdu as pdu
from protocols.dlms.axdr import Data, OctetCursor, Tag, decode
from protocols.dlms.errors import RemoteProtocolError
from protocols.dlms.objects import known_object

Record = dict[str, Any]

NAMES = {
    0x0F: "data notification",
    0x60: "association request",
    0x61: "association answer",
    0x62: "release request",
    0x63: "release answer",
    0xC0: "get request",
    0xC1: "set request",
    0xC2: "event notification",
    0xC3: "action request",
    0xC4: "get response",
    0xC5: "set response",
    0xC7: "action response",
    0xC8: "ciphered get request",
    0xC9: "ciphered set request",
    0xCA: "ciphered event notification",
    0xCB: "ciphered action request",
    0xCC: "ciphered get response",
    0xCD: "ciphered set response",
    0xCF: "ciphered action response",
    0xD8: "exception",
    0xDB: "general ciphering",
    0xE0: "general block transfer",
}
# A capture may hold any number of answers that were never ended.
_MOST_OPEN = 64
_MOST_OCTETS = 8 << 20


@dataclass(slots=True)
class _Blocks:
    raw: bytearray = field(default_factory=bytearray)
    count: int = 0
    has_gap: bool = False


class Joiner:
    """Blocks of answers, joined by who sends them and by the number of their request."""

    def __init__(self) -> None:
        self._open: dict[tuple[Any, ...], _Blocks] = {}

    def joined(
        self, key: tuple[Any, ...], number: int, is_last: bool, raw: bytes
    ) -> tuple[bytes, int] | None:
        """Take a block; what it ends with those before it, and how many they are. None: more is to come, or
        one is missing."""
        if number == 1:
            self._open.pop(key, None)
        blocks = self._open.setdefault(key, _Blocks())
        blocks.has_gap |= number != blocks.count + 1 or len(blocks.raw) + len(raw) > _MOST_OCTETS
        if not blocks.has_gap:
            blocks.raw += raw
        blocks.count = number
        if len(self._open) > _MOST_OPEN:
            del self._open[next(iter(self._open))]
        if not is_last:
            return None
        self._open.pop(key, None)
        return None if blocks.has_gap else (bytes(blocks.raw), blocks.count)


def apdu_record(apdu: bytes, sender: Any, joiner: Joiner) -> Record:
    """An APDU in words.

    Args:
        sender: whoever sent it, as the framing names them; blocks are joined by it.
    """
    name = NAMES.get(apdu[0], f"unknown {apdu[0]:02X}") if apdu else "empty"
    record: Record = {"apdu": name, "octets": len(apdu)}
    try:
        return record | _content(apdu, sender, joiner)
    except RemoteProtocolError as error:
        return record | {"error": {"reason": str(error), "octets": apdu.hex()}}


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


def _content(apdu: bytes, sender: Any, joiner: Joiner) -> Record:
    match apdu[:1]:
        case b"\x61":
            answer = pdu.parse_aare(apdu)
            return {"result": answer.result, "diagnostic": answer.diagnostic, "title": answer.title.hex()}
        case b"\xc0" | b"\xc1" | b"\xc3":
            return _request(OctetCursor(apdu))
        case b"\xc4":
            return _get_response(OctetCursor(apdu), sender, joiner)
        case b"\xc5":
            return _set_response(OctetCursor(apdu))
        case b"\xc7":
            return _action_response(OctetCursor(apdu), sender, joiner)
        case b"\xd8":
            return _exception(apdu)
        case b"\x0f":
            return _push(OctetCursor(apdu))
        case b"\xc2":
            return _event(OctetCursor(apdu))
        case b"\xe0":
            return _general_block(OctetCursor(apdu), sender, joiner)
    return {}


# --- requests ----------------------------------------------------------------------------------------------


def _request(reader: OctetCursor) -> Record:
    tag, kind, _ = reader.take(3)
    if kind == 0x01:
        return _described(reader, tag)
    if kind == 0x02 and tag != 0xC1:
        return {"next_block": int.from_bytes(reader.take(4), "big")}
    if kind == 0x02 or (kind == 0x04 and tag == 0xC3):  # the first block of a long one
        record = _object(reader, tag)
        if tag == 0xC1 and reader.octet():
            record["selector"] = reader.octet()
            record["selection"] = shown(reader.data())
        return record | _sent_block(reader)
    if (tag, kind) in ((0xC1, 0x03), (0xC3, 0x06)):
        return _sent_block(reader)
    if kind == 0x03 and tag == 0xC0:
        return {"objects": [_described(reader, tag) for _ in range(_count(reader))]}
    return {"kind": kind}


def _described(reader: OctetCursor, tag: int) -> Record:
    record = _object(reader, tag)
    if reader.octet():
        if tag != 0xC3:
            record["selector"] = reader.octet()
        # The argument of an ACTION may be a proof, and is not needed to follow a capture.
        return record if tag == 0xC3 else record | {"selection": shown(reader.data())}
    return record


def _object(reader: OctetCursor, tag: int) -> Record:
    head = reader.take(9)
    record: Record = {
        "class": int.from_bytes(head[:2], "big"),
        "obis": pdu.obis_text(head[2:8]),
        "method" if tag == 0xC3 else "attribute": int.from_bytes(head[8:], "big", signed=True),
    }
    known = known_object(record["obis"])
    if known is not None:
        record["object"] = known.name
    return record


def _sent_block(reader: OctetCursor) -> Record:
    """A block of what is written: its octets may be a key, and are not shown."""
    is_last, number = bool(reader.octet()), int.from_bytes(reader.take(4), "big")
    return {"block": number, "is_last": is_last, "block_octets": reader.length()}


# --- responses ---------------------------------------------------------------------------------------------


def _get_response(reader: OctetCursor, sender: Any, joiner: Joiner) -> Record:
    _, kind, invoke = reader.take(3)
    if kind == 0x01:
        return _got(reader)
    if kind == 0x03:
        return {"results": [_got(reader, is_list=True) for _ in range(_count(reader))]}
    if kind != 0x02:
        return {"kind": kind}
    is_last, number = bool(reader.octet()), int.from_bytes(reader.take(4), "big")
    if reader.octet():
        return {"block": number, "result": pdu.result_name(reader.octet())}
    return _block(reader, (sender, 0xC4, invoke), number, is_last, joiner)


def _got(reader: OctetCursor, *, is_list: bool = False) -> Record:
    """A value, or why there is none."""
    if reader.octet():
        return {"result": pdu.result_name(reader.octet())}
    return {"value": shown(reader.data() if is_list else decode(reader.take(reader.left)))}


def _block(reader: OctetCursor, key: tuple[Any, ...], number: int, is_last: bool, joiner: Joiner) -> Record:
    raw = reader.take(reader.length())
    record: Record = {"block": number, "is_last": is_last, "raw": raw.hex()}
    if reader.left:
        record["surplus_octets"] = reader.left
    found = joiner.joined(key, number, is_last, raw)
    if found is not None:
        whole, count = found
        record |= {"blocks": count, "value": shown(decode(whole))}
    return record


def _set_response(reader: OctetCursor) -> Record:
    _, kind, _ = reader.take(3)
    if kind == 0x01:
        return {"result": pdu.result_name(reader.octet())}
    if kind == 0x02:
        return {"taken_block": int.from_bytes(reader.take(4), "big")}
    if kind == 0x03:
        result = pdu.result_name(reader.octet())
        return {"result": result, "taken_block": int.from_bytes(reader.take(4), "big")}
    if kind == 0x05:
        return {"results": [pdu.result_name(reader.octet()) for _ in range(_count(reader))]}
    return {"kind": kind}


def _action_response(reader: OctetCursor, sender: Any, joiner: Joiner) -> Record:
    _, kind, invoke = reader.take(3)
    if kind == 0x01:
        return _acted(reader)
    if kind == 0x02:
        is_last, number = bool(reader.octet()), int.from_bytes(reader.take(4), "big")
        return _block(reader, (sender, 0xC7, invoke), number, is_last, joiner)
    if kind == 0x03:
        return {"results": [_acted(reader) for _ in range(_count(reader))]}
    if kind == 0x04:
        return {"taken_block": int.from_bytes(reader.take(4), "big")}
    return {"kind": kind}


def _acted(reader: OctetCursor) -> Record:
    """What became of an ACTION, and what it returned: a value, or why there is none."""
    record: Record = {"result": pdu.action_result_name(reader.octet())}
    if reader.left and reader.octet():
        record["returned"] = _got(reader, is_list=True)
    return record


def _exception(apdu: bytes) -> Record:
    answer = pdu.parse_exception(apdu)
    record: Record = {"result": answer.words}
    return record if answer.counter is None else record | {"counter": answer.counter}


# --- what a meter sends by itself --------------------------------------------------------------------------


def _push(reader: OctetCursor) -> Record:
    reader.octet()
    record: Record = {"number": int.from_bytes(reader.take(4), "big") & 0xFFFFFF}
    at = reader.take(reader.length())
    if at:
        record["at"] = at.hex()
    return record | {"value": shown(reader.data())}


def _event(reader: OctetCursor) -> Record:
    reader.octet()
    record: Record = {}
    if reader.octet():
        record["at"] = reader.take(reader.length()).hex()
    return record | _object(reader, 0xC2) | {"value": shown(reader.data())}


def _general_block(reader: OctetCursor, sender: Any, joiner: Joiner) -> Record:
    reader.octet()
    control = reader.octet()
    number, taken = (int.from_bytes(reader.take(2), "big") for _ in range(2))
    raw, is_last = reader.take(reader.length()), bool(control & 0x80)
    record: Record = {"block": number, "is_last": is_last, "taken_block": taken, "raw": raw.hex()}
    found = joiner.joined((sender, 0xE0), number, is_last, raw)
    if found is not None and found[0][:1] != b"\xe0":
        whole, count = found
        record |= {"blocks": count, "joined": apdu_record(whole, sender, joiner)}
    return record


def _count(reader: OctetCursor) -> int:
    """Of a list; more than there are octets is none."""
    count = reader.length()
    if count > reader.left:
        raise RemoteProtocolError(f"{count} results announced, {reader.left} octets left", where="list")
    return count
