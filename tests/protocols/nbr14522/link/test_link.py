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


# Limits: how often is too often.


def dead_meter(now: float, link: ReaderLink, replies: bytes = b"") -> tuple[list[Event], int, float]:
    """Drive a reader on a wire that answers each transmission with `replies`; events, sends, end."""
    sends = 0
    events: list[Event] = []
    while not link.is_idle:
        out = link.data_to_send()
        if out:
            sends += 1
            if replies:
                link.receive(replies, now)
        elif (deadline := link.next_deadline()) is not None:
            now = deadline
            link.advance(now)
        events += drained(link)
    return events, sends, now


def synchronised(profile: MeterProfile = STRICT_P0, command: bytes = VERIFY, **options: bool) -> ReaderLink:
    link = ReaderLink(profile)
    link.send(command, 0.0, **options)
    link.receive(bytes([ENQ]), 0.0)
    link.receive(bytes([ENQ]), 0.2)
    return link


def test_a_silent_line_fails_for_want_of_enq() -> None:
    link = ReaderLink(STRICT_P0)
    link.send(VERIFY, 0.0)
    events, sends, now = dead_meter(0.0, link)
    assert (failed(events).reason, failed(events).stage, sends) == (FailureReason.NO_ENQ, "synchronise", 0)
    assert now == STRICT.synchronise_s


def test_seven_sends_without_an_answer() -> None:
    events, sends, now = dead_meter(0.2, synchronised())
    assert (failed(events).reason, failed(events).stage, sends) == (FailureReason.NO_ANSWER, "command 21", 7)
    assert now == pytest.approx(0.2 + 7 * STRICT.max_response_s)


def test_seven_refusals() -> None:
    events, sends, _ = dead_meter(0.2, synchronised(), bytes([NAK]))
    assert (failed(events).reason, sends) == (FailureReason.REFUSED, 7)


def test_seven_damaged_blocks() -> None:
    block = bytearray(parameters().encode(SERIAL))
    block[30] ^= 1
    events, sends, _ = dead_meter(0.2, synchronised(), bytes(block))
    assert (failed(events).reason, sends) == (FailureReason.BAD_CRC, 7)
    naks = [event for event in events if isinstance(event, SignalSent) and event.signal == NAK]
    assert sum(event.count for event in naks) == 6
    received = [event for event in events if isinstance(event, FrameReceived)]
    assert len(received) == 7
    assert not any(event.crc_ok for event in received)


def test_seven_truncated_blocks() -> None:
    block = parameters().encode(SERIAL)[:200]
    events, sends, _ = dead_meter(0.2, synchronised(), block)
    assert (failed(events).reason, sends) == (FailureReason.NO_ANSWER, 7)
    assert skipped(events)[SkipReason.TRUNCATED] == 7 * 200


def test_seven_broken_sequences() -> None:
    link = ReaderLink(STRICT_P0)
    link.send(VERIFY, 0.0)
    now, events, sends = 0.0, [], 0
    while not link.is_idle:
        now += 0.1
        link.receive(bytes([ENQ]), now)
        if link.data_to_send():
            sends += 1
            link.receive(b"\x77", now + 0.001)
        events += drained(link)
    assert (failed(events).reason, sends) == (FailureReason.SEQUENCE_BROKEN, 7)


def test_twelve_waits_more_than_the_first() -> None:
    link = synchronised()
    link.data_to_send()
    for count in range(12):
        assert not link.is_idle, count
        link.receive(bytes([WAIT]), 1.0 + count * 300 if count else 0.3)
    assert not link.is_idle
    link.receive(bytes([WAIT]), 1.0 + 12 * 300)
    assert failed(drained(link)).reason is FailureReason.WAITED_TOO_LONG


def test_waits_are_counted_across_repeated_commands() -> None:
    link = synchronised()
    link.data_to_send()
    now, sends = 0.3, 0
    while not link.is_idle:
        link.receive(bytes([WAIT]), now)
        link.receive(bytes([ENQ]), now + 0.1)
        sends += bool(link.data_to_send())
        now += 0.3
    assert (failed(drained(link)).reason, sends) == (FailureReason.WAITED_TOO_LONG, 12)


def test_silence_after_wait_is_bounded() -> None:
    link = synchronised()
    link.data_to_send()
    link.receive(bytes([WAIT]), 0.3)
    assert link.next_deadline() == pytest.approx(0.3 + 305.0)
    link.advance(306.0)
    assert failed(drained(link)).reason is FailureReason.NO_ANSWER


def test_anything_but_enq_after_wait_breaks_the_sequence() -> None:
    for octet in (0x21, 0x39, NAK, 0x77):
        link = synchronised()
        link.data_to_send()
        link.receive(bytes([WAIT, octet]), 0.3)
        drained(link)
        assert not link.is_idle
        link.advance(0.35)
        link.receive(bytes([ENQ]), 0.4)
        link.receive(bytes([ENQ]), 0.5)
        assert link.data_to_send() == VERIFY


def test_wait_enq_command_again() -> None:
    def work_first(pair: Pair, event: CommandReceived) -> None:
        if event.is_repeat:
            pair.meter.send(answers()(event.frame), pair.now)
        else:
            pair.meter.delay(pair.now)

    pair = Pair(STRICT_P0, on_command=work_first)
    pair.reader.send(VERIFY, 0.0)
    pair.settle()
    pair.let_pass(700.0)
    assert not pair.reader.is_idle
    pair.meter.ready(pair.now)
    pair.settle()
    pair.let_pass(1.0)
    assert isinstance(ending(pair.reader_events), AnswerComplete)
    waits = [e for e in pair.reader_events if isinstance(e, SignalReceived) and e.signal == WAIT]
    assert sum(event.count for event in waits) == 3


def test_refused_in_mid_answer_fails_and_keeps_the_blocks() -> None:
    link = synchronised(command=MEMORY)
    link.data_to_send()
    blocks = memory_blocks(0x26, SERIAL, [bytes(249)] * 3)
    link.receive(blocks[0], 0.3)
    link.receive(bytes([NAK]), 0.31)
    end = failed(drained(link))
    assert (end.reason, end.blocks, end.last_block) == (FailureReason.REFUSED, 1, 1)
    assert end.stage == "command 26 block 2"


def test_silence_in_mid_answer_fails_and_keeps_the_blocks() -> None:
    link = synchronised(command=MEMORY)
    link.data_to_send()
    link.receive(memory_blocks(0x26, SERIAL, [bytes(249)] * 3)[0], 0.3)
    link.advance(1.0)
    assert not link.is_idle, "the meter may still call for a lost ACK"
    link.advance(0.3 + STRICT.max_response_s + STRICT.max_enq_s)
    events = drained(link)
    assert failed(events).reason is FailureReason.BROKEN_OFF
    assert len(of(events, BlockReceived)) == 1
    assert "command 26 block 2" in str(failed(events).fault())


def test_enq_for_ever_in_mid_answer_ends() -> None:
    link = synchronised(command=MEMORY)
    link.data_to_send()
    link.receive(memory_blocks(0x26, SERIAL, [bytes(249)] * 3)[0], 0.3)
    for count in range(7):
        assert not link.is_idle
        link.receive(bytes([ENQ]), 0.4 + count * 0.1)
    assert failed(drained(link)).reason is FailureReason.BROKEN_OFF


@pytest.mark.parametrize("recovery", list(GapRecovery))
def test_a_gap_in_mid_answer_is_closed_as_the_profile_says(recovery: GapRecovery) -> None:
    link = synchronised(replace(STRICT_P0, gap_recovery=recovery), MEMORY)
    link.data_to_send()
    blocks = memory_blocks(0x26, SERIAL, [bytes(249)] * 3)
    link.receive(blocks[0], 0.3)
    link.receive(blocks[1][:100], 0.4)
    assert link.data_to_send() == bytes([ACK])
    link.advance(0.41)
    assert link.data_to_send() == (bytes([NAK]) if recovery is GapRecovery.NAK else MEMORY)


@pytest.mark.parametrize("profile", [STRICT_P0, P8_GENERIC], ids=["P0", "P8"])
def test_a_demand_reset_is_never_sent_twice(profile: MeterProfile) -> None:
    """Silence or broken octets after 20 leave its outcome unknown; only a refusal allows another try."""
    for lost in ("to meter", "to reader"):
        pair = Pair(
            profile,
            damage=lambda way, i, o, lost=lost: b"" if way == lost and len(o) > 60 else o,
        )
        end = failed(pair.run(RESET, may_repeat=False))
        assert end.reason is FailureReason.OUTCOME_UNKNOWN
        sent = [e for e in pair.reader_events if isinstance(e, FrameSent)]
        assert len(sent) == 1


def test_a_refused_demand_reset_is_sent_again() -> None:
    pair = Pair(STRICT_P0, damage=once("to meter", 0))
    assert isinstance(ending(pair.run(RESET, may_repeat=False)), AnswerComplete)
    assert len(of(pair.meter_events, CommandReceived)) == 1


def test_a_truncated_reset_answer_is_asked_for_again_without_a_reset() -> None:
    cut = []

    def damage(way: str, index: int, octets: bytes) -> bytes:
        if way == "to reader" and len(octets) == 258 and not cut:
            cut.append(1)
            return octets[:100]
        return octets

    pair = Pair(STRICT_P0, damage=damage)
    assert isinstance(ending(pair.run(RESET, may_repeat=False)), AnswerComplete)
    assert len(of(pair.meter_events, CommandReceived)) == 1


def test_enq_in_flight_are_passed_over_on_a_slow_line() -> None:
    """With a round trip of a second, ENQ cross the command; the relaxed profile knows that."""
    pair = Pair(DEFAULT, latency_s=0.6)
    events = pair.run(MEMORY)
    assert isinstance(ending(events), AnswerComplete)
    assert len(of(events, FrameSent)) == 1


def test_noise_without_end_is_cut_off() -> None:
    for profile in (STRICT_P0, P8_GENERIC):
        link = ReaderLink(profile, SERIAL)
        link.send(VERIFY, 0.0)
        for _ in range(100):
            link.receive(b"\x77" * 1000, 0.0)
        events = drained(link)
        assert failed(events).reason is FailureReason.FLOOD
        assert len(events) < 10
        assert skipped(events).keys() <= {
            SkipReason.NOISE_BEFORE_ENQ,
            SkipReason.NOISE_BEFORE_FRAME,
            SkipReason.IDLE,
        }


def test_an_answer_without_end_is_cut_off() -> None:
    link = synchronised(command=MEMORY)
    number = 0
    while not link.is_idle:
        number = number + 1 if number < 999 else 0
        link.receive(MemoryBlock(code=0x26, mark=(number, False), payload=bytes(249)).encode(SERIAL), 0.3)
        last = drained(link)[-1]
    assert isinstance(last, LinkFailed)
    assert last.reason is FailureReason.TOO_LONG


def test_the_caller_may_give_up_and_connections_may_close() -> None:
    for stop, reason in (("abort", FailureReason.ABORTED), ("disconnected", FailureReason.DISCONNECTED)):
        link = synchronised()
        getattr(link, stop)(0.3)
        assert failed(drained(link)).reason is reason
        assert link.is_idle
        getattr(link, stop)(0.4)
        assert drained(link) == []


def test_misuse_is_our_own_fault() -> None:
    link = synchronised()
    with pytest.raises(LocalProtocolError):
        link.send(VERIFY, 0.3)
    with pytest.raises(LocalProtocolError):
        ReaderLink(DEFAULT).send(VERIFY[:-1], 0.0)
    meter = MeterLink(DEFAULT, SERIAL)
    for call in (meter.delay, meter.ready, meter.forget):
        with pytest.raises(LocalProtocolError):
            call(0.0)
    with pytest.raises(LocalProtocolError):
        meter.send([parameters().encode(SERIAL)], 0.0)
    with pytest.raises(LocalProtocolError):
        meter.send_unasked(OccurrenceAnswer(occurrence=0x30).encode(SERIAL), 0.0)
    with pytest.raises(LocalProtocolError):
        MeterLink(P8_GENERIC, SERIAL).delay(0.0)
