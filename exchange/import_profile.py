"""What a billing system wants to import: names, columns and rows of CSV files, from one TOML file.

Every key is checked when the profile is read; an unknown one is refused. Values are those of the stored
readings; energy is exact and rounded once.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, time, tzinfo
from fractions import Fraction
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Annotated

import polars as pl

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
from exchange.public_files import folder_of
from faults import OperatorFault
from faults.toml_tables import Key, build, load_toml, parse_toml
from storage.database import Database

DELIVERED = "csv"
_INT64_MAX = 2**63 - 1
_TIMES = frozenset({"interval_start", "interval_end"})
_VALUES = _TIMES | {
    "uc",
    "meter",
    "role",
    "channel",
    "quantity",
    "interval_s",
    "pulses",
    "energy_kwh",
    "text",
}
_NAMES_PER = {"uc": frozenset({"uc", "meter", "first_day", "last_day"}), "all": {"first_day", "last_day"}}


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, which value it holds, and how that is written."""

    name: str
    value: str
    format: str = "%Y-%m-%d %H:%M:%S"
    decimals: Annotated[int, Key(least=0, most=12)] = 6
    text: str = ""


@dataclass(frozen=True, slots=True)
class FileRules:
    """Names, separators and octets of the files; see the delivered profile for each key."""

    path: str
    per: Annotated[str, Key(choices=tuple(_NAMES_PER))] = "uc"
    separator: str = ";"
    decimal: Annotated[str, Key(choices=(",", "."))] = ","
    encoding: Annotated[str, Key(choices=("utf-8", "utf-8-sig", "latin-1"))] = "utf-8"
    has_header: bool = True
    line_end: Annotated[str, Key('write "\\n" or "\\r\\n"', choices=("\n", "\r\n"))] = "\r\n"


@dataclass(frozen=True, slots=True)
class RowRules:
    """Which intervals become rows."""

    channels: Annotated[str, Key(choices=("all", "active"))] = "all"
    missing: Annotated[str, Key(choices=("leave_out", "empty"))] = "leave_out"
    roles: Annotated[tuple[str, ...], Key(choices=("main", "backup"))] = ("main", "backup")


@dataclass(frozen=True, slots=True)
class ImportProfile:
    """A whole profile."""

    name: str
    file: FileRules
    rows: RowRules
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class _Document:
    file: FileRules
    column: tuple[Column, ...]
    rows: RowRules = field(default_factory=RowRules)
    name: str = ""


def load_import_profile(name: str) -> ImportProfile:
    """A profile by the name of a delivered one, or by the path of a TOML file.

    Raises:
        OperatorFault: naming file, key and remedy.
    """
    # The delivered profiles have plain names.
    if name.isidentifier():
        delivered = resources.files("exchange") / "import_profiles" / f"{name}.toml"
        if not delivered.is_file():
            raise OperatorFault("cannot read the profile: no such profile", where=name, remedy=_WHICH)
        table = parse_toml(delivered.read_text(encoding="utf-8"), name)
    else:
        table = load_toml(Path(name), what="the profile", remedy=_WHICH)
    document = build(_Document, table, name)
    if not document.column:
        raise _refused("no [[column]]", name)
    profile = ImportProfile(document.name or name, document.file, document.rows, document.column)
    _check(profile, name)
    return profile


_WHICH = f"name a TOML file, or the delivered profile {DELIVERED}"


def _check(profile: ImportProfile, where: str) -> None:
    file, rows = profile.file, profile.rows
    if len(file.separator) != 1 or not file.separator.isascii() or file.separator in '"\r\n':
        raise _refused(f"separator = {file.separator!r}, one character, no quotation mark or line end", where)
    if not rows.roles:
        raise _refused("roles = [], of 'main' and 'backup'", where)
    _check_path(file, where)
    for number, column in enumerate(profile.columns, start=1):
        _check_column(column, file.encoding, f"{where}: column {number}")


def _check_path(file: FileRules, where: str) -> None:
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(file.path) if name is not None}
        if unknown := names - _NAMES_PER[file.per]:
            raise _refused(f"path: {{{sorted(unknown)[0]}}} is not known with per = {file.per!r}", where)
        path = file.path.format(**dict.fromkeys(names, "1"))
    except (ValueError, KeyError, IndexError) as error:
        raise _refused(f"path = {file.path!r}: {error}", where) from error
    if file.per == "uc" and "uc" not in names:
        raise _refused("path: files of several UCs would have one name; put {uc} into it", where)
    if path.startswith("/") or "\\" in path or ".." in Path(path).parts:
        raise _refused("path: must stay within the archive, its folders parted by /", where)
    if not path.strip() or path.endswith("/"):
        raise _refused(f"path = {file.path!r} names no file", where)


def _check_column(column: Column, encoding: str, where: str) -> None:
    if column.value not in _VALUES:
        raise _refused(f"value {column.value!r}, one of {', '.join(sorted(_VALUES))}", where)
    if column.value in _TIMES:
        moment = datetime.combine(date(2026, 12, 31), time(23, 55))
        try:
            written = pl.Series([moment]).dt.strftime(column.format).item()
        except pl.exceptions.PolarsError as error:
            raise _refused(f"format = {column.format!r} is none of a date and time", where) from error
        if not written:
            raise _refused("format is empty", where)
    _encoded(column.name + column.text, encoding, where)


def _encoded(text: str, encoding: str, where: str) -> bytes:
    try:
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        raise OperatorFault(
            f"{text[error.start]!r} cannot be written in {encoding}",
            where=where,
            remedy='set encoding = "utf-8" in the profile',
        ) from error


def _refused(message: str, where: str) -> OperatorFault:
    return OperatorFault(
        message, where=where, remedy="correct the profile; the delivered one explains each key"
    )


# --- rows and files ----------------------------------------------------------------------------------------


def export_by_profile(
    db: Database,
    request: ExportRequest,
    profile: ImportProfile,
    progress: Progress = lambda done, total: None,
) -> ExportResult:
    """Write CSV files of stored readings as a profile says, and record it; see `export_public`."""
    writer = _CsvWriter(profile, request, db.settings.market.tzinfo)
    return run_export(db, request, [f"csv:{profile.name}"], writer, progress, asdict(profile))


class _CsvWriter:
    """CSV files; with per = "all" each UC is the next part of the one file."""

    def __init__(self, profile: ImportProfile, request: ExportRequest, zone: tzinfo) -> None:
        self._profile = profile
        self._request = request
        self._zone = zone
        self._has_begun = False

    def __call__(self, conn: Connection, chunk: Chunk, losses: Losses) -> Iterator[Piece]:
        rules = self._profile.file
        for installation, rows in self._by_file(chunk):
            facts = self._facts(rows, self._path(installation))
            octets = _encoded(self._text(rows), rules.encoding.removesuffix("-sig"), facts.path)
            if rules.per == "uc" or not self._has_begun:
                octets = self._head() + octets
            self._has_begun = True
            yield Piece(facts, octets, is_whole=rules.per == "uc")

    def _by_file(self, chunk: Chunk) -> Iterator[tuple[Installation, pl.DataFrame]]:
        """Rows of a UC, or of one of its meters where these have files of their own; one at a time."""
        by_meter = "{meter}" in self._profile.file.path
        wanted = [one for one in chunk if one[0].role in self._profile.rows.roles]
        for _, same in groupby(wanted, key=lambda one: one[0].uc_id):
            files: dict[str, list[tuple[Installation, pl.DataFrame]]] = {}
            for one, frame in same:
                rows = self._rows(one, frame)
                if not rows.is_empty():
                    files.setdefault(one.serial if by_meter else "", []).append((one, rows))
            for parts in files.values():
                yield parts[0][0], pl.concat(rows for _, rows in parts)

    def _path(self, installation: Installation) -> str:
        return self._profile.file.path.format(
            uc=folder_of(installation.uc_code),
            meter=folder_of(installation.serial),
            first_day=self._request.first_day.isoformat(),
            last_day=self._request.last_day.isoformat(),
        )

    def _head(self) -> bytes:
        """What a file begins with: the mark of its encoding, and headings."""
        rules = self._profile.file
        # Headings may repeat, which columns of a frame may not.
        headings = pl.DataFrame([[column.name] for column in self._profile.columns])
        return (_csv(headings, rules) if rules.has_header else "").encode(rules.encoding)

    def _text(self, rows: pl.DataFrame) -> str:
        rules = self._profile.file
        table = rows.select(
            _written(column, rules.decimal).alias(str(number))
            for number, column in enumerate(self._profile.columns)
        )
        return _csv(table, rules)

    def _facts(self, rows: pl.DataFrame, path: str) -> FileFacts:
        first, last = rows["interval_start"].min(), rows["interval_end"].max()
        assert isinstance(first, datetime)
        assert isinstance(last, datetime)
        return FileFacts(
            path=path,
            uc_ids=tuple(rows["uc_id"].unique().sort()),
            meter_ids=tuple(rows["meter_id"].unique().sort()),
            first_start=first.replace(tzinfo=self._zone).astimezone(UTC),
            last_end=last.replace(tzinfo=self._zone).astimezone(UTC),
            intervals=rows.height,
        )

    def _rows(self, installation: Installation, frame: pl.DataFrame) -> pl.DataFrame:
        """One row an interval, in order of channel and time; times naive, market."""
        begin, end = installation.bounds(self._request.first_day, self._request.last_day, self._zone)
        if self._profile.rows.channels == "active":
            frame = frame.filter(pl.col("channel") == installation.active_channel)
        spread = (
            frame.sort("channel", "day")
            .with_columns(slot=pl.int_ranges(0, pl.col("pulses").list.len()))
            .explode("pulses", "slot")
            .with_columns(
                interval_start=pl.col("day").cast(pl.Datetime("us"))
                + pl.duration(seconds=pl.col("slot") * pl.col("interval_s"))
            )
            .with_columns(
                interval_end=pl.col("interval_start") + pl.duration(seconds=pl.col("interval_s")),
            )
            .filter(pl.col("interval_start") >= begin, pl.col("interval_end") <= end)
        )
        if self._profile.rows.missing == "leave_out":
            spread = spread.filter(pl.col("pulses").is_not_null())
        is_active = pl.col("channel") == installation.active_channel
        constant = energy_of_pulse(installation)
        energies = [
            pl.when(is_active)
            .then(scaled_energy(spread["pulses"], constant, decimals))
            .otherwise(None)
            .alias(f"energy_{decimals}")
            for decimals in {c.decimals for c in self._profile.columns if c.value == "energy_kwh"}
        ]
        return spread.with_columns(
            *energies,
            uc=pl.lit(installation.uc_code),
            uc_id=pl.lit(installation.uc_id, pl.Int64),
            meter=pl.lit(installation.serial),
            role=pl.lit(installation.role),
            quantity=pl.col("quantity_code"),
        ).drop("source_starts", "source_sessions")


def _csv(table: pl.DataFrame, rules: FileRules) -> str:
    return table.write_csv(separator=rules.separator, include_header=False, line_terminator=rules.line_end)


def energy_of_pulse(installation: Installation) -> Fraction:
    """kWh of one pulse of the active channel, ratios included."""
    constant = Fraction(installation.pulse_energy_num, installation.pulse_energy_den)
    if installation.constant_includes_ratios:
        return constant
    return constant * Fraction(installation.tp_ratio) * Fraction(installation.tc_ratio)


def scaled_energy(pulses: pl.Series, constant: Fraction, decimals: int) -> pl.Series:
    """pulses x constant x 10^decimals, rounded half up (away from zero), as whole numbers.

    Raises:
        OperatorFault: one of them does not fit 64 bits.
    """
    scaled = constant * 10**decimals
    numerator, denominator = 2 * scaled.numerator, 2 * scaled.denominator
    counts = pulses.cast(pl.Int64)
    largest = int(counts.abs().max() or 0)  # type: ignore[arg-type]  # a maximum of Int64 is an int
    if largest * numerator + denominator <= _INT64_MAX:
        rounded: pl.Series = (counts.abs() * numerator + denominator // 2) // denominator * counts.sign()
        return rounded
    exact = [
        None
        if one is None
        else (abs(one) * numerator + denominator // 2) // denominator * (1 if one > 0 else -1)
        for one in pulses.to_list()
    ]
    if max((abs(one) for one in exact if one is not None), default=0) > _INT64_MAX:
        raise OperatorFault(
            f"energy with {decimals} decimals does not fit 64 bits",
            where="energy_kwh",
            remedy="write fewer decimals",
        )
    return pl.Series(exact, dtype=pl.Int64)


def _written(column: Column, decimal: str) -> pl.Expr:
    if column.value == "text":
        return pl.lit(column.text)
    if column.value in _TIMES:
        return pl.col(column.value).dt.strftime(column.format)
    if column.value != "energy_kwh":
        return pl.col(column.value)
    scaled, one = pl.col(f"energy_{column.decimals}"), 10**column.decimals
    sign = pl.when(scaled < 0).then(pl.lit("-")).otherwise(pl.lit(""))
    parts = [sign, (scaled.abs() // one).cast(pl.String)]
    if column.decimals:
        parts += [pl.lit(decimal), (scaled.abs() % one).cast(pl.String).str.zfill(column.decimals)]
    return pl.concat_str(parts)
