"""FK7 and text files of stored readings: one UC, several or all, of a period.

The formats are `protocols.public_format`'s, runs without gaps `exchange.runs`', headers `exchange.headers`'.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta, timezone

import polars as pl

from collector.files.decode import file_profile
from exchange.brought_files import ClosedPeriod, brought_files, closed_periods, octets_of
from exchange.export import (
    Chunk,
    Connection,
    ExportRequest,
    ExportResult,
    FileFacts,
    Installation,
    Losses,
    Piece,
    Progress,
    run_export,
)
from exchange.headers import Header, HeaderKey, market_time, parameters_of, read_headers
from exchange.runs import LeftOut, Run, Vector, cut_runs
from faults import OperatorFault
from protocols.nbr14522.memory import MAX_BLOCK_NUMBER, WORDS_PER_BLOCK, words_to_payloads
from protocols.nbr14522.messages import memory_blocks
from protocols.public_format import FileKind, TextFile, file_name, write_fk7, write_text
from protocols.public_format.text import CHANNELS, INSTALLATION_CODE, INTERVALS_PER_LINE, MAX_LINES
from storage.database import Database
from storage.settings import PublicFileSettings

_FILE_SERIAL = re.compile(r"[0-9A-F]{8}")
MAX_FK7_INTERVALS = MAX_BLOCK_NUMBER * WORDS_PER_BLOCK // CHANNELS


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


def export_originals(
    db: Database, request: ExportRequest, progress: Progress = lambda done, total: None
) -> ExportResult:
    """Write the imported files that stored readings are from, as they came, and record it.

    Raises:
        OperatorFault: as `export_public`; no reading of the period came from a file.
    """
    writer = _OriginalWriter(request, db.settings.market.tzinfo)
    return run_export(db, request, ["original"], writer, progress, {})


class _OriginalWriter:
    """The files that brought the readings of a chunk of installations."""

    def __init__(self, request: ExportRequest, zone: timezone) -> None:
        self._request, self._zone = request, zone
        self._paths: set[str] = set()
        self._done: set[int] = set()

    def __call__(self, conn: Connection, chunk: Chunk, losses: Losses) -> Iterator[Piece]:
        at = {installation.meter_id: installation for installation, _ in chunk}
        days = self._request.first_day, self._request.last_day
        for one in brought_files(conn, at.keys(), *days):
            if one.session_id in self._done:
                continue
            self._done.add(one.session_id)
            installation = at[one.meter_id]
            path = f"{folder_of(installation.uc_code)}/{one.name}"
            if path in self._paths:
                path = f"{folder_of(installation.uc_code)}/{one.session_id}/{one.name}"
            self._paths.add(path)
            facts = FileFacts(
                path=path,
                uc_ids=(installation.uc_id,),
                meter_ids=(installation.meter_id,),
                first_start=market_time(one.first_start, self._zone),
                last_end=market_time(one.last_end, self._zone),
                intervals=one.intervals,
            )
            yield Piece(facts, octets_of(conn, one.session_id))


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
        closed = closed_periods(
            conn, {one.meter_id for one, _ in chunk}, self._request.first_day, self._request.last_day
        )
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
                periods = closed.get(installation.meter_id, []) if kind is FileKind.TEXT else []
                period = next((one for one in periods if one.is_of(run)), None)
                yield self._file(installation, run, header, kind, period)

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

    def _file(
        self,
        installation: Installation,
        run: Run,
        header: Header,
        kind: FileKind,
        period: ClosedPeriod | None,
    ) -> Piece:
        path, at = self._free_path(installation, kind, period.meter_time if period else run.last_end)
        if period is not None:
            octets = write_text(period.file_of(run))
        elif kind is FileKind.FK7:
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
