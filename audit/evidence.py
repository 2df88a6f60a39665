"""The evidence of sessions: their frames, what they decode to, and where in them a count stands.

What belongs here: what all protocols share. Where a count stands is each protocol's own (`Locator`, one
module each); that its octets and the value that was stored agree is for `trace` to compare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any, Protocol

import psycopg

from collector.decoded import DayVector, Decoded, Frame, MeterContext
from collector.drivers import decoder_of
from protocols.table import entry_named, part
from storage.sessions import read_frames


class Place(Protocol):
    """Where one count stands in the evidence.

    Attributes:
        pulses: what the octets there say by themselves; None where that is not a whole number.
    """

    @property
    def pulses(self) -> int | None: ...


class Locator(Protocol):
    """A protocol's way to find a count in stored octets.

    Attributes:
        key: name of the place in the document of a trace.
        holder, whole: what the octets are of and what they are decoded from, in words: "frame", "session's
            frames".
    """

    key: str
    holder: str
    whole: str

    def locate(
        self,
        session: Mapping[str, Any],
        frames: Sequence[Frame],
        profile: str,
        context: MeterContext,
        interval_end: datetime,
    ) -> Place | None:
        """Find the count of one interval of the context's active channel; None where it is not there.

        Args:
            session: its row. frames: its evidence, in order.
            profile: of its meter's model.
            interval_end: naive, as the meter's clock has it.
        """


def locator_of(protocol: str) -> Locator:
    """The locator of a session's protocol."""
    locator: Locator = part(entry_named(protocol).evidence)
    return locator


@dataclass(frozen=True)
class FramePart:
    """Octets of a stored frame.

    Attributes:
        first_octet: 1-based in the stored frame.
        payload: the whole stored frame.
        is_plain: the stored frame is the plain text of the ciphered ones before it; keys are never stored.
    """

    frame_seq: int
    frame_at: datetime
    first_octet: int
    octets: bytes
    payload: bytes
    is_plain: bool


_PART = frozenset(one.name for one in fields(FramePart))
_OF_A_FRAME = {"frame_seq": "seq", "frame_at": "at", "is_plain": "is_plain", "payload": "payload"}
_REFERENCE = ("frame_seq", "first_octet", "octets")


def with_frames_once(reading: Mapping[str, Any]) -> dict[str, Any]:
    """A reading of a trace as a document: each frame once under `frames`, and parts that name it."""
    frames: dict[int, dict[str, Any]] = {}

    def referred(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [referred(one) for one in value]
        if not isinstance(value, dict):
            return value
        if value.keys() != _PART:
            return {key: referred(one) for key, one in value.items()}
        frames[value["frame_seq"]] = {name: value[key] for key, name in _OF_A_FRAME.items()}
        return {key: value[key] for key in _REFERENCE}

    document = {key: referred(value) for key, value in reading.items()}
    return document | {"frames": [frames[number] for number in sorted(frames)]}


class Evidence:
    """The frames of sessions, and what they decode to; each session is read and decoded once."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._conn = conn
        self._frames: dict[int, list[Frame]] = {}
        self._decoded: dict[int, Decoded] = {}

    def frames(self, session_id: int) -> list[Frame]:
        """The evidence of one session, in order."""
        if session_id not in self._frames:
            self._frames |= read_frames(self._conn, [session_id])
        return self._frames[session_id]

    def pulses(
        self, session: Mapping[str, Any], profile: str, context: MeterContext, day: date, index: int
    ) -> int | None:
        """The count of one slot as the collector's own decoder makes it from the frames, held ones included.

        Args:
            session: its row; `profile` is the name of its meter's.
        """
        decoded = self._decode(session, profile, context)
        for vector in (*decoded.vectors, *(held.vector for held in decoded.held)):
            if (vector.channel, vector.day) == (context.active_channel, day) and vector.present[index]:
                return int(vector.pulses[index])
        return None

    def vector(
        self, session: Mapping[str, Any], profile: str, context: MeterContext, day: date
    ) -> DayVector | None:
        """What the frames say of a day of the active channel; None where nothing."""
        found = self._decode(session, profile, context).vectors
        return next(
            (each for each in found if (each.channel, each.day) == (context.active_channel, day)), None
        )

    def _decode(self, session: Mapping[str, Any], profile: str, context: MeterContext) -> Decoded:
        session_id = session["id"]
        if session_id not in self._decoded:
            decoder = decoder_of(session["protocol"])
            self._decoded[session_id] = decoder.decode(self.frames(session_id), profile, context)
        return self._decoded[session_id]
