"""Command frames by their octets, for cases that no request of the product makes."""

from __future__ import annotations

from protocols.nbr14522.crc import sealed
from protocols.nbr14522.frames import COMMAND_CONTENT_SIZE, serial_octets


def build_command(code: int, reader_serial: str, parameters: bytes = b"") -> bytes:
    """A plain frame of 66 octets: the code as on the wire, six digits, octets 5 and on, zeros, CRC."""
    head = bytes([code]) + serial_octets(reader_serial, 3, "reader serial")
    return sealed((head + parameters).ljust(COMMAND_CONTENT_SIZE, b"\x00"))
