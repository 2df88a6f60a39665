"""Lots of meters and their failures in the database; import from CSV.

Files (UTF-8, `;` or `,`): lots with code, model, size, delivered_on, supplier; failures with lot, serial,
failed_on, fault, note. Days are YYYY-MM-DD or DD/MM/YYYY. Importing a file again changes nothing.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from faults import OperatorFault
from storage import audit
from storage.review import quarantine

LOT_COLUMNS = ("code", "model", "size", "delivered_on")
FAILURE_COLUMNS = ("lot", "serial", "failed_on", "fault")


@dataclass(frozen=True, slots=True)
class Lot:
    """A lot as delivered."""

    code: str
    model: str
    size: int
    delivered_on: dt.date
    supplier: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed meter: `fault` is a kind of the utility's own list."""

    serial: str
    failed_on: dt.date
    fault: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that was not taken; `line` as an editor counts."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True)
class LotsImport:
    """Rows that are new or changed, and those not taken (also in quarantine, stage `lots`)."""

    lots: int
    failures: int
    rejected: tuple[Rejected, ...]


def import_lots(
    conn: psycopg.Connection[Any], lots: Path | None, failures: Path | None, actor: str
) -> LotsImport:
    """Take lots, then failures, in the caller's transaction; a bad row is told, the good ones are taken.

    Raises:
        OperatorFault: a file cannot be read or lacks a column.
    """
    rejected: list[Rejected] = []
    lot_count = failure_count = 0
    if lots is not None:
        lot_count = _take(lots, LOT_COLUMNS, lambda row: _put_lot(conn, row), rejected)
    if failures is not None:
        failure_count = _take(failures, FAILURE_COLUMNS, lambda row: _put_failure(conn, row), rejected)
    for one in rejected:
        row = quarantine.Quarantined(
            stage="lots",
            reason=one.reason,
            detail={"file": one.file, "line": one.line},
            dedup_key=f"lots:{one.file}:{one.line}:{one.reason}",
        )
        quarantine.put(conn, [row])
    result = LotsImport(lot_count, failure_count, tuple(rejected))
    if lot_count or failure_count:
        audit.append(
            conn,
            actor=actor,
            action="lots.import",
            object="lots/import",
            after={"lots": lot_count, "failures": failure_count, "rejected": len(rejected)},
        )
    return result


def read_lots(conn: psycopg.Connection[Any], code: str | None = None) -> list[tuple[Lot, list[Failure]]]:
    """All lots with their failures, or the one named.

    Raises:
        OperatorFault: there is no lot of that code.
    """
    rows = conn.execute(
        "SELECT id, code, model, size, delivered_on, supplier FROM meter_lot "
        "WHERE %(code)s::text IS NULL OR code = %(code)s ORDER BY delivered_on, code",
        {"code": code},
    ).fetchall()
    if code is not None and not rows:
        raise OperatorFault(f"no lot {code!r}", where="LOT", remedy="smf lots import brings lots in")
    found: dict[int, list[Failure]] = {row[0]: [] for row in rows}
    for lot_id, *values in conn.execute(
        "SELECT lot_id, serial, failed_on, fault, note FROM meter_failure WHERE lot_id = ANY(%s) "
        "ORDER BY failed_on, serial",
        [list(found)],
    ):
        found[lot_id].append(Failure(*values))
    return [(Lot(*values), found[lot_id]) for lot_id, *values in rows]


def _take(
    path: Path, columns: Sequence[str], put: Callable[[dict[str, str]], bool], rejected: list[Rejected]
) -> int:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorFault(
            f"cannot read: {error}", where=str(path), remedy="name a CSV file in UTF-8"
        ) from error
    head, _, _ = text.partition("\n")
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if ";" in head else ",")
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise OperatorFault(
            f"lacks the columns {', '.join(missing)}",
            where=str(path),
            remedy="see docs/lotes_de_medidores.md",
        )
    count = 0
    try:
        for row in reader:
            try:
                count += put(_clean(row, columns))
            except ValueError as error:
                rejected.append(Rejected(path.name, reader.line_num, str(error)))
    except csv.Error as error:
        raise OperatorFault(
            f"no CSV: {error}",
            where=f"{path}, after line {reader.line_num}",
            remedy="correct the file: a quotation mark is left open there, or it is another kind of file",
        ) from error
    return count


def _clean(row: Mapping[str | None, Any], columns: Sequence[str]) -> dict[str, str]:
    if None in row:
        raise ValueError("more fields than the first line has: put a value with a separator in quotes")
    clean = {name: (value or "").strip() for name, value in row.items() if name}
    empty = [name for name in columns if not clean[name]]
    if empty:
        raise ValueError(f"{empty[0]} is empty")
    if any("\0" in value for value in clean.values()):
        raise ValueError("a NUL character")
    return clean


def _put_lot(conn: psycopg.Connection[Any], row: dict[str, str]) -> bool:
    size = int(row["size"]) if row["size"].isdecimal() else 0
    if not 0 < size < 2**31:
        raise ValueError(f"size {row['size']!r} is not a number of meters")
    delivered_on = _day(row["delivered_on"])
    known = conn.execute(
        "SELECT min(f.failed_on), count(DISTINCT f.serial) FROM meter_failure f "
        "JOIN meter_lot l ON l.id = f.lot_id WHERE l.code = %s",
        [row["code"]],
    ).fetchone()
    if known and known[0] and known[0] < delivered_on:
        raise ValueError(f"delivered on {delivered_on}, after a failure of {known[0]} that is known")
    if known and known[1] > size:
        raise ValueError(f"size {size}, and {known[1]} meters of it have failed")
    done = conn.execute(
        "INSERT INTO meter_lot AS l (code, model, size, delivered_on, supplier) VALUES (%s, %s, %s, %s, %s) "
        "ON CONFLICT (code) DO UPDATE SET model = excluded.model, size = excluded.size, "
        "delivered_on = excluded.delivered_on, supplier = excluded.supplier "
        "WHERE (l.model, l.size, l.delivered_on, l.supplier) IS DISTINCT FROM "
        "(excluded.model, excluded.size, excluded.delivered_on, excluded.supplier)",
        [row["code"], row["model"], size, delivered_on, row.get("supplier", "")],
    )
    return done.rowcount > 0


def _put_failure(conn: psycopg.Connection[Any], row: dict[str, str]) -> bool:
    day = _day(row["failed_on"])
    lot = conn.execute("SELECT id, delivered_on FROM meter_lot WHERE code = %s", [row["lot"]]).fetchone()
    if lot is None:
        raise ValueError(f"no lot {row['lot']!r}: import it first, with --lots")
    if day < lot[1]:
        raise ValueError(f"failed on {day}, before the lot's delivery on {lot[1]}")
    done = conn.execute(
        "INSERT INTO meter_failure AS f (lot_id, serial, failed_on, fault, note) VALUES (%s, %s, %s, %s, %s) "
        "ON CONFLICT (lot_id, serial, failed_on, fault) DO UPDATE SET note = excluded.note "
        "WHERE f.note IS DISTINCT FROM excluded.note",
        [lot[0], row["serial"], day, row["fault"], row.get("note", "")],
    )
    return done.rowcount > 0


def _day(text: str) -> dt.date:
    parts = text.split("/")
    try:
        return dt.date.fromisoformat("-".join(reversed(parts)) if len(parts) == 3 else text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a day (YYYY-MM-DD or DD/MM/YYYY)") from error
