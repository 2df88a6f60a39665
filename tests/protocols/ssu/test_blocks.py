"""Blocks of the user output: every vector of the reference, both directions (ssu.md, section 7)."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocols.ssu import ExtendedBlock, MixedBlock, NormalBlock, Refused, decode_block
from protocols.ssu.blocks import MIXED_ROTATION, WIRINGS

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


def mixed(**changes: object) -> MixedBlock:
    """A block with what is known of the one frame of the reference (section 4, M1)."""
    values: dict[str, object] = {
        "seconds_left": 442,
        "wiring": "star",
        "meter_time": datetime(2012, 12, 19, 16, 52, 37),
        "rotating_field": MIXED_ROTATION[1],
        "rotating_value": 10_000,
        "voltages_v": (124.0, 0.0, 0.0),
        "currents_a": (2.964, 0.0, 0.0, 0.0),
        "active_powers_w": (367.6, 0.0, -0.1),
        "reactive_powers_var": (0.0, -12.5, 3276.7),
        "frequency_hz": 60.0,
        "bill_toggle": False,
        "reactive_toggle": True,
        "is_capacitive": False,
        "is_inductive": True,
        "is_reactive_tariff": False,
        "segment": "ponta",
        "counters": (234, 1, 2, 3, 4, 65_535),
    }
    return MixedBlock(**{**values, **changes})


@pytest.mark.req("TR-5.5e")
@pytest.mark.parametrize("hour_post", ["own", "extended"])
def test_a_mixed_block_survives_the_line(hour_post: str) -> None:
    block = mixed()
    octets = block.encode(hour_post)
    assert len(octets) == 56
    assert decode_block(octets, hour_post) == block
    # The two codings of the hour post conflict in the only description there is.
    other = decode_block(octets, "extended" if hour_post == "own" else "own")
    assert isinstance(other, MixedBlock)
    assert other.segment != block.segment
    assert block.registers == {"R1": 234, "R2": 3, "R3": 1, "R4": 4, "R5": 65_535, "R6": 2}


@example(0)
@given(st.integers(0, 56 * 8 - 1))
def test_any_single_bit_error_of_a_mixed_block_is_refused(bit: int) -> None:
    octets = bytearray(mixed().encode())
    octets[bit // 8] ^= 1 << bit % 8
    assert isinstance(decode_block(bytes(octets)), Refused)


@pytest.mark.parametrize("wiring", WIRINGS.values())
def test_wirings_of_mixed_blocks(wiring: str) -> None:
    block = decode_block(mixed(wiring=wiring).encode())
    assert isinstance(block, MixedBlock)
    assert block.wiring == wiring
