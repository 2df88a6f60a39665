"""Damaged files: what is good stays, every octet is accounted for, and no octets raise anything untyped."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.public_format import ReaderRecord, TextFile, read_fk7, read_text, write_fk7, write_text
from protocols.public_format.errors import FileRefused
from protocols.public_format.fk7 import KNOWN_CODES
from protocols.public_format.scan import HEADER_OCTETS, scan_fk7, scan_text
from tests.fuzz.targets import public_fk7, public_import, public_text
from tests.protocols.public_format.files import SERIAL, text_file
from tests.protocols.public_format.samples import BLOCKS, FK7, TEXT

SECOND_LINE = TEXT.splitlines()[9]


@pytest.mark.req("TR-5.6a")
def test_a_whole_file_has_no_damage():
    scan = scan_fk7(FK7)
    assert [found.content for found in scan.blocks] == read_fk7(FK7)
    assert (scan.meter_serial, scan.damages) == (SERIAL, ())
    text = scan_text(TEXT)
    assert text.damages == ()
    assert tuple(text.words("SALV")[0]) == text_file(previous=144, current=200).previous_words
    assert tuple(text.words("CONT")[0]) == text_file(previous=144, current=200).current_words


@pytest.mark.parametrize(
    ("octets", "kept", "reason"),
    [
        (FK7[:-10], [0, 1, 2, 3, 4, 5], "cut off after 246"),
        (FK7[:512] + FK7[522:], [0, 3, 4, 5, 6], "lost or added"),
        (FK7[:600] + FK7[610:], [0, 1, 3, 4, 5, 6], "lost or added"),
        (FK7[:600] + b"xyz" + FK7[600:], [0, 1, 3, 4, 5, 6], "lost or added"),
        (FK7[:512] + b"\x99" + FK7[513:], [0, 1, 3, 4, 5, 6], "no block begins with 99"),
        (FK7[:513] + b"\x11\x11\x11\x11" + FK7[517:], [0, 1, 3, 4, 5, 6], "meter 11111111"),
        (b"junk" + FK7, [0, 1, 2, 3, 4, 5, 6], "no block begins"),
    ],
)
def test_the_good_blocks_of_a_damaged_fk7_file_stay(octets, kept, reason):
    scan = scan_fk7(octets)
    whole = read_fk7(FK7)
    assert [whole.index(found.content) for found in scan.blocks] == kept
    (damage,) = scan.damages
    assert reason in damage.reason
    assert sum(len(found.content) for found in scan.blocks) + damage.count == len(octets)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"SALV002", b"XALV002", "label"),
        (b"SALV002", b"SALV001", "second time"),
        (b"SALV002     ", b"SALV002    ", "299 characters"),
        (b"SALV002     ", b"SALV002     x", "301 characters"),
        (b"SALV002", b"SALV9z2", "line number"),
        (SECOND_LINE[:16], SECOND_LINE[:12] + b"9999", "12 bits"),
        (SECOND_LINE[:16], SECOND_LINE[:12] + b"1 34", "'1 34' at character 13 is not a count"),
        (SECOND_LINE[:16], SECOND_LINE[:12] + b"12\xc73", "ASCII"),
    ],
)
def test_a_damaged_line_leaves_a_gap_and_the_rest_stays(old, new, reason):
    scan = scan_text(TEXT.replace(old, new, 1))
    (damage,) = scan.damages
    assert reason in damage.reason
    words, lost = scan.words("SALV")
    assert lost == [(72, 72)]
    assert tuple(words[:72]) == text_file(previous=144, current=200).previous_words[:72]
    assert scan.words("CONT") == (list(text_file(previous=144, current=200).current_words), [])


def test_words_beyond_the_announced_are_dropped_and_a_cut_file_keeps_lines():
    more = TEXT.replace(b"CONT001", b"CONT004", 1)
    assert "announced 200" in scan_text(more).damages[0].reason
    cut = scan_text(TEXT[:-400])
    assert cut.words("CONT")[1] == [(72, 128)]


@pytest.mark.req("TR-5.6a")
@pytest.mark.parametrize("newline", [b"\r\n", b"\r\r\n", b"\n", b"\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"", b"\x1a", b"\r\n\r\n\x1a"])
def test_what_copies_between_systems_change_is_no_damage(newline, mark, end):
    octets = mark + TEXT.replace(b"\r\n", newline) + end
    scan, whole = scan_text(octets), scan_text(TEXT)
    assert (scan.header, scan.damages) == (whole.header, ())
    assert [(line.label, line.number, line.words) for line in scan.lines] == [
        (line.label, line.number, line.words) for line in whole.lines
    ]
    for line in scan.lines:
        assert octets[line.offset :].startswith(f"{line.label}{line.number:03d}".encode())


@pytest.mark.req("TR-5.6a")
@pytest.mark.parametrize("kept", [HEADER_OCTETS, HEADER_OCTETS + 40, HEADER_OCTETS + 302, len(TEXT)])
def test_lines_of_a_file_appended_to_a_cut_one_are_not_taken_for_its_own(kept):
    other = write_text(text_file(previous=144, current=200, seed=8))
    scan, alone = scan_text(TEXT[:kept] + other), scan_text(TEXT[:kept])
    assert [line.words for line in scan.lines] == [line.words for line in alone.lines]
    assert "another file" in scan.damages[-1].reason
    assert scan.damages[-1].offset + scan.damages[-1].count == kept + len(other)


def test_a_damaged_line_is_found_between_any_line_ends():
    octets = TEXT.replace(b"\r\n", b"\n").replace(b"SALV002", b"XALV002")
    (damage,) = scan_text(octets).damages
    assert octets[damage.offset :].startswith(b"XALV002")
    assert damage.count == 301


@pytest.mark.parametrize(
    ("scan", "octets"),
    [(scan_text, TEXT + b"\r\n" * 5000 + b"x"), (scan_fk7, FK7 + BLOCKS[0][:5] * 5000 + FK7)],
)
def test_a_file_of_nothing_but_damage_is_refused_before_it_fills_memory(scan, octets):
    with pytest.raises(FileRefused, match="more than 4,000 damaged places"):
        scan(octets)


def test_a_header_that_cannot_be_read_is_refused():
    with pytest.raises(FileRefused):
        scan_text(TEXT[: HEADER_OCTETS - 1])


words = st.lists(st.integers(0, 4095), max_size=400)


@pytest.mark.req("TR-5.6a")
@given(words, words, st.text("0123456789", min_size=6, max_size=6), st.binary(min_size=145, max_size=145))
@settings(max_examples=60, deadline=None)
def test_any_text_file_survives_write_parse_write(previous, current, reader, parameters):
    content = bytearray(text_file().blocks["parameters"])
    # Digits as the wire has them; the counts must be those of the memory.
    content[5:150] = bytes(octet % 10 * 16 + octet // 16 % 10 for octet in parameters)
    content[74:77] = bytes.fromhex(f"{len(current):06d}")
    content[77:80] = bytes.fromhex(f"{len(previous):06d}")
    file = TextFile(
        reader_serial=reader,
        blocks={"parameters": bytes(content)},
        record=ReaderRecord({"HORA": reader}),
        previous_words=tuple(previous),
        current_words=tuple(current),
    )
    octets = write_text(file)
    assert write_text(read_text(octets)) == octets
    scan = scan_text(octets)
    assert (scan.words("SALV")[0], scan.words("CONT")[0], scan.damages) == (previous, current, ())


@pytest.mark.req("TR-5.6a")
@given(st.lists(st.tuples(st.sampled_from(sorted(KNOWN_CODES)), st.binary(max_size=251)), max_size=12))
@settings(max_examples=60, deadline=None)
def test_any_fk7_file_survives_write_parse_write(parts):
    blocks = [BLOCKS[0]] + [
        bytes([code]) + bytes.fromhex(SERIAL) + body.ljust(251, b"\x00") for code, body in parts
    ]
    octets = write_fk7(blocks)
    assert write_fk7(read_fk7(octets)) == octets
    assert [found.content for found in scan_fk7(octets).blocks] == blocks


@given(st.binary(max_size=2000))
@settings(max_examples=200, deadline=None)
def test_any_octets_are_decoded_skipped_or_refused(octets):
    public_fk7(octets)
    public_text(octets)
    public_import(octets)
