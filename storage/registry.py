"""The registry: loaded from files and written back, and as the derivation sees it on given days.

A file says all about what it names: an entity gets the values of its row, and a timeline (a UC's MUSD, a
point's losses, a meter's installations) becomes exactly the rows that the file has for it. What the file
does not name stays as it is; nothing is deleted by leaving it out. It is loaded whole or not at all.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
from psycopg import sql

from faults import OperatorFault
from storage import audit
from storage.bulk import array_literal, copy_frame, one_of, read_frame
from storage.database import Database
from storage.registry_files import Issue, RawSheet, Row, read, write
from storage.registry_format import BY_NAME, SHEETS, Column, Sheet, parse

_LOCK = 0x534D04
_OPEN = "9999"


@dataclass(frozen=True)
class Rules:
    """What only the caller knows of the contents.

    Attributes:
        known: allowed values by "sheet.column" (estimation.strategy, meter_models.profile).
        doubtful: by "sheet.column", what gives rise to a warning: text of the warning, or None.
    """

    known: Mapping[str, Collection[str]] = field(default_factory=dict)
    doubtful: Mapping[str, Callable[[str], str | None]] = field(default_factory=dict)


class RegistryFault(OperatorFault):
    """A file that cannot be loaded; `issues` has all that is wrong with it."""

    def __init__(self, path: Path, issues: Sequence[Issue]) -> None:
        errors = [issue for issue in issues if not issue.is_warning]
        rest = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(
            f"{errors[0].message}{rest}; nothing was loaded", where=errors[0].where, remedy=errors[0].remedy
        )
        self.path = path
        self.issues = tuple(issues)


@dataclass(frozen=True)
class SheetResult:
    """Rows of one sheet: new, different from what was stored, taken out of timelines, as they were."""

    sheet: str
    added: int
    changed: int
    removed: int
    unchanged: int


@dataclass(frozen=True)
class ImportResult:
    """What an import did. `warnings` did not keep it from loading."""

    sheets: tuple[SheetResult, ...]
    warnings: tuple[Issue, ...]

    @property
    def has_changes(self) -> bool:
        return any(sheet.added or sheet.changed or sheet.removed for sheet in self.sheets)


@dataclass(frozen=True)
class RegistrySnapshot:
    """The registry as the derivation needs it, for a shard and a span of days.

    Attributes:
        uc_days: uc_id, day, uc_code, agent_id, agent_code (Int64), status, musd_kw (Decimal),
        musd_confirmed_on,
            strategy, tariff_subgroup, contracted_demand_kw; one row per UC and day, null where the registry
            is silent.
        installations: uc_id, meter_id, meter_serial, profile, role, valid_from, valid_to (UTC, null = open),
            active_channel, pulse_energy_num, pulse_energy_den, tp_ratio, tc_ratio (exact, as text),
            constant_includes_ratios, element_count, interval_s.
        losses: uc_id, kind, valid_from, valid_to (Date, null = open), percent (exact, as text),
        compensated_at.
    """

    uc_days: pl.DataFrame
    installations: pl.DataFrame
    losses: pl.DataFrame


def load_registry(
    db: Database, path: Path, *, actor: str = "smf", rules: Rules | None = None, dry_run: bool = False
) -> ImportResult:
    """Load a registry file (see `registry_files.read`) in one transaction; the differences go to the audit.

    Args:
        actor: who answers for it.
        dry_run: check and compare only.
    Raises:
        RegistryFault: all errors found, by sheet, row and column; nothing was loaded.
    """
    raws, issues = read(path)
    zone = db.settings.market.tzinfo
    parsed: dict[str, _Parsed] = {}
    for raw in raws:
        parsed.setdefault(raw.sheet.name, _Parsed(raw.sheet)).add(raw, zone, rules or Rules(), issues)
    with db.connect() as conn:
        conn.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        stored = {sheet.name: _stored(conn, sheet) for sheet in SHEETS}
        for table in parsed.values():
            table.check_references(parsed, stored, issues)
            table.check_periods(stored[table.sheet.name], issues)
            table.check_unique(stored[table.sheet.name], issues)
        if any(not issue.is_warning for issue in issues):
            raise RegistryFault(path, issues)
        done = [
            _apply(conn, parsed[sheet.name], stored[sheet.name], actor, path)
            for sheet in SHEETS
            if sheet.name in parsed
        ]
        if dry_run:
            conn.rollback()
    return ImportResult(tuple(done), tuple(issues))


def export_registry(db: Database, path: Path) -> dict[str, int]:
    """Write the whole registry to a workbook (.xlsx) or to a folder of CSV files; returns rows by sheet."""
    with db.connect() as conn:
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        tables = {sheet.name: sorted(_stored(conn, sheet), key=_sort_key(sheet)) for sheet in SHEETS}
    write(path, tables, db.settings.market.tzinfo)
    return {name: len(rows) for name, rows in tables.items()}


def snapshot(
    source: Database | Any,
    first_day: dt.date,
    last_day: dt.date,
    shard: int = 0,
    shards: int = 1,
    *,
    uc_ids: Sequence[int] | None = None,
) -> RegistrySnapshot:
    """What the registry says about the UCs with `uc_id % shards == shard` from `first_day` to `last_day`.

    Args:
        source: as `storage.bulk.read_frame` takes it.
        uc_ids: only these, whatever their shard.
    """
    parameters: list[Any] = [first_day, last_day]
    if uc_ids is not None:
        wanted = one_of("{}", "$3")
        parameters.append(array_literal(uc_ids))
    else:
        wanted = "{} % $3 = $4"
        parameters += [shards, shard]
    uc_days = read_frame(source, _UC_DAYS.format(wanted=wanted.format("u.id")), parameters)
    by_point = wanted.format("p.uc_id")
    return RegistrySnapshot(
        uc_days=uc_days.with_columns(
            pl.col("agent_code").cast(pl.Int64),
            pl.col("musd_kw", "contracted_demand_kw").cast(pl.Decimal(38, 9)),
        ),
        installations=read_frame(source, _INSTALLATIONS.format(wanted=by_point), parameters),
        losses=read_frame(source, _LOSSES.format(wanted=by_point), parameters),
    )


_UC_DAYS = """
SELECT u.id AS uc_id, d.day, u.code AS uc_code, u.agent_id, a.code AS agent_code, s.status,
    m.musd_kw::text AS musd_kw, m.confirmed_on AS musd_confirmed_on, e.strategy, c.tariff_subgroup,
    c.contracted_demand_kw::text AS contracted_demand_kw
FROM uc u
JOIN agent a ON a.id = u.agent_id
CROSS JOIN (SELECT generate_series($1::date, $2::date, interval '1 day')::date AS day) d
LEFT JOIN uc_status s ON s.uc_id = u.id AND s.valid @> d.day
LEFT JOIN uc_musd m ON m.uc_id = u.id AND m.valid @> d.day
LEFT JOIN uc_estimation e ON e.uc_id = u.id AND e.valid @> d.day
LEFT JOIN uc_contract c ON c.uc_id = u.id AND c.valid @> d.day
WHERE {wanted}
ORDER BY u.id, d.day
"""
_INSTALLATIONS = """
SELECT p.uc_id, i.meter_id, m.serial AS meter_serial, k.profile, i.role,
    lower(i.valid) AS valid_from, upper(i.valid) AS valid_to, i.active_channel, i.pulse_energy_num,
    i.pulse_energy_den, i.tp_ratio::text AS tp_ratio, i.tc_ratio::text AS tc_ratio,
    i.constant_includes_ratios, i.element_count, i.interval_s
FROM installation i
JOIN point p ON p.id = i.point_id
JOIN meter m ON m.id = i.meter_id
JOIN meter_model k ON k.id = m.model_id
WHERE {wanted}
    AND i.valid && tstzrange(market_day_start($1::date), market_day_start($2::date + 1))
ORDER BY p.uc_id, i.role DESC, lower(i.valid) NULLS FIRST
"""
_LOSSES = """
SELECT p.uc_id, l.kind, lower(l.valid) AS valid_from, upper(l.valid) AS valid_to, l.percent::text AS percent,
    l.compensated_at
FROM point_loss l
JOIN point p ON p.id = l.point_id
WHERE {wanted}
    AND l.valid && daterange($1::date, $2::date, '[]')
ORDER BY p.uc_id, l.kind, lower(l.valid) NULLS FIRST
"""


class _Parsed:
    """Rows of one sheet in canonical text, with the place each came from."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.rows: dict[Row, Row] = {}
        self.places: dict[Row, tuple[RawSheet, int]] = {}
        self._at = {name: at for at, name in enumerate(sheet.names)}

    def add(self, raw: RawSheet, zone: dt.tzinfo, rules: Rules, issues: list[Issue]) -> None:
        columns = [self._column(raw, column, zone, rules, issues) for column in self.sheet.columns]
        for number, row in zip(raw.numbers, zip(*columns, strict=True), strict=True):
            if any(cell is _BAD for cell in row):
                continue
            key = self.pick(row, self.sheet.key)
            if key not in self.rows:
                self.rows[key] = row
                self.places[key] = raw, number
            elif not (raw.is_flat and self.rows[key] == row):
                first = self.places[key][1]
                issues.append(self._issue(raw, number, self.sheet.key[0], f"row {first} is about the same",
                                          "keep one of them"))  # fmt: skip

    def _column(
        self, raw: RawSheet, column: Column, zone: dt.tzinfo, rules: Rules, issues: list[Issue]
    ) -> list[Any]:
        cells = raw.cells.get(column.name, [None] * len(raw.numbers))
        name = f"{self.sheet.name}.{column.name}"
        known, doubtful = rules.known.get(name), rules.doubtful.get(name)
        values: list[Any] = []
        for number, cell in zip(raw.numbers, cells, strict=True):
            value: Any = column.default
            try:
                if cell is not None:
                    value = parse(column, cell, zone)
                elif column.required:
                    raise ValueError("the cell is empty")
                if known is not None and value is not None and value not in known:
                    raise ValueError(f"{value!r} is not one of {', '.join(sorted(known))}")
                if doubtful is not None and value is not None and (doubt := doubtful(value)):
                    issues.append(
                        self._issue(raw, number, column.name, doubt, "check the value", is_warning=True)
                    )
            except ValueError as error:
                issues.append(self._issue(raw, number, column.name, str(error), column.help_line))
                value = _BAD
            values.append(value)
        return values

    def check_references(
        self, parsed: Mapping[str, _Parsed], stored: Mapping[str, list[Row]], issues: list[Issue]
    ) -> None:
        for column in self.sheet.columns:
            if column.refers is None:
                continue
            target = BY_NAME[column.refers[0]]
            at = target.names.index(column.refers[1])
            codes = {row[at] for row in stored[target.name]}
            if target.name in parsed:
                codes |= {row[at] for row in parsed[target.name].rows.values()}
            for key, row in self.rows.items():
                value = row[self._at[column.name]]
                if value is not None and value not in codes:
                    issues.append(
                        self._issue_of(key, column.name, f"{value!r} is not in {target.name}",
                                       f"correct it, or add a row to {target.name}")
                    )  # fmt: skip

    def check_unique(self, stored: list[Row], issues: list[Issue]) -> None:
        for name in self.sheet.unique:
            at = self._at[name]
            holders = {row[at]: self.pick(row, self.sheet.key) for row in stored}
            holders = {value: key for value, key in holders.items() if key not in self.rows}
            for key, row in self.rows.items():
                other = holders.setdefault(row[at], key)
                if other != key:
                    issues.append(
                        self._issue_of(
                            key, name, f"{row[at]!r} already has {other[0]}", "one is allowed: keep one"
                        )
                    )

    def check_periods(self, stored: list[Row], issues: list[Issue]) -> None:
        if not self.sheet.owner:
            return
        start, end = self._at["valid_from"], self._at["valid_to"]
        for key, row in self.rows.items():
            if (row[start] or "") >= (row[end] or _OPEN):
                issues.append(self._issue_of(key, "valid_to", "the period ends before it begins",
                                             "valid_to is the first moment it holds no more"))  # fmt: skip
        owners = {self.pick(row, self.sheet.owner) for row in self.rows.values()}
        others = [row for row in stored if self.pick(row, self.sheet.owner) not in owners]
        for group in self.sheet.no_overlap:
            timelines: dict[Row, list[Row]] = {}
            for row in [*others, *self.rows.values()]:
                timelines.setdefault(self.pick(row, group), []).append(row)
            for who, timeline in timelines.items():
                timeline.sort(key=lambda row: row[start] or "")
                longest = timeline[0]
                for row in timeline[1:]:
                    if (row[start] or "") < (longest[end] or _OPEN):
                        self._report_overlap(who, longest, row, issues)
                    longest = max(longest, row, key=lambda row: row[end] or _OPEN)

    def _report_overlap(self, who: Row, earlier: Row, later: Row, issues: list[Issue]) -> None:
        in_file = [row for row in (later, earlier) if self.rows.get(self.pick(row, self.sheet.key)) is row]
        if not in_file:
            return
        row = in_file[0]
        other = earlier if row is later else later
        other_key = self.pick(other, self.sheet.key)
        place = (
            f"row {self.places[other_key][1]}" if len(in_file) == 2 else f"what is stored for {other_key[0]}"
        )
        issues.append(
            self._issue_of(self.pick(row, self.sheet.key), "valid_from",
                           f"overlaps with {place}: {' '.join(str(part) for part in who)} has two at once",
                           "end the earlier one where the later begins")
        )  # fmt: skip

    def pick(self, row: Row, names: Sequence[str]) -> Row:
        return tuple(row[self._at[name]] for name in names)

    def _issue_of(self, key: Row, column: str, message: str, remedy: str) -> Issue:
        raw, number = self.places[key]
        return self._issue(raw, number, column, message, remedy)

    def _issue(
        self, raw: RawSheet, number: int, column: str, message: str, remedy: str, *, is_warning: bool = False
    ) -> Issue:
        return Issue(raw.source, number, raw.labels.get(column, column), message, remedy, is_warning)


_BAD = object()


def _stored(conn: psycopg.Connection[Any], sheet: Sheet) -> list[Row]:
    return conn.execute(sheet.select).fetchall()


def _sort_key(sheet: Sheet) -> Callable[[Row], tuple[str, ...]]:
    order = [sheet.names.index(name) for name in sheet.key]
    return lambda row: tuple(row[at] or "" for at in order)


def _apply(
    conn: psycopg.Connection[Any], table: _Parsed, stored: list[Row], actor: str, path: Path
) -> SheetResult:
    sheet = table.sheet
    before = {table.pick(row, sheet.key): row for row in stored}
    if sheet.owner:
        # A timeline is rewritten whole when any row of it differs.
        mine, theirs = _by_owner(table, table.rows.values()), _by_owner(table, stored)
        owners = [owner for owner, rows in mine.items() if rows != theirs.get(owner, set())]
        written = [row for owner in owners for row in mine[owner]]
        gone = [row for owner in owners for row in theirs.get(owner, set()) - mine[owner]]
    else:
        written = [row for key, row in table.rows.items() if before.get(key) != row]
        gone = [before[table.pick(row, sheet.key)] for row in written if table.pick(row, sheet.key) in before]
    fresh = [row for row in written if before.get(table.pick(row, sheet.key)) != row]
    changed = {table.pick(row, sheet.key) for row in gone} & {table.pick(row, sheet.key) for row in fresh}
    if written:
        _load(conn, sheet, written)
        audit.append(
            conn,
            actor=actor,
            action="registry.import",
            object=f"registry/{sheet.name}",
            before=[dict(zip(sheet.names, row, strict=True)) for row in sorted(gone, key=_sort_key(sheet))]
            or None,
            after=[dict(zip(sheet.names, row, strict=True)) for row in sorted(fresh, key=_sort_key(sheet))]
            or None,
        )
    return SheetResult(
        sheet=sheet.name,
        added=len(fresh) - len(changed),
        changed=len(changed),
        removed=len(gone) - len(changed),
        unchanged=len(table.rows) - len(fresh),
    )


def _by_owner(table: _Parsed, rows: Collection[Row] | Iterator[Row]) -> dict[Row, set[Row]]:
    found: dict[Row, set[Row]] = {}
    for row in rows:
        found.setdefault(table.pick(row, table.sheet.owner), set()).add(row)
    return found


def _load(conn: psycopg.Connection[Any], sheet: Sheet, rows: Sequence[Row]) -> None:
    columns = sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(name)) for name in sheet.names)
    conn.execute(sql.SQL("CREATE TEMPORARY TABLE pending ({})").format(columns))
    copy_frame(
        conn, "pending", pl.DataFrame(rows, schema=dict.fromkeys(sheet.names, pl.String), orient="row")
    )
    try:
        if sheet.delete:
            conn.execute(sheet.delete)
        done = conn.execute(sheet.insert).rowcount
    except psycopg.errors.IntegrityError as error:
        # What was checked against stored rows can only fail when somebody else wrote meanwhile.
        raise OperatorFault(
            f"the database refuses rows of {sheet.name}: {error.diag.message_detail or error}",
            where=sheet.name,
            remedy="somebody may have changed the registry meanwhile: import again",
        ) from error
    conn.execute("DROP TABLE pending")
    # Without fresh statistics the next query joins a whole distributor row by row: 20 s instead of half a
    # second.
    conn.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(sheet.table)))
    if done != len(rows):
        raise OperatorFault(
            f"{len(rows) - done} rows of {sheet.name} found no counterpart",
            where=sheet.name,
            remedy="import again",
        )
