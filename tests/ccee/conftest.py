"""A stand-in on a real socket, a register, and a client towards it."""

import asyncio
import json
import random
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial

import httpx
import pytest

from ccee.body import render
from ccee.client import CceeClient, Credentials
from ccee.delivery import deliver_day
from ccee.profile import Profile, load_profile
from ccee.standin.records import Unit
from ccee.standin.rules import StandIn
from ccee.standin.server import Serving, serve_in_thread
from vee.calendars import load_calendars

AGENT = 77001
SECRET = "not-a-real-secret"
DAY = date(2026, 11, 20)
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
UCS = [f"{number:015d}" for number in range(1, 7)]


def make_operator(profile: Profile | None = None, journal=None, now=lambda: NOW) -> StandIn:
    units = [Unit(code, AGENT, musd={date.min: Decimal(30)}) for code in UCS]
    return StandIn(profile or load_profile(), load_calendars(), {AGENT: SECRET}, units, now, journal)


@pytest.fixture
def standin() -> Iterator[Serving]:
    with serve_in_thread(make_operator()) as serving:
        yield serving


class Waits(list):
    """A sleep that only writes down for how long."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)
        await asyncio.sleep(0)


@asynccontextmanager
async def client_of(serving: Serving, profile: Profile | None = None, secret: str = SECRET, **injected):
    chosen = profile or load_profile()
    environment = chosen.environment("standin", serving.base_url)
    pair = Credentials(f"CONCESSIONARIA_{AGENT}", secret)
    injected.setdefault("sleep", Waits())
    injected.setdefault("rng", random.Random(1))
    async with CceeClient(chosen, environment, {AGENT: pair}, **injected) as client:
        yield client


def quick(profile: Profile | None = None, **limits) -> Profile:
    """The profile with other limits."""
    base = profile or load_profile()
    return replace(base, send=replace(base.send, limits=replace(base.send.limits, **limits)))


def day_body(uc: str = UCS[0], value: int = 1000, day: date = DAY, agent: int = AGENT) -> bytes:
    return render(load_profile(), uc, agent, day, [value] * 288, [False] * 288)


# A plain connection on this machine needs no certificates; a busy one needs patience.
_LOCAL = {"timeout": 60.0, "verify": False}
http_get, http_post = partial(httpx.get, **_LOCAL), partial(httpx.post, **_LOCAL)


def control(serving: Serving, **change) -> dict:
    reply = http_post(f"{serving.base_url}/__control", json=change)
    assert reply.status_code == 200, reply.text
    return reply.json()


def month_of(serving: Serving, uc: str, month: str = "2026-11") -> dict:
    return json.loads(http_get(f"{serving.base_url}/__contabilizacao/{uc}/{month}").content)


# --- the database side -----------------------------------------------------------------------------------


def register(db, codes=UCS, agent=AGENT, musd_kw=30) -> dict[str, int]:
    """One distributor with one agent and active units; returns ids by code."""
    with db.connect() as conn:
        distributor = conn.execute(
            "INSERT INTO distributor (code, name) VALUES (%s, 'D') RETURNING id", [f"D{agent}"]
        ).fetchone()[0]
        agent_id = conn.execute(
            "INSERT INTO agent (code, name, distributor_id) VALUES (%s, 'A', %s) RETURNING id",
            [agent, distributor],
        ).fetchone()[0]
        ids = {}
        for code in codes:
            uc_id = conn.execute(
                "INSERT INTO uc (code, name, agent_id) VALUES (%s, 'U', %s) RETURNING id", [code, agent_id]
            ).fetchone()[0]
            conn.execute("INSERT INTO uc_status VALUES (%s, '[2025-01-01,)', 'active', '')", [uc_id])
            conn.execute("INSERT INTO uc_musd VALUES (%s, '[2025-01-01,)', %s, NULL)", [uc_id, musd_kw])
            ids[code] = uc_id
    return ids


def derive(
    db, uc_id, values=1000, day=DAY, version=1, state="ready", adjusted=(), cause="", musd_kw=30
) -> None:
    """A CCEE layer and an outcome, as the derivation leaves them."""
    milli = [values] * 288 if isinstance(values, int) else list(values)
    origin = bytes(0 if value is None else 3 if slot in adjusted else 1 for slot, value in enumerate(milli))
    with db.connect() as conn:
        conn.execute(
            "INSERT INTO series_day (uc_id, layer, day, version, interval_s, denominator, numerators, "
            "origin, reason, input_version, derivation_id, run_id, content_hash) "
            "VALUES (%s, 5, %s, %s, 300, 1000, %s, %s, %s, %s, 1, 'derive', %s)",
            [uc_id, day, version, milli, origin, bytes(288), version, origin],
        )
        conn.execute(
            "INSERT INTO uc_day_outcome (uc_id, day, state, cause, measured, backup, estimated, edited, "
            "missing, energy_kwh, run_id) VALUES (%s, %s, %s, %s, 288, 0, 0, 0, 0, 0, 'derive') "
            "ON CONFLICT (uc_id, day) DO UPDATE SET state = excluded.state, cause = excluded.cause",
            [uc_id, day, state, cause],
        )
        conn.execute("DELETE FROM musd_hour WHERE uc_id = %s AND day = %s", [uc_id, day])
        for hour in range(24):
            kwh = Decimal(sum(value or 0 for value in milli[12 * hour : 12 * hour + 12])) / 1000
            if kwh > musd_kw:
                limit = Decimal(musd_kw) * Decimal("1.25")
                conn.execute(
                    "INSERT INTO musd_hour VALUES (%s, %s, %s, %s, %s, %s, %s, 'derive')",
                    [uc_id, day, hour + 1, kwh, musd_kw, limit, kwh > limit],
                )


def client_factory(serving: Serving, profile: Profile | None = None, secret: str = SECRET):
    def make(agent_code: int) -> CceeClient:
        chosen = profile or load_profile()
        environment = chosen.environment("standin", serving.base_url)
        pair = Credentials(f"CONCESSIONARIA_{agent_code}", secret)
        return CceeClient(chosen, environment, {agent_code: pair}, sleep=Waits(), rng=random.Random(1))

    return make


def deliver(db, serving, days=(DAY,), profile=None, now=NOW, run_id="run", **more):
    secret = more.pop("secret", SECRET)
    return deliver_day(
        db,
        list(days),
        profile or load_profile(),
        client_factory(serving, profile, secret),
        load_calendars(),
        now=now,
        run_id=run_id,
        **more,
    )


def rows(db, query, *parameters):
    with db.connect() as conn:
        return conn.execute(query, parameters or None).fetchall()
