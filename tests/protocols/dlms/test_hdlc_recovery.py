"""HDLC on lines that lose, damage, double and delay: the exact data or a fault, and nothing done twice."""

from __future__ import annotations

import random
import time
from collections import Counter
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faults import Fault
from protocols.dlms.access import Credentials
from protocols.dlms.apdu import Attribute, Mechanism
from protocols.dlms.axdr import Data, Tag, octets
from protocols.dlms.client import DlmsClient
from protocols.dlms.clock import encode_date_time
from protocols.dlms.errors import LimitExceeded, NoAnswer, RemoteProtocolError
from protocols.dlms.framing import (
    DISC,
    DM,
    FRMR,
    LLC_RESPONSE,
    REJ,
    RNR,
    RR,
    SNRM,
    UA,
    HdlcDecoder,
    HdlcFrame,
    HdlcFraming,
    WrapperFraming,
)
from protocols.dlms.profile import by_range
from protocols.dlms.security import Keys
from protocols.dlms.transcript import label
from simulator.dlms.end import HdlcEnd
from simulator.dlms.meter import ASSOCIATION, CLOCK, LOAD_PROFILE, SERIAL, DlmsMeter, DlmsSpec
from simulator.wires.impairment import ImpairedLine, LinkQuality
from tests.collector.world import MARKET, NOW, meter
from tests.fuzz.dlms import hdlc_line

pytestmark = pytest.mark.req("TR-5.12a")

READER, METER = b"\x21", b"\x03"


class CountingMeter(DlmsMeter):
    """Writes nothing down but what it was told to do."""

    def __init__(self, spec):
        super().__init__(meter().meter, spec)
        self.done = []

    def set_clock(self, *told):
        self.done.append(("set", told[0]))

    def shift_clock(self, *told):
        self.done.append(("shift", told[0]))


class BadLine:
    """Both ways between a reader and a meter; frames are also lost, doubled and held up as a whole.

    `quality` is that of octets. A frame held up comes with whatever comes next.
    """

    def __init__(self, end, seed, quality, frame_trouble):
        self._end = end
        self._chance = random.Random(f"{seed}/frames")
        self._line = ImpairedLine(quality, seed, 1, 0.0)
        self._trouble = frame_trouble
        self._late = b""
        self.troubles = Counter()

    def send(self, data):
        """What the reader hears, after it has sent this and the line is quiet again."""
        said = self._end.receive(self._pass(data, self._line.up), NOW) + self._end.silence(NOW)
        heard, self._late = self._late, b""
        answer = self._pass(said, self._line.down)
        if answer and self._chance.random() < self._trouble:
            self.troubles["late"] += 1
            self._late = answer
            return heard
        return heard + answer

    def later(self):
        heard, self._late = self._late, b""
        return heard if self._chance.random() < 0.5 else self._keep(heard)

    def _keep(self, heard):
        self._late = heard
        return b""

    def _pass(self, data, way):
        if not data:
            return b""
        luck = self._chance.random()
        if luck < self._trouble:
            self.troubles["lost"] += 1
            return b""
        if luck < 2 * self._trouble:
            self.troubles["doubled"] += 1
            data = data * 2
        through = b"".join(parcel.octets for parcel in way.carry(data, 0.0))
        self.troubles["damaged"] += through != data
        return through


def drive(steps, framing, line):
    """What a session does, without time: silence is when nothing is heard."""
    try:
        out = next(steps)
        while True:
            heard = line.send(out) if out else line.later()
            if not heard:
                again = framing.timed_out()
                heard = line.send(again) if again else b""
            out = steps.send(heard)
    except StopIteration as end:
        return end.value
    finally:
        steps.close()


SPEC = DlmsSpec(
    clients={16: Mechanism.LLS, 1: Mechanism.GMAC},
    password=b"longa" * 24,  # so that our requests go in segments as well
    keys=Keys(bytes(range(16)), bytes(range(16, 32))),
    block_octets=300,
)
TOLD = datetime(2026, 11, 21, 3, tzinfo=MARKET)


def session(seed, quality, frame_trouble, client=16):
    """(values read or None, fault, what the meter did, framing, troubles) of a whole session."""
    counting = CountingMeter(SPEC)
    line = BadLine(HdlcEnd(counting), seed, quality, frame_trouble)
    framing = HdlcFraming(client)
    counters = iter(range(1, 10_000))
    credentials = Credentials(
        SPEC.clients[client], SPEC.password, SPEC.keys, b"12345678", lambda: next(counters), lambda: bytes(16)
    )

    def work(one):
        yield from one.open()
        values = [(yield from one.get(Attribute(1, SERIAL, 2)))]
        yield from one.action(Attribute(8, CLOCK, 6), Data(Tag.INT16, 11))
        span = by_range(NOW - timedelta(hours=4), NOW, with_deviation=True, with_weekday=False)
        values.append((yield from one.get(Attribute(7, LOAD_PROFILE, 2), 1, span)))
        yield from one.set(Attribute(8, CLOCK, 2), octets(encode_date_time(TOLD)))
        values.append((yield from one.get(Attribute(15, ASSOCIATION, 2))))
        yield from one.action(Attribute(8, CLOCK, 6), Data(Tag.INT16, -12))
        yield from one.release()
        return values

    try:
        values, fault = drive(work(DlmsClient(framing, credentials)), framing, line), None
    except Fault as found:
        values, fault = None, found
    return values, fault, counting.done, framing, line.troubles


EXPECTED = [("shift", 11), ("set", TOLD), ("shift", -12)]
# Of frames some 100 octets long: about one in 20, one in 5 and every second one.
MODERATE, BAD, HOPELESS = (LinkQuality(loss=rate, corruption=rate) for rate in (2e-4, 1e-3, 4e-3))


@pytest.mark.parametrize("client", [16, 1])
def test_a_good_line_needs_no_repetition(client):
    values, fault, done, framing, _ = session(0, LinkQuality(), 0.0, client)
    assert (fault, framing.retries, framing.skipped) == (None, 0, 0)
    assert done == EXPECTED
    assert len(values[1].value) > 40


@pytest.mark.parametrize("client", [16, 1])
def test_moderate_losses_are_made_good(client):
    truth = session(0, LinkQuality(), 0.0, client)[0]
    troubles, retries = Counter(), 0
    for seed in range(100):
        values, fault, done, framing, met = session(seed, MODERATE, 0.03, client)
        assert fault is None, (seed, fault)
        assert values == truth, seed
        assert done == EXPECTED, seed
        troubles += met
        retries += framing.retries
    assert min(troubles[kind] for kind in ("lost", "doubled", "late", "damaged")) > 40
    assert retries > 100


@pytest.mark.parametrize(("quality", "frame_trouble"), [(BAD, 0.1), (HOPELESS, 0.3)])
def test_a_bad_line_gives_the_exact_data_or_a_fault(quality, frame_trouble):
    truth = session(0, LinkQuality(), 0.0)[0]
    failed = 0
    for seed in range(400):
        values, fault, done, _, _ = session(seed, quality, frame_trouble)
        assert done == EXPECTED[: len(done)], seed
        if fault is None:
            assert (values, done) == (truth, EXPECTED), seed
        else:
            assert isinstance(fault, NoAnswer | RemoteProtocolError), seed
            failed += 1
    assert failed < 100 if quality is BAD else failed > 300


@given(st.binary(max_size=600))
def test_any_line_gives_values_or_a_fault_and_bounded_traffic(data):
    hdlc_line(data)


# --- what each answer to a poll means --------------------------------------------------------------------


def frame(control, information=b"", *, is_segmented=False):
    return HdlcFrame(READER, METER, control, information, is_segmented).encode()


def ready(number, kind=RR):
    return frame(number << 5 | 0x10 | kind)


def information(sent, expected, content, *, is_segmented=False):
    head = b"" if is_segmented is None else LLC_RESPONSE
    return frame(expected << 5 | 0x10 | sent << 1, head + content, is_segmented=bool(is_segmented))


def controls(data):
    decoder, found = HdlcDecoder(), []
    decoder.receive(data)
    while (one := decoder.next_frame()) is not None:
        found.append(one.control)
    return found


def opened(repeats=5):
    framing = HdlcFraming(16, repeats=repeats)
    framing.connect()
    framing.receive(frame(UA))
    assert framing.next_apdu() == b""
    return framing


def heard(framing, data):
    """(APDU, what goes out) upon octets."""
    framing.receive(data)
    apdu = framing.next_apdu()
    return apdu, framing.data_to_send()


class TestAnswersToAPoll:
    def test_a_frame_that_the_meter_lacks_goes_again_as_it_was(self):
        framing = opened()
        request = framing.wrap(b"\xc0\x01")
        assert controls(framing.timed_out()) == [0x11]
        assert heard(framing, ready(0)) == (None, request)
        assert heard(framing, information(0, 1, b"answer")) == (b"answer", b"")
        assert framing.retries == 1

    def test_a_frame_that_the_meter_has_never_goes_again(self):
        framing = opened()
        framing.wrap(b"\xc3\x01")
        for _ in range(5):
            assert controls(framing.timed_out()) == [0x11]
            assert heard(framing, ready(1)) == (None, b"")
        assert heard(framing, information(0, 1, b"late")) == (b"late", b"")

    def test_rr_without_a_poll_says_nothing_new(self):
        framing = opened()
        framing.wrap(b"\xc0\x01")
        assert heard(framing, ready(0)) == (None, b"")

    def test_rej_asks_for_the_frame_and_cannot_do_so_for_ever(self):
        framing = opened(repeats=3)
        request = framing.wrap(b"\xc0\x01")
        for _ in range(3):
            assert heard(framing, ready(0, REJ)) == (None, request)
        with pytest.raises(NoAnswer):
            heard(framing, ready(0, REJ))

    @pytest.mark.parametrize("control", [0x13, 0x0D, 0x1D, 0xEF])
    def test_a_push_and_unknown_frames_say_nothing_about_ours(self, control):
        framing = opened()
        request = framing.wrap(b"\xc0\x01")
        framing.timed_out()
        assert heard(framing, frame(control)) == (None, b"")
        assert heard(framing, ready(0)) == (None, request)

    def test_a_busy_meter_is_polled_until_it_is_ready(self):
        framing = opened()
        first = framing.wrap(bytes(200))
        assert controls(first) == [0x10]
        assert heard(framing, ready(1, RNR)) == (None, b"")
        assert controls(framing.timed_out()) == [0x11]
        _, second = heard(framing, ready(1))
        assert controls(second) == [0x12]

    def test_a_lost_segment_of_an_answer_is_polled_for(self):
        framing = opened()
        framing.wrap(b"\xc0\x01")
        _, out = heard(framing, information(0, 1, b"one ", is_segmented=True))
        assert controls(out) == [0x31]
        assert controls(framing.timed_out()) == [0x31]
        # The first segment once more is passed over, or each poll would bring yet another.
        assert heard(framing, information(0, 1, b"one ", is_segmented=True)) == (None, b"")
        assert heard(framing, frame(1 << 5 | 0x10 | 1 << 1, b"two")) == (b"one two", b"")

    def test_an_answer_after_the_poll_leaves_no_poll_behind(self):
        framing = opened()
        framing.wrap(b"\xc0\x01")
        framing.timed_out()
        assert heard(framing, information(0, 1, b"late")) == (b"late", b"")
        request = framing.wrap(b"\xc0\x01")
        assert controls(request) == [0x32]
        # Both answers to the poll that crossed the first: neither means anything now.
        assert heard(framing, information(0, 1, b"late") + ready(1)) == (None, b"")
        assert heard(framing, information(1, 2, b"next")) == (b"next", b"")

    def test_a_frame_hidden_behind_a_cut_one_is_found_when_the_line_is_silent(self):
        framing = opened()
        framing.wrap(b"\xc0\x01")
        cut = bytearray(information(0, 1, b"answer"))
        cut[1:3] = b"\xa7\xff"  # claims 2047 octets
        assert heard(framing, bytes(cut) + information(0, 1, b"answer")) == (None, b"")
        assert framing.timed_out() == b""
        assert framing.next_apdu() == b"answer"


def test_noise_that_looks_like_long_frames_is_passed_over_quickly():
    decoder = HdlcDecoder()
    # Each third octet begins a frame of 2045 octets, at the end of which there is a flag.
    decoder.receive(b"\x7e\xa7\xfd" * 80_000)
    began = time.process_time()
    with pytest.raises(LimitExceeded):
        decoder.next_frame()
    assert time.process_time() - began < 0.5


class TestTheLinkItself:
    def test_snrm_and_disc_are_repeated(self):
        framing = HdlcFraming(16, repeats=2)
        assert controls(framing.connect()) == [SNRM]
        assert controls(framing.timed_out()) == [SNRM]
        assert heard(framing, frame(UA)) == (b"", b"")
        assert controls(framing.disconnect()) == [DISC]
        assert controls(framing.timed_out()) == [DISC]
        assert heard(framing, frame(DM)) == (b"", b"")
        assert framing.disconnect() == b""

    def test_a_second_ua_changes_nothing(self):
        framing = opened()
        framing.wrap(b"\xc0\x01")
        assert heard(framing, frame(UA)) == (None, b"")
        assert heard(framing, information(0, 1, b"answer")) == (b"answer", b"")
        assert controls(framing.wrap(b"\xc0\x01")) == [0x32]

    def test_what_is_left_of_another_conversation_is_passed_over(self):
        framing = HdlcFraming(16)
        framing.connect()
        assert heard(framing, information(5, 3, b"old") + frame(UA)) == (b"", b"")

    def test_a_confirmation_of_mode_e_after_the_change_of_speed_is_noise(self):
        framing = HdlcFraming(16)
        framing.connect()
        assert heard(framing, b"\x06252\r\n" + frame(UA)) == (b"", b"")

    @pytest.mark.parametrize("control", [DM, FRMR])
    def test_a_link_lost_is_a_fault(self, control):
        framing = opened()
        framing.wrap(b"\xc0\x01")
        with pytest.raises(RemoteProtocolError, match="refused or lost"):
            heard(framing, frame(control))

    def test_repetitions_end_and_progress_counts_them_anew(self):
        framing = opened(repeats=2)
        for number in range(3):
            framing.wrap(b"\xc0\x01")
            framing.timed_out()
            framing.timed_out()
            assert heard(framing, information(number, number + 1, b"x"))[0] == b"x"
        framing.wrap(b"\xc0\x01")
        framing.timed_out()
        framing.timed_out()
        with pytest.raises(NoAnswer, match="3 times"):
            framing.timed_out()
        assert framing.retries == 8

    def test_frames_for_others_and_our_own_echo_are_neither_taken_nor_kept(self):
        kept = []
        framing = HdlcFraming(16, on_frame=kept.append)
        snrm = framing.connect()
        other = HdlcFrame(READER, b"\x05", UA, b"").encode()
        assert heard(framing, snrm + other) == (None, b"")
        assert heard(framing, frame(UA)) == (b"", b"")
        assert kept == [frame(UA)]

    def test_the_wrapper_repeats_nothing(self):
        with pytest.raises(NoAnswer):
            WrapperFraming(16).timed_out()


class TestStaleLinks:
    """A meter that keeps an old link answers SNRM by DM."""

    def answered(self, framing: HdlcFraming, control: int) -> bytes:
        framing.receive(HdlcFrame(READER, METER, control, b"").encode())
        assert framing.next_apdu() in (None, b"")
        return framing.data_to_send()

    def test_the_old_link_is_closed_and_a_new_one_asked_for(self) -> None:
        framing = HdlcFraming(16)
        snrm = framing.connect()
        disc = self.answered(framing, DM)
        assert label(disc) == DISC
        assert self.answered(framing, UA) == snrm
        framing.receive(HdlcFrame(READER, METER, UA, b"").encode())
        assert framing.next_apdu() == b""
        assert framing.retries == 1

    def test_it_is_closed_once_and_dm_to_disc_is_as_good_as_ua(self) -> None:
        framing = HdlcFraming(16)
        snrm = framing.connect()
        self.answered(framing, DM)
        assert self.answered(framing, DM) == snrm
        framing.receive(HdlcFrame(READER, METER, DM, b"").encode())
        with pytest.raises(RemoteProtocolError, match="DM"):
            framing.next_apdu()

    def test_a_disc_that_is_lost_is_sent_again(self) -> None:
        framing = HdlcFraming(16)
        framing.connect()
        disc = self.answered(framing, DM)
        assert framing.timed_out() == disc
