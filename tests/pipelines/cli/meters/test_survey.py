"""The survey of strange meters: the way to speak, what they have, an entry that loads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from collector.lines.transports import Timeouts, parse_url
from collector.nbr14522.session import Line
from faults import RetryFault
from pipelines.cli.read.survey import survey_meter
from protocols.nbr14522.frames import ANY_METER, Addressing
from protocols.nbr14522.memory import Packing
from protocols.nbr14522.models import load_models
from protocols.nbr14522.profile import DEFAULT, OLD_3CH, P2_GENERIC, P8_GENERIC, MeterProfile
from protocols.nbr14522.survey import Survey, proposal, untried
from simulator.wires.virtual_time import run_virtual
from tests.simulator.peers.serving import SERIAL, served

pytestmark = pytest.mark.req("TR-5.1", "TR-5.6b")


def line_to(url: str) -> Callable[[MeterProfile], Line]:
    def line(profile: MeterProfile) -> Line:
        quick = replace(profile.timing, synchronise_s=1.5, max_response_s=1.0, addressed_response_s=0.6)
        return Line(
            endpoint=parse_url(url),
            profile=replace(profile, timing=quick),
            meter_serial=ANY_METER,
            reader_serial="000001",
            timeouts=Timeouts(connect_s=2.0, idle_s=5.0, total_s=60.0),
        )

    return line


def surveyed(profile: MeterProfile, address: int = 1) -> tuple[Survey, MeterProfile]:
    """The survey of a simulated meter, and the profile that its proposal gives."""

    async def run() -> Survey:
        async with served(profile) as server:
            return await survey_meter(line_to(server.url), address, lambda text: None)

    found = run_virtual(run())
    (model,) = load_models(("proposal", proposal(found))).values()
    return found, model.profile


def test_a_meter_of_the_plain_kind() -> None:
    found, proposed = surveyed(DEFAULT)
    assert found.parameters.meter_serial == SERIAL
    assert {"14", "21", "22", "23", "24", "25", "26", "27", "28", "51", "52", "80"} <= found.has
    assert found.packing is Packing.S
    assert not found.contradicts
    assert proposed.addressing is Addressing.P0
    assert proposed.packing is Packing.S
    assert {0x14, 0x20, 0x26, 0x80} <= proposed.commands
    assert not proposed.commands & {0x29, 0x30, 0x37}, "writes are not tried"
    assert {"20", "30", "63", "98/30"} <= set(untried())


def test_a_packing_unlike_the_usual_one_is_found() -> None:
    found, proposed = surveyed(replace(DEFAULT, packing=Packing.M))
    assert found.packing is Packing.M
    assert proposed.packing is Packing.M


def test_an_old_meter_lacks_what_it_lacks() -> None:
    found, proposed = surveyed(OLD_3CH)
    assert {"14", "51", "80"} <= found.lacks
    assert not proposed.commands & {0x14, 0x51, 0x80}
    assert {0x26, 0x27} <= proposed.commands


@pytest.mark.parametrize(
    ("profile", "address"), [(P8_GENERIC, 1), (replace(P2_GENERIC, address=7), 7)], ids=["P8", "P2"]
)
def test_addressed_meters_are_found(profile: MeterProfile, address: int) -> None:
    found, proposed = surveyed(profile, address)
    assert (proposed.addressing, proposed.address) == (profile.addressing, address)
    assert {"21", "26"} <= found.has


def test_nobody_there() -> None:
    with pytest.raises(RetryFault, match="no way to speak was answered"):
        asyncio.run(survey_meter(line_to("tcp://127.0.0.1:9"), 1, lambda text: None))
