"""What is fuzzed: one function a target, from any octets to nothing, or an exception that is a finding."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone

from collector.decoded import MeterContext
from collector.files.decode import decode_file, format_of
from protocols.nbr14522.commands import changes_meter, info_of
from protocols.nbr14522.crc import sealed
from protocols.nbr14522.errors import RemoteProtocolError
from protocols.nbr14522.frames import Addressing, wrap_command, wrap_response
from protocols.nbr14522.link import (
    NEED_DATA,
    CommandReceived,
    FrameReceived,
    MeterLink,
    ReaderLink,
    SignalReceived,
    Skipped,
    SkipReason,
)
from protocols.nbr14522.messages import (
    MemoryBlock,
    OccurrenceAnswer,
    Parameters,
    decode_request,
    decode_response,
    memory_blocks,
    request_for,
)
from protocols.nbr14522.profile import DEFAULT, P2_GENERIC, P8_GENERIC, STRICT, HandShake
from protocols.nbr14522.sending.secrets import redact
from protocols.public_format import TextFile, read_fk7, read_text, write_fk7, write_text
from protocols.public_format.errors import FileRefused
from protocols.public_format.scan import HEADER_OCTETS, scan_fk7, scan_text
from tests.fuzz import dlms, streams

SERIAL = "32600760"
PROFILES = (
    DEFAULT,
    replace(DEFAULT, enq_required=1, timing=STRICT),
    replace(DEFAULT, enq_required=0),
    P8_GENERIC,
    P2_GENERIC,
    replace(P2_GENERIC, p2_hand_shake=HandShake.ACK),
)
_COMMANDS = [request_for(code).encode("001101") for code in (0x14, 0x21, 0x26, 0x52)]
_BLOCKS = [
    Parameters(code=0x21, words_current=498).encode(SERIAL),
    *memory_blocks(0x26, SERIAL, [bytes(249)] * 3),
    OccurrenceAnswer(occurrence=0x43).encode(SERIAL),
]
_GAPS_S = (0.0, 0.001, 0.1, 0.6, 3.0, 12.0, 0.0, 0.02)
# More events than this for one piece of octets would be work without bound.
_MAX_EVENTS = 2_000


def _pieces(data: bytes, good: list[bytes]) -> list[tuple[float, bytes]]:
    """A line's octets with their times out of a fuzzer's octets: noise, and frames whole, cut or damaged."""
    pieces: list[tuple[float, bytes]] = []
    position = 0
    while position + 2 < len(data) and len(pieces) < 8:
        control, detail = data[position], data[position + 1]
        position += 2
        gap_s = _GAPS_S[control >> 5]
        frame = good[detail % len(good)]
        match control & 0x03:
            case 0:
                octets = data[position : position + detail]
                position += detail
            case 1:
                octets = frame
            case 2:
                octets = frame[: data[position]]
                position += 1
            case _:
                at = data[position] % len(frame)
                octets = frame[:at] + bytes([frame[at] ^ (detail | 1)]) + frame[at + 1 :]
                position += 1
        pieces.append((gap_s, octets))
    return pieces


def reader(data: bytes) -> None:
    """The reader's link: all octets accounted for, bounded events."""
    if not data:
        return
    profile = PROFILES[data[0] % len(PROFILES)]
    link = ReaderLink(profile, SERIAL)
    good = _BLOCKS + [wrap_response(block, profile.addressing) for block in _BLOCKS[:2]]
    now, total, accounted = 0.0, 0, 0
    for index, (gap_s, octets) in enumerate(_pieces(data[1:], good)):
        now += gap_s
        if link.is_idle:
            link.send(_COMMANDS[index % len(_COMMANDS)], now, may_repeat=index % 3 != 0)
        link.receive(octets, now)
        total += len(octets)
        accounted += _accounted(link)
        assert 0 <= total - accounted <= 260, "octets neither held in one frame nor accounted for"
        link.data_to_send()
    link.disconnected(now)
    link.advance(now + 5000.0)
    accounted += _accounted(link)
    assert accounted == total, "octets lost"


def _accounted(link: ReaderLink) -> int:
    count = events = 0
    while (event := link.next_event()) is not NEED_DATA:
        events += 1
        if isinstance(event, FrameReceived):
            count += len(event.octets)
        elif isinstance(event, SignalReceived) or (
            isinstance(event, Skipped) and event.reason is not SkipReason.DUPLICATE_BLOCK
        ):
            count += event.count
    assert events <= _MAX_EVENTS, "events without bound"
    return count


def meter(data: bytes) -> None:
    """The meter's link, with an answer or none to each command that comes through."""
    if not data:
        return
    profile = PROFILES[data[0] % len(PROFILES)]
    link = MeterLink(profile, SERIAL)
    good = _COMMANDS + [wrap_command(c, profile.addressing, meter_serial=SERIAL) for c in _COMMANDS]
    now = 0.0
    for index, (gap_s, octets) in enumerate(_pieces(data[1:], good)):
        now += gap_s
        link.receive(octets, now)
        events = 0
        while (event := link.next_event()) is not NEED_DATA:
            events += 1
            if isinstance(event, CommandReceived):
                if index % 4:
                    link.send(_BLOCKS[1:4] if event.frame[0] == 0x26 else _BLOCKS[:1], now)
                else:
                    link.forget(now)
        assert events <= _MAX_EVENTS, "events without bound"
        link.data_to_send()
    link.advance(now + 100.0)


def response(data: bytes) -> None:
    """Any 256 octets with a good CRC are decoded and written back the same; any others are refused."""
    content = data[:256]
    try:
        answer = decode_response(sealed(content.ljust(256, b"\x00")) if len(data) % 4 else data)
    except RemoteProtocolError:
        return
    assert answer.encode()[:-2] == (answer.octets or content)
    answer.to_json()
    if isinstance(answer, MemoryBlock):
        assert len(answer.words()) == 166


def request(data: bytes) -> None:
    """Any 64 octets with a good CRC are decoded and written back the same; any others are refused."""
    try:
        command = decode_request(sealed(data[:64].ljust(64, b"\x00")) if len(data) % 4 else data)
    except RemoteProtocolError:
        return
    assert command.write() == command.octets
    command.to_json()
    changes_meter(command)
    info_of(command)
    for way in Addressing:
        assert len(redact(data, way, is_command=bool(len(data) & 1)).octets) == len(data)


_TIMED = Parameters(
    code=0x21,
    meter_time=datetime(2026, 11, 20, 10, 2),
    last_interval_end=datetime(2026, 11, 20, 10),
    last_reset=datetime(2026, 11, 1),
    words_current=498,
    words_previous=144,
    memory_interval_min=5,
    memory_interval_extra_s=0,
    quantities=(1, 2, 99),
).encode(SERIAL)
_FK7 = write_fk7([_TIMED, *_BLOCKS[1:4], *memory_blocks(0x27, SERIAL, [bytes(249)])])
_TEXT = write_text(
    TextFile("001101", {"parameters": _TIMED[:256]}, previous_words=(7,) * 144, current_words=(9,) * 498)
)


def public_fk7(data: bytes) -> None:
    """Any octets as an FK7 file, and a good one with them written over it."""
    for octets in (data, _damaged(_FK7, data)):
        try:
            scan = scan_fk7(octets)
        except FileRefused:
            continue
        parts = [(block.offset, 256) for block in scan.blocks]
        _all_accounted(parts + [(damage.offset, damage.count) for damage in scan.damages], octets)
        for block in scan.blocks:
            decode_response(block.content).to_json()
        with suppress(FileRefused):
            assert write_fk7(read_fk7(octets)) == octets


def public_text(data: bytes) -> None:
    """Any octets as a file of the text format, and a good one with them written over it."""
    for octets in (data, _damaged(_TEXT, data)):
        try:
            scan = scan_text(octets)
        except FileRefused:
            continue
        parts = [(line.offset, 300) for line in scan.lines]
        parts += [(damage.offset, damage.count) for damage in scan.damages]
        # The header, with whatever ends its lines, and perhaps a byte order mark before it.
        header = min([3 + HEADER_OCTETS, len(octets), *(offset for offset, _ in parts)])
        _all_accounted([(0, header), *parts], octets, between=b"\r\n\x1a")
        for content in scan.header.blocks.values():
            decode_response(content).to_json()
        for label in ("SALV", "CONT"):
            words, lost = scan.words(label)
            assert sum(count for _, count in lost) <= len(words) <= 999_999
        with suppress(FileRefused):
            write_text(read_text(octets))


def public_import(data: bytes) -> None:
    """What an import makes of any octets: readings and issues, or a refusal."""
    context = MeterContext(1, SERIAL, 1, timezone(timedelta(hours=-3)))
    for octets in (data, _damaged(_FK7, data), _damaged(_TEXT, data)):
        with suppress(FileRefused):
            decoded = decode_file(format_of(octets), octets, PROFILES[len(data) % len(PROFILES)], context)
            assert all(len(vector.pulses) == len(vector.present) for vector in decoded.vectors)


def _damaged(good: bytes, data: bytes) -> bytes:
    """The good file with some of the fuzzer's octets instead of as many, fewer or more of its own."""
    if len(data) < 4:
        return good
    place = int.from_bytes(data[:2], "big") % len(good)
    return good[:place] + data[4:] + good[place + data[2] * (data[3] % 4) :]


def _all_accounted(parts: list[tuple[int, int]], octets: bytes, between: bytes = b"") -> None:
    """Every octet is in one part; only octets of `between` may stand outside them."""
    place = 0
    for offset, count in [*sorted(parts), (len(octets), 0)]:
        assert place <= offset, "octets counted twice"
        assert not octets[place:offset].strip(between), "octets lost"
        place = offset + count
    assert place == len(octets), "more octets than there are"


TARGETS: dict[str, Callable[[bytes], None]] = {
    "reader": reader,
    "meter": meter,
    "response": response,
    "request": request,
    "public_fk7": public_fk7,
    "public_text": public_text,
    "public_import": public_import,
    **dlms.TARGETS,
    **streams.TARGETS,
}
