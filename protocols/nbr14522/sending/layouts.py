"""Layouts of writes that no public source gives, supplied by a meter's profile as data (section 13, 4).

A maker's manual tells where each value lies; a profile repeats it here, and the command can then be sent to
the meters of that profile and to no others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from protocols.nbr14522.bcd import decode_bcd, encode_bcd
from protocols.nbr14522.errors import LocalProtocolError
from protocols.nbr14522.frames import COMMAND_CONTENT_SIZE
from protocols.nbr14522.messages import OpaqueRequest

_FIRST_OCTET = 5


class Coding(StrEnum):
    """How a value lies in its octets."""

    BCD = "bcd"
    BINARY = "binary"
    """Unsigned, most significant octet first."""
    SIGNED = "signed"
    """Two's complement, most significant octet first."""
    HEX = "hex"
    """The octets themselves, as a string of hexadecimal digits."""
    ASCII = "ascii"
    """Printable text, filled with blanks on the right."""


@dataclass(frozen=True, slots=True)
class LayoutField:
    """One value: its 1-based octet in the command, its size in octets, its coding.

    Attributes:
        allowed: values that the meter takes; empty where any that fits is taken.
        fixed: a value that always stands here and is not asked for.
    """

    name: str
    octet: int
    size: int = 1
    coding: Coding = Coding.BCD
    allowed: tuple[int | str, ...] = ()
    fixed: int | str | None = None

    def encode(self, value: Any) -> bytes:
        """The octets of a value.

        Raises:
            LocalProtocolError: it does not fit, or is none of those allowed.
        """
        if self.allowed and value not in self.allowed:
            listed = ", ".join(str(one) for one in self.allowed)
            raise LocalProtocolError(f"{value!r} is none of {listed}", where=self.name)
        try:
            match self.coding:
                case Coding.BCD:
                    return encode_bcd(int(value), self.size)
                case Coding.HEX:
                    octets = bytes.fromhex(str(value))
                case Coding.ASCII:
                    octets = str(value).encode("ascii").ljust(self.size)
                case _:
                    octets = int(value).to_bytes(self.size, "big", signed=self.coding is Coding.SIGNED)
        except (ValueError, TypeError, OverflowError) as error:
            raise LocalProtocolError(f"{value!r} cannot be written: {error}", where=self.name) from error
        if len(octets) != self.size:
            raise LocalProtocolError(f"{value!r} is not {self.size} octets", where=self.name)
        return octets

    def decode(self, octets: bytes) -> int | str | None:
        """The value of these octets; None where they are none of this coding."""
        match self.coding:
            case Coding.BCD:
                return decode_bcd(octets)
            case Coding.HEX:
                return octets.hex().upper()
            case Coding.ASCII:
                return octets.decode("ascii").rstrip() if octets.isascii() else None
        return int.from_bytes(octets, "big", signed=self.coding is Coding.SIGNED)


@dataclass(frozen=True, slots=True)
class WriteLayout:
    """A command's parameters.

    Attributes:
        command: `63`, or with a subcode in o5 `98/30`.
        source: where the layout is written: manual, edition, page.
    """

    command: str
    fields: tuple[LayoutField, ...]
    source: str

    def __post_init__(self) -> None:
        for field in self.fields:
            if not _FIRST_OCTET <= field.octet <= COMMAND_CONTENT_SIZE + 1 - field.size:
                raise LocalProtocolError(
                    f"octet {field.octet} is outside the parameters",
                    where=f"layout {self.command} {field.name}",
                )

    def request(self, values: Mapping[str, Any]) -> OpaqueRequest:
        """The command with these values.

        Raises:
            LocalProtocolError: a value is missing or does not fit.
        """
        code, _, subcode = self.command.partition("/")
        run = bytearray(COMMAND_CONTENT_SIZE)
        if subcode:
            run[_FIRST_OCTET - 1] = int(subcode, 16)
        for field in self.fields:
            value = field.fixed if field.fixed is not None else values.get(field.name)
            if value is None:
                raise LocalProtocolError("a value is needed", where=f"layout {self.command} {field.name}")
            run[field.octet - 1 : field.octet - 1 + field.size] = field.encode(value)
        if unknown := values.keys() - {field.name for field in self.fields if field.fixed is None}:
            raise LocalProtocolError(
                f"{', '.join(sorted(unknown))}: no such value", where=f"layout {self.command}"
            )
        return OpaqueRequest(code=int(code, 16), parameters=bytes(run[_FIRST_OCTET - 1 :]))

    def read(self, parameters: bytes) -> dict[str, int | str | None]:
        """The values in the 60 parameter octets of a command, or in the data of an answer (o6 and on).

        An answer brings what was sent one octet later (section 6.2): its data begin where a command's do.
        """
        return {
            field.name: field.decode(parameters[field.octet - _FIRST_OCTET :][: field.size])
            for field in self.fields
        }
