"""Bad lines: seeded, in order, and no worse than asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.wires.impairment import PERFECT, QUALITIES, ImpairedLine, LinkQuality

qualities = st.builds(
    LinkQuality,
    delay_s=st.floats(0, 5),
    jitter_s=st.floats(0, 5),
    portion_octets=st.none() | st.integers(1, 300),
    portion_gap_s=st.floats(0, 1),
)
sendings = st.lists(st.tuples(st.floats(0, 10), st.binary(max_size=300)), max_size=20)


@given(qualities, sendings, st.integers(0, 9))
def test_a_slow_line_keeps_every_octet_and_their_order(quality, steps, seed) -> None:
    line, now_s, parcels = ImpairedLine(quality, seed, 1, 0.0), 0.0, []
    for step, octets in steps:
        now_s += step
        arrived = line.up.carry(octets, now_s)
        assert all(parcel.at_s >= now_s + quality.delay_s for parcel in arrived)
        if quality.portion_octets:
            assert all(1 <= len(parcel.octets) <= quality.portion_octets for parcel in arrived)
        parcels += arrived
    assert b"".join(p.octets for p in parcels) == b"".join(octets for _, octets in steps)
    assert [p.at_s for p in parcels] == sorted({p.at_s for p in parcels})
    assert not line.is_broken


@given(st.integers(0, 50), st.lists(st.binary(min_size=1, max_size=200), max_size=20))
def test_luck_follows_from_seed_and_connection(seed, sent) -> None:
    quality = LinkQuality(jitter_s=1, loss=0.05, corruption=0.05, portion_octets=40, mean_octets_to_break=900)
    runs = []
    for _ in range(2):
        line = ImpairedLine(quality, seed, 3, 0.0)
        runs.append(([line.down.carry(octets, 0.0) for octets in sent], line.is_broken, line.is_refused))
    assert runs[0] == runs[1]


def test_loss_and_damage_come_as_often_as_asked() -> None:
    line = ImpairedLine(LinkQuality(loss=0.01, corruption=0.02), 5, 1, 0.0)
    octets = bytes(200)
    got = b"".join(p.octets for _ in range(1000) for p in line.up.carry(octets, 0.0))
    assert 0.985 < len(got) / 200_000 < 0.995
    damaged = [octet for octet in got if octet]
    assert 0.017 < len(damaged) / len(got) < 0.023
    assert all(octet.bit_count() == 1 for octet in damaged)
    nothing = ImpairedLine(LinkQuality(loss=1.0), 5, 1, 0.0)
    assert nothing.up.carry(octets, 0.0) == []


def test_connections_break_within_their_octets() -> None:
    lengths = []
    for number in range(300):
        line = ImpairedLine(LinkQuality(mean_octets_to_break=1000), 1, number, 0.0)
        got = 0
        while not line.is_broken:
            way = line.up if got % 2 else line.down
            got += sum(len(p.octets) for p in way.carry(bytes(37), 0.0))
        assert line.up.carry(b"later", 1.0) == []
        lengths.append(got)
    assert 800 < sum(lengths) / len(lengths) < 1200


def test_refusals_and_lives_by_number_of_the_connection() -> None:
    lines = [
        ImpairedLine(LinkQuality(connect_failure=0.3, mean_s_to_break=60), 2, n, 100.0) for n in range(999)
    ]
    assert 0.25 < sum(line.is_refused for line in lines) / 999 < 0.35
    lives = [line.breaks_at_s - 100.0 for line in lines]
    assert min(lives) > 0
    assert 50 < sum(lives) / 999 < 70


def test_named_qualities() -> None:
    assert QUALITIES["perfect"] is PERFECT
    assert PERFECT.is_perfect
    assert not QUALITIES["gprs"].is_perfect
    assert QUALITIES["gprs-bad"].connect_failure > QUALITIES["gprs"].connect_failure


@pytest.mark.parametrize("quality", [PERFECT])
def test_a_perfect_line_hands_over_at_once(quality) -> None:
    assert [(p.at_s, p.octets) for p in ImpairedLine(quality, 0, 1, 0).up.carry(b"abc", 7.0)] == [
        (7.0, b"abc")
    ]
