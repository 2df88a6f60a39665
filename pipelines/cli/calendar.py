"""`smf calendar`: the milestones of a measurement month, and its deadline."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from faults import OperatorFault
from pipelines.cli.output import console, emit_json, faults_to_exit
from storage.settings import Settings
from vee.calendars import (
    EARLIEST,
    FALLBACK_CALENDAR,
    INCLUDES,
    MEASUREMENT,
    Calendars,
    Milestone,
    Period,
    calendar_of,
    load_calendars,
    milestone_date,
    parse_month,
)

app = typer.Typer(help="Milestones and deadlines of a measurement month.", no_args_is_help=True)

MonthArgument = Annotated[str, typer.Argument(help="Measurement month M, YYYY-MM.", metavar="MONTH")]
CalendarOption = Annotated[
    str | None,
    typer.Option(
        "--calendar",
        help=f"{', '.join(INCLUDES)}; without it ccee where loaded, else the earliest date of all.",
    ),
]
FileOption = Annotated[
    Path | None,
    typer.Option(
        "--calendar-file",
        help="More dates (CSV: calendar,date,name,source) in place of the setting [market] calendar_path.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")]


def _calendars(path: Path | None) -> Calendars:
    if path is not None and not path.is_file():
        raise OperatorFault("no such file", where=str(path), remedy="give the path of a CSV file")
    market = Settings.load().market
    return load_calendars(path or market.calendar_path, market.milestones_path)


def _in_use(calendars: Calendars, wanted: str | None, period: Period) -> str:
    if wanted is None:
        return calendars.deadline_calendar({period.start.year, period.following.year})
    if wanted not in INCLUDES:
        raise OperatorFault(
            f"unknown calendar {wanted!r}", where="--calendar", remedy=f"use one of {', '.join(INCLUDES)}"
        )
    return wanted


@app.command()
def month(
    month: MonthArgument,
    calendar: CalendarOption = None,
    calendar_file: FileOption = None,
    as_json: JsonOption = False,
) -> None:
    """All milestones of a month: CCEE's and our own working dates."""
    with faults_to_exit(as_json):
        period, calendars = Period.month(parse_month(month)), _calendars(calendar_file)
        name = _in_use(calendars, calendar, period)
        rows = sorted(
            ((milestone_date(row, period, calendars, calendar), row) for row in calendars.milestones),
            key=lambda pair: pair[0],
        )
        if as_json:
            milestones = [
                {
                    "code": row.code,
                    "label": row.label,
                    "date": day,
                    "side": row.side,
                    "due": row.due_en,
                    "calendar": _name_of(row, period, calendars, calendar),
                }
                for day, row in rows
            ]
            emit_json({"month": month, "calendar": name, "milestones": milestones})
            return
        table = Table(title=f"Measurement month {month}", title_justify="left", box=None)
        for heading in ("When", "Date", "", "Business days", "Of", "What is due"):
            table.add_column(heading)
        for day, row in rows:
            by = _name_of(row, period, calendars, calendar)
            table.add_row(row.label, day.isoformat(), f"{day:%a}", by, row.side, row.due_en)
        console.print(table)
        _say_fallback(name, calendar)


@app.command("deadline")
def deadline_command(
    month: MonthArgument,
    calendar: CalendarOption = None,
    calendar_file: FileOption = None,
    as_json: JsonOption = False,
) -> None:
    """The last day for the measurement of a month."""
    with faults_to_exit(as_json):
        period, calendars = Period.month(parse_month(month)), _calendars(calendar_file)
        name, row = _in_use(calendars, calendar, period), calendars.milestone(MEASUREMENT)
        day: date = milestone_date(row, period, calendars, name)
        if as_json:
            emit_json({"month": month, "calendar": name, "label": row.label, "deadline": day})
            return
        console.print(
            f"{day.isoformat()} ({day:%A}), {row.label} of {month}, business days of {name!r}",
            highlight=False,
        )
        _say_fallback(name, calendar)


def _name_of(row: Milestone, period: Period, calendars: Calendars, asked: str | None) -> str:
    if row.unit != "du":
        return ""
    name = calendar_of(row, period, calendars, asked)
    return "earliest of all" if name == EARLIEST else name


def _say_fallback(name: str, asked: str | None) -> None:
    if asked is None and name == FALLBACK_CALENDAR:
        console.print(
            "CCEE's own calendar of the year is not loaded ([market] calendar_path): each date is the "
            "earliest of the known calendars.",
            style="dim",
        )
