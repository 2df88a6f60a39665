"""Stored readings into files of any format: which readings, the archive, the record of what was handed out.

What goes into one file is a `Writer`'s: `exchange.public_files` for the public formats,
`exchange.import_profile` for columns of a billing system's choice.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import psycopg

from exchange.target import Target
from faults import OperatorFault
from protocols.public_format import FileKind
from storage import audit
from storage.database import Database
from storage.readings import read_reading_days

Connection = psycopg.Connection[Any]

# Meters whose readings are in memory at once: a year of three channels of 5 minutes is 2.5 MB a meter.
_CHUNK = 100
# A last day that only means "all".
_LAST_DAY = date.max - timedelta(days=1)
_INSTALLATIONS = """
SELECT uc.id, uc.code, i.meter_id, m.serial, mm.profile, i.role, i.active_channel, i.pulse_energy_num,
    i.pulse_energy_den, i.tp_ratio::text, i.tc_ratio::text, i.constant_includes_ratios, lower(i.valid),
    upper(i.valid)
FROM installation i JOIN point p ON p.id = i.point_id JOIN uc ON uc.id = p.uc_id
JOIN meter m ON m.id = i.meter_id JOIN meter_model mm ON mm.id = m.model_id
WHERE i.valid && tstzrange(market_day_start(%(first)s::date), market_day_start(%(last)s::date + 1))
    AND (%(codes)s::text[] IS NULL OR uc.code = ANY(%(codes)s))
ORDER BY uc.code, i.role DESC, lower(i.valid), m.serial
"""


@dataclass(frozen=True, slots=True)
class Installation:
    """A meter at a UC for a time; the ratios are exact decimals as text."""

    uc_id: int
    uc_code: str
    meter_id: int
    serial: str
    profile_name: str
    role: str
    active_channel: int
    pulse_energy_num: int
    pulse_energy_den: int
    tp_ratio: str
    tc_ratio: str
    constant_includes_ratios: bool
    valid_from: datetime | None
    valid_until: datetime | None

    def bounds(self, first_day: date, last_day: date, zone: tzinfo) -> tuple[datetime, datetime]:
        """The part of a period in which the meter was there, naive market time."""
        begin = datetime.combine(first_day, time())
        end = datetime.combine(min(last_day, _LAST_DAY), time()) + timedelta(days=1)
        if self.valid_from is not None:
            begin = max(begin, self.valid_from.astimezone(zone).replace(tzinfo=None))
        if self.valid_until is not None:
            end = min(end, self.valid_until.astimezone(zone).replace(tzinfo=None))
        return begin, end


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Where a file is in the archive and what is in it. Instants are aware."""

    path: str
    uc_ids: tuple[int, ...]
    meter_ids: tuple[int, ...]
    first_start: datetime
    last_end: datetime
    intervals: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A whole file, or the next part of one: parts of a path come one after the other, with no other between.

    `facts` are those of the part alone.
    """

    facts: FileFacts
    octets: bytes
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was written."""

    facts: FileFacts
    octets: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What is asked for.

    Attributes:
        uc_codes: None for all UCs.
        first_day, last_day: market days, both included.
        target: an archive that ends in .zip, or a folder; neither may hold anything yet.
        formats: public formats to write.
    """

    uc_codes: tuple[str, ...] | None
    first_day: date
    last_day: date
    target: Path
    requested_by: str
    formats: tuple[FileKind, ...] = (FileKind.FK7, FileKind.TEXT)


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written, and what the formats cannot say."""

    export_id: int
    files: tuple[Written, ...]
    ucs_without_readings: tuple[str, ...]
    left_out: tuple[dict[str, Any], ...]


Chunk = Sequence[tuple[Installation, pl.DataFrame]]
"""Installations and the readings of their meters within the period and the installation."""
Losses = Counter[tuple[str, int, str]]
"""(UC, channel, reason) -> intervals that a format cannot say."""
Writer = Callable[[Connection, Chunk, Losses], Iterator[Piece]]
Progress = Callable[[int, int], None]


def run_export(
    db: Database,
    request: ExportRequest,
    labels: Sequence[str],
    write: Writer,
    progress: Progress,
    rules: Mapping[str, Any],
) -> ExportResult:
    """Take installations in chunks through a writer into the target, then record what was written.

    Args:
        labels: names of the formats, for the record.
        rules: what else decided the octets of the files, for the record.
    """
    losses: Losses = Counter()
    done = 0
    with db.connect() as conn, Target(request.target) as target:
        named = _named_ucs(conn, request)
        installations = _installations(conn, request, named)
        keeper = _Keeper(target)
        for part in _whole_ucs(installations):
            for piece in write(conn, _with_readings(db, part, request), losses):
                keeper.take(piece)
            done += len(part)
            progress(done, len(installations))
        written = keeper.finish()
        if not written:
            why = "; ".join(sorted({reason for _, _, reason in losses}))
            raise OperatorFault(
                f"no readings from {request.first_day} to {request.last_day}"
                + (f" that the formats can say: {why}" if why else ""),
                where="smf export public",
                remedy="use --profile csv, which says them"
                if why
                else "read the meters first, or name other days or UCs",
            )
        left_out = [
            {"uc_code": uc, "channel": channel, "reason": reason, "intervals": count}
            for (uc, channel, reason), count in sorted(losses.items())
        ]
        export_id = _record(conn, request, labels, written, left_out, target.close(), rules)
        # A record of a file that nobody got is harmless; a file without a record is not.
        conn.commit()
        target.publish()
    told = {uc_id for one in written for uc_id in one.facts.uc_ids}
    silent = {one.uc_code for one in installations if one.uc_id not in told}
    silent |= (named or set()) - {one.uc_code for one in installations}
    silent -= {uc_code for uc_code, _, _ in losses}
    return ExportResult(export_id, tuple(written), tuple(sorted(silent)), tuple(left_out))


class _Keeper:
    """Puts pieces into the target, and knows of each file what was written."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._written: list[Written] = []
        self._paths: set[str] = set()
        self._begun: _Begun | None = None

    def take(self, piece: Piece) -> None:
        path = piece.facts.path
        if self._begun is not None and (piece.is_whole or self._begun.path != path):
            self._end()
        if self._begun is None:
            if path in self._paths:
                raise OperatorFault(
                    f"two files would have the name {path!r}",
                    where=str(self._target.path),
                    remedy="put what tells them apart into the path of the profile: {uc} or {meter}",
                )
            self._paths.add(path)
        if piece.is_whole:
            self._target.add(path, piece.octets)
            digest = hashlib.sha256(piece.octets).digest()
            self._written.append(Written(piece.facts, len(piece.octets), digest))
            return
        self._target.append(path, piece.octets)
        self._begun = self._begun or _Begun(path)
        self._begun.add(piece)

    def finish(self) -> list[Written]:
        self._end()
        return self._written

    def _end(self) -> None:
        if self._begun is not None:
            self._written.append(self._begun.written())
            self._begun = None


class _Begun:
    """A file that is written in parts, each at once on its way; there may be as many as UCs."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._uc_ids: set[int] = set()
        self._meter_ids: set[int] = set()
        self._ends: tuple[datetime, datetime] | None = None
        self._intervals = 0
        self._octets = 0
        self._hash = hashlib.sha256()

    def add(self, piece: Piece) -> None:
        facts = piece.facts
        self._uc_ids.update(facts.uc_ids)
        self._meter_ids.update(facts.meter_ids)
        first, last = self._ends or (facts.first_start, facts.last_end)
        self._ends = min(first, facts.first_start), max(last, facts.last_end)
        self._intervals += facts.intervals
        self._octets += len(piece.octets)
        self._hash.update(piece.octets)

    def written(self) -> Written:
        assert self._ends is not None  # A file begins with a part.
        ids = tuple(sorted(self._uc_ids)), tuple(sorted(self._meter_ids))
        facts = FileFacts(self.path, *ids, *self._ends, self._intervals)
        return Written(facts, self._octets, self._hash.digest())


def _named_ucs(conn: Connection, request: ExportRequest) -> set[str] | None:
    """The present codes of the UCs that were asked for by name; None for all."""
    if request.uc_codes is None:
        return None
    rows = conn.execute(
        "SELECT c, uc.code FROM unnest(%s::text[]) AS c LEFT JOIN uc ON uc.code = c OR c = ANY(uc.aliases)",
        [list(request.uc_codes)],
    ).fetchall()
    unknown = sorted(asked for asked, code in rows if code is None)
    if unknown:
        raise OperatorFault(
            f"no UC has the code {', '.join(map(repr, unknown))}",
            where="--uc",
            remedy="the code is text with its leading zeros; smf registry export lists all",
        )
    return {code for _, code in rows}


def _installations(conn: Connection, request: ExportRequest, named: set[str] | None) -> list[Installation]:
    codes = None if named is None else sorted(named)
    rows = conn.execute(
        _INSTALLATIONS, {"first": request.first_day, "last": request.last_day, "codes": codes}
    )
    return [Installation(*row) for row in rows]


def _whole_ucs(installations: Sequence[Installation]) -> Iterator[list[Installation]]:
    """Chunks that do not part the installations of a UC."""
    chunk: list[Installation] = []
    for one in installations:
        if len(chunk) >= _CHUNK and chunk[-1].uc_id != one.uc_id:
            yield chunk
            chunk = []
        chunk.append(one)
    if chunk:
        yield chunk


def _with_readings(db: Database, installations: Sequence[Installation], request: ExportRequest) -> Chunk:
    frame = read_reading_days(
        db,
        request.first_day,
        request.last_day,
        meter_ids=sorted({one.meter_id for one in installations}),
        active_only=False,
    )
    by_meter = {key[0]: part for key, part in frame.partition_by("meter_id", as_dict=True).items()}
    empty = frame.clear()
    return [(one, by_meter.get(one.meter_id, empty)) for one in installations]


def _record(
    conn: Connection,
    request: ExportRequest,
    labels: Sequence[str],
    written: Sequence[Written],
    left_out: Sequence[dict[str, Any]],
    archive_sha256: bytes | None,
    rules: Mapping[str, Any],
) -> int:
    row = conn.execute(
        "INSERT INTO public_export (requested_by, formats, first_day, last_day, target, sha256, left_out) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING id",
        [
            request.requested_by,
            list(labels),
            request.first_day,
            request.last_day,
            str(request.target),
            archive_sha256,
            orjson.dumps(left_out).decode(),
        ],
    ).fetchone()
    assert row is not None  # INSERT ... RETURNING gives the row or raises
    export_id = int(row[0])
    with (
        conn.cursor() as cursor,
        cursor.copy(
            "COPY public_export_file (export_id, path, uc_ids, meter_ids, first_start, last_end, intervals, "
            "octets, sha256) FROM STDIN"
        ) as copy,
    ):
        for one in written:
            facts = one.facts
            copy.write_row(
                (
                    export_id,
                    facts.path,
                    list(facts.uc_ids),
                    list(facts.meter_ids),
                    facts.first_start,
                    facts.last_end,
                    facts.intervals,
                    one.octets,
                    one.sha256,
                )
            )
    audit.append(
        conn,
        actor=request.requested_by,
        action="export.public",
        object=f"public_export/{export_id}",
        after={
            "formats": list(labels),
            "first_day": request.first_day.isoformat(),
            "last_day": request.last_day.isoformat(),
            "ucs": "all" if request.uc_codes is None else list(request.uc_codes),
            "files": len(written),
            "rules": rules,
        },
    )
    return export_id


def list_exports(conn: Connection, limit: int = 50) -> list[dict[str, Any]]:
    """What was exported, newest first, each with its files."""
    rows = conn.execute(
        "SELECT e.id, e.at, e.requested_by, e.formats, e.first_day, e.last_day, e.target, "
        "encode(e.sha256, 'hex') AS sha256, e.left_out, "
        "(SELECT jsonb_agg(jsonb_build_object('path', f.path, 'first_start', f.first_start, 'last_end', "
        "f.last_end, 'intervals', f.intervals, 'octets', f.octets, 'sha256', encode(f.sha256, 'hex'), 'ucs', "
        "(SELECT jsonb_agg(uc.code ORDER BY uc.code) FROM uc WHERE uc.id = ANY(f.uc_ids))) ORDER BY f.path) "
        "FROM public_export_file f WHERE f.export_id = e.id) AS files "
        "FROM public_export e ORDER BY e.id DESC LIMIT %s",
        [limit],
    )
    names = [column.name for column in rows.description or ()]
    return [dict(zip(names, row, strict=True)) for row in rows]


# --- files of the public formats ---------------------------------------------------------------------------
