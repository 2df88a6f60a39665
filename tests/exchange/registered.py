"""A distributor that is all in registry files: file -> database -> derivation -> delivery to the stand-in."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from ccee.client import CceeClient, Credentials
from ccee.delivery import deliver_day
from ccee.profile import load_profile
from ccee.sending import DeliverySummary
from ccee.standin.register import units_from_registry
from ccee.standin.rules import StandIn
from ccee.standin.server import serve_in_thread
from derivation.run import derive
from exchange.registry_rules import RULES
from storage.database import Database
from storage.registry import ImportResult, load_registry
from tests.derivation.world import DAY, NOW, put_readings
from tests.storage.registry_sheets import as_folder
from vee.calendars import load_calendars

CODE, NEW_CODE = "001347925802810", "000001000000471"
AGENT, OTHER_AGENT = 4711, 4712
PROFILE = load_profile()
Sheets = dict[str, list[list[str]]]

SHEETS: Sheets = {
    "distributors": [["code", "name"], ["D1", "Distribuidora"]],
    "agents": [
        ["code", "name", "distributor_code"],
        [str(AGENT), "Agente", "D1"],
        [str(OTHER_AGENT), "Outro agente", "D1"],
    ],
    "ucs": [["code", "name", "agent_code", "aliases"], [CODE, "Padaria", str(AGENT), ""]],
    "status": [["uc_code", "status", "valid_from"], [CODE, "active", "2026-01-01"]],
    "musd": [["uc_code", "musd_kw", "confirmed_on"], [CODE, "1000", "2026-11-02"]],
    "points": [["code", "uc_code"], ["P1", CODE]],
    "meter_models": [["code", "profile"], ["M", "default"]],
    "meters": [["serial", "model_code"], ["00000001", "M"], ["00000002", "M"]],
    "installations": [
        ["meter_serial", "point_code", "role", "pulse_energy_num", "pulse_energy_den", "valid_from",
         "valid_to"],
        ["00000001", "P1", "main", "1", "100", "2026-01-01", ""],
    ],
}  # fmt: skip


def load(db: Database, folder: Path, sheets: Mapping[str, Sequence[Sequence[str]]]) -> ImportResult:
    """Import these sheets from a folder of their own."""
    made = folder / f"in{len(list(folder.iterdir()))}"
    return load_registry(db, as_folder(made, {n: [list(r) for r in rows] for n, rows in sheets.items()}),
                         rules=RULES)  # fmt: skip


def read(
    db: Database, pulses: Mapping[str, Sequence[int | None]], day: dt.date = DAY, at: dt.datetime = NOW
) -> None:
    """Readings of a day by serial, as a session would bring them."""
    with db.connect() as conn:
        ids = dict(conn.execute("SELECT serial, id FROM meter").fetchall())
    put_readings(db, [(ids[serial], day, values) for serial, values in pulses.items()], at)


def derived(db: Database, *days: dt.date) -> None:
    for day in days or (DAY,):
        derive(db, day, day, as_of=NOW, run_id="t")


class Operator:
    """The stand-in, with the register that the database has now; what it was sent stays."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.rules = StandIn(
            PROFILE, load_calendars(), {AGENT: "s", OTHER_AGENT: "s"}, units_from_registry(db), lambda: NOW
        )

    def deliver(self, *days: dt.date) -> DeliverySummary:
        self.rules.units = {unit.code: unit for unit in units_from_registry(self.db)}
        with serve_in_thread(self.rules) as serving:

            def client(agent: int) -> CceeClient:
                environment = PROFILE.environment("standin", serving.base_url)
                return CceeClient(PROFILE, environment, {agent: Credentials(f"CONCESSIONARIA_{agent}", "s")})

            return deliver_day(
                self.db, list(days or (DAY,)), PROFILE, client, load_calendars(), now=NOW, run_id="t"
            )

    def held(self, code: str, day: dt.date = DAY) -> tuple[int, list[Fraction]]:
        """Agent and 5-minute values of a day as CCEE has them."""
        stored = self.rules.days[code, day]
        values = [value for hour in sorted(stored.hours) for value, _ in stored.hours[hour]]
        return stored.agent, [Fraction(value) for value in values]


def query(db: Database, text: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with db.connect() as conn:
        return conn.execute(text, parameters).fetchall()
