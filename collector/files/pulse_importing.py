"""CSV files of intervals into the readings: the lines of each meter are a session of their own.

Evidence first, then decoded, judged and merged like any session. A meter that is not registered, or is being
read, does not keep the others out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from itertools import groupby
from typing import Any
from urllib.parse import quote

from collector.files.importing import PURPOSE
from collector.files.pulse_lines import PULSE_CSV, PulseHead
from collector.files.sources import Source
from collector.merging import merge_sessions
from collector.session import EndedSession, MergedSession
from collector.work.worklist import Connection
from faults import Fault, OperatorFault, RetryFault
from protocols.pulse_csv.layout import PulseLayout, parse_layout
from protocols.pulse_csv.lines import Line, LineReader, lines_of
from storage import sessions
from storage.database import Database


@dataclass(frozen=True, slots=True)
class ImportedMeter:
    """What became of one meter's lines.

    Attributes:
        key: as the file names it. known_session: these very lines were imported before; nothing was done.
        fault: why nothing was stored.
    """

    key: str
    lines: int
    meter_serial: str = ""
    session_id: int | None = None
    known_session: bool = False
    merged: MergedSession | None = None
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class _Meter:
    meter_id: int
    serial: str
    kwh_per_pulse: str
    interval_s: int


def import_pulses(
    db: Database, source: Source, layout_name: str, layout_text: str, actor: str, at: datetime
) -> Iterator[ImportedMeter]:
    """Import a file, meter by meter, in the order in which it names them.

    Raises:
        OperatorFault: the layout is wrong, the file lacks its columns, or has no line below its heading.
    """
    layout = parse_layout(layout_text, layout_name)
    heading, by_key, nameless = _by_meter(source, layout, db)
    digest = sha256(layout_text.encode() + b"\0" + source.octets).hexdigest()
    url = f"file:{quote(source.label, safe='&$/')}?sha256={digest}"
    if nameless:
        numbers = ", ".join(str(line.number) for line in nameless[:10])
        yield ImportedMeter(
            "",
            len(nameless),
            fault=OperatorFault(
                f"{len(nameless)} lines name no meter, or are damaged: {numbers}",
                where=source.label,
                remedy="correct them and import the file again: what came in stays",
            ),
        )
    with db.connect(autocommit=True) as conn:
        name = f"import {actor} {os.getpid()}"
        sessions.proclaim(conn, name)
        for key, lines in by_key.items():
            try:
                meter = _meter(conn, layout, key, source.label)
                known = sessions.finished_import(conn, meter.meter_id, PURPOSE, digest)
                if known is not None:
                    yield ImportedMeter(key, len(lines), meter.serial, known, known_session=True)
                    continue
                head = PulseHead(
                    layout_text, layout_name, meter.kwh_per_pulse, meter.interval_s, _runs(lines)
                )
                octets = b"\n".join([heading.octets, *(line.octets for line in lines)]) + b"\n"
                with conn.transaction():
                    session_id = _store(conn, meter, url, name, head, octets, at)
                with conn.transaction():
                    ended = EndedSession(session_id, outcome="complete", bytes_sent=0, bytes_received=0)
                    merged = merge_sessions(conn, [ended], db.settings, at)
            except Fault as fault:
                yield ImportedMeter(key, len(lines), fault=fault)
                continue
            yield ImportedMeter(key, len(lines), meter.serial, session_id, merged=next(iter(merged), None))


def _by_meter(
    source: Source, layout: PulseLayout, db: Database
) -> tuple[Line, dict[str, list[Line]], list[Line]]:
    lines = list(lines_of(source.octets))
    if len(lines) < 2:
        raise OperatorFault("no line below a heading", where=source.label, remedy="export the file again")
    heading, *rest = lines
    reader = LineReader(layout, heading, db.settings.market.tzinfo, source.label)
    by_key: dict[str, list[Line]] = {}
    nameless: list[Line] = []
    for line in rest:
        key = reader.meter_of(line)
        if key is None:
            nameless.append(line)
        else:
            by_key.setdefault(key, []).append(line)
    return heading, by_key, nameless


def _runs(lines: Sequence[Line]) -> tuple[tuple[int, int], ...]:
    """Lines that follow one another, as first number and count."""
    places = enumerate(line.number for line in lines)
    runs = [[number for _, number in run] for _, run in groupby(places, lambda one: one[1] - one[0])]
    return tuple((run[0], len(run)) for run in runs)


_QUERY = """
SELECT DISTINCT ON (m.id) m.id, m.serial, i.pulse_energy_num || '/' || i.pulse_energy_den, i.interval_s
FROM installation i JOIN meter m ON m.id = i.meter_id
JOIN point p ON p.id = i.point_id JOIN uc u ON u.id = p.uc_id
WHERE {which} ORDER BY m.id, lower(i.valid) DESC NULLS LAST
"""
_BY = {
    "serial": _QUERY.format(which="m.serial = %s"),
    "uc": _QUERY.format(
        which="i.role = 'main' AND upper_inf(i.valid) AND (u.code = %s OR %s = ANY(u.aliases))"
    ),
}


def _meter(conn: Connection, layout: PulseLayout, key: str, where: str) -> _Meter:
    keys: list[Any] = [key] * (2 if layout.meter_is == "uc" else 1)
    rows = conn.execute(_BY[layout.meter_is], keys).fetchall()
    if len(rows) != 1:
        what = "meter" if layout.meter_is == "serial" else "UC with a main meter"
        told = f"several meters at {key}" if rows else f"no {what} {key} is installed by the registry"
        raise OperatorFault(
            told,
            where=where,
            remedy="register it first (smf registry import), or name the meter by its serial",
        )
    return _Meter(*rows[0])


def _store(
    conn: Connection, meter: _Meter, url: str, collector: str, head: PulseHead, octets: bytes, at: datetime
) -> int:
    wanted = sessions.NewSession(meter.meter_id, None, PURPOSE, PULSE_CSV, url)
    (session_id,) = sessions.open_sessions(conn, collector, [wanted], at)
    if session_id is None:
        raise RetryFault(
            f"meter {meter.serial} is being read, or this file imported",
            where=url,
            remedy="import the file again when that is over",
        )
    frames = [
        sessions.encode_frame(session_id, seq, at, False, 0, None, payload)
        for seq, payload in enumerate([head.encode(), octets], 1)
    ]
    sessions.write_frames(conn, frames)
    return session_id
