"""Any octets are decoded, skipped with a counted reason, or refused with a typed error; never another
exception, never unbounded memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.nbr14522.frames import ACK, ENQ, NAK, WAIT, wrap_command, wrap_response
from protocols.nbr14522.link import (
    NEED_DATA,
    CommandReceived,
    Event,
    FrameReceived,
    MeterLink,
    ReaderLink,
    SignalReceived,
    Skipped,
    SkipReason,
)
from protocols.nbr14522.messages import (
    CurrentMemoryRequest,
    OccurrenceAnswer,
    memory_blocks,
    request_for,
)
from protocols.nbr14522.profile import STRICT, HandShake, MeterProfile
from protocols.nbr14522.profiles import DEFAULT, P2_GENERIC, P8_GENERIC
from tests.protocols.nbr14522.pair import SERIAL, Pair, answers, parameters, words_of

pytestmark = pytest.mark.req("TR-5.5a")

PROFILES = [
    DEFAULT,
    replace(DEFAULT, enq_required=1, timing=STRICT),
    replace(DEFAULT, enq_required=0),
    P8_GENERIC,
    P2_GENERIC,
    replace(P2_GENERIC, p2_hand_shake=HandShake.ACK),
]
COMMANDS = [request_for(code).encode("001101") for code in (0x14, 0x21, 0x26, 0x52)]
BLOCKS = [
    parameters().encode(SERIAL),
    *memory_blocks(0x26, SERIAL, [bytes(249)] * 3),
    OccurrenceAnswer(occurrence=0x43).encode(SERIAL),
]
MAX_EVENTS_PER_OCTET = 4


@st.composite
def line_octets(draw: st.DrawFn, good: list[bytes]) -> list[tuple[float, bytes]]:
    """Pieces of noise, signals, good frames, cut frames and damaged ones, with the times between them."""
    piece = st.one_of(
        st.binary(max_size=300),
        st.sampled_from([bytes([s]) for s in (ENQ, ACK, NAK, WAIT)]),
        st.sampled_from(good),
        st.builds(lambda frame, cut: frame[:cut], st.sampled_from(good), st.integers(0, 260)),
        st.builds(
            lambda frame, at: frame[: at % len(frame)] + b"\x55" + frame[at % len(frame) + 1 :],
            st.sampled_from(good),
            st.integers(0, 300),
        ),
    )
    gap = st.sampled_from([0.0, 0.001, 0.1, 0.6, 3.0, 400.0])
    return draw(st.lists(st.tuples(gap, piece), max_size=25))


def take(link: ReaderLink | MeterLink) -> list[Event]:
    events: list[Event] = []
    while (event := link.next_event()) is not NEED_DATA:
        events.append(event)
    return events


def received(events: list[Event]) -> int:
    return sum(
        len(event.octets) if isinstance(event, FrameReceived) else event.count
        for event in events
        if isinstance(event, FrameReceived | SignalReceived)
        or (isinstance(event, Skipped) and event.reason is not SkipReason.DUPLICATE_BLOCK)
    )


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(PROFILES))
def test_reader_takes_any_octets(data: st.DataObject, profile: MeterProfile) -> None:
    link = ReaderLink(profile, SERIAL)
    good = BLOCKS + [wrap_response(block, profile.addressing) for block in BLOCKS]
    now, total, accounted = 0.0, 0, 0
    for gap, octets in data.draw(line_octets(good)):
        now += gap
        if link.is_idle and data.draw(st.booleans()):
            link.send(data.draw(st.sampled_from(COMMANDS)), now)
        link.receive(octets, now)
        events = take(link)
        assert len(events) <= MAX_EVENTS_PER_OCTET * len(octets) + 400
        total += len(octets)
        accounted += received(events)
        assert 0 <= total - accounted <= 260, "octets neither held in the one frame buffer nor accounted for"
        link.data_to_send()
    link.disconnected(now)
    link.advance(now + 5000.0)
    accounted += received(take(link))
    assert accounted == total


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(PROFILES))
def test_meter_takes_any_octets(data: st.DataObject, profile: MeterProfile) -> None:
    link = MeterLink(profile, SERIAL)
    good = COMMANDS + [wrap_command(c, profile.addressing, meter_serial=SERIAL) for c in COMMANDS]
    now = 0.0
    for gap, octets in data.draw(line_octets(good)):
        now += gap
        link.receive(octets, now)
        for event in take(link):
            if isinstance(event, CommandReceived):
                if data.draw(st.booleans()):
                    link.send(answers()(event.frame), now)
                else:
                    link.forget(now)
                break
        link.data_to_send()
    link.advance(now + 100.0)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(PROFILES))
def test_a_bad_line_never_yields_wrong_words(data: st.DataObject, profile: MeterProfile) -> None:
    """Losses and damage by a drawn plan: what is delivered is exactly the beginning of what the meter has."""
    plan = data.draw(st.lists(st.sampled_from(["ok", "ok", "ok", "lost", "bit", "cut"]), max_size=40))
    drawn = iter(plan)

    def damage(direction: str, index: int, octets: bytes) -> bytes:
        match next(drawn, "ok"):
            case "lost":
                return b""
            case "cut":
                return octets[: len(octets) // 2]
            case "bit":
                at = index * 7 % len(octets)
                return octets[:at] + bytes([octets[at] ^ 0x08]) + octets[at + 1 :]
        return octets

    pair = Pair(profile, damage=damage)
    words = words_of(pair.run(CurrentMemoryRequest().encode("001101"), limit_s=40_000.0))
    assert words[:600] == list(range(600))[: len(words)]
