"""One meter's answers agree with each other at any instant: words, registers, demands, logs."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faults import DeveloperFault
from protocols.nbr14522.messages import (
    LimitUnit,
    Parameters,
    Period,
    PowerFailures,
    Registers,
)
from protocols.nbr14522.profile import ClockChange, EmptyMemory, LimitedCount
from protocols.nbr14522.profiles import DEFAULT, OLD_3CH
from simulator.load.clock import ClockModel
from simulator.load.counting import Counter, ReactiveRule, SegmentTable
from simulator.load.curves import GeneratedLoad, Ints
from simulator.load.grid import MARKET_ZONE
from simulator.nbr14522.instants import instantaneous
from simulator.nbr14522.meter import SimulatedMeter
from simulator.nbr14522.spec import MeterSpec, Outage
from tests.protocols.nbr14522.plain_frames import build_command
from tests.simulator.peers.reading import NOW, Reader

START = datetime(2026, 9, 1, 10, 7)


def make(**changes: Any) -> SimulatedMeter:
    source = GeneratedLoad("supermarket", 120.0, 0.036, changes.pop("seed", 3))
    spec = MeterSpec(
        "12345678", source, START, ClockModel(NOW), base_totals=((10, 20, 30), (1, 2, 3), (0, 0, 0))
    )
    return SimulatedMeter(replace(spec, **changes))


def totals(registers: Registers) -> list[int]:
    return [channel.total_pulses for channel in registers.channels]


@pytest.mark.req("X-sim")
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    minutes=st.integers(2_000, 100_000),
    later=st.integers(0, 20_000),
    outage_at=st.integers(0, 90_000),
    outage_s=st.integers(1, 40_000),
)
def test_the_sum_of_the_words_is_the_register_difference(
    seed: int, minutes: int, later: int, outage_at: int, outage_s: int
) -> None:
    start = START + timedelta(minutes=outage_at)
    outage = Outage(start, start + timedelta(seconds=outage_s))
    meter = make(seed=seed, outages=(outage,), capacity_days=200)
    first = START.replace(tzinfo=MARKET_ZONE) + timedelta(minutes=minutes)
    second = first + timedelta(minutes=later)
    before, after = Reader(meter, first), Reader(meter, second)
    difference = np.array(totals(after.ask(0x23))) - totals(before.ask(0x23))
    old, new = before.ask(0x51), after.ask(0x51)
    words = after.words(0x52, new.words_current)
    steps = (new.last_interval_end - old.last_interval_end) // timedelta(minutes=5)
    assert len(words) * 3 == new.words_current
    assert words[len(words) - steps :].sum(axis=0).tolist() == difference.tolist()


@pytest.mark.req("X-sim")
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), minutes=st.integers(100, 100_000))
def test_maxima_and_last_demand_are_sums_of_the_words(seed: int, minutes: int) -> None:
    meter = make(seed=seed, capacity_days=200)
    reader = Reader(meter, START.replace(tzinfo=MARKET_ZONE) + timedelta(minutes=minutes))
    parameters: Parameters = reader.ask(0x21)
    registers: Registers = reader.ask(0x23)
    words = reader.words(0x26, parameters.words_current)
    end = parameters.last_interval_end
    assert end is not None
    demands: dict[datetime, Ints] = {}
    for index, row in enumerate(words):
        begin = end - timedelta(minutes=5 * (len(words) - index))
        border = begin - timedelta(minutes=begin.minute % 15)
        demands[border] = demands.get(border, np.zeros(3, dtype=np.int64)) + row
    for channel in range(3):
        shown = registers.channels[channel]
        assert shown is not None
        expected = {"peak": 0, "off_peak": 0, "reserved": 0}
        for border, demand in demands.items():
            segment = segment_of(border, parameters)
            expected[segment] = max(expected[segment], int(demand[channel]))
        for segment, value in expected.items():
            assert getattr(shown, f"max_demand_{segment}_pulses") == value
        last = demands[max(demands)][channel] if demands else 0
        assert shown.last_demand_pulses == last or not demands
        parts = (shown.peak_pulses, shown.off_peak_pulses, shown.reserved_pulses)
        assert shown.total_pulses == sum(part or 0 for part in parts)


def segment_of(start: datetime, parameters: Parameters) -> str:
    holidays = {
        date(2026, 9, 7),
        date(2026, 10, 12),
        date(2026, 11, 2),
        date(2026, 11, 15),
        date(2026, 11, 20),
    }
    if start.time() < time(6):
        return "reserved"
    working = start.weekday() < 5 and start.date() not in holidays
    return "peak" if working and time(18) <= start.time() < time(21) else "off_peak"


@pytest.mark.req("X-sim")
def test_a_demand_reset_moves_the_period_and_books_back_to_the_border() -> None:
    now = datetime(2026, 11, 18, 7, 58, 25, tzinfo=MARKET_ZONE)
    reader = Reader(make(), now)
    before = reader.ask(0x21)
    open_words = reader.words(0x26, before.words_current)
    maxima = reader.ask(0x23).channels[0].max_demand_peak_pulses
    answer = reader.ask(0x20)
    border = datetime(2026, 11, 18, 7, 45)
    assert answer.last_reset == answer.last_interval_end == border
    assert answer.previous_reset == before.last_reset == datetime(2026, 11, 1)
    assert (answer.words_current, answer.words_previous) == (0, before.words_current)
    assert answer.reset_count == before.reset_count + 1
    assert np.array_equal(reader.words(0x27, answer.words_previous), open_words)
    assert reader.ask(0x24).channels[0].max_demand_peak_pulses == maxima
    assert reader.ask(0x24).channels[0].accumulated_demand_peak_pulses > 0
    assert reader.ask(0x23).channels[0].max_demand_peak_pulses == 0
    entry = [change for change in reader.ask(0x28).changes if change][-1]
    assert (entry.code, entry.at_time, entry.reader_serial) == (0x20, border, "000003")
    # The same command again, as a reader repeats it after a lost answer, closes nothing more.
    assert reader.ask(0x20).words_previous == answer.words_previous
    reader.now = now + timedelta(minutes=30)
    after = reader.ask(0x21)
    assert after.words_current == 3 * 6
    assert after.last_interval_end == datetime(2026, 11, 18, 8, 15)
    assert after.reset_count == answer.reset_count


def test_a_second_reset_inside_the_protection_time_is_refused() -> None:
    reader = Reader(make(reset_protection_s=3_600), NOW)
    assert reader.ask(0x20).code == 0x20
    reader.now += timedelta(minutes=40)
    assert (reader.ask(0x20).code, reader.ask(0x20).occurrence) == (0x40, 0x45)
    reader.now += timedelta(minutes=40)
    assert reader.ask(0x20).code == 0x20


@pytest.mark.req("X-sim")
def test_an_outage_reads_zero_with_partial_edges_and_a_record() -> None:
    outage = Outage(datetime(2026, 11, 19, 10, 38, 10), datetime(2026, 11, 19, 13, 51, 38))
    whole, cut = Reader(make()), Reader(make(outages=(outage,)))
    count = whole.ask(0x21).words_current
    plain, words = whole.words(0x26, count), cut.words(0x26, count)
    first = -(int((datetime(2026, 11, 21) - datetime(2026, 11, 19, 10, 35)).total_seconds()) // 300)
    last = -(int((datetime(2026, 11, 21) - datetime(2026, 11, 19, 13, 50)).total_seconds()) // 300)
    assert not words[first + 1 : last].any()
    assert words[first, 0] == plain[first, 0] * 190 // 300
    assert words[last, 0] == plain[last, 0] * (300 - 98) // 300
    assert np.array_equal(words[:first], plain[:first])
    assert np.array_equal(words[last + 1 :], plain[last + 1 :])
    record: PowerFailures = cut.ask(0x25, period=Period.CURRENT)
    (failure,) = [f for f in record.failures if f]
    assert (failure.start, failure.end) == (outage.start, outage.end)
    assert record.period_without_supply_s == (outage.end - outage.start).total_seconds()
    assert cut.ask(0x25, period=Period.PREVIOUS).period_failure_count == 0
    during = datetime(2026, 11, 19, 12, tzinfo=MARKET_ZONE)
    assert not cut.meter.is_powered(during)
    assert [f for f in Reader(cut.meter, during).ask(0x25, period=Period.CURRENT).failures if f] == []


@pytest.mark.req("X-sim")
def test_a_cleared_memory_lacks_what_came_before_and_says_so() -> None:
    meter = make(memory_cleared=(datetime(2026, 11, 20, 3, 10),))
    before = Reader(meter, datetime(2026, 11, 20, 0, 2, tzinfo=MARKET_ZONE))
    assert before.ask(0x51).words_current > 3 * 288 * 70
    after = Reader(meter, NOW)
    parameters = after.ask(0x21)
    assert parameters.words_current == 3 * (288 - 38)
    assert parameters.words_previous == 0
    assert any(
        c and (c.code, c.at_time) == (0x38, datetime(2026, 11, 20, 3, 10)) for c in after.ask(0x28).changes
    )
    assert totals(after.ask(0x23))[0] > totals(before.ask(0x23))[0]


@pytest.mark.parametrize("amount", [1, 5, 60])
def test_command_51_limits_the_newest_part(amount: int) -> None:
    reader = Reader(make())
    whole = reader.words(0x52, reader.ask(0x51).words_current)
    limited = reader.ask(0x51, unit=LimitUnit.DAYS, amount=amount)
    assert limited.words_current == 3 * 288 * amount
    assert np.array_equal(reader.words(0x52, limited.words_current), whole[-288 * amount :])
    hours = reader.ask(0x51, unit=LimitUnit.HOURS, amount=amount)
    assert hours.words_current == 3 * 12 * amount
    counts_all = replace(DEFAULT, limited_count=LimitedCount.WHOLE)
    assert (
        Reader(make(profile=counts_all)).ask(0x51, unit=LimitUnit.DAYS, amount=amount).words_current
        == whole.size
    )


def test_the_memory_is_a_ring() -> None:
    reader = Reader(make(capacity_days=20))
    assert reader.ask(0x51).words_current == 3 * 288 * 20
    assert reader.ask(0x21).words_current == 3 * (288 * 20 - 2)  # 00:05 and 00:10 of the 1st have fallen out
    assert reader.ask(0x21).words_previous == 0


@pytest.mark.req("TR-5.6b")
def test_an_old_meter_answers_39_to_what_it_lacks_else_26_and_27() -> None:
    reader = Reader(make(profile=OLD_3CH))
    for code in (0x14, 0x51, 0x52, 0x80):
        answer = reader.ask(code)
        assert (answer.code, answer.refused_code) == (0x39, code)
    parameters = reader.ask(0x21)
    assert (parameters.has_command_14, parameters.has_command_80, parameters.group_count) == (False, False, 1)
    assert parameters.quantities == (1, 10, 11)
    assert len(reader.words(0x26, parameters.words_current)) == 20 * 288
    assert len(reader.words(0x27, parameters.words_previous)) == 31 * 288


def test_occurrences_stand_in_the_way_until_cleared() -> None:
    reader = Reader(make(occurrences=(0x30, 0x33)))
    first = reader.ask(0x21)
    assert (first.code, first.occurrence, first.waiting_count) == (0x40, 0x30, 2)
    assert reader.ask(0x37, occurrence=0x30).code == 0x37
    assert reader.ask(0x37, occurrence=0x30).code == 0x40
    assert reader.ask(0x37, occurrence=0x33).code == 0x37
    assert reader.ask(0x21).code == 0x21


def test_refusals_name_the_parameter() -> None:
    reader = Reader(make())
    assert (reader.ask(0x21, group=1).code, reader.ask(0x21, group=1).occurrence) == (0x40, 0x46)
    for code in (0x29, 0x30):
        for octets in (b"\x32\x13\x26", b"\x00\x00\x00", b"\xaa\xbb\xcc")[: 3 if code == 0x29 else 1]:
            refused = reader.raw(build_command(code, "000003", octets))
            assert (refused.code, refused.occurrence, refused.detail) == (0x40, 0x46, 0x14)
    empty = replace(DEFAULT, empty_memory=EmptyMemory.OCCURRENCE)
    for profile, code in ((DEFAULT, 0x27), (empty, 0x40)):
        fresh = Reader(make(profile=profile, automatic_reset_day=None))
        assert fresh.ask(0x21).words_previous == 0
        assert fresh.ask(0x27).code == code


def test_the_clock_drifts_and_is_set_and_logged() -> None:
    clock = ClockModel(NOW - timedelta(days=10), -95.0, 20.0)
    reader = Reader(make(clock=clock))
    assert reader.meter.clock_error_s(NOW) == pytest.approx(-95 + 20e-6 * 864_000)
    shown = reader.ask(0x21).meter_time
    assert (NOW.replace(tzinfo=None) - shown).total_seconds() == pytest.approx(77.7, abs=1)
    assert reader.ask(0x30, clock=time(0, 10, 0)).clock == time(0, 10, 0)
    assert reader.ask(0x29, day=date(2026, 11, 21), weekday=7).day == date(2026, 11, 21)
    assert abs(reader.meter.clock_error_s(NOW)) < 1.0
    codes = [change.code for change in reader.ask(0x28).changes if change]
    assert codes[-2:] == [0x30, 0x29]
    reader.now += timedelta(days=10)
    assert reader.meter.clock_error_s(reader.now) == pytest.approx(20e-6 * 864_000, abs=1)


def test_a_clock_set_forward_leaves_zeros_and_keeps_the_calendar() -> None:
    reader = Reader(make(), datetime(2026, 11, 19, 10, 2, tzinfo=MARKET_ZONE))
    reader.ask(0x30, clock=time(10, 31, 0))
    later = Reader(reader.meter, datetime(2026, 11, 19, 12, 0, tzinfo=MARKET_ZONE))
    parameters = later.ask(0x21)
    assert parameters.last_interval_end == datetime(2026, 11, 19, 12, 15)
    words = later.words(0x26, parameters.words_current)
    assert len(words) == 18 * 288 + 147
    zero = np.flatnonzero(words[:, 0] == 0)
    assert (len(words) - zero).tolist() == [26, 25, 24, 23, 22]  # 10:05 to 10:30, by their distance to 12:15


def test_one_makers_meter_closes_the_period_at_a_clock_change() -> None:
    reader = Reader(make(profile=replace(DEFAULT, clock_change=ClockChange.CLOSE_PERIOD)))
    before = reader.ask(0x21)
    reader.ask(0x30, clock=time(0, 9, 0))
    after = reader.ask(0x21)
    assert after.last_reset == datetime(2026, 11, 21)
    assert after.words_previous == before.words_current


def close_to(value: float, wanted: float) -> bool:
    return abs(value - wanted) <= 1e-3 * max(abs(wanted), 1.0)


@pytest.mark.req("X-sim")
def test_the_fiscal_page_agrees_with_itself_and_with_the_load() -> None:
    reader = Reader(make(rated_kw=120.0), datetime(2026, 11, 18, 15, 2, tzinfo=MARKET_ZONE))
    page = reader.ask(0x14)

    def get(name: str) -> float:
        return float(getattr(page, name))

    for phase in "abc":
        apparent = get(f"apparent_power_rms_{phase}_va")
        assert close_to(get(f"voltage_{phase}_v") * get(f"current_{phase}_a"), apparent)
        active, reactive = get(f"active_power_{phase}_w"), get(f"reactive_power_{phase}_var")
        assert close_to((active**2 + reactive**2) ** 0.5, apparent)
        assert close_to(active / apparent, get(f"power_factor_{phase}"))
    kw, _ = reader.meter.power(reader.now)
    assert close_to(page.active_power_total_w, 1000 * kw)
    assert page.load_kinds == ("LLLL" if page.reactive_power_total_var > 0 else "CCCC")
    assert page.meter_time == datetime(2026, 11, 18, 15, 2)


def test_registers_move_with_each_pulse_where_the_setting_says_so() -> None:
    stepped, live = make(), make(register_step="pulse")
    early, late = NOW.replace(minute=6), NOW.replace(minute=9, second=50)
    assert totals(Reader(stepped, early).ask(0x23)) == totals(Reader(stepped, late).ask(0x23))
    first, last = (totals(Reader(live, at).ask(0x23))[0] for at in (early, late))
    border = totals(Reader(stepped, late).ask(0x23))[0]
    assert border <= first < last < totals(Reader(stepped, NOW.replace(minute=10)).ask(0x23))[0]


@settings(max_examples=30, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_sums_do_not_depend_on_what_was_asked_before(data: st.DataObject, seed: int) -> None:
    source = GeneratedLoad("hospital", 90.0, 0.036, seed)
    first = 20_700 * 288 + 37
    rules = {"demand_interval_s": 900, "segments": SegmentTable(), "reactive": ReactiveRule()}
    warm = Counter(source, first, **rules)
    for _ in range(3):
        begin = first + data.draw(st.integers(-500, 6_000)) // 3 * 3
        stop = begin + data.draw(st.integers(0, 4_000))
        asked, fresh = warm.summary(begin, stop), Counter(source, first, **rules).summary(begin, stop)
        for name in ("totals", "maxima", "dmcr"):
            assert np.array_equal(getattr(asked, name), getattr(fresh, name)), name
        assert np.allclose(asked.ufer, fresh.ufer)
        assert asked.totals.sum(axis=1).tolist() == warm.pulses(max(begin, first), stop).sum(axis=0).tolist()


@pytest.mark.parametrize("wrong", [{"demand_interval_s": 700}, {"automatic_reset_day": 31}])
def test_a_meter_that_cannot_be_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(DeveloperFault) as refusal:
        make(**wrong)
    assert refusal.value.where == "meter 12345678"


@pytest.mark.parametrize(("sequence", "b_deg"), [("ABC", -120.0), ("CBA", 120.0)])
def test_voltages_follow_one_another_in_the_sequence_of_the_site(sequence: Any, b_deg: float) -> None:
    """Angles come lead positive, as the known meter sends them: in ABC, B lags A by 120 degrees."""
    page = instantaneous(make(phase_sequence=sequence), NOW)
    assert (page.voltage_angle_a_deg, page.voltage_angle_b_deg) == (0.0, b_deg)
    assert page.voltage_angle_c_deg == -b_deg
