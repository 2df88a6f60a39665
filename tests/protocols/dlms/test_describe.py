"""Captures in words: the reference's frames, and noise between them (dlms_cosem.md, 2)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.apdu import Mechanism, aarq, initiate_request
from protocols.dlms.describe import describe
from protocols.dlms.framing import HdlcFraming, WrapperFraming
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


def test_a_password_cut_by_segments_is_taken_out_with_all_they_carry() -> None:
    hdlc = HdlcFraming(32)
    hdlc.connect()
    hdlc.receive(bytes.fromhex("7EA01E4103738E7F") + UA[8:])
    hdlc.next_apdu()
    hdlc._max_information = 60
    first = hdlc.wrap(aarq(Mechanism.LLS, initiate_request(0xFFFF), b"sesamo-42" * 3))
    assert b"sesamo" not in redact(first)


@given(st.binary(max_size=200))
def test_any_octets_are_described(octets: bytes) -> None:
    for record in describe(octets):
        assert "offset" in record


@given(st.binary(max_size=60), st.sampled_from([b"\xc4\x01\xc1", b"\xc4\x02\xc1", b"\xc0\x01\xc1", b"\x61"]))
def test_any_apdu_is_described(rest: bytes, head: bytes) -> None:
    (record,) = describe(head + rest)
    assert record["octets"] == len(head + rest)
