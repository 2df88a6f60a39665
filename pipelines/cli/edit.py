"""`smf edit`: values of a UC-day set, scaled, copied, set aside or estimated anew by a person."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from fractions import Fraction
from typing import Annotated

import typer

from editing import proposals
from editing.proposals import Span
from faults import OperatorFault
from faults.market_time import MARKET_ZONE
from pipelines.cli.decide import Json, OnlyShow, Why, make
from pipelines.cli.output import AsOption, faults_to_exit
from pipelines.cli.period import parse_day
from storage.database import Database

app = typer.Typer(no_args_is_help=True, help="Edit values of a UC-day, with a preview and a reason.")

Uc = Annotated[str, typer.Argument(help="Consumer unit code.", metavar="UC")]
Day = Annotated[str, typer.Argument(help="Civil day, YYYY-MM-DD.", metavar="DAY")]
Begin = Annotated[str, typer.Option("--from", help="Where the first interval begins, HH:MM; default 00:00.")]
End = Annotated[str, typer.Option("--to", help="Where the last interval ends, HH:MM; default 24:00.")]


@contextmanager
def _where(uc: str, day: str, begin: str, end: str, as_json: bool) -> Iterator[tuple[Database, Span]]:
    with faults_to_exit(as_json), Database.open() as db:
        with db.connect() as conn:
            where = proposals.span(conn, uc, parse_day(day, "DAY"), begin, end, MARKET_ZONE)
        yield db, where


def _exact(text: str, option: str) -> Fraction | None:
    if not text:
        return None
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise OperatorFault(
            f"{text!r} is no number", where=option, remedy="write 12.5 or a fraction, 1/3"
        ) from error


@app.command("set")
def set_values(
    uc: Uc,
    day: Day,
    begin: Begin = "",
    end: End = "",
    each: Annotated[str, typer.Option(help="Energy of each interval, kWh.")] = "",
    total: Annotated[str, typer.Option(help="Energy of all of them, shared out evenly, kWh.")] = "",
    why: Why = "",
    person: AsOption = None,
    only_show: OnlyShow = False,
    as_json: Json = False,
) -> None:
    """Set the energy of intervals."""
    with _where(uc, day, begin, end, as_json) as (db, where):
        proposal = proposals.set_values(
            where, each_kwh=_exact(each, "--each"), total_kwh=_exact(total, "--total")
        )
        make(db, proposal, why, person, only_show=only_show, as_json=as_json)


@app.command()
def scale(
    uc: Uc,
    day: Day,
    factor: Annotated[str, typer.Option(help="Factor on the present values: 0.5, 1/2.")],
    begin: Begin = "",
    end: End = "",
    why: Why = "",
    person: AsOption = None,
    only_show: OnlyShow = False,
    as_json: Json = False,
) -> None:
    """Multiply the energy of intervals."""
    with _where(uc, day, begin, end, as_json) as (db, where):
        number = _exact(factor, "--factor") or Fraction(0)
        proposal = proposals.scale(db, where, number, datetime.now(UTC))
        make(db, proposal, why, person, only_show=only_show, as_json=as_json)


@app.command("copy")
def copy_day(
    uc: Uc,
    day: Day,
    source: Annotated[str, typer.Option("--from-day", help="The day whose values are taken, YYYY-MM-DD.")],
    begin: Begin = "",
    end: End = "",
    why: Why = "",
    person: AsOption = None,
    only_show: OnlyShow = False,
    as_json: Json = False,
) -> None:
    """Take the values of the same intervals of another day."""
    with _where(uc, day, begin, end, as_json) as (db, where):
        proposal = proposals.copy(db, where, parse_day(source, "--from-day"), datetime.now(UTC))
        make(db, proposal, why, person, only_show=only_show, as_json=as_json)


@app.command()
def reject(
    uc: Uc,
    day: Day,
    begin: Begin = "",
    end: End = "",
    why: Why = "",
    person: AsOption = None,
    only_show: OnlyShow = False,
    as_json: Json = False,
) -> None:
    """Set intervals aside: missing, and estimated like any gap."""
    with _where(uc, day, begin, end, as_json) as (db, where):
        make(db, proposals.reject_slots(where), why, person, only_show=only_show, as_json=as_json)


@app.command()
def estimate(
    uc: Uc,
    day: Day,
    strategy: Annotated[str, typer.Option(help="Name of the strategy (docs/regras.md).")],
    begin: Begin = "",
    end: End = "",
    aside: Annotated[bool, typer.Option("--aside", help="Set what the intervals hold aside first.")] = False,
    why: Why = "",
    person: AsOption = None,
    only_show: OnlyShow = False,
    as_json: Json = False,
) -> None:
    """Estimate a day anew, by a named strategy."""
    with _where(uc, day, begin, end, as_json) as (db, where):
        proposal = proposals.estimate(where, strategy, aside=aside)
        make(db, proposal, why, person, only_show=only_show, as_json=as_json)
