"""What a simulated serial output says at a given second."""

from __future__ import annotations

import pytest

from protocols.celesc.catalogue import meter_named
from simulator.load.curves import GeneratedLoad
from simulator.streams.output import CelescOutput

SOURCE = GeneratedLoad("supermarket", 60.0, 0.001, 5)
BORDER = 5_000_000 * SOURCE.interval_s


def started(begun_s: int) -> CelescOutput:
    return CelescOutput(SOURCE, (1, 1000), meter_named("27182"), "0000000077", begun_s, 13_579)


@pytest.mark.req("CE-A", "X-sim")
@pytest.mark.parametrize("early_s", [0, 1, 150, 299])
def test_registers_stand_as_asked_at_the_second_that_they_begin(early_s: int) -> None:
    found = started(BORDER + early_s).registers(BORDER + early_s)
    assert found == {"active": 13_579, "inductive": 0, "capacitive": 0, "active_reverse": 0}


@pytest.mark.req("CE-A", "X-sim")
def test_registers_begun_within_an_interval_count_what_follows() -> None:
    pulses = SOURCE.pulses(5_000_000, 3)[:, 0].tolist()
    counted = started(BORDER + 150).registers(BORDER + 700)["active"] - 13_579
    # Half of the first interval, all of the second, a third of the last; whole kWh are shown.
    assert counted == (pulses[0] * 150 + pulses[1] * 300 + pulses[2] * 100) // 300_000
    assert counted > 0
