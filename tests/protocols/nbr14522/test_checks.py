"""The packing told by the demand registers (section 8.2, check 2)."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, time

import numpy as np
import pytest
from numpy.typing import NDArray

from protocols.nbr14522.checks import OFF_PEAK, PEAK, RESERVED, demand_sums, packing_fit, segments_of
from protocols.nbr14522.memory import Packing, interval_ends, words_to_payloads
from protocols.nbr14522.messages import ChannelRegisters, Parameters, Registers

pytestmark = pytest.mark.req("TR-5.1")

LAST = datetime(2017, 1, 9, 7, 45)
INTERVALS = 9501  # the real file: reset to reset, 28,503 words

PARAMETERS = Parameters(
    code=0x22,
    last_reset=LAST,
    last_interval_end=LAST,
    words_previous=INTERVALS * 3,
    memory_interval_min=5,
    memory_interval_extra_s=0,
    demand_interval_min=15,
    peak_starts=(time(18), None, None, None),
    off_peak_starts=(time(6), time(21), None, None),
    reserved_starts=(time(0), None, None, None),
    holidays=(date(2016, 12, 26), *(None,) * 14),
    saturday_segments=6,
    sunday_segments=6,
    holiday_segments=6,
    second_set_flag=1,
)


def load(seed: int = 7, high: int = 700) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, high, size=(INTERVALS, 3))


def registers_of(counts: NDArray[np.int64]) -> Registers:
    """The maximum-demand registers, counted interval by interval as a meter does."""
    maxima: dict[tuple[int, int], int] = {}
    last = np.datetime64(LAST, "s")
    for end in range(len(counts)):
        when = (last - np.timedelta64(300 * (len(counts) - 1 - end), "s")).astype(datetime)
        if when.minute % 15 or end < 2:
            continue
        begin = (np.datetime64(when, "s") - np.timedelta64(900, "s")).astype(datetime)
        segment = RESERVED if begin.hour < 6 else PEAK if 18 <= begin.hour < 21 else OFF_PEAK
        if segment == PEAK and (begin.isoweekday() >= 6 or begin.date() == date(2016, 12, 26)):
            segment = OFF_PEAK
        for channel in range(3):
            value = int(counts[end - 2 : end + 1, channel].sum())
            maxima[channel, segment] = max(maxima.get((channel, segment), 0), value)
    return Registers(
        code=0x24,
        channels=tuple(
            ChannelRegisters(
                max_demand_peak_pulses=maxima[channel, PEAK],
                max_demand_off_peak_pulses=maxima[channel, OFF_PEAK],
                max_demand_reserved_pulses=maxima[channel, RESERVED],
            )
            for channel in range(3)
        ),
    )


@pytest.mark.parametrize("packing", list(Packing))
def test_the_registers_tell_the_packing(packing: Packing) -> None:
    counts = load()
    fit = packing_fit(words_to_payloads(counts.ravel(), packing), PARAMETERS, registers_of(counts))
    assert fit.made == 9
    assert fit.agreed[packing] == 9
    assert fit.packing is packing


def test_unknown_segments_leave_the_largest_of_all() -> None:
    counts = load()
    unknown = replace(
        PARAMETERS, peak_starts=(None,) * 4, off_peak_starts=(None,) * 4, reserved_starts=(None,) * 4
    )
    fit = packing_fit(words_to_payloads(counts.ravel()), unknown, registers_of(counts))
    assert (fit.made, fit.packing) == (3, Packing.S)


def test_a_misfit_is_told() -> None:
    counts = load()
    wrong = registers_of(counts + 1)
    fit = packing_fit(words_to_payloads(counts.ravel()), PARAMETERS, wrong)
    assert (fit.made, fit.fitting, fit.packing) == (9, (), None)


def test_a_memory_of_zeros_tells_nothing() -> None:
    counts = np.zeros((INTERVALS, 3), dtype=np.int64)
    fit = packing_fit(words_to_payloads(counts.ravel()), PARAMETERS, registers_of(counts))
    assert set(fit.fitting) == set(Packing)
    assert fit.packing is None


def test_nothing_to_compare_is_no_fit() -> None:
    empty = Parameters(code=0x22)
    fit = packing_fit([], empty, Registers(code=0x24))
    assert (fit.made, fit.packing) == (0, None)


def test_demand_intervals_covered_in_part_are_left_out() -> None:
    counts = np.arange(1, 8, dtype=np.int32).reshape(7, 1)
    sums, ends = demand_sums(counts, datetime(2026, 11, 20, 0, 5), 300, 900)
    # labels 23:35 .. 00:05: only the interval ended 23:45 lacks its first word
    assert ends.astype(str).tolist() == ["2026-11-20T00:00:00", "2026-11-19T23:45:00"][::-1]
    assert sums[:, 0].tolist() == [1 + 2 + 3, 4 + 5 + 6]
    late, _ = demand_sums(counts, datetime(2026, 11, 20, 0, 10), 300, 900)
    assert late[:, 0].tolist() == [3 + 4 + 5]


def test_segment_of_an_interval_is_that_of_its_start() -> None:
    ends = interval_ends(datetime(2017, 1, 5, 21, 15), 900, 4)  # a Thursday
    found = segments_of(PARAMETERS, ends, 900)
    assert found is not None
    assert found.tolist() == [PEAK, PEAK, PEAK, OFF_PEAK]
    sunday = segments_of(PARAMETERS, interval_ends(datetime(2017, 1, 8, 19), 900, 1), 900)
    assert sunday is not None
    assert sunday.tolist() == [OFF_PEAK]


def test_contradictory_or_second_set_starts_are_unknown() -> None:
    ends = interval_ends(datetime(2017, 1, 5, 21, 15), 900, 4)
    twice = replace(PARAMETERS, peak_starts=(time(0), None, None, None))
    assert segments_of(twice, ends, 900) is None
    from protocols.nbr14522.messages import DayMonth

    second = replace(PARAMETERS, second_set_flag=0, set_starts=(DayMonth(day=1, month=5), None, None, None))
    assert segments_of(second, ends, 900) is None
