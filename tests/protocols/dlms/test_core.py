"""Codec and framings of DLMS against the reference's octets; hostile lengths (dlms_cosem.md, 2 to 4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faults import Fault
from protocols.dlms.apdu import Attribute, get_request, obis_octets, obis_text
from protocols.dlms.axdr import NULL, Data, Tag, array, decode, encode, encode_length, octets, structure
from protocols.dlms.errors import LimitExceeded, RemoteProtocolError
from protocols.dlms.framing import HdlcDecoder, HdlcFrame, HdlcFraming, WrapperFraming, crc16_x25

UA = bytes.fromhex("7EA01E4103738E7F818012050180060180070400000001080400000001533B7E")


def test_wrapper_and_get_as_in_the_reference() -> None:
    framing = WrapperFraming(32)
    octets_out = framing.wrap(get_request(Attribute(8, "0-0:1.0.0", 2)))
    assert octets_out == bytes.fromhex("000100200001000DC001C100080000010000FF0200")


def test_range_request_as_in_the_reference() -> None:
    clock = structure(
        Data(Tag.UINT16, 8), octets(obis_octets("0-0:1.0.0")), Data(Tag.INT8, 2), Data(Tag.UINT16, 0)
    )
    begin = octets(bytes.fromhex("07E80501FF06000000000000"))
    end = octets(bytes.fromhex("07E80501FF07000000000000"))
    request = get_request(Attribute(7, "1-0:99.1.0", 2), 1, structure(clock, begin, end, array()))
    assert request == bytes.fromhex(
        "C001C100070100630100FF02" + "0101" + "0204" + "02041200080906" + "0000010000FF" + "0F02120000"
        "090C07E80501FF06000000000000" + "090C07E80501FF07000000000000" + "0100"
    )


def test_hdlc_opens_with_the_references_frames() -> None:
    framing = HdlcFraming(32)
    assert framing.connect() == bytes.fromhex("7EA0070341935A647E")
    for octet in UA:
        framing.receive(bytes([octet]))
    assert framing.next_apdu() == b""


def test_hdlc_frames_with_7e_inside_or_in_the_checksum_end_by_length() -> None:
    frames = []
    for value in range(4096):
        frame = HdlcFrame(b"\x41", b"\x03", 0x30, b"\xe6\xe7\x00\x7e" + value.to_bytes(2, "big"))
        frames.append(frame)
    line = b"".join(frame.encode() for frame in frames)
    assert any(frame.encode()[-2] == 0x7E for frame in frames)
    decoder, found = HdlcDecoder(), []
    for place in range(0, len(line), 7):
        decoder.receive(line[place : place + 7])
        while (frame := decoder.next_frame()) is not None:
            found.append(frame)
    assert found == frames
    assert decoder.skipped == 0


def test_hdlc_passes_over_a_damaged_frame() -> None:
    good = HdlcFrame(b"\x41", b"\x03", 0x30, b"\xe6\xe7\x00\x01").encode()
    damaged = bytearray(good)
    damaged[9] ^= 0x10
    decoder = HdlcDecoder()
    decoder.receive(b"CONNECT\r\n" + bytes(damaged) + good)
    frame = decoder.next_frame()
    assert frame is not None
    assert frame.encode() == good
    assert decoder.next_frame() is None
    assert decoder.skipped >= 9


def test_check_value_of_x25() -> None:
    assert crc16_x25(b"123456789") == 0x906E


_leaf = st.one_of(
    st.just(NULL),
    st.booleans().map(lambda value: Data(Tag.BOOLEAN, value)),
    st.integers(-(1 << 63), (1 << 63) - 1).map(lambda value: Data(Tag.INT64, value)),
    st.integers(0, 255).map(lambda value: Data(Tag.ENUM, value)),
    st.binary(max_size=300).map(octets),
    st.binary(min_size=12, max_size=12).map(lambda value: Data(Tag.DATE_TIME, value)),
    st.text(alphabet="01", max_size=20).map(lambda value: Data(Tag.BIT_STRING, value)),
    st.floats(allow_nan=False).map(lambda value: Data(Tag.FLOAT64, value)),
)
_data = st.recursive(
    _leaf, lambda inner: st.lists(inner, max_size=5).map(lambda parts: structure(*parts)), max_leaves=20
)


@given(_data)
def test_values_survive_encoding_and_every_truncation_is_refused(value: Data) -> None:
    raw = encode(value)
    assert decode(raw) == value
    for cut in range(len(raw)):
        with pytest.raises(RemoteProtocolError):
            decode(raw[:cut])


def test_a_compact_array_is_an_array_of_its_rows() -> None:
    rows = decode(bytes.fromhex("13" + "0202" + "1211" + "06" + "00010A" + "00020B"))
    assert rows.plain() == [[1, 10], [2, 11]]


@pytest.mark.parametrize(
    "hostile",
    ["0184FFFFFFFF", "13" + "02840FFFFFFF", "0101" * 40 + "00", "1301FFFF00" + "01" + "00"],
    ids=["count", "shape", "depth", "null rows"],
)
def test_hostile_lengths_and_depths_are_cut_off(hostile: str) -> None:
    with pytest.raises((LimitExceeded, RemoteProtocolError)):
        decode(bytes.fromhex(hostile))


def test_a_short_text_does_not_become_millions_of_values() -> None:
    shape = b"\x02" + encode_length(2001) + bytes(2000) + b"\x11"
    rows = bytes(600)
    with pytest.raises(LimitExceeded, match="elements"):
        decode(b"\x13" + shape + encode_length(len(rows)) + rows)


@given(st.binary(max_size=200))
def test_any_octets_are_a_value_or_a_typed_refusal(raw: bytes) -> None:
    try:
        decode(raw)
    except Fault:
        return


def test_obis_codes_in_the_usual_spellings() -> None:
    assert obis_octets("1-0:1.8.0") == obis_octets("1.0.1.8.0.255") == bytes([1, 0, 1, 8, 0, 255])
    assert obis_text(bytes([0, 0, 42, 0, 0, 255])) == "0-0:42.0.0.255"
    with pytest.raises(ValueError, match="no OBIS code"):
        obis_octets("1.8")
