"""Captures in words: the reference's frames, and noise between them (dlms_cosem.md, 2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.apdu import Mechanism, aarq, initiate_request
from protocols.dlms.axdr import decode
from protocols.dlms.describe import describe, shown
from protocols.dlms.framing import LLC_RESPONSE, HdlcFrame, HdlcFraming, WrapperFraming
from protocols.dlms.transcript import redact

SNRM = bytes.fromhex("7EA0070341935A647E")
UA = bytes.fromhex("7EA01E4103738E7F818012050180060180070400000001080400000001533B7E")
GET = bytes.fromhex("000100200001000DC001C100080000010000FF0200")


def test_frames_of_the_reference_in_words() -> None:
    records = list(describe(SNRM + UA[1:] + GET))
    assert [record.get("frame", record.get("apdu")) for record in records] == ["SNRM", "UA", "get request"]
    assert records[2] == {
        "offset": len(SNRM) + len(UA) - 1,
        "framing": "wrapper",
        "source": 32,
        "destination": 1,
        "apdu": "get request",
        "octets": 13,
        "class": 8,
        "obis": "0-0:1.0.0.255",
        "attribute": 2,
    }


def test_octets_between_frames_are_one_error_with_its_place() -> None:
    error, good = describe(b"CONNECT\r\n" + GET)
    assert (error["offset"], error["error"]["count"]) == (0, 9)
    assert (good["offset"], good["obis"]) == (9, "0-0:1.0.0.255")


def test_no_password_is_shown_and_none_is_kept() -> None:
    request = aarq(Mechanism.LLS, initiate_request(0xFFFF), b"sesamo-42")
    hdlc = HdlcFraming(32)
    hdlc.connect()
    hdlc.receive(UA)
    assert hdlc.next_apdu() == b""
    for frame in (WrapperFraming(32).wrap(request), hdlc.wrap(request)):
        assert b"sesamo-42" in frame
        assert b"sesamo" not in redact(frame)
        assert len(redact(frame)) == len(frame)
        assert b"sesamo-42".hex() not in str(list(describe(frame)))


@pytest.mark.req("TR-5.12a")
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 16, 32, 40, 45, 60])
def test_a_password_cut_by_segments_is_taken_out_with_all_they_carry(size: int) -> None:
    password = bytes(range(0xC0, 0xDA))
    hdlc = HdlcFraming(32)
    hdlc.connect()
    hdlc.receive(UA)
    hdlc.next_apdu()
    hdlc._max_information = size
    sent = [hdlc.wrap(aarq(Mechanism.LLS, initiate_request(0xFFFF), password))]
    while hdlc._pending:
        sent.append(hdlc._information())
    kept = [redact(frame) for frame in sent]
    assert [len(frame) for frame in kept] == [len(frame) for frame in sent]
    # Between the header's checksum and the frame's.
    information = b"".join(frame[8:-3] for frame in kept)
    assert not set(information) & set(password)


@pytest.mark.parametrize("octets", [0, 1, 127, 128, 300])
def test_a_password_of_any_length_is_taken_out_and_nothing_else(octets: int) -> None:
    password = b"P" * octets
    frame = WrapperFraming(32).wrap(aarq(Mechanism.LLS, initiate_request(0xFFFF), password))
    assert frame.count(b"P") == octets
    assert redact(frame) == frame.replace(b"P", b"\0")
    assert b"P" not in redact(frame[: len(frame) - octets])


def test_a_checksum_over_a_password_would_tell_most_of_it() -> None:
    hdlc = HdlcFraming(32)
    hdlc.connect()
    hdlc.receive(UA)
    hdlc.next_apdu()
    frame = hdlc.wrap(aarq(Mechanism.LLS, initiate_request(0xFFFF), b"12345678"))
    assert frame[-3:-1] != bytes(2)
    assert redact(frame)[-3:] == b"\0\0\x7e"


def test_a_damaged_request_does_not_show_its_password() -> None:
    hdlc = HdlcFraming(32)
    hdlc.connect()
    hdlc.receive(UA)
    hdlc.next_apdu()
    damaged = bytearray(hdlc.wrap(aarq(Mechanism.LLS, initiate_request(0xFFFF), b"sesamo-42")))
    damaged[12] ^= 1
    (error,) = describe(bytes(damaged))
    assert error["error"]["count"] == len(damaged)
    assert b"sesamo-42".hex() not in str(error)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ("177FC00000", "nan"),
        ("18FFF0000000000000", "-inf"),
        ("173FC00000", 1.5),
        ("0A03310032", "1\\x002"),
        ("0C02FF31", "\\udcff1"),
        ("09020031", "0031"),
    ],
)
def test_what_is_shown_can_be_written_as_json_anywhere(raw: str, told: object) -> None:
    assert shown(decode(bytes.fromhex(raw))) == told


@given(st.binary(max_size=200))
def test_any_octets_are_described(octets: bytes) -> None:
    for record in describe(octets):
        assert "offset" in record


@given(st.binary(max_size=60), st.sampled_from([b"\xc4\x01\xc1", b"\xc4\x02\xc1", b"\xc0\x01\xc1", b"\x61"]))
def test_any_apdu_is_described(rest: bytes, head: bytes) -> None:
    (record,) = describe(head + rest)
    assert record["octets"] == len(head + rest)


@pytest.mark.case("D8")
@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (
            "c702c101000000010409021234",
            {"block": 1, "is_last": True, "raw": "09021234", "blocks": 1, "value": "1234"},
        ),
        ("c701c0000101fa", {"result": "success", "returned": {"result": "other_reason"}}),
        ("c701c10f", {"result": "long_action_aborted"}),
        ("c501c111", {"result": "long_set_aborted"}),
        ("c502c100000002", {"taken_block": 2}),
        ("c503c10300000002", {"result": "read_write_denied", "taken_block": 2}),
        ("c403c1020006000000010103", {"results": [{"value": 1}, {"result": "read_write_denied"}]}),
        ("d8010600001234", {"counter": 4660}),
        ("d80202", {"result": "service unknown, service not supported (d8 02 02)"}),
        ("0f0000000100060000000a", {"number": 1, "value": 10}),
        ("c20000010000616200ff020600000001", {"obis": "0-0:97.98.0.255", "attribute": 2, "value": 1}),
        ("c002c100000003", {"next_block": 3}),
    ],
)
def test_each_service_names_its_results_in_its_own_words(raw: str, words: dict[str, object]) -> None:
    (record,) = describe(bytes.fromhex(raw))
    assert "error" not in record
    assert words.items() <= record.items()


def _segments(apdu: bytes, size: int, control: int) -> bytes:
    whole = LLC_RESPONSE + apdu
    pieces = [whole[place : place + size] for place in range(0, len(whole), size)]
    frames = [
        HdlcFrame(b"\x21", b"\x03", control, piece, number < len(pieces)).encode()
        for number, piece in enumerate(pieces, start=1)
    ]
    return b"".join(frames)


@pytest.mark.parametrize("control", [0x13, 0x10], ids=["unnumbered", "numbered"])
@pytest.mark.parametrize("size", [3, 7, 128])
def test_a_push_in_several_segments_is_shown_with_its_values(size: int, control: int) -> None:
    push = bytes.fromhex("0f000000010c07ea0b14ff0a0f0000b400000203060000000109021234120007")
    *segments, last = describe(_segments(push, size, control))
    assert [record["frame"] for record in segments] == ["segment"] * len(segments)
    assert (last["apdu"], last["value"]) == ("data notification", [1, "1234", 7])
    assert last.get("segments", 1) == len(segments) + 1


def test_blocks_of_an_answer_are_joined_and_those_of_another_are_not() -> None:
    def block(number: int, is_last: bool, raw: bytes, server: int = 1) -> bytes:
        head = b"\xc4\x02\xc1" + bytes([is_last]) + number.to_bytes(4, "big") + b"\0"
        return WrapperFraming(server, 16).wrap(head + bytes([len(raw)]) + raw)

    capture = block(1, False, b"\x09\x04AB") + block(1, False, b"\x06\0", 2) + block(2, True, b"CD")
    *_, last = describe(capture)
    assert (last["blocks"], last["value"]) == (2, b"ABCD".hex())
    *_, lone = describe(block(2, True, b"CD"))
    assert "value" not in lone


def test_no_password_is_shown_of_an_association_in_segments() -> None:
    request = aarq(Mechanism.LLS, initiate_request(0xFFFF), b"sesamo-42")
    hdlc = HdlcFraming(32)
    hdlc.connect()
    hdlc.receive(UA)
    hdlc.next_apdu()
    hdlc._max_information = 40
    sent = hdlc.wrap(request)
    while hdlc._pending:
        sent += hdlc._information()
    told = str(list(describe(sent)))
    assert "association request" in told
    assert b"mo-4".hex() not in told
