"""Mass memory: 12-bit words to octets and back, blocks, channels and interval ends (section 8), vectorised.

A word is the count of one channel in one interval. Words run channel by channel, oldest interval first,
without regard to the border of blocks (166 words a block, and 166 is not a multiple of 3): so blocks are
joined first and cut into intervals afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.nbr14522.errors import LocalProtocolError, RemoteProtocolError

WORDS_PER_BLOCK = 166
OCTETS_PER_BLOCK = 249
WORD_LIMIT = 4096
SIGN_BIT = 0x800
CHANNELS_PER_GROUP = 3
MAX_BLOCK_NUMBER = 999


class Packing(StrEnum):
    """How two words lie in three octets b1 b2 b3 (section 8.2). Only S was found in a maker's reader."""

    S = "S"
    """b1 + 256 x high nibble of b2; b3 + 256 x low nibble of b2."""
    M = "M"
    """b1 x 16 + high nibble of b2; low nibble of b2 x 256 + b3."""
    L = "L"
    """b1 + 256 x low nibble of b2; high nibble of b2 + b3 x 16."""


def unpack_words(octets: bytes | NDArray[np.uint8], packing: Packing = Packing.S) -> NDArray[np.uint16]:
    """Words of any number of whole groups of three octets, along the last axis.

    Args:
        octets: bytes, or an array of uint8 whose last axis is a multiple of 3 long.

    Returns:
        uint16, last axis two thirds as long, all values below 4096.

    >>> unpack_words(bytes.fromhex("341ABC")).tolist()
    [308, 2748]
    """
    flat = np.frombuffer(octets, dtype=np.uint8) if isinstance(octets, bytes) else octets
    if flat.shape[-1] % 3:
        raise RemoteProtocolError(
            f"{flat.shape[-1]} octets are not whole groups of three", where="mass memory"
        )
    groups = flat.reshape(*flat.shape[:-1], -1, 3)
    first, middle, last = (groups[..., i] for i in range(3))
    # Written octet by octet into little-endian words: no wide temporaries, which cost more than the shifts.
    words = np.empty((*groups.shape[:-1], 2), dtype="<u2")
    halves = words.view(np.uint8)
    match packing:
        case Packing.S:
            halves[..., 0] = first
            halves[..., 1] = middle >> 4
            halves[..., 2] = last
            halves[..., 3] = middle & 0x0F
        case Packing.M:
            halves[..., 0] = first << 4 | middle >> 4
            halves[..., 1] = first >> 4
            halves[..., 2] = last
            halves[..., 3] = middle & 0x0F
        case Packing.L:
            halves[..., 0] = first
            halves[..., 1] = middle & 0x0F
            halves[..., 2] = middle >> 4 | last << 4
            halves[..., 3] = last >> 4
    return words.reshape(*groups.shape[:-2], -1)


def pack_words(words: NDArray[Any] | Sequence[int], packing: Packing = Packing.S) -> bytes:
    """Octets of an even number of words below 4096; the inverse of `unpack_words`.

    >>> pack_words([558, 405]).hex(" ")
    '2e 21 95'
    """
    values = np.asarray(words, dtype=np.int64)
    if values.size % 2:
        raise LocalProtocolError(f"{values.size} words: an even number goes into groups", where="pack_words")
    if values.size and (int(values.min()) < 0 or int(values.max()) >= WORD_LIMIT):
        raise LocalProtocolError("a word is outside 0..4095", where="pack_words")
    first, second = values.reshape(-1, 2).T
    octets = np.empty((first.size, 3), dtype=np.uint8)
    match packing:
        case Packing.S:
            octets[:, 0], octets[:, 2] = first & 0xFF, second & 0xFF
            octets[:, 1] = first >> 8 << 4 | second >> 8
        case Packing.M:
            octets[:, 0], octets[:, 2] = first >> 4, second & 0xFF
            octets[:, 1] = (first & 0x0F) << 4 | second >> 8
        case Packing.L:
            octets[:, 0], octets[:, 2] = first & 0xFF, second >> 4
            octets[:, 1] = (second & 0x0F) << 4 | first >> 8
    return octets.tobytes()


def words_to_payloads(
    words: NDArray[Any] | Sequence[int], packing: Packing = Packing.S, filler: int = 0
) -> list[bytes]:
    """Cut words into the 249-octet payloads of blocks; the last one is filled up with `filler` words.

    No words give one payload of filler alone, for meters that answer an empty memory with a block.
    """
    values = np.asarray(words, dtype=np.int64)
    blocks = max(1, -(-values.size // WORDS_PER_BLOCK))
    padded = np.full(blocks * WORDS_PER_BLOCK, filler, dtype=np.int64)
    padded[: values.size] = values
    octets = pack_words(padded, packing)
    return [octets[i : i + OCTETS_PER_BLOCK] for i in range(0, len(octets), OCTETS_PER_BLOCK)]


def payloads_to_words(
    payloads: Sequence[bytes], word_count: int | None = None, packing: Packing = Packing.S
) -> NDArray[np.uint16]:
    """Join the payloads of consecutive blocks and cut at the announced number of words.

    Args:
        payloads: 249 octets each, from block 001 on without a gap. An answer that broke off gives fewer
            words than announced, never an error: what arrived is good.
        word_count: o75-77 or o78-80 of the parameters before; None keeps the filler.
    """
    words = unpack_words(b"".join(payloads), packing)
    return words if word_count is None else words[:word_count]


def split_channels(
    words: NDArray[Any], channels: int = CHANNELS_PER_GROUP, *, sign_bit: bool = False
) -> NDArray[np.int32]:
    """Words as one row per interval, one column per channel; words of a broken last interval are left out.

    Args:
        sign_bit: take bit 11 as a sign, -(w - 2048), as one parser does for reverse flow (section 8.2, B).
    """
    whole = words[..., : words.shape[-1] // channels * channels].astype(np.int32)
    return _signed(whole, sign_bit).reshape(*whole.shape[:-1], -1, channels)


def _signed(counts: NDArray[np.int32], sign_bit: bool) -> NDArray[np.int32]:
    return np.where(counts >= SIGN_BIT, SIGN_BIT - counts, counts) if sign_bit else counts


def decode_memory(
    groups: Sequence[bytes], word_count: int, packing: Packing = Packing.S, *, sign_bit: bool = False
) -> NDArray[np.int32]:
    """All channel groups of one period in one vectorised step.

    Args:
        groups: for each channel group (1-3, 4-6 ...) its payloads joined; all of one length.
        word_count: words announced for each group.

    Returns:
        int32 of shape (intervals, 3 x groups): column c is channel c + 1.
    """
    if len({len(group) for group in groups}) > 1:
        raise LocalProtocolError("groups of one period differ in length", where="decode_memory")
    lengths = {min(word_count, len(group) // 3 * 2) for group in groups}
    intervals = lengths.pop() // CHANNELS_PER_GROUP if groups else 0
    counts = np.empty((intervals, len(groups) * CHANNELS_PER_GROUP), dtype=np.int32)
    # Group by group: what is in between stays in the cache. Then a strided copy for each channel, half the
    # time of one transposing copy, whose inner axis has 3 items.
    for number, group in enumerate(groups):
        words = unpack_words(group, packing)
        for channel in range(CHANNELS_PER_GROUP):
            column = number * CHANNELS_PER_GROUP + channel
            counts[:, column] = words[channel : intervals * CHANNELS_PER_GROUP : CHANNELS_PER_GROUP]
    return _signed(counts, sign_bit)


def interval_ends(last_end: datetime, interval_s: int, count: int) -> NDArray[np.datetime64]:
    """Ends of `count` intervals, oldest first, the last at `last_end` (section 8.3): datetime64[s], naive."""
    if interval_s <= 0:
        raise RemoteProtocolError(f"a memory interval of {interval_s} s", where="mass memory")
    back = np.arange(count - 1, -1, -1, dtype=np.int64) * interval_s
    return np.datetime64(last_end, "s") - back.astype("timedelta64[s]")
