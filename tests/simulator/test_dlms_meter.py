"""The clock of a simulated DLMS meter."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from protocols.dlms.apdu import AccessResult, Attribute
from protocols.dlms.clock import decode_date_time
from simulator.dlms.meter import AccessRefusal, DlmsMeter, DlmsSpec
from simulator.load.clock import ClockModel
from simulator.load.curves import GeneratedLoad
from simulator.load.grid import MARKET_ZONE
from simulator.nbr14522.meter import SimulatedMeter
from simulator.nbr14522.spec import MeterSpec

pytestmark = pytest.mark.req("X-sim")

NOW = datetime(2026, 11, 21, 2, 59, 30, tzinfo=UTC)  # 23:59:30 of the 20th at the meter


def meter(**spec):
    source = GeneratedLoad("supermarket", 120.0, 0.036, 7)
    one = SimulatedMeter(MeterSpec("10000001", source, datetime(2026, 9, 1, 10), ClockModel(NOW)))
    return DlmsMeter(one, DlmsSpec(**spec))


def shown(dlms, now=NOW):
    value = dlms.get(Attribute(8, "0-0:1.0.0.255", 2), 0, None, now).value
    return decode_date_time(value, MARKET_ZONE).at


@pytest.mark.parametrize("seconds", [-900, -30, 31, 900])
def test_shift_time_moves_the_clock_by_so_much_over_midnight_too(seconds):
    dlms = meter()
    rows = len(dlms.meter.whole_memory(NOW + timedelta(hours=1)))
    dlms.shift_clock(seconds, NOW)
    assert shown(dlms) == NOW + timedelta(seconds=seconds)
    assert dlms.clock_moves == [seconds]
    later = NOW + timedelta(hours=1)
    assert shown(dlms, later) == later + timedelta(seconds=seconds)
    assert abs(len(dlms.meter.whole_memory(later)) - rows) <= 3


def test_a_time_is_set_with_its_own_deviation():
    dlms = meter()
    dlms.set_clock(datetime(2026, 11, 22, 12, tzinfo=UTC), NOW)
    assert shown(dlms) == datetime(2026, 11, 22, 9, tzinfo=MARKET_ZONE)


@pytest.mark.parametrize("seconds", [-901, 901])
def test_shift_time_takes_a_quarter_of_an_hour_at_most(seconds):
    dlms = meter()
    with pytest.raises(AccessRefusal):
        dlms.shift_clock(seconds, NOW)
    assert shown(dlms) == NOW


def test_what_is_to_be_refused_is_refused():
    dlms = meter(refuses_shift=AccessResult.OBJECT_UNDEFINED)
    with pytest.raises(AccessRefusal) as refused:
        dlms.shift_clock(10, NOW)
    assert refused.value.code is AccessResult.OBJECT_UNDEFINED
    dlms.spec = replace(dlms.spec, refuses_set=AccessResult.READ_WRITE_DENIED)
    with pytest.raises(AccessRefusal):
        dlms.set_clock(NOW, NOW)
    assert (shown(dlms), dlms.clock_moves) == (NOW, [])
