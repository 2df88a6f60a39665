"""Blocks in a stream: noise, loss, doubling; with and without time stamps (ssu.md, sections 5 and 6)."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from protocols.skipped import SkippedRun
from protocols.ssu import (
    BlockFound,
    ExtendedBlock,
    IntervalAssembler,
    IntervalReading,
    Locked,
    NormalBlock,
    OutputEvent,
    SsuSettings,
    SsuStream,
    decode_block,
)

START_S = 1_700_000_100.0 - 1_700_000_100.0 % 900  # on the grid of 15 minutes
NORMAL = decode_block(bytes.fromhex("838382000000007D"))
EXTENDED = decode_block(bytes.fromhex("83838200000000D525"))
assert isinstance(NORMAL, NormalBlock)
assert isinstance(EXTENDED, ExtendedBlock)


def meter_blocks(template: NormalBlock | ExtendedBlock, seconds: int, interval_s: int = 900) -> list[bytes]:
    """What a meter sends second by second: the closing block three times, counters from zero."""
    out = []
    for second in range(seconds):
        left = interval_s - 1 - second % interval_s
        shown = 0 if left <= 2 else left
        elapsed = interval_s - 1 - shown
        block = replace(template, seconds_left=shown, active_pulses=elapsed * 3, reactive_pulses=elapsed)
        out.append(block.encode())
    return out


def drain(stream: SsuStream) -> list[BlockFound | SkippedRun | Locked]:
    out = []
    while (event := stream.next_event()) is not None:
        out.append(event)
    return out


@pytest.mark.req("TR-5.5e")
@pytest.mark.parametrize("template", [NORMAL, EXTENDED], ids=["normal", "extended"])
@pytest.mark.parametrize("stamped", [True, False], ids=["stamped", "unstamped"])
@pytest.mark.parametrize("chunk", [1, 5, 4096])
def test_a_clean_stream_gives_every_block(
    template: NormalBlock | ExtendedBlock, stamped: bool, chunk: int
) -> None:
    blocks = meter_blocks(template, 1000)
    stream = SsuStream()
    for second, block in enumerate(blocks):
        for place in range(0, len(block), chunk):
            at = START_S + second + place * 0.09 if stamped else None
            stream.receive(block[place : place + chunk], at)
    events = drain(stream)
    found = [event.octets for event in events if isinstance(event, BlockFound)]
    assert found == blocks
    assert [event.format for event in events if isinstance(event, Locked)] == [template.format]
    assert not [event for event in events if isinstance(event, SkippedRun)]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("template", [NORMAL, EXTENDED], ids=["normal", "extended"])
def test_damage_gives_no_false_block_and_recovers_in_two(
    template: NormalBlock | ExtendedBlock, seed: int
) -> None:
    rng = random.Random(seed)
    blocks = meter_blocks(template, 800)
    stream = SsuStream()
    sent_good = []
    for place, block in enumerate(blocks):
        octets, damage = bytearray(block), rng.random()
        if damage < 0.05:
            octets.insert(rng.randrange(len(octets)), rng.randrange(256))
        elif damage < 0.10:
            del octets[rng.randrange(len(octets))]
        elif damage < 0.15:
            octets[rng.randrange(len(octets))] ^= 1 << rng.randrange(8)
        elif damage < 0.20:
            octets += rng.randbytes(rng.randrange(1, 12))
        if bytes(octets) == block:
            sent_good.append(place)
        stream.receive(bytes(octets), START_S + place)
    found = {event.octets for event in drain(stream) if isinstance(event, BlockFound)}
    assert found <= set(blocks)
    lost = [place for place in sent_good if blocks[place] not in found]
    # A good block is lost only next to damage: never the second of two good ones that follow each other.
    runs = [place for place in lost if {place - 1, place - 2} <= set(sent_good)]
    assert runs == []


def test_noise_gives_no_block() -> None:
    rng = random.Random(14522)
    stream = SsuStream()
    found = skipped = 0
    for _ in range(300):
        stream.receive(rng.randbytes(1000))
        for event in drain(stream):
            found += isinstance(event, BlockFound)
            skipped += event.count if isinstance(event, SkippedRun) else 0
    assert found == 0
    assert skipped > 298_000


@pytest.mark.req("TR-5.5e")
@pytest.mark.parametrize("template", [NORMAL, EXTENDED], ids=["normal", "extended"])
def test_intervals_hold_the_last_counts_and_end_on_the_grid(template: NormalBlock | ExtendedBlock) -> None:
    assembler = IntervalAssembler(SsuSettings())
    readings, events = [], []
    for second, octets in enumerate(meter_blocks(template, 2750)):
        block = decode_block(octets)
        assert isinstance(block, NormalBlock | ExtendedBlock)
        for out in assembler.feed(BlockFound(block, START_S + 1 + second, 0, octets)):
            (readings if isinstance(out, IntervalReading) else events).append(out)
    # The first interval is not published: the reader may have come late.
    assert [reading.end_s for reading in readings] == [START_S + 1800, START_S + 2700]
    assert all(reading.is_complete for reading in readings)
    assert [max(reading.pulses.values()) for reading in readings] == [899 * 3, 899 * 3]
    assert events == []


def test_a_lost_end_is_a_lower_bound_and_a_wrap_is_added() -> None:
    assert isinstance(NORMAL, NormalBlock)
    assembler = IntervalAssembler(SsuSettings())
    feed = [
        (0, 1, 5),
        (899, 0, 0),
        (500, 399, 32_000),
        (100, 799, 4_000),  # a fall by nearly the whole scale: 15 bits wrapped
        (899, 900, 0),
    ]
    out: list[IntervalReading | OutputEvent] = []
    for left, at, pulses in feed:
        block = replace(NORMAL, seconds_left=left, active_pulses=pulses)
        out += assembler.feed(BlockFound(block, START_S + at, 0, b""))
    (reading,) = (event for event in out if isinstance(event, IntervalReading))
    assert reading.pulses["active"] == 32_768 + 4_000
    assert not reading.is_complete


def closed(*fed: tuple[int, int, int], settings: SsuSettings | None = None) -> list[tuple[int, bool]]:
    """Active pulses and completeness of the intervals closed by (seconds left, arrival, pulses)."""
    assert isinstance(NORMAL, NormalBlock)
    assembler = IntervalAssembler(settings)
    out: list[IntervalReading | OutputEvent] = []
    for left, at, pulses in fed:
        block = replace(NORMAL, seconds_left=left, active_pulses=pulses)
        out += assembler.feed(BlockFound(block, START_S + at, 0, b""))
    return [(one.pulses["active"], one.is_complete) for one in out if isinstance(one, IntervalReading)]


@pytest.mark.req("TR-5.5e")
def test_a_normal_block_that_passes_its_weak_check_damaged_closes_nothing() -> None:
    begin, end = ((0, 1, 5), (899, 2, 0), (3, 898, 90), (2, 899, 95)), (899, 903, 0)
    assert closed(*begin, (0, 900, 99), (0, 901, 99), end) == [(99, True)]
    assert closed(*begin, (0, 900, 99), (0, 901, 107), end) == [(107, False)]
    assert closed(*begin, (0, 900, 99), end) == [(99, False)]
    # A false count in the middle of good ones is not a restart, a fall behind what two blocks told is one.
    assert closed(*begin, (1, 899, 115), (0, 900, 99), (0, 901, 99), end) == [(99, True)]
    assert closed(*begin, (1, 899, 20), (0, 900, 99), (0, 901, 99), end) == [(99, False)]
    # Who knows a meter that closes once, or not at all, says so.
    once = SsuSettings(normal_closings=1)
    assert closed(*begin, (0, 900, 99), end, settings=once) == [(99, True)]
    never = SsuSettings(normal_closings=0, complete_within_s=1)
    assert closed(*begin, (1, 899, 99), (899, 901, 0), settings=never) == [(99, True)]


def test_a_wrap_that_may_be_a_false_block_is_told_as_a_lower_bound() -> None:
    closing = ((0, 900, 400), (0, 901, 400), (899, 903, 0))
    begin = ((0, 1, 5), (899, 2, 0), (500, 400, 32_760), (499, 401, 32_761))
    assert closed(*begin, (498, 402, 2), *closing) == [(32_768 + 400, True)]
    begin = ((0, 1, 5), (899, 2, 0), (500, 400, 100), (499, 401, 32_761))
    assert closed(*begin, (498, 402, 101), *closing) == [(32_768 + 400, False)]


def test_toggles_are_events_only_when_they_change() -> None:
    assert isinstance(NORMAL, NormalBlock)
    assembler = IntervalAssembler()
    seen = []
    for second, toggle in enumerate([True, True, False]):
        block = replace(NORMAL, seconds_left=600 - second, bill_toggle=toggle)
        seen += assembler.feed(BlockFound(block, START_S + 300 + second, 0, b""))
    assert [event.kind for event in seen if isinstance(event, OutputEvent)] == ["demand_reset"]
