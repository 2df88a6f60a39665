"""A real month of 5-minute counts, read over TCP in the ordinary way: exact, interval by interval."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from pathlib import Path

import pytest

from collector.drain import drain
from protocols.nbr14522.profiles import DEFAULT
from simulator.fleets.single import end_of, recorded_meter
from simulator.load.clock import ClockModel, SettableClock
from simulator.load.recording import read_pulses_csv
from simulator.nbr14522.line import Station
from simulator.nbr14522.meter import SimulatedMeter
from simulator.wires.faultplan import FaultPlan
from storage import queue
from tests.collector.world import add_meter, query, quick, register, served

MONTH = Path(__file__).parents[2].parent / "shared" / "data" / "pulses_5min_2016-09-28_2016-10-28.csv"
SERIAL = "00000507"


@pytest.mark.skipif(not MONTH.exists(), reason="real data absent (../shared/data)")
@pytest.mark.req("TR-5.5a", "TR-5.12a", "X-trace")
@pytest.mark.parametrize("sequence", ["whole", "verification", "missing"])
def test_a_real_month_is_read_exactly(db, sequence):
    recording = read_pulses_csv(MONTH, 0.0072)
    now = end_of(recording) + timedelta(minutes=4)
    spec = recorded_meter(
        recording, serial=SERIAL, constant=(72, 10_000), profile=DEFAULT, clock=ClockModel(now)
    )
    station = Station(SimulatedMeter(spec), SettableClock(now, is_running=False), FaultPlan())
    ready = quick(db)
    days = [(date(2016, 9, 27) + timedelta(days=n)).isoformat() for n in range(31)]

    async def work():
        async with served(station) as servers:
            register(ready, [])
            with ready.connect() as conn:
                meter_id = add_meter(conn, 1, SERIAL, servers[0].url, since="2016-09-01Z")
                request = queue.JobRequest("read", "test", meter_id, {"sequence": sequence, "days": days})
                number = queue.enqueue(conn, request)
            return (await drain(ready, [number], lambda: now, deadline_s=60))[0]

    summary = asyncio.run(work())
    assert summary.state == "done", summary
    got = query(
        ready,
        "SELECT day + slot * interval '5 minutes', u.pulses FROM reading_day r, "
        "unnest(r.pulses) WITH ORDINALITY AS u (pulses, slot) "
        "WHERE channel = 1 AND u.pulses IS NOT NULL ORDER BY 1",
    )
    # The file is read here by itself, not by the simulator's reader.
    lines = MONTH.read_text(encoding="utf-8").splitlines()[1:]
    expected = [(label, int(pulses)) for label, pulses, *_ in (line.split(",") for line in lines)]
    assert [(end.isoformat(), pulses) for end, pulses in got] == expected
    assert len(expected) == 8641
    assert sum(pulses for _, pulses in expected) == 2_373_475
