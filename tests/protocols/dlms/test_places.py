"""Where values stand: in A-XDR octets, and in the frames of a record."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.apdu import Attribute, get_request
from protocols.dlms.axdr import (
    NULL,
    Data,
    OctetCursor,
    Tag,
    array,
    decode,
    encode,
    encode_length,
    octets,
    structure,
)
from protocols.dlms.errors import RemoteProtocolError
from protocols.dlms.framing import LLC_RESPONSE, WRAPPER, HdlcFrame
from protocols.dlms.transcript import Piece, Recorded, cut, exchanges

pytestmark = pytest.mark.req("X-trace")

AT = datetime(2026, 11, 21, tzinfo=UTC)
CELLS = st.one_of(
    st.just(NULL),
    st.integers(0, 2**32 - 1).map(lambda value: Data(Tag.UINT32, value)),
    st.binary(max_size=200).map(octets),
)
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=4), min_size=1, max_size=5)


@given(ROWS)
def test_each_cell_is_found_where_its_octets_are(rows) -> None:
    raw = encode(array(*(structure(*row) for row in rows)))
    for number, row in enumerate(rows):
        for place, cell in enumerate(row):
            first, count = OctetCursor(raw).find((number, place))
            assert raw[first : first + count] == encode(cell)


@pytest.mark.parametrize(("path", "cell"), [((0, 0), "0001"), ((1, 1, 1), "0C"), ((1,), "00020A0C")])
def test_a_cell_of_a_compact_array_is_found_without_a_type(path, cell) -> None:
    raw = bytes.fromhex("13" + "0202" + "12" + "01000211" + "08" + "0001AABB" + "00020A0C")
    assert decode(raw).plain() == [[1, [0xAA, 0xBB]], [2, [0x0A, 0x0C]]]
    first, count = OctetCursor(raw).find(path)
    assert raw[first : first + count].hex().upper() == cell


@pytest.mark.parametrize("path", [(2, 0), (0, 5), (0, 0, 0)])
@pytest.mark.parametrize(
    "raw", ["0102" + "02021101110202021103" + "1104", "13" + "02021111" + "04" + "01020304"]
)
def test_what_is_not_there_is_not_found(raw, path) -> None:
    with pytest.raises(RemoteProtocolError):
        OctetCursor(bytes.fromhex(raw)).find(path)


@given(st.lists(st.integers(0, 9), max_size=6), st.integers(0, 40), st.integers(0, 40))
def test_a_cut_has_the_octets_of_the_whole(sizes, first, count) -> None:
    frames = [bytes(range(10 * number, 10 * number + size)) for number, size in enumerate(sizes)]
    pieces = cut((Piece(number, 0, size) for number, size in enumerate(sizes)), first, count)
    found = b"".join(frames[one.frame][one.first : one.first + one.count] for one in pieces)
    assert found == b"".join(frames)[first : first + count]
    assert all(piece.count for piece in pieces)


VALUE = octets(bytes(range(200)))
RAW = encode(VALUE)
GET = get_request(Attribute(1, "0-0:96.1.0.255", 2))


def whole(raw: bytes) -> bytes:
    return b"\xc4\x01\xc1\x00" + raw


def block(number: int, is_last: bool, raw: bytes) -> bytes:
    head = b"\xc4\x02\xc1" + bytes([is_last]) + number.to_bytes(4, "big") + b"\x00"
    return head + encode_length(len(raw)) + raw


def wrapped(apdu: bytes) -> list[bytes]:
    return [WRAPPER.pack(1, 1, 16, len(apdu)) + apdu]


def bare(apdu: bytes) -> list[bytes]:
    return [apdu]


def segmented(apdu: bytes) -> list[bytes]:
    raw = LLC_RESPONSE + apdu
    cuts = [raw[place : place + 50] for place in range(0, len(raw), 50)]
    return [
        HdlcFrame(b"\x21", b"\x03", number % 8 << 1, piece, number + 1 < len(cuts)).encode()
        for number, piece in enumerate(cuts)
    ]


@pytest.mark.parametrize("carry", [wrapped, bare, segmented])
@pytest.mark.parametrize(
    "answer", [[whole(RAW)], [block(1, False, RAW[:90]), block(2, True, RAW[90:])]], ids=["whole", "blocks"]
)
def test_a_value_is_in_the_pieces_of_its_frames(carry, answer) -> None:
    frames = [GET]
    for apdu in answer:
        sent = carry(apdu)
        if carry is segmented:  # The numbering of frames goes on over blocks.
            start = len(frames) - 1
            opened = segmented(apdu)
            sent = [
                frame if not start else _renumbered(frame, start + place)
                for place, frame in enumerate(opened)
            ]
        frames += sent
    record = [Recorded(AT, number == 0, frame) for number, frame in enumerate(frames)]
    (found,) = exchanges(record)
    assert found.value == VALUE
    assert b"".join(frames[one.frame][one.first : one.first + one.count] for one in found.pieces) == RAW


def _renumbered(frame: bytes, number: int) -> bytes:
    information = frame[8:-3]
    is_segmented = bool(frame[1] & 0x08)
    return HdlcFrame(b"\x21", b"\x03", number % 8 << 1, information, is_segmented).encode()
