"""A-XDR data: octets to plain values and back (reference "dlms_cosem", section 4).

A value is a `Data(tag, value)`: the tag travels with it, since a SET must answer with the type the meter
uses, and a scaler without its type is ambiguous. Structures nest; depth, element count and total size are
bounded, since lengths come from the peer.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from protocols.dlms.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError

# An honest profile of a month in 5-minute rows has some 9,000 rows of 20 columns.
MAX_ELEMENTS = 1_000_000
MAX_DEPTH = 32


class Tag(IntEnum):
    """Types of the wire."""

    NULL = 0x00
    ARRAY = 0x01
    STRUCTURE = 0x02
    BOOLEAN = 0x03
    BIT_STRING = 0x04
    INT32 = 0x05
    UINT32 = 0x06
    OCTET_STRING = 0x09
    VISIBLE_STRING = 0x0A
    UTF8_STRING = 0x0C
    BCD = 0x0D
    INT8 = 0x0F
    INT16 = 0x10
    UINT8 = 0x11
    UINT16 = 0x12
    COMPACT_ARRAY = 0x13
    INT64 = 0x14
    UINT64 = 0x15
    ENUM = 0x16
    FLOAT32 = 0x17
    FLOAT64 = 0x18
    DATE_TIME = 0x19
    DATE = 0x1A
    TIME = 0x1B


_NUMBERS: dict[Tag, struct.Struct] = {
    Tag.INT32: struct.Struct(">i"),
    Tag.UINT32: struct.Struct(">I"),
    Tag.BCD: struct.Struct(">B"),
    Tag.INT8: struct.Struct(">b"),
    Tag.INT16: struct.Struct(">h"),
    Tag.UINT8: struct.Struct(">B"),
    Tag.UINT16: struct.Struct(">H"),
    Tag.INT64: struct.Struct(">q"),
    Tag.UINT64: struct.Struct(">Q"),
    Tag.ENUM: struct.Struct(">B"),
    Tag.FLOAT32: struct.Struct(">f"),
    Tag.FLOAT64: struct.Struct(">d"),
}
_FIXED_OCTETS = {Tag.DATE_TIME: 12, Tag.DATE: 5, Tag.TIME: 4}
_STRINGS = (Tag.OCTET_STRING, Tag.VISIBLE_STRING, Tag.UTF8_STRING)
_LISTS = (Tag.ARRAY, Tag.STRUCTURE)


@dataclass(frozen=True, slots=True)
class Data:
    """A typed value.

    Attributes:
        tag: the type on the wire (a compact array arrives as ARRAY).
        value: None, bool, int, float, bytes (octet strings and the three time types), str, a str of 0 and 1
            (bit string), or a tuple of `Data`.
    """

    tag: Tag
    value: Any = None

    def plain(self) -> Any:
        """The value without types; octets stay octets."""
        if self.tag in _LISTS:
            return [element.plain() for element in self.value]
        return self.value


NULL = Data(Tag.NULL)


def structure(*elements: Data) -> Data:
    """A structure of the elements."""
    return Data(Tag.STRUCTURE, elements)


def array(*elements: Data) -> Data:
    """An array of the elements."""
    return Data(Tag.ARRAY, elements)


def octets(value: bytes) -> Data:
    """An octet string."""
    return Data(Tag.OCTET_STRING, value)


def encode_length(length: int) -> bytes:
    """A-XDR length: one octet to 127, else 80 + count and big-endian octets."""
    if length < 0x80:
        return bytes([length])
    size = (length.bit_length() + 7) // 8
    return bytes([0x80 | size]) + length.to_bytes(size, "big")


def encode(data: Data) -> bytes:
    """Octets of a value with its tag."""
    tag, value = data.tag, data.value
    head = bytes([tag])
    if tag is Tag.NULL:
        return head
    if tag is Tag.BOOLEAN:
        return head + (b"\x01" if value else b"\x00")
    if tag in _NUMBERS:
        return head + _NUMBERS[tag].pack(value)
    if tag in _FIXED_OCTETS:
        if len(value) != _FIXED_OCTETS[tag]:
            raise LocalProtocolError(f"{tag.name} takes {_FIXED_OCTETS[tag]} octets, not {len(value)}")
        return head + bytes(value)
    if tag in _STRINGS:
        raw = value.encode() if isinstance(value, str) else bytes(value)
        return head + encode_length(len(raw)) + raw
    if tag is Tag.BIT_STRING:
        padded = value.ljust(-(-len(value) // 8) * 8, "0")
        raw = bytes(int(padded[place : place + 8], 2) for place in range(0, len(padded), 8))
        return head + encode_length(len(value)) + raw
    if tag in _LISTS:
        return head + encode_length(len(value)) + b"".join(map(encode, value))
    raise LocalProtocolError(f"{tag.name} is not sent by this client")


class OctetCursor:
    """A cursor over octets; every read beyond the end is a `RemoteProtocolError` with its offset."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.place = 0
        self._elements = 0

    @property
    def left(self) -> int:
        """Octets not yet read."""
        return len(self.source) - self.place

    def take(self, count: int) -> bytes:
        """The next octets."""
        if count > self.left:
            raise RemoteProtocolError(
                f"{count} octets announced, {self.left} left", where=f"A-XDR octet {self.place}"
            )
        self.place += count
        return self.source[self.place - count : self.place]

    def octet(self) -> int:
        """The next octet."""
        return self.take(1)[0]

    def length(self) -> int:
        """An A-XDR length."""
        first = self.octet()
        if first < 0x80:
            return first
        size = first & 0x7F
        if not 1 <= size <= 4:
            raise RemoteProtocolError(f"length of {size} octets", where=f"A-XDR octet {self.place - 1}")
        return int.from_bytes(self.take(size), "big")

    def data(self, depth: int = 0) -> Data:
        """The next value with its tag."""
        return self._value(self._tag(), depth)

    def find(self, path: Sequence[int]) -> tuple[int, int]:
        """First octet and count of the element at `path` below the next value, numbers from 0; with its type,
        which an element of a compact array has not.

        Raises:
            RemoteProtocolError: there is no such element.
        """
        for depth, index in enumerate(path):
            tag = self._tag()
            if tag is Tag.COMPACT_ARRAY:
                return self._find_packed(path[depth:])
            if tag not in _LISTS or index >= self._count():
                raise RemoteProtocolError("no such element", where=f"A-XDR octet {self.place}")
            for _ in range(index):
                self.data()
        start = self.place
        self.data()
        return start, self.place - start

    def _find_packed(self, path: Sequence[int]) -> tuple[int, int]:
        shape = self._shape(1)
        shapes = [shape] * (path[0] + 1)
        self.length()
        for index in path:
            if index >= len(shapes):
                raise RemoteProtocolError("no such element", where=f"A-XDR octet {self.place}")
            for before in shapes[:index]:
                self._shaped(before, 1)
            tag, inner = shape = shapes[index]
            shapes = inner if tag is Tag.STRUCTURE else [inner[1]] * inner[0] if tag is Tag.ARRAY else []
        start = self.place
        self._shaped(shape, 1)
        return start, self.place - start

    def _tag(self) -> Tag:
        octet = self.octet()
        try:
            return Tag(octet)
        except ValueError:
            raise RemoteProtocolError(
                f"unknown type {octet:02X}", where=f"A-XDR octet {self.place - 1}"
            ) from None

    def _count(self) -> int:
        return self._within_limit(self.length())

    def _within_limit(self, count: int) -> int:
        self._elements += count
        if self._elements > MAX_ELEMENTS:
            raise LimitExceeded(f"more than {MAX_ELEMENTS} elements", where=f"A-XDR octet {self.place}")
        return count

    def _value(self, tag: Tag, depth: int) -> Data:
        if depth > MAX_DEPTH:
            raise LimitExceeded(f"nested deeper than {MAX_DEPTH}", where=f"A-XDR octet {self.place}")
        if tag is Tag.NULL:
            return NULL
        if tag in _NUMBERS:
            packer = _NUMBERS[tag]
            return Data(tag, packer.unpack(self.take(packer.size))[0])
        if tag in _LISTS:
            return Data(tag, tuple(self.data(depth + 1) for _ in range(self._count())))
        if tag is Tag.COMPACT_ARRAY:
            return self._compact_array(depth)
        return Data(tag, self._scalar(tag))

    def _scalar(self, tag: Tag) -> Any:
        if tag is Tag.BOOLEAN:
            return self.octet() != 0
        if tag in _FIXED_OCTETS:
            return self.take(_FIXED_OCTETS[tag])
        if tag is Tag.BIT_STRING:
            bits = self.length()
            raw = self.take(-(-bits // 8))
            return "".join(f"{octet:08b}" for octet in raw)[:bits]
        raw = self.take(self.length())
        if tag is Tag.OCTET_STRING:
            return raw
        # Meters send Latin-1 in visible strings; nothing of it may be lost.
        return raw.decode("utf-8" if tag is Tag.UTF8_STRING else "latin-1", errors="surrogateescape")

    def _compact_array(self, depth: int) -> Data:
        shape = self._shape(depth + 1)
        content = OctetCursor(self.take(self.length()))
        content._elements = self._elements
        rows = []
        while content.left:
            before = content.place
            rows.append(content._shaped(shape, depth + 1))
            content._within_limit(1)
            if content.place == before:
                raise LimitExceeded("compact array without end", where=f"A-XDR octet {self.place}")
        self._elements = content._elements
        return Data(Tag.ARRAY, tuple(rows))

    def _shape(self, depth: int) -> tuple[Tag, Any]:
        if depth > MAX_DEPTH:
            raise LimitExceeded(f"nested deeper than {MAX_DEPTH}", where=f"A-XDR octet {self.place}")
        tag = self._tag()
        if tag is Tag.STRUCTURE:
            return tag, [self._shape(depth + 1) for _ in range(self._count())]
        if tag is Tag.ARRAY:
            count = int.from_bytes(self.take(2), "big")
            return tag, (count, self._shape(depth + 1))
        return tag, None

    def _shaped(self, shape: tuple[Tag, Any], depth: int) -> Data:
        tag, inner = shape
        if tag is Tag.STRUCTURE:
            self._within_limit(len(inner))
            return Data(tag, tuple(self._shaped(part, depth + 1) for part in inner))
        if tag is Tag.ARRAY:
            count, part = inner
            return Data(tag, tuple(self._shaped(part, depth + 1) for _ in range(self._within_limit(count))))
        return self._value(tag, depth)


def decode_first(source: bytes) -> tuple[Data, int]:
    """The value that the octets begin with, and how many come after it."""
    reader = OctetCursor(source)
    data = reader.data()
    return data, reader.left


def decode(source: bytes, tolerate_trailing: bool = False) -> Data:
    """One value from the octets; surplus octets are refused unless the model's profile tolerates them."""
    data, left = decode_first(source)
    if left and not tolerate_trailing:
        raise RemoteProtocolError(
            f"{left} surplus octets after the value", where=f"A-XDR octet {len(source) - left}"
        )
    return data
