"""Blocks of the user output: every vector of the reference, both directions (ssu.md, section 7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.ssu import ExtendedBlock, NormalBlock, Refused, decode_block

NORMAL = {
    "N1": ("1C8292D0201C0C13", (540, "fora_de_ponta", "verde", 8400, 3100)),
    "N2": ("01001216000A00F0", (1, "fora_de_ponta", "verde", 22, 10)),
    "N3": ("969281160002006E", (662, "ponta", "azul", 22, 2)),
    "N4": ("A18192000000004D", (417, "fora_de_ponta", "verde", 0, 0)),
    "SN1": ("838382000000007D", (899, "fora_de_ponta", "azul", 0, 0)),
    "SN2": ("008082FF7FFF7FFD", (0, "fora_de_ponta", "azul", 32767, 32767)),
    "SN3": ("C2F191D2043702BE", (450, "ponta", "verde", 1234, 567)),
    "SN4": ("0F1E28010001 00C6", (3599, "reservado", "irrigantes", 1, 1)),
}
EXTENDED = {
    "E1": ("3E8081C02B8E1255B8", (62, "ponta", 1, 11200, 4750)),
    "E2": ("8243322900 0C009863", (898, "fora_de_ponta", 3, 41, 12)),
    "E3": ("0090A2FC050400C618", (0, "fora_de_ponta", 2, 1532, 4)),
    "SE1": ("838382000000 00D525", (899, "fora_de_ponta", 1, 0, 0)),
    "SE2": ("00F093FFFFFFFF9179", (0, "intermediario", 4, 65535, 65535)),
    "SE3": ("2C2120BC020300EE14", (300, "reservado", 2, 700, 3)),
}


@pytest.mark.req("TR-5.5e")
@pytest.mark.parametrize(("octets", "expected"), NORMAL.values(), ids=NORMAL)
def test_normal_vectors(octets: str, expected: tuple[object, ...]) -> None:
    block = decode_block(bytes.fromhex(octets))
    assert isinstance(block, NormalBlock)
    got = (block.seconds_left, block.segment, block.tariff, block.active_pulses, block.reactive_pulses)
    assert got == expected
    assert block.suspects == ()
    assert block.encode() == bytes.fromhex(octets)


@pytest.mark.req("TR-5.5e")
@pytest.mark.parametrize(("octets", "expected"), EXTENDED.values(), ids=EXTENDED)
def test_extended_vectors(octets: str, expected: tuple[object, ...]) -> None:
    block = decode_block(bytes.fromhex(octets))
    assert isinstance(block, ExtendedBlock)
    got = (block.seconds_left, block.segment, block.quadrant, block.active_pulses, block.reactive_pulses)
    assert got == expected
    assert block.encode() == bytes.fromhex(octets)


@pytest.mark.parametrize(
    ("octets", "reason"),
    [("7E1317000000007A", "complement"), ("00" * 9, "zero"), ("00" * 7, "length"), ("00" * 56, "block code")],
)
def test_what_is_no_block_is_refused_with_its_reason(octets: str, reason: str) -> None:
    refused = decode_block(bytes.fromhex(octets))
    assert isinstance(refused, Refused)
    assert reason in refused.reason


def test_registers_follow_the_quadrant() -> None:
    block = decode_block(bytes.fromhex(EXTENDED["E3"][0]))
    assert isinstance(block, ExtendedBlock)
    assert block.registers == {"R2": 1532, "R4": 4}


@given(st.sampled_from([*NORMAL.values(), *EXTENDED.values()]), st.data())
def test_any_single_bit_error_is_refused(vector: tuple[str, tuple[object, ...]], data: st.DataObject) -> None:
    octets = bytearray.fromhex(vector[0])
    bit = data.draw(st.integers(0, 8 * len(octets) - 1))
    octets[bit // 8] ^= 1 << bit % 8
    assert isinstance(decode_block(bytes(octets)), Refused)


@given(st.binary(max_size=80))
def test_any_octets_are_a_block_or_refused(octets: bytes) -> None:
    block = decode_block(octets)
    if isinstance(block, NormalBlock | ExtendedBlock) and not block.suspects:
        assert block.encode() == octets
