"""The 12-bit words: vectors of 8.2, of the gaps' section 1.2, and the real month."""

from __future__ import annotations

import csv
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.nbr14522.errors import LocalProtocolError, RemoteProtocolError
from protocols.nbr14522.memory import (
    Packing,
    decode_memory,
    interval_ends,
    pack_words,
    payloads_to_words,
    split_channels,
    unpack_words,
    words_to_payloads,
)

pytestmark = pytest.mark.req("TR-5.1", "TR-5.5a")

REAL_MONTH = Path(__file__).parents[4] / "shared" / "data" / "pulses_5min_2016-09-28_2016-10-28.csv"

VECTORS = {
    "34 1A BC": {"S": (308, 2748), "M": (833, 2748), "L": (2612, 3009)},
    "2E 21 95": {"S": (558, 405), "M": (738, 405), "L": (302, 2386)},
    "FF F0 00": {"S": (4095, 0), "M": (4095, 0), "L": (255, 15)},
    "00 0F FF": {"S": (0, 4095), "M": (0, 4095), "L": (3840, 4080)},
    "01 00 02": {"S": (1, 2), "M": (16, 2), "L": (1, 32)},
}


@pytest.mark.parametrize("packing", list(Packing))
@pytest.mark.parametrize("octets", VECTORS)
def test_packing_vectors(octets: str, packing: Packing) -> None:
    expected = VECTORS[octets][packing]
    assert tuple(unpack_words(bytes.fromhex(octets), packing)) == expected
    assert pack_words(expected, packing) == bytes.fromhex(octets)


def test_twelve_words_vector() -> None:
    words = [6, 2, 0, 4, 2, 0, 5, 2, 0, 6, 2, 0]
    octets = bytes.fromhex("06 00 02 00 00 04 02 00 00 05 00 02 00 00 06 02 00 00")
    assert pack_words(words) == octets
    assert unpack_words(octets).tolist() == words
    assert split_channels(unpack_words(octets)).tolist() == [[6, 2, 0], [4, 2, 0], [5, 2, 0], [6, 2, 0]]


@given(st.lists(st.integers(0, 4095), max_size=700), st.sampled_from(list(Packing)))
def test_words_survive_blocks(words: list[int], packing: Packing) -> None:
    payloads = words_to_payloads(words, packing, filler=4095)
    assert len(payloads) == max(1, -(-len(words) // 166))
    assert {len(payload) for payload in payloads} == {249}
    assert payloads_to_words(payloads, len(words), packing).tolist() == words


@given(st.binary(max_size=300), st.sampled_from(list(Packing)))
def test_any_octets_unpack_or_are_refused(octets: bytes, packing: Packing) -> None:
    if len(octets) % 3:
        with pytest.raises(RemoteProtocolError):
            unpack_words(octets, packing)
    else:
        assert pack_words(unpack_words(octets, packing), packing) == octets


def test_words_out_of_range_are_our_own_fault() -> None:
    for words in ([4096, 0], [-1, 0], [1]):
        with pytest.raises(LocalProtocolError):
            pack_words(words)


def test_blocks_that_never_came_give_fewer_words() -> None:
    payloads = words_to_payloads(range(600))
    assert payloads_to_words(payloads[:2], 600).tolist() == list(range(332))


def test_sign_bit_is_a_setting() -> None:
    words = np.array([5, 2048, 2049, 4095, 0, 1], dtype=np.uint16)
    assert split_channels(words).tolist() == [[5, 2048, 2049], [4095, 0, 1]]
    assert split_channels(words, sign_bit=True).tolist() == [[5, 0, -1], [-2047, 0, 1]]


def test_whole_month_of_twelve_channels_is_one_step() -> None:
    rng = np.random.default_rng(14522)
    counts = rng.integers(0, 4096, size=(8928, 12))
    groups = [b"".join(words_to_payloads(counts[:, g : g + 3].ravel())) for g in range(0, 12, 3)]
    decoded = decode_memory(groups, 8928 * 3)
    assert decoded.shape == (8928, 12)
    assert np.array_equal(decoded, counts)


@pytest.mark.req("TR-5.6b")
def test_three_channel_memory() -> None:
    counts = np.arange(30).reshape(10, 3)
    assert np.array_equal(decode_memory([b"".join(words_to_payloads(counts.ravel()))], 30), counts)


def test_interval_ends_count_back_from_the_last() -> None:
    """The real frame of 3.3: 5,985 words are 1,995 intervals, from the reset of 01/10 to 07/10 22:15."""
    ends = interval_ends(datetime(2021, 10, 7, 22, 15), 300, 5985 // 3)
    assert ends[0] == np.datetime64("2021-10-01T00:05:00")
    assert ends[-1] == np.datetime64("2021-10-07T22:15:00")
    assert len(interval_ends(datetime(2021, 1, 1), 300, 0)) == 0


@pytest.mark.skipif(not REAL_MONTH.exists(), reason="real data absent (../shared/data)")
def test_real_month_survives_the_words() -> None:
    with REAL_MONTH.open() as file:
        pulses = [int(row["pulses"]) for row in csv.DictReader(file)]
    assert (len(pulses), sum(pulses)) == (8641, 2_373_475)
    words = np.column_stack([pulses, np.zeros(8641, int), np.zeros(8641, int)]).ravel()
    decoded = split_channels(payloads_to_words(words_to_payloads(words), words.size))
    assert decoded[:, 0].tolist() == pulses
    assert sum(decoded[:, 0].tolist()) * 72 / 10_000 == pytest.approx(17_089.02)
