"""Days, slots, business days and every date of vee_rules.md sections 7 and 8."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import holidays
import pytest

from faults import OperatorFault
from vee.calendars import (
    Calendars,
    Milestone,
    Period,
    deadline,
    last_closed_month,
    load_calendars,
    load_milestones,
    milestone,
    milestone_date,
    parse_month,
    place_of_slot,
    slot_end,
    slots_per_day,
)

CALENDARS = load_calendars()
SAO_PAULO = "America/Sao_Paulo"

DEADLINES = """
2025-02 2025-03-11 2025-03-13 2025-03-13
2025-06 2025-07-09 2025-07-09 2025-07-10
2025-07 2025-08-11 2025-08-11 2025-08-11
2025-10 2025-11-11 2025-11-11 2025-11-11
2025-11 2025-12-09 2025-12-09 2025-12-09
2026-02 2026-03-10 2026-03-10 2026-03-10
2026-04 2026-05-12 2026-05-12 2026-05-12
2026-11 2026-12-09 2026-12-09 2026-12-09
2026-12 2027-01-12 2027-01-12 2027-01-12
2027-02 2027-03-09 2027-03-09 2027-03-09
"""
MILESTONES = """
MS+3du  2026-05-06 2026-12-03 2027-01-06
MS+7du  2026-05-12 2026-12-09 2027-01-12
MS+9du  2026-05-14 2026-12-11 2027-01-14
MS+11du 2026-05-18 2026-12-15 2027-01-18
MS+21du 2026-06-01 2026-12-30 2027-02-01
MS+12du 2026-05-19 2026-12-16 2027-01-19
"""


@pytest.mark.parametrize("line", DEADLINES.strip().splitlines())
def test_deadlines_of_the_reference(line: str) -> None:
    month, *dates = line.split()
    for name, expected in zip(("nacional", "bancario", "bancario_sp"), dates, strict=True):
        assert deadline(parse_month(month), CALENDARS, name) == date.fromisoformat(expected), name


@pytest.mark.parametrize("line", MILESTONES.strip().splitlines())
def test_milestones_of_the_reference(line: str) -> None:
    label, *dates = line.split()
    row = next(row for row in load_milestones() if row.label == label)
    for month, expected in zip(("2026-04", "2026-11", "2026-12"), dates, strict=True):
        period = Period.month(parse_month(month))
        assert milestone_date(row, period, CALENDARS, "nacional") == date.fromisoformat(expected)


def test_registration_closes_twelve_business_days_before_the_month() -> None:
    period = Period.month(date(2026, 12, 1))
    assert milestone_date(milestone("register_in"), period, CALENDARS, "nacional") == date(2026, 11, 12)


def test_carnival_counts_as_business_day_only_in_nacional() -> None:
    carnival = [date(2025, 3, 3), date(2025, 3, 4)]
    assert all(CALENDARS.is_business_day(day, "nacional") for day in carnival)
    assert not any(CALENDARS.is_business_day(day, "bancario") for day in carnival)


def test_consciencia_negra_is_national_from_2024() -> None:
    assert CALENDARS.holiday(date(2023, 11, 20), "nacional") is None
    assert CALENDARS.holiday(date(2024, 11, 20), "nacional") is not None


def test_listed_national_holidays_agree_with_an_independent_source() -> None:
    for year in range(2015, 2041):
        ours = {h.day for h in CALENDARS.holidays if h.calendar == "nacional" and h.day.year == year}
        theirs = set(holidays.country_holidays("BR", years=year, categories=("public",)))
        assert ours == theirs, year


def test_moving_days_follow_easter() -> None:
    by_day = {(holiday.calendar, holiday.day): holiday.name for holiday in CALENDARS.holidays}
    for easter in (date(2025, 4, 20), date(2026, 4, 5), date(2027, 3, 28)):
        assert ("nacional", easter - timedelta(days=2)) in by_day
        assert ("bancario", easter - timedelta(days=47)) in by_day
        assert ("bancario", easter + timedelta(days=60)) in by_day


def test_a_year_not_loaded_is_refused_not_taken_as_free_of_holidays() -> None:
    with pytest.raises(OperatorFault, match="no lines for 2045"):
        deadline(date(2045, 1, 1), CALENDARS)


def test_ccee_list_by_file_takes_over_once_its_year_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "ccee.csv"
    path.write_text(
        "calendar,date,name,source\nccee,2026-05-04,Recesso,aviso de teste\n",
        encoding="utf-8",
    )
    calendars = load_calendars(path)
    assert calendars.deadline_calendar({2026}) == "ccee"
    assert calendars.deadline_calendar({2026, 2027}) == "nacional"
    # 4 May no longer counts: a day later than with `nacional`.
    assert deadline(date(2026, 4, 1), calendars) == date(2026, 5, 13)
    assert deadline(date(2026, 4, 1), CALENDARS) == date(2026, 5, 12)


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("lunar,2026-01-01,x,y", "column calendar"),
        ("ccee,01/01/2026,x,y", "column date"),
        ("ccee,2026-01-01,x,", "column source"),
    ],
)
def test_a_bad_calendar_line_is_named(tmp_path: Path, line: str, place: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(f"calendar,date,name,source\n{line}\n", encoding="utf-8")
    with pytest.raises(OperatorFault) as caught:
        load_calendars(path)
    assert "line 2" in caught.value.where
    assert place in caught.value.where


def test_another_rhythm_is_data() -> None:
    weekly = Milestone("measurement", "MS", 2, "du", "deadline", "ccee", "", "")
    week = Period(date(2026, 11, 16), date(2026, 11, 23))
    assert milestone_date(weekly, week, CALENDARS) == date(2026, 11, 24)


def test_history_closes_the_day_after_ms_9du() -> None:
    assert last_closed_month(date(2026, 6, 8), CALENDARS) == date(2026, 4, 1)
    assert last_closed_month(date(2026, 5, 14), CALENDARS) == date(2026, 3, 1)
    assert last_closed_month(date(2026, 5, 15), CALENDARS) == date(2026, 4, 1)
    assert last_closed_month(date(2026, 5, 14), CALENDARS, closing_day_counts=True) == date(2026, 4, 1)


@pytest.mark.parametrize(
    ("end", "day", "hour", "position", "index"),
    [
        ("2025-10-10T00:05:00-03:00", "2025-10-10", 1, 1, 1),
        ("2025-10-10T01:00:00-03:00", "2025-10-10", 1, 12, 12),
        ("2025-10-10T17:35:00-03:00", "2025-10-10", 18, 7, 211),
        ("2025-10-11T00:00:00-03:00", "2025-10-10", 24, 12, 288),
        ("2025-10-11T02:20:00+00:00", "2025-10-10", 24, 4, 280),
    ],
)
def test_place_of_an_interval_end(end: str, day: str, hour: int, position: int, index: int) -> None:
    place = place_of_slot(date.fromisoformat(day), index - 1)
    assert (place.hour, place.position, place.slot + 1) == (hour, position, index)
    assert slot_end(place.day, place.slot) == datetime.fromisoformat(end)


def test_slots_of_a_day_are_computed() -> None:
    assert slots_per_day(date(2018, 11, 4)) == 288
    assert slots_per_day(date(2018, 11, 4), SAO_PAULO) == 276
    assert slots_per_day(date(2018, 2, 17), SAO_PAULO) == 300
    assert slots_per_day(date(2026, 11, 4), SAO_PAULO) == 288
    assert slots_per_day(date(2026, 11, 4), interval_s=900) == 96


def test_slot_ends_of_a_day_of_summer_time_follow_each_other() -> None:
    for day in (date(2018, 11, 4), date(2018, 2, 17)):
        ends = [slot_end(day, slot, SAO_PAULO) for slot in range(slots_per_day(day, SAO_PAULO))]
        instants = [end.timestamp() for end in ends]
        assert instants == [instants[0] + 300 * slot for slot in range(len(ends))]
        assert ends[-1].astimezone(ZoneInfo(SAO_PAULO)).date() == day + timedelta(days=1)


def test_business_day_counts_both_ways() -> None:
    calendars = Calendars(CALENDARS.holidays)
    assert calendars.business_day(date(2026, 12, 1), 1, "nacional") == date(2026, 12, 1)
    assert calendars.business_day(date(2026, 12, 1), -1, "nacional") == date(2026, 11, 30)
    with pytest.raises(OperatorFault):
        calendars.business_day(date(2026, 12, 1), 0, "nacional")
