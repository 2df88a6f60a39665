"""Names, FK7 and the text format: real names, and write, parse, write unchanged (nbr14522.md, section 10)."""

from __future__ import annotations

from datetime import datetime

import pytest

from protocols.nbr14522.crc import sealed
from protocols.public_format import (
    FileKind,
    ReaderRecord,
    TextFile,
    file_name,
    parse_name,
    read_fk7,
    read_text,
    write_fk7,
    write_text,
)
from protocols.public_format.errors import FileRefused
from protocols.public_format.text import has_place
from tests.protocols.public_format.files import SERIAL, block, text_file


@pytest.mark.req("TR-5.6a")
@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("00507&cn.ren", datetime(2020, 10, 28, 7, 41, 33)),
        ("00507&cn.rkb", datetime(2020, 10, 28, 7, 43, 21)),
        ("00507&cn.rnr", datetime(2020, 10, 28, 7, 44, 37)),
        ("00507&cn.sbn", datetime(2020, 10, 28, 7, 47, 13)),
        ("88518&BP.LPF", datetime(2017, 1, 9, 7, 58, 25)),
    ],
)
def test_real_names(name: str, at: datetime) -> None:
    assert file_name(FileKind.TEXT, f"000{name[:5]}", at) == name.upper()
    parsed = parse_name(name)
    assert (parsed.kind, parsed.serial_end, parsed.fits(at)) == (FileKind.TEXT, name[:5], True)
    assert not parsed.fits(at.replace(second=59 - at.second))


@pytest.mark.parametrize("name", ["88518BP.LPF", "88518&BP.LPZ", "88518#BP.LPF", ""])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(FileRefused, match="not a name"):
        parse_name(name)


@pytest.mark.req("TR-5.6a")
def test_fk7_survives_write_parse_write() -> None:
    blocks = [block(code) for code in (0x20, 0x80, 0x24, 0x25, 0x28, 0x27, 0x27)]
    octets = write_fk7([sealed(content) for content in blocks])
    assert len(octets) == 7 * 256
    assert read_fk7(octets) == blocks
    assert write_fk7(read_fk7(octets)) == octets


@pytest.mark.parametrize(
    ("octets", "message"),
    [
        (b"", "whole blocks"),
        (block(0x20)[:-1], "whole blocks"),
        (block(0x99), "code 99"),
        (block(0x27), "no block of parameters"),
        (block(0x20) + b"\x27" + bytes(255), "meter 00000000 after meter 32600760"),
    ],
)
def test_fk7_says_what_is_wrong(octets: bytes, message: str) -> None:
    with pytest.raises(FileRefused, match=message):
        read_fk7(octets)


def test_what_is_no_fk7_file_is_not_written() -> None:
    with pytest.raises(FileRefused, match="code 99"):
        write_fk7([block(0x20), block(0x99)])


@pytest.mark.req("TR-5.6a")
@pytest.mark.parametrize(("previous", "current"), [(0, 0), (28_503, 63), (72, 0), (3, 144)])
def test_text_survives_write_parse_write(previous: int, current: int) -> None:
    file = text_file(previous, current)
    octets = write_text(file)
    lines = octets.split(b"\r\n")
    assert {len(line) for line in lines[:-1]} == {300}
    parsed = read_text(octets)
    assert parsed == file
    assert write_text(parsed) == octets


def test_text_places_of_the_reference() -> None:
    file = text_file(previous=28_503)
    header = write_text(file).replace(b"\r\n", b"")[:2400].decode()
    assert header[0:8] == SERIAL
    assert header[8:14] == "001101"
    assert (header[152:158], header[158:164]) == ("000000", "028503")
    assert header[1576:1588] == "DATA20112606"
    assert header[1588:1598] == "HORA101500"
    assert header[1866:1870] == "    "
    assert header[2377:2391] == "UC 42".ljust(14)
    assert header[2391:] == " " * 9
    assert header[688:1132].strip() == ""
    lines = write_text(file).split(b"\r\n")
    assert len(lines) - 1 == 8 + 396
    assert lines[8][:12] == b"SALV001     "
    assert len(lines[8 + 395].rstrip()) == 12 + 63 * 4


# Section 10.2 row by row: first and last character, answer, first and last octet.
HEADER_ROWS = [
    (1, 8, "parameters", 2, 5),
    (15, 20, "parameters", 6, 8),
    (21, 26, "parameters", 9, 11),
    (27, 28, "parameters", 12, 12),
    (29, 40, "parameters", 13, 18),
    (41, 52, "parameters", 19, 24),
    (53, 64, "parameters", 25, 30),
    (65, 76, "parameters", 31, 36),
    (77, 86, "parameters", 37, 41),
    (87, 96, "parameters", 42, 46),
    (97, 100, "parameters", 47, 48),
    (101, 104, "parameters", 49, 50),
    (105, 120, "parameters", 51, 58),
    (121, 136, "parameters", 59, 66),
    (137, 152, "parameters", 67, 74),
    (153, 158, "parameters", 75, 77),
    (159, 164, "parameters", 78, 80),
    (165, 166, "parameters", 81, 81),
    (167, 168, "parameters", 82, 82),
    (169, 170, "parameters", 83, 83),
    (171, 260, "parameters", 84, 128),
    (261, 296, "parameters", 129, 146),
    (297, 298, "parameters", 147, 147),
    (299, 302, "parameters", 148, 149),
    (303, 304, "parameters", 150, 150),
    (305, 688, "25", 54, 245),
    (689, 836, "23", 6, 79),
    (837, 984, "23", 80, 153),
    (985, 1132, "23", 154, 227),
    (1133, 1280, "24", 6, 79),
    (1281, 1428, "24", 80, 153),
    (1429, 1576, "24", 154, 227),
    (1907, 2226, "28", 6, 165),
    (2227, 2228, "parameters", 213, 213),
    (2229, 2232, "parameters", 159, 160),
    (2233, 2236, "parameters", 161, 162),
    (2237, 2238, "parameters", 157, 157),
    (2239, 2254, "parameters", 164, 171),
    (2255, 2270, "parameters", 172, 179),
    (2271, 2286, "parameters", 180, 187),
    (2287, 2302, "parameters", 188, 195),
    (2303, 2304, "parameters", 151, 151),
    (2305, 2308, "parameters", 153, 154),
    (2309, 2314, "parameters", 196, 198),
    (2315, 2316, "parameters", 199, 199),
    (2317, 2322, "parameters", 204, 206),
    (2323, 2328, "parameters", 210, 212),
    (2329, 2332, "parameters", 214, 215),
    (2333, 2336, "parameters", 216, 217),
    (2337, 2340, "parameters", 218, 219),
    (2341, 2348, "parameters", 220, 223),
    (2349, 2356, "parameters", 224, 227),
    (2357, 2364, "parameters", 228, 231),
    (2365, 2372, "parameters", 232, 235),
    (2373, 2374, "parameters", 236, 236),
    (2375, 2376, "parameters", 237, 237),
]
RECORD_ROWS = {
    "DATA": (1577, 8),
    "HORA": (1589, 6),
    "INTE": (1599, 2),
    "FERN": (1605, 15 * 6),
    "CONS": (1699, 3 * 12),
    "PSAZ": (1739, 5 * 8),
    "PDIA": (1783, 3 * 16),
    "ERRO": (1835, 12),
    "ALER": (1851, 12),
    "INIC": (1867, 0),
    "NIMP": (1871, 6),
    "DIGI": (1881, 18),
    "ATPR": (1903, 0),
}


@pytest.mark.req("TR-5.6a")
def test_every_character_of_the_header_stands_where_the_reference_says() -> None:
    blocks = {
        name: bytes([code]) + bytes.fromhex(SERIAL) + bytes(7 * n % 10 * 16 + n % 10 for n in range(251))
        for name, code in (("parameters", 0x21), ("23", 0x23), ("24", 0x24), ("25", 0x25), ("28", 0x28))
    }
    record = ReaderRecord({label: "7" * width for label, (_, width) in RECORD_ROWS.items()})
    file = TextFile("001101", blocks, record, installation_code="ABCDEFGHIJKLMN", user_output="1")
    header = write_text(file).replace(b"\r\n", b"").decode()
    expected = [" "] * 2400
    expected[8:14] = "001101"
    for first, last, name, first_octet, last_octet in HEADER_ROWS:
        digits = blocks[name][first_octet - 1 : last_octet].hex()
        assert len(digits) == last - first + 1
        expected[first - 1 : last] = digits
    for label, (char, width) in RECORD_ROWS.items():
        expected[char - 1 : char + 3 + width] = label + "7" * width
    expected[2376] = "1"
    expected[2377:2391] = "ABCDEFGHIJKLMN"
    assert header == "".join(expected)
    parsed = read_text(write_text(file))
    assert (parsed.record, parsed.reader_serial) == (record, "001101")
    for _, _, name, first_octet, last_octet in HEADER_ROWS:
        part = slice(first_octet - 1, last_octet)
        assert parsed.blocks[name][part] == blocks[name][part]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"SALV001", b"SALV002", "memory line"),
        (b"SALV001", b"XALV001", "label"),
        (b"\r\nSALV001     ", b"\r\nSALV001     x", "characters instead"),
        (SERIAL.encode(), b"3260076x", "are not digits"),
        # Found by the fuzzer: white space is not digits, and does not move what comes after it.
        (SERIAL.encode(), b"326007\t\t", "are not digits"),
    ],
)
def test_text_says_where_it_is_wrong(old: bytes, new: bytes, message: str) -> None:
    octets = write_text(text_file(previous=144)).replace(old, new, 1)
    with pytest.raises(FileRefused, match=message):
        read_text(octets)


def test_a_cut_memory_and_one_beyond_line_999_are_refused() -> None:
    octets = write_text(text_file(previous=144))
    with pytest.raises(FileRefused, match="announces 144"):
        read_text(octets[:-302])
    with pytest.raises(FileRefused, match="999"):
        write_text(TextFile("000001", {}, previous_words=(0,) * (999 * 72 + 1)))
    for count in (-1, 10_000):
        with pytest.raises(FileRefused, match="a count outside"):
            write_text(TextFile("000001", {}, current_words=(count, 0, 0)))


def test_the_last_of_999_lines_is_written() -> None:
    octets = write_text(TextFile("000001", {}, previous_words=(1,) * (999 * 72)))
    assert octets.count(b"\r\n") == 8 + 999


def test_the_largest_count_has_four_digits() -> None:
    assert b"CONT001     999900009999 " in write_text(TextFile("000001", {}, current_words=(9999, 0, 9999)))


def test_the_last_line_may_stand_without_its_end() -> None:
    file = text_file(previous=144)
    assert read_text(write_text(file)[:-2]) == file


@pytest.mark.parametrize("lines", [0, 1, 7])
def test_a_cut_header_is_refused(lines: int) -> None:
    with pytest.raises(FileRefused, match=f"{lines} lines, the header alone has 8"):
        read_text(write_text(text_file())[: lines * 302])


def test_a_header_without_parameters_is_refused() -> None:
    with pytest.raises(FileRefused, match="no parameters"):
        read_text(write_text(TextFile("001101", {"23": block(0x23)})))


@pytest.mark.parametrize("size", [255, 257])
def test_a_block_of_another_size_is_not_written(size: int) -> None:
    with pytest.raises(FileRefused, match=f"{size} octets, a block has 256"):
        write_text(TextFile("001101", {"parameters": bytes(size)}))


def second_line_of_memory(cells: bytes) -> bytes:
    """A file of 144 words whose first memory line ends otherwise."""
    octets = write_text(text_file(previous=144))
    end = 9 * 302 - 2
    return octets[: end - len(cells)] + cells + octets[end:]


@pytest.mark.parametrize(
    ("cells", "message", "where"),
    [
        (b"12x4", "'12x4' is not a count", "line 9, character 297"),
        (b"123 ", "'123 ' is not a count", "line 9, character 297"),
        (b"1234    5678", "'    ' is not a count", "line 9, character 293"),
        (b"    ", "memory goes on after its last word", "line 10"),
    ],
)
def test_a_memory_line_says_where_it_is_wrong(cells: bytes, message: str, where: str) -> None:
    with pytest.raises(FileRefused, match=message) as refused:
        read_text(second_line_of_memory(cells))
    assert refused.value.where == where


@pytest.mark.parametrize("values", [{"XXXX": "1"}, {"HORA": "1015001"}, {"INIC": "1"}])
def test_a_readers_record_holds_what_has_a_place(values: dict[str, str]) -> None:
    with pytest.raises(FileRefused, match="does not fit"):
        ReaderRecord(values)


@pytest.mark.parametrize(
    ("answer", "first", "last", "has_one"),
    [
        ("parameters", 6, 150, True),
        ("parameters", 2, 5, True),
        ("parameters", 150, 150, True),
        ("parameters", 5, 6, False),
        ("parameters", 150, 151, False),
        ("parameters", 152, 152, False),
        ("25", 54, 245, True),
        ("25", 53, 54, False),
        ("25", 245, 246, False),
        ("26", 54, 245, False),
    ],
)
def test_what_has_a_place_in_the_header(answer: str, first: int, last: int, has_one: bool) -> None:
    assert has_place(answer, first, last) is has_one
