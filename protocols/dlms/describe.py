"""Frames of a capture in words, for people who look for what went wrong. No secrets are shown.

Segments of HDLC and blocks are joined: the frame that ends them shows the whole.
"""

from __future__ import annotations

from collections.abc import Iterator

from protocols.dlms.framing import (
    FLAG,
    LLC_REQUEST,
    LLC_RESPONSE,
    WRAPPER,
    WRAPPER_VERSION,
    HdlcDecoder,
    HdlcFrame,
)
from protocols.dlms.mode_e import opening_frame
from protocols.dlms.services import NAMES, Joiner, Record, apdu_record, shown
from protocols.dlms.transcript import redact

__all__ = ["Record", "describe", "shown"]

_CONTROLS = {0x93: "SNRM", 0x73: "UA", 0x53: "DISC", 0x1F: "DM", 0x97: "FRMR"}
_POLL, _UI = 0x10, 0x03
_MOST_SEGMENTS = 1 << 20


def describe(octets: bytes) -> Iterator[Record]:
    """Each frame with its offset; octets that are no frame are one error with place, count and reason.

    Whole wrapper PDUs and HDLC frames one after the other, or one bare APDU; the lines of mode E that open an
    optical port may stand before them, with or without their parity.
    """
    walk = _Walk()
    if octets[:1] and octets[0] in NAMES:
        yield {"offset": 0, "framing": None, **apdu_record(octets, None, walk.joiner)}
        return
    place, bad_from = 0, None
    while place < len(octets):
        found = walk.frame(octets, place)
        if found is None:
            bad_from = place if bad_from is None else bad_from
            place += 1
            continue
        if bad_from is not None:
            yield _error(octets, bad_from, place)
            bad_from = None
        record, size = found
        yield {"offset": place, **record}
        place += size
    if bad_from is not None:
        yield _error(octets, bad_from, len(octets))


def _error(octets: bytes, start: int, end: int) -> Record:
    return {
        "offset": start,
        "error": {
            "reason": "no frame of wrapper or HDLC begins here",
            "count": end - start,
            "octets": redact(octets[start:end]).hex(),
        },
    }


class _Walk:
    """What is known of a capture while it is walked: segments and blocks that have begun."""

    def __init__(self) -> None:
        self.joiner = Joiner()
        self._segments: dict[tuple[bytes, bytes, bool], list[bytes]] = {}

    def frame(self, octets: bytes, place: int) -> tuple[Record, int] | None:
        """The frame that begins here, and its size."""
        if octets[place] == FLAG:
            return self._hdlc(octets, place)
        opening = opening_frame(octets, place)
        if opening is not None:
            name, text, size = opening
            return {"framing": "mode-e", "frame": name, "text": text}, size
        if len(octets) - place < WRAPPER.size:
            return None
        version, source, destination, length = WRAPPER.unpack_from(octets, place)
        size = WRAPPER.size + length
        if version != WRAPPER_VERSION or not length or len(octets) - place < size:
            return None
        about = {"framing": "wrapper", "source": source, "destination": destination}
        apdu = redact(octets[place : place + size])[WRAPPER.size :]
        return about | apdu_record(apdu, (source, destination), self.joiner), size

    def _hdlc(self, octets: bytes, place: int) -> tuple[Record, int] | None:
        if len(octets) - place < 3:
            return None
        size = (int.from_bytes(octets[place + 1 : place + 3], "big") & 0x07FF) + 2
        raw = octets[place : place + size]
        decoder = HdlcDecoder()
        decoder.receive(raw)
        frame = decoder.next_frame()
        if frame is None or frame.encode() != raw:
            return None
        # Two frames may share the flag between them.
        is_shared = place + size < len(octets) and octets[place + size] & 0xF0 == 0xA0
        return self._hdlc_record(frame), size - is_shared

    def _hdlc_record(self, frame: HdlcFrame) -> Record:
        record: Record = {
            "framing": "hdlc",
            "source": frame.source.hex(),
            "destination": frame.destination.hex(),
            "control": f"{frame.control:02X}",
            "is_segmented": frame.is_segmented,
        }
        is_unnumbered = frame.control & ~_POLL == _UI
        if frame.control & 1 and not is_unnumbered:
            kind = "RR" if frame.control & 0x0F == 1 else "control"
            name = _CONTROLS.get(frame.control, kind)
            return record | {"frame": name, "information": frame.information.hex()}
        if is_unnumbered:
            record["frame"] = "UI"
        parts = self._joined(frame, is_unnumbered)
        information = b"".join(parts)
        if frame.is_segmented or information[:3] not in (LLC_REQUEST, LLC_RESPONSE):
            return record | {"frame": "segment", "octets": len(frame.information)}
        if len(parts) > 1:
            record["segments"] = len(parts)
        apdu = redact(b"\0" * 8 + information)[11:]
        return record | apdu_record(apdu, (frame.source, frame.destination), self.joiner)

    def _joined(self, frame: HdlcFrame, is_unnumbered: bool) -> list[bytes]:
        """Information of the frame, with that of the segments before it when it ends them."""
        key = (frame.source, frame.destination, is_unnumbered)
        begins = frame.information[:3] in (LLC_REQUEST, LLC_RESPONSE)
        parts = [] if begins else self._segments.pop(key, [])
        parts = [*parts, frame.information]
        if frame.is_segmented and sum(map(len, parts)) <= _MOST_SEGMENTS:
            self._segments[key] = parts
        else:
            self._segments.pop(key, None)
        return parts
