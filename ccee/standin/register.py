"""The stand-in's register, from a file or from our own registry."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import orjson

from ccee.standin.records import Unit, unit_from_json
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
    """Every unit that was ever submitted, from its first to its last such day, with its MUSD by month.

    A code that a unit had before is a unit of its own to the operator, until the day it changed.
    """
    with db.connect() as conn:
        rows = conn.execute(
            "SELECT u.id, u.code, a.code, min(lower(s.valid)), max(upper(s.valid)), "
            "bool_or(upper_inf(s.valid)) "
            "FROM uc u JOIN agent a ON a.id = u.agent_id "
            "JOIN uc_status s ON s.uc_id = u.id AND is_submitted(s.status) GROUP BY u.id, u.code, a.code"
        ).fetchall()
        musd: dict[int, dict[date, Decimal | None]] = {}
        for uc_id, since, musd_kw in conn.execute("SELECT uc_id, lower(valid), musd_kw FROM uc_musd"):
            # CCEE's register holds one value per month.
            musd.setdefault(uc_id, {})[(since or date.min).replace(day=1)] = musd_kw
        agents: dict[int, list[tuple[date, int]]] = {}
        for uc_id, until, agent in conn.execute(
            "SELECT c.uc_id, upper(c.valid), a.code FROM uc_agent c JOIN agent a ON a.id = c.agent_id "
            "WHERE NOT upper_inf(c.valid) ORDER BY upper(c.valid)"
        ):
            agents.setdefault(uc_id, []).append((until, agent))
        former: dict[int, list[tuple[str, date | None]]] = {}
        for uc_id, code, until in conn.execute(
            "SELECT uc_id, code, until FROM uc_former_code ORDER BY until NULLS FIRST"
        ):
            former.setdefault(uc_id, []).append((code, until))
    units = []
    for uc_id, code, agent, first, last, is_open in rows:
        starts, ends = first or date.min, date.max if is_open else (last or date.max)
        shared = musd.get(uc_id, {}), tuple(agents.get(uc_id, ()))
        for old_code, until in former.get(uc_id, ()):
            units.append(Unit(old_code, agent, starts, min(ends, until or ends), *shared))
            starts = max(starts, until or starts)
        units.append(Unit(code, agent, starts, ends, *shared))
    return units
