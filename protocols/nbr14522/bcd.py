"""Binary-coded decimal: two digits an octet, most significant octet first."""

from __future__ import annotations

from protocols.nbr14522.errors import LocalProtocolError


def decode_bcd(octets: bytes) -> int | None:
    """The number that the octets spell, or None where a nibble is not a decimal digit.

    >>> decode_bcd(bytes.fromhex("005985")), decode_bcd(b"\\x1a")
    (5985, None)
    """
    digits = octets.hex()
    return int(digits) if digits.isdecimal() else None


def encode_bcd(value: int, size: int) -> bytes:
    """A number as `size` octets.

    Raises:
        LocalProtocolError: negative, or more than 2 x size digits.
    """
    if not 0 <= value < 10 ** (2 * size):
        raise LocalProtocolError(f"{value} does not fit into {2 * size} decimal digits", where="BCD field")
    return bytes.fromhex(f"{value:0{2 * size}d}")
