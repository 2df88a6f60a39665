"""How a stream is kept as evidence: octets with their arrival times, packed into rows of `frame`. Pure.

A session's first row is the head of a capture (`protocols.captures`) with what the registry said; each other
row holds what came within at most a minute: for each portion the milliseconds since the row's time (2
octets), its length (1) and the octets. A session can be decoded alone: its first rows repeat the last ones of
the session before.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from collector.decoded import Frame
from protocols.captures import Capture, Chunk, format_head, is_capture, parse_capture

ROW_SPAN_S = 60.0
_PORTION = struct.Struct(">HB")
_LONGEST = 255
_MILLISECOND = timedelta(milliseconds=1)


def pack_rows(chunks: Sequence[Chunk]) -> list[tuple[datetime, bytes]]:
    """Rows for chunks in order of time; stamps are kept to a millisecond."""
    rows: list[tuple[datetime, bytearray]] = []
    for chunk in chunks:
        at = datetime.fromtimestamp(chunk.at_s, UTC)
        if not rows or not timedelta(0) <= at - rows[-1][0] < timedelta(seconds=ROW_SPAN_S):
            rows.append((at.replace(microsecond=at.microsecond // 1000 * 1000), bytearray()))
        begin, payload = rows[-1]
        for start in range(0, len(chunk.octets), _LONGEST):
            part = chunk.octets[start : start + _LONGEST]
            payload += _PORTION.pack((at - begin) // _MILLISECOND, len(part)) + part
    return [(begin, bytes(payload)) for begin, payload in rows]


def head_row(facts: dict[str, object]) -> bytes:
    """The first row of a session."""
    return format_head(facts).encode("utf-8")


def is_head(frame: Frame) -> bool:
    """Whether a row is the head of its session, and not octets."""
    return frame.seq == 1 and is_capture(frame.payload[:64].decode("latin-1"))


def unpack_frames(frames: Iterable[Frame]) -> Capture:
    """The capture that a session's stored rows hold; a row cut short gives what is whole of it."""
    facts: dict[str, str] = {}
    chunks: list[Chunk] = []
    for frame in frames:
        if is_head(frame):
            facts = dict(parse_capture(frame.payload.decode("utf-8")).facts)
            continue
        chunks += _unpack(frame.at, frame.payload)
    return Capture(tuple(chunks), facts)


def portions(payload: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Of each portion of a row: milliseconds since its time, place of its first octet from 0, and octets."""
    place = 0
    while place + _PORTION.size <= len(payload):
        milliseconds, length = _PORTION.unpack_from(payload, place)
        place += _PORTION.size
        octets = payload[place : place + length]
        if octets:
            yield milliseconds, place, octets
        place += length


def _unpack(at: datetime, payload: bytes) -> list[Chunk]:
    return [
        Chunk((at + milliseconds * _MILLISECOND).timestamp(), octets)
        for milliseconds, _, octets in portions(payload)
    ]
