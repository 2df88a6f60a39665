"""Derived series into one table for people and programs: CSV, XLSX or Parquet, by the name's ending.

One row an interval, missing ones too: energy, where it comes from, and beside an estimate its method and the
expected error of that method (`derivation.scores`). Some UCs at a time, so that memory does not grow with the
fleet; the file is there whole or not at all. What was written is in the audit record.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import polars as pl

from derivation.scores.expected_errors import ExpectedErrors, expected_errors
from faults import OperatorFault
from storage import audit
from storage import scores as store
from storage.database import Database
from storage.series import Layer, read_layer
from vee.frames import runs
from vee.quality import Origin, Reason
from vee.scores.classes import scored_method

# UC-days in memory at once.
_CHUNK_UC_DAYS = 4000
_HOUR_S = 3600
# Thousandths are what CCEE gets; the layers below are exact, and are shown to a millionth of a Wh.
_DECIMALS = {Layer.CCEE: 3}
_OTHER_DECIMALS = 9
_SHEET_ROWS = 1_048_576
COLUMNS = (
    "uc", "interval_start", "interval_end", "energy_kwh", "origin", "reason", "strategy", "method",
    "expected_error_share", "expected_error_n", "expected_error_of", "score_run",
)  # fmt: skip
_ERROR_SCHEMA: dict[str, pl.DataType] = {
    "uc_id": pl.Int64(),
    "day": pl.Date(),
    "slot": pl.Int64(),
    "strategy": pl.String(),
    "method": pl.String(),
    "expected_error_share": pl.Float64(),
    "expected_error_n": pl.Int64(),
    "expected_error_of": pl.String(),
    "score_run": pl.Int64(),
}
_UCS = """
    SELECT id AS uc_id, code AS uc FROM uc
    WHERE %(codes)s::text[] IS NULL OR code = ANY(%(codes)s) OR aliases && %(codes)s::text[] ORDER BY code
"""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SeriesRequest:
    """What is asked for. `uc_codes`: None for all; days both included; the target may not exist yet."""

    uc_codes: tuple[str, ...] | None
    first_day: date
    last_day: date
    layer: Layer
    target: Path
    requested_by: str


@dataclass(frozen=True)
class SeriesFile:
    """What was written."""

    rows: int
    ucs: int
    estimated: int
    sha256: str
    score_run: int | None


def export_series(
    db: Database, request: SeriesRequest, progress: Progress = lambda done, total: None
) -> SeriesFile:
    """Write the latest version of a layer.

    Raises:
        OperatorFault: the name's ending, a target that is there, an unknown UC, no series, too many rows.
    """
    rows = estimated = 0
    uc_codes: set[str] = set()
    with _writer(request.target) as table:
        series = SeriesRows.of(db, request.layer, request.first_day, request.last_day, request.uc_codes)
        for frame in series.frames(progress):
            table.write(frame)
            rows += frame.height
            estimated += frame["method"].count()
            uc_codes.update(frame["uc"].unique().to_list())
        if not rows:
            raise OperatorFault(
                f"no series from {request.first_day} to {request.last_day}",
                where="smf export series",
                remedy="derive the days first (smf run daily), or name other days or UCs",
            )
        table.finish()
        made = SeriesFile(rows, len(uc_codes), estimated, table.sha256(), series.score_run)
        with db.connect() as conn:
            audit.append(
                conn,
                actor=request.requested_by,
                action="export.series",
                object=request.target.name,
                after={
                    "layer": request.layer.name.lower(),
                    "first_day": request.first_day.isoformat(),
                    "last_day": request.last_day.isoformat(),
                    "ucs": "all" if request.uc_codes is None else list(request.uc_codes),
                    "rows": rows,
                    "sha256": made.sha256,
                    "score_run": made.score_run,
                },
            )
        # A record of a file that nobody got is harmless; a file without a record is not.
        table.publish()
    return made


@dataclass(frozen=True)
class SeriesRows:
    """A layer, one row an interval, of some UCs after the other: what a file and a screen show.

    Attributes:
        ucs: code by id.
    """

    db: Database
    layer: Layer
    first_day: date
    last_day: date
    ucs: dict[int, str]
    scored: ExpectedErrors | None

    @classmethod
    def of(
        cls, db: Database, layer: Layer, first_day: date, last_day: date, uc_codes: Sequence[str] | None
    ) -> Self:
        """Of UCs by their codes, old ones too; None: all.

        Raises:
            OperatorFault: no UC has one of the codes.
        """
        ucs = _ucs(db, uc_codes)
        return cls(db, layer, first_day, last_day, ucs, expected_errors(db, list(ucs)))

    @property
    def score_run(self) -> int | None:
        return self.scored.run.id if self.scored else None

    def frames(self, progress: Progress = lambda done, total: None) -> Iterator[pl.DataFrame]:
        """COLUMNS, in order of UC and time; of each UC-day its latest version."""
        size = max(1, _CHUNK_UC_DAYS // ((self.last_day - self.first_day).days + 1))
        ids = sorted(self.ucs, key=lambda uc_id: self.ucs[uc_id])
        for at in range(0, len(ids), size):
            part = ids[at : at + size]
            series = read_layer(self.db, self.layer, self.first_day, self.last_day, uc_ids=part)
            if series.height:
                filled = _estimates(self, part, series)
                yield _rows(series, self.ucs, filled, _DECIMALS.get(self.layer, _OTHER_DECIMALS))
            progress(min(at + size, len(ids)), len(ids))


def _ucs(db: Database, codes: Sequence[str] | None) -> dict[int, str]:
    with db.connect() as conn:
        found = dict(conn.execute(_UCS, {"codes": None if codes is None else list(codes)}).fetchall())
    if codes is not None and len(found) < len(set(codes)):
        raise OperatorFault(
            f"no UC has one of the codes {', '.join(codes)}",
            where="--uc",
            remedy="the code is text with its leading zeros; smf registry export lists all",
        )
    return found


def _estimates(wanted: SeriesRows, uc_ids: Sequence[int], series: pl.DataFrame) -> pl.DataFrame:
    """_ERROR_SCHEMA: estimated slots with their method and expected error."""
    if wanted.layer < Layer.ESTIMATED:
        return pl.DataFrame(schema=_ERROR_SCHEMA)
    scored = wanted.scored
    found = store.estimates(wanted.db, uc_ids, wanted.first_day, wanted.last_day)
    lengths: dict[tuple[int, date], list[tuple[int, int]]] = {}
    for uc_id, day, origin in series.select("uc_id", "day", "origin").iter_rows():
        filled = np.isin(np.frombuffer(origin, np.uint8), [Origin.ESTIMATED, Origin.BACKUP])
        if filled.any():
            lengths[uc_id, day] = runs(filled)
    rows: list[tuple[Any, ...]] = []
    for uc_id, day, first, last, strategy, method, detail in found.iter_rows():
        name = scored_method(method, detail)
        gap = next((b - a + 1 for a, b in lengths.get((uc_id, day), []) if a <= first <= b), last - first + 1)
        per_hour = _HOUR_S // int(series["interval_s"][0])
        told = scored.of(uc_id, strategy, name, gap, per_hour) if scored else None
        words = (told.share, told.gaps, told.whose, told.run) if told else (None,) * 4
        rows += [(uc_id, day, slot, strategy, name, *words) for slot in range(first, last + 1)]
    return pl.DataFrame(rows, schema=_ERROR_SCHEMA, orient="row")


def _rows(series: pl.DataFrame, ucs: dict[int, str], filled: pl.DataFrame, decimals: int) -> pl.DataFrame:
    """COLUMNS, one row an interval; times are the market's, without offset."""
    octets = {name: [list(value) for value in series[name]] for name in ("origin", "reason")}
    spread = (
        series.select("uc_id", "day", "interval_s", "denominator", "numerators")
        .with_columns(
            pl.Series("origin", octets["origin"], dtype=pl.List(pl.UInt8)),
            pl.Series("reason", octets["reason"], dtype=pl.List(pl.UInt8)),
            slot=pl.int_ranges(0, pl.col("numerators").list.len()),
        )
        .explode("numerators", "origin", "reason", "slot")
    )
    start = pl.col("day").cast(pl.Datetime("us")) + pl.duration(seconds=pl.col("slot") * pl.col("interval_s"))
    doubled = pl.col("numerators").abs().cast(pl.Int128) * (2 * 10**decimals)
    denominator = pl.col("denominator").cast(pl.Int128)
    # Half up, away from zero, as everywhere.
    scaled = (doubled + denominator) // (2 * denominator)
    sign = pl.when(pl.col("numerators") < 0).then(pl.lit("-")).otherwise(pl.lit(""))
    text = pl.concat_str(
        sign,
        (scaled // 10**decimals).cast(pl.String),
        pl.lit("."),
        (scaled % 10**decimals).cast(pl.String).str.zfill(decimals),
    )
    return (
        spread.join(filled, on=["uc_id", "day", "slot"], how="left", maintain_order="left")
        .with_columns(
            uc=pl.col("uc_id").replace_strict(ucs, return_dtype=pl.String),
            interval_start=start,
            interval_end=start + pl.duration(seconds=pl.col("interval_s")),
            energy_kwh=text.cast(pl.Decimal(38, decimals)),
            origin=pl.col("origin").replace_strict(
                {int(one): one.name.lower() for one in Origin}, return_dtype=pl.String
            ),
            reason=pl.col("reason").replace_strict(
                {int(one): one.name.lower() for one in Reason}, return_dtype=pl.String
            ),
        )
        .select(COLUMNS)
    )


# --- the file -----------------------------------------------------------------------------------------------


class _Format(Protocol):
    """A kind of file that rows are added to."""

    def write(self, frame: pl.DataFrame) -> None: ...

    def close(self) -> None: ...


class _Table:
    """A file that is there whole, or not at all."""

    def __init__(self, path: Path, open_format: Callable[[Path], _Format]) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._open_format = open_format
        self._format: _Format | None = None

    def __enter__(self) -> Self:
        if self._path.exists():
            raise OperatorFault("is there already", where=str(self._path), remedy="name a new file")
        try:
            self._format = self._open_format(self._part)
        except OSError as error:
            raise OperatorFault(
                f"cannot be written: {error.strerror}", where=str(self._path), remedy="name another place"
            ) from error
        return self

    def write(self, frame: pl.DataFrame) -> None:
        assert self._format is not None
        self._format.write(frame)

    def finish(self) -> None:
        if self._format is not None:
            self._format.close()
            self._format = None

    def sha256(self) -> str:
        with self._part.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def publish(self) -> None:
        self._part.rename(self._path)

    def __exit__(self, *exception: object) -> None:
        try:
            self.finish()
        finally:
            self._part.unlink(missing_ok=True)


class _Csv:
    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._is_first = True

    def write(self, frame: pl.DataFrame) -> None:
        frame.write_csv(self._file, include_header=self._is_first, datetime_format="%Y-%m-%dT%H:%M:%S")
        self._is_first = False

    def close(self) -> None:
        self._file.close()


class _Parquet:
    def __init__(self, path: Path) -> None:
        # Loaded only then: it brings pandas where there is one.
        from pyarrow import parquet

        self._open = parquet.ParquetWriter
        self._path = path
        path.touch(exist_ok=False)
        self._writer: Any = None

    def write(self, frame: pl.DataFrame) -> None:
        table = frame.to_arrow()
        if self._writer is None:
            self._writer = self._open(self._path, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _Xlsx:
    """One sheet; codes stay text, energies are numbers to the digits that a sheet keeps."""

    def __init__(self, path: Path) -> None:
        import xlsxwriter

        path.touch(exist_ok=False)
        self._book = xlsxwriter.Workbook(str(path), {"constant_memory": True, "strings_to_numbers": False})
        self._page = self._book.add_worksheet("series")
        self._page.freeze_panes(1, 0)
        bold = self._book.add_format({"bold": True})
        self._formats = {
            "interval_start": self._book.add_format({"num_format": "yyyy-mm-dd hh:mm"}),
            "interval_end": self._book.add_format({"num_format": "yyyy-mm-dd hh:mm"}),
            "expected_error_share": self._book.add_format({"num_format": "0.0%"}),
        }
        for column, name in enumerate(COLUMNS):
            self._page.write_string(0, column, name, bold)
            self._page.set_column(column, column, 18)
        self._rows = 1

    def write(self, frame: pl.DataFrame) -> None:
        if self._rows + frame.height > _SHEET_ROWS:
            raise OperatorFault(
                f"a sheet holds {_SHEET_ROWS:,} rows, and there are more intervals",
                where="smf export series",
                remedy="name fewer days or UCs, or a file that ends in .parquet or .csv",
            )
        shown = frame.with_columns(pl.col("energy_kwh").cast(pl.Float64))
        for row, values in enumerate(shown.iter_rows(), start=self._rows):
            for column, (name, value) in enumerate(zip(COLUMNS, values, strict=True)):
                if value is None:
                    continue
                if isinstance(value, str):
                    self._page.write_string(row, column, value)
                elif name in self._formats and not isinstance(value, float):
                    self._page.write_datetime(row, column, value, self._formats[name])
                else:
                    self._page.write_number(row, column, value, self._formats.get(name))
        self._rows += frame.height

    def close(self) -> None:
        self._book.close()


_FORMATS: dict[str, Callable[[Path], _Format]] = {".csv": _Csv, ".parquet": _Parquet, ".xlsx": _Xlsx}


def _writer(path: Path) -> AbstractContextManager[_Table]:
    suffix = path.suffix.lower()
    if suffix not in _FORMATS:
        raise OperatorFault(
            f"{path.name!r} does not say which kind of file",
            where="TARGET",
            remedy="end it in .csv, .xlsx or .parquet",
        )
    return _Table(path, _FORMATS[suffix])
