"""A stand-in on a real socket, a register, and a client towards it."""

import asyncio
import json
import random
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import httpx
import pytest

from ccee.body import render
from ccee.client import CceeClient, Credentials
from ccee.profile import Profile, load_profile
from ccee.standin import Serving, serve_in_thread
from ccee.standin_rules import StandIn, Unit
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


def control(serving: Serving, **change) -> dict:
    reply = httpx.post(f"{serving.base_url}/__control", json=change)
    assert reply.status_code == 200, reply.text
    return reply.json()


def month_of(serving: Serving, uc: str, month: str = "2026-11") -> dict:
    return json.loads(httpx.get(f"{serving.base_url}/__contabilizacao/{uc}/{month}").content)
