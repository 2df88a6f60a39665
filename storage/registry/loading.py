"""The registry: loaded from files and written back.

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
from storage.bulk import copy_frame
from storage.database import Database
from storage.locks import REGISTRY_LOCK
from storage.registry import renames
from storage.registry.cells import Cell, Column, Doubt, Reading, decimal_mark, parse, written_decimals
from storage.registry.codes import KnownCodes
from storage.registry.files import Issue, RawSheet, Row, read, write
from storage.registry.sheets import BY_NAME, SHEETS, Sheet

_OPEN = "9999"
_OF_CODES = {"ucs", "former_codes"}
# The agent of a UC is the last one of its timeline.
_AGENTS_NOW = """
UPDATE uc SET agent_id = l.agent_id
FROM (SELECT DISTINCT ON (uc_id) uc_id, agent_id FROM uc_agent
      ORDER BY uc_id, lower(valid) DESC NULLS LAST) l
WHERE l.uc_id = uc.id AND l.agent_id <> uc.agent_id
"""
# What a UC was called finds it.
_ALL_CODES = """
UPDATE uc SET aliases = uc.aliases || f.codes
FROM (SELECT f.uc_id, array_agg(f.code ORDER BY f.code) AS codes
      FROM uc_former_code f JOIN uc u ON u.id = f.uc_id WHERE f.code <> ALL(u.aliases) GROUP BY f.uc_id) f
WHERE f.uc_id = uc.id
"""


@dataclass(frozen=True)
class Rules:
    """What only the caller knows of the contents.

    Attributes:
        known: allowed values by "sheet.column" (estimation.strategy, meter_models.profile).
        wrong: by "sheet.column", what cannot be: text of the error, or None.
        doubtful: by "sheet.column", what gives rise to a warning: text of the warning, or None.
        completed: by "sheet.column", the code that a number without its leading zeros stands for, or None.
    """

    known: Mapping[str, Collection[str]] = field(default_factory=dict)
    wrong: Mapping[str, Callable[[str], str | None]] = field(default_factory=dict)
    doubtful: Mapping[str, Callable[[str], str | None]] = field(default_factory=dict)
    completed: Mapping[str, Callable[[str], str | None]] = field(default_factory=dict)


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


def load_registry(
    db: Database, path: Path, *, actor: str = "smf", rules: Rules | None = None, dry_run: bool = False
) -> ImportResult:
    """Load a registry file (see `files.read`) in one transaction; the differences go to the audit.

    Args:
        actor: who answers for it.
        dry_run: check and compare only.
    Raises:
        RegistryFault: all errors found, by sheet, row and column; nothing was loaded.
    """
    raws, issues = read(path)
    rules = rules or Rules()
    with db.connect() as conn:
        conn.execute("SELECT pg_advisory_xact_lock(%s)", [REGISTRY_LOCK])
        stored = {sheet.name: _stored(conn, sheet) for sheet in SHEETS}
        codes = KnownCodes(stored, raws, rules.completed)
        parsed: dict[str, _Parsed] = {}
        readings = _readings(raws, db.settings.market.tzinfo)
        # Codes of UCs first: all else names them.
        for first in (True, False):
            for raw, reading in zip(raws, readings, strict=True):
                if (raw.sheet.name in _OF_CODES) is first:
                    table = parsed.setdefault(raw.sheet.name, _Parsed(raw.sheet))
                    table.add(raw, reading, rules, codes, issues)
            if first:
                codes.current = _rename(conn, parsed, stored, actor, issues)
                stored = {sheet.name: _stored(conn, sheet) for sheet in SHEETS}
                _keep_former_codes(parsed, stored)
                _check_former_codes(parsed, stored, issues)
        _check_agents(parsed, issues)
        for table in parsed.values():
            table.check_references(parsed, stored, issues)
            table.check_periods(stored[table.sheet.name], issues)
            table.check_unique(stored[table.sheet.name], issues)
        if any(not issue.is_warning for issue in issues):
            raise RegistryFault(path, issues)
        done = []
        for sheet in SHEETS:
            if sheet.name in parsed:
                # New UCs have got an agent by now.
                before = _stored(conn, sheet) if sheet.name == "uc_agents" else stored[sheet.name]
                done.append(_apply(conn, parsed[sheet.name], before, actor, path))
        conn.execute(_AGENTS_NOW)
        conn.execute(_ALL_CODES)
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


def _rename(
    conn: psycopg.Connection[Any],
    parsed: Mapping[str, _Parsed],
    stored: Mapping[str, list[Row]],
    actor: str,
    issues: list[Issue],
) -> dict[str, str]:
    """Carry out the changes of codes; returns former code or alias -> code."""
    ucs, former = parsed.get("ucs"), parsed.get("former_codes")

    def say(code: str, column: str, message: str, remedy: str) -> None:
        if ucs is not None:
            issues.append(ucs._issue_of((code,), column, message, remedy))

    found = renames.plan(
        ucs.rows.values() if ucs else (), former.rows.values() if former else (), stored, say
    )
    if not any(not issue.is_warning for issue in issues):
        renames.carry_out(conn, found, actor)
    return found.current


def _check_former_codes(
    parsed: Mapping[str, _Parsed], stored: Mapping[str, list[Row]], issues: list[Issue]
) -> None:
    if "former_codes" not in parsed:
        return
    table = parsed["former_codes"]
    registered = {row[:1] for row in stored["ucs"]} | ({*parsed["ucs"].rows} if "ucs" in parsed else set())
    for key in table.rows:
        if key in registered:
            issues.append(
                table._issue_of(key, "code", f"{key[0]!r} is a UC of its own", "name it among the aliases "
                                "of the UC that takes it over")
            )  # fmt: skip


def _keep_former_codes(parsed: Mapping[str, _Parsed], stored: Mapping[str, list[Row]]) -> None:
    if "ucs" not in parsed:
        return
    former: dict[str | None, list[str]] = {}
    for code, uc_code, _ in sorted(stored["former_codes"], key=lambda row: row[2] or ""):
        former.setdefault(uc_code, []).append(str(code))
    before = {row[:1]: row for row in stored["ucs"]}
    rows = parsed["ucs"].rows
    for key, row in rows.items():
        rows[key] = renames.with_former_codes(row, before.get(key), former.get(key[0], ()))


def _check_agents(parsed: Mapping[str, _Parsed], issues: list[Issue]) -> None:
    """The agent of `ucs` is the last one of the timeline, where a file has both."""
    if not {"ucs", "uc_agents"} <= parsed.keys():
        return
    ucs, timelines = parsed["ucs"], parsed["uc_agents"]
    last: dict[Row, Row] = {}
    for row in timelines.rows.values():
        code, since = timelines.pick(row, ["uc_code"]), timelines.pick(row, ["valid_from"])[0] or ""
        if code not in last or since > (timelines.pick(last[code], ["valid_from"])[0] or ""):
            last[code] = row
    for key, row in ucs.rows.items():
        if key in last and timelines.pick(last[key], ["agent_code"]) != ucs.pick(row, ["agent_code"]):
            agent = timelines.pick(last[key], ["agent_code"])[0]
            issues.append(
                ucs._issue_of(
                    key, "agent_code", f"the last agent of this UC in uc_agents is {agent}", "make them agree"
                )
            )


class _Parsed:
    """Rows of one sheet in canonical text, with the place each came from."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.rows: dict[Row, Row] = {}
        self.places: dict[Row, tuple[RawSheet, int]] = {}
        self._at = {name: at for at, name in enumerate(sheet.names)}

    def add(
        self, raw: RawSheet, reading: Reading, rules: Rules, codes: KnownCodes, issues: list[Issue]
    ) -> None:
        columns = [self._column(raw, column, reading, rules, codes, issues) for column in self.sheet.columns]
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
        self,
        raw: RawSheet,
        column: Column,
        reading: Reading,
        rules: Rules,
        codes: KnownCodes,
        issues: list[Issue],
    ) -> list[Any]:
        cells = raw.cells.get(column.name, [None] * len(raw.numbers))
        name = f"{self.sheet.name}.{column.name}"
        checks = _Checks(rules, name)
        values: list[Any] = []
        for number, cell in zip(raw.numbers, cells, strict=True):
            value: Any = column.default
            doubts: list[str] = []
            try:
                if cell is not None:
                    value = self._value(column, cell, reading, codes, doubts)
                elif column.required:
                    raise ValueError("the cell is empty")
                if value is not None:
                    checks.run(value, doubts)
            except ValueError as error:
                issues.append(self._issue(raw, number, column.name, str(error), column.help_line))
                value = _BAD
            issues += [
                self._issue(raw, number, column.name, doubt, "check the value", is_warning=True)
                for doubt in doubts
            ]
            values.append(value)
        return values

    def _value(
        self, column: Column, cell: Cell, reading: Reading, codes: KnownCodes, doubts: list[str]
    ) -> str | None:
        if column.kind in ("text", "codes"):
            cell = codes.restored(self.sheet, column, cell, doubts)
        read = parse(column, cell, reading)
        if isinstance(read, Doubt):
            doubts.append(read.warning)
            return read.value
        if column.refers == ("ucs", "code") and read in codes.current:
            doubts.append(f"{read!r} is now {codes.current[read]}: taken for that UC")
            return codes.current[read]
        return read

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


class _Checks:
    """What the caller's rules say of the values of a column."""

    def __init__(self, rules: Rules, name: str) -> None:
        self._known, self._wrong = rules.known.get(name), rules.wrong.get(name)
        self._doubtful = rules.doubtful.get(name)

    def run(self, value: str, doubts: list[str]) -> None:
        if self._known is not None and value not in self._known:
            raise ValueError(f"{value!r} is not one of {', '.join(sorted(self._known))}")
        if self._wrong is not None and (reason := self._wrong(value)):
            raise ValueError(reason)
        if self._doubtful is not None and (doubt := self._doubtful(value)):
            doubts.append(doubt)


def _readings(raws: Sequence[RawSheet], zone: dt.tzinfo) -> list[Reading]:
    """How each sheet is read: by its own file's decimal mark, or else by that of the files it came with."""
    decimals: dict[str, list[str]] = {}
    for raw in raws:
        columns = ((column, raw.cells.get(column.name, ())) for column in raw.sheet.columns)
        decimals.setdefault(raw.source, []).extend(written_decimals(columns))
    together = [text for texts in decimals.values() for text in texts]
    marks = {}
    for raw in raws:
        own = decimal_mark(decimals[raw.source], raw.separator)
        marks[raw.source] = own if own.mark is not None else decimal_mark(together)
    return [Reading(zone, marks[raw.source]) for raw in raws]


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
