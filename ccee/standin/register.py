"""The stand-in's register, from a file or from our own registry."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import orjson

from ccee.standin.rules import Unit, unit_from_json
from faults import OperatorFault
from storage.database import Database


def units_from_file(path: Path) -> list[Unit]:
    """A JSON list of units (see `unit_from_json`). Raises: OperatorFault naming file and unit."""
    try:
        items = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise OperatorFault(
            f"cannot read the units: {error}", where=str(path), remedy="give a JSON list of units"
        ) from error
    if not isinstance(items, list):
        raise OperatorFault("not a list of units", where=str(path), remedy="give a JSON list of units")
    return [unit_from_json(item) for item in items]


def units_from_registry(db: Database) -> list[Unit]:
    """Every unit that was ever active, from its first to its last active day, with its MUSD by month."""
    with db.connect() as conn:
        rows = conn.execute(
            "SELECT u.id, u.code, a.code, min(lower(s.valid)), max(upper(s.valid)), "
            "bool_or(upper_inf(s.valid)) "
            "FROM uc u JOIN agent a ON a.id = u.agent_id "
            "JOIN uc_status s ON s.uc_id = u.id AND s.status = 'active' GROUP BY u.id, u.code, a.code"
        ).fetchall()
        musd: dict[int, dict[date, Decimal | None]] = {}
        for uc_id, since, musd_kw in conn.execute("SELECT uc_id, lower(valid), musd_kw FROM uc_musd"):
            # CCEE's register holds one value per month.
            musd.setdefault(uc_id, {})[(since or date.min).replace(day=1)] = musd_kw
    return [
        Unit(code, agent, first or date.min, date.max if is_open else (last or date.max), musd.get(uc_id, {}))
        for uc_id, code, agent, first, last, is_open in rows
    ]
