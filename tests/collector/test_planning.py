"""Which reads are planned, when they are due, and which commands bring what is missing cheapest."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.work import planning
from collector.work.planning import (
    InstalledMeter,
    MemoryFacts,
    MemoryRead,
    MemoryStep,
    MeterDay,
    ScheduleKind,
    Span,
    Windows,
)
from storage.queue import Priority

DAY = date(2026, 11, 20)
ALL = frozenset({0x21, 0x22, 0x26, 0x27, 0x51, 0x52})


def meter(meter_id=1, schedule=ScheduleKind.DAILY, **changes):
    fields = {
        "meter_id": meter_id,
        "point_code": f"P{meter_id:05}",
        "schedule": schedule,
        "interval_s": 300,
        "valid_from": None,
        "valid_to": None,
        "is_reachable": True,
    }
    return InstalledMeter(**{**fields, **changes})


def facts(**changes):
    """A meter that was reset on the 1st, seen on the 21st at 03:00."""
    fields = {
        "now": datetime(2026, 11, 21, 3, 0),
        "last_end": datetime(2026, 11, 21, 3, 0),
        "last_reset": datetime(2026, 11, 1, 0, 0),
        "words_current": 3 * (20 * 288 + 36),
        "words_previous": 3 * 31 * 288,
        "interval_s": 300,
    }
    return MemoryFacts(**{**fields, **changes})


def whole_day(day):
    midnight = datetime.combine(day, time.min)
    return Span(midnight + timedelta(minutes=5), midnight + timedelta(days=1))


class TestDaySpans:
    def test_an_empty_day_is_one_span_and_its_last_interval_ends_at_midnight(self):
        spans = planning.day_spans(DAY, 300, None, datetime(2026, 11, 22))
        assert spans == [Span(datetime(2026, 11, 20, 0, 5), datetime(2026, 11, 21, 0, 0))]
        assert planning.day_of(spans[0].last_end) == DAY

    def test_a_day_that_still_runs_is_expected_up_to_now(self):
        assert planning.day_spans(DAY, 900, None, datetime(2026, 11, 20, 1, 7)) == [
            Span(datetime(2026, 11, 20, 0, 15), datetime(2026, 11, 20, 1, 0))
        ]

    def test_whole_days_in_a_row_are_one_span_and_a_hole_divides_them(self):
        until = datetime(2026, 11, 29)
        days = [date(2026, 11, n) for n in (20, 21, 23)]
        spans = [span for day in days for span in planning.day_spans(day, 300, None, until)]
        assert planning.joined(spans, 300) == (
            Span(datetime(2026, 11, 20, 0, 5), datetime(2026, 11, 22)),
            Span(datetime(2026, 11, 23, 0, 5), datetime(2026, 11, 24)),
        )

    @given(st.lists(st.booleans(), min_size=96, max_size=96))
    def test_spans_name_exactly_the_missing_slots(self, present):
        spans = planning.day_spans(DAY, 900, present, datetime(2026, 11, 22))
        named = set()
        for span in spans:
            end = span.first_end
            while end <= span.last_end:
                named.add(end)
                end += timedelta(minutes=15)
        midnight = datetime.combine(DAY, time.min)
        missing = {midnight + (i + 1) * timedelta(minutes=15) for i, here in enumerate(present) if not here}
        assert named == missing


@pytest.mark.req("TR-5.5a")
class TestChooseMemory:
    def test_yesterday_is_cheapest_by_a_limited_whole_reading(self):
        assert planning.choose_memory([whole_day(DAY)], facts(), ALL) == (
            MemoryStep(MemoryRead.NEWEST_DAYS, 2),
        )

    def test_soon_after_a_reset_the_current_period_is_cheaper(self):
        young = facts(last_reset=datetime(2026, 11, 20), words_current=3 * (288 + 36))
        assert planning.choose_memory([whole_day(DAY)], young, ALL) == (MemoryStep(MemoryRead.CURRENT),)

    @pytest.mark.req("TR-5.6b")
    def test_without_51_and_52_the_current_period_is_read(self):
        steps = planning.choose_memory([whole_day(DAY)], facts(), ALL - {0x51, 0x52})
        assert steps == (MemoryStep(MemoryRead.CURRENT),)

    def test_before_the_last_reset_the_previous_period_is_read(self):
        missing = [whole_day(date(2026, 10, 12))]
        steps = planning.choose_memory(missing, facts(), ALL - {0x51, 0x52})
        assert steps == (MemoryStep(MemoryRead.PREVIOUS),)
        assert planning.choose_memory(missing, facts(), ALL) == (MemoryStep(MemoryRead.PREVIOUS),)

    def test_on_both_sides_of_a_reset_both_periods_are_read(self):
        missing = [whole_day(date(2026, 10, 30)), whole_day(DAY)]
        steps = planning.choose_memory(missing, facts(), ALL - {0x51, 0x52})
        assert [step.read for step in steps] == [MemoryRead.PREVIOUS, MemoryRead.CURRENT]

    def test_history_before_both_periods_needs_the_whole_memory(self):
        missing = [whole_day(date(2026, 6, 1))]
        assert planning.choose_memory(missing, facts(), ALL) == (MemoryStep(MemoryRead.WHOLE),)
        assert planning.choose_memory(missing, facts(), ALL - {0x52}) == ()

    def test_nothing_is_read_for_intervals_that_have_not_ended(self):
        assert planning.choose_memory([whole_day(date(2026, 11, 23))], facts(), ALL) == ()

    @given(
        day=st.integers(0, 80),
        resets=st.tuples(st.integers(0, 60), st.integers(1, 60)),
        missing_commands=st.sets(st.sampled_from(sorted(ALL))),
    )
    def test_a_choice_uses_only_commands_the_meter_has_and_reaches_something(
        self, day, resets, missing_commands
    ):
        now = datetime(2026, 11, 21, 3, 0)
        last = now - timedelta(days=resets[0])
        state = facts(
            last_reset=last,
            words_current=3 * 288 * resets[0],
            words_previous=3 * 288 * resets[1],
        )
        steps = planning.choose_memory([whole_day(DAY - timedelta(days=day))], state, ALL - missing_commands)
        needs = {
            MemoryRead.CURRENT: {0x26},
            MemoryRead.PREVIOUS: {0x22, 0x27},
            MemoryRead.NEWEST_DAYS: {0x51, 0x52},
            MemoryRead.WHOLE: {0x51, 0x52},
        }
        for step in steps:
            assert not needs[step.read] & missing_commands
        if not missing_commands:
            assert steps


@pytest.mark.req("TR-5.5a")
class TestPlanReads:
    NOW = datetime(2026, 11, 21, 5, 0)

    def test_only_what_is_missing_is_asked_for(self):
        complete = {(1, DAY): MeterDay(present_slots=288, is_exhausted=False)}
        short = {(2, DAY): MeterDay(present_slots=280, is_exhausted=False)}
        planned = planning.plan_reads([meter(1), meter(2), meter(3)], complete | short, [DAY], self.NOW)
        assert [read.meter_id for read in planned] == [2, 3]
        assert {read.priority for read in planned} == {Priority.RECOVERY}

    def test_what_the_memory_did_not_hold_is_not_asked_for_again(self):
        known = {(1, DAY): MeterDay(present_slots=100, is_exhausted=True)}
        assert planning.plan_reads([meter()], known, [DAY], self.NOW) == []

    def test_days_outside_the_installation_and_days_to_come_are_not_expected(self):
        moved = meter(valid_from=datetime(2026, 11, 19), valid_to=datetime(2026, 11, 20))
        days = [date(2026, 11, day) for day in range(17, 24)]
        assert planning.plan_reads([moved], {}, days, self.NOW)[0].days == (date(2026, 11, 19),)
        assert planning.plan_reads([meter()], {}, [date(2026, 11, 22)], self.NOW) == []

    def test_a_meter_without_a_unit_is_not_asked(self):
        assert planning.plan_reads([meter(is_reachable=False)], {}, [DAY], self.NOW) == []


@pytest.mark.req("TR-5.5c")
class TestSchedules:
    def test_due_times_are_stable_and_spread_over_the_window(self):
        windows = Windows()
        at = datetime(2026, 11, 21, 12, 0)
        due = [planning.due_at(ScheduleKind.DAILY, f"P{i}", at, windows) for i in range(2000)]
        assert due == [planning.due_at(ScheduleKind.DAILY, f"P{i}", at, windows) for i in range(2000)]
        assert min(due) >= datetime(2026, 11, 21, 0, 10)
        assert max(due) < datetime(2026, 11, 21, 4, 10)
        by_quarter = [0] * 16
        for time_due in due:
            by_quarter[int((time_due - datetime(2026, 11, 21, 0, 10)).total_seconds() // 900)] += 1
        assert max(by_quarter) < 2 * 2000 / 16

    @pytest.mark.parametrize(
        ("kind", "a_day"),
        [(ScheduleKind.DAILY, 1), (ScheduleKind.HOURLY, 24), (ScheduleKind.QUARTER_HOURLY, 96)],
    )
    def test_each_kind_is_due_as_often_as_its_period_says(self, kind, a_day):
        ticks = [datetime(2026, 11, 21) + timedelta(seconds=17 * i) for i in range(86400 // 17 + 2)]
        count = sum(
            len(planning.due_reads([meter(schedule=kind)], before, after, Windows()))
            for before, after in pairwise(ticks)
        )
        assert count == a_day

    def test_a_daily_read_wants_yesterday_and_an_hourly_one_today(self):
        day = datetime(2026, 11, 21)
        daily = planning.due_reads([meter()], day, day + timedelta(hours=23), Windows())
        assert daily[0].days == (date(2026, 11, 20),)
        assert daily[0].priority is Priority.ROUTINE
        first = planning.due_reads(
            [meter(schedule=ScheduleKind.HOURLY)], day, day + timedelta(minutes=59), Windows()
        )
        assert first[0].days == (date(2026, 11, 20), date(2026, 11, 21))

    def test_people_come_before_the_closing_and_the_closing_before_routine(self):
        assert Priority.ON_DEMAND < Priority.RECOVERY < Priority.ROUTINE
