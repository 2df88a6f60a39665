"""Names, FK7 and the text format: real names, and write, parse, write unchanged (nbr14522.md, section 10)."""

from __future__ import annotations

import random
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

SERIAL = "32600760"


def block(code: int, rng: random.Random | None = None) -> bytes:
    body = bytes((rng or random.Random(code)).randrange(10) * 16 + 1 for _ in range(251))
    return bytes([code]) + bytes.fromhex(SERIAL) + body


def text_file(previous: int = 0, current: int = 0) -> TextFile:
    parameters = bytearray(block(0x21))
    parameters[74:77] = bytes.fromhex(f"{current:06d}")
    parameters[77:80] = bytes.fromhex(f"{previous:06d}")
    # Octets that have no place in the header come back as zero.
    for first, last in ((152, 152), (155, 156), (158, 158), (163, 163), (200, 203), (207, 209), (238, 256)):
        parameters[first - 1 : last] = bytes(last - first + 1)
    rng = random.Random(7)
    return TextFile(
        reader_serial="001101",
        blocks={"parameters": bytes(parameters)},
        record=ReaderRecord({"HORA": "101500", "DATA": "20112606"}),
        installation_code="UC 42",
        previous_words=tuple(rng.randrange(4096) for _ in range(previous)),
        current_words=tuple(rng.randrange(4096) for _ in range(current)),
    )


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
    with pytest.raises(FileRefused, match="no name"):
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


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"SALV001", b"SALV002", "memory line"),
        (b"SALV001", b"XALV001", "label"),
        (b"\r\nSALV001     ", b"\r\nSALV001     x", "characters instead"),
        (SERIAL.encode(), b"3260076x", "no digits"),
        # Found by the fuzzer: white space is no digits, and does not move what comes after it.
        (SERIAL.encode(), b"326007\t\t", "no digits"),
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
