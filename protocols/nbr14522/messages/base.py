"""What all requests and all responses have in common: size, code, serial numbers, CRC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from protocols.nbr14522 import frames
from protocols.nbr14522.crc import sealed
from protocols.nbr14522.errors import LocalProtocolError
from protocols.nbr14522.messages.codecs import Digits, Octet
from protocols.nbr14522.messages.layout import Table, at


@dataclass(frozen=True, kw_only=True)
class Request(Table):
    """A command as the reader means it.

    Attributes:
        code: o1 as on the wire; each class has its own, `OpaqueRequest` any.
        reader_serial: six digits, as decoded; `encode` sets it.
    """

    SIZE: ClassVar[int] = frames.COMMAND_CONTENT_SIZE
    CODE: ClassVar[int]

    code: int = at(1, Octet(), compare=False)
    reader_serial: str | None = at(2, Digits(3), compare=False)

    def __post_init__(self) -> None:
        if self.code is None:
            object.__setattr__(self, "code", self.CODE)

    def encode(self, reader_serial: str) -> bytes:
        """The plain 66-octet command frame."""
        run = bytearray(self.write())
        run[1:4] = frames.serial_octets(reader_serial, 3, "reader serial")
        return sealed(bytes(run))

    def to_json(self) -> dict[str, Any]:
        return {"kind": type(self).__name__} | super().to_json() | {"code": f"{self.code:02X}"}


@dataclass(frozen=True, kw_only=True)
class Response(Table):
    """An answer block as the meter means it.

    Attributes:
        code: o1 as on the wire: the command answered, or 0x39, 0x40.
        meter_serial: eight digits.
    """

    SIZE: ClassVar[int] = frames.RESPONSE_CONTENT_SIZE
    ECHO_SHIFT: ClassVar[int] = 1

    code: int = at(1, Octet())
    meter_serial: str | None = at(2, Digits(4))

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """Decode the 256 octets of content; `decode_response` chooses the class."""
        return cls.read(content)

    def encode(self, meter_serial: str | None = None, *, filling: int = 0x00) -> bytes:
        """The plain 258-octet response frame, with the serial given or the message's own.

        Args:
            filling: octet where the message says nothing (`MeterProfile.instantaneous_filling`).
        """
        run = bytearray(self.write(filling))
        if meter_serial is not None:
            run[1:5] = frames.serial_octets(meter_serial, 4, "meter serial")
        if not run[0]:
            raise LocalProtocolError("an answer needs its code", where=type(self).__name__)
        return sealed(bytes(run))

    def to_json(self) -> dict[str, Any]:
        return {"kind": type(self).__name__} | super().to_json() | {"code": f"{self.code:02X}"}
