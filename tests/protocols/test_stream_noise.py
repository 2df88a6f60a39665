"""Noise is never a reading, and after it the next good records are found (section 5 of the references).

Here so many octets that a change for the worse shows; tests/benchmarks/bench_noise.py takes ten million.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.celesc import CelescStream, Packet, encode_packet
from protocols.ssu import BlockFound, ExtendedBlock, Format, MixedBlock, NormalBlock, SsuStream
from simulator.streams.output import BadLine

OCTETS = 200_000


def streams() -> list[SsuStream | CelescStream]:
    return [
        CelescStream(),
        SsuStream(None, (Format.NORMAL,)),
        SsuStream(None, (Format.EXTENDED,)),
        SsuStream(),
        SsuStream(None, (Format.MIXED,)),
    ]


def good(stream: SsuStream | CelescStream) -> list[BlockFound | Packet]:
    found = []
    while (event := stream.next_event()) is not None:
        if isinstance(event, BlockFound | Packet):
            found.append(event)
    return found


@pytest.mark.req("CE-A", "TR-5.5e")
@pytest.mark.parametrize("place", range(5), ids=["celesc", "normal", "extended", "auto", "mixed"])
@pytest.mark.parametrize("is_stamped", [True, False])
def test_noise_gives_no_record(place: int, is_stamped: bool) -> None:
    stream, rng = streams()[place], random.Random(11)
    fed = 0
    while fed < OCTETS:
        octets = rng.randbytes(rng.randrange(1, 20))
        stream.receive(octets, fed / 10 if is_stamped else None)
        fed += len(octets)
        assert not good(stream)


def normal(left: int) -> bytes:
    return NormalBlock(left, False, False, False, True, "ponta", "azul", True, 900 - left, 0).encode()


def extended(left: int) -> bytes:
    return ExtendedBlock(left, False, False, False, True, "ponta", 1, True, 900 - left, 0).encode()


def mixed(left: int) -> bytes:
    return MixedBlock(
        seconds_left=left,
        wiring="star",
        meter_time=datetime(2026, 11, 20, 12) - timedelta(seconds=left),
        rotating_field="serial_number",
        rotating_value=77,
        voltages_v=(127.0, 127.0, 127.0),
        currents_a=(2.5, 2.5, 2.5, 0.0),
        active_powers_w=(300.0, 300.0, 300.0),
        reactive_powers_var=(-10.0, 0.0, 10.0),
        frequency_hz=60.0,
        bill_toggle=False,
        reactive_toggle=True,
        is_capacitive=False,
        is_inductive=True,
        is_reactive_tariff=True,
        segment="fora_de_ponta",
        counters=(900 - left, 0, 0, 0, 0, 0),
    ).encode()


ENCODERS: dict[Format, Callable[[int], bytes]] = {
    Format.NORMAL: normal,
    Format.EXTENDED: extended,
    Format.MIXED: mixed,
}


@pytest.mark.req("TR-5.5e")
@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("seed", range(20))
def test_ssu_is_found_again_within_two_good_blocks(form: Format, seed: int) -> None:
    stream, rng, encode = SsuStream(None, (form,)), random.Random(seed), ENCODERS[form]
    for second in range(10):
        stream.receive(encode(800 - second), float(second))
    assert len(good(stream)) == 10
    stream.receive(rng.randbytes(rng.randrange(1, 60)), 10.0)
    good(stream)
    for second in (20, 21):
        stream.receive(encode(800 - second), float(second))
    assert [event.block.seconds_left for event in good(stream)][-2:] == [780, 779]


RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2)


@pytest.mark.req("TR-5.5e")
@pytest.mark.parametrize("is_stamped", [True, False], ids=["stamped", "unstamped"])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(
    ("form", "formats"),
    [*((form, (form,)) for form in Format), (Format.NORMAL, None), (Format.EXTENDED, None)],
    ids=[*Format, "normal-of-both", "extended-of-both"],
)
def test_of_two_good_ssu_blocks_after_any_damage_the_second_is_found(
    form: Format, formats: tuple[Format, ...] | None, rate: float, is_stamped: bool
) -> None:
    """With stamps and a block before it, even one: its countdown has gone on with the clock."""
    stream = SsuStream(None, formats)
    line = BadLine(rate, rate / 5, seed=3)
    sent, found_at, was_good, found = {}, {}, {}, set()
    for second in range(880):
        sent[second] = ENCODERS[form](890 - second)
        octets = line.pass_on(sent[second])
        was_good[second] = octets == sent[second]
        stream.receive(octets, float(second) if is_stamped else None)
        found_at[second] = bool(found)
        found |= {event.octets for event in good(stream)}
    # The XOR of a normal block passes one damaged block in some hundred: that such blocks make no false
    # interval is the assembler's part (tests/collector/test_stream_decode.py).
    false = found - set(sent.values())
    assert len(false) <= (0 if form is not Format.NORMAL or rate < 0.05 else 10)
    for second in range(2, 878):
        in_company = was_good[second] and was_good[second - 1]
        if not false and (in_company or (was_good[second] and is_stamped and found_at[second])):
            assert sent[second] in found, second


@pytest.mark.req("CE-A")
@pytest.mark.parametrize("seed", range(20))
def test_celesc_is_found_again_within_two_good_packets(seed: int) -> None:
    stream, rng = CelescStream(), random.Random(seed)
    packet = encode_packet("0123456789", 0x0A, 0x02, bytes.fromhex("013579"))
    stream.receive(rng.randbytes(rng.randrange(1, 60)) + b"\xaa\x55", 0.0)
    good(stream)
    for place in (1, 2):
        stream.receive(packet, float(place))
    assert len(good(stream)) == 2


@pytest.mark.req("CE-A")
@pytest.mark.parametrize("is_stamped", [True, False], ids=["stamped", "unstamped"])
@pytest.mark.parametrize("rate", RATES)
def test_of_two_good_celesc_packets_after_any_damage_the_second_is_found(
    rate: float, is_stamped: bool
) -> None:
    """With stamps the first one, too."""
    stream, line = CelescStream(), BadLine(rate, rate / 5, seed=3)
    sent, was_good, found = {}, {}, set()
    for second in range(2000):
        sent[second] = encode_packet("0123456789", 0x0A, 0x02, bytes.fromhex(f"{second:06d}"))
        octets = line.pass_on(sent[second])
        was_good[second] = octets == sent[second]
        stream.receive(octets, float(second) if is_stamped else None)
        found |= {event.value for event in good(stream)}
    assert found <= set(sent)
    for second in range(1, 1995):
        if was_good[second] and (is_stamped or was_good[second - 1]):
            assert second in found, second


PIECES = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=40),
        st.integers(0, 900).map(normal),
        st.integers(0, 900).map(extended),
        st.integers(0, 900).map(mixed),
        st.tuples(st.integers(0, 900).map(extended), st.integers(1, 8)).map(lambda cut: cut[0][: cut[1]]),
        st.integers(0, 999_999).map(
            lambda value: encode_packet("0123456789", 0x0A, 0x02, bytes.fromhex(f"{value:06d}"))
        ),
        st.just(b"\xaa\x55" * 40),
        st.just(bytes(64)),
    ),
    max_size=60,
)


@given(PIECES, st.integers(0, 4), st.lists(st.sampled_from([None, 0.0, 0.01, 0.2, 1.0, 30.0]), min_size=1))
def test_every_octet_is_in_a_record_or_told_as_skipped(
    pieces: list[bytes], place: int, gaps_s: list[float | None]
) -> None:
    stream, now, used, fed = streams()[place], 0.0, 0, 0
    for number, octets in enumerate(pieces):
        gap_s = gaps_s[number % len(gaps_s)]
        now += gap_s or 0.0
        stream.receive(octets, None if gap_s is None else now)
        fed += len(octets)
        assert len(stream._buffer) <= 2048
    stream.close()
    while (event := stream.next_event()) is not None:
        if isinstance(event, BlockFound):
            used += len(event.octets)
        elif isinstance(event, Packet):
            used += 12 + len(event.data)
        elif hasattr(event, "count"):
            used += event.count
    assert used == fed
