"""The packing told by the demand registers (section 8.2, check 2)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, time

import numpy as np
import pytest

from protocols.nbr14522.checks import OFF_PEAK, PEAK, demand_sums, packing_fit, segments_of
from protocols.nbr14522.memory import Packing, interval_ends, words_to_payloads
from protocols.nbr14522.messages import Parameters, Registers
from tests.protocols.nbr14522.checked import INTERVALS, PARAMETERS, load, registers_of

pytestmark = pytest.mark.req("TR-5.1")


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
