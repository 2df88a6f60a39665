"""The client before a peer that nobody here wrote: each way to misbehave ends as its table says."""

import asyncio
import os
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from ccee.delivery import deliver_day
from ccee.profile import Action, load_profile
from ccee.replies import Outcome, SendResult
from ccee.standin.records import Unit
from ccee.standin.rules import StandIn
from ccee.standin.server import serve_in_thread
from tests.ccee.conftest import (
    AGENT,
    DAY,
    NOW,
    SECRET,
    UCS,
    client_factory,
    client_of,
    day_body,
    derive,
    quick,
    register,
    rows,
)
from vee.calendars import load_calendars

PEERS = Path(os.environ.get("SMF_PEERS", Path(__file__).parents[3] / "shared" / "peers"))
pytestmark = pytest.mark.skipif(
    not (PEERS / "rude_ccee.py").is_file(), reason="rude peers absent (../shared/peers)"
)
# They hold the line until this side's patience ends, or answer after it.
HELD_S = 5.0
# One try each: what is told apart is the first reply, not what the retries come to.
HASTY = quick(max_attempts=1, timeout_s=2, min_spacing_ms=0)


@pytest.fixture(scope="module")
def rude():
    sys.path.insert(0, str(PEERS))
    try:
        import rude_ccee

        yield rude_ccee
    finally:
        sys.path.remove(str(PEERS))


def operator(codes) -> StandIn:
    units = [Unit(code, AGENT, musd={date.min: Decimal(30)}) for code in codes]
    return StandIn(load_profile(), load_calendars(), {AGENT: SECRET}, units, lambda: NOW, None)


def class_of(result: SendResult) -> str:
    """The peer's word for what the client made of its first reply."""
    first = result.attempts[0]
    if first.action is Action.STOP_AGENT:
        return "stop"
    return {
        Outcome.ACCEPTED: "accepted",
        Outcome.REJECTED: "rejected",
        Outcome.TRANSIENT: "retry",
        Outcome.UNKNOWN: "unknown",
    }[first.outcome]


@pytest.mark.req("TR-2g")
def test_each_rude_reply_to_a_send_is_taken_for_what_it_is(rude):
    codes = {name: f"{number:015d}" for number, name in enumerate(sorted(rude.KINDS), 1)}

    async def one(serving, kind) -> tuple[str, str, str]:
        async with rude.Front(serving.base_url, rude.Plan(), hold_s=HELD_S, late_s=3.0) as front:
            front.begin(rude.Plan.read(kind.name, "", ""))
            serving_front = type("Front", (), {"base_url": front.url})
            async with client_of(serving_front, HASTY) as client:
                result = await client.send(AGENT, day_body(codes[kind.name]))
            assert front.stolen == []
            assert front.injected == 0
            return kind.name, class_of(result), result.attempts[0].error or ""

    async def run(serving):
        slots = asyncio.Semaphore(8)

        async def in_turn(kind):
            async with slots:
                return await one(serving, kind)

        return await asyncio.gather(*(in_turn(kind) for kind in rude.KINDS.values()))

    with serve_in_thread(operator(codes.values())) as serving:
        ends = asyncio.run(run(serving))
    wrong = [
        f"{name}: {end}, not {rude.KINDS[name].right} ({error})"
        for name, end, error in ends
        if end not in (rude.KINDS[name].right, *rude.KINDS[name].also)
    ]
    assert wrong == []


@pytest.mark.req("TR-2g")
@pytest.mark.parametrize(
    "kind",
    [
        "200-html",
        "404-html",
        "404-json",
        "400-unknown-code",
        "429-past",
        "201-nul-receipt",
        "201-long-receipt",
        "header-nul",
        "504-stored",
        "reset-stored",
        "token-expires-text",
        "token-newline",
        "302-loop",
    ],
)
def test_once_it_is_polite_again_all_is_delivered_once(rude, embedded_db, kind):
    ids = register(embedded_db)
    for code in UCS:
        derive(embedded_db, ids[code])
    profile = quick(timeout_s=1, min_spacing_ms=0)

    def deliver(front_url: str, run_id: str):
        serving_front = type("Front", (), {"base_url": front_url})
        make = client_factory(serving_front, profile)
        return deliver_day(embedded_db, [DAY], profile, make, load_calendars(), now=NOW, run_id=run_id)

    async def run(serving):
        async with rude.Front(serving.base_url, rude.Plan(), hold_s=HELD_S) as front:
            front.begin(rude.Plan.read(kind, "", ""))
            first = await asyncio.to_thread(deliver, front.url, "rude")
            front.begin(rude.Plan())
            again = [await asyncio.to_thread(deliver, front.url, f"polite {n}") for n in (1, 2)]
            third = await asyncio.to_thread(deliver, front.url, "nothing left")
            return first, again, third, front.stolen, front.injected

    with serve_in_thread(operator(UCS)) as serving:
        _, _, third, stolen, injected = asyncio.run(run(serving))
        stored = {uc for uc, _ in serving.operator.days}
    assert third.sent == 0
    assert (stolen, injected) == ([], 0)
    assert stored == set(UCS)
    states = rows(embedded_db, "SELECT DISTINCT state FROM submission_state")
    assert states == [("aceito",)]
