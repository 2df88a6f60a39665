"""An answer is taken for what was asked, and for nothing else (dlms_cosem.md, sections 2.2 and 4)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from protocols.dlms.access import AccessRefused
from protocols.dlms.apdu import Attribute, get_request, numbered
from protocols.dlms.axdr import octets
from protocols.dlms.client import DlmsClient
from protocols.dlms.errors import (
    AssociationDelayed,
    AssociationRefused,
    LimitExceeded,
    LocalProtocolError,
    RemoteProtocolError,
)
from protocols.dlms.framing import (
    LLC_RESPONSE,
    MAX_AHEAD,
    MAX_INFORMATION,
    HdlcDecoder,
    HdlcFrame,
    HdlcFraming,
    WrapperFraming,
    crc16_x25,
)
from protocols.dlms.transcript import Recorded, exchanges

pytestmark = pytest.mark.req("TR-5.1")

READER, METER = b"\x21", b"\x03"
AARE = bytes.fromhex("6129A109060760857405080101A203020100A305A103020100BE10040E0800065F1F0400001C1D04000007")
SERIAL, FIRMWARE = Attribute(1, "0-0:96.1.0.255", 2), Attribute(1, "1-0:0.2.0.255", 2)
AT = datetime(2026, 11, 21, tzinfo=UTC)


class Wrapped:
    """A client over the wrapper; each answer is written by the test."""

    def __init__(self, is_tolerant: bool = False, greeting: bytes = AARE) -> None:
        self.surplus: list[tuple[Attribute, int]] = []
        self.client = DlmsClient(
            WrapperFraming(16),
            tolerate_trailing=is_tolerant,
            on_surplus=lambda *told: self.surplus.append(told),
        )
        self._meter = WrapperFraming(1, 16)
        self.asked: list[bytes] = []
        self.run(self.client.open(), greeting)

    def run(self, steps, *answers: bytes):
        waiting = list(answers)
        try:
            out = next(steps)
            while True:
                if out:
                    self.asked.append(out[8:])
                out = steps.send(self._meter.wrap(waiting.pop(0)))
        except StopIteration as end:
            return end.value

    def get(self, attribute: Attribute, *answers: bytes):
        return self.run(self.client.get(attribute), *answers)

    def act(self, *answers: bytes):
        return self.run(self.client.action(RESET), *answers)


def told(invoke: int, text: bytes) -> bytes:
    return b"\xc4\x01" + bytes([0xC0 | invoke]) + b"\x00\x09" + bytes([len(text)]) + text


def block(invoke: int, number: int, is_last: bool, raw: bytes) -> bytes:
    return (
        b"\xc4\x02"
        + bytes([0xC0 | invoke, is_last])
        + number.to_bytes(4, "big")
        + b"\0"
        + bytes([len(raw)])
        + raw
    )


def test_each_request_has_its_own_number_shared_by_all_its_blocks() -> None:
    line = Wrapped()
    assert line.get(SERIAL, told(1, b"A")) == octets(b"A")
    assert line.get(SERIAL, block(2, 1, False, b"\x09\x02A"), block(2, 2, True, b"B")) == octets(b"AB")
    for number in (*range(3, 16), 1, 2):
        assert line.get(SERIAL, told(number, b"A")) == octets(b"A")
    assert [asked[2] & 0x0F for asked in line.asked[1:]] == [1, 2, 2, *range(3, 16), 1, 2]
    assert {asked[2] & 0xF0 for asked in line.asked[1:]} == {0xC0}


@pytest.mark.parametrize(
    "answer",
    [told(1, b"other"), block(3, 1, True, b"\x09\x01A"), b"\xc4\x01", b"\xc5\x01\xc1\x00"],
    ids=["late", "not yet", "cut", "of a SET"],
)
def test_an_answer_to_another_request_is_refused(answer: bytes) -> None:
    line = Wrapped()
    line.get(SERIAL, told(1, b"late"))
    with pytest.raises(RemoteProtocolError):
        line.get(FIRMWARE, answer)


def test_an_answer_that_comes_twice_is_passed_over_and_counted() -> None:
    line = Wrapped()
    line.get(SERIAL, told(1, b"late"))
    assert line.get(FIRMWARE, told(1, b"late"), told(2, b"B")) == octets(b"B")
    assert line.client.doubled == 1


@pytest.mark.parametrize("answer", [told(1, b"A") + b"\x09\x01A", block(1, 1, True, b"\x09\x01A\x09\x01A")])
def test_a_value_sent_twice_is_refused_unless_the_model_accepts_it(answer: bytes) -> None:
    line = Wrapped()
    with pytest.raises(RemoteProtocolError, match="3 surplus octets"):
        line.get(SERIAL, answer)
    assert line.surplus == []
    tolerant = Wrapped(is_tolerant=True)
    assert tolerant.get(SERIAL, answer) == octets(b"A")
    assert tolerant.surplus == [(SERIAL, 3)]


@pytest.mark.parametrize("number", [0, 1, 3, 0xFFFFFFFF])
def test_a_block_out_of_order_is_refused(number: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"block {number} instead of 2"):
        Wrapped().get(SERIAL, block(1, 1, False, b"\x09\x02A"), block(1, number, True, b"B"))


def test_a_record_pairs_answers_with_their_requests() -> None:
    frames = [
        (True, get_request(SERIAL)),
        (False, told(1, b"A")),
        (True, numbered(get_request(FIRMWARE), 2)),
        (False, told(1, b"A")),
        (False, told(2, b"B")),
    ]
    found = list(exchanges(Recorded(AT, *frame) for frame in frames))
    assert [(one.attribute, one.value) for one in found] == [(SERIAL, octets(b"A")), (FIRMWARE, octets(b"B"))]


def test_a_meter_need_not_say_what_it_takes() -> None:
    line = Wrapped(greeting=bytes.fromhex("6117A109060760857405080101A203020100A305A103020100"))
    assert line.get(SERIAL, told(1, b"A")) == octets(b"A")


def test_a_ciphered_answer_without_keys_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="without keys"):
        Wrapped().get(SERIAL, b"\xcc\x16\x30" + bytes(21))


RESET = Attribute(3, "1-0:1.8.0.255", 1)


def test_an_action_says_whether_it_was_done_and_what_it_returns() -> None:
    line = Wrapped()
    assert line.act(b"\xc7\x01\xc1\x00\x00") is None
    assert line.act(b"\xc7\x01\xc2\x00\x01\x00\x09\x01A") == octets(b"A")
    assert line.act(b"\xc7\x01\xc3\x00") is None
    assert [asked[:3].hex() for asked in line.asked[1:]] == ["c301c1", "c301c2", "c301c3"]


@pytest.mark.parametrize("answer", ["c701c10300", "c701c100010103"])
def test_a_refused_action_was_not_done(answer: str) -> None:
    with pytest.raises(AccessRefused) as refused:
        Wrapped().act(bytes.fromhex(answer))
    assert (refused.value.attribute, refused.value.code) == (RESET, 3)


def returned(number: int, is_last: bool, raw: bytes) -> bytes:
    return b"\xc7\x02\xc1" + bytes([is_last]) + number.to_bytes(4, "big") + bytes([len(raw)]) + raw


def test_a_long_return_value_is_fetched_block_by_block() -> None:
    line = Wrapped()
    parts = returned(1, False, b"\x09\x03A"), returned(2, False, b"B"), returned(3, True, b"C")
    assert line.act(*parts) == octets(b"ABC")
    assert [asked.hex() for asked in line.asked[2:]] == ["c302c100000001", "c302c100000002"]


@pytest.mark.parametrize(
    "second", [returned(1, True, b"B"), returned(3, True, b"B"), b"\xc7\x01\xc1\x00\x00"]
)
def test_a_return_value_whose_blocks_do_not_follow_is_none(second: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="instead of"):
        Wrapped().act(returned(1, False, b"\x09\x02A"), second)


def test_a_whole_answer_is_no_block() -> None:
    with pytest.raises(RemoteProtocolError, match="instead of a block"):
        Wrapped().get(SERIAL, block(1, 1, False, b"\x09\x02A"), told(1, b"B"))


@pytest.mark.parametrize("answer", ["c701c1", "c501c100", "c401c10000", "c703c10000", "c701c20000"])
def test_what_answers_no_action_does_not_say_that_it_was_done(answer: str) -> None:
    with pytest.raises(RemoteProtocolError):
        Wrapped().act(bytes.fromhex(answer))


@pytest.mark.parametrize("answer", ["c501c1", "c701c100", "c502c100", "c503c100", "c501c200"])
def test_what_answers_no_set_does_not_say_that_it_was_written(answer: str) -> None:
    line = Wrapped()
    with pytest.raises(RemoteProtocolError):
        line.run(line.client.set(SERIAL, octets(b"A")), bytes.fromhex(answer))


def test_a_set_is_one_service_where_it_fits_and_may_be_refused() -> None:
    line = Wrapped()
    line.run(line.client.set(SERIAL, octets(bytes(900))), bytes.fromhex("c501c100"))
    with pytest.raises(AccessRefused, match="read_write_denied"):
        line.run(line.client.set(SERIAL, octets(bytes(900))), bytes.fromhex("c501c203"))
    assert [asked[:3].hex() for asked in line.asked[1:]] == ["c101c1", "c101c2"]


def refusal(result: int, diagnostic: int) -> bytes:
    return AARE.replace(bytes.fromhex("A203020100"), bytes([0xA2, 3, 2, 1, result])).replace(
        bytes.fromhex("A305A103020100"), bytes([0xA3, 5, 0xA1, 3, 2, 1, diagnostic])
    )


@pytest.mark.parametrize(
    ("result", "diagnostic", "error"),
    [
        (1, 0x0D, AssociationRefused),
        (1, 0x01, AssociationRefused),
        (1, 0x0E, AssociationRefused),
        (2, 0x0D, AssociationRefused),
        (2, 0x0E, AssociationRefused),
        (2, 0x01, AssociationDelayed),
        (2, 0x00, AssociationDelayed),
    ],
)
def test_what_a_meter_refuses_for_now_is_tried_again_but_no_password(result, diagnostic, error) -> None:
    with pytest.raises(error):
        Wrapped(greeting=refusal(result, diagnostic))


def test_a_refusal_passes_a_context_manager_as_itself() -> None:
    @contextmanager
    def passing() -> Iterator[None]:
        yield

    with pytest.raises(AccessRefused, match="object_undefined"), passing():
        raise AccessRefused(SERIAL, 4)


# --- HDLC --------------------------------------------------------------------------------------------------


def opened(limits: bytes = b"") -> HdlcFraming:
    framing = HdlcFraming(16)
    framing.connect()
    framing.receive(HdlcFrame(READER, METER, 0x73, limits).encode())
    assert framing.next_apdu() == b""
    return framing


def answer(sent: int, counted: int, apdu: bytes) -> bytes:
    return HdlcFrame(READER, METER, counted << 5 | 0x10 | sent << 1, LLC_RESPONSE + apdu).encode()


def test_a_frame_that_does_not_count_ours_is_no_answer_to_it() -> None:
    framing = opened()
    framing.wrap(b"question")
    framing.receive(answer(0, 0, b"ahead"))
    assert framing.next_apdu() is None
    framing.receive(answer(0, 1, b"answer"))
    assert framing.next_apdu() == b"answer"


@pytest.mark.parametrize("sent", [0, 2, 7])
def test_a_frame_out_of_order_is_no_answer(sent: int) -> None:
    framing = opened()
    framing.wrap(b"one")
    framing.receive(answer(0, 1, b"1"))
    assert framing.next_apdu() == b"1"
    framing.wrap(b"two")
    framing.receive(answer(sent, 2, b"old"))
    assert framing.next_apdu() is None


def test_a_frame_that_came_late_is_no_answer_in_a_record() -> None:
    def asked(number: int, apdu: bytes) -> Recorded:
        frame = HdlcFrame(METER, READER, number << 5 | 0x10 | number << 1, b"\xe6\xe6\x00" + apdu)
        return Recorded(AT, True, frame.encode())

    record = [
        asked(0, get_request(SERIAL)),
        Recorded(AT, False, answer(0, 1, told(1, b"A"))),
        asked(1, get_request(FIRMWARE)),
        Recorded(AT, False, answer(1, 2, told(1, b"B"))),
        asked(2, get_request(SERIAL)),
        Recorded(AT, False, answer(0, 1, told(1, b"A"))),
        Recorded(AT, False, answer(2, 3, told(1, b"C"))),
    ]
    assert [one.value for one in exchanges(record)] == [octets(b"A"), octets(b"B"), octets(b"C")]


def test_a_frame_is_no_longer_than_its_length_can_say() -> None:
    framing = opened(bytes.fromhex("8180060604FFFFFFFF"))
    frame = framing.wrap(bytes(5000))
    assert len(frame) == MAX_INFORMATION + 2 + 2 + 2 + 1 + 4
    assert int.from_bytes(frame[1:3], "big") & 0x0800
    with pytest.raises(LocalProtocolError, match="2047"):
        HdlcFrame(READER, METER, 0x10, bytes(2040)).encode()


def test_a_pushed_frame_without_number_is_no_answer() -> None:
    """A push of 581 octets in a UI frame, while an answer is waited for."""
    framing = opened()
    framing.wrap(b"question")
    framing.receive(HdlcFrame(READER, METER, 0x13, LLC_RESPONSE + b"\x0f" + bytes(566)).encode())
    assert framing.next_apdu() is None
    framing.receive(answer(0, 1, b"answer"))
    assert framing.next_apdu() == b"answer"


@pytest.mark.parametrize(
    "frame",
    [
        HdlcFrame(READER, METER, 0x31, b""),
        HdlcFrame(READER, METER, 0x13, b"push"),
        HdlcFrame(READER, METER, 0x14, b"old"),
        HdlcFrame(READER, METER, 0x73, b""),
    ],
    ids=["RR", "UI", "old", "UA"],
)
def test_frames_that_bring_nothing_come_to_an_end(frame: HdlcFrame) -> None:
    framing = opened()
    framing.wrap(b"question")
    framing.receive(frame.encode() * 1000)
    with pytest.raises(LimitExceeded, match="bring nothing"):
        framing.next_apdu()


def test_segments_that_bring_nothing_come_to_an_end() -> None:
    framing = opened()
    framing.wrap(b"question")

    def endless() -> None:
        for number in range(1000):
            control = 0x30 | (number & 7) << 1
            framing.receive(HdlcFrame(READER, METER, control, b"", is_segmented=True).encode())
            assert framing.next_apdu() is None
            framing.data_to_send()

    with pytest.raises(LimitExceeded, match="bring nothing"):
        endless()


def test_nothing_is_sent_on_a_link_that_is_not_open() -> None:
    with pytest.raises(LocalProtocolError, match="not open"):
        HdlcFraming(16).wrap(b"question")


def test_a_frame_before_the_link_is_open_is_of_somebody_elses_conversation() -> None:
    framing = HdlcFraming(16)
    framing.connect()
    framing.receive(answer(0, 0, b"of before") + HdlcFrame(READER, METER, 0x31, b"").encode())
    assert framing.next_apdu() is None
    framing.receive(HdlcFrame(READER, METER, 0x73, b"").encode())
    assert framing.next_apdu() == b""
    framing.wrap(b"question")
    framing.receive(answer(0, 1, b"answer"))
    assert framing.next_apdu() == b"answer"


@pytest.mark.parametrize("make", [HdlcDecoder, lambda: WrapperFraming(16)], ids=["HDLC", "wrapper"])
def test_what_comes_unasked_is_bounded(make) -> None:
    make().receive(bytes(MAX_AHEAD))
    with pytest.raises(LimitExceeded, match="nobody asked for"):
        make().receive(bytes(MAX_AHEAD + 1))


@pytest.mark.parametrize(("flip", "is_one"), [(0x00, True), (0x10, False), (0x40, False), (0x80, False)])
def test_only_format_type_3_is_a_frame_though_its_checksum_holds(flip: int, is_one: bool) -> None:
    body = bytearray(HdlcFrame(READER, METER, 0x31, b"").encode()[1:-3])
    body[0] ^= flip
    decoder = HdlcDecoder()
    decoder.receive(b"\x7e" + body + crc16_x25(bytes(body)).to_bytes(2, "little") + b"\x7e")
    decoder.silence()
    assert (decoder.next_frame() is not None) == is_one


@pytest.mark.parametrize("noise", [b"", b"\0", b"noise", b"\xa0\x07"])
def test_noise_before_a_frame_is_counted_and_the_frame_is_taken(noise: bytes) -> None:
    decoder = HdlcDecoder()
    decoder.receive(noise + HdlcFrame(READER, METER, 0x31, b"").encode())
    found = decoder.next_frame()
    assert found is not None
    assert (found.control, decoder.skipped) == (0x31, len(noise))


def test_a_frame_ends_with_a_flag() -> None:
    decoder = HdlcDecoder()
    decoder.receive(HdlcFrame(READER, METER, 0x31, b"").encode()[:-1] + b"\0")
    decoder.silence()
    assert decoder.next_frame() is None
