"""One day of one UC, sent to the stand-in."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path

from ccee.client import CceeClient, Credentials
from ccee.delivery import deliver_day
from ccee.profile import load_profile
from ccee.standin.records import Unit
from ccee.standin.rules import StandIn
from ccee.standin.server import serve_in_thread
from storage.database import Database
from tests.derivation.world import AGENT
from vee.calendars import load_calendars

SECRET = "not-a-real-secret"


def sent_day(
    db: Database, uc_code: str, day: dt.date, at: dt.datetime, folder: Path
) -> list[tuple[str, Decimal]] | None:
    """Kind and kWh of the day's intervals as the stand-in has them; None: it was sent nothing."""
    journal = folder / "ccee.jsonl"
    unit = Unit(uc_code, AGENT, musd={dt.date.min: Decimal(1000)})
    profile = load_profile()
    operator = StandIn(profile, load_calendars(), {AGENT: SECRET}, [unit], lambda: at, journal)
    with serve_in_thread(operator) as serving:

        def client(agent_code: int) -> CceeClient:
            pair = Credentials(f"CONCESSIONARIA_{AGENT}", SECRET)
            return CceeClient(profile, profile.environment("standin", serving.base_url), {agent_code: pair})

        deliver_day(db, [day], profile, client, load_calendars(), now=at, run_id="d")
    entries = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    bodies = [json.loads(entry["body"]) for entry in entries if entry.get("op") == "day"]
    if not bodies:
        return None
    return [
        (record["tipoConsumo"], Decimal(str(record["consumo"])))
        for hour in bodies[-1]["horas"]
        for record in hour["medicoes"]
    ]
