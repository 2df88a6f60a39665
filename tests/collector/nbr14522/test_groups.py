"""Twelve channels of a simulated meter, by every sequence: exact, and all answers agree with one another."""

from __future__ import annotations

from datetime import timedelta

import pytest

from collector.decoded import Decoded, MeterContext
from collector.nbr14522.decode import decode_session
from collector.work.planning import SequenceName
from protocols.nbr14522.checks import CheckName, CheckResult
from protocols.nbr14522.profile import DEFAULT
from simulator.load.grid import MARKET_ZONE
from simulator.nbr14522.meter import SimulatedMeter
from tests.collector.nbr14522.twelve_channels import SERIAL, frames_of, twelve_channels


def read(meter: SimulatedMeter, sequence: SequenceName) -> Decoded:
    context = MeterContext(1, SERIAL, 1, MARKET_ZONE)
    return decode_session(frames_of(meter, sequence), DEFAULT, context)


@pytest.mark.req("TR-5.7c", "TR-5.12a", "TR-5.1")
@pytest.mark.parametrize("interval_s", [300, 900])
@pytest.mark.parametrize(
    "sequence", [SequenceName.VERIFICATION, SequenceName.RECOVERY, SequenceName.WHOLE], ids=lambda s: s.value
)
def test_twelve_channels_by_every_sequence(sequence: SequenceName, interval_s: int) -> None:
    decoded = read(twelve_channels(interval_s), sequence)
    assert {vector.channel for vector in decoded.vectors} == set(range(1, 13))
    assert {vector.interval_s for vector in decoded.vectors} == {interval_s}
    assert not decoded.issues
    assert [one.first_channel for one in decoded.sums] == [1, 4, 7, 10]
    assert all(any(one.pulses) for one in decoded.sums[:1] + decoded.sums[2:])
    verdicts = [check.verdict for check in decoded.cross_checks if check.name is CheckName.PACKING]
    if sequence is not SequenceName.WHOLE:
        assert verdicts == [CheckResult.FITS] * 4
        groups = decoded.parameters[0].values["groups"]
        assert [groups[str(number)]["quantities"][0] for number in (1, 2, 3)] == [14, 17, 20]
    if sequence is SequenceName.VERIFICATION:
        failures = [check for check in decoded.cross_checks if check.name is CheckName.FAILURES]
        span = timedelta(hours=2, minutes=50) if interval_s == 300 else timedelta(hours=2, minutes=45)
        assert {check.made for check in failures} == {span // timedelta(seconds=interval_s)}
