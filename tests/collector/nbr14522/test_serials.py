"""A meter's serial as it is printed and as it answers: one rule for addressing, holding (V10) and callers."""

import asyncio
from dataclasses import replace

import pytest

from collector.work.worklist import request_missing
from protocols.nbr14522.profile import DEFAULT, GENERIC, P8_GENERIC
from tests.collector.lines.ways import add_line, answers, listening, patience_for, unit_at
from tests.collector.world import DAY, NOW, assert_day_is_exact, collect, meter, query, quick, served

PRINTED = {"serial_prefixes": ("30",), "has_serial_check_digit": True}
REGISTERED, ANSWERED = "30-1234567-8", "01234567"


@pytest.fixture(autouse=True)
def printed(monkeypatch):
    for base in (DEFAULT, P8_GENERIC):
        monkeypatch.setitem(
            GENERIC, f"printed-{base.name}", replace(base, name=f"printed-{base.name}", **PRINTED)
        )


@pytest.mark.req("TR-5.1")
@pytest.mark.parametrize("base", [DEFAULT, P8_GENERIC], ids=["point-to-point", "addressed"])
def test_a_meter_registered_as_printed_is_addressed_and_not_held(embedded_db, base):
    station = meter(ANSWERED, profile=base)

    async def work():
        async with served(station) as (server,):
            ids = add_line(embedded_db, (REGISTERED, server.url, f"printed-{base.name}"))
            (summary,) = (await collect(quick(embedded_db))).values()
            assert summary.state == "done", summary
            return ids

    ids = asyncio.run(work())
    assert_day_is_exact(embedded_db, ids[REGISTERED], station)
    assert not query(embedded_db, "SELECT reason FROM quarantine")


@pytest.mark.req("TR-5.1")
def test_another_meter_is_still_held(embedded_db):
    station = meter("07654321")

    async def work():
        async with served(station) as (server,):
            add_line(embedded_db, (REGISTERED, server.url, "printed-default"))
            return (await collect(quick(embedded_db))).values()

    (summary,) = asyncio.run(work())
    assert (summary.state, summary.actor) == ("failed", "operator")
    assert "07654321" in summary.message
    assert "V10" in query(embedded_db, "SELECT reason FROM quarantine")[0][0]
    assert not query(embedded_db, "SELECT 1 FROM reading_day")


@pytest.mark.req("TR-5.5a")
@pytest.mark.parametrize("hello", [b"", b"\x0201234567\x03"], ids=["asked", "hello"])
def test_a_caller_is_known_by_the_serial_of_a_meter_registered_as_printed(embedded_db, tmp_path, hello):
    station = meter(ANSWERED, profile=P8_GENERIC)
    ids = add_line(embedded_db, (REGISTERED, "dialin://u7", "printed-p8-generic"))

    async def work():
        async with listening(embedded_db, tmp_path, **patience_for(hello)) as (collector, ready, requests):
            requests += request_missing(ready, [DAY], NOW, "test")
            async with unit_at(collector, station, hello):
                (summary,) = (await answers(ready, requests)).values()
                assert summary.state == "done", summary

    asyncio.run(work())
    assert_day_is_exact(embedded_db, ids[REGISTERED], station)
