"""The acquisition contract: units, lengths, totals and coverage, exact and whatever comes (X-acquire)."""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.acquisition import (
    Break,
    Growth,
    Period,
    TotalPolicy,
    coverage,
    energy_of_power,
    is_above,
    is_all_ones,
    judge_totals,
    lengths,
    on_grid,
    whole_pulses,
)

START = datetime(2026, 11, 20)
BASE = 12_345_678


def after(*steps_s: int) -> list[datetime]:
    """Ends that follow one another at these distances."""
    ends = [START]
    for step_s in steps_s:
        ends.append(ends[-1] + timedelta(seconds=step_s))
    return ends


def judged(*totals: int | None, policy: TotalPolicy | None = None) -> tuple[list[Growth], list[Break]]:
    ends = after(*[300] * (len(totals) - 1))
    return judge_totals(ends, totals, Fraction(1), policy or TotalPolicy())


def grown(*totals: int | None, policy: TotalPolicy | None = None) -> dict[int, tuple[int, int]]:
    """Rows with the row that they are compared with, and the growth."""
    return {one.row: (one.since, int(one.amount)) for one in judged(*totals, policy=policy)[0]}


class TestValues:
    @pytest.mark.parametrize(
        ("average", "length_s", "energy"),
        [(1000, 900, Fraction(250)), (600, 300, Fraction(50)), (601, 300, Fraction(601, 12)), (0, 900, 0)],
    )
    def test_average_power_is_energy_by_the_length_of_its_interval(self, average, length_s, energy):
        assert energy_of_power(average, length_s) == energy

    def test_energy_is_a_whole_number_of_pulses_or_none(self):
        assert whole_pulses(Fraction(36), Fraction(36, 5)) == 5
        assert whole_pulses(Fraction(601, 12), Fraction(1)) is None
        assert whole_pulses(Fraction(601, 12), Fraction(1, 12)) == 601

    def test_a_ceiling_that_is_not_known_lets_all_through(self):
        assert not is_above(Fraction(10**9), 300, None)
        assert is_above(Fraction(101), 3600, Fraction(100))
        assert not is_above(Fraction(100), 3600, Fraction(100))

    @pytest.mark.parametrize(("raw", "bits"), [(0xFFFF, 16), (4095, 12), (-1, 32), (2**64 - 1, 64)])
    def test_words_of_ones_are_known_in_any_width(self, raw, bits):
        assert is_all_ones(raw, bits)
        assert not is_all_ones(abs(raw) - 1, bits)


class TestLengths:
    @pytest.mark.parametrize(
        ("steps", "stated", "found"),
        [
            ([300] * 4, 300, [300] * 5),
            ([900] * 4, 60, [900] * 5),
            ([900] * 4, 0, [900] * 5),
            ([300, 300, 900, 300], 300, [300] * 5),
            ([900] * 4 + [300] * 4, 300, [900] * 5 + [300] * 4),
            ([900] * 4 + [1200] + [300] * 4, 300, [900] * 5 + [None] + [300] * 4),
            ([900, 900, 900, 2700], 300, [900] * 5),
            ([], 300, [300]),
            ([], 7, [None]),
            ([420], 900, [900] * 2),
            ([900], 60, [None] * 2),
            ([900], 900, [900] * 2),
        ],
    )
    def test_rows_decide_and_a_gap_is_none(self, steps, stated, found):
        assert lengths(after(*steps), stated) == found

    @pytest.mark.parametrize(
        ("second", "tolerance_s", "border"), [(3, 5, 0), (-3, 5, 0), (6, 5, None), (0, 0, 0), (299, 5, 300)]
    )
    def test_a_row_is_on_the_grid_within_the_tolerance(self, second, tolerance_s, border):
        found = on_grid(START + timedelta(seconds=second), 300, tolerance_s)
        assert found == (None if border is None else START + timedelta(seconds=border))

    def test_a_row_just_before_midnight_is_of_midnight(self):
        assert on_grid(START - timedelta(seconds=2), 300, 5) == START


class TestTotals:
    def test_a_row_that_is_zero_takes_two_intervals_and_no_energy(self):
        growths, (bad,) = judged(BASE, BASE + 50, 0, BASE + 150, BASE + 200)
        assert growths == [Growth(0, 1, 50), Growth(1, 3, 100), Growth(3, 4, 50)]
        assert bad == Break((2,), 1, 3)

    @pytest.mark.parametrize(
        "wrong", [(0,), (0, 0), (0, 7, 9), (99_999_999,), (99_999_999,) * 4, (BASE - 3,)]
    )
    def test_wrong_rows_are_left_out_however_many_and_wherever_they_lie(self, wrong):
        back = BASE + 50 * (len(wrong) + 2)
        found = grown(BASE, BASE + 50, *wrong, back, back + 50)
        assert found == {
            1: (0, 50),
            len(wrong) + 2: (1, back - BASE - 50),
            len(wrong) + 3: (len(wrong) + 2, 50),
        }

    @pytest.mark.parametrize("wrong", [(0,), (0, 0, 0), (99_999_999,)])
    def test_wrong_rows_at_the_beginning_give_nothing(self, wrong):
        found = grown(*wrong, BASE, BASE + 50)
        assert found[len(wrong) + 1] == (len(wrong), 50)
        assert sum(amount for _, amount in found.values()) == 50

    @pytest.mark.parametrize("wrong", [(0,), (0, 0), (99_999_999,)])
    def test_nor_do_they_at_the_end(self, wrong):
        assert sum(amount for _, amount in grown(BASE, BASE + 50, *wrong).values()) == 50

    def test_a_total_that_stays_low_begins_again(self):
        growths, (anew,) = judged(100, 130, 140, 3, 5, 9)
        assert [(one.row, one.amount) for one in growths] == [(1, 30), (2, 10), (4, 2), (5, 4)]
        assert (anew.begins_again, anew.last_good, anew.next_good) == (True, 2, 3)

    def test_a_total_that_turned_over_does_not_come_back_by_growing(self):
        found = grown(99_999_990, 2, *range(50, 5000, 50))
        assert sum(amount for _, amount in found.values()) == 4948

    def test_a_new_meter_that_begins_to_count_is_believed(self):
        assert grown(0, 0, 50, 100) == {1: (0, 0), 2: (1, 50), 3: (2, 50)}

    def test_a_ceiling_refuses_growth_that_the_installation_cannot_have(self):
        policy = TotalPolicy(most_w=Fraction(1_000_000))
        assert (
            sum(a for _, a in grown(BASE, BASE + 50, BASE + 100_050, BASE + 100_100, policy=policy).values())
            == 100
        )

    def test_missing_values_are_passed_over(self):
        assert grown(BASE, None, BASE + 100) == {2: (0, 100)}

    @given(st.lists(st.integers(0, 10_000), min_size=2, max_size=60))
    def test_good_totals_give_each_of_their_steps(self, steps):
        totals = [BASE + sum(steps[:place]) for place in range(len(steps) + 1)]
        growths, breaks = judged(*totals, policy=TotalPolicy(doubling_w=Fraction(10**9)))
        assert (breaks, [one.amount for one in growths]) == ([], steps)

    @given(st.lists(st.none() | st.integers(0, 2**32 - 1), max_size=60))
    def test_growth_is_never_negative_nor_above_the_totals(self, totals):
        growths, breaks = judged(*totals)
        assert all(one.amount >= 0 and one.since < one.row for one in growths)
        bad = {row for one in breaks for row in one.rows}
        assert not bad & {one.row for one in growths}


class TestCoverage:
    def test_what_was_asked_for_and_did_not_come_is_named(self):
        asked = [Period(START, START + timedelta(hours=1))]
        got = [
            Period(START, START + timedelta(minutes=30)),
            Period(START + timedelta(minutes=45), asked[0].end),
        ]
        found = coverage(asked, got, 300)
        assert (found.asked, found.got, found.is_complete) == (12, 9, False)
        assert found.document()["missing"] == [["2026-11-20T00:30:00", "2026-11-20T00:45:00"]]
        assert found.words == "asked 12 intervals of 300 s, got 9"

    def test_intervals_of_any_length_cover_the_time_that_they_have(self):
        asked = [Period(START, START + timedelta(days=1))]
        quarters = [Period(end - timedelta(minutes=15), end) for end in after(*[900] * 96)[1:]]
        assert coverage(asked, quarters, 300).is_complete

    def test_short_intervals_cover_the_long_ones_that_they_fill(self):
        asked = [Period(START, START + timedelta(hours=1))]
        got = [Period(end - timedelta(minutes=5), end) for end in after(*[300] * 11)[1:]]
        found = coverage(asked, got, 900)
        assert (found.asked, found.got) == (4, 3)

    def test_only_whole_intervals_of_the_grid_are_asked_for(self):
        asked = [Period(START + timedelta(seconds=1), START + timedelta(minutes=12))]
        assert coverage(asked, [], 300).asked == 1
