"""Packets of the one-way serial output: the annex's examples, noise, damage (celesc_serial.md, 3 to 6)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.celesc import (
    CelescStream,
    Packet,
    Quantity,
    Register,
    StepKind,
    decode_grouped,
    encode_packet,
    packet_gap_s,
    packet_idle_s,
)
from protocols.celesc.totals import max_energy_kwh
from protocols.nbr14522.crc import crc16_arc
from protocols.skipped import SkippedRun

EXAMPLES = {
    "AA550123456789050A02013579BA92": (Quantity.ACTIVE_ENERGY_KWH, 13579),
    "AA550123456789050A07024680AF2C": (Quantity.INDUCTIVE_ENERGY_KVARH, 24680),
    "AA550123456789050A0C0123573606": (Quantity.CAPACITIVE_ENERGY_KVARH, 12357),
}


def drain(stream: CelescStream) -> list[Packet | SkippedRun]:
    out = []
    while (event := stream.next_event()) is not None:
        out.append(event)
    return out


@pytest.mark.req("CE-A")
@pytest.mark.parametrize(("octets", "expected"), EXAMPLES.items())
def test_examples_of_the_annex(octets: str, expected: tuple[Quantity, int]) -> None:
    stream = CelescStream()
    stream.receive(bytes.fromhex(octets))
    (packet,) = drain(stream)
    assert isinstance(packet, Packet)
    assert (packet.quantity, packet.value) == expected
    assert (packet.meter_number, packet.digits) == ("0123456789", 6)
    assert encode_packet("0123456789", packet.scope, packet.index, packet.data) == bytes.fromhex(octets)


@pytest.mark.parametrize("crc", ["BC76", "76BC", "92BA"])
def test_other_crcs_are_refused(crc: str) -> None:
    stream = CelescStream()
    stream.receive(bytes.fromhex("AA550123456789050A02013579" + crc))
    stream.close()
    assert not [event for event in drain(stream) if isinstance(event, Packet)]


@pytest.mark.req("CE-A")
def test_packets_are_found_after_noise_and_when_the_preamble_repeats() -> None:
    good = [bytes.fromhex(octets) for octets in EXAMPLES]
    line = b"\xaa" + good[0] + b"\x55\xaa\x55\x01" + good[1] + b"\xaa\x55" + good[2]
    for size in (1, 7, len(line)):
        stream = CelescStream()
        for place in range(0, len(line), size):
            stream.receive(line[place : place + size])
        packets = [event for event in drain(stream) if isinstance(event, Packet)]
        assert [packet.value for packet in packets] == [13579, 24680, 12357]


def test_an_unknown_code_is_kept_raw_and_not_valued() -> None:
    stream = CelescStream()
    stream.receive(encode_packet("0123456789", 0x0F, 0x01, bytes.fromhex("AABBCC")))
    stream.receive(encode_packet("0123456789", 0x0A, 0x02, b"\xff\xff\xff"))
    stream.receive(encode_packet("0123456789", 0x0A, 0x02, b"\x01\x2a\x00"))
    custom, absent, broken = drain(stream)
    assert isinstance(custom, Packet)
    assert (custom.quantity, custom.value, custom.data.hex()) == (None, None, "aabbcc")
    assert isinstance(absent, Packet)
    assert (absent.is_absent, absent.value) == (True, None)
    assert isinstance(broken, Packet)
    assert (broken.problem, broken.value) == ("data is not BCD", None)


@pytest.mark.parametrize("seed", range(8))
def test_damage_costs_at_most_its_neighbour(seed: int) -> None:
    rng = random.Random(seed)
    stream, good, numbers = CelescStream(), [], set()
    for place in range(600):
        octets = bytearray(encode_packet("0123456789", 0x0A, 0x02, bytes.fromhex(f"{place:06d}")))
        damage = rng.random()
        if damage < 0.05:
            octets.insert(rng.randrange(len(octets)), rng.randrange(256))
        elif damage < 0.10:
            del octets[rng.randrange(len(octets))]
        elif damage < 0.15:
            octets[rng.randrange(len(octets))] ^= 1 << rng.randrange(8)
        else:
            good.append(place)
        stream.receive(bytes(octets))
    packets = [event for event in drain(stream) if isinstance(event, Packet)]
    numbers = {packet.value for packet in packets}
    assert {packet.meter_number for packet in packets} == {"0123456789"}
    assert set(good) <= numbers


def test_noise_gives_no_packet() -> None:
    rng = random.Random(2400)
    stream = CelescStream()
    for _ in range(1000):
        stream.receive(rng.randbytes(1000))
    stream.close()
    events = drain(stream)
    assert not [event for event in events if isinstance(event, Packet)]
    assert sum(event.count for event in events if isinstance(event, SkippedRun)) == 1_000_000


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_every_octet_is_in_a_packet_or_counted_as_skipped(chunks: list[bytes]) -> None:
    stream = CelescStream()
    for chunk in chunks:
        stream.receive(chunk)
    stream.close()
    total = sum(
        event.count if isinstance(event, SkippedRun) else 10 + 2 + len(event.data) for event in drain(stream)
    )
    assert total == sum(map(len, chunks))


def test_a_remotes_grouped_packet() -> None:
    groups = "050A02013579" + "050A07024680" + "050A0CFFFFFF"
    covered = bytes.fromhex("AA550123456789" + groups)
    frame = bytes.fromhex("54414430001C00000000") + covered + crc16_arc(covered).to_bytes(2, "little") + b"\0"
    packet = decode_grouped(frame)
    assert not isinstance(packet, str)
    assert packet.meter_number == "0123456789"
    assert [(scope, index) for scope, index, _ in packet.groups] == [(0x0A, 2), (0x0A, 7), (0x0A, 0x0C)]
    assert isinstance(decode_grouped(frame[:-4]), str)


@pytest.mark.req("CE-bidi")
def test_rollover_exchange_and_impossible_steps() -> None:
    register = Register(digits=5, phases=3, max_current_a=120)
    steps = [
        register.feed("1", 99_990, 0),
        register.feed("1", 99_995, 900),
        register.feed("1", 10, 1_800),
        register.feed("2", 7, 2_700),
        register.feed("2", 5, 3_600),
        register.feed("2", 900, 4_500),
    ]
    assert [(step.kind, step.energy) for step in steps] == [
        (StepKind.FIRST, None),
        (StepKind.ADVANCE, 5),
        (StepKind.ROLLOVER, 15),
        (StepKind.EXCHANGE, None),
        (StepKind.IMPOSSIBLE, None),
        (StepKind.IMPOSSIBLE, None),
    ]


@pytest.mark.req("CE-bidi")
@pytest.mark.parametrize(
    ("before", "value", "kind"),
    [
        (90_000, 9_999, StepKind.ROLLOVER),
        (89_999, 9_999, StepKind.IMPOSSIBLE),
        (90_000, 10_000, StepKind.IMPOSSIBLE),
    ],
)
def test_a_rollover_goes_from_the_last_tenth_of_the_scale_to_the_first(
    before: int, value: int, kind: StepKind
) -> None:
    register = Register(digits=5, phases=3, max_current_a=120)
    register.feed("1", before, 0)
    step = register.feed("1", value, 1000 * 3600)
    assert (step.kind, step.energy) == (kind, 19_999 if kind is StepKind.ROLLOVER else None)


def test_what_an_installation_can_take() -> None:
    assert max_energy_kwh(3, 120, 0.25) == pytest.approx(3 * 240 * 120 * 0.25 * 1.15 / 1000)
    # A step may be of one unit more: both of its ends are cut to whole ones.
    for most, kind in ((25, StepKind.ADVANCE), (26, StepKind.IMPOSSIBLE)):
        register = Register(digits=5, phases=3, max_current_a=120)
        register.feed("1", 100, 0)
        assert register.feed("1", 100 + most, 900).kind is kind


@pytest.mark.parametrize("digits", [4, 7])
def test_a_register_has_five_digits_or_six(digits: int) -> None:
    with pytest.raises(ValueError, match="5 or 6 digits"):
        Register(digits=digits, phases=3, max_current_a=120)


@pytest.mark.parametrize(("rate", "idle_ms", "gap_ms"), [(300, 166.7, 666.7), (2400, 20.8, 83.3)])
def test_times_of_the_annex(rate: int, idle_ms: float, gap_ms: float) -> None:
    assert packet_idle_s(rate) * 1000 == pytest.approx(idle_ms, abs=0.05)
    assert packet_gap_s(rate) * 1000 == pytest.approx(gap_ms, abs=0.05)
