"""The files that stored readings were brought by: as they came, and the closed periods that they state.

A text file says whether its words are of the running period (CONT) or of the one closed last (SALV); readings
do not. Where a run of readings is exactly the closed period of the file that brought it, it goes out as one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from typing import Any

import psycopg

from collector.files.decode import TEXT
from collector.files.importing import PURPOSE, file_name_of
from exchange.runs import Run
from protocols.nbr14522.crc import sealed
from protocols.nbr14522.messages import Parameters, decode_response
from protocols.public_format import TextFile
from protocols.public_format.scan import scan_text
from protocols.public_format.text import CURRENT, PARAMETERS, PREVIOUS

Connection = psycopg.Connection[Any]

# The newest version of each day, and the runs of its slots by the session that brought them.
_SOURCES = """
WITH newest AS (
    SELECT DISTINCT ON (meter_id, channel, day)
        meter_id, day, interval_s, cardinality(pulses) AS slots, source_starts, source_sessions
    FROM reading_day WHERE meter_id = ANY(%(meters)s) AND day BETWEEN %(first)s AND %(last)s
    ORDER BY meter_id, channel, day, version DESC
)
SELECT s.id, s.meter_id, s.protocol, s.url, n.day, n.interval_s, n.slots, n.source_starts, n.source_sessions
FROM newest n JOIN session s ON s.id = ANY(n.source_sessions) AND s.purpose = %(purpose)s
ORDER BY s.id, n.day
"""


@dataclass(slots=True)
class BroughtFile:
    """A file that brought readings of a period; ends are naive, of what was asked for."""

    session_id: int
    meter_id: int
    protocol: str
    name: str
    first_start: datetime
    last_end: datetime
    intervals: int


def brought_files(
    conn: Connection, meter_ids: Collection[int], first_day: date, last_day: date
) -> list[BroughtFile]:
    """The imported files that readings of these meters are from, in the order in which they came."""
    found: dict[int, BroughtFile] = {}
    named = {"meters": list(meter_ids), "first": first_day, "last": last_day, "purpose": PURPOSE}
    for session_id, meter_id, protocol, url, day, interval_s, slots, starts, sources in conn.execute(
        _SOURCES, named
    ):
        midnight, step = datetime.combine(day, time()), timedelta(seconds=interval_s)
        for first, end, source in zip(starts, [*starts[1:], slots], sources, strict=True):
            if source != session_id:
                continue
            begins, ends = midnight + first * step, midnight + end * step
            name = file_name_of(url).rpartition("/")[2]
            one = found.setdefault(
                session_id, BroughtFile(session_id, meter_id, protocol, name, begins, ends, 0)
            )
            one.first_start, one.last_end = min(one.first_start, begins), max(one.last_end, ends)
            one.intervals += end - first
    return list(found.values())


def octets_of(conn: Connection, session_id: int) -> bytes:
    """A file as it came: the last frame of its session (before it, a CSV has how to read it)."""
    row = conn.execute(
        "SELECT payload FROM frame WHERE session_id = %s ORDER BY seq DESC LIMIT 1", [session_id]
    ).fetchone()
    assert row is not None  # A file is stored before its readings.
    return bytes(row[0])


@dataclass(frozen=True, slots=True)
class ClosedPeriod:
    """A closed period as a text file stated it: its header, when it was written, and what it ends at."""

    header: TextFile
    meter_time: datetime
    last_end: datetime
    words: int

    def is_of(self, run: Run) -> bool:
        """Whether a run of readings is this very period."""
        return run.last_end == self.last_end and run.words.size == self.words

    def file_of(self, run: Run) -> TextFile:
        """The file again, with the words as they are stored now."""
        return replace(self.header, previous_words=tuple(run.words.ravel().tolist()))


def closed_periods(
    conn: Connection, meter_ids: Collection[int], first_day: date, last_day: date
) -> dict[int, list[ClosedPeriod]]:
    """The closed periods that brought readings, by meter."""
    found: dict[int, list[ClosedPeriod]] = {}
    for one in brought_files(conn, meter_ids, first_day, last_day):
        if one.protocol == TEXT:
            for period in _closed(octets_of(conn, one.session_id)):
                found.setdefault(one.meter_id, []).append(period)
    return found


def _closed(octets: bytes) -> Iterator[ClosedPeriod]:
    scan = scan_text(octets)
    words, lost = scan.words(PREVIOUS)
    current, _ = scan.words(CURRENT)
    parameters = decode_response(sealed(scan.header.blocks[PARAMETERS]))
    if not words or lost or current or not isinstance(parameters, Parameters):
        return
    if parameters.last_reset is not None and parameters.meter_time is not None:
        yield ClosedPeriod(scan.header, parameters.meter_time, parameters.last_reset, len(words))
