"""What one answer proves about another: each check fits, misfits and knows when it cannot tell."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.nbr14522.checks import (
    CheckResult,
    check_changes,
    check_failures,
    check_packing,
    check_registers,
    check_words,
)
from protocols.nbr14522.memory import Packing, words_to_payloads
from protocols.nbr14522.messages import Constant, Parameters, Registers
from tests.protocols.nbr14522.checked import PARAMETERS, load, registers_of

pytestmark = pytest.mark.req("TR-5.1")

PERIOD = replace(PARAMETERS, previous_reset=datetime(2016, 12, 7, 8, 0))
CLOSED = datetime(2026, 11, 20, 12, 0)


def test_packing_fits_and_misfits() -> None:
    counts = load()
    payloads = words_to_payloads(counts.ravel(), Packing.M)
    good = check_packing(payloads, PERIOD, registers_of(counts), Packing.M)
    assert (good.verdict, good.made, good.agreed) == (CheckResult.FITS, 9, 9)
    wrong = check_packing(payloads, PERIOD, registers_of(counts), Packing.S)
    assert wrong.verdict is CheckResult.MISFIT
    assert wrong.detail == {"packing": "S", "fitting": ["M"]}
    none = check_packing(payloads, PERIOD, registers_of(counts + 1), Packing.M)
    assert none.verdict is CheckResult.MISFIT
    assert check_packing([], PERIOD, Registers(code=0x24), Packing.S).verdict is CheckResult.UNDECIDED


def test_a_register_above_words_that_do_not_reach_back_proves_nothing() -> None:
    counts = load()
    ahead = registers_of(counts + 1)
    payloads = words_to_payloads(counts.ravel())
    older = replace(PERIOD, previous_reset=datetime(2016, 11, 7, 8, 0))
    assert check_packing(payloads, older, ahead, Packing.S).verdict is CheckResult.UNDECIDED
    behind = registers_of(np.maximum(counts - 1, 0))
    assert check_packing(payloads, older, behind, Packing.S).verdict is CheckResult.MISFIT


def test_a_holiday_that_left_the_list_is_no_misfit() -> None:
    """The registers counted it without a peak; the list of the answer no longer tells."""
    counts = load()
    forgotten = replace(PERIOD, holidays=(None,) * 15)
    per_day, peak_start = 288, 220  # intervals of a day; a busy peak hour on the holiday itself
    holiday = (datetime(2016, 12, 26, 18) - datetime(2016, 12, 7, 8)) // timedelta(minutes=5)
    assert holiday % per_day < peak_start
    counts[holiday + 6 : holiday + 9] = 699
    payloads = words_to_payloads(counts.ravel())
    found = check_packing(payloads, forgotten, registers_of(counts), Packing.S)
    assert (found.verdict, found.made) == (CheckResult.FITS, 3)
    assert found.detail["by_segment"] == "3 of 9"
    assert check_packing(payloads, forgotten, registers_of(counts), Packing.M).verdict is CheckResult.MISFIT


def test_a_demand_that_ended_after_the_parameters_is_no_misfit() -> None:
    counts = load()
    held = registers_of(counts)
    channels = list(held.channels)
    assert channels[0] is not None
    newest = (channels[0].max_demand_off_peak_pulses or 0) + 5
    channels[0] = replace(channels[0], max_demand_off_peak_pulses=newest, last_demand_pulses=newest)
    running = replace(
        PERIOD, code=0x21, words_current=PARAMETERS.words_previous, last_reset=datetime(2016, 12, 7, 8, 0)
    )
    payloads = words_to_payloads(counts.ravel())
    now = replace(held, code=0x23, channels=tuple(channels))
    assert check_packing(payloads, running, now, Packing.S).verdict is CheckResult.UNDECIDED
    channels[0] = replace(channels[0], last_demand_pulses=0)
    now = replace(held, code=0x23, channels=tuple(channels))
    assert check_packing(payloads, running, now, Packing.S).verdict is CheckResult.MISFIT


@given(st.lists(st.integers(0, 10**9), min_size=3, max_size=3), st.integers(0, 10**10 - 1), st.integers(0, 3))
def test_registers_grow_by_their_words(sums: list[int], before: int, ahead: int) -> None:
    """Also where the ten digits start over."""
    after = [(before + total) % 10**10 for total in sums]
    assert check_registers([before] * 3, after, sums).verdict is CheckResult.FITS
    off = [*after[:2], (after[2] + 1) % 10**10]
    closed = check_registers([before] * 3, off, sums)
    assert (closed.verdict, closed.made, closed.agreed) == (CheckResult.MISFIT, 3, 2)
    assert closed.detail["misfits"][0]["channel"] == 3
    running = check_registers([before] * 3, off, sums, open_intervals=ahead)
    assert (running.verdict is CheckResult.FITS) == (ahead > 0)
    assert check_registers([None] * 3, after, sums).verdict is CheckResult.UNDECIDED


@pytest.mark.parametrize(
    ("announced", "blocks", "has_last", "may_grow", "verdict"),
    [
        (498, 3, True, False, CheckResult.FITS),
        (499, 3, True, False, CheckResult.MISFIT),
        (332, 3, True, False, CheckResult.MISFIT),
        (332, 3, True, True, CheckResult.FITS),
        (332, 4, True, True, CheckResult.MISFIT),
        (498, 2, False, False, CheckResult.UNDECIDED),
        (0, 1, True, False, CheckResult.FITS),
        (0, 0, False, False, CheckResult.UNDECIDED),
        (None, 3, True, False, CheckResult.UNDECIDED),
    ],
)
def test_words_announced_and_received(
    announced: int | None, blocks: int, has_last: bool, may_grow: bool, verdict: CheckResult
) -> None:
    assert check_words(announced, blocks, has_last, may_grow=may_grow).verdict is verdict


def test_intervals_in_a_failure_hold_zero() -> None:
    """nbr14522_gaps.md 4.2: the partly supplied first and last interval keep their partial count."""
    counts = np.full((12, 3), 9, np.int32)
    ends = [CLOSED - timedelta(minutes=5 * i) for i in range(11, -1, -1)]
    failure = (ends[3] - timedelta(minutes=2), ends[7] + timedelta(minutes=2))
    counts[4:8] = 0
    fits = check_failures(counts, CLOSED, 300, [failure])
    assert (fits.verdict, fits.made) == (CheckResult.FITS, 4)
    counts[5, 1] = 1
    wrong = check_failures(counts, CLOSED, 300, [failure])
    assert (wrong.verdict, wrong.made, wrong.agreed) == (CheckResult.MISFIT, 4, 3)
    assert wrong.detail["counted_in_failure"] == [ends[5].isoformat()]
    assert check_failures(counts, CLOSED, 300, []).verdict is CheckResult.UNDECIDED


BEFORE = Parameters(
    code=0x21,
    meter_time=CLOSED,
    constants=(Constant(numerator=3, denominator=10),) * 3,
    quantities=(1, 10, 11),
    memory_interval_min=5,
    demand_interval_min=15,
).to_json()


def after(**changes: object) -> dict[str, object]:
    return BEFORE | {"meter_time": (CLOSED + timedelta(days=1)).isoformat()} | changes


NEW = CLOSED + timedelta(hours=3)
CONSTANTS = [{"numerator": 6, "denominator": 10}] * 3


@pytest.mark.parametrize(
    ("later", "entries", "step_s", "verdict"),
    [
        (after(), [], None, CheckResult.FITS),
        (after(constants=CONSTANTS), [(0x33, NEW)], None, CheckResult.FITS),
        (after(constants=CONSTANTS), [], None, CheckResult.MISFIT),
        (after(constants=CONSTANTS), [(0x33, CLOSED - timedelta(days=40))], None, CheckResult.MISFIT),
        (after(constants=CONSTANTS), [(0x38, NEW)], None, CheckResult.FITS),
        (after(constants=CONSTANTS), [(0x20, NEW)] * 16, None, CheckResult.UNDECIDED),
        (after(quantities=[1, 2, 3]), [(0x66, NEW)], None, CheckResult.FITS),
        (after(quantities=[1, 2, 3]), [(0x33, NEW)], None, CheckResult.MISFIT),
        (after(memory_interval_min=15, demand_interval_min=30), [(0x73, NEW)], None, CheckResult.MISFIT),
        (after(), [], 59.0, CheckResult.FITS),
        (after(), [], -3600.0, CheckResult.MISFIT),
        (after(), [(0x30, NEW)], -3600.0, CheckResult.FITS),
    ],
)
def test_changes_are_in_the_log(
    later: dict[str, object], entries: list[tuple[int, datetime]], step_s: float | None, verdict: CheckResult
) -> None:
    logged = [(moment, code) for code, moment in entries]
    assert check_changes(BEFORE, later, logged, step_s).verdict is verdict
    assert check_changes({}, later, logged, step_s).verdict is CheckResult.UNDECIDED
