"""What of a session may become readings: clock, constant, interval, and what has not ended yet."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from fractions import Fraction

import numpy as np
import pytest

from collector.decoded import (
    ClockDoubt,
    ClockFacts,
    ClockReading,
    DayVector,
    Decoded,
    MeterContext,
    OutageRow,
)
from collector.judging import judge
from protocols.acquisition import Holds, StatedColumn, Statement
from storage.review.holds import HoldReason
from storage.sessions import Installation
from storage.settings import AcquisitionSettings

ZONE = timezone(timedelta(hours=-3))
DAY = date(2026, 11, 20)
NOW = datetime(2026, 11, 20, 13, 2, tzinfo=UTC)  # 10:02 at the meter
SITE = Installation(Fraction(9, 1250), Fraction(24), True, 300, datetime(2026, 11, 1, tzinfo=UTC))
CONTEXT = MeterContext(7, "10000001", 1, ZONE, SITE)
LIMITS = AcquisitionSettings()


def vector(day=DAY, slots=120, interval_s=300, quantity=1, channel=1):
    count = 86_400 // interval_s
    return DayVector(channel, day, quantity, interval_s, np.ones(count, np.int32), np.arange(count) < slots)


def session(*vectors, drift_s=0.0, constant=Fraction(9, 1250), **changes):
    column = StatedColumn(1, 1, "channel 1", Holds.INCREMENT, "", constant=constant and constant * 1000)
    clock = ClockReading(NOW + timedelta(seconds=drift_s), drift_s, 0.1)
    return Decoded(vectors=vectors, clock=clock, statement=Statement((column,)), **changes)


def judged(decoded, context=CONTEXT):
    result, why, _ = judge(decoded, context, LIMITS, NOW)
    return result, [(one.reason, one.likely_shift_s) for one in result.held], why


@pytest.mark.parametrize(
    ("drift_s", "shift_s"),
    [(0.0, None), (600.0, None), (-3400.0, None), (3601.0, -3600), (-3590.0, 3600), (7300.0, -7200)],
)
def test_a_clock_beyond_the_ceiling_or_whole_hours_off_is_held(drift_s, shift_s):
    result, held, why = judged(session(vector(slots=100), drift_s=drift_s, outages=(OutageRow(NOW, None),)))
    assert held == ([] if shift_s is None else [(HoldReason.CLOCK, shift_s)])
    assert bool(why) is bool(held)
    # A failure at a wrong time would make zeros measured.
    assert bool(result.outages) is not bool(held)


def test_a_clock_that_disagrees_with_itself_is_held_whatever_its_drift():
    facts = ClockFacts("07ea", doubts=(ClockDoubt.DEVIATION,), likely_shift_s=21_600)
    _, held, why = judged(session(vector(slots=100), clock_facts=facts))
    assert held == [(HoldReason.CLOCK, 21_600)]
    assert "another deviation from UTC" in why


@pytest.mark.parametrize(
    ("stated", "includes_ratios", "is_held"),
    [
        (Fraction(9, 1250), True, False),
        (Fraction(9, 1250) / 24, True, False),  # behind its own transformers
        (Fraction(9, 1250) * 24, True, True),
        (Fraction(9, 1250) * 24, False, False),
        (Fraction(18, 1250), True, True),
        (None, True, False),
    ],
)
def test_a_constant_fits_the_registry_at_the_point_or_at_the_meter(stated, includes_ratios, is_held):
    context = replace(CONTEXT, installed=replace(SITE, includes_ratios=includes_ratios))
    _, held, _ = judged(session(vector(slots=100), constant=stated), context)
    assert held == ([(HoldReason.CONSTANT, None)] if is_held else [])


def test_older_days_were_counted_under_an_installation_of_their_own():
    old = vector(date(2026, 10, 20), 288)
    result, held, why = judged(session(old, vector(slots=100), constant=Fraction(1)))
    assert ([one.day for one in result.vectors], held, why) == ([old.day], [(HoldReason.CONSTANT, None)], "")


def test_of_two_lengths_the_registered_one_passes_and_the_other_is_named():
    quarter, five = vector(slots=20, interval_s=900), vector(slots=100)
    result, held, _ = judged(session(quarter, five))
    assert ([one.interval_s for one in result.vectors], held) == ([300], [(HoldReason.INTERVAL, None)])
    assert any("intervals of 900 s" in issue.reason for issue in result.issues)


def test_another_quantity_on_the_active_channel_is_held():
    _, held, why = judged(session(vector(slots=100, quantity=3)))
    assert held == [(HoldReason.QUANTITY, None)]
    assert "quantity 3" in why


def test_what_has_not_ended_is_left_for_later_or_held():
    # 100 s fast: 10:05 has ended by the meter's clock; nothing is lost, it is read again.
    result, held, _ = judged(session(vector(slots=121), drift_s=100.0))
    assert (int(result.vectors[0].present.sum()), held) == (120, [])
    assert result.statement.decisions[-1].count == 1
    # A file has no clock: what it says of the future waits for a person.
    result, held, _ = judged(replace(session(vector(slots=200)), clock=None))
    assert (int(result.vectors[0].present.sum()), held) == (120, [(HoldReason.FUTURE, None)])
    _, held, why = judged(replace(session(vector(DAY + timedelta(days=9), 288)), clock=None))
    assert (held, bool(why)) == ([(HoldReason.FUTURE, None)], True)
