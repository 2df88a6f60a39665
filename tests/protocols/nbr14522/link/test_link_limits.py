"""The link's limits: how often is too often, on both sides of a simulated wire."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.nbr14522.errors import LocalProtocolError
from protocols.nbr14522.frames import ACK, ENQ, NAK, WAIT
from protocols.nbr14522.link import (
    AnswerComplete,
    BlockReceived,
    CommandReceived,
    Event,
    FailureReason,
    FrameReceived,
    FrameSent,
    LinkFailed,
    MeterLink,
    ReaderLink,
    SignalReceived,
    SignalSent,
    SkipReason,
)
from protocols.nbr14522.messages import (
    MemoryBlock,
    OccurrenceAnswer,
    memory_blocks,
)
from protocols.nbr14522.profile import STRICT, GapRecovery, MeterProfile
from protocols.nbr14522.profiles import DEFAULT, P8_GENERIC
from tests.protocols.nbr14522.link_cases import (
    MEMORY,
    RESET,
    STRICT_P0,
    VERIFY,
    drained,
    failed,
    of,
    once,
    skipped,
)
from tests.protocols.nbr14522.pair import SERIAL, Pair, answers, ending, parameters

pytestmark = pytest.mark.req("TR-5.5a", "X-sim")


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
