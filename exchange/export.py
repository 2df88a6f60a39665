"""Stored readings into files of the public formats: one UC, several or all, of a period, recorded.

What belongs here: which readings go into which file, the archive, and the record of what was handed out. The
formats are `protocols.public_format`'s, runs without gaps `pipelines.public_runs`', headers
`pipelines.public_headers`', and files with columns of a billing system's choice `pipelines.import_profile`'s.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import psycopg

from collector.files.decode import file_profile
from exchange.headers import Header, HeaderKey, market_time, parameters_of, read_headers
from exchange.runs import LeftOut, Run, Vector, cut_runs
from exchange.target import Target
from faults import OperatorFault
from protocols.nbr14522.memory import MAX_BLOCK_NUMBER, WORDS_PER_BLOCK, words_to_payloads
from protocols.nbr14522.messages import memory_blocks
from protocols.public_format import FileKind, TextFile, file_name, write_fk7, write_text
from protocols.public_format.text import CHANNELS, INSTALLATION_CODE, INTERVALS_PER_LINE, MAX_LINES
from storage import audit
from storage.database import Database
from storage.readings import read_reading_days
from storage.settings import PublicFileSettings

Connection = psycopg.Connection[Any]

# Meters whose readings are in memory at once: a year of three channels of 5 minutes is 2.5 MB a meter.
_CHUNK = 100
# A last day that only means "all".
_LAST_DAY = date.max - timedelta(days=1)
_FILE_SERIAL = re.compile(r"[0-9A-F]{8}")
MAX_FK7_INTERVALS = MAX_BLOCK_NUMBER * WORDS_PER_BLOCK // CHANNELS
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


def export_public(
    db: Database, request: ExportRequest, progress: Progress = lambda done, total: None
) -> ExportResult:
    """Write FK7 and text files of stored readings, and record it.

    Each run of intervals without a gap is one file for each format, in a folder named by the UC; its time is
    the end of its last interval.

    Args:
        progress: gets meters done and meters in all.
    Raises:
        OperatorFault: an unknown UC, no readings at all, a target that is there already or cannot be written.
    """
    settings = db.settings.public_files
    if settings.text_max_lines > MAX_LINES:
        raise OperatorFault(
            f"{settings.text_max_lines} lines: what follows line {MAX_LINES} is not known",
            where="public_files.text_max_lines",
            remedy=f"write {MAX_LINES} or less",
        )
    writer = _PublicWriter(request, db.settings.market.tzinfo, db.settings.collector.reader_serial, settings)
    labels = [kind.name.lower() for kind in request.formats]
    return run_export(db, request, labels, writer, progress, asdict(settings))


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


def vectors_of(frame: pl.DataFrame) -> list[Vector]:
    """The day vectors of a frame of readings, views of one array."""
    flat = frame["pulses"].explode(empty_as_null=False)
    present = flat.is_not_null().to_numpy()
    counts = flat.fill_null(0).cast(pl.Int64).to_numpy()
    lengths = frame["pulses"].list.len().cast(pl.Int64)
    ends = lengths.cum_sum()
    columns = frame.select("channel", "day", "quantity_code", "interval_s").with_columns(
        start=ends - lengths, end=ends
    )
    return [
        Vector(channel, day, quantity_code, interval_s, counts[start:end], present[start:end])
        for channel, day, quantity_code, interval_s, start, end in columns.iter_rows()
    ]


class _PublicWriter:
    """FK7 and text files of a chunk of installations."""

    def __init__(
        self, request: ExportRequest, zone: timezone, reader_serial: str, settings: PublicFileSettings
    ) -> None:
        self._request = request
        self._zone = zone
        self._reader_serial = reader_serial
        self._settings = settings
        self._paths: set[str] = set()

    def __call__(self, conn: Connection, chunk: Chunk, losses: Losses) -> Iterator[Piece]:
        vectors = [(installation, vectors_of(frame)) for installation, frame in chunk]
        for kind in self._request.formats:
            parts: list[tuple[Installation, Run]] = []
            for registered, days in vectors:
                installation = replace(registered, serial=_serial_in_files(registered))
                runs, left_out = self._runs(installation, days, kind)
                parts += [(installation, run) for run in runs]
                if kind is self._request.formats[0]:  # the formats lose the same
                    for one in left_out:
                        losses[installation.uc_code, one.channel, one.reason] += one.count
            after = timedelta(seconds=self._settings.parameters_after_s)
            headers = read_headers(conn, [self._key(*part) for part in parts], self._zone, after)
            for (installation, run), header in zip(parts, headers, strict=True):
                yield self._file(installation, run, header, kind)

    def _runs(
        self, installation: Installation, days: Sequence[Vector], kind: FileKind
    ) -> tuple[list[Run], list[LeftOut]]:
        if not _FILE_SERIAL.fullmatch(installation.serial):
            reason = "the meter's serial has more than the eight digits of the formats"
            return [], [LeftOut(reason, day.channel, day.day, int(day.present.sum())) for day in days]
        begin, end = installation.bounds(self._request.first_day, self._request.last_day, self._zone)
        most = MAX_FK7_INTERVALS
        if kind is FileKind.TEXT:
            most = self._settings.text_max_lines * INTERVALS_PER_LINE
        return cut_runs(
            days,
            begin,
            end,
            sign_bit=file_profile(installation.profile_name).sign_bit,
            max_intervals=most,
        )

    def _key(self, installation: Installation, run: Run) -> HeaderKey:
        return HeaderKey(
            installation.meter_id,
            market_time(run.last_end, self._zone),
            installation.active_channel,
            (installation.pulse_energy_num, installation.pulse_energy_den),
        )

    def _file(self, installation: Installation, run: Run, header: Header, kind: FileKind) -> Piece:
        path, at = self._free_path(installation, kind, run.last_end)
        if kind is FileKind.FK7:
            octets = self._fk7(installation, run, header, at)
        else:
            octets = self._text(installation, run, header, at)
        facts = FileFacts(
            path=path,
            uc_ids=(installation.uc_id,),
            meter_ids=(installation.meter_id,),
            first_start=market_time(run.first_end - timedelta(seconds=run.interval_s), self._zone),
            last_end=market_time(run.last_end, self._zone),
            intervals=len(run.words),
        )
        return Piece(facts, octets)

    def _free_path(self, installation: Installation, kind: FileKind, at: datetime) -> tuple[str, datetime]:
        """A name that fits the file's time; two times may share a name, so the later one moves on."""
        while True:
            path = f"{folder_of(installation.uc_code)}/{file_name(kind, installation.serial, at)}"
            if path not in self._paths:
                self._paths.add(path)
                return path, at
            at += timedelta(seconds=1)

    def _fk7(self, installation: Installation, run: Run, header: Header, at: datetime) -> bytes:
        # 26 would be the words since the last reset, which a period need not be.
        is_whole = self._settings.fk7_memory == "whole"
        code, memory_code = (0x51, 0x52) if is_whole else (0x21, 0x26)
        packing = file_profile(installation.profile_name).packing
        payloads = words_to_payloads(run.words.ravel(), packing)
        memory = memory_blocks(memory_code, installation.serial, payloads)
        told = [one for one in (header.registers, header.failures, header.changes) if one is not None]
        further = [one.encode(installation.serial) for one in told]
        parameters = parameters_of(header, run, at, code).encode(installation.serial)
        behind = [*memory, *further] if self._settings.fk7_memory_place == "first" else [*further, *memory]
        return write_fk7([parameters, *behind])

    def _text(self, installation: Installation, run: Run, header: Header, at: datetime) -> bytes:
        answers = {
            "parameters": parameters_of(header, run, at, 0x21),
            "24": header.registers,
            "25": header.failures,
            "28": header.changes,
        }
        blocks = {n: one.encode(installation.serial)[:-2] for n, one in answers.items() if one is not None}
        is_told = self._settings.text_installation_code == "uc"
        return write_text(
            TextFile(
                reader_serial=self._reader_serial,
                blocks=blocks,
                installation_code=_installation_code(installation.uc_code) if is_told else "",
                user_output=self._settings.text_user_output or " ",
                current_words=tuple(run.words.ravel().tolist()),
            )
        )


def _serial_in_files(installation: Installation) -> str:
    """The serial as the meter has it on the wire; an import finds the meter by it again."""
    return file_profile(installation.profile_name).addressed_serial(installation.serial)


def _installation_code(uc_code: str) -> str:
    """The code where the format's place holds it; a part of it could be another UC's."""
    return uc_code if uc_code.isascii() and len(uc_code) <= INSTALLATION_CODE else ""


def folder_of(uc_code: str) -> str:
    """A UC's folder: its code, and `%` with hexadecimal for what a path could take for something else.

    >>> folder_of("0012"), folder_of("A/1"), folder_of("A_1")
    ('0012', 'A%2F1', 'A_1')
    """
    return "".join(one if one.isalnum() or one in "-_" else f"%{ord(one):02X}" for one in uc_code)
