"""Days, slots, business days and milestones.

Two kinds of knowledge, both data: holidays are dated lines with a source (`vee/data/calendars.csv`, and
whatever file a user imports over it, CCEE's yearly list among them), milestones are rows (anchor, number,
unit, calendar) in `vee/data/milestones.csv`. A period is a civil month today; a weekly rhythm (under
consultation, market_opening.md) needs another milestone file and a `Period` of seven days, no other code.

Interval stamp is the END: slot i of a day covers (start + i * interval, start + (i + 1) * interval], so the
last slot of a day ends at 00:00 of the next (vee_rules.md section 2, ccee_api.md section 3).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Protocol

from faults import OperatorFault
from faults.market_time import MARKET_ZONE, parse_zone

MINUTE_S = 60
HOUR_S = 3600
ONE_DAY = timedelta(days=1)

# What each calendar is made of. `ccee` builds on the national days, so that a file with a single date moved
# by notice does not make all others working days.
INCLUDES: Mapping[str, tuple[str, ...]] = {
    "nacional": ("nacional",),
    "bancario": ("nacional", "bancario"),
    "bancario_sp": ("nacional", "bancario", "bancario_sp"),
    "ccee": ("nacional", "ccee"),
}
DEADLINE_CALENDAR = "ccee"
"""The right calendar for deadlines."""
FALLBACK_CALENDAR = "nacional"
"""Serves while a year of it is not loaded: with the fewest holidays, it gives the earliest date of all
candidates for what is counted forward."""
EARLIEST = "earliest"
"""In place of a calendar's name: the earliest date of all known calendars. Working to it is harmless whatever
CCEE's list says (vee_rules.md section 7, [C])."""

# The longest milestone counts 21 business days: with holidays in between, less than this.
_COUNT_REACH = timedelta(days=40)


# --- days and slots -------------------------------------------------------------------------------------


@cache
def day_start(day: date, zone: str = MARKET_ZONE) -> datetime:
    """First instant of a civil day, in UTC. Where summer time skips midnight, the first instant after it."""
    local = datetime(day.year, day.month, day.day, tzinfo=parse_zone(zone))
    return local.astimezone(UTC)


def slots_per_day(day: date, zone: str = MARKET_ZONE, interval_s: int = 300) -> int:
    """Number of intervals of a civil day: 288 at a fixed offset, 276 or 300 where summer time turned."""
    length_s = int((day_start(day + ONE_DAY, zone) - day_start(day, zone)).total_seconds())
    if interval_s <= 0 or length_s % interval_s:
        raise OperatorFault(
            f"an interval of {interval_s} s does not divide the {length_s} s of {day}", where="interval_s"
        )
    return length_s // interval_s


def slot_end(day: date, slot: int, zone: str = MARKET_ZONE, interval_s: int = 300) -> datetime:
    """End of slot `slot` (0-based) of a day, the stamp of the interval, in the given zone."""
    instant = day_start(day, zone) + timedelta(seconds=(slot + 1) * interval_s)
    return instant.astimezone(parse_zone(zone))


@dataclass(frozen=True)
class SlotPlace:
    """Where an interval stands: civil day, 0-based slot, CCEE's `hora` (from 1), position in it (from 1)."""

    day: date
    slot: int
    hour: int
    position: int


def place_of_slot(day: date, slot: int, interval_s: int = 300) -> SlotPlace:
    """Hour and position of a slot, counted along the day (equal to the clock's hour at a fixed offset)."""
    per_hour = HOUR_S // interval_s
    return SlotPlace(day, slot, slot // per_hour + 1, slot % per_hour + 1)


# --- holidays and business days -------------------------------------------------------------------------


@dataclass(frozen=True)
class Holiday:
    """One line of a calendar file."""

    calendar: str
    day: date
    name: str
    source: str


class Calendars:
    """Holidays by calendar, the business days that follow from them, and a period's milestones. Immutable.

    Args:
        milestones: rows of the table; without them the packaged ones.
    """

    def __init__(self, holidays: Iterable[Holiday], milestones: Iterable[Milestone] | None = None) -> None:
        self.holidays: tuple[Holiday, ...] = tuple(holidays)
        self.milestones: tuple[Milestone, ...] = tuple(
            load_milestones() if milestones is None else milestones
        )
        days: dict[str, dict[date, Holiday]] = {name: {} for name in INCLUDES}
        for holiday in self.holidays:
            for name, parts in INCLUDES.items():
                if holiday.calendar in parts:
                    days[name][holiday.day] = holiday
        self._days = days
        # A year counts as loaded once the calendar's own file has a line in it.
        self._years = {
            name: {holiday.day.year for holiday in self.holidays if holiday.calendar == name}
            for name in INCLUDES
        }

    def has_year(self, calendar: str, year: int) -> bool:
        """Is the calendar's list of that year loaded?"""
        self._require(calendar)
        return year in self._years[calendar]

    def holiday(self, day: date, calendar: str) -> Holiday | None:
        """The holiday on that day, or None.

        Raises:
            OperatorFault: unknown calendar, or its year is not loaded (absence would then mean nothing).
        """
        if not self.has_year(calendar, day.year):
            raise OperatorFault(
                f"calendar {calendar!r} has no lines for {day.year}",
                where="calendars",
                remedy=f"import the list of {day.year} (CSV: calendar,date,name,source)",
            )
        return self._days[calendar].get(day)

    def is_business_day(self, day: date, calendar: str) -> bool:
        """Monday to Friday and not a holiday."""
        return day.weekday() < 5 and self.holiday(day, calendar) is None

    def business_day(self, anchor: date, number: int, calendar: str) -> date:
        """The n-th business day counted from `anchor`.

        Args:
            anchor: first day of a month or of another period.
            number: from 1: day 1 is the first business day on or after the anchor. Negative: counted back,
                -1 is the last business day before the anchor.
            calendar: or `earliest`: the first of what the calendars give that know the years it takes.
        """
        if calendar == EARLIEST:
            return min(self.business_day(anchor, number, name) for name in self._known_around(anchor))
        if number == 0:
            raise OperatorFault(
                "there is no business day 0", where="number", remedy="count from 1 or from -1"
            )
        step = ONE_DAY if number > 0 else -ONE_DAY
        day = anchor if number > 0 else anchor - ONE_DAY
        left = abs(number)
        while True:
            if self.is_business_day(day, calendar):
                left -= 1
                if left == 0:
                    return day
            day += step

    def deadline_calendar(self, years: Iterable[int]) -> str:
        """`ccee` where all these years are loaded, else `nacional`: for business days counted forward."""
        loaded = all(self.has_year(DEADLINE_CALENDAR, year) for year in years)
        return DEADLINE_CALENDAR if loaded else FALLBACK_CALENDAR

    def merged(self, more: Iterable[Holiday]) -> Calendars:
        """With further lines; a line for the same calendar and day replaces the older one."""
        lines = {(holiday.calendar, holiday.day): holiday for holiday in (*self.holidays, *more)}
        return Calendars(lines.values(), self.milestones)

    def milestone(self, code: str) -> Milestone:
        """The row with that code."""
        return milestone(code, self.milestones)

    def date_of(self, code: str, period: Period) -> date:
        """The civil date of a milestone of a period."""
        return milestone_date(self.milestone(code), period, self)

    def _known_around(self, anchor: date) -> list[str]:
        """Calendars with a list for each year that a count of a few weeks from that day can touch."""
        years = {(anchor - _COUNT_REACH).year, anchor.year, (anchor + _COUNT_REACH).year}
        names = [name for name in INCLUDES if all(self.has_year(name, year) for year in years)]
        # None at all: the national one says which year is missing.
        return names or ["nacional"]

    def _require(self, calendar: str) -> None:
        if calendar not in INCLUDES:
            raise OperatorFault(
                f"unknown calendar {calendar!r}", where="calendar", remedy=f"use one of {', '.join(INCLUDES)}"
            )


def parse_calendar_csv(text: str, where: str) -> list[Holiday]:
    """Read lines `calendar,date,name,source`.

    Raises:
        OperatorFault: naming file, line and column of the first fault.
    """
    reader = csv.DictReader(text.splitlines())
    wanted = ["calendar", "date", "name", "source"]
    if reader.fieldnames is None or [name.strip() for name in reader.fieldnames] != wanted:
        raise OperatorFault(f"columns are {reader.fieldnames}", where=where, remedy=f"use {','.join(wanted)}")
    holidays = []
    for line in reader:
        place = f"{where} line {reader.line_num}"
        if line["calendar"] not in INCLUDES:
            raise OperatorFault(
                f"unknown calendar {line['calendar']!r}",
                where=f"{place} column calendar",
                remedy=f"use one of {', '.join(INCLUDES)}",
            )
        try:
            day = date.fromisoformat(line["date"])
        except (ValueError, TypeError) as error:
            raise OperatorFault(
                f"{line['date']!r} is not a date", where=f"{place} column date", remedy="write YYYY-MM-DD"
            ) from error
        if not line["source"]:
            raise OperatorFault(
                "no source",
                where=f"{place} column source",
                remedy="name the law, notice or list that the date comes from",
            )
        holidays.append(Holiday(line["calendar"], day, line["name"] or "", line["source"]))
    return holidays


class CalendarFiles(Protocol):
    """Where a distributor keeps CCEE's list and milestones of its own (settings `[market]`)."""

    @property
    def calendar_path(self) -> Path | None: ...

    @property
    def milestones_path(self) -> Path | None: ...


def load_calendars(extra: Traversable | None = None, milestones: Traversable | None = None) -> Calendars:
    """The packaged calendars, over them the lines of a file of one's own, and the milestones.

    Args:
        milestones: another table of milestones; without it the packaged one.
    Raises:
        OperatorFault: a file cannot be read, or a line of it is wrong.
    """
    packaged = resources.files("vee") / "data" / "calendars.csv"
    rows = None if milestones is None else load_milestones(milestones)
    calendars = Calendars(parse_calendar_csv(packaged.read_text("utf-8"), "calendars.csv"), rows)
    if extra is None:
        return calendars
    return calendars.merged(parse_calendar_csv(_text_of(extra, "calendar"), str(extra)))


def market_calendars(files: CalendarFiles) -> Calendars:
    """The calendars that every job and command works by: the packaged ones and the files of the settings."""
    return load_calendars(files.calendar_path, files.milestones_path)


def _text_of(file: Traversable, what: str) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorFault(
            f"cannot read the {what} file: {error}",
            where=str(file),
            remedy="give a UTF-8 CSV file ([market] calendar_path, milestones_path)",
        ) from error


# --- periods and milestones -----------------------------------------------------------------------------

# Codes of the milestones that code asks for; their numbers stand in the table alone.
GAPS_KNOWN = "gaps_known"
MUSD_DECIDED = "musd_decided"
MUSD_CHANGE = "musd_change"
CONSOLIDATION = "consolidation"
LAST_RESEND = "last_resend"
MEASUREMENT = "measurement"
CLOSED = "closed"


@dataclass(frozen=True)
class Period:
    """A measurement period: `start` is its first day, `following` the first day of the next one (MS)."""

    start: date
    following: date

    @classmethod
    def month(cls, any_day: date) -> Period:
        """The civil month of a day."""
        start = any_day.replace(day=1)
        return cls(start, (start + timedelta(days=31)).replace(day=1))


def parse_month(text: str) -> date:
    """First day of a month written `YYYY-MM`."""
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError as error:
        raise OperatorFault(f"{text!r} is not a month", where="month", remedy="write YYYY-MM") from error


@dataclass(frozen=True)
class Milestone:
    """One row of the milestone table.

    Attributes:
        anchor: "M" the period itself, "MS" the one that follows.
        number, unit: "du" counts business days (negative: back from the anchor), "day" civil days after it.
        calendar: a calendar's name, or "deadline" for the one in force for deadlines.
        side: "ccee" a date of the market operator, "ours" our own working date.
    """

    code: str
    anchor: str
    number: int
    unit: str
    calendar: str
    side: str
    due_en: str
    due_pt: str

    @property
    def label(self) -> str:
        """The trade's way to write it: MS+7du, M-12du."""
        unit = "du" if self.unit == "du" else "d"
        return f"{self.anchor}{self.number:+d}{unit}"


def load_milestones(path: Traversable | None = None) -> list[Milestone]:
    """The packaged milestone rows, or those of another file (another rhythm)."""
    source = path or resources.files("vee") / "data" / "milestones.csv"
    rows = []
    for line in csv.DictReader(_text_of(source, "milestone").splitlines()):
        try:
            row = Milestone(
                code=line["code"],
                anchor=line["anchor"],
                number=int(line["number"]),
                unit=line["unit"],
                calendar=line["calendar"],
                side=line["side"],
                due_en=line["due_en"],
                due_pt=line["due_pt"],
            )
        except (TypeError, ValueError, KeyError) as error:
            raise OperatorFault(
                f"bad milestone row {dict(line)}",
                where=str(source),
                remedy="columns: code,anchor,number,unit,calendar,side,due_en,due_pt",
            ) from error
        if row.anchor not in ("M", "MS") or row.unit not in ("du", "day"):
            raise OperatorFault(
                f"milestone {row.code!r}: anchor {row.anchor!r}, unit {row.unit!r}",
                where=str(source),
                remedy="anchor is M or MS, unit is du or day",
            )
        rows.append(row)
    return rows


def milestone_date(
    milestone: Milestone, period: Period, calendars: Calendars, calendar: str | None = None
) -> date:
    """The civil date of a milestone of a period. `calendar` overrides "deadline" rows.

    By CCEE's list where its years are loaded, else the earliest date of all known calendars. What is counted
    back takes the earliest in any case: a list that lacks a holiday, or has a single date moved by notice,
    would make it late.
    """
    anchor = period.start if milestone.anchor == "M" else period.following
    if milestone.unit == "day":
        return anchor + timedelta(days=milestone.number)
    return calendars.business_day(
        anchor, milestone.number, calendar_of(milestone, period, calendars, calendar)
    )


def calendar_of(
    milestone: Milestone, period: Period, calendars: Calendars, calendar: str | None = None
) -> str:
    """The calendar that counts the business days of a milestone of a period, or `earliest`; else as
    `milestone_date`.
    """
    if milestone.calendar != "deadline":
        return milestone.calendar
    if calendar is not None:
        return calendar
    listed = calendars.deadline_calendar({period.start.year, period.following.year})
    return listed if listed == DEADLINE_CALENDAR and milestone.number > 0 else EARLIEST


def milestone(code: str, milestones: Iterable[Milestone] | None = None) -> Milestone:
    """The row with that code, of these or of the packaged ones."""
    for row in load_milestones() if milestones is None else milestones:
        if row.code == code:
            return row
    raise OperatorFault(
        f"no milestone {code!r}", where="milestones", remedy="add the row to the milestone file"
    )


def deadline(month: date, calendars: Calendars, calendar: str | None = None) -> date:
    """Last day for the measurement of a month: MS+7du."""
    return milestone_date(calendars.milestone(MEASUREMENT), Period.month(month), calendars, calendar)


def last_closed_month(
    as_of: date, calendars: Calendars, calendar: str | None = None, *, closing_day_counts: bool = False
) -> date:
    """First day of the latest month usable as history: `as_of > MS+9du` of it (vee_rules.md section 4.5).

    Args:
        closing_day_counts: take `>=` instead. The text says only "after"; strict is the default [C].
    """
    row = calendars.milestone(CLOSED)
    month = as_of.replace(day=1)
    while True:
        month = (month - ONE_DAY).replace(day=1)
        closes = milestone_date(row, Period.month(month), calendars, calendar)
        if as_of > closes or (closing_day_counts and as_of == closes):
            return month
