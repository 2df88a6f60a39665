"""A technician's collected files into the readings: evidence first, then decoded and merged like a session.

A file is one session of purpose `import`: its octets are the only frame. Who brought it is the session's
collector; its URL names the file and its hash. A collector that finds the session without an outcome, because
the import died, finishes it from the evidence as it does with its own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from collector.files.decode import TEXT, format_of, lay_out
from collector.files.sources import Source, read_file
from collector.merging import merge_sessions
from collector.session import EndedSession, MergedSession
from collector.work.worklist import Connection
from faults import OperatorFault, RetryFault
from protocols.nbr14522.messages import Parameters, decode_response
from protocols.nbr14522.profiles import DEFAULT, PROFILES
from protocols.public_format import FileKind, parse_name
from protocols.public_format.errors import FileRefused
from storage import sessions
from storage.database import Database

PURPOSE = "import"


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file. `known_session`: these very octets were imported before; nothing was done."""

    name: str
    format_name: str
    sha256: str
    meter_serial: str
    session_id: int
    known_session: bool
    merged: MergedSession | None


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    archive: str
    octets: bytes
    format_name: str
    meter_serial: str
    meter_time: datetime | None
    damage: str
    """The first thing that is wrong with it, with its place."""

    @property
    def digest(self) -> str:
        return sha256(self.octets).hexdigest()

    @property
    def url(self) -> str:
        parts = [self.archive, self.name] if self.archive else [self.name]
        path = "/".join(quote(part, safe="&$") for part in parts)
        return f"file:{path}?sha256={self.digest}"


def file_name_of(url: str) -> str:
    """The file's name out of the URL of its session, behind that of its archive where it was in one."""
    return unquote(urlsplit(url).path)


def import_file(db: Database, path: Path, actor: str, at: datetime, serial: str | None = None) -> Imported:
    """`import_source` of a file.

    Raises:
        OperatorFault: it cannot be read, too.
    """
    return import_source(db, read_file(path), actor, at, serial)


def import_source(
    db: Database, source: Source, actor: str, at: datetime, serial: str | None = None
) -> Imported:
    """Store a file as evidence, decode it, merge its readings.

    Args:
        actor: who answers for it.
        serial: the meter that the file must be of; without it, the one it names.
    Raises:
        OperatorFault: the file is of no public format, of an unknown or another meter, of the future; nothing
            is stored then.
        RetryFault: the meter is in a session.
    """
    file = _read(source)
    with db.connect(autocommit=True) as conn:
        meter_id, registered = _meter(conn, file)
        latest = at + timedelta(seconds=db.settings.public_files.clock_ahead_s)
        _check(
            file,
            registered,
            serial,
            latest.astimezone(db.settings.market.tzinfo).replace(tzinfo=None),
        )
        known = sessions.finished_import(conn, meter_id, PURPOSE, file.digest)
        if known is not None:
            return _imported(file, known, None)
        name = f"import {actor} {os.getpid()}"
        sessions.proclaim(conn, name)
        with conn.transaction():
            session_id = _store(conn, file, meter_id, name, at)
        with conn.transaction():
            outcome = "partial" if file.damage else "complete"
            ended = EndedSession(session_id, outcome=outcome, bytes_sent=0, bytes_received=0)
            merged = merge_sessions(conn, [ended], db.settings, at)
    if not merged:
        raise RetryFault("a collector is finishing this import", where=file.name)
    return _imported(file, session_id, merged[0])


def _imported(file: _File, session_id: int, merged: MergedSession | None) -> Imported:
    return Imported(
        name=file.name,
        format_name=file.format_name,
        sha256=file.digest,
        meter_serial=file.meter_serial,
        session_id=session_id,
        known_session=merged is None,
        merged=merged,
    )


def _read(source: Source) -> _File:
    octets = source.octets
    format_name = format_of(octets)
    try:
        layout = lay_out(format_name, octets, DEFAULT)
    except FileRefused as refused:
        raise FileRefused(
            f"{refused.message} ({refused.where})" if refused.where else refused.message,
            where=source.name,
            remedy=refused.remedy or "the copy is damaged, or the file is of another format",
        ) from refused
    answers = [decode_response(frame.payload) for frame in layout.frames if not frame.is_sent]
    times = [one.meter_time for one in answers if isinstance(one, Parameters) and one.meter_time]
    return _File(
        name=source.name,
        archive=source.archive,
        octets=octets,
        format_name=format_name,
        meter_serial=layout.meter_serial,
        meter_time=max(times, default=None),
        damage=next((f"octet {offset}: {reason}" for offset, _, reason in sorted(layout.issues)), ""),
    )


def _meter(conn: Connection, file: _File) -> tuple[int, str]:
    """Id and registered serial of the meter that the file names."""
    rows = conn.execute(
        "SELECT m.id, m.serial, mm.profile FROM meter m JOIN meter_model mm ON mm.id = m.model_id "
        # A printed serial holds the one on the wire, with the maker's digits around it.
        "WHERE regexp_replace(upper(m.serial), '[^0-9A-F]', '', 'g') LIKE '%%' || %s || '%%'",
        [file.meter_serial.lstrip("0")],
    ).fetchall()
    fitting = [(i, s) for i, s, p in rows if PROFILES.get(p, DEFAULT).same_serial(s, file.meter_serial)]
    if len(fitting) != 1:
        told = "more than one meter has" if fitting else "no meter of the registry has"
        raise OperatorFault(
            f"{told} the serial {file.meter_serial}",
            where=file.name,
            remedy="register the meter first (smf registry import), or correct its serial",
        )
    return int(fitting[0][0]), str(fitting[0][1])


def _check(file: _File, registered: str, wanted: str | None, latest: datetime) -> None:
    """Refuse what is of another meter or of the future; `latest` is what its clock may have said, naive."""
    if wanted is not None and wanted not in (registered, file.meter_serial):
        raise OperatorFault(
            f"the file is of meter {file.meter_serial}, not of {wanted}",
            where=file.name,
            remedy="name the file of that meter, or leave --meter out",
        )
    kind = FileKind.TEXT if file.format_name == TEXT else FileKind.FK7
    try:
        name = parse_name(file.name)
    except FileRefused:
        name = None  # files are renamed; what is inside says the same
    if name is not None and (name.kind, name.serial_end) != (kind, file.meter_serial[-5:]):
        raise OperatorFault(
            f"the name says {name.kind.name} of meter …{name.serial_end}, "
            f"the content {kind.name} of {file.meter_serial}",
            where=file.name,
            remedy="find out which is right; then rename the file",
        )
    if file.meter_time is None:
        why = f" ({file.damage})" if file.damage else ""
        raise OperatorFault(
            f"the file has no readable time of the meter{why}",
            where=file.name,
            remedy="without it the memory has no times; copy the file again, or read the meter again",
        )
    if file.meter_time > latest:
        raise OperatorFault(
            f"the meter's clock said {file.meter_time}, which is yet to come",
            where=file.name,
            remedy="the days of its readings would be wrong; correct the meter's clock and read it again",
        )


def _store(conn: Connection, file: _File, meter_id: int, collector: str, at: datetime) -> int:
    wanted = sessions.NewSession(meter_id, None, PURPOSE, file.format_name, file.url)
    (session_id,) = sessions.open_sessions(conn, collector, [wanted], at)
    if session_id is None:
        raise RetryFault(
            f"meter {file.meter_serial} is being read, or a file of this name imported",
            where=file.name,
            remedy="import the file again when that is over",
        )
    sessions.write_file(conn, session_id, at, file.octets)
    return session_id
