"""Both sides of the link over a simulated wire: the tables of 1.6 and 1.7, the hand-shakes of 1.9."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from protocols.nbr14522 import frames
from protocols.nbr14522.crc import sealed
from protocols.nbr14522.frames import ACK, ENQ, Addressing
from protocols.nbr14522.link import (
    AnswerComplete,
    AnswerDelivered,
    BlockReceived,
    FailureReason,
    FrameSent,
    LinkFailed,
    ReaderLink,
    SignalReceived,
    SignalSent,
    SkipReason,
    Synchronised,
)
from protocols.nbr14522.messages import (
    MemoryBlock,
    memory_blocks,
)
from protocols.nbr14522.profile import RELAXED, STRICT, LinkTiming, MeterProfile
from protocols.nbr14522.profiles import DEFAULT, PROFILES
from tests.protocols.nbr14522.link_cases import (
    ALL_LINES,
    FISCAL,
    LINE_NAMES,
    MEMORY,
    P2_ACK,
    STRICT_P0,
    VERIFY,
    accounted,
    drained,
    failed,
    of,
    skipped,
)
from tests.protocols.nbr14522.pair import SERIAL, Pair, ending, words_of

pytestmark = pytest.mark.req("TR-5.5a", "X-sim")

# Whole exchanges, in every way of travelling.


@pytest.mark.parametrize("chunk", [0, 1, 7, 300])
@pytest.mark.parametrize("timing", [STRICT, RELAXED], ids=lambda timing: timing.name)
@pytest.mark.parametrize("profile", [*PROFILES.values(), P2_ACK], ids=lambda profile: profile.name)
def test_a_session(profile: MeterProfile, timing: LinkTiming, chunk: int) -> None:
    pair = Pair(replace(profile, timing=timing), chunk=chunk)
    assert ending(pair.run(VERIFY)) == AnswerComplete(0x21, 0x21, 1, pair.now)
    events = pair.run(MEMORY)
    assert ending(events) == AnswerComplete(0x26, 0x26, 4, pair.now)
    assert words_of(events)[:600] == list(range(600))
    assert [event.number for event in events if isinstance(event, BlockReceived)] == [1, 2, 3, 4]
    end = ending(pair.run(FISCAL))
    assert isinstance(end, AnswerComplete)
    assert (end.code, end.is_exception) == (0x39, True)
    pair.let_pass(0.1)
    assert len(of(pair.meter_events, AnswerDelivered)) == 3
    assert accounted(pair.reader_events) == sum(
        len(event.octets) if isinstance(event, FrameSent) else event.count
        for event in pair.meter_events
        if isinstance(event, FrameSent | SignalSent)
    ), "every octet is accounted for"


@pytest.mark.parametrize("enq_required", [0, 1, 2])
def test_acting_on_which_enq_is_a_setting(enq_required: int) -> None:
    profile = replace(DEFAULT, enq_required=enq_required)
    link = ReaderLink(profile)
    link.send(VERIFY, 0.0)
    sent_after = 0
    while not link.data_to_send():
        sent_after += 1
        link.receive(bytes([ENQ]), 0.1 * sent_after)
    assert sent_after == enq_required
    assert ending(Pair(profile).run(VERIFY)).blocks == 1


def test_two_enq_too_far_apart_are_no_neighbours() -> None:
    link = ReaderLink(STRICT_P0)
    link.send(VERIFY, 0.0)
    for now in (1.0, 1.6, 2.2):
        link.receive(bytes([ENQ]), now)
        assert link.data_to_send() == b""
    link.receive(bytes([ENQ]), 2.7)
    assert link.data_to_send() == VERIFY


def test_an_enq_just_before_the_command_counts() -> None:
    link = ReaderLink(replace(DEFAULT, enq_required=1))
    link.receive(bytes([ENQ]), 0.0)
    link.send(VERIFY, 0.005)
    assert link.data_to_send() == VERIFY


def test_noise_modem_text_and_telnet_options_before_enq() -> None:
    link = ReaderLink(DEFAULT)
    link.send(VERIFY, 0.0)
    for octet in b"\xff\xfb\x01\xff\xfd\x05CONNECT 9600\r\n\xff\xff\xfe\x05" + bytes([ENQ]):
        link.receive(bytes([octet]), 0.1)
    assert link.data_to_send() == b""
    link.receive(bytes([ENQ]), 0.4)
    assert link.data_to_send() == VERIFY
    events = drained(link)
    # FF before FF FE 05 begins no option.
    assert skipped(events) == {SkipReason.TELNET: 9, SkipReason.NOISE_BEFORE_ENQ: 15}
    assert sum(event.count for event in of(events, SignalReceived)) == 2  # type: ignore[attr-defined]
    assert of(events, Synchronised)


def test_echo_of_our_own_octets_is_dropped() -> None:
    """An optical head that returns what it sends, signals too."""
    pair = Pair(STRICT_P0)
    ship = pair._ship

    def echo(direction: str, data: bytes) -> None:
        if direction == "to meter":
            ship("to reader", data)
        ship(direction, data)

    pair._ship = echo  # type: ignore[method-assign]
    events = pair.run(MEMORY)
    assert words_of(events)[:600] == list(range(600))
    assert skipped(events)[SkipReason.ECHO] == 66 + 3
    strict = Pair(replace(STRICT_P0, tolerates_echo=False))
    ship = strict._ship
    strict._ship = echo  # type: ignore[method-assign]
    assert isinstance(ending(strict.run(VERIFY)), LinkFailed)


# Damage: what is lost or broken on the wire comes right.


@pytest.mark.parametrize("profile", ALL_LINES, ids=LINE_NAMES)
@pytest.mark.parametrize("direction", ["to meter", "to reader"])
@pytest.mark.parametrize("kind", ["damaged", "lost", "short"])
def test_one_bad_transmission_is_harmless(profile: MeterProfile, direction: str, kind: str) -> None:
    """Any one transmission damaged, lost or cut: all words come, in order, or a typed failure."""
    recovered = 0
    for index in range(7):
        pair = Pair(profile)

        def damage(way: str, count: int, octets: bytes, at: int = index) -> bytes:
            if (way, count) != (direction, at):
                return octets
            if kind == "lost":
                return b""
            if len(octets) == 1:
                return octets if kind == "short" else bytes([octets[0] ^ 0x40])
            return octets[:40] if kind == "short" else octets[:9] + bytes([octets[9] ^ 1]) + octets[10:]

        pair.damage = damage
        events = pair.run(MEMORY)
        words = words_of(events)
        assert words[:600] == list(range(600))[: len(words)]
        end = ending(events)
        if isinstance(end, AnswerComplete):
            assert words[:600] == list(range(600))
            recovered += 1
        else:
            assert end.blocks == len(words) // 166
    # On P0 a spoilt ACK ends the answer (1.7), and a lost block looks like a lost ACK (1.6).
    assert recovered >= (3 if profile.addressing is Addressing.P0 else 6)


@pytest.mark.parametrize("profile", ALL_LINES, ids=LINE_NAMES)
def test_truncation_at_every_offset(profile: MeterProfile) -> None:
    """A block cut anywhere is asked for again."""
    size = frames.RESPONSE_WIRE_SIZE[profile.addressing]
    for cut in range(0, size, 1 if profile.addressing is Addressing.P8 else 13):
        pair = Pair(profile, damage=cut_first_block(size, cut))
        events = pair.run(MEMORY)
        assert isinstance(ending(events), AnswerComplete), cut
        assert words_of(events)[:600] == list(range(600))


def cut_first_block(size: int, cut: int):
    blocks = itertools.count()

    def damage(direction: str, index: int, octets: bytes) -> bytes:
        is_first = direction == "to reader" and len(octets) == size and next(blocks) == 0
        return octets[:cut] if is_first else octets

    return damage


def test_a_lost_ack_is_repeated_on_enq() -> None:
    pair = Pair(STRICT_P0, damage=lambda way, i, o: b"" if way == "to meter" and i == 1 else o)
    events = pair.run(MEMORY)
    assert words_of(events)[:600] == list(range(600))
    acks = [event for event in events if isinstance(event, SignalSent) and event.signal == ACK]
    assert sum(event.count for event in acks) == 5
    assert isinstance(ending(events), AnswerComplete)


def test_a_repeated_block_is_acknowledged_and_dropped() -> None:
    blocks = memory_blocks(0x26, SERIAL, [bytes([i]) * 249 for i in range(3)])
    pair = Pair(STRICT_P0, answer=lambda frame: [blocks[0], blocks[0], blocks[1], blocks[1], blocks[2]])
    events = pair.run(MEMORY)
    assert [event.number for event in events if isinstance(event, BlockReceived)] == [1, 2, 3]
    assert skipped(events)[SkipReason.DUPLICATE_BLOCK] == 2 * 256


@pytest.mark.parametrize("profile", ALL_LINES, ids=LINE_NAMES)
@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ((0, 2), FailureReason.BLOCK_OUT_OF_ORDER),
        ((1,), FailureReason.BLOCK_OUT_OF_ORDER),
        ((0, 1, 3), FailureReason.ANSWER_CHANGED),
        ((0, 4), FailureReason.MALFORMED_BLOCK),
    ],
)
def test_blocks_that_do_not_fit_fail_and_keep_the_good(
    profile: MeterProfile, order: tuple[int, ...], reason: FailureReason
) -> None:
    blocks = memory_blocks(0x26, SERIAL, [bytes([i]) * 249 for i in range(3)])
    blocks.append(MemoryBlock(code=0x26, mark=(1, False), payload=bytes([9]) * 249).encode(SERIAL))
    blocks.append(sealed(blocks[1][:5] + b"\x2a\xbb" + blocks[1][7:-2]))
    pair = Pair(profile, answer=lambda frame: [blocks[i] for i in order] + [blocks[2]])
    end = failed(pair.run(MEMORY))
    good = len([i for position, i in enumerate(order) if i == position and i < 3])
    assert (end.reason, end.blocks) == (reason, good)
    assert end.stage == (f"command 26 block {good + 1}" if good else "command 26")
