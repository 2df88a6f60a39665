"""Days and moments as every command takes them: `--day`, `--from` and `--to`, `--month`, `--as-of`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Annotated

import typer

from faults import OperatorFault
from storage.settings import Settings
from vee.calendars import Period, parse_month

DaysOption = Annotated[
    list[str], typer.Option("--day", help="Civil day, YYYY-MM-DD; may be repeated.", metavar="DAY")
]
FromOption = Annotated[str, typer.Option("--from", help="First of several days, YYYY-MM-DD.", metavar="DAY")]
ToOption = Annotated[str, typer.Option("--to", help="Last of several days, YYYY-MM-DD.", metavar="DAY")]
MonthOption = Annotated[str, typer.Option("--month", help="All days of a month, YYYY-MM.", metavar="MONTH")]
AsOfOption = Annotated[
    str,
    typer.Option(
        "--as-of",
        help="Decide deadlines and what is over as at this moment (market time where it has no offset); "
        "default now. Nothing decided so leaves for anything but the stand-in.",
        metavar="MOMENT",
    ),
]


def parse_day(text: str, option: str = "--day") -> date:
    """Raises: OperatorFault: it is not a day."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise OperatorFault(f"{text!r} is not a day", where=option, remedy="write YYYY-MM-DD") from error


def parse_moment(text: str, settings: Settings, option: str = "--as-of") -> datetime | None:
    """An aware moment; None where nothing is given.

    Raises: OperatorFault: it is not a moment.
    """
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise OperatorFault(
            f"{text!r} is not a moment",
            where=option,
            remedy="write YYYY-MM-DDTHH:MM, with an offset where it is not market time",
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=settings.market.tzinfo)


def chosen_days(days: Sequence[str], first: str, last: str, month: str) -> list[date]:
    """The days that the options name, in order, each once; none where no option is given.

    Raises: OperatorFault: no day, half a span, a span turned round, or two ways to name days at once.
    """
    if sum((bool(days), bool(first or last), bool(month))) > 1:
        raise OperatorFault(
            "the days are named in several ways",
            where="--day, --from and --to, --month",
            remedy="give one of them",
        )
    if month:
        period = Period.month(parse_month(month))
        return _span(period.start, period.following - timedelta(days=1))
    if first or last:
        if not (first and last):
            missing = "--to" if first else "--from"
            raise OperatorFault("a span has two ends", where=missing, remedy=f"give {missing} as well")
        begin, end = parse_day(first, "--from"), parse_day(last, "--to")
        if end < begin:
            raise OperatorFault(
                f"{last} is before {first}", where="--to", remedy="give the earlier day first"
            )
        return _span(begin, end)
    return sorted({parse_day(text) for text in days})


def _span(first: date, last: date) -> list[date]:
    return [first + timedelta(n) for n in range((last - first).days + 1)]
