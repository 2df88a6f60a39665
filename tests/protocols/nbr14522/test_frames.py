"""CRC and frames: every vector of the reference (1.4, 1.9, 2.1, 2.2, 6.1), and damage of one bit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.nbr14522 import frames
from protocols.nbr14522.bcd import decode_bcd, encode_bcd
from protocols.nbr14522.crc import crc16_arc, crc16_modbus, sealed
from protocols.nbr14522.errors import LocalProtocolError, RemoteProtocolError
from protocols.nbr14522.frames import Addressing, serial_octets
from tests.protocols.nbr14522.plain_frames import build_command

pytestmark = pytest.mark.req("TR-5.1")


def padded(head: str, size: int = 64, **late: str) -> bytes:
    """The octets of `head`, zeros up to `size`, and single octets at 1-based places (o38="01")."""
    octets = bytearray(bytes.fromhex(head).ljust(size, b"\x00"))
    for place, value in late.items():
        octets[int(place[1:]) - 1] = int(value, 16)
    return bytes(octets)


VECTORS = [
    (bytes.fromhex("11 22 33 44"), 0xF5B1),
    (padded("23 12 34 56"), 0x0B01),
    (padded("14"), 0x0F05),
    (padded("14 00 11 01"), 0xDEF7),
    (padded("21 00 11 01"), 0x393B),
    (padded("25 00 11 01 01"), 0x063B),
    (padded("28 00 11 01"), 0xCFF8),
    (padded("29 12 34 56 08 03 24 06"), 0x0592),
    (padded("30 12 34 56 02 50 53"), 0x5FBE),
    (padded("31 12 34 56 15"), 0x6A94),
    (padded("33 12 34 56" + "00 00 01 00 10 00" * 3), 0x1F6F),
    (padded("35 12 34 56" + "99 00" * 16), 0x6958),
    (padded("32 12 34 56" + "01 01 01" * 15), None),
    (padded("51 00 00 03"), 0xCDD1),
    (padded("51 00 00 03 00 00 02 00 05"), 0x2DC3),
    (padded("51 00 00 03 00 01 02 00 35"), 0xAC5D),
    (padded("52 00 00 03 00"), 0x9C91),
    (padded("52 00 00 03 01"), 0xA090),
    (padded("52 00 00 03 02"), 0xE493),
    (padded("73 00 00 03 05"), 0xB85D),
    (padded("87 00 00 03 01"), 0x0F64),
    (padded("98 00 00 03 95 00 00 5C 43", o63="01"), 0xE07D),
    (padded("95 00 00 03", o38="01", o64="01"), 0xDCDF),
]


@pytest.mark.parametrize(("octets", "crc"), [v for v in VECTORS if v[1] is not None])
def test_crc_vectors(octets: bytes, crc: int) -> None:
    assert crc16_arc(octets) == crc
    assert crc16_arc(sealed(octets)) == 0


P8_CAPTURE = bytes.fromhex("99 55 00 00 52 14 94 50 68" + "00" * 60 + "C1 5D")


def test_real_p8_capture() -> None:
    plain = build_command(0x14, "945068")
    assert frames.wrap_command(plain, Addressing.P8, meter_serial="55000052") == P8_CAPTURE
    assert frames.unwrap_command(P8_CAPTURE, Addressing.P8) == plain


def test_p2_wraps_both_frames_with_modbus_crc() -> None:
    plain = build_command(0x21, "001101")
    wire = frames.wrap_command(plain, Addressing.P2, address=1)
    assert (len(wire), wire[:2].hex(), wire[2:-2]) == (68, "0199", plain[:-2])
    assert crc16_modbus(wire[:-2]).to_bytes(2, "little") == wire[-2:]
    assert crc16_modbus(b"123456789") == 0x4B37  # the check value of CRC-16/MODBUS
    assert frames.unwrap_command(wire, Addressing.P2) == plain
    response = sealed(b"\x21" + bytes(255))
    travelled = frames.wrap_response(response, Addressing.P2)
    assert (len(travelled), travelled[:2].hex()) == (260, "0199")
    assert frames.unwrap_response(travelled, Addressing.P2) == response[:-2]


@pytest.mark.parametrize("addressing", list(Addressing))
def test_every_single_bit_error_is_refused(addressing: Addressing) -> None:
    """In a command or response frame on any line; the address itself (P8, not under the CRC) may change."""
    command = frames.wrap_command(
        build_command(0x52, "000003", bytes(range(60))), addressing, meter_serial="55000052"
    )
    response = frames.wrap_response(sealed(bytes(range(256))), addressing)
    for wire, unwrap, unprotected in (
        (command, frames.unwrap_command, range(1, 5) if addressing is Addressing.P8 else range(0)),
        (response, frames.unwrap_response, range(0)),
    ):
        for bit in range(len(wire) * 8):
            damaged = bytearray(wire)
            damaged[bit // 8] ^= 1 << bit % 8
            if bit // 8 in unprotected:
                continue
            with pytest.raises(RemoteProtocolError):
                unwrap(bytes(damaged), addressing)


@pytest.mark.parametrize("addressing", list(Addressing))
def test_wrong_sizes_are_refused(addressing: Addressing) -> None:
    wire = frames.wrap_response(sealed(bytes(256)), addressing)
    for size in [*range(len(wire)), len(wire) + 1]:
        with pytest.raises(RemoteProtocolError):
            frames.unwrap_response(wire.ljust(size, b"\x00")[:size], addressing)


def test_what_cannot_be_said_is_our_own_fault() -> None:
    with pytest.raises(LocalProtocolError):
        serial_octets("12345", 3, "reader serial")
    with pytest.raises(LocalProtocolError):
        frames.wrap_command(bytes(65), Addressing.P0)
    with pytest.raises(LocalProtocolError):
        encode_bcd(100, 1)


@given(st.integers(0, 10**10 - 1))
def test_bcd_round_trip(value: int) -> None:
    assert decode_bcd(encode_bcd(value, 5)) == value


@given(st.binary(min_size=1, max_size=5))
def test_bcd_is_a_number_or_none(octets: bytes) -> None:
    value = decode_bcd(octets)
    if value is None:
        assert any(digit in "abcdef" for digit in octets.hex())
    else:
        assert encode_bcd(value, len(octets)) == octets
