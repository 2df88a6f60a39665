"""The constants and totals that a DLMS meter states of itself against the registry and the session before."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from storage.database import Database
from tests.collector.dlms.peers import world as dlms
from tests.collector.dlms.peers.world import catalogue as catalogue
from tests.collector.dlms.peers.world import secrets as secrets
from tests.collector.world import DAY, collect, query
from tests.pipelines.cli.command import smf

pytestmark = [pytest.mark.slow, pytest.mark.req("TR-2b", "X-acquire")]

TC_200_5 = {"1-0:0.4.2.255": 200, "1-0:0.4.5.255": 5}


def holds(db: Database) -> set[tuple[object, ...]]:
    return set(query(db, "SELECT rule, reason, channel FROM reading_hold WHERE state = 'held'"))


def counted(db: Database) -> list[tuple[object, ...]]:
    return query(db, "SELECT channel FROM reading_day WHERE day = %s ORDER BY channel", DAY)


def test_ratios_that_the_meter_was_told_of_are_those_of_the_registry(
    embedded_db: Database, secrets: Path
) -> None:
    db, _, _, _ = dlms.scenario(embedded_db, secrets, spec=replace(dlms.SPEC, ratios=TC_200_5))

    assert holds(db) == {("V11", "constant", 1)}
    ((evidence,),) = query(db, "SELECT DISTINCT evidence FROM reading_hold")
    assert (evidence["stated_ratio"], evidence["registered_ratio"]) == ("40", "1")
    assert (1,) not in counted(db)


def test_ratios_that_fit_are_kept_with_the_session(embedded_db: Database, secrets: Path) -> None:
    spec = replace(dlms.SPEC, ratios={"1-0:0.4.2.255": 5, "1-0:0.4.5.255": 5})
    db, way, meter_id, _ = dlms.scenario(embedded_db, secrets, spec=spec)

    dlms.assert_exact(db, meter_id, way)
    assert query(db, "SELECT statement ->> 'ratio' FROM session") == [("1",)]


@pytest.mark.case("A10")
def test_a_constant_of_the_registry_is_held_until_the_meters_is_accepted(
    embedded_db: Database, secrets: Path, tmp_path: Path
) -> None:
    ready = dlms.patient(embedded_db, secrets)

    async def work() -> None:
        async with dlms.server() as way:
            meter_id = dlms.registered(ready, way, "dlms-test")
            with ready.connect() as conn:
                conn.execute(
                    "UPDATE installation SET pulse_energy_num = 18, valid = tstzrange('2026-09-01Z', NULL) "
                    "WHERE meter_id = %s", [meter_id],
                )  # fmt: skip
            await collect(ready)

    asyncio.run(work())
    assert holds(ready) == {("V11", "constant", 1)}
    with ready.connect() as conn:
        # The model of the test is in no catalogue of the programs.
        conn.execute("UPDATE meter_model SET profile = 'dlms-nbr16968'")

    def told(*words: str) -> dict[str, object]:
        done = smf("registry", *words, "--json", url=ready.url, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        document: dict[str, object] = json.loads(done.stdout)
        return document

    exported = smf("registry", "export", "all", url=ready.url, cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    (proposal,) = told("import", "all")["proposed_constants"]  # type: ignore[misc]
    assert proposal["proposed"] == {"pulse_energy_num": 9, "pulse_energy_den": 1250}

    refused = smf(
        "registry", "accept-constant", dlms.SERIAL, "--why", "display", "--from", "2026-08-01",
        url=ready.url, cwd=tmp_path,
    )  # fmt: skip
    assert (refused.returncode, "not after the start" in refused.stderr) == (11, True)
    told("accept-constant", dlms.SERIAL, "--why", "display", "--from", "2026-11-10", "--as", "ana")
    assert query(
        ready,
        "SELECT pulse_energy_num, pulse_energy_den, lower(valid)::date, upper(valid)::date FROM installation "
        "ORDER BY valid",
    ) == [
        (18, 1250, date(2026, 9, 1), date(2026, 11, 10)),
        (9, 1250, date(2026, 11, 10), None),
    ]
    ((actor, after),) = query(
        ready, "SELECT actor, after FROM audit WHERE action = 'registry.accept_constant'"
    )
    assert (actor, after["kwh_per_pulse"], after["why"]) == ("ana", "9/1250", "display")
    assert told("import", "all")["proposed_constants"] != []  # the old file brings the old constant back
    again = smf("registry", "accept-constant", "99", "--why", "x", url=ready.url, cwd=tmp_path)
    assert "no session states another constant" in again.stderr


@pytest.mark.parametrize(
    ("offset", "held"),
    [
        (0, set()),
        # The registers stand where they never can: below, and far above what the plant takes in that time.
        (-(10**5), {("", "total", channel) for channel in (1, 2, 3)}),
        (10**9, {("", "total", channel) for channel in (1, 2, 3)}),
    ],
)
def test_a_total_goes_on_from_the_session_before(
    embedded_db: Database, secrets: Path, offset: int, held: set[tuple[object, ...]]
) -> None:
    spec = replace(dlms.SPEC, with_totals=True, total_offset=10**6)
    ready = dlms.patient(embedded_db, secrets)

    async def read(change: int) -> None:
        async with dlms.server(replace(spec, total_offset=spec.total_offset + change)) as way:
            if not query(ready, "SELECT FROM meter"):
                dlms.registered(ready, way, "dlms-test")
                with ready.connect() as conn:
                    conn.execute("INSERT INTO uc_musd (uc_id, valid, musd_kw) SELECT id, '(,)', 300 FROM uc")
            else:
                with ready.connect() as conn:
                    conn.execute("DELETE FROM reading_day")
                    conn.execute("UPDATE unit SET url = %s", [way.url])
            await collect(ready)

    asyncio.run(read(0))
    assert (counted(ready), holds(ready)) == ([(1,), (2,), (3,)], set())
    ((totals,),) = query(ready, "SELECT statement -> 'totals' FROM session")
    assert [one["channel"] for one in totals] == [1, 2, 3]

    asyncio.run(read(offset))

    assert holds(ready) == held
    assert counted(ready) == ([] if held else [(1,), (2,), (3,)])
