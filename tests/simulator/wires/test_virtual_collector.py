"""The collector runs unchanged in simulated time, over lines as bad as real ones, with a real database."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from collector.drain import drain
from collector.lines.transports import Timeouts, parse_url
from collector.nbr14522.sequences import fixed
from collector.nbr14522.session import Line, read_meter
from collector.work.worklist import request_missing
from protocols.nbr14522.messages import LimitUnit, request_for
from protocols.nbr14522.profiles import DEFAULT, P8_GENERIC
from simulator.nbr14522.server import TcpMeterServer
from simulator.wires.faultplan import FaultPlan
from simulator.wires.impairment import QUALITIES
from simulator.wires.virtual_time import run_virtual, virtual_loop
from tests.collector import world


@pytest.mark.req("X-sim")
@pytest.mark.parametrize("profile", [DEFAULT, P8_GENERIC], ids=lambda profile: profile.name)
def test_one_session_takes_its_time_and_no_more(profile) -> None:
    async def main() -> float:
        station = world.meter(plan=FaultPlan(quality=QUALITIES["satellite"], seed=2), profile=profile)
        blocks = []
        async with TcpMeterServer(station, enq_period_s=0.5) as server:
            line = Line(parse_url(server.url), profile, "10000001", "000001", Timeouts())
            script = fixed([request_for(0x51, unit=LimitUnit.DAYS, amount=1), request_for(0x52)])
            now = virtual_loop().clock(world.NOW)
            result = await read_meter(line, script, lambda *_: None, now, blocks.append)
        assert (result.outcome, result.answers) == ("complete", 1 + 6)
        assert [block.code for block in blocks] == [0x51] + 6 * [0x52]
        assert blocks[0].words_current == 3 * 288
        return virtual_loop().time()

    # Seven exchanges of two ways at 0.65 s each.
    assert 7 * 2 * 0.65 <= run_virtual(main()) < 60


@pytest.mark.req("X-sim", "TR-5.12a")
def test_a_fleet_on_bad_radio_is_collected_into_a_database(embedded_db) -> None:
    db = world.quick(embedded_db, connect_timeout_s=30.0, lease_s=600.0)

    async def main():
        async with AsyncExitStack() as stack:
            stations, servers = [], []
            for number in range(12):
                plan = FaultPlan(quality=QUALITIES["gprs" if number % 2 else "gprs-bad"], seed=number)
                profile = P8_GENERIC if number % 3 else DEFAULT
                station = world.meter(serial=f"100000{number:02}", plan=plan, profile=profile)
                stations.append(station)
                servers.append(await stack.enter_async_context(TcpMeterServer(station, enq_period_s=1.0)))
            ids = world.register(db, servers)
            asked = request_missing(db, [world.DAY], world.NOW, "test")
            summaries = await drain(db, asked, lambda: world.NOW, deadline_s=7_200)
            return stations, ids, {one.serial: one for one in summaries}

    stations, ids, summaries = run_virtual(main())
    for station in stations:
        serial = station.meter.spec.serial
        if summaries[serial].state == "done":
            assert world.stored(db, ids[serial]) == world.truth(station)[:, 0].tolist()
    done = sum(one.state == "done" for one in summaries.values())
    assert done >= 10, [(one.serial, one.state, one.attempts) for one in summaries.values()]
