"""CRC-16 of the frames (section 1.4): ARC on plain and P8 frames, MODBUS (start FFFF) on P2.

Running either over a whole frame with its two CRC octets gives 0, which is how frames are checked.
"""

from __future__ import annotations

from collections.abc import Callable

from fastcrc import crc16


def crc16_arc(octets: bytes) -> int:
    """CRC-16/ARC of any number of octets.

    >>> hex(crc16_arc(bytes.fromhex("11223344")))
    '0xf5b1'
    """
    return crc16.arc(octets)


def crc16_modbus(octets: bytes) -> int:
    """CRC-16/MODBUS: the same generator started at FFFF, so leading zero octets count."""
    return crc16.modbus(octets)


def sealed(octets: bytes, crc: Callable[[bytes], int] = crc16_arc) -> bytes:
    """The octets followed by their CRC, low octet first.

    >>> sealed(bytes.fromhex("11223344")).hex(" ")
    '11 22 33 44 b1 f5'
    """
    return octets + crc(octets).to_bytes(2, "little")
