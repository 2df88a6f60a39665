"""Channel groups: up to twelve channels that agree with each other, with 5- and 15-minute memories."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faults import DeveloperFault
from protocols.nbr14522.messages import decode_request, decode_response, request_for
from protocols.nbr14522.profiles import DEFAULT
from simulator.load.channels import NAMES, QUANTITIES, channel_load
from simulator.load.clock import ClockModel
from simulator.load.curves import MAX_PULSES, GeneratedLoad
from simulator.load.grid import MARKET_ZONE
from simulator.nbr14522.answers import Conversation
from simulator.nbr14522.meter import SimulatedMeter
from simulator.nbr14522.spec import MeterSpec
from tests.simulator.peers.reading import Reader

NOW = datetime(2026, 11, 21, 0, 10, tzinfo=MARKET_ZONE)
START = datetime(2026, 10, 1, 10, 7)
TWELVE = (1, 10, 11, 14, 15, 16, 17, 18, 19, 20, 21, 22)


def twelve_channels(interval_s: int = 300, **changes: Any) -> SimulatedMeter:
    load = channel_load(
        GeneratedLoad("commerce", 90.0, 0.036, 5, interval_s=interval_s),
        TWELVE,
        phase_voltage_v=220.0,
        generation_kw=120.0,
    )
    spec = MeterSpec(
        "12345678",
        load,
        START,
        ClockModel(NOW),
        channel_constants=load.per_pulse,
        profile=replace(DEFAULT, groups=4),
        rated_kw=90.0,
        phase_voltage_v=220.0,
    )
    return SimulatedMeter(replace(spec, **changes))


@pytest.mark.req("TR-5.7c", "X-sim")
@pytest.mark.parametrize("interval_s", [300, 900])
def test_each_group_is_visible_until_the_next_one_is_asked_for(interval_s: int) -> None:
    meter = twelve_channels(interval_s)
    reader = Reader(meter)
    whole = meter.pulses(meter.current_period(NOW))
    assert whole.shape[1] == 12
    assert whole.any(axis=0).all()  # every channel counts something in three weeks
    for group in (2, 0, 3, 1):
        parameters = reader.ask(0x21, group=group)
        channels = slice(3 * group, 3 * group + 3)
        assert parameters.group_count == 4
        assert parameters.quantities == TWELVE[channels]
        assert parameters.memory_interval_s == interval_s
        assert [(one.numerator, one.denominator) for one in parameters.constants] == list(
            meter.spec.channel_constants[channels]
        )
        assert parameters.words_current == 3 * len(whole)
        for _ in range(2):  # it stays visible
            assert np.array_equal(reader.words(0x26, parameters.words_current), whole[:, channels])
        registers = reader.ask(0x23)
        assert [c.total_pulses for c in registers.channels] == [
            int(total) for total in meter.current_registers(NOW).totals[channels].sum(axis=1)
        ]
    refused = reader.ask(0x21, group=4)
    assert (refused.code, refused.occurrence, refused.detail) == (0x40, 0x46, 0x29)
    # Another session begins with the first group.
    assert np.array_equal(Reader(meter).words(0x26, 3 * len(whole)), whole[:, :3])


def test_recovery_and_the_whole_memory_follow_the_group_too() -> None:
    meter = twelve_channels()
    reader = Reader(meter)
    for group in range(4):
        channels = slice(3 * group, 3 * group + 3)
        count = reader.ask(0x22, group=group).words_previous
        previous = meter.pulses(meter.previous_period(NOW))[:, channels]
        assert np.array_equal(reader.words(0x27, count), previous)
        assert reader.ask(0x24).channels[2].total_pulses == int(
            meter.reset_registers(NOW).totals[3 * group + 2].sum()
        )
        count = reader.ask(0x51, group=group).words_current
        assert np.array_equal(reader.words(0x52, count), meter.pulses(meter.whole_memory(NOW))[:, channels])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 999),
    interval_s=st.sampled_from([300, 900]),
    generation_kw=st.sampled_from([0.0, 60.0, 200.0]),
    first=st.integers(20_000, 20_800),
)
def test_quantities_agree_with_the_load(seed: int, interval_s: int, generation_kw: float, first: int) -> None:
    base = GeneratedLoad("industry_2_shifts", 150.0, 0.036, seed, interval_s=interval_s)
    quantities = (1, 10, 11, 14, 15, 16, 25, 8, 9, 17, 20, 2)
    load = channel_load(base, quantities, phase_voltage_v=127.0, generation_kw=generation_kw)
    per_day = 86_400 // interval_s
    counts = load.pulses(first * per_day, per_day)
    assert counts.max() <= MAX_PULSES
    assert counts.max() < 2_300  # room below the twelve bits
    value = {
        code: counts[:, i] * load.per_pulse[i][0] / load.per_pulse[i][1] for i, code in enumerate(quantities)
    }
    one = {code: load.per_pulse[i][0] / load.per_pulse[i][1] for i, code in enumerate(quantities)}
    hours = interval_s / 3600
    seen = load.electrical(first * per_day, per_day)
    assert np.allclose(value[1] - value[14], seen.kw * hours, atol=one[1] + one[14])
    assert np.allclose(value[2], np.abs(seen.kvar) * hours, atol=one[2])
    assert np.allclose(value[10] + value[15] - value[11] - value[16], seen.kvar * hours, atol=4 * one[10])
    assert np.allclose(value[25], seen.kva * hours, atol=one[25])
    resolution = one[25] * 1000 / 3 + 1.1 * 127.0 * one[9]
    assert np.allclose(value[25] * 1000 / 3, value[8] * value[9] / hours, rtol=0.02, atol=2 * resolution)
    assert not (counts[:, 0] * counts[:, 3]).any()  # never both directions in one interval
    if not generation_kw:
        assert not counts[:, 3].any()


def test_registers_are_the_sums_of_the_words_on_every_channel() -> None:
    meter = twelve_channels(started_at=datetime(2026, 11, 2, 0, 0), automatic_reset_day=None)
    words = meter.pulses(meter.whole_memory(NOW))
    registers = meter.current_registers(NOW)
    assert registers.totals.sum(axis=1).tolist() == words.sum(axis=0).tolist()
    demands = words[: len(words) // 3 * 3].reshape(-1, 3, 12).sum(axis=1)
    assert registers.maxima.max(axis=1).tolist() == demands.max(axis=0).tolist()


def test_names_and_formulas_cover_the_same_quantities() -> None:
    assert set(NAMES.values()) - {6} == set(QUANTITIES)


def test_a_meter_has_whole_groups() -> None:
    load = channel_load(GeneratedLoad("school", 90.0, 0.036, 5), (1, 10, 11, 14))
    with pytest.raises(DeveloperFault, match="4 channels"):
        MeterSpec("12345678", load, START, ClockModel(NOW))


def test_old_answers_stay_as_they_were_for_three_channels() -> None:
    source = GeneratedLoad("supermarket", 120.0, 0.036, 3)
    talk = Conversation(SimulatedMeter(MeterSpec("12345678", source, START, ClockModel(NOW))))
    frame = talk.answer(decode_request(request_for(0x21).encode("000003")), NOW)[0]
    parameters: Any = decode_response(frame)
    assert (parameters.group_count, parameters.quantities) == (1, (1, 10, 11))
    assert parameters.has_password is False
