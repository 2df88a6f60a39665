"""Loads: pure functions of seed and interval, lifelike, and never more than a word can hold."""

from __future__ import annotations

from datetime import date, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.load.curves import MAX_PULSES, GeneratedLoad, LoadEvent
from simulator.load.grid import day_number
from simulator.load.shapes import SHAPES

PER_DAY = 288


def load(shape: str = "industry_1_shift", seed: int = 1, **changes: object) -> GeneratedLoad:
    return GeneratedLoad(shape, 120.0, 0.036, seed, **changes)


def day_kwh(source: GeneratedLoad, day: date) -> float:
    return float(source.pulses(day_number(day) * PER_DAY, PER_DAY)[:, 0].sum() * source.kwh_per_pulse)


@pytest.mark.req("X-sim")
@settings(max_examples=60, deadline=None)
@given(
    shape=st.sampled_from(sorted(SHAPES)),
    seed=st.integers(0, 2**40),
    first=st.integers(10_000 * PER_DAY, 30_000 * PER_DAY),
    skip=st.integers(0, 200),
    count=st.integers(1, 200),
)
def test_any_piece_of_a_load_equals_the_same_piece_of_a_longer_one(
    shape: str, seed: int, first: int, skip: int, count: int
) -> None:
    source = load(shape, seed)
    whole = source.pulses(first, skip + count)
    assert np.array_equal(source.pulses(first + skip, count), whole[skip:])
    assert whole.min() >= 0
    assert whole.max() <= MAX_PULSES


@pytest.mark.req("X-sim")
@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_a_year_of_each_shape_is_lifelike(shape: str) -> None:
    source = load(shape)
    counts = source.pulses(day_number(date(2026, 1, 1)) * PER_DAY, 365 * PER_DAY)
    kw = counts[:, 0] * source.kwh_per_pulse * 12
    assert 0.85 * source.peak_kw < kw.max() < 1.15 * source.peak_kw
    assert 0.1 < kw.mean() / kw.max() < 0.95
    assert counts[:, 1].max() > 0
    assert (counts[:, 1:] > 0).all(axis=1).sum() == 0, "inductive and capacitive at once"
    step = np.abs(np.diff(kw))
    assert np.median(step) < 0.1 * source.peak_kw, "a load does not jump at every interval"


def test_weekends_and_national_holidays_dip() -> None:
    source = load("industry_1_shift")
    working, saturday, sunday = (day_kwh(source, date(2026, 11, d)) for d in (18, 14, 8))
    holiday = day_kwh(source, date(2026, 11, 20))  # Consciência Negra, a Friday
    assert working > 1.5 * saturday > 2 * sunday
    assert holiday < 0.4 * working


def test_an_event_holds_the_load_for_its_hour_only() -> None:
    event = LoadEvent(datetime(2026, 11, 18, 14), datetime(2026, 11, 18, 15), 200.0)
    first = day_number(date(2026, 11, 18)) * PER_DAY
    plain, forced = load().pulses(first, PER_DAY), load(events=(event,)).pulses(first, PER_DAY)
    hour = slice(14 * 12, 15 * 12)
    assert forced[hour, 0].sum() * 0.036 == pytest.approx(200.0, rel=0.01)
    forced[hour] = plain[hour]
    assert np.array_equal(forced, plain)


def test_rounding_to_pulses_keeps_the_energy() -> None:
    source = load("hospital")
    first = day_number(date(2026, 5, 4)) * PER_DAY
    kw, _ = source.power(first, 30 * PER_DAY)
    counted = source.pulses(first, 30 * PER_DAY)[:, 0].sum() * source.kwh_per_pulse
    assert counted == pytest.approx(kw.sum() / 12, rel=1e-4)
