"""How a value lies in its octets: numbers, flags, digits, dates. A codec knows no message."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from datetime import date, datetime, time
from enum import IntEnum
from typing import Any, Protocol

from protocols.nbr14522.bcd import decode_bcd, encode_bcd
from protocols.nbr14522.errors import LocalProtocolError


class BadField(Exception):
    """The octets are not a value of this kind; `good` is what of them is, where a part can be told."""

    def __init__(self, reason: str, good: Any = None) -> None:
        super().__init__(reason)
        self.good = good


class Codec(Protocol):
    """How one value lies in `size` octets. `decode` may return None for the code of "nothing"."""

    @property
    def size(self) -> int: ...
    def decode(self, octets: bytes) -> Any: ...
    def encode(self, value: Any) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Bcd:
    """A decimal number."""

    size: int

    def decode(self, octets: bytes) -> int:
        value = decode_bcd(octets)
        if value is None:
            raise BadField("not decimal")
        return value

    def encode(self, value: int) -> bytes:
        return encode_bcd(value, self.size)


@dataclass(frozen=True, slots=True)
class Octet:
    """A plain octet: codes and flags that makers also fill with non-decimal values."""

    size: int = 1

    def decode(self, octets: bytes) -> int:
        return octets[0]

    def encode(self, value: int) -> bytes:
        return bytes([value])


@dataclass(frozen=True, slots=True)
class PresentOctet(Octet):
    """A plain octet, FF where the meter does not have it."""

    def decode(self, octets: bytes) -> int | None:  # type: ignore[override]  # a codec may say: nothing
        return None if octets == b"\xff" else octets[0]


@dataclass(frozen=True, slots=True)
class Choice:
    """One octet that is a member of an enumeration."""

    of: type[IntEnum]
    size: int = 1

    def decode(self, octets: bytes) -> IntEnum:
        try:
            return self.of(octets[0])
        except ValueError as error:
            raise BadField(str(error)) from error

    def encode(self, value: IntEnum) -> bytes:
        return bytes([self.of(value)])


@dataclass(frozen=True, slots=True)
class DisplayCodes:
    """Decimal codes one after the other, ended by `00`."""

    size: int

    def decode(self, octets: bytes) -> tuple[int, ...]:
        listed, _, rest = octets.partition(b"\x00")
        if any(rest):
            raise BadField("octets after the end of the list")
        if not listed:
            raise BadField("an empty list")
        good = tuple(_moment(bytes([octet]))[0] for octet in listed if f"{octet:02x}".isdecimal())
        odd = [f"{octet:02X}" for octet in listed if not f"{octet:02x}".isdecimal()]
        if odd:
            raise BadField(f"not decimal: {', '.join(odd)}", good or None)
        return good

    def encode(self, value: tuple[int, ...]) -> bytes:
        if not value or len(value) > self.size or not all(0 < code < 100 for code in value):
            raise LocalProtocolError(f"{value}: 1 to {self.size} codes from 1 to 99", where="display codes")
        return b"".join(encode_bcd(code, 1) for code in value).ljust(self.size, b"\x00")


@dataclass(frozen=True, slots=True)
class Flag:
    """`00` no, `01` yes."""

    size: int = 1

    def decode(self, octets: bytes) -> bool:
        if octets[0] > 1:
            raise BadField("neither 00 nor 01")
        return octets[0] == 1

    def encode(self, value: bool) -> bytes:
        return b"\x01" if value else b"\x00"


@dataclass(frozen=True, slots=True)
class Digits:
    """Octets kept as their hexadecimal digits: serial numbers, versions, models."""

    size: int

    def decode(self, octets: bytes) -> str:
        return octets.hex().upper()

    def encode(self, value: str) -> bytes:
        return bytes.fromhex(value)


@dataclass(frozen=True, slots=True)
class Raw:
    """Octets kept as they are."""

    size: int

    def decode(self, octets: bytes) -> bytes | None:
        return octets

    def encode(self, value: bytes) -> bytes:
        return value


@dataclass(frozen=True, slots=True)
class PresentRaw(Raw):
    """Octets kept as they are, FF throughout where the meter does not have them."""

    def decode(self, octets: bytes) -> bytes | None:
        return None if octets == b"\xff" * self.size else octets


@dataclass(frozen=True, slots=True)
class Text:
    """ASCII, blanks and zeros at the ends kept (one maker fills on the left)."""

    size: int

    def decode(self, octets: bytes) -> str | None:
        if octets in (b"\x00" * self.size, b"\xff" * self.size):
            return None
        if not all(0x20 <= octet < 0x7F for octet in octets):
            raise BadField("not printable ASCII")
        return octets.decode("ascii")

    def encode(self, value: str) -> bytes:
        return value.encode("ascii")


@dataclass(frozen=True, slots=True)
class Binary32:
    """IEEE-754 binary32, little-endian; any NaN (`FF FF FF FF`) is a quantity that the meter lacks."""

    size: int = 4

    def decode(self, octets: bytes) -> float | None:
        value = float(struct.unpack("<f", octets)[0])
        if math.isinf(value):
            raise BadField("infinite")
        return None if math.isnan(value) else value

    def encode(self, value: float) -> bytes:
        return struct.pack("<f", value)


def _moment(octets: bytes) -> list[int]:
    digits = octets.hex()
    if not digits.isdecimal():
        raise BadField("not decimal")
    return [int(digits[i : i + 2]) for i in range(0, len(digits), 2)]


@dataclass(frozen=True, slots=True)
class TimeDate:
    """`HH MM SS DD MM YY`, year 2000+YY, naive; all zeros is nothing."""

    size: int = 6

    def decode(self, octets: bytes) -> datetime | None:
        if not any(octets):
            return None
        hour, minute, second, day, month, year = _moment(octets)
        try:
            return datetime(2000 + year, month, day, hour, minute, second)  # noqa: DTZ001 -- meter wall clock
        except ValueError as error:
            raise BadField(str(error)) from error

    def encode(self, value: datetime) -> bytes:
        if value.tzinfo is not None or value.microsecond or not 2000 <= value.year < 2100:
            raise LocalProtocolError(
                f"{value} is not a meter time: naive, whole seconds, 2000-2099", where="time"
            )
        return bytes.fromhex(value.strftime("%H%M%S%d%m%y"))


@dataclass(frozen=True, slots=True)
class Date:
    """`DD MM YY`; all zeros is nothing, and so is what `unused` names."""

    size: int = 3
    unused: bytes = b""

    def decode(self, octets: bytes) -> date | None:
        if not any(octets) or octets == self.unused:
            return None
        day, month, year = _moment(octets)
        try:
            return date(2000 + year, month, day)
        except ValueError as error:
            raise BadField(str(error)) from error

    def encode(self, value: date) -> bytes:
        if not 2000 <= value.year < 2100:
            raise LocalProtocolError(f"{value} is outside 2000-2099", where="date")
        return bytes.fromhex(value.strftime("%d%m%y"))


@dataclass(frozen=True, slots=True)
class Clock:
    """`HH MM SS`, or `HH MM` with size 2 where `99 00` is an unused slot."""

    size: int

    def decode(self, octets: bytes) -> time | None:
        if self.size == 2 and octets == b"\x99\x00":
            return None
        parts = _moment(octets)
        try:
            return time(parts[0], parts[1], parts[2] if self.size > 2 else 0)
        except ValueError as error:
            raise BadField(str(error)) from error

    def encode(self, value: time) -> bytes:
        return bytes.fromhex(value.strftime("%H%M%S"))[: self.size]


@dataclass(frozen=True, slots=True)
class FlagOctets:
    """Two octets of flags, the first one low."""

    size: int = 2

    def decode(self, octets: bytes) -> int:
        return int.from_bytes(octets, "little")

    def encode(self, value: int) -> bytes:
        return int(value).to_bytes(2, "little")
