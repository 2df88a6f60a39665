"""The meter's side of the link alone, the hand-shakes of addressed lines (1.9), and the tables themselves."""

from __future__ import annotations

from types import ModuleType

import pytest

from protocols.nbr14522 import frames
from protocols.nbr14522.frames import ACK, ENQ, NAK, WAIT
from protocols.nbr14522.link import (
    AnswerAbandoned,
    AnswerComplete,
    CommandReceived,
    FailureReason,
    FrameSent,
    MeterLink,
    ReaderLink,
    SignalReceived,
    SignalSent,
    SkipReason,
    UnaskedOccurrence,
    addressed_tables,
    serial_tables,
)
from protocols.nbr14522.messages import (
    NotImplementedAnswer,
    OccurrenceAnswer,
)
from protocols.nbr14522.profile import STRICT
from protocols.nbr14522.profiles import P8_GENERIC
from tests.protocols.nbr14522.link_cases import (
    ALL_LINES,
    MEMORY,
    STRICT_P0,
    VERIFY,
    drained,
    failed,
    of,
    once,
    skipped,
)
from tests.protocols.nbr14522.pair import SERIAL, Pair, answers, ending, parameters, words_of

pytestmark = pytest.mark.req("TR-5.5a", "X-sim")

# The meter's side alone.


def idle_meter() -> MeterLink:
    meter = MeterLink(STRICT_P0, SERIAL, 0.0)
    meter.advance(0.0)
    assert meter.data_to_send() == bytes([ENQ])
    return meter


def test_an_idle_meter_calls_enq_whether_or_not_anybody_listens() -> None:
    meter = idle_meter()
    for count in range(1, 41):
        meter.advance(count * STRICT.meter_enq_period_s)
    assert meter.data_to_send() == bytes([ENQ]) * 40
    events = drained(meter)
    assert events == [SignalSent(ENQ, 0.0, count=41)]
    assert STRICT.min_enq_s <= STRICT.meter_enq_period_s <= STRICT.max_enq_s


def test_a_command_too_late_after_enq_is_thrown_away() -> None:
    meter = idle_meter()
    meter.receive(VERIFY, STRICT.max_sync_s + 0.001)
    assert skipped(drained(meter)) == {SkipReason.LATE: 66}
    meter = idle_meter()
    meter.receive(VERIFY, STRICT.max_sync_s)
    assert of(drained(meter), CommandReceived)


def test_a_command_that_breaks_off_is_thrown_away_after_a_pause() -> None:
    meter = idle_meter()
    meter.receive(VERIFY[:65], 0.001)
    meter.advance(0.1)
    assert skipped(drained(meter)) == {SkipReason.TRUNCATED: 65}
    assert meter.data_to_send() == b""
    meter.advance(0.4)
    assert meter.data_to_send() == bytes([ENQ])


def test_a_bad_command_is_refused_seven_times() -> None:
    meter = idle_meter()
    bad = VERIFY[:-1] + bytes([VERIFY[-1] ^ 1])
    for count in range(7):
        meter.receive(bad, 0.001 + count * 0.1)
        assert meter.data_to_send() == bytes([NAK])
    meter.receive(VERIFY, 0.7)
    assert not of(drained(meter), CommandReceived)


def meter_with_answer() -> MeterLink:
    meter = idle_meter()
    meter.receive(MEMORY, 0.001)
    meter.send(answers()(MEMORY), 0.002)
    assert len(meter.data_to_send()) == 258
    return meter


def test_a_block_is_repeated_on_nak_and_given_up_after_seven() -> None:
    meter = meter_with_answer()
    for count in range(6):
        meter.receive(bytes([NAK]), 0.01 + count * 0.01)
        assert len(meter.data_to_send()) == 258
    meter.receive(bytes([NAK]), 0.1)
    assert meter.data_to_send() == b""
    abandoned = of(drained(meter), AnswerAbandoned)
    assert abandoned == [AnswerAbandoned(FailureReason.BAD_CRC, 0x26, 0, 0.1)]


def test_a_missing_ack_is_called_for_seven_times() -> None:
    meter = meter_with_answer()
    meter.advance(0.002 + STRICT.max_response_s + 6.5 * STRICT.meter_enq_period_s)
    assert meter.data_to_send() == bytes([ENQ]) * 7
    meter.advance(10.0)
    assert of(drained(meter), AnswerAbandoned)
    called = meter_with_answer()
    called.advance(0.8)
    called.data_to_send()
    called.receive(bytes([ACK]), 0.9)
    assert len(called.data_to_send()) == 258


def test_other_octets_while_waiting_for_ack_end_the_answer() -> None:
    meter = meter_with_answer()
    meter.receive(b"\x77", 0.01)
    abandoned = of(drained(meter), AnswerAbandoned)
    assert [event.reason for event in abandoned] == [FailureReason.SEQUENCE_BROKEN]


def test_waits_are_twelve_at_most() -> None:
    meter = idle_meter()
    meter.receive(MEMORY, 0.001)
    meter.delay(0.002)
    meter.advance(12 * 305.0)
    assert meter.data_to_send().count(WAIT) == 12


def test_a_command_forgotten_brings_the_meter_back_to_enq() -> None:
    meter = idle_meter()
    meter.receive(MEMORY, 0.001)
    meter.forget(0.01)
    meter.advance(0.1)
    assert meter.data_to_send() == bytes([ENQ])


def test_octets_while_a_command_is_worked_on_are_counted() -> None:
    meter = idle_meter()
    meter.receive(MEMORY + VERIFY, 0.001)
    assert skipped(drained(meter)) == {SkipReason.BUSY: 66}


def test_stray_signals_begin_no_command() -> None:
    meter = idle_meter()
    meter.receive(bytes([ACK, NAK, WAIT, ENQ]) + VERIFY, 0.001)
    events = drained(meter)
    assert skipped(events) == {SkipReason.STRAY_SIGNAL: 4}
    assert of(events, CommandReceived)


# Addressed lines.


def test_p8_hand_shake_is_the_command_again() -> None:
    pair = Pair(P8_GENERIC)
    events = pair.run(MEMORY)
    sent = [event.octets for event in events if isinstance(event, FrameSent)]
    assert [wire[:5].hex() for wire in sent] == ["99" + SERIAL] * 4
    assert [wire[9] for wire in sent] == [0, 1, 1, 1]
    assert not of(events, SignalReceived)
    assert not of(events, SignalSent)


def test_p8_asks_again_with_02() -> None:
    pair = Pair(P8_GENERIC, damage=once("to reader", 1))
    events = pair.run(MEMORY)
    assert words_of(events)[:600] == list(range(600))
    sent = [event.octets[9] for event in events if isinstance(event, FrameSent)]
    assert sent == [0, 1, 2, 1, 1]


def test_p8_lost_next_is_told_from_lost_answer() -> None:
    for direction in ("to meter", "to reader"):
        pair = Pair(P8_GENERIC, damage=once(direction, 1, b""))
        events = pair.run(MEMORY)
        assert words_of(events)[:600] == list(range(600)), direction
        assert (SkipReason.DUPLICATE_BLOCK in skipped(events)) == (direction == "to meter")


def test_p8_any_meter_and_other_meters() -> None:
    anyone = Pair(P8_GENERIC, serial=frames.ANY_METER)
    assert isinstance(ending(anyone.run(VERIFY)), AnswerComplete)
    other = Pair(P8_GENERIC, serial="11111111")
    assert failed(other.run(VERIFY)).reason is FailureReason.NO_ANSWER
    assert skipped(other.meter_events) == {SkipReason.OTHER_METER: 7 * 71}


def test_unasked_occurrences_are_set_aside() -> None:
    unasked = OccurrenceAnswer(occurrence=0x30, detail=1).encode(SERIAL)
    pair = Pair(P8_GENERIC)
    pair.run(VERIFY)
    pair.meter.send_unasked(unasked, pair.now)
    pair.settle()
    pair.step()
    assert of(pair.reader_events, UnaskedOccurrence) == [UnaskedOccurrence(unasked[:-2], pair.now)]
    assert isinstance(ending(pair.run(MEMORY)), AnswerComplete)


def test_an_unasked_occurrence_half_arrived_is_no_answer() -> None:
    unasked = OccurrenceAnswer(occurrence=0x30).encode(SERIAL)
    link = ReaderLink(P8_GENERIC, SERIAL)
    link.receive(unasked[:100], 0.0)
    link.send(VERIFY, 0.1)
    link.receive(unasked[100:] + parameters().encode(SERIAL), 0.2)
    events = drained(link)
    assert len(of(events, UnaskedOccurrence)) == 1
    end = ending(events)
    assert isinstance(end, AnswerComplete)
    assert end.code == 0x21


def test_noise_before_an_addressed_answer_is_skipped() -> None:
    """Even where it looks like the beginning of one: '9' is 39 and '@' is 40."""
    for noise in (b"\xff\xfb\x01", b"CONNECT 9600\r\n", b"@99", b"\x21" + bytes.fromhex(SERIAL)[:3]):
        link = ReaderLink(P8_GENERIC, SERIAL)
        link.send(VERIFY, 0.0)
        link.receive(noise + parameters().encode(SERIAL), 0.1)
        events = drained(link)
        assert isinstance(ending(events), AnswerComplete), noise
        assert skipped(events) == {SkipReason.NOISE_BEFORE_FRAME: len(noise)}


def test_exceptions_end_a_composite_answer() -> None:
    for profile in ALL_LINES:
        pair = Pair(profile, answer=lambda frame: [NotImplementedAnswer(refused_code=0x26).encode(SERIAL)])
        end = ending(pair.run(MEMORY))
        assert isinstance(end, AnswerComplete)
        assert (end.code, end.blocks, end.is_exception) == (0x39, 1, True)


# The tables themselves.


@pytest.mark.parametrize("tables", [serial_tables, addressed_tables], ids=["P0", "P8-P2"])
def test_every_action_of_the_tables_is_reachable_from_the_table(tables: ModuleType) -> None:
    """Nothing is acted on that no row names, and no row names what nothing acts on."""
    assert {row.action for row in tables.READER_TABLE.values()} == set(tables.ReaderAction)
    assert {row.action for row in tables.METER_TABLE.values()} == set(tables.MeterAction)


@pytest.mark.parametrize("tables", [serial_tables, addressed_tables], ids=["P0", "P8-P2"])
def test_every_state_is_entered_and_left_by_a_row(tables: ModuleType) -> None:
    for table, states in ((tables.READER_TABLE, tables.ReaderState), (tables.METER_TABLE, tables.MeterState)):
        entered = {state for row in table.values() for state in row.next.values()}
        assert entered == set(states)
        assert {state for state, _ in table} == set(states)
