"""Frames: the 66-octet command and the 258-octet response, and the three ways to put them on a line.

Everything above this module handles the *plain* command frame (66 octets with CRC) and the response's
*content* (256 octets, CRC removed: the same on every line). `wrap_*` and `unwrap_*` go between those and
what travels (sections 1.3, 1.9).
"""

from __future__ import annotations

from enum import StrEnum

from protocols.nbr14522.bcd import encode_bcd
from protocols.nbr14522.crc import crc16_arc, crc16_modbus, sealed
from protocols.nbr14522.errors import LocalProtocolError, RemoteProtocolError

ENQ, ACK, NAK, WAIT = 0x05, 0x06, 0x15, 0x10

COMMAND_SIZE = 66
COMMAND_CONTENT_SIZE = 64
RESPONSE_SIZE = 258
RESPONSE_CONTENT_SIZE = 256

NOT_IMPLEMENTED = 0x39
OCCURRENCE = 0x40
EXCEPTION_CODES = frozenset({NOT_IMPLEMENTED, OCCURRENCE})

PREFIX_OCTET = 0x99
ANY_METER = "00000000"


class Addressing(StrEnum):
    """How frames travel (section 1.9)."""

    P0 = "P0"
    """One meter on the line: plain frames, ENQ and ACK."""
    P8 = "P8"
    """`99` and the meter's eight digits before each plain command; plain responses, no ENQ and no ACK."""
    P2 = "P2"
    """A two-digit address and `99` around both, CRC-16/MODBUS over all of it."""


COMMAND_WIRE_SIZE = {Addressing.P0: 66, Addressing.P8: 71, Addressing.P2: 68}
RESPONSE_WIRE_SIZE = {Addressing.P0: 258, Addressing.P8: 258, Addressing.P2: 260}


def serial_octets(serial: str, size: int, what: str) -> bytes:
    """A serial number's octets. Digits in practice; hexadecimal digits, as some makers use, pass."""
    try:
        octets = bytes.fromhex(serial)
    except ValueError:
        octets = b""
    if len(octets) != size or len(serial) != 2 * size:
        raise LocalProtocolError(f"{what} {serial!r} is not {2 * size} digits", where=what)
    return octets


def wrap_command(
    frame: bytes, addressing: Addressing, *, meter_serial: str = ANY_METER, address: int = 1
) -> bytes:
    """What travels for a plain command frame: 66, 71 or 68 octets."""
    if len(frame) != COMMAND_SIZE:
        raise LocalProtocolError(f"a command frame has 66 octets, not {len(frame)}", where="wrap_command")
    if addressing is Addressing.P8:
        return bytes([PREFIX_OCTET]) + serial_octets(meter_serial, 4, "meter serial") + frame
    if addressing is Addressing.P2:
        return sealed(encode_bcd(address, 1) + bytes([PREFIX_OCTET]) + frame[:-2], crc16_modbus)
    return frame


def unwrap_command(wire: bytes, addressing: Addressing) -> bytes:
    """The plain 66-octet frame out of what travelled.

    Raises:
        RemoteProtocolError: wrong size, wrong prefix, bad CRC.
    """
    _check_size(wire, COMMAND_WIRE_SIZE[addressing], "command")
    if addressing is Addressing.P2:
        _check_prefix(wire[1])
        _check_crc(crc16_modbus(wire), "command")
        return sealed(wire[2:-2])
    plain = wire
    if addressing is Addressing.P8:
        _check_prefix(wire[0])
        plain = wire[5:]
    _check_crc(crc16_arc(plain), "command")
    return plain


def address_of(wire: bytes, addressing: Addressing) -> str | None:
    """The digits by which a command that travelled is addressed: eight (P8) or two (P2); None on P0."""
    if addressing is Addressing.P8:
        return wire[1:5].hex().upper()
    return wire[:1].hex().upper() if addressing is Addressing.P2 else None


def wrap_response(frame: bytes, addressing: Addressing, *, address: int = 1) -> bytes:
    """What travels for a plain response frame: 258 or 260 octets."""
    if len(frame) != RESPONSE_SIZE:
        raise LocalProtocolError(f"a response frame has 258 octets, not {len(frame)}", where="wrap_response")
    if addressing is Addressing.P2:
        return sealed(encode_bcd(address, 1) + bytes([PREFIX_OCTET]) + frame[:-2], crc16_modbus)
    return frame


def unwrap_response(wire: bytes, addressing: Addressing = Addressing.P0) -> bytes:
    """The 256 octets of content out of what travelled.

    Raises:
        RemoteProtocolError: wrong size, wrong prefix, bad CRC.
    """
    _check_size(wire, RESPONSE_WIRE_SIZE[addressing], "response")
    if addressing is Addressing.P2:
        _check_prefix(wire[1])
        _check_crc(crc16_modbus(wire), "response")
        return wire[2:-2]
    _check_crc(crc16_arc(wire), "response")
    return wire[:-2]


def response_content(block: bytes) -> bytes:
    """The 256 octets of a block given with its CRC (258, checked) or already without (256)."""
    if len(block) == RESPONSE_CONTENT_SIZE:
        return block
    return unwrap_response(block)


def _check_size(wire: bytes, size: int, what: str) -> None:
    if len(wire) != size:
        raise RemoteProtocolError(f"{len(wire)} octets, a {what} has {size}", where=f"{what} frame")


def _check_prefix(octet: int) -> None:
    if octet != PREFIX_OCTET:
        raise RemoteProtocolError(f"{octet:02X} where the prefix 99 belongs", where="addressed frame")


def _check_crc(remainder: int, what: str) -> None:
    if remainder:
        raise RemoteProtocolError("the CRC does not fit the octets", where=f"{what} frame")
